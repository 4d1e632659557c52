"""The real loop with the real scheduler and the real pool, on the virtual clock."""

from __future__ import annotations

import asyncio
import threading
from itertools import pairwise
from typing import Any

import pytest
from tests.pool.driving import CountingPool, Ride, now, settle, tasks, until

from allready.agents.threads import in_thread
from allready.core.events import Canceled, Completed, Deferred, Failed, Lost, Outcome
from allready.core.graph import TaskGraph, TaskSpec
from allready.core.scheduler import DagScheduler
from allready.core.states import CANCELING, COMPLETED, FailureStrategy, RunIf, RunState
from allready.engine import loop as loop_module
from allready.engine.loop import SchedulerLoop, run_scheduler_loop
from allready.errors import (
    BugError,
    ConcurrencyLimit,
    LostError,
    PermanentError,
    TaskError,
    TransientError,
)
from allready.pool.manager import SpawnRequest, SubAgent, SubAgentManager
from allready.testing import run_virtual

SKIP, ASK, RETRY = FailureStrategy.SKIP, FailureStrategy.ASK, FailureStrategy.RETRY


def fails(*names: str, error: BaseException | None = None) -> Any:
    """Work that fails for these tasks, and takes a second for the others."""

    async def work(sub_agent: SubAgent) -> None:
        if sub_agent.request.task in names:
            raise error or TaskError("no luck")
        await asyncio.sleep(1)

    return work


# --- dispatch ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_parallel", [1, 5, 100])
def test_all_ready_tasks_are_offered_in_one_tick_whatever_max_parallel_is(max_parallel: int) -> None:
    async def main() -> None:
        ride = Ride(tasks(50, estimate=1), slots=50, scheduler={"max_parallel": max_parallel})
        going = ride.begin()
        await settle()
        assert isinstance(ride.pool, CountingPool)
        assert len(ride.pool.admitted) == 50
        assert ride.scheduler.statistics.offers == 50
        assert ride.scheduler.statistics.ticks == 1
        assert await going == "completed"
        assert ride.pool.peak == 50
        assert now() == 1

    run_virtual(main())


def test_the_pool_alone_limits_and_refused_tasks_start_later_with_untouched_counters() -> None:
    async def main() -> None:
        ride = Ride(tasks(20, estimate=1, max_retries=2), slots=3, scheduler={"max_parallel": 1000})
        assert await ride.go() == "completed"
        assert ride.pool.peak == 3
        assert now() == 7
        assert ride.scheduler.statistics.refusals > 0
        assert sorted(ride.order) == sorted(ride.states)
        for node in ride.scheduler.graph:
            assert (node.attempts, node.retries, node.deferrals) == (1, 0, 0)

    run_virtual(main())


def test_the_batch_is_reported_once_and_says_what_it_met() -> None:
    class Spy(DagScheduler):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.batches: list[tuple[int, bool, bool, int]] = []

        def record_batch_backoff(self, any_success: bool, any_concurrency_failure: bool) -> None:
            super().record_batch_backoff(any_success, any_concurrency_failure)
            failures = self.consecutive_spawn_failures
            self.batches.append((self.statistics.ticks, any_success, any_concurrency_failure, failures))

    async def main() -> None:
        pool = SubAgentManager(2)
        loop = asyncio.get_running_loop()

        async def ten_seconds(_: SubAgent) -> None:
            await asyncio.sleep(10)

        holding = Ride(tasks(2, estimate=0.6), pool=pool).begin()
        await settle()
        scheduler = Spy(TaskGraph(tasks(3)), validate=True)
        assert await run_scheduler_loop(scheduler, pool, ten_seconds, clock=loop.time) == "completed"
        ticks = [tick for tick, *_ in scheduler.batches]
        assert ticks == list(range(1, scheduler.statistics.ticks + 1)), "one report for each batch"
        reports = [report for _, *report in scheduler.batches]
        assert reports[0] == [False, True, 1]
        assert reports[1] == [False, True, 2]
        started = [report for report in reports if report[0]]
        assert all(failures == 0 for _, _, failures in started)
        assert reports[-1] == [False, False, 0]
        assert await holding == "completed"

    run_virtual(main())


