"""A plan from a model, written in sight of a person who can stop it."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import typer

from allready.agents.usage import Usage
from allready.cli import exits
from allready.cli.planning_view import PlanningView, choose_view
from allready.cli.signals import heard_by
from allready.cli.tables import count
from allready.cli.text import clean, clean_line, duration_text, usage_text
from allready.errors import TaskError
from allready.plan.plan import Limits
from allready.planning.draft import DraftTask
from allready.planning.events import PlanningFailed

if TYPE_CHECKING:
    from allready.agents.definitions import AgentDefinition


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What a plan is asked for with."""

    goal: str
    model: str
    agents: Mapping[str, AgentDefinition]
    """Those that the planner may give tasks to."""
    max_tasks: int
    limits: Limits = field(default_factory=Limits)
    """What planning and running may use up together."""


@dataclass(frozen=True, slots=True)
class WrittenPlan:
    """A plan that a model wrote."""

    tasks: list[DraftTask]
    usage: Usage
    """What the writing took."""


def write_plan(request: PlanRequest, folder: Path, *, quiet: bool) -> WrittenPlan:
    """Have the plan written, shown as it comes on stderr.

    A failure is told there, too, what the model wrote is kept in a file of `folder`, and `typer.Exit` is
    raised with the exit code; as for a signal.
    """
    writing = _Writing(request, choose_view(request.model, quiet=quiet))
    try:
        asyncio.run(writing.run())
    except asyncio.CancelledError:
        if writing.signal is None:
            raise
        print("stopped while planning; nothing was run", file=sys.stderr)
        raise typer.Exit(exits.SIGNALED + writing.signal) from None
    except PlanningFailed as error:
        _tell_failure(error, folder)
        raise typer.Exit(exits.BAD_INPUT) from None
    except TaskError as error:
        print(f"allready: no plan could be made: {clean(str(error))}\nnothing was run", file=sys.stderr)
        raise typer.Exit(exits.BAD_INPUT) from None
    view = writing.view
    if not quiet:
        took = f"{count(len(view.tasks), 'task')} planned in {duration_text(view.elapsed)}"
        used = f": {usage_text(writing.usage)}" if writing.usage else ""
        print(f"{took}{used}", file=sys.stderr)
    return WrittenPlan(view.tasks, writing.usage)


class _Writing:
    """A planner at work, and the signals that reach this process meanwhile."""

    def __init__(self, request: PlanRequest, view: PlanningView) -> None:
        self.request = request
        self.view = view
        self.usage = Usage()
        self.signal: int | None = None
        """The first that came."""

    async def run(self) -> None:
        from allready.agents.models import Models
        from allready.planning.planner import LlmPlanner

        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def hear(number: int, _frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(self._stop, number, task)

        request = self.request
        models = Models(request.model)
        try:
            with (
                heard_by(hear),
                self.view,
            ):  # at once: the provider's library can take a second to be imported
                planner = LlmPlanner(
                    models.get(),
                    list(request.agents.values()),
                    max_tasks=request.max_tasks,
                    on_usage=self._count,
                    allowance=request.limits,
                    name=models.default_name,
                )
                async with aclosing(planner.write(request.goal)) as events:
                    async for event in events:
                        self.view.take(event)
        finally:
            await models.close()

    def _stop(self, number: int, task: asyncio.Task[None]) -> None:
        self.signal = self.signal or number
        task.cancel()

    def _count(self, usage: Usage) -> None:
        self.usage += usage


def _tell_failure(error: PlanningFailed, folder: Path) -> None:
    """Say why there is no plan, and where what the model wrote can be read."""
    print(f"allready: {clean(str(error))}", file=sys.stderr)
    if len(error.problems) > 1:  # one is in the message
        for problem in error.problems:
            print(f"  {clean_line(problem)}", file=sys.stderr)
    if error.raw:
        print(f"what the model wrote: {_keep(error.raw, folder)}", file=sys.stderr)
    print("nothing was run", file=sys.stderr)


def _keep(raw: str, folder: Path) -> str:
    """Write what a model wrote to a file, secrets blanked; gives its name, or why there is none."""
    from allready.agents.secrets import Redactor, secret_values

    path = folder / f"failed-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(Redactor(secret_values(os.environ)).text(raw), encoding="utf-8", errors="replace")
    except OSError as problem:
        return f"not kept, as {path} can't be written: {problem.strerror}"
    return str(path)
