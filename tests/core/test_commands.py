"""What a person may tell a run, and what is refused with a word on why."""

from __future__ import annotations

import pytest
from tests.core.play import Play, full, task

from allready.core.actions import Cancel, Done, Spawn
from allready.core.states import RunState
from allready.core.steering import BY_PERSON, for_people
from allready.errors import CommandRefused

COMPLETED = Done(RunState.COMPLETED)


def refused(play: Play, kind: str, name: str | None = None) -> str:
    """Give why a command is refused, after a look at whether it changed nothing."""
    before = play.states, play.status, len(play.scheduler.inputs or []), len(play.scheduler.changes or [])
    with pytest.raises(CommandRefused) as refusal:
        play.command(kind, name)
    after = play.states, play.status, len(play.scheduler.inputs or []), len(play.scheduler.changes or [])
    assert after == before
    return str(refusal.value)


def test_what_only_a_driver_says_is_no_command_of_a_person() -> None:
    for kind in ("limit", "fail"):
        with pytest.raises(CommandRefused, match=f"there is no command '{kind}'"):
            for_people(kind)
    for_people("pause")


# --- approvals ---------------------------------------------------------------------------------------------


def test_approve_lets_a_task_go_that_held_only_its_own_branch() -> None:
    play = Play(task("a", approval=True), task("b", "a"), task("c"), task("d", "c"))
    assert play.tick(0) == [Spawn("c")]
    assert play.states["a"] == "awaiting_approval"
    play.complete("c", at=1)
    assert play.tick(1) == [Spawn("d")]
    play.scheduler.approve("a", 2)
    assert play.tick(2) == [Spawn("a")]


def test_approve_goes_on_when_the_run_waited_for_nothing_else() -> None:
    play = Play(task("a", approval=True))
    assert play.tick(0) == [Done(RunState.PAUSED, "waits for approval of a")]
    play.scheduler.approve("a", 5)
    assert play.status == "running"
    assert play.tick(5) == [Spawn("a")]
    assert play.told() == [
        "run.started", "task.awaiting_approval a", "run.paused", "task.ready a", "run.resumed",
        "task.started a.1",
    ]  # fmt: skip


def test_approve_ahead_of_its_turn() -> None:
    play = Play(task("a"), task("b", "a", approval=True))
    play.tick(0)
    play.scheduler.approve("b", 1)
    assert play.data("task.pending", "b") == [{"approved": True}]
    play.complete("a", at=2)
    assert play.tick(2) == [Spawn("b")]


def test_approve_of_a_run_that_a_person_paused_leaves_it_paused() -> None:
    play = Play(task("a", approval=True))
    play.scheduler.pause(0)
    play.scheduler.approve("a", 1)
    assert (play.status, play.states) == ("paused", {"a": "ready"})


def test_approve_refused() -> None:
    play = Play(task("a"), task("b", approval=True))
    play.tick(0)
    assert refused(play, "approve", "a") == "task 'a' needs no approval"
    play.scheduler.approve("b", 0)
    assert refused(play, "approve", "b") == "task 'b' does not wait for approval: it is ready"


# --- skip --------------------------------------------------------------------------------------------------


def test_skip_refuses_an_approval() -> None:
    play = Play(task("a", approval=True), task("b", "a"), task("c", "a", run_if="all_done"))
    play.tick(0)
    play.scheduler.skip("a", 1)
    assert play.states == {"a": "skipped", "b": "skipped", "c": "ready"}
    assert play["a"].error == BY_PERSON
    assert play.tick(1) == [Spawn("c")]


def test_skip_accepts_a_failure_under_ask() -> None:
    play = Play(task("a", strategy="ask"), task("b", "a"))
    play.tick(0)
    play.fail("a", at=1)
    play.tick(1)
    play.scheduler.skip("a", 2)
    assert play.states == {"a": "failed", "b": "skipped"}
    assert play.data("task.failed", "a")[-1] == {"error": "broken", "decision": "skip"}
    assert play.tick(2) == [COMPLETED]


@pytest.mark.parametrize("state", ["pending", "ready", "retrying"])
def test_skip_drops_what_has_not_begun(state: str) -> None:
    play = Play(task("ready"), task("retrying", max_retries=1, priority=1), task("pending", "ready"))
    play.tick(0, {"ready": full()})
    play.fail("retrying", at=0)
    play.scheduler.skip(state, 0)
    assert play.states[state] == "skipped"
    assert state not in str(play.tick(99, {"ready": full()}))


def test_skip_before_the_run_has_begun() -> None:
    play = Play(task("a"), task("b", "a", run_if="all_done"), task("c", "a"))
    play.scheduler.skip("a", 0)
    assert play.tick(0) == [Spawn("b")]
    assert play.states == {"a": "skipped", "b": "running", "c": "skipped"}


