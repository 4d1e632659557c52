"""What all faces show of a run, as JSON values: from a run in this process, and from the store."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from allready.core.graph import TaskGraph
from allready.core.history import Replay
from allready.core.scheduler import DagScheduler
from allready.core.snapshot import spec_from_json
from allready.core.states import RUN_ENDED
from allready.core.why import Why
from allready.engine.steer import stored_scheduler
from allready.errors import ReplayDiverged
from allready.store.contract import JournalEvent, RunRow, Store
from allready.store.owners import is_alive

PAGE = 1_000
"""Rows of inputs that are read at a time."""


class TaskLike(Protocol):
    """A task of a run in this process, or its row in the store."""

    @property
    def id(self) -> str:
        """Its name."""

    @property
    def state(self) -> str:
        """A `TaskState`."""

    @property
    def attempts(self) -> int:
        """Made so far."""

    @property
    def agent(self) -> str | None:
        """Who does it."""

    @property
    def started_at(self) -> float | None:
        """Of the last attempt."""

    @property
    def finished_at(self) -> float | None:
        """Of the task."""

    @property
    def error(self) -> str | None:
        """Why it failed or was skipped."""


def rfc3339(seconds: float | None) -> str | None:
    """Give a time in UTC with milliseconds, as RFC 3339 writes it: `2026-11-24T09:30:00.125Z`."""
    if seconds is None:
        return None
    moment = dt.datetime.fromtimestamp(seconds, dt.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def event_view(run_id: str, event: JournalEvent) -> dict[str, Any]:
    """Give an event as a line of `--json`, a server-sent event and the like have it."""
    view: dict[str, Any] = {
        "seq": event.seq,
        "time": rfc3339(event.at),
        "run": run_id,
        "type": event.type,
    }
    if event.task is not None:
        view["task"] = event.task
    if event.attempt is not None:
        view["attempt"] = event.attempt
    return {**(event.data or {}), **view}


def task_view(task: TaskLike) -> dict[str, Any]:
    """Give how a task stands."""
    duration = None
    if task.attempts and task.started_at is not None and task.finished_at is not None:
        duration = round((task.finished_at - task.started_at) * 1000)
    view = {
        "status": str(task.state),
        "attempts": task.attempts,
        "started_at": rfc3339(task.started_at) if task.attempts else None,
        "finished_at": rfc3339(task.finished_at),
        "duration_ms": duration,
        "agent": task.agent,
    }
    if task.error is not None:
        view["error"] = task.error
    return view


def run_view(
    status: str, tasks: Iterable[TaskLike], *, error: str | None = None, answer: str | None = None
) -> dict[str, Any]:
    """Give how a run stands: the last line of `--json`, and with more around it `status --json`."""
    view: dict[str, Any] = {"status": str(status)}
    if error is not None:
        view["error"] = error
    if answer is not None:
        view["answer"] = answer
    view["tasks"] = {task.id: task_view(task) for task in tasks}
    return view


def stored_run_view(store: Store, run_id: str) -> dict[str, Any]:
    """Give how a stored run stands, with its owner."""
    row = store.run(run_id)
    view = run_view(row.status, store.tasks(run_id), error=row.error, answer=row.answer)
    return {"run": run_id, **run_head(row), **view}


def run_head(row: RunRow) -> dict[str, Any]:
    """Give what a list says of a run."""
    owner = None
    if row.owner is not None:
        owner = {"host": row.owner.host, "pid": row.owner.pid, "alive": is_alive(row.owner)}
    return {
        "goal": row.goal,
        "source": row.source,
        "status": row.status,
        "created_at": rfc3339(row.created_at),
        "started_at": rfc3339(row.started_at),
        "finished_at": rfc3339(row.finished_at),
        "counts": row.counts,
        "owner": owner,
    }


def is_abandoned(row: RunRow) -> bool:
    """Say whether a run has not ended and no living process drives it."""
    return row.status not in RUN_ENDED and (row.owner is None or is_alive(row.owner) is False)


def stored_why(store: Store, run_id: str, task: str | None = None) -> list[Why]:
    """Say why a task is not running; without one, for all tasks that have not ended."""
    scheduler = replayed_scheduler(store, store.run(run_id))
    now = time.time()
    if task is not None:
        return [scheduler.why(task, now)]
    answers = (scheduler.why(node.id, now) for node in scheduler.graph)
    return [answer for answer in answers if answer.code != "ended"]


def replayed_scheduler(store: Store, row: RunRow) -> DagScheduler:
    """Give a scheduler as the run's own one was at the last commit, with what refuses its tasks."""
    try:
        replay = start_replay(store, row)
        for inputs in recorded_inputs(store, row.id):
            replay.feed(inputs)
        replay.finish()
    except ReplayDiverged:  # recorded by a version that decides otherwise: then without the refusals
        return stored_scheduler(store, row)[0]
    return replay.scheduler


def start_replay(store: Store, row: RunRow) -> Replay:
    """Give a replay at the beginning of a stored run."""
    first = store.tasks(row.id)[: row.options["first_tasks"]]
    graph = TaskGraph([spec_from_json(task.spec) for task in first])
    return Replay(DagScheduler(graph, seed=row.seed, timeout=row.options["timeout"]))


def recorded_inputs(store: Store, run_id: str) -> Iterator[list[Any]]:
    """Give the inputs of a stored run as they were committed together."""
    after = 0
    while rows := store.inputs(run_id, after, PAGE):
        for row in rows:
            yield row.data
        after = rows[-1].seq