@pytest.mark.parametrize("seconds", [0, 1])
def test_a_burst_of_2000_ends_before_the_loop_looks_loses_none(seconds: int) -> None:
    async def main() -> None:
        ride = Ride(
            tasks(2000, estimate=seconds), slots=2000, scheduler={"max_parallel": 2, "validate": False}
        )
        assert await ride.go() == "completed"
        assert ride.count(COMPLETED) == len(ride.outcomes) == 2000
        assert ride.scheduler.statistics.events == 2000
        assert ride.scheduler.statistics.ticks == 2
        assert ride.pool.peak == 2000

    run_virtual(main())


def test_growth_by_a_burst_while_it_runs_loses_none() -> None:
    async def main() -> None:
        async def work(sub_agent: SubAgent) -> None:
            if sub_agent.request.task == "seed":
                ride.scheduler.add_tasks(tasks(2000, "grown", depends_on=("seed",)), now())
                ride.scheduler.add_tasks([TaskSpec("last", tuple(f"grown{n}" for n in range(2000)))], now())
                ride.scheduler.close(now())
                ride.loop.wake()

        ride = Ride([TaskSpec("seed")], work, slots=2000, is_open=True, scheduler={"validate": False})
        assert await ride.go() == "completed"
        assert ride.count(COMPLETED) == len(ride.outcomes) == 2002
        assert ride.order[-1] == "last"

    run_virtual(main())


def test_an_open_graph_waits_for_more_without_ticking_and_ends_when_closed() -> None:
    async def main() -> None:
        ride = Ride(tasks(1), is_open=True)
        going = ride.begin()
        await asyncio.sleep(100)
        assert not going.done()
        assert ride.scheduler.statistics.ticks == 2
        ride.scheduler.add_tasks([TaskSpec("more", ("t0",), estimate=1)], now())
        ride.loop.wake()
        await asyncio.sleep(10)
        assert ride.ended["more"] == 101
        assert not going.done()
        ride.scheduler.close(now())
        ride.loop.wake()
        assert await going == "completed"
        assert now() == 110

    run_virtual(main())


def test_a_mixed_batch_goes_on_to_its_end() -> None:
    class Pool(CountingPool):
        """Refuses t0 the first time, and can't start t1 at all."""

        def spawn(self, request: SpawnRequest) -> str:
            if request.task == "t0" and not self.refused:
                self.refused.append((request.run, "t0"))
                raise ConcurrencyLimit("the agent is busy", "agent:a", 1, 1)
            if request.task == "t1":
                raise OSError("no such executable")
            return super().spawn(request)

    async def main() -> None:
        specs = [
            TaskSpec("t0", agent="a"),
            TaskSpec("t1", failure_strategy=SKIP, agent="b"),
            TaskSpec("t2", agent="c"),
            TaskSpec("after t0", ("t0",)),
            TaskSpec("after t1", ("t1",)),
            TaskSpec("after that", ("after t1",)),
        ]
        ride = Ride(specs, pool=Pool(5))
        assert await ride.go() == "completed"
        assert ride.states == {
            "t0": "completed",
            "t1": "failed",
            "t2": "completed",
            "after t0": "completed",
            "after t1": "skipped",
            "after that": "skipped",
        }
        assert ride.scheduler.graph["t1"].error == "no such executable"
        assert (ride.scheduler.statistics.spawn_failures, ride.scheduler.statistics.refusals) == (1, 1)

    run_virtual(main())