def test_skip_refused() -> None:
    play = Play(task("a"), task("b"), task("c", strategy="skip"))
    play.tick(0)
    play.complete("b")
    play.fail("c")
    for name, state in [("a", "running"), ("b", "completed"), ("c", "failed")]:
        said = refused(play, "skip", name)
        assert said == f"task {name!r} is {state}; only what has not begun can be skipped"
    play.scheduler.cancel_all(1)
    assert refused(play, "skip", "a") == "can't skip task 'a': the run is ending (canceled)"
    play.stop("a")
    play.tick(1)
    assert refused(play, "skip", "a") == "can't skip task 'a': the run has ended (canceled)"


# --- abort -------------------------------------------------------------------------------------------------


def test_abort_ends_the_run_with_the_failure_that_asked() -> None:
    play = Play(task("a", strategy="ask"), task("b"), task("c", strategy="ask"))
    play.tick(0)
    play.fail("a", "c")
    play.command("abort", "a", 1)
    assert play.tick(1) == [Cancel("b", "b.1", "abort")]
    play.stop("b")
    assert play.tick(2) == [Done(RunState.FAILED, "task 'a' failed: broken")]
    assert play.scheduler.asking == 0


def test_abort_of_a_run_that_only_waited_for_it() -> None:
    play = Play(task("a", strategy="ask"))
    play.tick(0)
    play.fail("a")
    play.tick(1)
    play.command("abort", "a", 2)
    assert play.tick(2) == [Done(RunState.FAILED, "task 'a' failed: broken")]


def test_abort_refused() -> None:
    play = Play(task("a"))
    play.tick(0)
    assert refused(play, "abort", "a") == "task 'a' does not wait for a decision: it is running"


# --- retry -------------------------------------------------------------------------------------------------


def test_retry_of_a_task_that_asks() -> None:
    play = Play(task("a", strategy="ask", max_retries=1), task("b", "a"))
    play.tick(0)
    play.fail("a", at=1)
    play.tick(3)
    play.fail("a", at=4)
    play.tick(4)
    play.scheduler.retry("a", 5)
    assert play.tick(5) == [Spawn("a", None, 3)]
    assert (play.scheduler.asking, play["a"].retries) == (0, 0)
    play.complete("a", at=6)
    assert play.tick(6) == [Spawn("b")]


def test_retry_of_a_failed_run_takes_all_that_failed_or_was_canceled() -> None:
    play = Play(task("a"), task("b", "a"), task("c"), task("d", strategy="skip"), task("e", "d"), timeout=100)
    play.tick(0)
    play.fail("d", at=0)
    play.fail("a", at=1)
    play.tick(1)
    play.complete("c", at=2)
    play.tick(2)
    assert play.states == {
        "a": "failed", "b": "canceled", "c": "completed", "d": "failed", "e": "skipped",
    }  # fmt: skip
    play.told()
    play.scheduler.retry(None, 50)
    assert play.told() == [
        "run.resumed", "task.ready a", "task.pending b", "task.ready d", "task.pending e",
    ]  # fmt: skip
    assert (play.status, play.scheduler.error, play.scheduler.finished_at) == ("running", None, None)
    assert play.tick(50) == [Spawn("a", None, 2), Spawn("d", None, 2)]
    assert play.scheduler.next_wakeup() == 150
    play.complete("a", "d", at=51)
    assert play.tick(51) == [Spawn("b"), Spawn("e")]
    play.complete("b", "e", at=52)
    assert play.tick(52) == [COMPLETED]


def test_retry_of_a_canceled_run_without_a_time_limit() -> None:
    play = Play(task("a"), task("b", "a"))
    play.tick(0)
    play.scheduler.cancel_all(1)
    play.stop("a")
    play.tick(1)
    play.scheduler.retry(None, 2)
    assert play.tick(2) == [Spawn("a", None, 2)]


def test_retry_of_a_canceled_run_in_which_all_had_completed_completes_it() -> None:
    play = Play(task("a"))
    play.tick(0)
    play.scheduler.cancel_all(1)
    play.complete("a")
    play.tick(1)
    play.scheduler.retry(None, 2)
    assert play.tick(2) == [COMPLETED]


