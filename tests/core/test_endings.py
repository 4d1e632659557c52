"""How a run ends: completed, canceled, deadlocked, or waiting for a person; and what is no deadlock."""

from __future__ import annotations

import pytest
from tests.core.play import SILENT, Play, full, task

from allready.core.actions import Cancel, Done, Spawn
from allready.core.events import Canceled, Completed, Deferred, Failed, Lost, Outcome
from allready.core.graph import TaskGraph
from allready.core.scheduler import DagScheduler
from allready.core.snapshot import TaskRecord, restore
from allready.core.states import RunState
from allready.errors import CommandRefused

COMPLETED = Done(RunState.COMPLETED)


def test_a_run_completes_with_the_last_task() -> None:
    play = Play(task("a"), task("b", "a"))
    assert play.tick(1) == [Spawn("a")]
    play.complete("a", at=2)
    assert play.tick(2) == [Spawn("b")]
    play.complete("b", at=3)
    assert play.tick(4) == [COMPLETED]
    assert play.told() == [
        "run.started", "task.ready a", "task.started a.1", "task.completed a.1", "task.ready b",
        "task.started b.1", "task.completed b.1", "run.completed",
    ]  # fmt: skip
    assert (play.status, play.scheduler.started_at, play.scheduler.finished_at) == ("completed", 1, 4)
    assert play.scheduler.next_wakeup() is None
    assert play.tick(5) == []


def test_nothing_to_do_is_done_at_once() -> None:
    assert Play().tick(0) == [COMPLETED]


def test_what_is_told_of_an_attempt() -> None:
    play = Play(task("a", agent="coder"))
    play.tick(1)
    play.complete("a", at=3.5)
    assert play.data("task.started", "a") == [{"number": 1, "agent": "coder"}]
    assert play.data("task.completed", "a") == [{"duration_ms": 2500}]


def test_without_recording_nothing_is_gathered() -> None:
    scheduler = DagScheduler(
        TaskGraph([task("a"), task("b", strategy="skip"), task("c")], open=True), timeout=9
    )
    batch = scheduler.tick(0)
    next(batch)
    scheduler.record_spawn("a", "a.1", 0)
    next(batch)
    scheduler.record_spawn_failure("b", full(), 0)
    scheduler.record_batch_backoff(True, True)
    scheduler.add_tasks([task("d", strategy="skip")], 0)
    next(scheduler.tick(0))
    scheduler.record_spawn_failure("b", OSError("no such program"), 0)
    scheduler.close(0)
    scheduler.recover(0)
    scheduler.pause(0)
    scheduler.cancel_all(1)
    assert list(scheduler.tick(1)) == [Done(RunState.CANCELED, "canceled by a person")]
    assert scheduler.changes is scheduler.inputs is None


# --- deadlocks, and what is none ---------------------------------------------------------------------------


def deadlocked(count: int = 1) -> Play:
    """A graph that can't go on: tasks behind one that was canceled, as only a damaged record can say."""
    play = Play(task("gone"), *(task(f"t{n}", "gone") for n in range(count)))
    restore(play.scheduler, "running", [TaskRecord("gone", "canceled", finished_at=1.0)], {"started_at": 0.0})
    return play


def test_deadlock_fails_the_run_and_names_the_stuck_tasks_and_what_each_waits_for() -> None:
    play = deadlocked(count=2)
    reason = (
        "deadlock: nothing runs and nothing can start: t0 waits for gone (canceled); "
        "t1 waits for gone (canceled)"
    )
    assert play.tick(2) == [Done(RunState.FAILED, reason)]
    assert play.scheduler.error == reason
    assert play.states == {"gone": "canceled", "t0": "canceled", "t1": "canceled"}
    assert play["t0"].error == "the graph can't go on"


def test_deadlock_of_many_names_some_and_counts_the_rest() -> None:
    done = deadlocked(count=25).tick(2)[0]
    assert isinstance(done, Done)
    assert str(done.reason).endswith("t9 waits for gone (canceled); and 15 more")


def test_deadlock_can_be_retried_by_a_person() -> None:
    play = deadlocked()
    play.tick(2)
    play.command("retry")
    assert play.tick(3) == [Spawn("gone")]


@pytest.mark.parametrize("scope", ["pool", "resource:gpu", "budget"])
def test_no_deadlock_while_all_ready_tasks_are_refused(scope: str) -> None:
    play = Play(task("a"), task("b", "a"))
    for now in range(50):
        assert play.tick(now, {"a": full(scope)}) == [Spawn("a")]
    assert play.status == "running"
    play.tick(50)
    play.complete("a")
    assert play.tick(51) == [Spawn("b")]