def test_a_slow_branch_never_holds_back_an_unrelated_fast_one() -> None:
    async def main() -> None:
        specs = [TaskSpec("slow0", estimate=100), TaskSpec("slow1", ("slow0",), estimate=100)]
        specs += [
            TaskSpec(f"fast{n}", (f"fast{n - 1}",) if n else (), estimate=1, max_retries=1) for n in range(50)
        ]
        ride = Ride(specs, slots=2)
        assert await ride.go() == "completed"
        assert dict(ride.started) == {"slow0": 0, "slow1": 100} | {f"fast{n}": n for n in range(50)}
        assert now() == 200

    run_virtual(main())


def test_the_longest_remaining_path_goes_first_and_priority_before_that() -> None:
    async def main() -> None:
        specs = [
            TaskSpec("short", estimate=1),
            TaskSpec("long", estimate=5),
            TaskSpec("chain", estimate=1),
            TaskSpec("end", ("chain",), estimate=9),
            TaskSpec("urgent", estimate=1, priority=1),
        ]
        ride = Ride(specs, slots=1)
        assert await ride.go() == "completed"
        assert ride.order == ["urgent", "chain", "end", "long", "short"]

    run_virtual(main())


# --- a pool held by others --------------------------------------------------------------------------------


def test_a_pool_held_by_somebody_else_is_no_deadlock_and_no_busy_waiting() -> None:
    async def main() -> None:
        pool = CountingPool(1)
        other = pool.spawn(SpawnRequest("other", "hold", lambda _: asyncio.sleep(60.0), lambda *_: None))
        pool.launch(other)
        ride = Ride(tasks(3), pool=pool)
        going = ride.begin()
        await asyncio.sleep(59.9)
        why = ride.scheduler.why("t0", now())
        assert why.code == "refused"
        assert ride.scheduler.statistics.ticks <= 20
        assert ride.scheduler.consecutive_spawn_failures > 5
        await until(lambda: bool(ride.started))
        assert dict(ride.started)["t0"] == pytest.approx(60, abs=1e-6), (
            "at once, not at the end of the backoff"
        )
        assert ride.scheduler.statistics.ticks <= 21
        assert await going == "completed"
        assert now() < 60.1

    run_virtual(main())


def test_the_first_tasks_are_woken_from_a_long_backoff_by_a_freed_resource() -> None:
    async def main() -> None:
        pool = CountingPool(9, resources={"gpu": 1})
        gpu = (("gpu", 1),)
        first = Ride([TaskSpec("hold", estimate=33.3, resources=gpu)], pool=pool, run_id="first")
        second = Ride([TaskSpec("gpu", resources=gpu), TaskSpec("plain")], pool=pool, run_id="second")
        going = [first.begin(), second.begin()]
        assert await asyncio.gather(*going) == ["completed"] * 2
        assert dict(second.started) == {"plain": 0, "gpu": 33.3}

    run_virtual(main())


def test_a_demand_beyond_the_pool_fails_at_once_with_the_reason() -> None:
    async def main() -> None:
        specs = [
            TaskSpec("greedy", resources=(("gpu", 2),), max_retries=5, failure_strategy=SKIP),
            TaskSpec("modest", resources=(("gpu", 1),)),
            TaskSpec("after", ("greedy",)),
        ]
        ride = Ride(specs, pool=CountingPool(2, resources={"gpu": 1}))
        assert await ride.go() == "completed"
        assert now() == 0
        assert ride.states == {"greedy": "failed", "modest": "completed", "after": "skipped"}
        node = ride.scheduler.graph["greedy"]
        assert node.error == "task 'greedy' asks for 2 of resource 'gpu', but the pool has 1 in all"
        assert node.retries == 0

    run_virtual(main())


def test_a_long_single_task_makes_a_handful_of_ticks() -> None:
    async def main() -> None:
        ride = Ride([TaskSpec("long", estimate=86_400, timeout=None)])
        assert await ride.go() == "completed"
        assert ride.scheduler.statistics.ticks == 2
        ride = Ride([TaskSpec("long", estimate=500)])
        assert await ride.go() == "completed"
        assert ride.scheduler.statistics.ticks == 2

    run_virtual(main())


