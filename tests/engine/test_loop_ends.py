"""How the loop ends before its time: cancellation, interrupts, a journal that fails, bugs, last words."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from tests.pool.driving import CountingPool, Ride, now, settle, tasks, until

from allready.core.events import Canceled, Completed, Deferred, Failed, Lost, Outcome
from allready.core.graph import TaskSpec
from allready.core.scheduler import DagScheduler
from allready.core.states import COMPLETED, READY, FailureStrategy, RunState
from allready.errors import (
    BugError,
    InvariantBroken,
    LeaseLost,
    LostError,
    StoreError,
    TaskError,
    TransientError,
)
from allready.pool.manager import AFTER_FORCE, SpawnRequest, SubAgent, SubAgentManager
from allready.testing import run_virtual


class Journal:
    """Takes a second for each commit, remembers what it was given, and fails when it is told to."""

    def __init__(self, seconds: float = 1.0) -> None:
        self.seconds = seconds
        self.ride: Ride
        self.commits = 0
        self.canceled = 0
        self.committed: list[str] = []
        """Types of what happened, with the task."""
        self.fail_at: dict[int, Exception] = {}
        """Number of the commit → what it raises."""
        self.lease_error: Exception | None = None
        self.in_commit: Callable[[int], None] | None = None

    async def commit(self) -> None:
        self.commits += 1
        number = self.commits
        scheduler = self.ride.scheduler
        changes, scheduler.changes = scheduler.changes or [], []
        try:
            if self.in_commit is not None:
                self.in_commit(number)
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.canceled += 1
            raise
        if number in self.fail_at:
            raise self.fail_at[number]
        self.committed += [f"{change.type} {change.task or ''}".strip() for change in changes]

    def holds(self) -> bool:
        return self.lease_error is None

    async def regain(self) -> None:
        assert self.lease_error is not None
        raise self.lease_error

    def give_up(self, *, at_once: bool = False) -> None: ...


def journaled(specs: list[TaskSpec], seconds: float = 1.0, **options: Any) -> tuple[Ride, Journal]:
    journal = Journal(seconds)
    journal.ride = ride = Ride(specs, journal=journal, scheduler={"record": True}, **options)
    return ride, journal


# --- the journal ------------------------------------------------------------------------------------------


def test_nothing_is_launched_or_canceled_before_its_commit() -> None:
    async def main() -> None:
        ride, journal = journaled([TaskSpec("a", estimate=10, timeout=5)])
        assert await ride.go() == "failed"
        assert ride.started == [("a", 1)], "launched after the first commit"
        assert ride.ended == {"a": 6}, "canceled after the second"
        assert journal.committed == [
            "run.started",
            "task.ready a",
            "task.started a",
            "task.canceling a",
            "task.failed a",
            "run.ending",
            "run.failed",
        ]

    run_virtual(main())


def test_commit_is_called_once_a_round_and_the_end_is_committed() -> None:
    async def main() -> None:
        ride, journal = journaled(tasks(3, estimate=1), seconds=0)
        assert await ride.go() == "completed"
        assert journal.commits == ride.scheduler.statistics.ticks
        assert journal.committed[-1] == "run.completed"
        assert ride.scheduler.changes == []

    run_virtual(main())


@pytest.mark.parametrize("error", [StoreError("the disk is full"), LeaseLost("another owner")])
@pytest.mark.parametrize("fail_at", [1, 2])
def test_a_commit_that_fails_launches_nothing_stops_all_and_comes_out(error: Exception, fail_at: int) -> None:
    async def main() -> None:
        specs = [TaskSpec("a", estimate=1), TaskSpec("b", estimate=100), TaskSpec("c", ("a",), estimate=1)]
        ride, journal = journaled(specs, inline_pool=SubAgentManager(1))
        journal.fail_at = {fail_at: error}
        with pytest.raises(type(error)) as raised:
            await ride.go()
        assert raised.value is error
        assert sorted(ride.order) == ([] if fail_at == 1 else ["a", "b"])
        assert ride.pool.active == 0
        assert not ride.pool._sub_agents
        stopped = [task for task, _, outcome in ride.outcomes if outcome != Completed()]
        assert stopped == ([] if fail_at == 1 else ["b"])

    run_virtual(main())


def test_a_lost_lease_launches_nothing_and_kills_at_once() -> None:
    async def main() -> None:
        async def slow_to_stop(sub_agent: SubAgent) -> None:
            if sub_agent.request.task == "a":
                return
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                await asyncio.sleep(4)

        specs = [TaskSpec("a"), TaskSpec("b"), TaskSpec("c", ("a",))]
        ride, journal = journaled(specs, work=slow_to_stop)
        going = ride.begin()
        await asyncio.sleep(1.5)
        journal.lease_error = LeaseLost("too late")
        with pytest.raises(LeaseLost, match="too late"):
            await going
        assert ride.order == ["a", "b"]
        assert journal.committed[-1] == "task.started c"
        assert now() < 3, "no grace: somebody else may be doing the same"
        assert ride.pool.active == 0

    run_virtual(main())


def test_the_lease_is_only_checked_before_launches() -> None:
    async def main() -> None:
        ride, journal = journaled([TaskSpec("a", estimate=5)])
        going = ride.begin()
        await asyncio.sleep(3)
        journal.lease_error = LeaseLost("too late")
        assert await going == "completed"

    run_virtual(main())


@pytest.mark.parametrize("after", [0.5, 1.5, 10])
def test_fail_from_outside_kills_and_comes_out_without_another_commit(after: float) -> None:
    async def main() -> None:
        ride, journal = journaled(tasks(3, estimate=100))
        going = ride.begin()
        await asyncio.sleep(after)
        commits = journal.commits
        ride.loop.fail(LeaseLost("taken over"))
        with pytest.raises(LeaseLost, match="taken over"):
            await going
        assert journal.commits == commits
        assert len(ride.order) == (0 if after < 1 else 3)
        assert ride.pool.active == 0

    run_virtual(main())


# --- cancellation and interrupts --------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0, 0.5, 1, 1.5, 2, 3.5, 11, 11.5, 12, 12.5])
def test_wherever_a_cancellation_arrives_the_run_is_paused_resumably(after: float) -> None:
    """Rounds take place at 0 (first commit), 11 (a's end) and at the cancellation."""

    async def main() -> None:
        ride, journal = journaled([TaskSpec("a", estimate=10), TaskSpec("b", ("a",), estimate=10)])
        going = ride.begin()
        await asyncio.sleep(after)
        going.cancel()
        with pytest.raises(asyncio.CancelledError):
            await going
        assert journal.canceled == 0, "no commit was left half-way"
        assert ride.scheduler.changes == [], "all of it was committed"
        assert ride.scheduler.status == "paused"
        assert "run.paused" in journal.committed
        assert ride.pool.active == 0
        assert ride.scheduler.graph.active == 0
        assert ride.states == {
            "a": "completed" if after >= 11 else "ready",
            "b": "ready" if after >= 11 else "pending",
        }
        ride.scheduler.resume(now())
        assert await ride.go() == "completed"
        assert ride.order.count("a") == (1 if after >= 11 or after < 1 else 2)

    run_virtual(main())


def test_a_cancellation_while_the_run_ends_waits_for_its_end() -> None:
    async def main() -> None:
        ride, journal = journaled([TaskSpec("a", estimate=1)])
        going = ride.begin()
        await asyncio.sleep(2.5)  # in the last commit
        assert journal.commits == 2
        going.cancel()
        with pytest.raises(asyncio.CancelledError):
            await going
        assert ride.scheduler.status == "completed"
        assert journal.committed[-1] == "run.completed"

    run_virtual(main())


def test_a_second_cancellation_kills_at_once() -> None:
    async def main() -> None:
        forced: list[float] = []

        async def slow_to_stop(_: SubAgent) -> None:
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                try:
                    await asyncio.sleep(4)
                except asyncio.CancelledError:
                    forced.append(now())
                    raise

        ride = Ride(tasks(2), slow_to_stop)
        going = ride.begin()
        await asyncio.sleep(10)
        going.cancel()
        await asyncio.sleep(1)
        assert not going.done()
        assert forced == []
        going.cancel()
        with pytest.raises(asyncio.CancelledError):
            await going
        assert forced == [11, 11]
        assert now() == 11
        assert ride.scheduler.status == "paused"
        assert set(ride.states.values()) == {"ready"}

    run_virtual(main())


def test_a_second_cancellation_in_the_very_commit_of_what_starts() -> None:
    async def main() -> None:
        ride, journal = journaled(tasks(2, estimate=10))
        going = ride.begin()
        await asyncio.sleep(0.5)
        going.cancel()
        await settle()
        going.cancel()
        with pytest.raises(asyncio.CancelledError):
            await going
        assert ride.order == [], "killed between admission and launch"
        assert [outcome for _, _, outcome in ride.outcomes] == [Canceled("killed")] * 2
        assert ride.scheduler.status == "paused"
        assert set(ride.states.values()) == {"ready"}
        assert (ride.pool.active, journal.canceled, ride.scheduler.changes) == (0, 0, [])

    run_virtual(main())


def test_interrupt_pauses_and_returns_and_a_second_one_kills() -> None:
    async def main() -> None:
        async def stubborn(_: SubAgent) -> None:
            while now() < 100:
                try:
                    await asyncio.sleep(100 - now())
                except asyncio.CancelledError:
                    continue

        ride = Ride(tasks(2), stubborn)
        going = ride.begin()
        await asyncio.sleep(10)
        ride.loop.interrupt()
        await asyncio.sleep(1)
        ride.loop.interrupt()
        assert await going == "paused"
        assert now() == 11 + AFTER_FORCE
        assert ride.pool.active == 2, "they can't be stopped, and keep their places"
        await asyncio.sleep(100)
        assert ride.pool.active == 0

    run_virtual(main())


def test_a_run_that_was_resumed_while_it_stopped_goes_on_and_can_be_interrupted_again() -> None:
    async def main() -> None:
        async def slow_to_stop(_: SubAgent) -> None:
            try:
                await asyncio.sleep(20)
            except asyncio.CancelledError:
                await asyncio.sleep(3)
                raise

        ride, _ = journaled(tasks(2), seconds=0.1, work=slow_to_stop)
        going = ride.begin()
        await asyncio.sleep(10)
        ride.loop.interrupt()
        await asyncio.sleep(1)
        assert await ride.steer("resume") is None
        await asyncio.sleep(9)
        assert len(ride.started) == 4, "stopped, and begun again"
        ride.loop.interrupt()
        assert await going == "paused"
        assert 22 < now() < 25, "asked, not killed"
        assert set(ride.states.values()) == {"ready"}
        ride.scheduler.resume(now())
        assert await ride.go() == "completed"
        assert [node.retries for node in ride.scheduler.graph] == [0, 0]
        assert ride.scheduler.changes == []

    run_virtual(main())


def test_an_interrupt_of_a_run_that_is_being_canceled_kills_the_second_time() -> None:
    async def main() -> None:
        async def slow_to_stop(_: SubAgent) -> None:
            try:
                await asyncio.sleep(1000)
            finally:
                await asyncio.sleep(4)

        ride = Ride(tasks(2), slow_to_stop)
        going = ride.begin()
        await asyncio.sleep(10)
        assert await ride.steer("cancel") is None
        await asyncio.sleep(1)
        ride.loop.interrupt()
        await asyncio.sleep(1)
        assert not going.done()
        ride.loop.interrupt()
        assert await going == "canceled"
        assert now() == 12

    run_virtual(main())


def test_an_interrupt_of_a_run_that_was_ending_and_goes_on_does_not_make_the_next_one_kill() -> None:
    async def main() -> None:
        async def work(sub_agent: SubAgent) -> None:
            if sub_agent.request.number == 1:
                await asyncio.sleep(2)
                raise TaskError("no luck")
            await asyncio.sleep(1000)

        ride, _ = journaled(tasks(1), work=work)
        going = ride.begin()
        await until(lambda: ride.scheduler.status is RunState.FAILED)
        ride.loop.interrupt()
        retried = ride.steer("retry")
        assert await retried is None
        await until(lambda: len(ride.started) == 2)
        ride.loop.interrupt()
        assert await going == "paused"
        assert ride.outcomes[-1][2] == Canceled("interrupt")
        assert [node.retries for node in ride.scheduler.graph] == [0]

    run_virtual(main())


def test_an_interrupt_while_an_error_stops_the_rest_kills() -> None:
    async def main() -> None:
        async def slow_to_stop(sub_agent: SubAgent) -> None:
            if sub_agent.request.task == "t0":
                return
            try:
                await asyncio.sleep(1000)
            finally:
                await asyncio.sleep(4)

        ride, journal = journaled(tasks(2), work=slow_to_stop)
        journal.fail_at = {2: StoreError("the disk is full")}
        going = ride.begin()
        await asyncio.sleep(3)
        assert not going.done()
        going.cancel()
        with pytest.raises(StoreError):
            await going
        assert now() == 3

    run_virtual(main())


def test_a_timeout_around_the_run_pauses_it() -> None:
    async def main() -> None:
        ride = Ride(tasks(2, estimate=100))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await ride.go()
        assert now() == 5
        assert ride.count(READY) == 2
        ride.scheduler.resume(now())
        assert await ride.go() == "completed"

    run_virtual(main())


def test_interrupt_ends_the_wait_for_a_person() -> None:
    async def main() -> None:
        ride = Ride([TaskSpec("a", approval=True)], wait_for_person=True)
        going = ride.begin()
        await asyncio.sleep(100)
        assert not going.done()
        ride.loop.interrupt()
        assert await going == "paused"

    run_virtual(main())


def test_an_event_loop_that_is_torn_down_records_no_failures() -> None:
    rides: list[Ride] = []
    going: list[asyncio.Task[str]] = []

    async def main() -> None:
        ride = Ride(tasks(2, estimate=100))
        rides.append(ride)
        going.append(ride.begin())
        await asyncio.sleep(1)

    run_virtual(main())  # cancels every task at once
    assert going[0].cancelled()
    states = set(rides[0].states.values())
    assert states <= {"ready", "running", "canceling"}
    assert rides[0].pool.active == 0


# --- last words -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["pause", "resume", "cancel", "retry"])
def test_a_command_that_arrives_during_the_last_commit_is_answered(command: str) -> None:
    async def main() -> None:
        ride, journal = journaled([TaskSpec("a", estimate=1)])
        going = ride.begin()
        await asyncio.sleep(2.5)
        answer = ride.steer(command)
        assert await going == "completed"
        assert answer.done()
        assert "has ended" in str(answer.result()) or "has completed" in str(answer.result())
        assert journal.commits == 3, "the refusal is committed too"
        late = ride.steer(command)
        assert late.result() == "the run has ended (completed)"

    run_virtual(main())


def test_a_retry_that_arrives_during_the_last_commit_is_carried_out() -> None:
    async def main() -> None:
        bad = True

        async def work(_: SubAgent) -> None:
            if bad:
                raise TaskError("no luck")

        ride, _ = journaled([TaskSpec("a")], work=work)
        going = ride.begin()
        await asyncio.sleep(1.5)
        bad = False
        assert await ride.steer("retry") is None
        assert await going == "completed"

    run_virtual(main())


def test_a_decision_that_arrives_while_it_pauses_goes_on() -> None:
    async def main() -> None:
        ride, _ = journaled([TaskSpec("a", approval=True), TaskSpec("b")])
        going = ride.begin()
        await asyncio.sleep(1.5)
        assert await ride.steer("approve", "a") is None
        assert await going == "completed"

    run_virtual(main())


def test_an_interrupt_that_arrives_while_it_pauses_ends_it_all_the_same() -> None:
    async def main() -> None:
        ride, journal = journaled([TaskSpec("a", approval=True)])
        going = ride.begin()
        await asyncio.sleep(0.5)
        ride.loop.interrupt()
        assert await going == "paused"
        assert ride.scheduler.changes == []
        assert journal.committed[-1] == "run.paused"

    run_virtual(main())


def test_commands_are_answered_when_an_error_ends_the_run() -> None:
    async def main() -> None:
        ride, journal = journaled(tasks(1, estimate=10))
        journal.fail_at = {1: StoreError("the disk is full")}
        going = ride.begin()
        await asyncio.sleep(0.5)
        answers = [ride.steer("pause"), ride.steer("cancel")]
        with pytest.raises(StoreError):
            await going
        assert [answer.result() for answer in answers] == [
            "the run stopped because of an error: the disk is full"
        ] * 2

    run_virtual(main())


def test_what_is_steered_before_the_run_waits_for_it() -> None:
    async def main() -> None:
        ride = Ride(tasks(1))
        answer = ride.steer("cancel")
        assert await ride.go() == "canceled"
        assert answer.result() is None
        assert ride.order == []

    run_virtual(main())


# --- bugs -------------------------------------------------------------------------------------------------


class Broken(DagScheduler):
    """Breaks when it is asked for the third batch, or in the middle of it."""

    in_the_middle = False

    def tick(self, now: float) -> Any:
        batch = super().tick(now)
        return batch if self.statistics.ticks < 2 else self._break(batch)

    def _break(self, batch: Any) -> Any:
        if not self.in_the_middle:
            raise InvariantBroken("this is a bug")
        for action in batch:
            yield action
            raise InvariantBroken("this is a bug")

    def command(self, kind: str, task: str | None, now: float) -> None:
        if kind == "break":
            raise BugError("this is a bug, too")
        super().command(kind, task, now)


@pytest.mark.parametrize("in_the_middle", [True, False])
def test_a_bug_of_the_scheduler_stops_everything_and_comes_out(in_the_middle: bool) -> None:
    async def main() -> None:
        specs = [TaskSpec("a", estimate=1), TaskSpec("b", estimate=100), TaskSpec("c", ("a",), estimate=1)]
        ride = Ride(specs)
        ride.scheduler.__class__ = Broken
        ride.scheduler.in_the_middle = in_the_middle  # type: ignore[attr-defined]
        with pytest.raises(InvariantBroken, match="this is a bug"):
            await ride.go()
        assert now() == 1
        assert sorted(ride.order) == ["a", "b"]
        assert (ride.pool.active, ride.pool._sub_agents) == (0, {})
        assert isinstance(ride.outcomes[-1][2], Canceled)

    run_virtual(main())


def test_a_bug_in_a_command_answers_it_and_what_waits_behind_it() -> None:
    async def main() -> None:
        ride = Ride(tasks(1, estimate=100))
        ride.scheduler.__class__ = Broken
        going = ride.begin()
        await settle()
        answers = [ride.steer("break"), ride.steer("pause")]
        with pytest.raises(BugError, match="a bug, too"):
            await going
        assert [answer.result() for answer in answers] == [
            "the run stopped because of an error: this is a bug, too"
        ] * 2
        assert ride.pool.active == 0

    run_virtual(main())


def test_a_bug_of_the_pool_is_no_failure_of_a_task() -> None:
    class Pool(CountingPool):
        def spawn(self, request: SpawnRequest) -> str:
            if request.task == "t1":
                raise BugError("this is a bug")
            return super().spawn(request)

    async def main() -> None:
        ride = Ride(tasks(3, estimate=10), pool=Pool(5))
        with pytest.raises(BugError):
            await ride.go()
        assert (ride.order, ride.pool.active) == ([], 0)

    run_virtual(main())


@pytest.mark.parametrize("what", ["on_outcome", "redact"])
def test_an_error_of_what_looks_at_outcomes_comes_out(what: str) -> None:
    async def main() -> None:
        def broken(*_: Any) -> str:
            raise ValueError("can't look at it")

        async def fails(_: SubAgent) -> None:
            await asyncio.sleep(1)
            raise TaskError("no luck")

        ride = Ride([TaskSpec("a"), TaskSpec("b", estimate=100)], fails)
        setattr(ride.loop, f"_{what}", broken)
        with pytest.raises(ValueError, match="can't look at it"):
            await ride.go()
        assert ride.pool.active == 0

    run_virtual(main())


# --- secrets ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (TaskError("key hunter2 is wrong", {"code": 1}), Failed("key *** is wrong", False, {"code": 1})),
        (ValueError("hunter2"), Failed("ValueError: ***")),
        (TransientError("429 for hunter2", 5), Deferred("429 for ***", 5)),
        (LostError("hunter2 gone"), Lost("*** gone")),
    ],
)
def test_secrets_are_blanked_before_anybody_sees_them(error: Exception, outcome: Outcome) -> None:
    async def main() -> None:
        async def work(sub_agent: SubAgent) -> str:
            if sub_agent.request.number == 1:
                raise error
            return "hunter2 is left alone in values"

        ride = Ride(
            [TaskSpec("a", max_retries=1)],
            work,
            scheduler={"record": True},
            redact=lambda text: text.replace("hunter2", "***"),
        )
        assert await ride.go() == "completed"
        assert [told for _, _, told in ride.outcomes] == [
            outcome,
            Completed("hunter2 is left alone in values"),
        ]
        assert "hunter2" not in repr(ride.scheduler.changes) + repr(ride.scheduler.inputs)

    run_virtual(main())


