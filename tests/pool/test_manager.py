"""Admission, launch, ends and cancellation of single sub-agents."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.pool.driving import now, settle

from allready.agents.base import Attempt
from allready.agents.function import FunctionAgent
from allready.agents.threads import in_thread
from allready.core.events import Canceled, Completed, Deferred, Failed, Lost, Outcome
from allready.errors import (
    BugError,
    ConcurrencyLimit,
    LostError,
    PermanentError,
    TaskError,
    TransientError,
)
from allready.pool.manager import AFTER_FORCE, SpawnRequest, SubAgent, SubAgentManager
from allready.testing import VirtualClockLoop, run_virtual


class Bench:
    """A pool, and the reports of its attempts."""

    def __init__(self, slots: int = 2, **options: Any) -> None:
        self.pool = SubAgentManager(slots, **options)
        self.reports: list[tuple[str, Outcome, float]] = []
        self.active_at_report: list[int] = []

    def request(
        self, task: str = "t", work: Callable[[SubAgent], Awaitable[Any]] | None = None, **fields: Any
    ) -> SpawnRequest:
        return SpawnRequest(fields.pop("run", "run"), task, work or forever, self._report, **fields)

    def _report(self, task: str, handle: str, outcome: Outcome) -> None:
        self.reports.append((task, outcome, now()))
        self.active_at_report.append(self.pool.active)

    def start(
        self, work: Callable[[SubAgent], Awaitable[Any]] | None = None, task: str = "t", **fields: Any
    ) -> str:
        handle = self.pool.spawn(self.request(task, work, **fields))
        self.pool.launch(handle)
        return handle


async def forever(_: SubAgent) -> None:
    await asyncio.get_running_loop().create_future()


async def stubborn(_: SubAgent) -> str:
    """Swallows every cancellation for a minute."""
    end = now() + 60
    while now() < end:
        try:
            await asyncio.sleep(end - now())
        except asyncio.CancelledError:
            continue
    return "late"


# --- admission --------------------------------------------------------------------------------------------


def test_a_pool_needs_a_place() -> None:
    with pytest.raises(ValueError, match="at least one place"):
        SubAgentManager(0)


def test_spawn_takes_the_place_and_has_no_effect_until_launch() -> None:
    async def main() -> None:
        began = []

        async def work(sub_agent: SubAgent) -> str:
            began.append(sub_agent.handle)
            return "done"

        bench = Bench(1)
        handle = bench.pool.spawn(bench.request("a", work))
        await settle()
        assert (bench.pool.active, bench.pool.free, began) == (1, 0, [])
        with pytest.raises(ConcurrencyLimit) as refused:
            bench.pool.spawn(bench.request("b", work))
        limit = refused.value
        assert (limit.scope, limit.active, limit.max, limit.reason) == ("pool", 1, 1, "the pool is full")
        bench.pool.launch(handle)
        await settle()
        assert began == [handle]
        assert bench.reports == [("a", Completed("done"), 0)]
        assert bench.active_at_report == [0], "the place is free before the report"

    run_virtual(main())


def test_resources_and_agents_have_limits_of_their_own() -> None:
    async def main() -> None:
        bench = Bench(9, resources={"browser": 2, "gpu": 1}, agent_limits={"writer": 1})
        spawn, request = bench.pool.spawn, bench.request
        first = spawn(request(resources=(("browser", 2),)))
        with pytest.raises(ConcurrencyLimit, match="resource browser is in use") as refused:
            spawn(request(resources=(("browser", 1), ("gpu", 1))))
        assert (refused.value.scope, refused.value.active, refused.value.max) == ("resource:browser", 2, 2)
        spawn(request(resources=(("gpu", 1),)))
        spawn(request(agent="writer"))
        with pytest.raises(ConcurrencyLimit, match="agent writer is busy") as refused:
            spawn(request(agent="writer"))
        assert (refused.value.scope, refused.value.active, refused.value.max) == ("agent:writer", 1, 1)
        spawn(request(agent="reader"))
        bench.pool.release(first)
        spawn(request(resources=(("browser", 1),)))
        spawn(request(resources=(("browser", 1),)))

    run_virtual(main())


def test_a_limit_that_is_set_while_sub_agents_run_counts_those() -> None:
    async def main() -> None:
        bench = Bench(9)
        first = bench.start(agent="writer")
        bench.pool.agent_limits["writer"] = 1  # as a run that comes later to the same pool does
        with pytest.raises(ConcurrencyLimit, match="agent writer is busy"):
            bench.pool.spawn(bench.request(agent="writer"))
        bench.pool.cancel(first)
        await settle()
        assert len(bench.reports) == 1
        bench.pool.spawn(bench.request(agent="writer"))
        with pytest.raises(ConcurrencyLimit, match="agent writer is busy"):
            bench.pool.spawn(bench.request(agent="writer"))

    run_virtual(main())


class Mute(Exception):
    """Can't even say what it is."""

    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize("kind", [Mute, type("MuteTask", (Mute, TaskError), {})])
