"""From the models of a task and of the plan's defaults to a `Task`."""

from __future__ import annotations

from typing import Any

from allready.core.states import FailureStrategy, RunIf
from allready.plan.models import TaskFile, TaskSettings
from allready.plan.plan import Body, Command, Prompt, Task
from allready.plan.template import literal

PROMPT = "{}\n\n{{{{ goal }}}}"
"""Of a task that only names its agent, whose instructions say what to do; filled with the task's title."""


def make_task(model: TaskFile, defaults: TaskSettings, argv: tuple[str, ...]) -> Task:
    """Give the task. `argv` are the arguments of its command."""

    def setting(name: str, fallback: Any = None) -> Any:
        for source in (model, defaults):
            value = getattr(source, name)
            if value is not None:
                return value
        return fallback

    body: Body
    if model.run is None:
        body = Prompt(model.prompt or PROMPT.format(literal(model.title or model.id)), setting("agent"))
    else:
        body = Command(
            argv,
            shell=setting("shell", False),
            cwd=setting("cwd"),
            env={**(defaults.env or {}), **(model.env or {})},
            success_codes=tuple(setting("success_codes", (0,))),
        )
    return Task(
        id=model.id,
        body=body,
        title=model.title,
        depends_on=tuple(dict.fromkeys(model.depends_on or ())),
        run_if=RunIf(setting("run_if", RunIf.ALL_COMPLETED)),
        failure_strategy=FailureStrategy(setting("failure_strategy", FailureStrategy.ABORT)),
        max_retries=setting("max_retries"),
        timeout=setting("timeout", None),
        priority=setting("priority", 0),
        estimate=setting("estimate"),
        resources=setting("resources", {}),
        approval=setting("approval", False),
        idempotent=setting("idempotent"),
        inline=setting("inline", False),
    )
