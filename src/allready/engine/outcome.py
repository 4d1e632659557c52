"""`RunResult`: how a run ended and what its tasks gave."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from allready.agents.base import TaskResult
from allready.agents.usage import Usage
from allready.core.graph import TaskGraph, TaskNode
from allready.core.states import COMPLETED, RunState, TaskState
from allready.engine.answer import answer_of
from allready.engine.results import as_text, value_of
from allready.errors import UserError
from allready.plan.plan import Plan

Reader = Callable[[Collection[str]], Mapping[str, Any]]
"""Gives what completed tasks gave."""


class TaskReport:
    """How one task of a run ended. Times in seconds since 1970."""

    __slots__ = ("_node", "_run")

    def __init__(self, run: RunResult, node: TaskNode) -> None:
        self._run = run
        self._node = node

    @property
    def id(self) -> str:
        """The task's id."""
        return self._node.id

    @property
    def status(self) -> TaskState:
        """How it ended, or where it stands if the run has not ended."""
        return self._node.state

    @property
    def attempts(self) -> int:
        """How many attempts were made."""
        return self._node.attempts

    @property
    def agent(self) -> str | None:
        """Who did it."""
        return self._node.agent

    @property
    def error(self) -> str | None:
        """Why it failed or was skipped; None if neither."""
        return self._node.error

    @property
    def started_at(self) -> float | None:
        """When its last attempt started."""
        return self._node.started_at

    @property
    def finished_at(self) -> float | None:
        """When it ended."""
        return self._node.finished_at

    @property
    def duration(self) -> float | None:
        """Seconds from the start of its last attempt to its end; None if it never ran or has not ended."""
        return self._node.duration

    @property
    def value(self) -> Any:
        """What it gave: a function's value, a command's structured output or text.

        Raises `UserError` if it did not complete.
        """
        return self._run[self.id]

    @property
    def output(self) -> str:
        """What it gave as text; empty if it did not complete."""
        if self.status is not COMPLETED:
            return ""
        given = self._run._given(self.id)
        return given.output if isinstance(given, TaskResult) else as_text(given)

    @property
    def output_file(self) -> Path | None:
        """The file with the whole output, if there is one."""
        given = self._run._given(self.id) if self.status is COMPLETED else None
        return given.output_file if isinstance(given, TaskResult) else None

    @property
    def exit_code(self) -> int | None:
        """Of a command."""
        given = self._run._given(self.id) if self.status is COMPLETED else None
        return given.exit_code if isinstance(given, TaskResult) else None

    def __repr__(self) -> str:
        return f"<{self.id} {self.status}>"


class _Reports(Mapping[str, TaskReport]):
    """Task id → its report, made when it is asked for."""

    def __init__(self, run: RunResult, graph: TaskGraph) -> None:
        self._run = run
        self._graph = graph

    def __getitem__(self, task: str) -> TaskReport:
        return TaskReport(self._run, self._graph.by_id[task])

    def __iter__(self) -> Iterator[str]:
        return iter(self._graph.by_id)

    def __len__(self) -> int:
        return len(self._graph)


class RunResult:
    """How a run ended, or where it stopped if a person has to go on.

    `result["report"]` is what the task `report` gave; `result.tasks["report"]` tells all about it.
    """

    def __init__(
        self,
        id: str,  # noqa: A002 - the field's name everywhere
        plan: Plan,
        graph: TaskGraph,
        status: RunState,
        read: Reader,
        *,
        redact: Callable[[str], str],
        error: str | None = None,
        started_at: float | None = None,
        finished_at: float | None = None,
        usage: Usage | None = None,
        temporary: object = None,
    ) -> None:
        self.id = id
        self.status = status
        self.error = error
        """Why it failed, was canceled, or is paused at a limit; else None."""
        self.usage = usage or Usage()
        """What requests to models took, planning included."""
        self.started_at = started_at
        self.finished_at = finished_at
        self._graph = graph
        self._plan = plan
        self._read = read
        self._redact = redact
        self._temporary = temporary
        """What is to live as long as this result: the files of a run without a store."""

    @property
    def tasks(self) -> Mapping[str, TaskReport]:
        """Task id → all about how it ended."""
        return _Reports(self, self._graph)

    @property
    def answer(self) -> str | None:
        """The answer to the goal, of a plan with `answer`; None if the run has none (yet)."""

        def read(tasks: Collection[str]) -> dict[str, TaskResult]:
            return {task: TaskResult(self.tasks[task].output) for task in tasks}

        return answer_of(self._plan, self._graph, self.status, read, self._redact)

    @property
    def duration(self) -> float | None:
        """Seconds from start to end; None if it has not ended."""
        if self.started_at is None or self.finished_at is None:
            return None
        return self.finished_at - self.started_at

    def __getitem__(self, task: str) -> Any:
        """Give what a completed task gave. Raises `UserError` if there is no such task or no result."""
        if task not in self.tasks:
            raise UserError(f"the run has no task {task!r}")
        report = self.tasks[task]
        if report.status is not COMPLETED:
            why = f": {report.error}" if report.error else ""
            raise UserError(f"task {task!r} has no result: it is {report.status}{why}")
        return value_of(self._given(task), self._plan.tasks[task])

    def _given(self, task: str) -> Any:
        return self._read([task])[task]

    def __repr__(self) -> str:
        return f"<run {self.id} {self.status}: {len(self.tasks)} tasks>"
