"""The kinds of agents that definitions may name. A new kind is one function in `KINDS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from allready.agents.base import Agent, Attempt, TaskResult
from allready.agents.command import CommandAgent
from allready.agents.definitions import AgentDefinition
from allready.agents.function import FunctionAgent
from allready.agents.llm import LlmAgent
from allready.agents.models import ALIASES, INHERIT, NO_LIBRARY, Models, has_models, price_of
from allready.agents.tools.names import tools_problem
from allready.errors import UserError, text_of
from allready.plan.imports import import_object
from allready.plan.plan import Command


class PromptFunctionAgent:
    """Answers a prompt with a Python function of one argument: `kind: python`."""

    def __init__(self, definition: AgentDefinition) -> None:
        self._call = import_object(definition.function or "")

    async def run(self, attempt: Attempt) -> TaskResult:
        """Call the function with the prompt."""
        return await FunctionAgent(self._call, {}, (attempt.prompt,)).run(attempt)


def _command(definition: AgentDefinition, _: Models) -> Agent:
    return CommandAgent(
        Command(definition.argv, definition.shell, definition.cwd, definition.env, definition.success_codes)
    )


KINDS: Mapping[str, Callable[[AgentDefinition, Models], Agent]] = {
    "llm": LlmAgent,
    "command": _command,
    "python": lambda definition, _: PromptFunctionAgent(definition),
}


def make_agent(definition: AgentDefinition, models: Models | None = None) -> Agent:
    """Give the agent that a definition describes; `models` are the run's.

    Raises `UserError` if it can't work here.
    """
    models = models or Models()
    problem = problem_of(definition, models)
    if problem is not None:
        raise UserError(f"agent {definition.name!r}: {problem}")
    return KINDS[definition.kind](definition, models)


def problem_of(
    definition: AgentDefinition,
    models: Models | None = None,
    base_dir: Path | None = None,
    *,
    check_model: bool = True,
) -> str | None:
    """Say why an agent can't work here, before anything is run; None if it can.

    Without `models` the run's own model is not known yet: only what the definition itself names is checked.
    Its tools are looked for in the project at `base_dir`; without one they are not checked.
    """
    if definition.kind == "a2a":
        return "agents of kind a2a can't run in this version; ask the remote one with a command"
    if definition.kind == "llm":
        problem = _problem_of_model(definition, models) if check_model else None
        return tools_problem(definition, base_dir) if problem is None and base_dir is not None else problem
    if definition.kind == "python":
        try:
            call = import_object(definition.function or "")
        except (Exception, SystemExit) as error:  # whatever its module does when it is imported
            said = text_of(error)
            told = said if isinstance(error, ImportError | ValueError) else f"{type(error).__name__}: {said}"
            return f"its function {definition.function} can't be imported: {told}"
        if not callable(call):
            return f"its function {definition.function} is no function"
    return None


def _problem_of_model(definition: AgentDefinition, models: Models | None) -> str | None:
    if not has_models():
        return NO_LIBRARY
    if models is None:
        if definition.model is None or definition.model == INHERIT or definition.model in ALIASES:
            return None
        models = Models()
    problem = models.problem_of(definition.model)
    name = models.name_of(definition.model)
    if problem is None and name and definition.limits.max_cost is not None and price_of(name) is None:
        return f"its max_cost can't be kept: the price of {name} is not known; use max_tokens instead"
    return problem