def test_an_error_that_cannot_be_told_is_an_end_like_any_other(kind: type[Exception]) -> None:
    async def main() -> None:
        bench = Bench()

        async def fail(_: SubAgent) -> None:
            raise kind("x")

        bench.start(fail)
        await settle()
        ((_, outcome, _),) = bench.reports
        assert isinstance(outcome, Failed)
        assert "its text can't be given: ValueError" in outcome.error
        assert bench.pool.active == 0

    run_virtual(main())


@pytest.mark.parametrize("demand", [("browser", 3), ("unknown", 1)])
def test_more_than_there_is_can_never_be_admitted(demand: tuple[str, int]) -> None:
    bench = Bench(1, resources={"browser": 2})
    bench.pool.spawn(bench.request())  # even when the pool is full: it would be no use to wait
    with pytest.raises(PermanentError, match=rf"'t' asks for {demand[1]} of resource '{demand[0]}'"):
        bench.pool.spawn(bench.request(resources=(demand,)))


def test_reserved_places_are_kept_for_planning_and_only_once() -> None:
    bench = Bench(3)
    spawn, request, release = bench.pool.spawn, bench.request, bench.pool.release
    with bench.pool.reserve_slots(1):
        assert bench.pool.free == 2
        tasks = [spawn(request()), spawn(request())]
        with pytest.raises(ConcurrencyLimit, match="kept for planning"):
            spawn(request())
        planner = spawn(request(reserved=True))
        with pytest.raises(ConcurrencyLimit, match="is full"):
            spawn(request(reserved=True))
        release(tasks.pop())
        tasks.append(spawn(request()))  # the planner has the reserved place: the others are for tasks
        release(tasks.pop())
        release(planner)
        tasks.append(spawn(request()))
        with pytest.raises(ConcurrencyLimit, match="kept for planning"):
            spawn(request())
        with pytest.raises(ValueError, match="can't reserve 2 of 3 places"), bench.pool.reserve_slots(2):
            pass
    spawn(request())
    assert bench.pool.free == 0


def test_ending_a_reservation_wakes_a_run() -> None:
    bench = Bench(2)
    woken: list[str] = []
    with bench.pool.reserve_slots(1):
        bench.pool.spawn(bench.request())
        with pytest.raises(ConcurrencyLimit):
            bench.pool.spawn(bench.request())
        bench.pool.wake_when_free("run", lambda: woken.append("run"))
        assert not woken
    assert woken == ["run"]


# --- launch and release -----------------------------------------------------------------------------------


def test_launch_twice_and_other_misuse_is_our_bug() -> None:
    async def main() -> None:
        bench = Bench()
        handle = bench.start()
        with pytest.raises(BugError, match="launched before"):
            bench.pool.launch(handle)
        with pytest.raises(BugError, match="launched before"):
            bench.pool.release(handle)
        bench.pool.cancel(handle)
        await settle()
        with pytest.raises(BugError, match="not in the pool"):
            bench.pool.launch(handle)
        with pytest.raises(BugError, match="not in the pool"):
            bench.pool.release("nobody")

    run_virtual(main())


def test_release_gives_the_place_back_without_a_report() -> None:
    bench = Bench(1)
    handle = bench.pool.spawn(bench.request())
    bench.pool.release(handle)
    assert (bench.pool.active, bench.reports) == (0, [])
    bench.pool.spawn(bench.request())


