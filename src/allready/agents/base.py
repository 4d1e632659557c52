"""The contract between a pool and the kinds of agents.

An agent is asked with one `Attempt` and gives a `TaskResult`, or raises:

* `TaskError` (or any exception): the attempt failed; retried as the task allows.
* `PermanentError`: trying again can't help. `FatalError`: nor will others fare better, so the run ends.
* `TransientError`: not now (rate limit, overload); uses up no retry. `LostError`: the worker died.
* `asyncio.CancelledError`: it was asked to stop, and did.

**Cancel**: the pool cancels the coroutine once (*asked*) and, when the grace period is over, a second time
(*forced*). A kind that needs time to stop (a process group) catches the first and goes on stopping; on the
second it must give up at once. What can't be forced (a thread) is handed to `Attempt.hold_place`, so that
its place in the pool stays taken until it really ends.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from allready.agents.secrets import Redactor
from allready.agents.usage import Usage
from allready.errors import LostError, TransientError

OUTPUT_LIMIT = 64 * 1024
"""Bytes (UTF-8) of an output that are kept in memory and in the store's row; the whole is in a file."""


@dataclass(slots=True)
class TaskResult:
    """What an attempt gave."""

    output: str = ""
    """Text, without its last newline; at most `OUTPUT_LIMIT` bytes, cut in the middle and marked."""
    data: Any = None
    """Structured output: JSON values, or in runs without a store any Python value."""
    output_file: Path | None = None
    """The whole output, if there is a file of it."""
    exit_code: int | None = None
    artifacts: Path | None = None
    """Folder of files that the attempt left, or None."""
    output_size: int | None = None
    output_sha256: str | None = None
    """Of an `output_file` that has been made durable; None for one that has not."""


@dataclass(slots=True)
class Dependency:
    """A direct or transitive dependency as its dependents see it."""

    id: str
    status: str
    """`completed`, `failed`, `skipped`, … (a `TaskState`)."""
    title: str | None = None
    result: TaskResult | None = None
    """None if it did not complete."""
    error: str | None = None
    direct: bool = True
    duration: float | None = None
    """Seconds its last attempt took; None if it was never started."""


@dataclass(slots=True)
class Attempt:
    """Everything an agent needs for one try at one task."""

    run_id: str
    task_id: str
    handle: str
    number: int
    """Which try it is, from 1."""
    folder: Path
    """The attempt's own folder; exists when the agent is asked."""
    base_dir: Path
    """Where relative working directories start."""
    dependencies: Mapping[str, Dependency] = field(default_factory=dict)
    """The direct dependencies, and those that its templates name, by id."""
    prompt: str | None = None
    """The rendered prompt, with the dependencies' context block."""
    variables: Mapping[str, Any] = field(default_factory=dict)
    goal: str = ""
    grace: float = 5.0
    """Seconds between asking and forcing."""
    on_output: Callable[[str], None] | None = None
    """Called with each piece of text the agent has written, secrets blanked: for live display."""
    hold_place: Callable[[Awaitable[Any]], None] | None = None
    """Keeps the attempt's place in the pool taken until the awaitable is done."""
    run_folder: Path | None = None
    """The run's folder, for templates; None: the attempt's own."""
    plan_folder: Path | None = None
    """Where the plan's file is, for templates; None: `base_dir`."""
    on_usage: Callable[[Usage], None] | None = None
    """Called after each request to a model with what it took."""
    before_request: Callable[[], Awaitable[None]] | None = None
    """Called before each request to a model; returns when its provider takes one more."""
    allow: Callable[[], None] | None = None
    """Called before each request to a model; raises `TransientError` if the run's limits leave no room."""
    check_lease: Callable[[], None] | None = None
    """Called right before anything begins that has an effect (a program, a function, a request to a model);
    raises `TransientError` if another process may own the run by now."""
    begun: bool = False
    """Whether anything that has an effect has begun."""
    redactor: Redactor | None = None
    """Blanks the secrets of this process in what is shown or kept."""

    def begin(self) -> None:
        """Say that something with an effect begins now.

        If another process may own the run by now, that raises `TransientError`, or `LostError` once something
        has begun: nobody knows then how far the attempt came.
        """
        if self.check_lease is not None:
            try:
                self.check_lease()
            except TransientError as error:
                if self.begun:
                    raise LostError(str(error)) from error
                raise
        self.begun = True

    @property
    def idempotency_key(self) -> str:
        """The same for all attempts at one task of one run."""
        return f"{self.run_id}:{self.task_id}"

    def scope(self) -> dict[str, Any]:
        """Give what the templates of the task see."""
        from allready.plan.template import template_scope

        return template_scope(
            goal=self.goal,
            variables=self.variables,
            dependencies=self.dependencies,
            run_id=self.run_id,
            run_folder=self.run_folder or self.folder,
            plan_folder=self.plan_folder or self.base_dir,
        )


class Agent(Protocol):
    """One kind of agent with its settings: can be asked any number of times, concurrently."""

    async def run(self, attempt: Attempt) -> TaskResult:
        """Make one attempt; see the module's head for what to raise."""
        ...
