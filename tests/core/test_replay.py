"""Same inputs, same decisions; and a journal that was tampered with is found out, at the right step."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.core.play import SILENT, Play, full, task

from allready.core import policy
from allready.core.events import Canceled, Change, Completed, Deferred, Failed, Lost
from allready.core.graph import TaskGraph, TaskSpec
from allready.core.history import Replay
from allready.core.scheduler import DagScheduler
from allready.core.snapshot import run_memory, task_record
from allready.errors import PermanentError, ReplayDiverged

TASKS = [
    task("a", max_retries=2, timeout=5),
    task("b", "a"),
    task("c", agent="x", strategy="ask"),
    task("d", "c", run_if="all_done"),
    task("e", inline=True),
    task("f", strategy="skip"),
    task("g", approval=True, strategy="skip"),
]


def eventful_run() -> Play:
    """A run in which nearly all that can happen does."""
    play = Play(*TASKS, open=True, seed=42, timeout=1000)
    play.tick(0, {"c": full("agent:x"), "e": SILENT, "f": PermanentError("can never fit")})
    play.tell(Lost("gone"), "a", at=1)
    play.tick(2, {"c": full("agent:x"), "e": full("inline")})
    play.scheduler.add_tasks([task("h", "b", estimate=9), task("i", "f", run_if="all_done")], 2)
    play.tick(7)
    play.tell(Canceled("asked to"), "a", at=8)
    play.tell(Failed("broken", permanent=True), "c", at=8)
    play.tell(Deferred("overloaded", 3), "e", at=8)
    play.tell(Completed({"not": "kept"}), "e", handle="e.0")
    play.command("approve", "g", 9)
    play.tick(12, {"g": OSError("no such program"), "i": full("budget")})
    play.complete("a", at=13)
    play.scheduler.interrupt(13)
    play.tick(13)
    play.stop("e", "i", at=14)
    play.tick(14)
    play.scheduler.resume(15)
    play.scheduler.close(15)
    play.command("skip", "c", 16)
    batch = play.scheduler.tick(17)
    next(batch)
    batch.close()
    for now in range(18, 30):
        play.tick(now)
        play.complete(*(name for name, state in play.states.items() if state == "running"), at=now)
    assert play.status == "completed", play.states
    return play


def test_replay_decides_the_same() -> None:
    play = eventful_run()
    replay = play.replay()
    replay.finish()
    assert replay.steps == len(play.scheduler.inputs or [])
    again = replay.scheduler
    assert [task_record(node) for node in again.graph] == [task_record(node) for node in play.scheduler.graph]
    assert run_memory(again) == run_memory(play.scheduler)
    assert again.changes == play.scheduler.changes
    assert json.dumps(again.inputs) == json.dumps(play.scheduler.inputs)
    assert again.statistics == play.scheduler.statistics


def test_the_same_run_again_is_the_same_to_the_last_digit() -> None:
    one, two = eventful_run().scheduler, eventful_run().scheduler
    assert (one.inputs, one.changes, one.statistics) == (two.inputs, two.changes, two.statistics)


def test_another_seed_decides_otherwise() -> None:
    play = Play(task("a", max_retries=1), seed=1)
    play.tick(0)
    play.fail("a", at=1)
    due = play["a"].not_before or 0
    play.tick(due)
    slower = next(seed for seed in range(99) if 1 + policy.retry_delay(1, seed, 0) > due)
    said = replayed([task("a", max_retries=1)], play.scheduler.inputs or [], seed=slower)
    assert said == (f"step 6: recorded ['spawn', 'a', 'a.2', {due}], but the scheduler now wants None")


def test_replay_in_parts_follows_a_run_under_way() -> None:
    play = Play(*TASKS)
    replay = Replay(DagScheduler(TaskGraph(TASKS)))
    fed = 0
    for now in range(3):
        play.tick(now)
        inputs = play.scheduler.inputs or []
        replay.feed(inputs[fed:])
        fed = len(inputs)
        assert [node.state for node in replay.scheduler.graph] == [n.state for n in play.scheduler.graph]
        play.complete(*(name for name, state in play.states.items() if state == "running"))


def test_replay_across_a_crash() -> None:
    play = Play(*TASKS)
    play.tick(0)
    play.complete("a", at=1)
    batch = play.scheduler.tick(1)
    next(batch)
    play.scheduler.record_spawn("b", "b.1", 1)
    before = list(play.scheduler.inputs or [])
    resumed = play.crash()
    resumed.tick(2)
    replay = Replay(DagScheduler(TaskGraph(TASKS)))
    replay.feed([*before, *(resumed.scheduler.inputs or [])])
    replay.finish()
    assert [task_record(n) for n in replay.scheduler.graph] == [
        task_record(n) for n in resumed.scheduler.graph
    ]


def replayed(tasks: list[TaskSpec], inputs: list[Any], **options: Any) -> str:
    """Give how a replay of these inputs fails."""
    replay = Replay(DagScheduler(TaskGraph(tasks), **options))
    try:
        replay.feed(inputs)
        replay.finish()
    except ReplayDiverged as error:
        return str(error)
    return "decides the same"


TWO = [task("a", timeout=5), task("b")]
TICK = ["tick", 0]
BOTH = [TICK, ["spawn", "a", "a.1", 0], ["spawn", "b", "b.1", 0]]
LATE_TICK = ["tick", 5]


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ([TICK, ["spawn", "b", "b.1", 0]], "step 2: recorded ['spawn', 'b', 'b.1', 0], but the scheduler "
         "now wants Spawn(task='a', agent=None, number=1)"),
        ([TICK, ["refuse", "b", "full", "pool", 1, 1, 0]], "step 2: recorded ['refuse', 'b'"),
        ([TICK, ["spawn_failed", "b", "no", False, 0]], "step 2: recorded ['spawn_failed', 'b'"),
        ([TICK, ["offer", "b"]], "step 2: recorded ['offer', 'b'], but"),
        ([*BOTH, ["spawn", "c", "c.1", 0]], "step 4: recorded ['spawn', 'c', 'c.1', 0], but the scheduler "
         "now wants None"),
        ([["spawn", "a", "a.1", 0]], "step 1: recorded ['spawn', 'a', 'a.1', 0], but the scheduler now "
         "wants None"),
        ([*BOTH, ["cancel", "a", "a.1"]], "step 4: recorded ['cancel', 'a', 'a.1'], but the scheduler now "
         "wants None"),
        ([*BOTH, LATE_TICK, ["cancel", "a", "a.2"]], "step 5: recorded ['cancel', 'a', 'a.2'], but the "
         "scheduler now wants Cancel(task='a', handle='a.1', reason='timeout')"),
        ([*BOTH, LATE_TICK, ["backoff", False, False]], "step 5: recorded ['backoff', False, False], but "
         "the scheduler now wants Cancel(task='a'"),
        ([*BOTH, ["done", "completed"]], "step 4: recorded ['done', 'completed'], but the scheduler now "
         "wants None"),
        ([*BOTH, ["event", "a", "a.1", "Completed", [], 1], ["event", "b", "b.1", "Failed", ["x", False], 1],
          ["tick", 2], ["done", "completed"]], "step 7: recorded ['done', 'completed'], but the scheduler "
         "now wants Done(status=<RunState.FAILED: 'failed'>"),
        ([TICK, ["spawn", "a", "a.1", 0], ["tick", 1]], "step 3: recorded ['tick', 1], but the scheduler "
         "now wants Spawn(task='b'"),
        ([TICK, ["spawn", "a", "a.1", 0], ["offer", "b"], ["end"], ["tick", 1], ["end"]],
         "step 6: recorded ['end'], but the scheduler now wants Spawn(task='b'"),
        ([TICK, ["spawn", "a", "a.1", 0]], "step 2: recorded ['the end of the journal'], but the scheduler "
         "now wants Spawn(task='b'"),
        ([*BOTH, ["dance", 1]], "step 4: unknown input ['dance', 1]"),
        ([*BOTH, ["tick"]], "step 4: unknown input ['tick']"),
        ([TICK, ["offer", "a"], ["late", "dance", "a"]], "step 3: unknown input ['dance', 'a']"),
    ],
)  # fmt: skip
def test_a_journal_that_says_otherwise_diverges_at_its_step(inputs: list[Any], said: str) -> None:
    assert replayed(TWO, inputs).startswith(said)


def test_inline_where_a_spawn_was_is_an_offer_all_the_same() -> None:
    play = Play(task("a"))
    play.tick(0)
    replay = Replay(DagScheduler(TaskGraph([task("a")]), route=lambda _: "somebody"))
    replay.feed(play.scheduler.inputs or [])
    replay.finish()


def test_a_run_with_another_time_limit_diverges_at_the_end() -> None:
    play = Play(task("a", timeout=None))
    play.tick(0)
    play.tick(50)
    said = replayed([task("a", timeout=None)], play.scheduler.inputs or [], timeout=10.0)
    assert said == (
        "step 5: recorded ['backoff', False, False], but the scheduler now wants "
        "Cancel(task='a', handle='a.1', reason='run timeout')"
    )


# --- what is told of it -----------------------------------------------------------------------------------


def diverged(
    tasks: list[TaskSpec], inputs: list[Any], events: list[Change] | None = None, **options: Any
) -> ReplayDiverged:
    replay = Replay(DagScheduler(TaskGraph(tasks), record=events is not None, **options), events)
    try:
        replay.feed(inputs)
        replay.finish(ended=True)
    except ReplayDiverged as error:
        return error
    pytest.fail("it decides the same")


def test_a_divergence_says_where_and_what_led_to_it() -> None:
    error = diverged([task("a"), task("b", "a")], [TICK, ["spawn", "a", "a.1", 0], ["spawn", "b", "b.1", 1]])
    assert (error.step, error.at, error.task) == (3, 1, "b")
    assert (error.recorded, error.now) == (["spawn", "b", "b.1", 1], "wants None")
    assert error.why == "b waits for a (running)"
    assert error.story == ["0.000 run.started"]


@pytest.mark.parametrize(
    ("inputs", "task", "at", "now"),
    [
        ([["cancel", "a", "a.1"]], "a", None, "wants None"),
        ([TICK, ["done", "completed"]], "a", 0, "wants Spawn(task='a', agent=None, number=1)"),
        ([["command", "approve", "a", 3]], "a", 3, "refuses that: task 'a' needs no approval"),
        ([["command", "resume", None, 3]], None, 3, "refuses that: the run is not paused but created"),
        ([TICK, ["offer", "a"], ["offer", "b"], ["late", "refuse", "c", "x", "pool", 1, 1, 4]], "c", 0,
         "refuses that: there is no task 'c'"),
        ([["event", "a"]], None, "a", "does not know this input"),
        ([["event"]], None, "event", "does not know this input"),
        ([["recover", 8, 0], ["offer", "a"]], "a", 8, "wants None"),
        ([*BOTH, ["event", "a", "a.1", "Completed", [], 1], ["event", "b", "b.1", "Completed", [], 1],
          ["tick", 2], ["backoff", False, False]], None, 2,
         "wants Done(status=<RunState.COMPLETED: 'completed'>, reason=None)"),
    ],
)  # fmt: skip
def test_a_divergence_names_the_task_that_it_is_about(
    inputs: list[Any], task: str | None, at: Any, now: str
) -> None:
    error = diverged(TWO, inputs)
    assert (error.task, error.at, error.now) == (task, at, now)


def recorded() -> tuple[list[Any], list[Change]]:
    play = eventful_run()
    return play.scheduler.inputs or [], play.scheduler.changes or []


def eventful(events: list[Change] | None) -> Replay:
    graph = TaskGraph(TASKS, open=True)
    return Replay(DagScheduler(graph, seed=42, timeout=1000, record=events is not None), events)


def test_events_are_compared_as_well() -> None:
    inputs, events = recorded()
    replay = eventful(events)
    replay.feed(inputs)
    replay.finish(ended=True)
    assert replay.events == len(events) > 40
    assert replay.batches == sum(entry[0] == "tick" for entry in inputs)
    assert replay.decisions > 15
    without = eventful(None)
    without.feed(inputs)
    without.finish(ended=True)
    assert (without.events, without.decisions) == (0, replay.decisions)


def test_a_decision_that_only_an_event_tells_is_found() -> None:
    inputs, events = recorded()
    told = [(event.type, bool(event.data and "delay" in event.data)) for event in events]
    place = told.index(("task.deferred", True))
    retrying = events[place]
    assert retrying.data is not None
    changed = [*events]
    changed[place] = retrying._replace(data={**retrying.data, "delay": 9.5, "reason": "other words"})
    replay = eventful(changed)
    with pytest.raises(ReplayDiverged) as caught:
        replay.feed(inputs)
    error = caught.value
    assert error.recorded[0] == "task.deferred"
    assert error.recorded[-1] == {"delay": 9.5}
    assert error.task == retrying.task
    assert f"'delay': {retrying.data['delay']}" in error.now

    changed[place] = retrying._replace(data={**retrying.data, "reason": "other words"})
    eventful(changed).feed(inputs)


def test_events_that_are_missing_or_too_many_are_found() -> None:
    inputs, events = recorded()
    with pytest.raises(ReplayDiverged, match=r"no event.*tells \['run.completed'\]"):
        eventful(events[:-1]).feed(inputs)
    more = eventful([*events, Change(99, "task.ready", "a"), Change(99, "task.ready", "b")])
    more.feed(inputs)
    more.finish()  # the recorded run may have gone on
    more = eventful([*events, Change(99, "task.ready", "a")])
    more.feed(inputs)
    with pytest.raises(ReplayDiverged, match=r"recorded \['task.ready', 'a'\], but .* nothing of the kind"):
        more.finish(ended=True)
    run_s = [Change(event.at, event.type, None) if event.task == "a" else event for event in events]
    with pytest.raises(ReplayDiverged) as caught:
        eventful(run_s).feed(inputs)
    assert caught.value.task == "a"


def test_a_refusal_is_told_again_after_a_crash_and_in_its_replay() -> None:
    play = Play(task("a"), task("b"))
    play.tick(0, {"b": full()})
    resumed = play.crash()
    resumed.complete("a", at=1)
    resumed.tick(2, {"b": full()})
    before, after = play.scheduler, resumed.scheduler
    told = [*(before.changes or []), *(after.changes or [])]
    assert [change.task for change in told if "scope" in (change.data or {})] == ["b", "b"]
    replay = Replay(DagScheduler(TaskGraph([task("a"), task("b")]), record=True), told)
    replay.feed([*(before.inputs or []), *(after.inputs or [])])
    replay.finish(ended=True)
