"""`Plan` and `Task`: what was asked, whether it came from a file, from Python or from the planner.

Standard library only, so that `import allready` stays quick; reading files (`plan.load`) and templates
(`plan.template`) bring their libraries with them when they are used.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from allready.core.states import FailureStrategy, RunIf

DEFAULT_TIMEOUT = 600.0
"""Seconds an attempt may take unless the task says otherwise."""
DEFAULT_SLOTS = 5
"""Places of a pool if neither the user nor the plan says how many."""


@dataclass(slots=True, frozen=True)
class Command:
    """A program to run. `argv` holds templates, one an argument; with `shell` a single one for `sh -c`."""

    argv: tuple[str, ...]
    shell: bool = False
    cwd: str | None = None
    """Template; relative to the plan's `base_dir`; None: `base_dir` itself."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Added to the environment; values are templates."""
    success_codes: tuple[int, ...] = (0,)


@dataclass(slots=True, frozen=True)
class Prompt:
    """Something to ask of an agent. `text` is a template."""

    text: str
    agent: str | None = None
    """None: the router chooses."""


@dataclass(slots=True, frozen=True)
class Function:
    """A Python function: async ones run in the event loop, plain ones in a thread, or in a process."""

    call: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    """Parameters that are named after tasks and get their results."""
    isolate: bool = False

    @property
    def reference(self) -> str:
        """`module:qualified.name`, by which another process finds the function again."""
        call = inspect.unwrap(self.call)
        return f"{getattr(call, '__module__', '?')}:{getattr(call, '__qualname__', repr(call))}"


Body = Command | Prompt | Function


@dataclass(slots=True)
class Task:
    """One node of a plan. Times in seconds."""

    id: str
    body: Body
    title: str | None = None
    depends_on: tuple[str, ...] = ()
    run_if: RunIf = RunIf.ALL_COMPLETED
    failure_strategy: FailureStrategy = FailureStrategy.ABORT
    max_retries: int | None = None
    timeout: float | None = DEFAULT_TIMEOUT
    priority: int = 0
    estimate: float | None = None
    resources: Mapping[str, int] = field(default_factory=dict)
    approval: bool = False
    idempotent: bool | None = None
    """None: as the agent says, else True."""
    inline: bool = False


@dataclass(slots=True)
class Limits:
    """What a run may use up in all; None: no limit."""

    max_tokens: int | None = None
    max_requests: int | None = None
    max_cost: float | None = None
    """In US dollars."""


@dataclass(slots=True)
class Plan:
    """A goal, tasks, and their settings. See `Plan.task` and `Plan.add` for making one in Python."""

    goal: str = ""
    max_parallel: int | None = None
    vars: dict[str, Any] = field(default_factory=dict)
    agents: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Agents that the plan itself defines: name → settings as in an agent file's front matter, with the
    instructions under `instructions`."""
    limits: Limits = field(default_factory=Limits)
    resources: dict[str, int] = field(default_factory=dict)
    """Named resources of the pool, and how many units there are."""
    timeout: float | None = None
    """Seconds for the whole run."""
    tasks: dict[str, Task] = field(default_factory=dict)
    base_dir: Path = field(default_factory=Path.cwd)
    """Where relative working directories start: the directory in which the run was started."""
    source: str | None = None
    """The file or `package.module:plan` it came from."""
    document: dict[str, Any] | None = None
    """The plan as plain JSON values, variables filled in: enough to load it again without the file.
    None for a plan made in Python."""

    def dependencies(self) -> dict[str, Sequence[str]]:
        """Give task id → ids of its direct dependencies."""
        return {task.id: task.depends_on for task in self.tasks.values()}
