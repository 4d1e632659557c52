"""A scripted model that uses tools: the whole way of a call through pydantic-ai, without a real model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic_ai import Agent, AgentRetries
from pydantic_ai.messages import (
    ModelMessage,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel

from allready.agents.base import Attempt
from allready.agents.definitions import AgentDefinition
from allready.agents.llm import TOOL_RETRIES
from allready.agents.tools import toolsets_for


class Answer(NamedTuple):
    """What a tool gave back to the model."""

    text: str
    refused: bool

    @property
    def data(self) -> Any:
        """The JSON that it is."""
        return json.loads(self.text)


class Use:
    """An agent with these tools, and the calls that its model makes, all in one step."""

    def __init__(self, attempt: Attempt, *tools: str) -> None:
        self.attempt = attempt
        self.definition = AgentDefinition("user", tools=tools)
        self.seen: dict[str, Any] = {}
        """Tools that the model was told of: name → definition."""

    async def calls(self, *calls: tuple[str, dict[str, Any]]) -> list[Answer]:
        """Make the calls at the same time; give their answers in this order."""

        def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
            self.seen = {tool.name: tool for tool in info.function_tools}
            if len(messages) == 1:
                parts = [
                    ToolCallPart(name, args, tool_call_id=str(at)) for at, (name, args) in enumerate(calls)
                ]
                return ModelResponse(parts=parts)
            return ModelResponse(parts=[TextPart("done")])

        agent = Agent(
            FunctionModel(model),
            toolsets=toolsets_for(self.definition, self.attempt),
            retries=AgentRetries(tools=TOOL_RETRIES),
        )
        result = await agent.run("go")
        return _answers(result.all_messages(), len(calls))

    async def __call__(self, name: str, **args: Any) -> Answer:
        """Make one call."""
        return (await self.calls((name, args)))[0]


def _answers(messages: Sequence[ModelMessage], count: int) -> list[Answer]:
    found: dict[str, Answer] = {}
    for message in messages:
        for part in message.parts:
            if isinstance(part, ToolReturnPart):
                text = part.content if isinstance(part.content, str) else part.model_response_str()
                found[part.tool_call_id] = Answer(text, refused=part.outcome != "success")
    return [found[str(at)] for at in range(count)]


def put(folder: Path, name: str, text: str | bytes) -> Path:
    """Write a file, and the folders on the way to it."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path
