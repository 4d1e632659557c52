"""The kinds of agents that definitions may name. A new kind is one function in `KINDS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from allready.agents.base import Agent, Attempt, TaskResult
from allready.agents.command import CommandAgent
from allready.agents.definitions import AgentDefinition
from allready.agents.function import FunctionAgent
from allready.errors import UserError
from allready.plan.imports import import_object
from allready.plan.plan import Command


class PromptFunctionAgent:
    """Answers a prompt with a Python function of one argument: `kind: python`."""

    def __init__(self, definition: AgentDefinition) -> None:
        self._call = import_object(definition.function or "")

    async def run(self, attempt: Attempt) -> TaskResult:
        """Call the function with the prompt."""
        return await FunctionAgent(self._call, {}, (attempt.prompt,)).run(attempt)


def _command(definition: AgentDefinition) -> Agent:
    return CommandAgent(
        Command(definition.argv, definition.shell, definition.cwd, definition.env, definition.success_codes)
    )


KINDS: Mapping[str, Callable[[AgentDefinition], Agent]] = {
    "command": _command,
    "python": PromptFunctionAgent,
}


def make_agent(definition: AgentDefinition) -> Agent:
    """Give the agent that a definition describes. Raises `UserError` if it can't work here."""
    problem = problem_of(definition)
    if problem is not None:
        raise UserError(f"agent {definition.name!r}: {problem}")
    return KINDS[definition.kind](definition)


def problem_of(definition: AgentDefinition) -> str | None:
    """Say why an agent can't work here, before anything is run; None if it can."""
    if definition.kind not in KINDS:
        return f"agents of kind {definition.kind} can't run in this version; there are {', '.join(KINDS)}"
    if definition.kind == "python":
        try:
            call = import_object(definition.function or "")
        except (ImportError, AttributeError, ValueError) as error:
            return f"its function {definition.function} can't be imported: {error}"
        if not callable(call):
            return f"its function {definition.function} is no function"
    return None