def test_reasons_of_cancellations_are_blanked_too() -> None:
    async def main() -> None:
        ride = Ride(tasks(1, estimate=100), redact=lambda text: text.replace("over", "***"))
        going = ride.begin()
        await asyncio.sleep(1)
        await ride.pool.stop()
        await settle()
        assert ride.outcomes[0][2] == Canceled("the run is ***")
        assert await going == "failed"

    run_virtual(main())


# --- outcomes ---------------------------------------------------------------------------------------------


def test_on_outcome_is_told_task_handle_and_outcome_before_the_scheduler() -> None:
    async def main() -> None:
        ride = Ride([TaskSpec("a"), TaskSpec("b", inline=True, failure_strategy=FailureStrategy.SKIP)])
        states: list[str] = []
        told: list[tuple[str, str, Outcome]] = []

        def on_outcome(task: str, handle: str, outcome: Outcome) -> None:
            states.append(ride.states[task])
            told.append((task, handle, outcome))

        ride.loop._on_outcome = on_outcome
        assert await ride.go() == "completed"
        handles = {node.id: node.handle for node in ride.scheduler.graph}
        assert sorted(told) == [("a", handles["a"], Completed()), ("b", handles["b"], Completed())]
        assert states == ["running", "running"]
        assert ride.count(COMPLETED) == 2
        assert not ride.loop._where

    run_virtual(main())
