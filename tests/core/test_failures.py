"""Strategies, retries, timeouts, deferrals, lost attempts, `run_if`, and how skips spread."""

from __future__ import annotations

import pytest
from tests.core.play import Play, task

from allready.core import policy
from allready.core.actions import Cancel, Done, Spawn
from allready.core.events import Canceled, Completed, Deferred, Failed, Lost, Outcome, TaskEvent
from allready.core.states import RunState

COMPLETED = Done(RunState.COMPLETED)
PAUSED = RunState.PAUSED


# --- the four strategies -----------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["abort", "retry"])
def test_abort_cancels_what_runs_and_the_run_fails_when_that_has_stopped(strategy: str) -> None:
    play = Play(task("a", strategy=strategy, max_retries=0), task("b"), task("c", "b"), task("d", "a"))
    play.tick(0)
    play.fail("a", at=1)
    assert play.states == {"a": "failed", "b": "canceling", "c": "canceled", "d": "canceled"}
    assert play.tick(1) == [Cancel("b", "b.1", "abort")]
    assert play.status == "running"
    play.stop("b", at=2)
    assert play.tick(2) == [Done(RunState.FAILED, "task 'a' failed: broken")]
    assert play.states["b"] == "canceled"
    assert (play.status, play.scheduler.error) == ("failed", "task 'a' failed: broken")


def test_abort_takes_what_completes_while_it_was_asked_to_stop() -> None:
    play = Play(task("a"), task("b"), task("c", "b"))
    play.tick(0)
    play.fail("a", at=1)
    play.complete("b", at=1)
    assert play.tick(1) == [Done(RunState.FAILED, "task 'a' failed: broken")]
    assert play.states == {"a": "failed", "b": "completed", "c": "canceled"}


def test_a_failure_while_the_run_ends_is_no_second_reason() -> None:
    play = Play(task("a"), task("b"), task("c", strategy="ask"), task("d", strategy="skip"))
    play.tick(0)
    play.fail("a", at=1)
    play.fail("b", "c", "d", at=2)
    assert play.states == {"a": "failed", "b": "canceled", "c": "canceled", "d": "canceled"}
    assert play.tick(2)[-1] == Done(RunState.FAILED, "task 'a' failed: broken")


def test_skip_leaves_the_task_failed_and_its_dependents_skipped_and_the_run_completes() -> None:
    play = Play(task("a", strategy="skip"), task("b", "a"), task("c", "b"), task("d"))
    play.tick(0)
    play.fail("a", at=1)
    assert play.states == {"a": "failed", "b": "skipped", "c": "skipped", "d": "running"}
    assert play["b"].error == "dependency 'a' failed"
    assert play["c"].error == "dependency 'b' was skipped"
    play.complete("d", at=2)
    assert play.tick(2) == [COMPLETED]


def test_retry_tries_three_times_more_and_then_ends_like_abort() -> None:
    play = Play(task("a", strategy="retry"))
    for number in range(1, 5):
        assert play.tick(number * 100) == [Spawn("a", None, number)]
        play.fail("a")
    assert play.tick(500) == [Done(RunState.FAILED, "task 'a' failed: broken")]
    assert play["a"].attempts == 4


def test_ask_pauses_the_run_when_the_other_branches_have_ended() -> None:
    play = Play(task("a", strategy="ask"), task("b", "a"), task("c"), task("d", "c"))
    play.tick(0)
    play.fail("a", at=1)
    assert play.data("task.failed", "a") == [{"duration_ms": 1000, "error": "broken", "asks": True}]
    assert play.tick(1) == []
    play.complete("c", at=2)
    assert play.tick(2) == [Spawn("d")]
    play.complete("d", at=3)
    assert play.tick(3) == [Done(PAUSED, "waits for a decision on failed a")]
    assert play.states == {"a": "failed", "b": "pending", "c": "completed", "d": "completed"}
    assert play.tick(4) == []


@pytest.mark.parametrize("strategy", ["abort", "skip", "ask", "retry"])
def test_retries_come_first_under_every_strategy(strategy: str) -> None:
    play = Play(task("a", strategy=strategy, max_retries=1))
    play.tick(0)
    play.fail("a", at=1)
    assert play.states == {"a": "ready"}
    assert play.tick(3) == [Spawn("a", None, 2)]
    play.complete("a", at=4)
    assert play.tick(4) == [COMPLETED]


