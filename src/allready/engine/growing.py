"""`Growing`: a plan that is written while its run goes on; each task is taken as soon as it is complete."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from allready.agents.secrets import Redactor
from allready.core.scheduler import DagScheduler
from allready.engine.compile import Compiled
from allready.engine.loop import Command
from allready.errors import AllreadyError
from allready.plan.models import TaskFile, TaskSettings
from allready.plan.plan import Prompt
from allready.plan.tasks import make_task
from allready.plan.template import render
from allready.planning.draft import DEFAULTS, DraftTask, plan_document, task_entry
from allready.planning.events import Again, Noted, PlanningFailed, Waiting, Written
from allready.planning.planner import LlmPlanner

RAW_FILE = "plan-as-written.txt"
"""In the run's folder: what the model wrote, if no plan could be made of it."""


class Growing:
    """Takes tasks from a planner into a run's plan and graph, and closes the graph at the end.

    `note` adds something to the run's journal, `wake` has it looked at. What was taken is fixed: it may run
    already.
    """

    def __init__(
        self,
        compiled: Compiled,
        scheduler: DagScheduler,
        planner: LlmPlanner,
        *,
        clock: Callable[[], float],
        note: Callable[[str, dict[str, Any]], None],
        wake: Callable[[], None],
        folder: Callable[[], Path],
        redactor: Redactor,
    ) -> None:
        self._compiled = compiled
        self._scheduler = scheduler
        self._planner = planner
        self._clock = clock
        self._note = note
        self._wake = wake
        self._folder = folder
        self._redactor = redactor
        self._defaults = TaskSettings.model_validate(DEFAULTS)
        self.taken: list[DraftTask] = [_draft_of(compiled, name) for name in compiled.plan.tasks]
        """All tasks so far, in the order in which they were written."""

    async def grow(self) -> Command | None:
        """Write the plan to its end. If there is no complete one, gives what the run has to be told.

        The graph stays open then, and what was taken stays, as when this is canceled.
        """
        plan = self._compiled.plan
        self._tell("plan.started", {"taken": len(self.taken)} if self.taken else {})
        try:
            async for event in self._planner.write(plan.goal, taken=tuple(self.taken), keep=True):
                match event:
                    case Written(task):
                        self._take(task)
                    case Noted(text):
                        self._tell("plan.noted", {"text": text})
                    case Again(reason, problems):
                        self._tell("plan.again", {"reason": reason, "problems": list(problems)})
                    case Waiting(reason, delay):
                        self._tell("plan.waiting", {"reason": reason, "delay": round(delay, 3)})
        except PlanningFailed as error:
            if error.at_limit:
                return Command("limit", str(error))
            return Command("fail", f"planning failed: {error}{self._keep_raw(error.raw)}")
        except AllreadyError as error:
            return Command("fail", f"planning failed: {error}")
        now = self._clock()
        if plan.answer:
            self._scheduler.add_tasks([self._compiled.add_answer()], now)
        self._scheduler.close(now)
        self._keep_document()
        self._wake()
        return None

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
        self.taken.append(draft)
        self._keep_document()
        self._wake()

    def _keep_document(self) -> None:
        """Bring the plan as it is stored up to what was taken."""
        plan = self._compiled.plan
        written = plan_document(plan.goal, self.taken, limits=plan.limits, max_parallel=plan.max_parallel)
        plan.document = {**(plan.document or {}), **written}

    def _tell(self, kind: str, data: dict[str, Any]) -> None:
        self._note(kind, self._redactor.json(data))
        self._wake()

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