def test_transient_refusal_beside_stuck_tasks_is_judged_only_when_it_has_ended() -> None:
    play = Play(task("gone"), task("stuck", "gone"), task("a"))
    records = [TaskRecord("gone", "canceled", finished_at=1.0), TaskRecord("a", "ready")]
    restore(play.scheduler, "running", records, {})
    assert play.tick(2, {"a": full()}) == [Spawn("a")]
    assert play.tick(3) == [Spawn("a")]
    assert play.tick(4) == []
    play.complete("a", at=5)
    done = play.tick(5)
    assert done == [
        Done(
            RunState.FAILED,
            "deadlock: nothing runs and nothing can start: stuck waits for gone (canceled)",
        )
    ]


def test_no_deadlock_while_the_graph_is_open() -> None:
    play = Play(task("gone"), task("stuck", "gone"), open=True)
    restore(play.scheduler, "running", [TaskRecord("gone", "canceled", finished_at=1.0)], {"open": True})
    assert play.tick(2) == []
    assert play.scheduler.next_wakeup() is None
    play.scheduler.close(3)
    assert play.scheduler.next_wakeup() is not None
    assert [type(action) for action in play.tick(3)] == [Done]
    assert play.status == "failed"


@pytest.mark.parametrize("outcome", [Failed("broken"), Deferred("overloaded"), Lost("gone")])
def test_no_deadlock_while_a_retry_or_a_deferred_task_waits(outcome: Outcome) -> None:
    play = Play(task("a", max_retries=1), task("b", "a"))
    play.tick(0)
    play.tell(outcome, "a", at=1)
    assert play.tick(1) == []
    assert play.status == "running"


def test_no_deadlock_while_an_approval_or_a_decision_is_awaited() -> None:
    play = Play(task("a", approval=True), task("b", "a"), task("c", strategy="ask"), task("d", "c"))
    play.tick(0)
    play.fail("c", at=1)
    reason = "waits for approval of a and a decision on failed c"
    assert play.tick(1) == [Done(RunState.PAUSED, reason)]
    assert play.data("run.paused") == [{"reason": reason}]


def test_no_deadlock_while_something_is_canceling_or_inline() -> None:
    play = Play(task("a", timeout=5, strategy="skip"), task("b", "a", run_if="all_done"))
    play.tick(0)
    play.tick(5)
    assert play.tick(6) == []
    assert play.status == "running"
    play = Play(task("a", inline=True), task("b", "a"))
    play.tick(0)
    assert play.tick(1) == []
    assert play.status == "running"


# --- cancel ------------------------------------------------------------------------------------------------


def test_cancel_all_at_every_state() -> None:
    play = Play(
        task("completed"), task("failed", strategy="skip"), task("skipped", "failed"), task("running"),
        task("canceling", timeout=1), task("awaiting", approval=True), task("pending", "running"),
        task("asking", strategy="ask"), task("retrying", max_retries=1), task("ready", priority=-1),
    )  # fmt: skip
    refuse_ready = {"ready": full()}
    play.tick(0, refuse_ready)
    play.complete("completed")
    play.fail("failed", "asking", "retrying")
    play.tick(1, {**refuse_ready, "retrying": full()})
    play.told()
    play.scheduler.cancel_all(2)
    assert play.states == {
        "completed": "completed", "failed": "failed", "skipped": "skipped", "running": "canceling",
        "canceling": "canceling", "awaiting": "canceled", "pending": "canceled", "asking": "failed",
        "retrying": "canceled", "ready": "canceled",
    }  # fmt: skip
    assert play.told() == [
        "run.ending", "task.canceling running.1", "task.canceling canceling.1", "task.canceled awaiting",
        "task.canceled pending",
        "task.failed asking.1", "task.canceled retrying", "task.canceled ready",
    ]  # fmt: skip
    assert play.scheduler.asking == 0
    assert play.tick(2) == [Cancel("running", "running.1", "canceled")]
    play.stop("running", "canceling", at=3)
    assert play.states["running"] == play.states["canceling"] == "canceled"
    assert play.tick(3) == [Done(RunState.CANCELED, "canceled by a person")]
    assert play.scheduler.waits_for_person() == ""


def test_cancel_all_before_the_run_has_begun() -> None:
    play = Play(task("a"), task("b", "a"))
    play.scheduler.cancel_all(0)
    assert play.tick(0) == [Done(RunState.CANCELED, "canceled by a person")]
    assert play.states == {"a": "canceled", "b": "canceled"}