# --- retries -----------------------------------------------------------------------------------------------


def test_retries_back_off_with_full_jitter() -> None:
    play = Play(task("other"), task("a", max_retries=3), seed=7)
    play.tick(0)
    for retry in (1, 2, 3):
        at = play.now
        play.fail("a")
        due = at + policy.retry_delay(retry, 7, 1)
        assert play["a"].not_before == due
        assert play.scheduler.next_wakeup() == at  # the event itself
        assert play.tick(at) == []
        assert play.scheduler.next_wakeup() == due
        assert play.tick(due) == [Spawn("a", None, retry + 1)]
    play.told()
    play.fail("a")
    assert play.told() == ["task.failed a.4", "run.ending", "task.canceling other.1"]


def test_what_is_told_of_a_retry() -> None:
    play = Play(task("a", max_retries=2))
    play.tick(0)
    play.fail("a", at=1)
    delay = round(policy.retry_delay(1, 0, 0), 3)
    assert play.data("task.retrying", "a") == [{"error": "broken", "delay": delay, "retry": 1}]


def test_a_permanent_error_is_not_retried() -> None:
    play = Play(task("a", max_retries=5, strategy="skip"))
    play.tick(0)
    play.fail("a", at=1, permanent=True)
    assert play.states == {"a": "failed"}


def test_an_attempt_that_stops_by_itself_failed() -> None:
    play = Play(task("a", strategy="skip"), task("b", strategy="skip"))
    play.tick(0)
    play.tell(Canceled("out of patience"), "a")
    play.tell(Canceled(), "b")
    assert play.states == {"a": "failed", "b": "failed"}
    assert [play["a"].error, play["b"].error] == ["out of patience", "the attempt stopped by itself"]


# --- no verdict: deferred and lost -------------------------------------------------------------------------


def test_a_rate_limit_uses_up_no_retry_and_is_told_as_deferred() -> None:
    play = Play(task("a"))
    play.tick(0)
    for number in range(2, 12):
        play.told()
        play.tell(Deferred("overloaded"), "a")
        assert play.told() == [f"task.deferred a.{number - 1}"]
        assert play.tick(play.now) == []
        due = play["a"].not_before
        assert due == play.now + policy.defer_delay(number - 1, None, 0, 0)
        assert play.tick(due) == [Spawn("a", None, number)]
    assert (play["a"].retries, play.scheduler.statistics.deferrals) == (0, 10)
    play.complete("a")
    assert play["a"].deferrals == 0


def test_what_the_other_side_asks_for_is_the_least_delay() -> None:
    play = Play(task("a"))
    play.tick(0)
    play.tell(Deferred("rate limit", 30), "a")
    assert 30 <= (play["a"].not_before or 0) <= 33


def test_a_failure_ends_the_row_of_deferrals() -> None:
    play = Play(task("a", max_retries=3))
    play.tick(0)
    play.tell(Deferred("overloaded"), "a")
    play.tick(10)
    play.fail("a")
    assert (play["a"].deferrals, play["a"].retries) == (0, 1)
    assert play.scheduler.why("a", 10).code == "retry"


def test_a_lost_attempt_is_made_again() -> None:
    play = Play(task("a"))
    play.tick(0)
    play.tell(Lost("its worker died"), "a", at=1)
    assert play.states == {"a": "ready"}
    assert play.tick(2) == [Spawn("a", None, 2)]


def test_a_lost_attempt_of_a_task_that_is_not_idempotent_goes_to_a_person() -> None:
    play = Play(task("a", idempotent=False, max_retries=9), task("b", "a"))
    play.tick(0)
    play.tell(Lost("its worker died"), "a", at=1)
    error = "its worker died; not run again by itself, because the task is not idempotent"
    assert play.data("task.failed", "a") == [{"duration_ms": 1000, "error": error, "asks": True}]
    assert play.states == {"a": "failed", "b": "pending"}
    assert play.tick(1) == [Done(PAUSED, "waits for a decision on failed a")]


# --- stale events ------------------------------------------------------------------------------------------


STALE: list[Outcome] = [Completed(), Failed("broken"), Canceled(), Lost("gone"), Deferred("overloaded")]