def test_waiting_tasks_cost_nothing_per_completion() -> None:
    async def main() -> None:
        ride = Ride(tasks(2000, estimate=0.01), slots=5, scheduler={"validate": False})
        assert await ride.go() == "completed"
        statistics = ride.scheduler.statistics
        assert statistics.refusals <= 1.1 * statistics.spawns
        assert statistics.offers == statistics.spawns + statistics.refusals

    run_virtual(main())


def test_places_kept_for_planning_are_not_taken_by_tasks() -> None:
    async def main() -> None:
        pool = CountingPool(3)
        ride = Ride(tasks(4, estimate=1), pool=pool)
        with pool.reserve_slots(1):
            going = ride.begin()
            await asyncio.sleep(0.5)
            assert pool.active == 2
            plan = SpawnRequest(
                "planner", "plan", lambda _: asyncio.sleep(0.2), lambda *_: None, reserved=True
            )
            pool.launch(pool.spawn(plan))
            assert pool.active == 3
            await asyncio.sleep(1)
            assert len(ride.started) == 4
        assert await going == "completed"
        assert now() == 2

    run_virtual(main())


# --- stale ends -------------------------------------------------------------------------------------------


def test_a_thread_that_ignores_cancel_ends_late_and_changes_nothing() -> None:
    let_go = threading.Event()

    async def main() -> None:
        ends: list[asyncio.Future[Any]] = []

        async def work(sub_agent: SubAgent) -> str:
            if sub_agent.request.number > 1:
                await asyncio.sleep(3)
                return "second"
            thread = in_thread(let_go.wait, "ignores cancel")
            ends.append(thread)
            try:
                await asyncio.wait([thread])
            except asyncio.CancelledError:
                sub_agent.hold_place(thread)
                raise
            return "first"

        ride = Ride([TaskSpec("t", timeout=5, max_retries=1)], work, slots=2)
        going = ride.begin()
        await until(lambda: len(ride.started) == 2)
        assert ride.pool.active == 2, "the thread still has its place"
        let_go.set()
        await asyncio.to_thread(lambda: None)
        while not ends[0].done():
            await asyncio.sleep(0)
        await settle()
        assert ride.pool.active == 1
        assert await going == "completed"
        assert [outcome for _, _, outcome in ride.outcomes[:2]] == [Canceled("timeout"), Completed("second")]

    run_virtual(main())


def test_an_attempt_that_ends_after_its_replacement_is_stale() -> None:
    async def main() -> None:
        async def work(sub_agent: SubAgent) -> str:
            if sub_agent.request.number == 1:
                end = now() + 50
                while now() < end:  # can't be stopped
                    try:
                        await asyncio.sleep(end - now())
                    except asyncio.CancelledError:
                        continue
                return "late"
            await asyncio.sleep(3)
            return "second"

        ride = Ride([TaskSpec("t", timeout=5, max_retries=1), TaskSpec("long", estimate=100)], work, slots=3)
        ride._do = lambda s: work(s) if s.request.task == "t" else ride._sleep(s)
        assert await ride.go() == "completed"
        node = ride.scheduler.graph["t"]
        assert (node.attempts, node.state) == (2, COMPLETED)
        ends = [outcome for task, _, outcome in ride.outcomes if task == "t"]
        assert ends == [Canceled("timeout; it did not stop when forced"), Completed("second")]
        assert ride.scheduler.statistics.stale_events == 0, "the pool has told its end already"
        assert ride.pool.active == 0

    run_virtual(main())