@pytest.mark.parametrize(
    "outcome", [Canceled("ok"), Lost("killed"), Failed("signal 15"), Deferred("overloaded")]
)
def test_what_was_canceled_ends_canceled_whatever_it_says(outcome: Outcome) -> None:
    play = Play(task("a", max_retries=3, idempotent=False))
    play.tick(0)
    play.scheduler.cancel_all(1)
    play.tell(outcome, "a", at=2)
    assert play.states == {"a": "canceled"}
    assert play.data("task.canceled", "a") == [{"duration_ms": 2000, "error": "canceled"}]


def test_what_was_canceled_may_still_complete() -> None:
    play = Play(task("a"), task("b", "a"))
    play.tick(0)
    play.scheduler.cancel_all(1)
    play.complete("a", at=2)
    assert play.states == {"a": "completed", "b": "canceled"}
    assert play.tick(2) == [Done(RunState.CANCELED, "canceled by a person")]  # it need not be asked any more


def test_cancel_within_a_batch_ends_it() -> None:
    play = Play(task("a"), task("b"))
    batch = play.scheduler.tick(0)
    next(batch)
    play.scheduler.record_spawn("a", "a.1", 0)
    play.scheduler.cancel_all(0)
    assert list(batch) == []
    assert play.tick(0) == [Cancel("a", "a.1", "canceled")]


# --- pause, resume, interrupt ------------------------------------------------------------------------------


def test_pause_lets_what_runs_end_and_starts_nothing_new() -> None:
    play = Play(task("a"), task("b", "a"), task("c", priority=-1))
    play.tick(0, {"c": full()})
    play.scheduler.pause(1)
    assert play.tick(1) == []
    play.complete("a", at=2)
    assert play.tick(2) == []
    assert play.states == {"a": "completed", "b": "ready", "c": "ready"}
    play.scheduler.resume(3)
    assert play.tick(3) == [Spawn("b"), Spawn("c")]


def test_a_paused_run_whose_last_task_ends_has_completed() -> None:
    play = Play(task("a"))
    play.tick(0)
    play.scheduler.pause(1)
    play.complete("a", at=2)
    assert play.tick(2) == [COMPLETED]
    assert play.scheduler.pause_reason is None


def test_pause_before_the_run_has_begun() -> None:
    play = Play(task("a"))
    play.scheduler.pause(0)
    assert play.tick(0) == []
    play.scheduler.resume(1)
    assert play.tick(1) == [Spawn("a")]


def test_the_deadline_of_the_run_moves_by_the_pause_that_of_an_attempt_does_not() -> None:
    play = Play(task("a", timeout=50), timeout=100)
    play.tick(0)
    play.scheduler.pause(10)
    assert play.tick(200) == [Cancel("a", "a.1", "timeout")]
    play.complete("a", at=200)
    play = Play(task("a", timeout=None), timeout=100)
    play.tick(0)
    play.scheduler.pause(10)
    assert play.tick(200) == []
    assert play.scheduler.next_wakeup() is None
    play.scheduler.resume(210)
    assert play.tick(210) == []
    assert play.scheduler.next_wakeup() == 300
    assert play.tick(300) == [Cancel("a", "a.1", "run timeout")]


def test_a_failure_under_abort_ends_a_paused_run() -> None:
    play = Play(task("a"))
    play.tick(0)
    play.scheduler.pause(1)
    play.fail("a", at=2)
    assert play.tick(2) == [Done(RunState.FAILED, "task 'a' failed: broken")]


def test_retries_wait_for_the_end_of_the_pause() -> None:
    play = Play(task("a", max_retries=1))
    play.tick(0)
    play.scheduler.pause(0)
    play.fail("a", at=1)
    assert play.tick(1) == []
    assert play.scheduler.next_wakeup() is None
    assert play.tick(9) == []
    play.scheduler.resume(10)
    assert play.tick(10) == [Spawn("a", None, 2)]


def test_interrupt_stops_what_runs_and_after_resume_it_is_made_again() -> None:
    play = Play(task("a"), task("b"), task("c", "b"))
    play.tick(0)
    play.scheduler.interrupt(1)
    assert play.tick(1) == [Cancel("a", "a.1", "interrupt"), Cancel("b", "b.1", "interrupt")]
    play.stop("a", at=2)
    play.complete("b", at=2)
    assert play.tick(2) == [Done(RunState.PAUSED, "interrupted")]
    assert play.states == {"a": "ready", "b": "completed", "c": "ready"}
    play.scheduler.resume(3)
    assert play.tick(3) == [Spawn("a", None, 2), Spawn("c")]