@pytest.mark.parametrize("outcome", STALE)
def test_stale_event_of_an_attempt_that_timed_out_and_was_replaced(outcome: Outcome) -> None:
    play = Play(task("a", timeout=5, max_retries=1))
    play.tick(0)
    play.tick(5)
    play.stop("a", at=6)
    play.tick(8)
    before = play["a"].handle, play.states
    play.tell(outcome, "a", handle="a.1")
    assert (play["a"].handle, play.states) == before == ("a.2", {"a": "running"})
    assert play.scheduler.statistics.stale_events == 1
    assert play.scheduler.story("a")[-1].endswith(f"stale event of a.1: {type(outcome).__name__.lower()}")
    assert play.scheduler.next_wakeup() == 13


@pytest.mark.parametrize("outcome", STALE)
def test_stale_event_after_a_completion(outcome: Outcome) -> None:
    play = Play(task("a"), task("b", "a"), task("c", "a"))
    play.tick(0)
    play.complete("a", at=1)
    play.tick(1)
    play.told()
    play.tell(outcome, "a", handle="a.1")
    assert play.states == {"a": "completed", "b": "running", "c": "running"}
    assert play.told() == []
    assert (play.scheduler.statistics.events, play.scheduler.statistics.stale_events) == (2, 1)


def test_stale_event_of_an_unknown_task_changes_nothing() -> None:
    play = Play(task("a"))
    play.tick(0)
    play.tell(Completed(), "a", handle="b.1")
    play.scheduler.handle(TaskEvent("b", "b.1", Completed(), 0))
    assert play.states == {"a": "running"}
    assert play.scheduler.statistics.stale_events == 2


# --- timeouts ----------------------------------------------------------------------------------------------


def test_an_attempt_out_of_time_is_asked_to_stop_and_fails_when_it_has() -> None:
    play = Play(task("a", timeout=5, strategy="skip"), task("b", "a"))
    play.tick(0)
    assert play.scheduler.next_wakeup() == 5
    assert play.tick(4.9) == []
    assert play.tick(5) == [Cancel("a", "a.1", "timeout")]
    assert play.states == {"a": "canceling", "b": "pending"}
    play.stop("a", at=6)
    assert play.states == {"a": "failed", "b": "skipped"}
    assert play["a"].error == "timed out after 5 s"


def test_an_attempt_out_of_time_may_still_complete() -> None:
    play = Play(task("a", timeout=5), task("b", "a"))
    play.tick(0)
    play.tick(5)
    play.complete("a", at=5.5)
    assert play.tick(5.5) == [Spawn("b")]
    assert play["a"].cancel_reason is None


@pytest.mark.parametrize("outcome", [Canceled(), Lost("killed"), Deferred("overloaded"), Failed("signal 15")])
def test_an_attempt_out_of_time_is_retried_if_it_has_retries(outcome: Outcome) -> None:
    play = Play(task("a", timeout=5, max_retries=1))
    play.tick(0)
    play.tick(5)
    play.tell(outcome, "a", at=6)
    assert play.states == {"a": "ready"}
    assert play["a"].error == (outcome.error if isinstance(outcome, Failed) else "timed out after 5 s")
    assert play.tick(8) == [Spawn("a", None, 2)]


def test_a_permanent_failure_of_an_attempt_out_of_time_is_final() -> None:
    play = Play(task("a", timeout=5, max_retries=1, strategy="skip"))
    play.tick(0)
    play.tick(5)
    play.fail("a", permanent=True)
    assert play.states == {"a": "failed"}


def test_each_attempt_has_its_own_time() -> None:
    play = Play(task("a", timeout=5, max_retries=1), task("b", timeout=None))
    play.tick(0)
    play.fail("a", at=4)
    play.tick(6)
    assert play.scheduler.next_wakeup() == 11
    assert play.tick(10) == []
    assert play.tick(11) == [Cancel("a", "a.2", "timeout")]


def test_a_task_without_timeout_runs_for_ever() -> None:
    play = Play(task("a", timeout=None))
    play.tick(0)
    assert play.scheduler.next_wakeup() is None
    assert play.tick(1e9) == []


def test_the_run_out_of_time_fails_when_all_has_stopped() -> None:
    play = Play(task("a"), task("b", "a"), timeout=30)
    play.tick(10)
    assert play.scheduler.next_wakeup() == 40
    assert play.tick(40) == [Cancel("a", "a.1", "run timeout")]
    assert play.states == {"a": "canceling", "b": "canceled"}
    play.stop("a", at=41)
    assert play.tick(41) == [Done(RunState.FAILED, "the run timed out after 30 s")]