def test_retry_of_one_task_of_an_ended_run_brings_along_what_the_end_canceled_and_what_failed_beside() -> (
    None
):
    play = Play(task("a"), task("b"), task("c", "b"), task("d", strategy="skip"))
    play.tick(0)
    play.fail("d", at=1)
    play.fail("a", at=1)
    play.fail("b", at=1)  # too late to be asked to stop
    play.tick(1)
    assert play.states == {"a": "failed", "b": "canceled", "c": "canceled", "d": "failed"}
    play.scheduler.retry("a", 2)
    assert play.tick(2) == [Spawn("b", None, 2), Spawn("a", None, 2)]
    play = Play(task("a"), task("b", timeout=1), task("c", "b"))
    play.tick(0)
    play.tick(1)
    play.stop("b", at=2)
    assert play.states == {"a": "canceling", "b": "failed", "c": "canceled"}
    play.stop("a", at=2)
    play.tick(2)
    play.scheduler.retry("a", 3)
    assert play.tick(3) == [Spawn("b", None, 2), Spawn("a", None, 2)]


def test_retry_does_not_skip_what_may_go_because_any_completed_for_what_is_skipped_again() -> None:
    any_of = task("any", "done", "left_out", run_if="any_completed", approval=True)
    left_out = task("left_out", "no", "stopped")
    play = Play(task("done"), task("no"), task("stopped"), left_out, any_of)
    play.command("skip", "no")
    play.tick(0)
    play.complete("done", at=1)
    play.command("cancel")
    play.tick()
    play.stop("stopped")
    assert play.tick() == [Done(RunState.CANCELED, "canceled by a person")]
    play.command("retry", now=2)
    assert play.states == {
        "done": "completed",
        "no": "skipped",
        "stopped": "ready",
        "left_out": "skipped",
        "any": "awaiting_approval",
    }


@pytest.mark.parametrize("decision", ["skip", "retry", "abort"])
def test_retry_of_one_task_puts_another_failure_that_must_not_be_repeated_to_a_person(decision: str) -> None:
    play = Play(task("a"), task("once", idempotent=False), task("after", "once", run_if="all_done"))
    play.tick(0)
    play.fail("once", at=1)
    play.tick()
    play.stop("a")
    assert play.tick() == [Done(RunState.FAILED, "task 'once' failed: broken")]
    play.command("retry", "a", now=2)
    assert play.states == {"a": "ready", "once": "failed", "after": "pending"}
    assert play.tick() == [Spawn("a", None, 2)]
    play.complete("a", at=3)
    assert play.tick() == [Done(RunState.PAUSED, "waits for a decision on failed once")]
    play.command(decision, "once", now=4)
    actions = play.tick()
    if decision == "skip":
        assert actions == [Spawn("after")]
        play.complete("after")
        assert play.tick() == [COMPLETED]
    elif decision == "retry":
        assert actions == [Spawn("once", None, 2)]
    else:
        assert actions == [Done(RunState.FAILED, "task 'once' failed: broken")]


def test_retry_of_a_skipped_task_after_a_change_of_mind() -> None:
    play = Play(task("a", approval=True), task("b", "a"), task("c"))
    play.tick(0)
    play.scheduler.skip("a", 1)
    assert play.states == {"a": "skipped", "b": "skipped", "c": "running"}
    play.scheduler.retry("a", 2)
    assert play.states == {"a": "awaiting_approval", "b": "pending", "c": "running"}


def test_retry_leaves_what_a_person_skipped_as_it_is() -> None:
    play = Play(task("a", strategy="skip"), task("b", "a"), task("c", "a"), task("d", "c"))
    play.tick(0)
    play.scheduler.skip("b", 0)
    play.fail("a", at=1)
    play.scheduler.retry("a", 2)
    assert play.states == {"a": "ready", "b": "skipped", "c": "pending", "d": "pending"}


def test_retry_counts_anew_what_a_dependent_waits_for() -> None:
    play = Play(task("a", strategy="skip"), task("b"), task("c", "a", "b", run_if="all_done"))
    play.tick(0)
    play.fail("a", at=1)
    play.scheduler.retry("a", 2)
    play.tick(2)
    play.complete("b", at=3)
    assert play.states["c"] == "pending"
    play.complete("a", at=4)
    assert play.tick(4) == [Spawn("c")]


def test_retry_of_all_lets_an_all_done_task_wait_for_its_dependency_again() -> None:
    play = Play(
        task("a", strategy="skip"),
        task("report", "a", run_if="all_done", strategy="skip"),
        task("stays"),
        task("after", "report"),
    )
    play.tick(0)
    play.fail("a", at=1)
    play.tick(1)
    play.fail("report", at=2)
    play.scheduler.retry(None, 3)
    assert play.tick(3) == [Spawn("a", None, 2)]
    assert play.states == {"a": "running", "report": "pending", "stays": "running", "after": "pending"}
    play.complete("a", at=4)
    assert play.tick(4) == [Spawn("report", None, 2)]