def test_a_doubled_end_is_counted_as_stale_and_changes_nothing() -> None:
    class EchoPool(SubAgentManager):
        """Tells each end twice, the second time as a failure."""

        def spawn(self, request: SpawnRequest) -> str:
            def twice(task: str, handle: str, outcome: Outcome) -> None:
                request.on_end(task, handle, outcome)
                request.on_end(task, handle, Failed("an echo"))

            return super().spawn(request._replace(on_end=twice))

    async def main() -> None:
        ride = Ride(tasks(5, estimate=1), pool=EchoPool(2))
        assert await ride.go() == "completed"
        assert ride.count(COMPLETED) == 5
        assert ride.scheduler.statistics.stale_events in (4, 5)
        assert ride.scheduler.statistics.spawns == 5

    run_virtual(main())


# --- inline tasks -----------------------------------------------------------------------------------------


def test_an_inline_task_never_blocks_a_tick() -> None:
    async def main() -> None:
        chain = [TaskSpec(f"c{n}", (f"c{n - 1}",) if n else (), estimate=0.1) for n in range(10)]
        ride = Ride([TaskSpec("inline", estimate=2, inline=True), *chain], slots=1)
        assert await ride.go() == "completed"
        assert ride.ended["inline"] == 2
        assert ride.ended["c9"] == pytest.approx(1)
        assert ride.pool.peak == 1

    run_virtual(main())


def test_inline_tasks_have_a_limit_of_their_own() -> None:
    async def main() -> None:
        inline = [TaskSpec(f"i{n}", estimate=1, inline=True) for n in range(20)]
        ride = Ride([*inline, TaskSpec("pooled", estimate=1)], slots=1)
        assert await ride.go() == "completed"
        assert ride.loop.inline_pool.peak == loop_module.INLINE_SLOTS == 8
        assert ride.ended["pooled"] == 1
        assert now() == 3
        assert ride.loop.inline_pool.free == 8

    run_virtual(main())


def test_inline_tasks_are_timed_out_and_canceled_like_others() -> None:
    async def main() -> None:
        specs = [
            TaskSpec("slow", estimate=50, inline=True, timeout=5, failure_strategy=SKIP),
            TaskSpec("other", estimate=100, inline=True),
        ]
        ride = Ride(specs)
        going = ride.begin()
        await asyncio.sleep(10)
        assert ride.scheduler.graph["slow"].error == "timed out after 5 s"
        assert await ride.steer("cancel") is None
        assert await going == "canceled"
        assert now() == 10

    run_virtual(main())


def test_what_no_agent_fits_runs_inline() -> None:
    async def main() -> None:
        route = {"t0": "writer"}.get
        ride = Ride(tasks(2), scheduler={"route": lambda spec: route(spec.id)})
        assert await ride.go() == "completed"
        assert (ride.pool.peak, ride.loop.inline_pool.peak) == (1, 1)

    run_virtual(main())


# --- failures ---------------------------------------------------------------------------------------------


def diamond(**settings: Any) -> list[TaskSpec]:
    return [
        TaskSpec("bad", **settings),
        TaskSpec("after", ("bad",)),
        TaskSpec("good", estimate=1),
        TaskSpec("later", ("good",), estimate=1),
    ]


def test_abort_cancels_what_runs_and_fails() -> None:
    async def main() -> None:
        ride = Ride(diamond(), fails("bad"))
        assert await ride.go() == "failed"
        assert ride.states == {"bad": "failed", "after": "canceled", "good": "canceled", "later": "canceled"}
        assert ride.scheduler.error == "task 'bad' failed: no luck"
        assert now() == 0
        assert ride.pool.active == 0

    run_virtual(main())


def test_skip_leaves_out_the_dependents_and_goes_on() -> None:
    async def main() -> None:
        ride = Ride(diamond(failure_strategy=SKIP), fails("bad"))
        assert await ride.go() == "completed"
        assert ride.states == {"bad": "failed", "after": "skipped", "good": "completed", "later": "completed"}

    run_virtual(main())


