"""Going on from recorded state, in another process."""

from __future__ import annotations

import json

import pytest
from tests.core.play import Play, full, task

from allready.core.actions import Cancel, Done, Spawn
from allready.core.events import Completed, Lost
from allready.core.snapshot import (
    recall_refusals,
    reported_tasks,
    restore,
    spec_from_json,
    spec_to_json,
    task_memory,
)
from allready.core.states import RunState
from allready.errors import UserError

COMPLETED = Done(RunState.COMPLETED)


def test_resume_makes_what_was_under_way_again_and_nothing_that_completed() -> None:
    play = Play(task("a"), task("b"), task("c", "a"), task("d", "c"))
    play.tick(0)
    play.complete("a", at=1)
    play.tick(1)
    play = play.crash()
    assert play.states == {"a": "completed", "b": "ready", "c": "ready", "d": "pending"}
    assert play.told() == ["task.deferred b.1", "task.deferred c.1"]
    assert play.tick(2) == [Spawn("c", None, 2), Spawn("b", None, 2)]
    play.tell(Completed(), "b", handle="b.1")  # said before the crash, heard after it
    assert play.states["b"] == "running"
    play.complete("b", "c", at=3)
    assert play.tick(3) == [Spawn("d")]


def test_resume_puts_what_is_not_idempotent_to_a_person() -> None:
    play = Play(task("a", idempotent=False), task("b", "a"))
    play.tick(0)
    play = play.crash()
    assert play.tick(1) == [Done(RunState.PAUSED, "waits for a decision on failed a")]
    error = "the attempt was lost in a crash; not run again by itself, because the task is not idempotent"
    assert play.data("task.failed", "a") == [{"duration_ms": 0, "error": error, "asks": True}]
    play.scheduler.retry("a", 2)
    assert play.tick(2) == [Spawn("a", None, 2)]


def test_resume_keeps_what_waits_for_a_person() -> None:
    play = Play(task("a", strategy="ask"), task("b", approval=True), task("c", "b", approval=True))
    play.tick(0)
    play.fail("a", at=1)
    play.scheduler.approve("c", 1)
    play.tick(1)
    play = play.crash()
    assert (play.status, play.scheduler.pause_reason, play.scheduler.asking) == ("paused", "decision", 1)
    assert play["c"].approved
    assert play.tick(2) == []
    play.scheduler.resume(3)
    assert play.tick(3) == [
        Done(RunState.PAUSED, "waits for approval of b and a decision on failed a"),
    ]


def test_resume_keeps_retries_their_delay_and_deferrals() -> None:
    play = Play(task("a", max_retries=2), task("b"))
    play.tick(0)
    play.fail("a", at=1)
    play.tell(Lost("gone"), "b", at=1)
    due_a, due_b = play["a"].not_before, play["b"].not_before
    play = play.crash()
    assert (play["a"].retries, play["a"].not_before) == (1, due_a)
    assert (play["b"].deferrals, play["b"].not_before) == (1, due_b)
    assert play.tick(1) == []
    assert play.scheduler.next_wakeup() == min(due_a or 0, due_b or 0)
    assert len(play.tick(3)) == 2


@pytest.mark.parametrize("strategy", ["abort", "skip"])
def test_resume_ends_what_was_out_of_time(strategy: str) -> None:
    play = Play(task("a", timeout=1, strategy=strategy), task("b", timeout=None), task("c", timeout=None))
    play.tick(0)
    play.tick(1)
    play = play.crash()
    if strategy == "skip":
        assert play.states == {"a": "failed", "b": "ready", "c": "ready"}
    else:  # what has lost its attempt needs not be asked to stop
        assert play.states == {"a": "failed", "b": "canceled", "c": "canceled"}
        assert play.tick(2) == [Done(RunState.FAILED, "task 'a' failed: timed out after 1 s")]


def test_resume_of_a_run_that_was_ending_ends_it() -> None:
    play = Play(task("a"), task("b", "a"))
    play.tick(0)
    play.scheduler.cancel_all(1)
    play = play.crash()
    assert play.states == {"a": "canceled", "b": "canceled"}
    assert play.tick(2) == [Done(RunState.CANCELED, "canceled by a person")]


def test_resume_of_an_interrupted_run() -> None:
    play = Play(task("a"), task("b", "a"))
    play.tick(0)
    play.scheduler.interrupt(1)
    play = play.crash()
    assert play.tick(2) == [Done(RunState.PAUSED, "interrupted")]
    play.scheduler.resume(3)
    assert play.tick(3) == [Spawn("a", None, 2)]


def test_resume_keeps_the_time_limit_of_the_run_and_its_pause_even_at_time_zero() -> None:
    play = Play(task("a"), timeout=100)
    play.scheduler.pause(0)
    play = play.crash()
    play.scheduler.resume(50)
    assert play.tick(50) == [Spawn("a")]
    assert play.scheduler.next_wakeup() == 150
    assert play.scheduler.started_at == 0


