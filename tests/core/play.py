"""A scheduler with a driver that does what a test says: facts in, the whole list of actions out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from allready.core.actions import Action, RunInline, Spawn
from allready.core.events import Canceled, Completed, Failed, Outcome, TaskEvent
from allready.core.graph import TaskGraph, TaskNode, TaskSpec
from allready.core.history import Replay
from allready.core.scheduler import DagScheduler
from allready.core.snapshot import TaskRecord, restore, run_memory, task_record
from allready.core.states import FailureStrategy, RunIf
from allready.errors import ConcurrencyLimit

SILENT = "silent"
"""Answer to an offer: none."""


def task(
    id: str,  # noqa: A002
    *depends_on: str,
    run_if: str = "all_completed",
    strategy: str = "abort",
    **settings: Any,
) -> TaskSpec:
    return TaskSpec(
        id, depends_on, run_if=RunIf(run_if), failure_strategy=FailureStrategy(strategy), **settings
    )


def full(scope: str = "pool", active: int = 1, most: int = 1) -> ConcurrencyLimit:
    return ConcurrencyLimit(f"no place in {scope}", scope, active, most)


class Play:
    """Handles are `TASK.NUMBER`; what is not answered otherwise is started."""

    def __init__(self, *tasks: TaskSpec, open: bool = False, **options: Any) -> None:  # noqa: A002
        self.options = options
        self.first = [*tasks]
        self.opened = open
        self.scheduler = DagScheduler(TaskGraph(tasks, open=open), record=True, validate=True, **options)
        self.now = 0.0

    def __getitem__(self, name: str) -> TaskNode:
        return self.scheduler.graph[name]

    def tick(
        self, now: float | None = None, answers: Mapping[str, BaseException | str] | None = None
    ) -> list[Action]:
        """Run a whole batch, as a driver does; gives all its actions."""
        self.now = self.now if now is None else now
        actions = []
        started = refused = False
        for action in self.scheduler.tick(self.now):
            actions.append(action)
            if not isinstance(action, Spawn | RunInline):
                continue
            answer = (answers or {}).get(action.task)
            if answer is None:
                handle = f"{action.task}.{action.number}"
                self.scheduler.record_spawn(action.task, handle, self.now)
                started = True
            elif isinstance(answer, BaseException):
                self.scheduler.record_spawn_failure(action.task, answer, self.now)
                refused |= isinstance(answer, ConcurrencyLimit)
        self.scheduler.record_batch_backoff(started, refused)
        return actions

    def tell(self, outcome: Outcome, *names: str, at: float | None = None, handle: str | None = None) -> None:
        """Say how the current attempts of these tasks ended."""
        self.now = self.now if at is None else at
        for name in names:
            attempt = handle or str(self[name].handle)
            self.scheduler.handle(TaskEvent(name, attempt, outcome, self.now))

    def complete(self, *names: str, at: float | None = None) -> None:
        self.tell(Completed(), *names, at=at)

    def fail(self, *names: str, at: float | None = None, permanent: bool = False) -> None:
        self.tell(Failed("broken", permanent), *names, at=at)

    def stop(self, *names: str, at: float | None = None) -> None:
        self.tell(Canceled("asked to"), *names, at=at)

    def command(self, kind: str, name: str | None = None, now: float | None = None) -> None:
        self.now = self.now if now is None else now
        self.scheduler.command(kind, name, self.now)

    @property
    def states(self) -> dict[str, str]:
        return {node.id: node.state.value for node in self.scheduler.graph}

    @property
    def status(self) -> str:
        return self.scheduler.status.value

    def told(self) -> list[str]:
        """Give what was told since the last call: `type task`, with the attempt if there is one."""
        changes, self.scheduler.changes = self.scheduler.changes or [], []
        return [
            change.type + (f" {change.attempt or change.task}" if change.task is not None else "")
            for change in changes
        ]

    def data(self, kind: str, name: str | None = None) -> list[dict[str, Any] | None]:
        """Give the data of all that was told of this kind and is not taken yet."""
        return [
            change.data
            for change in self.scheduler.changes or []
            if change.type == kind and change.task == name
        ]

    def crash(self, recover: bool = True, down_for: float = 0.0) -> Play:
        """Go on in a scheduler that knows only what a store would have kept."""
        old = self.scheduler
        kept = json.loads(
            json.dumps([old.status, [task_record(node) for node in old.graph], run_memory(old)])
        )
        status, tasks, run = kept
        new = Play(*(node.spec for node in old.graph), **self.options)
        new.now = self.now
        restore(new.scheduler, status, [TaskRecord(*record) for record in tasks], run)
        if recover:
            new.scheduler.recover(self.now, down_for)
        return new

    def replay(self) -> Replay:
        """Give a replay that was fed all the inputs so far, after a way through JSON."""
        replay = Replay(
            DagScheduler(TaskGraph(self.first, open=self.opened), validate=True, record=True, **self.options)
        )
        replay.feed(json.loads(json.dumps(self.scheduler.inputs)))
        return replay