def test_retry_backs_off_and_then_aborts() -> None:
    async def main() -> None:
        ride = Ride(diamond(failure_strategy=RETRY), fails("bad"), scheduler={"seed": 3})
        assert await ride.go() == "failed"
        times = [at for task, at in ride.started if task == "bad"]
        assert len(times) == 4
        gaps = [later - before for before, later in pairwise(times)]
        assert all(0 <= gap <= most for gap, most in zip(gaps, (1, 2, 4), strict=True))
        assert ride.scheduler.statistics.retries == 3

    run_virtual(main())


def test_a_permanent_failure_is_not_retried() -> None:
    async def main() -> None:
        ride = Ride(diamond(max_retries=5), fails("bad", error=PermanentError("never")))
        assert await ride.go() == "failed"
        assert len(ride.started) == 2

    run_virtual(main())


@pytest.mark.parametrize("decision", ["retry", "skip", "abort"])
def test_ask_finishes_the_rest_and_then_waits_for_a_person(decision: str) -> None:
    async def main() -> None:
        again = False

        async def work(sub_agent: SubAgent) -> None:
            if sub_agent.request.task == "bad" and not again:
                raise TaskError("no luck")
            await asyncio.sleep(1)

        ride = Ride(diamond(failure_strategy=ASK), work, wait_for_person=True)
        going = ride.begin()
        await asyncio.sleep(100)
        assert ride.scheduler.status is RunState.PAUSED
        assert ride.states["later"] == "completed"
        again = True
        assert await ride.steer(decision, "bad") is None
        ends = {"retry": "completed", "skip": "completed", "abort": "failed"}
        states = {"retry": "completed", "skip": "skipped", "abort": "canceled"}
        assert await going == ends[decision]
        assert ride.states["after"] == states[decision]

    run_virtual(main())


def test_without_waiting_for_a_person_it_returns_paused_and_can_be_driven_again() -> None:
    async def main() -> None:
        ride = Ride(diamond(failure_strategy=ASK), fails("bad"))
        assert await ride.go() == "paused"
        assert now() == 2
        assert await ride.steer("skip", "bad") == (
            "the run is paused and not driven by this process any more; resume it first"
        )
        ride.scheduler.skip("bad", now())
        assert await ride.go() == "completed"

    run_virtual(main())


@pytest.mark.parametrize(
    ("run_if", "bad", "state"),
    [
        (RunIf.ALL_COMPLETED, True, "skipped"),
        (RunIf.ALL_DONE, True, "completed"),
        (RunIf.ANY_COMPLETED, True, "completed"),
        (RunIf.ANY_COMPLETED, False, "completed"),
    ],
)
def test_run_if(run_if: RunIf, bad: bool, state: str) -> None:
    async def main() -> None:
        specs = [
            TaskSpec("a", failure_strategy=SKIP, estimate=1),
            TaskSpec("b", estimate=5),
            TaskSpec("end", ("a", "b"), run_if=run_if),
        ]
        ride = Ride(specs)
        ride._do = lambda s: fails("a")(s) if bad and s.request.task == "a" else ride._sleep(s)
        assert await ride.go() == "completed"
        assert ride.states["end"] == state
        if state == "completed":
            early = run_if is RunIf.ANY_COMPLETED and not bad
            assert dict(ride.started)["end"] == (1 if early else 5)

    run_virtual(main())


# --- what is no verdict -----------------------------------------------------------------------------------


def test_rate_limits_and_lost_workers_use_up_no_retry() -> None:
    async def main() -> None:
        errors: list[Exception] = [
            TransientError("429", 30),
            LostError("worker gone"),
            TransientError("overload"),
        ]

        async def work(sub_agent: SubAgent) -> str:
            if errors:
                raise errors.pop(0)
            return "done"

        ride = Ride([TaskSpec("t")], work)
        assert await ride.go() == "completed"
        node = ride.scheduler.graph["t"]
        assert (node.attempts, node.retries) == (4, 0)
        kinds = [type(outcome) for _, _, outcome in ride.outcomes]
        assert kinds == [Deferred, Lost, Deferred, Completed]
        assert 30 <= ride.started[1][1] <= 33

    run_virtual(main())