@pytest.mark.parametrize("paused", [False, True])
def test_resume_adds_the_time_in_which_nobody_drove_the_run_to_its_limit_once(paused: bool) -> None:
    play = Play(task("a", timeout=None), timeout=100)
    play.tick(0)
    play.now = 1010
    if paused:
        play.scheduler.pause(10)
    play = play.crash(down_for=1000)
    if paused:
        play.scheduler.resume(1010)
    assert play.tick(1010) == [Spawn("a", None, 2)]
    assert play.scheduler.next_wakeup() == 1100


def test_resume_of_an_open_graph_leaves_it_open() -> None:
    play = Play(task("a"), open=True)
    play.tick(0)
    play.complete("a", at=1)
    play = play.crash()
    assert play.tick(2) == []
    play.scheduler.close(3)
    assert play.tick(3) == [COMPLETED]


def test_resume_of_a_run_that_had_not_begun() -> None:
    assert Play(task("a")).crash().tick(0) == [Spawn("a")]


def test_restored_without_recover_goes_on_as_if_nothing_had_happened() -> None:
    play = Play(task("a", timeout=10), task("b", "a"), task("c", timeout=None))
    play.tick(0, {"c": full()})
    play = play.crash(recover=False)
    assert play.states == {"a": "running", "b": "pending", "c": "ready"}
    assert play.tick(5) == [Spawn("c")]
    assert play.tick(10) == [Cancel("a", "a.1", "timeout")]
    play.complete("a", at=11)
    assert play.tick(11) == [Spawn("b")]


def test_restored_chosen_agent_is_not_chosen_again() -> None:
    play = Play(task("a"), route=lambda _: "coder")
    play.tick(0, {"a": full()})
    play.options["route"] = lambda _: "writer"
    assert play.crash().tick(1) == [Spawn("a", "coder")]


def test_a_place_given_to_what_waits_for_its_time_is_taken() -> None:
    play = Play(task("a", max_retries=1))
    play.tick(0)
    play.fail("a", at=1)
    play = play.crash()
    play.scheduler.record_spawn("a", "a.2", 1)
    play.tick(9)
    assert play.states == {"a": "running"}


def test_only_a_scheduler_that_has_not_begun_can_be_restored() -> None:
    play = Play(task("a"))
    play.tick(0)
    with pytest.raises(UserError, match="not begun"):
        restore(play.scheduler, "running", [], {})


def test_a_task_keeps_nothing_more_than_needed() -> None:
    play = Play(task("a"))
    play.tick(0)
    play.complete("a")
    assert task_memory(play["a"]) == {}


def test_specs_survive_json() -> None:
    full_spec = task(
        "a", "b", "c", run_if="all_done", strategy="ask", max_retries=0, timeout=None, priority=-2,
        estimate=1.5, agent="x", provider="p", resources=(("cpu", 2), ("gpu", 1)), approval=True,
        idempotent=False, inline=True,
    )  # fmt: skip
    for spec in (task("a"), full_spec):
        assert spec_from_json(json.loads(json.dumps(spec_to_json(spec)))) == spec
    assert spec_to_json(task("a")) == {"id": "a"}


def lately(play: Play) -> Play:
    """Look at the run from outside: from its stored state, and the last of its inputs."""
    inputs = json.loads(json.dumps(play.scheduler.inputs))
    seen = play.crash(recover=False)
    assert reported_tasks(inputs) >= {"b"}
    recall_refusals(seen.scheduler, inputs)
    return seen


@pytest.mark.parametrize("scope", ["pool", "agent:x"])
def test_who_looks_from_outside_is_told_the_same_reason_for_waiting(scope: str) -> None:
    play = Play(task("a", agent="x"), task("b", agent="x"), task("c", agent="x"))
    play.tick(3, {"b": full(scope)})
    for name in ("b", "c"):
        assert play.scheduler.why(name, 5).data["since"] == 3
        assert lately(play).scheduler.why(name, 5) == play.scheduler.why(name, 5)


def test_a_refusal_that_is_over_is_not_told_from_outside() -> None:
    play = Play(task("a"), task("b"), task("c", priority=-1))
    play.tick(0, {"b": full()})
    play.complete("a", at=1)
    play.tick(2, {"c": full("resource:r")})  # b has its place now
    assert lately(play).scheduler.why("c", 5) == play.scheduler.why("c", 5)
    assert "resource:r" in str(lately(play).scheduler.why("c", 5).data)


def test_reports_that_came_late_and_those_of_other_tasks() -> None:
    play = Play(task("b"))
    for _ in play.scheduler.tick(1):
        pass  # the offer is not answered at once
    play.scheduler.record_spawn_failure("b", full(), 1)
    inputs = [*(play.scheduler.inputs or []), ["spawn", "x", "x.1", 2.0]]
    assert ["late", "refuse"] in [entry[:2] for entry in inputs]
    assert reported_tasks(inputs) == {"b", "x"}
    seen = play.crash(recover=False)
    recall_refusals(seen.scheduler, inputs)
    assert seen.scheduler.why("b", 2).data["since"] == 1