# --- how an attempt ends ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (LostError("worker gone"), Lost("worker gone")),
        (TransientError("429", 7.5), Deferred("429", 7.5)),
        (TransientError("overloaded"), Deferred("overloaded")),
        (TaskError("exit 1", {"exit_code": 1}), Failed("exit 1", False, {"exit_code": 1})),
        (PermanentError("no such file"), Failed("no such file", True)),
        (ValueError("no number"), Failed("ValueError: no number")),
        (ValueError(), Failed("ValueError")),
        (TimeoutError(), Failed("TimeoutError")),
        (SystemExit(3), Failed("SystemExit: 3")),
        (KeyboardInterrupt(), Failed("KeyboardInterrupt")),
        (GeneratorExit(), Failed("GeneratorExit")),
        (BaseExceptionGroup("two", [SystemExit(1)]), Failed("BaseExceptionGroup: two (1 sub-exception)")),
        (asyncio.CancelledError(), Failed("the attempt canceled itself")),
    ],
)
def test_what_the_work_raises_is_its_outcome_and_ends_nothing_else(
    error: BaseException, outcome: Outcome
) -> None:
    async def main() -> None:
        async def work(_: SubAgent) -> None:
            await asyncio.sleep(1)
            raise error

        bench = Bench()
        bench.start(work)
        await asyncio.sleep(2)
        assert bench.reports == [("t", outcome, 1)]
        assert bench.pool.active == 0

    run_virtual(main())


def test_work_that_is_no_coroutine_function_and_fails_when_called() -> None:
    async def main() -> None:
        def work(_: SubAgent) -> Awaitable[None]:
            raise TaskError("not even begun")

        bench = Bench()
        bench.start(work)
        await settle()
        assert bench.reports == [("t", Failed("not even begun"), 0)]

    run_virtual(main())


def test_an_event_loop_that_ends_throws_the_work_away_without_noise() -> None:
    bench = Bench()

    async def main() -> None:
        bench.start()
        await settle()

    loop = VirtualClockLoop()
    loop.run_until_complete(main())
    # not closed by the book: the coroutine is collected while it waits
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    del task
    loop.close()
    bench.pool._sub_agents.clear()
    gc.collect()
    assert bench.reports == []


# --- cancellation -----------------------------------------------------------------------------------------


def test_cancel_is_asked_first() -> None:
    async def main() -> None:
        async def tidies_up(_: SubAgent) -> None:
            try:
                await forever(_)
            finally:
                await asyncio.sleep(4)

        bench = Bench()
        handle = bench.start(tidies_up)
        await asyncio.sleep(1)
        bench.pool.cancel(handle, "timeout")
        bench.pool.cancel(handle, "a second time")
        await asyncio.sleep(60)
        assert bench.reports == [("t", Canceled("timeout"), 5)]

    run_virtual(main())


def test_after_the_grace_period_it_is_forced() -> None:
    async def main() -> None:
        async def swallows_the_first(sub_agent: SubAgent) -> None:
            try:
                await forever(sub_agent)
            except asyncio.CancelledError:
                await forever(sub_agent)

        bench = Bench(grace=5)
        handle = bench.start(swallows_the_first)
        await asyncio.sleep(1)
        bench.pool.cancel(handle, "why")
        await asyncio.sleep(60)
        assert bench.reports == [("t", Canceled("why"), 6)]
        assert bench.pool.active == 0

    run_virtual(main())


def test_what_can_not_be_stopped_ends_without_its_place_and_its_late_end_is_not_told() -> None:
    async def main() -> None:
        bench = Bench(1, grace=5)
        handle = bench.start(stubborn)
        await asyncio.sleep(0)
        bench.pool.cancel(handle, "why")
        await asyncio.sleep(30)
        [(_, outcome, at)] = bench.reports
        assert outcome == Canceled("why; it did not stop when forced")
        assert at == 5 + AFTER_FORCE
        assert bench.pool.active == 1
        with pytest.raises(ConcurrencyLimit):
            bench.pool.spawn(bench.request())
        await asyncio.sleep(31)
        assert (bench.pool.active, len(bench.reports)) == (0, 1)

    run_virtual(main())