def test_a_lost_attempt_of_a_task_that_is_not_idempotent_is_put_to_a_person() -> None:
    async def main() -> None:
        ride = Ride([TaskSpec("t", idempotent=False, max_retries=3)], fails("t", error=LostError("gone")))
        assert await ride.go() == "paused"
        assert len(ride.started) == 1

    run_virtual(main())


# --- time -------------------------------------------------------------------------------------------------


def test_a_timeout_cancels_retries_and_then_fails() -> None:
    async def main() -> None:
        ride = Ride([TaskSpec("t", estimate=100, timeout=5, max_retries=1)])
        assert await ride.go() == "failed"
        assert ride.scheduler.error == "task 't' failed: timed out after 5 s"
        [first, second] = [at for _, at in ride.started]
        assert second - first >= 5
        assert ride.ended["t"] == pytest.approx(second + 5, abs=1e-5)

    run_virtual(main())


def test_it_may_complete_while_it_is_canceled_for_a_timeout() -> None:
    async def main() -> None:
        async def work(_: SubAgent) -> str:
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                await asyncio.sleep(1)
            return "just in time"

        ride = Ride([TaskSpec("t", timeout=5), TaskSpec("after", ("t",))])
        ride._do = lambda s: work(s) if s.request.task == "t" else ride._sleep(s)
        going = ride.begin()
        await asyncio.sleep(5.5)
        assert ride.scheduler.graph["t"].state is CANCELING
        assert await going == "completed"
        assert ride.ended["t"] == 6

    run_virtual(main())


def test_the_whole_run_has_a_timeout() -> None:
    async def main() -> None:
        ride = Ride(tasks(3, estimate=100), slots=2, scheduler={"timeout": 30})
        assert await ride.go() == "failed"
        assert now() == 30
        assert ride.scheduler.error == "the run timed out after 30 s"
        assert set(ride.states.values()) == {"canceled"}

    run_virtual(main())


def test_a_clock_that_is_a_little_behind_the_timers_costs_no_extra_ticks() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        scheduler = DagScheduler(TaskGraph([TaskSpec("t", timeout=5)]), validate=True)

        async def work(_: SubAgent) -> None:
            await asyncio.sleep(100)

        runner = SchedulerLoop(scheduler, SubAgentManager(), work, clock=lambda: loop.time() * 0.999)
        assert await runner.run() is RunState.FAILED
        assert scheduler.statistics.ticks == 3
        assert now() == pytest.approx(5 / 0.999, abs=1e-4)

    run_virtual(main())


# --- people -----------------------------------------------------------------------------------------------


def test_pause_lets_what_runs_end_and_starts_nothing_new() -> None:
    async def main() -> None:
        ride = Ride(tasks(4, estimate=10), slots=2)
        going = ride.begin()
        await asyncio.sleep(5)
        assert await ride.steer("pause") is None
        await asyncio.sleep(100)
        assert (len(ride.started), ride.count(COMPLETED)) == (2, 2)
        ticks = ride.scheduler.statistics.ticks
        await asyncio.sleep(1000)
        assert ride.scheduler.statistics.ticks == ticks, "a paused run sleeps"
        assert await ride.steer("pause") == "the run is paused already"
        assert await ride.steer("resume") is None
        assert await going == "completed"
        assert now() == 1115

    run_virtual(main())


def test_an_approval_holds_its_own_branch_only() -> None:
    async def main() -> None:
        specs = [
            TaskSpec("a", estimate=1),
            TaskSpec("b", ("a",), approval=True, estimate=1),
            TaskSpec("c", ("a",), estimate=1),
            TaskSpec("refused", approval=True),
        ]
        ride = Ride(specs, wait_for_person=True)
        going = ride.begin()
        await asyncio.sleep(10)
        assert ride.states["c"] == "completed"
        assert ride.scheduler.status is RunState.PAUSED
        assert await ride.steer("approve", "c") == "task 'c' needs no approval"
        assert await ride.steer("approve", "b") is None
        assert await ride.steer("skip", "refused") is None
        assert await going == "completed"
        assert ride.states["refused"] == "skipped"
        assert now() == 11

    run_virtual(main())