def test_retry_lets_a_dependent_that_has_not_begun_wait_again() -> None:
    play = Play(
        task("a", strategy="skip"),
        task("approved", "a", run_if="all_done", approval=True),
        task("ready", "a", run_if="all_done", max_retries=1),
        task("any", "a", run_if="all_done", resources=(("disk", 1),)),
    )
    play.tick(0)
    play.fail("a", at=1)
    play.tick(1, answers={"any": full("resource:disk")})
    play.fail("ready", at=2)
    assert play.states == {"a": "failed", "approved": "awaiting_approval", "ready": "ready", "any": "ready"}
    play.command("retry", "a", 3)
    assert play.states == {"a": "ready", "approved": "pending", "ready": "pending", "any": "pending"}
    assert play.tick(100) == [Spawn("a", None, 2)]
    play.complete("a", at=101)
    assert play.tick(101) == [Spawn("ready", None, 2), Spawn("any", None, 1)]
    assert play.states["approved"] == "awaiting_approval"


def test_retry_of_a_diamond_revives_each_task_once() -> None:
    play = Play(
        task("a", strategy="skip"), task("b", "a"), task("c", "a"), task("d", "b", "c"), task("e", "d")
    )
    play.tick(0)
    play.fail("a")
    play.told()
    play.scheduler.retry("a", 1)
    assert play.told() == [
        "task.ready a", "task.pending b", "task.pending c", "task.pending d", "task.pending e",
    ]  # fmt: skip


def test_retry_that_could_only_be_skipped_again_says_what_to_retry() -> None:
    play = Play(task("a", strategy="skip"), task("b", "a"), task("c", "b"), task("z"))
    play.tick(0)
    play.fail("a")
    assert refused(play, "retry", "b") == (
        "task 'b' would be skipped again: dependency 'a' failed; retry what it waits for"
    )
    assert "dependency 'b' was skipped" in refused(play, "retry", "c")


def test_retry_refused() -> None:
    play = Play(task("a"), task("b", "a"))
    play.tick(0)
    assert refused(play, "retry") == "nothing has failed: there is nothing to retry"
    assert refused(play, "retry", "a") == (
        "task 'a' is running; only what failed or was left out can be retried"
    )
    assert refused(play, "retry", "x") == "the run has no task 'x'"
    play.scheduler.cancel_all(1)
    assert refused(play, "retry", "b") == "the run is ending; retry it when it has ended"


@pytest.mark.parametrize("name", [None, "a"])
def test_retry_of_a_completed_run_is_refused(name: str | None) -> None:
    play = Play(task("a", strategy="skip"))
    play.tick(0)
    play.fail("a")
    assert play.tick(1) == [COMPLETED]
    assert refused(play, "retry", name) == "the run has completed; start it anew to repeat it"


# --- the whole run -----------------------------------------------------------------------------------------


def test_pause_and_resume_refused() -> None:
    play = Play(task("a"))
    assert refused(play, "resume") == "the run is not paused but created"
    play.tick(0)
    assert refused(play, "resume") == "the run is not paused but running"
    play.command("pause")
    assert refused(play, "pause") == "the run is paused already"


def test_pause_of_a_run_that_waits_for_a_person_holds_it_until_resume() -> None:
    play = Play(task("a", approval=True))
    play.tick(0)
    play.command("pause")
    play.scheduler.approve("a", 1)
    assert play.tick(1) == []
    play.scheduler.resume(2)
    assert play.tick(2) == [Spawn("a")]


def test_resume_of_a_run_that_only_a_person_can_help_says_so_again() -> None:
    play = Play(task("a", approval=True))
    waits = [Done(RunState.PAUSED, "waits for approval of a")]
    assert play.tick(0) == waits
    play.scheduler.resume(1)
    assert play.tick(1) == waits


@pytest.mark.parametrize("kind", ["pause", "resume", "interrupt", "cancel"])
def test_commands_to_a_run_that_ends_or_has_ended_are_refused(kind: str) -> None:
    play = Play(task("a"))
    play.tick(0)
    play.scheduler.cancel_all(1)
    assert refused(play, kind) == f"can't {kind}: the run is ending (canceled)"
    play.stop("a")
    play.tick(1)
    assert refused(play, kind) == f"can't {kind}: the run has ended (canceled)"


def test_commands_that_make_no_sense_are_refused() -> None:
    play = Play(task("a"))
    assert refused(play, "dance") == "there is no command 'dance'"
    assert refused(play, "skip") == "skip needs the name of a task"
    assert refused(play, "skip", "x") == "the run has no task 'x'"


def test_a_refused_command_still_ends_an_open_batch() -> None:
    play = Play(task("a"), task("b"))
    batch = play.scheduler.tick(0)
    next(batch)
    with pytest.raises(CommandRefused):
        play.scheduler.resume(0)
    assert play.tick(0) == [Spawn("a"), Spawn("b")]
    play.replay().finish()
