"""Why a task is not running: a code, a sentence, and the facts; and its story."""

from __future__ import annotations

import pytest
from tests.core.play import SILENT, Play, full, task

from allready.core.events import Deferred
from allready.core.snapshot import restore
from allready.core.why import Why


def why(play: Play, name: str, now: float | None = None) -> Why:
    return play.scheduler.why(name, play.now if now is None else now)


def test_why_running() -> None:
    play = Play(task("a"))
    play.tick(0)
    assert why(play, "a", 30) == Why("running", "a has been running for 30.0 s", {"attempt": "a.1"})


@pytest.mark.parametrize(
    ("seconds", "span"),
    [(-1, "0.0 s"), (119.94, "119.9 s"), (120, "2 min 0 s"), (3599, "59 min 59 s"), (9000, "2 h 30 min")],
)
def test_why_tells_spans_as_people_do(seconds: float, span: str) -> None:
    play = Play(task("a"))
    play.tick(100)
    assert why(play, "a", 100 + seconds).text == f"a has been running for {span}"


def test_why_canceling() -> None:
    play = Play(task("a", timeout=5))
    play.tick(0)
    play.tick(5)
    text = "a was asked to stop (timeout) and has not stopped yet"
    assert why(play, "a") == Why("canceling", text, {"reason": "timeout", "attempt": "a.1"})


def test_why_ended() -> None:
    play = Play(task("a"), task("b", strategy="skip"))
    play.tick(0)
    play.complete("a")
    play.fail("b")
    assert why(play, "a") == Why("ended", "a has ended: completed", {"state": "completed", "error": None})
    assert why(play, "b") == Why(
        "ended", "b has ended: failed: broken", {"state": "failed", "error": "broken"}
    )


def test_why_asking() -> None:
    play = Play(task("a", strategy="ask"))
    play.tick(0)
    play.fail("a")
    text = "a failed (broken) and waits for a decision: retry, skip or abort"
    assert why(play, "a") == Why("asking", text, {"error": "broken"})


def test_why_run_ended() -> None:
    play = Play(task("a"), task("b", "a"))
    restore(play.scheduler, "failed", [], {})
    assert why(play, "b") == Why("run_ended", "the run has ended (failed)", {"status": "failed"})


def test_why_approval() -> None:
    play = Play(task("a", approval=True))
    play.tick(0)
    assert why(play, "a") == Why("approval", "a waits for a person's approval", {})


def test_why_dependencies() -> None:
    play = Play(
        task("a"),
        task("b"),
        task("c"),
        task("all", "a", "b"),
        task("one", "b", "c", run_if="any_completed"),
        task("only", "b", run_if="any_completed"),
    )
    play.tick(0, {"b": SILENT})
    play.complete("a")
    assert why(play, "all") == Why("dependencies", "all waits for b (ready)", {"waits_for": {"b": "ready"}})
    assert why(play, "one").text == "one waits for one of b (ready), c (running)"
    assert why(play, "only").text == "only waits for b (ready)"
    play.scheduler.pause(1)
    assert why(play, "all").text == "all waits for b (ready); the run is paused"


def test_why_dependencies_names_some_and_counts_the_rest() -> None:
    play = Play(*(task(f"t{n}") for n in range(7)), task("z", *(f"t{n}" for n in range(7))))
    play.tick(0)
    told = why(play, "z")
    assert told.text == (
        "z waits for t0 (running), t1 (running), t2 (running), t3 (running), t4 (running), 2 more"
    )
    assert len(told.data["waits_for"]) == 7


def test_why_not_started() -> None:
    play = Play(task("a"))
    assert why(play, "a") == Why("not_started", "the run has not begun with a yet", {})


def test_why_paused() -> None:
    play = Play(task("a"))
    play.scheduler.pause(0)
    assert why(play, "a") == Why("paused", "the run is paused (person)", {"by": "person"})


def test_why_retry_and_deferred() -> None:
    play = Play(task("a", max_retries=1), task("b"))
    play.tick(0)
    play.fail("a", at=1)
    play.tell(Deferred("overloaded", 60), "b", at=1)
    due = (play["a"].not_before or 0) - 1
    assert why(play, "a") == Why(
        "retry",
        f"a is to be retried: broken; due in {due:.1f} s",
        {"due_in": due, "error": "broken", "retry": 1},
    )
    assert why(play, "b").code == "deferred"
    assert why(play, "b").text.startswith("b is put off: overloaded; due in 6")
    assert why(play, "b", 99).code == "next"


def test_why_refused_says_by_whom_and_since_when() -> None:
    play = Play(task("a", agent="x"), task("b", agent="y"), task("c", agent="x"))
    refusals = {"a": full("agent:x", 2, 2)}
    play.tick(10, refusals)
    play.tick(15, refusals)
    told = Why(
        "refused",
        "a place for c is refused since 10.0 s: no place in agent:x (agent:x: 2 of 2 in use)",
        {"reason": "no place in agent:x", "scope": "agent:x", "active": 2, "max": 2, "since": 10},
    )
    assert why(play, "c", 20) == told
    assert why(play, "a", 20).data == told.data
    play.tick(21, {"a": full("budget")})
    assert why(play, "c", 22).data["since"] == 21
    play.tick(23, {"c": SILENT})
    assert why(play, "c", 23).code == "next"


def test_why_refused_by_a_full_pool_holds_for_all_but_inline_tasks() -> None:
    play = Play(task("a"), task("b", agent="x"), task("c", inline=True))
    play.tick(0, {"a": full(), "c": SILENT})
    assert [why(play, name).code for name in "abc"] == ["refused", "refused", "next"]
    play.tick(1, {"b": SILENT, "c": SILENT})
    assert [why(play, name).code for name in "abc"] == ["running", "next", "next"]


def test_why_of_what_waited_in_the_store_and_is_due() -> None:
    play = Play(task("a", max_retries=1))
    play.tick(0)
    play.fail("a", at=1)
    assert why(play.crash(), "a", 9).code == "next"


def test_story_of_a_task_is_what_happened_to_it_and_to_the_run() -> None:
    play = Play(task("a"), task("b"))
    play.tick(0)
    play.complete("a", at=1.5)
    play.complete("b", at=2)
    play.tick(2)
    assert play.scheduler.story("a") == [
        "0.000 run.started", "0.000 task.ready", "0.000 task.started", "1.500 task.completed",
        "2.000 run.completed",
    ]  # fmt: skip
