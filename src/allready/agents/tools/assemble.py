"""From the names of an agent's tools to pydantic-ai's toolsets, made for one attempt."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from pydantic.errors import PydanticUserError
from pydantic_ai import FunctionToolset, ModelRetry, RunContext, Tool
from pydantic_ai.exceptions import UserError as WrongFunction
from pydantic_ai.messages import BinaryContent, ToolReturn
from pydantic_ai.toolsets import AbstractToolset, ToolsetTool, WrapperToolset

from allready.agents.base import Attempt
from allready.agents.definitions import AgentDefinition
from allready.agents.function import FunctionAgent, text_form
from allready.agents.output import cut_middle
from allready.agents.secrets import Redactor, secret_values
from allready.agents.tools.command_tool import command_tool
from allready.agents.tools.file_tools import FileTools
from allready.agents.tools.names import FETCH, RUN, ToolChoice, resolve_tools
from allready.agents.tools.programs import Programs
from allready.agents.tools.workspace import Refused
from allready.agents.values import jsonable
from allready.errors import PermanentError, TaskError, text_of

RESULT_BYTES = 64 * 1024
"""Of one result (UTF-8), whatever the tool: about 16,000 tokens."""


def assemble(definition: AgentDefinition, attempt: Attempt) -> list[AbstractToolset[Any]]:
    """Give the toolsets of an agent for an attempt; see `toolsets_for`."""
    choice = resolve_tools(definition, attempt.base_dir)
    if choice.missing:
        missing = ", ".join(map(str, choice.missing))
        raise PermanentError(f"agent {definition.name!r}: tools that are not here: {missing}")
    redactor = _redactor(choice, attempt)
    tools = _tools(choice, attempt, redactor)
    toolsets: list[AbstractToolset[Any]] = []
    if tools:
        toolsets.append(FunctionToolset(tools))
    if choice.servers:
        from allready.agents.tools.servers import server_toolset

        toolsets += [
            server_toolset(choice.configured[name], only, attempt, redactor)
            for name, only in choice.servers.items()
        ]
    return [_Guarded(toolset, redactor) for toolset in toolsets]


def _redactor(choice: ToolChoice, attempt: Attempt) -> Redactor:
    """Blank our own secrets, and those in the configuration of the servers."""
    values = list(secret_values(os.environ))
    for server in choice.configured.values():
        found = secret_values({**server.env, **server.headers})
        values += [part for value in found for part in (value, value.partition(" ")[2]) if part]
    return _Both(attempt.redactor, values)


class _Both(Redactor):
    """Blanks what the attempt's own redactor does, and some more."""

    def __init__(self, first: Redactor | None, values: list[str]) -> None:
        super().__init__(values)
        self._first = first

    def text(self, text: str) -> str:
        """Blank the secrets in a text."""
        return super().text(text if self._first is None else self._first.text(text))


def _tools(choice: ToolChoice, attempt: Attempt, redactor: Redactor) -> list[Tool[Any]]:
    programs = Programs(attempt, redactor)
    calls: dict[str, Callable[..., Awaitable[Any]]] = {}
    calls |= FileTools(attempt, programs).chosen(choice.files)
    if choice.commands:
        calls[RUN] = command_tool(choice.commands, programs)
    if choice.fetch_public or choice.addresses:
        from allready.agents.tools.fetch_tool import fetch_tool

        calls[FETCH] = fetch_tool(choice.fetch_public, choice.addresses)
    calls |= {name: _function_tool(function, name, attempt) for name, function in choice.functions.items()}
    tools = []
    for name, call in calls.items():
        try:
            tools.append(Tool(call, name=name))
        except (WrongFunction, PydanticUserError, TypeError, NameError, ValueError) as error:
            reason = text_of(error).partition("\n")[0]
            raise PermanentError(
                f"the tool {name} can't be given to a model; its parameters need types as JSON has: {reason}"
            ) from error
    return tools


def _function_tool(
    function: Callable[..., Any], name: str, attempt: Attempt
) -> Callable[..., Awaitable[Any]]:
    """Give a Python function as a tool: plain ones run in a thread; what it raises is told to the model."""

    @functools.wraps(function)
    async def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return await FunctionAgent(function, kwargs, args).call(attempt)
        except Exception as error:
            if isinstance(error, TaskError) or type(error).__module__.startswith("pydantic_ai"):
                raise
            raise Refused(f"{name} failed: {type(error).__name__}: {text_of(error)}") from error

    return call


@dataclass
class _Guarded(WrapperToolset[Any]):
    """Results are data: text or JSON, within bounds, secrets blanked; refusals go back to the model."""

    redactor: Redactor

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[Any], tool: ToolsetTool[Any]
    ) -> Any:
        try:
            result = await super().call_tool(name, tool_args, ctx, tool)
        except (Refused, OSError) as error:
            raise ModelRetry(self._clean(text_of(error))) from None
        except ModelRetry as error:
            raise ModelRetry(self._clean(error.message)) from None
        return self._as_data(result)

    def _clean(self, text: str) -> str:
        return cut_middle(self.redactor.text(text), RESULT_BYTES)

    def _as_data(self, result: Any) -> Any:
        if isinstance(result, ToolReturn):
            result = result.return_value
        result = _without_media(result)
        if isinstance(result, str):
            return self._clean(result)
        try:
            data = self.redactor.json(jsonable(result))
        except PermanentError:
            return self._clean(text_form(result))
        text = json.dumps(data, ensure_ascii=False)
        return (
            data if len(text) * 4 <= RESULT_BYTES or len(text.encode()) <= RESULT_BYTES else self._clean(text)
        )


def _without_media(value: Any) -> Any:
    """Name pictures and sounds in place of giving them: results are kept as text, and not all models see."""
    if isinstance(value, BinaryContent):
        return f"[{value.media_type}, {len(value.data):,} bytes, left out]"
    if isinstance(value, list | tuple):
        return [_without_media(item) for item in value]
    return value