def test_cancel_all_passes_through_canceling() -> None:
    async def main() -> None:
        async def slow_to_stop(_: SubAgent) -> None:
            try:
                await asyncio.sleep(1000)
            finally:
                await asyncio.sleep(3)

        ride = Ride(tasks(6), slow_to_stop, slots=2)
        going = ride.begin()
        await asyncio.sleep(5)
        assert await ride.steer("cancel") is None
        await settle()
        assert ride.count(CANCELING) == 2
        assert await ride.steer("pause") == "can't pause: the run is ending (canceled)"
        before = ride.scheduler.statistics.ticks
        assert await going == "canceled"
        assert now() == 8
        assert ride.scheduler.statistics.ticks - before <= 3, "no spinning while it waits for them to stop"
        assert set(ride.states.values()) == {"canceled"}

    run_virtual(main())


def test_a_backoff_that_ends_while_the_run_ends_does_not_spin() -> None:
    async def main() -> None:
        pool = CountingPool(1, grace=5)

        async def stubborn(_: SubAgent) -> None:
            for _try in range(2):
                try:
                    await asyncio.sleep(1000)
                except asyncio.CancelledError:
                    continue

        ride = Ride(tasks(2), stubborn, pool=pool)
        going = ride.begin()
        await asyncio.sleep(0.1)  # t1 was refused: there is a backoff
        assert await ride.steer("cancel") is None
        assert await going == "canceled"
        assert now() >= 5.1
        assert ride.scheduler.statistics.ticks < 8

    run_virtual(main())


# --- bugs -------------------------------------------------------------------------------------------------


class Restless(DagScheduler):
    """Always says that it has something to do at once."""

    def next_wakeup(self) -> float | None:
        return self.now


@pytest.mark.parametrize("validate", [True, False])
def test_a_scheduler_that_always_wants_to_go_on_can_not_make_the_loop_spin(validate: bool) -> None:
    async def main() -> None:
        async def work(_: SubAgent) -> None:
            await asyncio.sleep(100)

        scheduler = Restless(TaskGraph(tasks(2)), validate=validate)
        pool = SubAgentManager()
        loop = SchedulerLoop(scheduler, pool, work, clock=asyncio.get_running_loop().time)
        if validate:
            with pytest.raises(BugError, match="rounds in a row did nothing"):
                await loop.run()
        else:
            assert await loop.run() is RunState.COMPLETED
            assert now() == 100
        assert scheduler.statistics.ticks < 600
        assert pool.active == 0

    run_virtual(main())


def test_nothing_that_work_raises_ends_the_run() -> None:
    async def main() -> None:
        errors: dict[str, BaseException] = {
            "t0": SystemExit(1),
            "t1": KeyboardInterrupt(),
            "t2": asyncio.CancelledError(),
            "t3": RecursionError(),
            "t4": GeneratorExit(),
        }

        async def work(sub_agent: SubAgent) -> None:
            await asyncio.sleep(0)
            if sub_agent.request.task in errors:
                raise errors[sub_agent.request.task]

        ride = Ride(tasks(6, failure_strategy=SKIP), work)
        assert await ride.go() == "completed"
        assert list(ride.states.values()) == ["failed"] * 5 + ["completed"]

    run_virtual(main())


def test_the_plain_function_with_default_options_runs_in_real_time() -> None:
    async def work(sub_agent: SubAgent) -> str:
        return sub_agent.request.task

    scheduler = DagScheduler(TaskGraph([TaskSpec("a"), TaskSpec("b", ("a",))]))
    assert asyncio.run(run_scheduler_loop(scheduler, SubAgentManager(), work)) is RunState.COMPLETED
