"""Playing a recorded run again through today's scheduler; files of recordings are in `engine/recording.py`.

A recording has no prompts, outputs or results: only what the scheduler was told and what it decided.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from allready.core.events import Change
from allready.core.graph import TaskGraph, TaskNode, TaskSpec
from allready.core.history import Replay
from allready.core.scheduler import DagScheduler
from allready.core.snapshot import spec_from_json
from allready.errors import ReplayDiverged
from allready.store.contract import Store, TaskRow

PAGE = 1_000
"""Rows that are read at a time."""
READS = 5
"""How often a run that goes on is read anew until nothing was written meanwhile."""
RETRIED = "retry"
"""Reason of a `run.resumed` that is the scheduler's own; another says that a process took the run up."""


class Final(NamedTuple):
    """Where a recorded run stood at its last input."""

    status: str
    tasks: dict[str, tuple[str, int]]
    """Task → state and number of attempts."""


@dataclass(slots=True)
class Recording:
    """A recorded run: all that a replay needs."""

    tasks: list[TaskSpec]
    """Those that it began with; a plan that grew has `add` among its inputs."""
    seed: int
    timeout: float | None
    """Of the whole run, in seconds."""
    open: bool
    """Whether its plan was still being written when it began."""
    inputs: list[list[Any]]
    events: list[Change]
    """What the scheduler told."""
    final: Final | None
    """None if the run went on while it was read."""


@dataclass(slots=True)
class Replayed:
    """What became of a replay."""

    inputs: int
    """Inputs that were recorded."""
    batches: int
    """Ticks that were played."""
    decisions: int
    """Offers, cancels and ends that are the same."""
    events: int
    """Events that are the same."""
    final: bool
    """Whether the states at the end were compared."""
    began_at: float | None
    """Time of the first tick."""
    difference: ReplayDiverged | None
    """The first; None if there is none."""


def play(recording: Recording) -> Replayed:
    """Play a recording through a new scheduler, up to the first decision that differs."""
    graph = TaskGraph(recording.tasks, open=recording.open)
    scheduler = DagScheduler(graph, seed=recording.seed, timeout=recording.timeout, record=True)
    replay = Replay(scheduler, recording.events)
    difference = None
    try:
        replay.feed(recording.inputs)
        replay.finish(ended=recording.final is not None)
        if recording.final is not None:
            _compare_final(replay, recording.final)
    except ReplayDiverged as error:
        difference = error
    return Replayed(
        len(recording.inputs),
        replay.batches,
        replay.decisions,
        replay.events,
        recording.final is not None,
        next((entry[1] for entry in recording.inputs if entry[0] == "tick"), None),
        difference,
    )


def _compare_final(replay: Replay, final: Final) -> None:
    now = _final(replay.scheduler.status, replay.scheduler.graph)
    if now == final:
        return
    names = {**final.tasks, **now.tasks}
    task = next((name for name in names if final.tasks.get(name) != now.tasks.get(name)), None)
    recorded: list[Any] = ["the end", final.status]
    is_now: list[Any] = [now.status]
    if task is not None:
        recorded = ["the end", task, *final.tasks.get(task, ())]
        is_now = [task, *now.tasks.get(task, ())]
    raise ReplayDiverged(
        f"at the end: recorded {recorded}, but now it is {is_now}",
        step=replay.steps,
        at=replay.at,
        task=task,
        recorded=recorded,
        now=f"ends with {is_now}",
        story=replay.scheduler.story(task or ""),
    )


def _final(status: str, nodes: Iterable[TaskNode | TaskRow]) -> Final:
    """Give where a run's tasks stand; `nodes` are a graph's or a store's."""
    return Final(str(status), {node.id: (str(node.state), node.attempts) for node in nodes})


# --- from a store -----------------------------------------------------------------------------------------


def read_recording(store: Store, run_id: str) -> Recording:
    """Give the recording of a stored run, also of one that goes on. Raises `RunNotFound`."""
    recording = _read_once(store, run_id)
    for _ in range(READS - 1):
        if recording.final is not None:
            break
        recording = _read_once(store, run_id)
    return recording


def _read_once(store: Store, run_id: str) -> Recording:
    row = store.run(run_id, plan=False)
    # in this order: there is no input whose events are not read
    inputs = [entry for entries in recorded_inputs(store, run_id) for entry in entries]
    events = list(_recorded_events(store, run_id))
    tasks = store.tasks(run_id)
    quiet = store.run(run_id, plan=False).last_seq == row.last_seq
    return Recording(
        [spec_from_json(task.spec) for task in tasks[: row.options["first_tasks"]]],
        row.seed,
        row.options["timeout"],
        row.options.get("max_tasks") is not None,
        inputs,
        events,
        _final(row.status, tasks) if quiet else None,
    )


def recorded_inputs(store: Store, run_id: str) -> Iterator[list[Any]]:
    """Give the inputs of a stored run as they were committed together."""
    after = 0
    while rows := store.inputs(run_id, after, PAGE):
        for row in rows:
            yield row.data
        after = rows[-1].seq


def _recorded_events(store: Store, run_id: str) -> Iterator[Change]:
    """Give the events that a run's scheduler told: no others that stand in its journal."""
    after = 0
    while rows := store.events(run_id, after, PAGE):
        for row in rows:
            if _is_scheduler_s(row.type, row.data or {}):
                yield Change(row.at, row.type, row.task, row.attempt, row.data)
        after = rows[-1].seq


def _is_scheduler_s(kind: str, data: Mapping[str, Any]) -> bool:
    if kind == "run.resumed":
        return bool(data.get("reason", RETRIED) == RETRIED)
    return kind == "plan.closed" or (kind.startswith(("task.", "run.")) and kind != "run.created")