def test_it_may_still_complete_or_fail_in_its_own_way() -> None:
    async def main() -> None:
        async def completes(sub_agent: SubAgent) -> str:
            try:
                await forever(sub_agent)
            except asyncio.CancelledError:
                assert sub_agent.cancel_reason == "why"
                return "all the same"
            return ""

        async def fails(sub_agent: SubAgent) -> None:
            try:
                await forever(sub_agent)
            except asyncio.CancelledError:
                raise TaskError("could not tidy up") from None

        bench = Bench()
        handles = [bench.start(completes), bench.start(fails)]
        await settle()
        for handle in handles:
            bench.pool.cancel(handle, "why")
        await settle()
        assert [outcome for _, outcome, _ in bench.reports] == [
            Completed("all the same"),
            Failed("could not tidy up"),
        ]

    run_virtual(main())


def test_canceled_between_launch_and_its_first_step() -> None:
    async def main() -> None:
        began: list[str] = []

        async def work(sub_agent: SubAgent) -> None:
            began.append(sub_agent.handle)

        bench = Bench(1)
        bench.pool.cancel(bench.start(work), "at once")
        await asyncio.sleep(60)
        assert (bench.reports, began) == ([("t", Canceled("at once"), 0)], [])
        assert bench.pool.active == 0

    run_virtual(main())


def test_canceled_between_spawn_and_launch() -> None:
    async def main() -> None:
        bench = Bench(2)
        handle = bench.pool.spawn(bench.request("a"))
        bench.pool.cancel(handle, "early")
        await asyncio.sleep(1)
        assert (bench.reports, bench.pool.active) == ([], 1)
        bench.pool.launch(handle)
        assert (bench.reports, bench.pool.active) == ([("a", Canceled("early"), 1)], 0)
        handle = bench.pool.spawn(bench.request("b"))
        bench.pool.cancel(handle, "early")
        bench.pool.release(handle)
        assert (len(bench.reports), bench.pool.active) == (1, 0)

    run_virtual(main())


def test_cancel_of_what_has_ended_does_nothing() -> None:
    async def main() -> None:
        async def quick(_: SubAgent) -> None:
            pass

        bench = Bench()
        handle = bench.start(quick)
        await settle()
        bench.pool.cancel(handle)
        bench.pool.cancel("nobody")
        assert len(bench.reports) == 1

    run_virtual(main())


# --- places of what lives on ------------------------------------------------------------------------------


def test_a_thread_that_ignores_its_cancellation_keeps_its_place() -> None:
    let_go = threading.Event()

    async def main() -> None:
        ended = asyncio.get_running_loop().create_future()

        async def work(sub_agent: SubAgent) -> None:
            thread = in_thread(let_go.wait, "stubborn")
            thread.add_done_callback(ended.set_result)
            try:
                await asyncio.wait([thread])
            finally:
                sub_agent.hold_place(thread)

        bench = Bench(1, grace=5)
        handle = bench.start(work)
        await asyncio.sleep(1)
        bench.pool.cancel(handle, "timeout")
        await asyncio.sleep(1)
        assert bench.reports == [("t", Canceled("timeout"), 1)]
        assert bench.pool.active == 1
        with asyncio.get_running_loop().outside_work():  # type: ignore[attr-defined]
            let_go.set()
            await ended
        await settle()
        assert (bench.pool.active, len(bench.reports)) == (0, 1)

    run_virtual(main())


def test_a_function_in_a_thread_keeps_its_place_after_the_grace_period() -> None:
    let_go = threading.Event()

    async def main() -> None:
        bench = Bench(1, grace=5)

        async def work(sub_agent: SubAgent) -> Any:
            attempt = Attempt("run", "t", sub_agent.handle, 1, Path("/nowhere"), Path("/nowhere"))
            attempt.grace = sub_agent.grace
            attempt.hold_place = sub_agent.hold_place
            return await FunctionAgent(let_go.wait).call(attempt)

        handle = bench.start(work)
        await asyncio.sleep(1)
        bench.pool.cancel(handle, "timeout")
        await asyncio.sleep(30)
        [(_, outcome, at)] = bench.reports
        assert isinstance(outcome, Canceled)
        assert at == 6
        assert bench.pool.active == 1
        [hold] = [task for task in threading.enumerate() if task.name == "allready task t"]
        let_go.set()
        await asyncio.to_thread(hold.join)
        await settle()
        assert bench.pool.active == 0

    run_virtual(main())