def test_a_limit_lets_what_runs_end_and_then_leaves_the_run_paused() -> None:
    play = Play(task("a"), task("b"))
    assert play.tick(0, {"b": full("budget")}) == [Spawn("a"), Spawn("b")]
    play.command("limit", "max_tokens: 10 of 10 used", 1)
    assert play.data("run.paused") == [{"reason": "max_tokens: 10 of 10 used"}]
    assert play.tick(1) == []
    play.complete("a", at=2)
    assert play.tick(2) == [Done(RunState.PAUSED, "a limit of the run is reached")]
    play.scheduler.resume(3)
    assert play.tick(3) == [Spawn("b")]


def test_a_limit_is_left_also_while_the_graph_is_open() -> None:
    play = Play(task("a"), open=True)
    play.command("limit", "too much", 0)
    assert play.tick(0) == [Done(RunState.PAUSED, "a limit of the run is reached")]
    play = play.crash()
    assert play.tick(1) == [Done(RunState.PAUSED, "a limit of the run is reached")]


def test_fail_ends_the_run_with_its_reason_also_before_it_began() -> None:
    play = Play(task("a"), task("b", "a"), open=True)
    play.tick(0)
    play.command("fail", "planning failed", 1)
    assert play.tick(1) == [Cancel("a", "a.1", "abort")]
    play.stop("a", at=2)
    assert play.tick(2) == [Done(RunState.FAILED, "planning failed")]
    fresh = Play(open=True)
    fresh.command("fail", "planning failed", 0)
    assert fresh.tick(0) == [Done(RunState.FAILED, "planning failed")]
    with pytest.raises(CommandRefused, match="the run has ended"):
        fresh.command("fail", "once more", 1)


def test_what_is_put_off_is_told() -> None:
    play = Play(task("a", max_retries=1), task("b"), task("c"))
    play.tick(0)
    play.fail("a", at=1)
    play.tell(Deferred("busy", 5.0), "b", at=1)
    assert [node.id for node in play.scheduler.put_off()] == ["a", "b"]
    play.tick(9)
    assert list(play.scheduler.put_off()) == []


@pytest.mark.parametrize("strategy", ["abort", "retry", "skip", "ask"])
def test_a_fatal_failure_ends_the_run_under_every_strategy(strategy: str) -> None:
    play = Play(task("a", strategy=strategy, max_retries=3), task("b"))
    play.tick(0)
    play.tell(Failed("wrong key", permanent=True, fatal=True), "a", at=1)
    assert play.tick(1) == [Cancel("b", "b.1", "abort")]
    play.stop("b", at=2)
    assert play.tick(2) == [Done(RunState.FAILED, "task 'a' failed: wrong key")]
    play.replay().finish()


def test_what_begins_long_after_its_tick_has_its_whole_time_from_then_on() -> None:
    play = Play(task("early", timeout=100), task("timed", timeout=5), task("endless", timeout=None))
    play.tick(0, {"timed": SILENT, "endless": SILENT})
    assert play.tick(1) == [Spawn("timed"), Spawn("endless")]
    play.scheduler.began_late(["timed.1", "endless.1"], 20)
    assert play.tick(20) == []
    assert play.scheduler.next_wakeup() == 25
    assert play.tick(24) == []
    assert play.tick(25) == [Cancel("timed", "timed.1", "timeout")]
    assert play["early"].started_at == 0
    play.complete("endless", at=27)
    assert play["endless"].duration == 7
    assert play.replay().scheduler.graph["endless"].duration == 7


def test_what_begins_late_in_a_run_that_keeps_no_record() -> None:
    scheduler = DagScheduler(TaskGraph([task("a", timeout=5)]))
    for action in scheduler.tick(1):
        assert action == Spawn("a")
        scheduler.record_spawn("a", "a.1", 1)
    scheduler.began_late(["a.1"], 10)
    assert list(scheduler.tick(14)) == []
    assert list(scheduler.tick(15)) == [Cancel("a", "a.1", "timeout")]


def test_interrupt_puts_what_is_not_idempotent_to_a_person() -> None:
    play = Play(task("a", idempotent=False))
    play.tick(0)
    play.scheduler.interrupt(1)
    play.stop("a", at=2)
    assert play.states == {"a": "failed"}
    assert play["a"].asking
    play.tick(2)
    play.scheduler.resume(3)
    assert play.tick(3) == [Done(RunState.PAUSED, "waits for a decision on failed a")]


