"""One streamed request to a model, its errors as errors of tasks, its ends, and what it took."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, NamedTuple, TypeVar, cast

from allready.agents.models import MODEL_SETTINGS
from allready.agents.provider_errors import task_error
from allready.agents.usage import Usage, estimated, sane
from allready.errors import TaskError, TransientError

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelResponse, ModelResponseStreamEvent
    from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse
    from pydantic_ai.settings import ModelSettings

T = TypeVar("T")

CUT_OFF = "length"
"""The reason to finish of an answer that was longer than the model may write, or than anyone reads."""
MAX_CHARACTERS = 500_000
"""Of one answer, its thoughts included, that are read: what models may write at most, some 128,000 tokens."""
LAST_WORDS = 5.0
"""Seconds for the end of an answer of which no more is wanted: what the request took is told there."""
LAST_CHARACTERS = 2_000
"""That an answer may still have in that time: the end of its JSON, a fence, a closing sentence."""


class _Silent(Exception):
    """Nothing came in time."""


class Request:
    """A request with a system prompt and a prompt; `pieces` makes it.

    `silence` is how many seconds it may give nothing, at its beginning or between two pieces, until it is
    given up; None: for ever. Time is that of the event loop.
    """

    def __init__(
        self,
        model: Model,
        instructions: str,
        prompt: str,
        parameters: ModelRequestParameters | None = None,
        on_usage: Callable[[Usage], None] | None = None,
        *,
        silence: float | None = None,
        name: str | None = None,
    ) -> None:
        self._model = model
        self._name = name or model.model_id
        self._instructions = instructions
        self._prompt = prompt
        self._parameters = parameters
        self._on_usage = on_usage
        self._silence = silence
        self._most = MAX_CHARACTERS
        self._read = 0
        """Characters that came, thoughts included."""
        self._heard = 0.0
        """When the last one came, or the request began."""
        self._ends: float | None = None
        """When it ends in any case, as no more is wanted of it."""
        self.finish_reason: str | None = None
        """Why the model stopped, in pydantic-ai's words; None if it was not said, or has not stopped."""
        self.silent = 0.0
        """For how many seconds nothing had come when it ended."""

    def wind_up(self) -> None:
        """Listen to its end, if that is near: no more is wanted of the answer."""
        if self._ends is None:
            self._ends = asyncio.get_running_loop().time() + LAST_WORDS
            self._most = self._read + LAST_CHARACTERS

    async def pieces(self) -> AsyncGenerator[str]:
        """Give the answer's text as it comes: its text parts and the arguments of tools it calls.

        What it took is told once, also if it is left early or breaks off. An answer of more than
        `MAX_CHARACTERS` is cut off. Raises `TaskError` and its kinds; `TransientError` after `silence`.
        """
        what, clock = self._name, asyncio.get_running_loop().time
        self._heard = clock()
        try:
            async with AsyncExitStack() as stack:
                stream = await self._begin(stack)
                whole, begun = False, False
                try:
                    events = aiter(stream)
                    while (event := await self._in_time(anext(events, None))) is not None:
                        said = _said_in(event)
                        if said.characters:
                            text = said.text[: max(self._most - self._read, 0)]
                            self._read += said.characters
                            if text:
                                yield f"\n{text}" if said.new_part and begun else text
                                begun = True
                            self._heard = clock()
                            if self._read > self._most:
                                self.finish_reason = CUT_OFF
                                return
                    whole = True
                finally:
                    # also when nobody wants to hear the rest
                    response = stream.get()
                    self._tell(response, whole=whole)
        except _Silent:
            if self._ends is not None:
                return
            raise TransientError(f"{what}: no answer for {self._silence:.0f} seconds") from None
        except TaskError:
            raise
        except Exception as error:
            raise task_error(error, what) from error
        finally:
            self.silent = clock() - self._heard
        self.finish_reason = response.finish_reason
        if response.state == "incomplete" and response.finish_reason is None:
            raise TransientError(f"{what}: the connection ended before the answer did")

    async def _begin(self, stack: AsyncExitStack) -> StreamedResponse:
        from pydantic_ai.direct import model_request_stream
        from pydantic_ai.messages import ModelRequest

        message = ModelRequest.user_text_prompt(self._prompt, instructions=self._instructions)
        settings = cast("ModelSettings", dict(MODEL_SETTINGS))
        stream = model_request_stream(
            self._model, [message], model_settings=settings, model_request_parameters=self._parameters
        )
        try:
            return await self._in_time(stack.enter_async_context(stream))
        except (_Silent, asyncio.CancelledError):
            self._tell(None, whole=False)  # nothing refused it: it is at work, and paid
            raise

    async def _in_time(self, coming: Awaitable[T]) -> T:
        """Wait for what comes next. Raises `_Silent` if it does not come in time."""
        until = self._ends
        if until is None and self._silence is not None:
            until = self._heard + self._silence
        limit = asyncio.timeout_at(until)
        try:
            async with limit:
                return await coming
        except TimeoutError:
            if limit.expired():
                raise _Silent from None
            raise

    def _tell(self, response: ModelResponse | None, *, whole: bool) -> None:
        if self._on_usage is None:
            return
        usage = Usage(1) if response is None else usage_of(response)
        if not whole or not usage.tokens:
            sent = len(self._instructions) + len(self._prompt)
            usage = estimated(sent, self._read, self._name, usage)
        self._on_usage(usage)


class _Said(NamedTuple):
    """What is in an event."""

    text: str = ""
    new_part: bool = False
    """Whether a new part of the answer begins with it."""
    thought: str = ""

    @property
    def characters(self) -> int:
        return len(self.text) + len(self.thought)


def _said_in(event: ModelResponseStreamEvent) -> _Said:
    from pydantic_ai import messages

    match event:
        case messages.PartStartEvent(part=messages.TextPart(content=text)):
            return _Said(text, new_part=True)
        case messages.PartStartEvent(part=messages.ToolCallPart(args=arguments)):
            return _Said(_arguments(arguments), new_part=True)
        case messages.PartStartEvent(part=messages.ThinkingPart(content=thought)):
            return _Said(thought=thought)
        case messages.PartDeltaEvent(delta=messages.TextPartDelta(content_delta=text)):
            return _Said(text)
        case messages.PartDeltaEvent(delta=messages.ToolCallPartDelta(args_delta=arguments)):
            return _Said(_arguments(arguments))
        case messages.PartDeltaEvent(delta=messages.ThinkingPartDelta(content_delta=str(thought))):
            return _Said(thought=thought)
    return _Said()


def _arguments(arguments: object) -> str:
    """Give a tool's arguments as text; some providers send them all at once, as values."""
    if isinstance(arguments, str):
        return arguments
    return "" if arguments is None else json.dumps(arguments)


def usage_of(response: ModelResponse) -> Usage:
    """Give what one response took, as far as the provider tells."""
    usage = response.usage
    cost = usage.cost
    if cost is None:
        try:
            cost = response.cost().total_price
        # what genai-prices raises for what it doesn't know, and decimals for numbers out of bounds
        except (LookupError, ValueError, AssertionError, ArithmeticError, TypeError):
            return sane(Usage(1, usage.input_tokens, usage.output_tokens, unpriced=1))
    return sane(Usage(1, usage.input_tokens, usage.output_tokens, cast("float", cost)))