def test_old_deadlines_do_not_pile_up() -> None:
    play = Play(task("a", strategy="skip", max_retries=500, timeout=1e6))
    for number in range(300):
        play.tick(number * 100)
        play.fail("a")
    assert len(play.scheduler._deadlines) < 100


# --- run_if and how ends spread ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("run_if", "first", "second", "after_first", "after_second"),
    [
        ("all_completed", "ok", "ok", "pending", "ready"),
        ("all_completed", "ok", "failed", "pending", "skipped"),
        ("all_completed", "failed", "ok", "skipped", "skipped"),
        ("all_done", "ok", "ok", "pending", "ready"),
        ("all_done", "ok", "failed", "pending", "ready"),
        ("all_done", "failed", "failed", "pending", "ready"),
        ("any_completed", "ok", "ok", "ready", "ready"),
        ("any_completed", "ok", "failed", "ready", "ready"),
        ("any_completed", "failed", "ok", "pending", "ready"),
        ("any_completed", "failed", "failed", "pending", "skipped"),
    ],
)
def test_run_if(run_if: str, first: str, second: str, after_first: str, after_second: str) -> None:
    play = Play(task("a", strategy="skip"), task("b", strategy="skip"), task("c", "a", "b", run_if=run_if))
    play.tick(0)
    ends = {"ok": play.complete, "failed": play.fail}
    ends[first]("a")
    assert play.states["c"] == after_first
    ends[second]("b")
    assert play.states["c"] == after_second


@pytest.mark.parametrize(
    ("run_if", "state"), [("all_completed", "skipped"), ("all_done", "ready"), ("any_completed", "skipped")]
)
def test_run_if_with_a_skipped_dependency(run_if: str, state: str) -> None:
    play = Play(task("a", strategy="skip"), task("b", "a"), task("c", "b", run_if=run_if))
    play.tick(0)
    play.fail("a")
    assert play.states == {"a": "failed", "b": "skipped", "c": state}


def test_a_failed_task_that_asks_does_not_count_for_its_dependents_yet() -> None:
    play = Play(task("a", strategy="ask"), task("b", "a", run_if="all_done"))
    play.tick(0)
    play.fail("a")
    assert play.states == {"a": "failed", "b": "pending"}
    play.command("skip", "a")
    assert play.states == {"a": "failed", "b": "ready"}


def test_a_skip_spreads_through_a_mixed_graph_in_one_step() -> None:
    play = Play(
        task("root", strategy="skip"),
        task("c", "a", "root"),  # written before what it depends on
        task("a", "root"),
        task("b", "a", "c"),
        task("cleanup", "b", run_if="all_done"),
        task("rescue", "root", "other", run_if="any_completed"),
        task("other", "root", run_if="all_done"),
    )
    play.tick(0)
    play.fail("root")
    assert play.states == {
        "root": "failed", "c": "skipped", "a": "skipped", "b": "skipped", "cleanup": "ready",
        "rescue": "pending", "other": "ready",
    }  # fmt: skip
    assert play.tick(1) == [Spawn("other"), Spawn("cleanup")]
    play.complete("cleanup", "other")
    assert play.tick(2) == [Spawn("rescue")]


def test_nothing_completed_of_any_completed_is_the_reason_of_the_skip() -> None:
    play = Play(task("a", strategy="skip"), task("b", "a", run_if="any_completed"))
    play.tick(0)
    play.fail("a")
    assert play["b"].error == "no dependency completed"


def test_every_attempt_has_one_end_in_what_is_told() -> None:
    play = Play(task("a", max_retries=1), task("b", timeout=5, strategy="skip"), task("c"))
    play.tick(0)
    play.fail("a", at=1)
    play.tell(Lost("gone"), "c", at=1)
    play.tick(5)
    play.stop("b", at=5)
    play.stop("b", at=5)
    play.complete("a", "c", at=6)
    play.complete("a", at=6)
    assert [line for line in play.told() if "." in line.split()[-1] and "started" not in line] == [
        "task.retrying a.1", "task.deferred c.1", "task.canceling b.1", "task.failed b.1",
        "task.completed a.2", "task.completed c.2",
    ]  # fmt: skip
