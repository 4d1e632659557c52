"""Models whose streams are written down, and plans for them to write."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from pydantic_ai.messages import ModelMessage, ModelRequest, UserPromptPart
from pydantic_ai.models import StreamedResponse
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.profiles import ModelProfile

Piece = str | float | Exception | None
"""A piece of the stream, a pause in seconds, or what breaks it off; None: nothing more ever comes."""


class Script:
    """A model that plays one list of pieces for each request, and keeps what it was asked."""

    def __init__(self, *rounds: Iterable[Piece], profile: ModelProfile | None = None) -> None:
        self.rounds = list(rounds)
        self.prompts: list[str] = []
        self.infos: list[AgentInfo] = []
        self.log: list[str] = []
        """What was sent, in its order among what the test adds."""
        self.closed = 0
        """Streams that were left before their end."""
        self.model = FunctionModel(stream_function=self.play, model_name="script", profile=profile)

    async def play(
        self, messages: list[ModelMessage], info: AgentInfo
    ) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
        (request,) = messages
        assert isinstance(request, ModelRequest)
        (part,) = request.parts
        assert isinstance(part, UserPromptPart)
        assert isinstance(part.content, str)
        self.prompts.append(part.content)
        self.infos.append(info)
        begun = False
        try:
            for piece in self.rounds.pop(0):
                if isinstance(piece, Exception):
                    raise piece
                if isinstance(piece, float):
                    await asyncio.sleep(piece)
                    continue
                if piece is None:
                    await asyncio.Event().wait()
                    raise AssertionError
                self.log.append(piece)
                if info.output_tools:
                    name = None if begun else info.output_tools[0].name
                    yield {0: DeltaToolCall(name, piece, tool_call_id="call" if name else None)}
                else:
                    yield piece
                begun = True
        except (GeneratorExit, asyncio.CancelledError):
            self.closed += 1
            raise


class Ending(WrapperModel):
    """A script whose streams end with what the provider says of it, which `FunctionModel` can't."""

    def __init__(self, *rounds: Iterable[Piece], **end: Any) -> None:
        self.script = Script(*rounds)
        self.end = end
        super().__init__(self.script.model)

    @asynccontextmanager
    async def request_stream(self, *args: Any, **kwargs: Any) -> AsyncGenerator[StreamedResponse]:
        async with super().request_stream(*args, **kwargs) as stream:
            for name, value in self.end.items():
                setattr(stream, name, value)
            yield stream


def task(id: str, *depends_on: str, prompt: str = "Do it.", **fields: Any) -> dict[str, Any]:  # noqa: A002
    return {"id": id, "title": "", "depends_on": list(depends_on), "prompt": prompt, **fields}


def plan(*tasks: dict[str, Any]) -> str:
    return json.dumps({"tasks": tasks})


def cut(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]
