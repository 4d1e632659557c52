"""`Growing`: a plan that is written while its run goes on; each task is taken as soon as it is complete."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any

from allready.agents.secrets import Redactor
from allready.engine.budget import Budget
from allready.engine.compile import Compiled
from allready.engine.loop import Command, SchedulerLoop
from allready.errors import AllreadyError
from allready.plan.models import TaskFile, TaskSettings
from allready.plan.plan import Prompt
from allready.plan.tasks import make_task
from allready.plan.template import render
from allready.planning.draft import DEFAULTS, DraftTask, document_of, task_entry
from allready.planning.events import Again, Noted, PlannerEvent, PlanningFailed, Waiting, Written
from allready.planning.planner import LlmPlanner
from allready.store.contract import JournalEvent

_log = logging.getLogger(__name__)

RAW_FILE = "plan-as-written.txt"
"""In the run's folder: what the model wrote, if no plan could be made of it."""
PLANNER = "planning"
"""Who asks models for the plan, in the budget; no attempt is called so."""


class Growing:
    """Takes tasks from a planner into a run's plan and graph, and closes the graph at the end.

    What was taken is fixed: it may run already. `note` adds something to the run's journal. `on_planned` is
    told all tasks when the plan is complete.
    """

    def __init__(
        self,
        compiled: Compiled,
        loop: SchedulerLoop,
        planner: LlmPlanner,
        budget: Budget,
        *,
        clock: Callable[[], float],
        note: Callable[[str, dict[str, Any]], None],
        folder: Callable[[], Path],
        redactor: Redactor,
        on_planned: Callable[[Sequence[DraftTask]], None] | None,
    ) -> None:
        self._compiled = compiled
        self._loop = loop
        self._scheduler = loop.scheduler
        self._planner = planner
        self._budget = budget
        self._clock = clock
        self._note = note
        self._folder = folder
        self._redactor = redactor
        self._on_planned = on_planned
        self._defaults = TaskSettings.model_validate(DEFAULTS)
        self._taken = [_draft_of(compiled, name) for name in compiled.plan.tasks]
        self._writing: asyncio.Task[None] | None = None
        self.seconds = 0.0
        """How long the plan was being written."""
        planner.on_usage = partial(budget.take, PLANNER)
        planner.allow = partial(budget.allow, PLANNER)

    def go_on(self) -> None:
        """Have the plan written, unless it is complete, or is being written."""
        if self._scheduler.graph.open and (self._writing is None or self._writing.done()):
            self._writing = asyncio.create_task(self._write())

    def observe(self, events: Sequence[JournalEvent]) -> None:
        """Go on when the run does, after a pause or a failure."""
        if any(event.type == "run.resumed" for event in events):
            self.go_on()

    async def stop(self) -> bool:
        """Stop the planner and its request; what was taken stays. Says whether there was one to stop."""
        writing = self._writing
        if writing is None or writing.done():
            return False
        writing.cancel()
        await asyncio.wait([writing])
        return True

    async def _write(self) -> None:
        """Write the plan to its end, or tell the run why it has none."""
        self._budget.reserve(PLANNER, PLANNER)
        began = self._clock()
        try:
            command = await self._grow()
            if command is not None:
                self._loop.steer(command)
        except Exception as error:
            self._loop.fail(error)
        finally:
            self.seconds += self._clock() - began
            self._budget.settle(PLANNER)
            self._loop.wake()

    async def _grow(self) -> Command | None:
        """Give None for a complete plan, else what the run has to be told; the graph stays open then."""
        plan = self._compiled.plan
        self._tell("plan.started", {"taken": len(self._taken)} if self._taken else {})
        try:
            written = self._planner.write(plan.goal, taken=tuple(self._taken), keep=True)
            async with aclosing(written) as events:
                async for event in events:
                    self._hear(event)
        except PlanningFailed as error:
            if error.at_limit:
                self._budget.paused_for = self._budget.refused
                return Command("limit", self._redactor.text(str(error)))
            return self._failed(error, self._keep_raw(error.raw))
        except AllreadyError as error:
            return self._failed(error)
        now = self._clock()
        if plan.answer:
            self._scheduler.add_tasks([self._compiled.add_answer()], now)
        self._scheduler.close(now)
        self._keep_document()
        if self._on_planned is not None:
            try:
                self._on_planned(self._taken)
            except Exception:
                _log.exception("the plan is complete, but whoever wanted to be told failed")
        return None

    def _hear(self, event: PlannerEvent) -> None:
        match event:
            case Written(task):
                self._take(task)
            case Noted(text):
                self._tell("plan.noted", {"text": text})
            case Again(reason, problems):
                self._tell("plan.again", {"reason": reason, "problems": list(problems)})
            case Waiting(reason, delay):
                self._tell("plan.waiting", {"reason": reason, "delay": round(delay, 3)})

    def _failed(self, error: Exception, kept: str = "") -> Command:
        return Command("fail", self._redactor.text(f"planning failed: {error}{kept}"))

    def _take(self, draft: DraftTask) -> None:
        task = make_task(TaskFile.model_validate(task_entry(draft)), self._defaults, ())
        self._compiled.plan.tasks[task.id] = task
        try:
            spec = self._compiled.compile_task(task)
            self._scheduler.add_tasks([spec], self._clock())
        except AllreadyError:
            del self._compiled.plan.tasks[task.id]
            raise
        self._compiled.specs.append(spec)
        self._taken.append(draft)
        self._keep_document()
        self._loop.wake()

    def _keep_document(self) -> None:
        """Bring the plan as it is stored up to what was taken."""
        plan = self._compiled.plan
        plan.document = document_of(plan, self._taken)

    def _tell(self, kind: str, data: dict[str, Any]) -> None:
        self._note(kind, self._redactor.json(data))
        self._loop.wake()

    def _keep_raw(self, raw: str) -> str:
        if not raw:
            return ""
        path = self._folder() / RAW_FILE
        try:
            path.write_text(self._redactor.text(raw), encoding="utf-8", errors="replace")
        except OSError as error:
            return f" (what the model wrote can't be kept: {error})"
        return f"; what the model wrote is in {path}"


def _draft_of(compiled: Compiled, name: str) -> DraftTask:
    """Give a task that an earlier process took, as the planner wrote it."""
    task = compiled.plan.tasks[name]
    assert isinstance(task.body, Prompt)
    return DraftTask(task.id, task.title or "", render(task.body.text, {}), task.body.agent, task.depends_on)