def test_the_place_waits_for_all_holds_and_their_errors_stay_silent() -> None:
    async def main() -> None:
        async def fails_later() -> None:
            await asyncio.sleep(3)
            raise ValueError("nobody asks")

        async def work(sub_agent: SubAgent) -> str:
            future = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_later(2, future.cancel)
            sub_agent.hold_place(future)
            sub_agent.hold_place(fails_later())
            return "done"

        bench = Bench()
        bench.start(work)
        await settle()
        assert (bench.reports, bench.pool.active) == ([("t", Completed("done"), 0)], 1)
        await asyncio.sleep(2.5)
        assert bench.pool.active == 1
        await asyncio.sleep(1)
        assert bench.pool.active == 0

    run_virtual(main())


# --- all of them ------------------------------------------------------------------------------------------


def test_kill_all_forces_without_a_grace_period() -> None:
    async def main() -> None:
        signals: list[tuple[str, float]] = []

        async def process(_: SubAgent) -> None:
            try:
                await forever(_)
            except asyncio.CancelledError:
                signals.append(("term", now()))
                try:
                    await asyncio.sleep(4)
                except asyncio.CancelledError:
                    signals.append(("kill", now()))
                    raise

        bench = Bench(9)
        bench.start(process)
        bench.start(stubborn)
        bench.start(forever, "other", run="other")
        unlaunched = bench.pool.spawn(bench.request("unlaunched"))
        await asyncio.sleep(1)
        bench.pool.kill_all("run")
        bench.pool.kill_all("run")
        await asyncio.sleep(0.5)
        bench.pool.kill_all("run")
        await asyncio.sleep(9)
        assert signals == [("term", 1), ("kill", 1)]
        told = [(task, at) for task, _, at in bench.reports]
        assert told == [("t", 1), ("t", 1 + AFTER_FORCE)]
        bench.pool.launch(unlaunched)
        assert bench.reports[-1][1] == Canceled("killed")
        bench.pool.kill_all()
        await settle()
        assert bench.reports[-1][0] == "other"

    run_virtual(main())


def test_kill_all_of_what_was_only_asked_before() -> None:
    async def main() -> None:
        async def slow_to_stop(_: SubAgent) -> None:
            try:
                await forever(_)
            finally:
                await asyncio.sleep(4)

        bench = Bench()
        handle = bench.start(slow_to_stop)
        await settle()
        bench.pool.cancel(handle, "why")
        await asyncio.sleep(1)
        bench.pool.kill_all()
        await asyncio.sleep(30)
        assert bench.reports == [("t", Canceled("why"), 1)]

    run_virtual(main())


def test_stop_returns_when_all_have_ended_or_were_given_up() -> None:
    async def main() -> None:
        bench = Bench(9, grace=5)

        async def slow_to_stop(_: SubAgent) -> None:
            try:
                await forever(_)
            finally:
                await asyncio.sleep(3)

        bench.start(slow_to_stop, "slow")
        bench.start(forever, "other", run="other")
        await settle()
        await asyncio.gather(bench.pool.stop("run"), bench.pool.stop("run"))
        assert now() == 3
        assert bench.pool.active == 1
        await bench.pool.stop()
        assert (now(), bench.pool.active) == (3, 0)
        bench.start(stubborn)
        await settle()
        await bench.pool.stop()
        assert now() == 3 + 5 + AFTER_FORCE
        await bench.pool.stop()
        assert now() == 3 + 5 + AFTER_FORCE, "what was given up is not waited for again"

    run_virtual(main())


def test_stop_does_not_wait_for_a_place_that_is_only_held() -> None:
    async def main() -> None:
        async def work(sub_agent: SubAgent) -> None:
            try:
                await forever(sub_agent)
            finally:
                sub_agent.hold_place(asyncio.sleep(1000))

        bench = Bench()
        bench.start(work)
        await settle()
        await bench.pool.stop()
        assert (now(), bench.pool.active) == (0, 1)
        await asyncio.sleep(1001)
        assert bench.pool.active == 0

    run_virtual(main())