def test_interrupt_of_a_paused_run_stops_what_still_runs() -> None:
    play = Play(task("a"), task("b", timeout=1, max_retries=1))
    play.tick(0)
    play.tick(1)
    play.scheduler.pause(1)
    play.scheduler.interrupt(2)
    assert play.data("run.paused") == [{"reason": "by a person"}, {"reason": "interrupted"}]
    assert play.tick(2) == [Cancel("a", "a.1", "interrupt")]
    play.stop("a", "b", at=3)  # b was out of time already
    assert play["b"].retries == 1
    assert play.tick(3) == [Done(RunState.PAUSED, "interrupted")]
    play.scheduler.pause(4)
    assert play.tick(4) == []


def test_an_interrupted_run_that_has_nothing_left_to_do_has_completed() -> None:
    play = Play(task("a"))
    play.tick(0)
    play.scheduler.interrupt(1)
    play.complete("a", at=2)
    assert play.tick(2) == [COMPLETED]


def test_cancel_of_an_interrupted_run_ends_it() -> None:
    play = Play(task("a"), task("b"))
    play.tick(0)
    play.scheduler.interrupt(1)
    play.told()
    play.scheduler.cancel_all(2)
    assert play.told() == ["run.ending", "task.canceling a.1", "task.canceling b.1"]  # for other reasons now
    play.stop("a", "b", at=3)
    assert play.tick(3) == [Done(RunState.CANCELED, "canceled by a person")]
    assert play.states == {"a": "canceled", "b": "canceled"}


def test_attempts_that_stop_late_after_a_resume_are_made_again() -> None:
    play = Play(task("a"))
    play.tick(0)
    play.scheduler.interrupt(1)
    play.tick(1)
    play.scheduler.resume(2)
    assert play.tick(2) == []
    play.tell(Completed(), "a", handle="a.0")
    play.stop("a", at=3)
    assert play.tick(3) == [Spawn("a", None, 2)]


# --- when to look again ------------------------------------------------------------------------------------


def test_next_wakeup_is_the_nearest_of_deadlines_retries_and_backoff() -> None:
    play = Play(
        task("a", timeout=50), task("b", timeout=40), task("c", max_retries=1), task("d", priority=-1),
        timeout=60,
    )  # fmt: skip
    assert play.scheduler.next_wakeup() == 0
    play.tick(0)
    assert play.scheduler.next_wakeup() == 40
    play.complete("b", "d", at=1)
    play.tick(1)
    assert play.scheduler.next_wakeup() == 50
    play.fail("c", at=2)
    play.tick(2)
    retry_due = play["c"].not_before
    assert play.scheduler.next_wakeup() == retry_due
    play.complete("a", at=20)
    play.tick(20)
    play.complete("c", at=21)
    assert play.tick(21) == [COMPLETED]
    assert play.scheduler.next_wakeup() is None


def test_next_wakeup_after_a_refusal_is_the_end_of_the_backoff_which_wakes_once() -> None:
    play = Play(task("a", timeout=None), task("b", priority=-1), timeout=600)
    play.tick(0, {"b": full()})
    due = play.scheduler.next_wakeup()
    assert due is not None
    assert 0.2 < due < 0.3
    play.command("skip", "b")
    play.scheduler.tick(due).close()
    assert list(play.scheduler.tick(due)) == []  # a driver reports nothing on such a batch
    assert play.scheduler.next_wakeup() == 600


def test_next_wakeup_of_a_canceled_run_is_not_the_deadline_of_the_run() -> None:
    play = Play(task("a", timeout=None), timeout=60)
    play.tick(0)
    play.scheduler.cancel_all(1)
    play.tick(1)
    assert play.scheduler.next_wakeup() is None


def test_backoff_grows_with_each_batch_that_starts_nothing() -> None:
    play = Play(task("a"))
    delays = []
    for _ in range(8):
        play.tick(play.now, {"a": full()})
        due = play.scheduler.next_wakeup() or 0
        delays.append(due - play.now)
        play.now = due
    assert delays[:5] == sorted(delays[:5])
    assert 0.2 < delays[0] < 0.3
    assert all(4.25 <= delay <= 5.75 for delay in delays[5:])


def test_duration_of_a_task_is_that_of_its_last_attempt() -> None:
    play = Play(task("a", max_retries=1, timeout=None), task("b", approval=True), task("c"))
    durations = [play["a"].duration]
    play.tick(0)
    durations.append(play["a"].duration)
    play.fail("a", at=1)
    play.tick(10)
    play.complete("a", at=12.5)
    play.scheduler.skip("b", 13)
    assert [*durations, play["a"].duration, play["b"].duration] == [None, None, 2.5, None]
