"""One streamed request to a model, its errors as errors of tasks, and what it took."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, cast

from allready.agents.models import MODEL_SETTINGS
from allready.agents.provider_errors import task_error
from allready.agents.usage import Usage
from allready.errors import TaskError, TransientError

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelResponse, ModelResponseStreamEvent
    from pydantic_ai.models import Model, ModelRequestParameters
    from pydantic_ai.settings import ModelSettings

CUT_OFF = "length"
"""The reason to finish of an answer that was longer than the model may write."""


class Request:
    """A request with a system prompt and a prompt; `pieces` makes it."""

    def __init__(
        self,
        model: Model,
        instructions: str,
        prompt: str,
        parameters: ModelRequestParameters | None = None,
        on_usage: Callable[[Usage], None] | None = None,
    ) -> None:
        self._model = model
        self._instructions = instructions
        self._prompt = prompt
        self._parameters = parameters
        self._on_usage = on_usage
        self.finish_reason: str | None = None
        """Why the model stopped, in pydantic-ai's words; None if it was not said, or has not stopped."""

    async def pieces(self) -> AsyncGenerator[str]:
        """Give the answer's text as it comes: its text parts and the arguments of tools it calls.

        What it took is told once, also if it is left early or breaks off. Raises `TaskError` and its kinds.
        """
        from pydantic_ai.direct import model_request_stream
        from pydantic_ai.messages import ModelRequest

        what = self._model.model_id
        message = ModelRequest.user_text_prompt(self._prompt, instructions=self._instructions)
        settings = cast("ModelSettings", dict(MODEL_SETTINGS))
        response = None
        try:
            async with model_request_stream(
                self._model, [message], model_settings=settings, model_request_parameters=self._parameters
            ) as stream:
                try:
                    begun = False
                    async for event in stream:
                        text, new_part = _text_of(event)
                        if text:
                            yield f"\n{text}" if new_part and begun else text
                            begun = True
                finally:
                    # also when nobody wants to hear the rest
                    response = stream.get()
                    if self._on_usage is not None:
                        self._on_usage(usage_of(response))
        except TaskError:
            raise
        except Exception as error:
            raise task_error(error, what) from error
        self.finish_reason = response.finish_reason
        if response.state == "incomplete" and response.finish_reason is None:
            raise TransientError(f"{what}: the connection ended before the answer did")


def _text_of(event: ModelResponseStreamEvent) -> tuple[str, bool]:
    """Give the text in an event, and whether a new part of the answer begins with it."""
    from pydantic_ai import messages

    match event:
        case messages.PartStartEvent(part=messages.TextPart(content=text)):
            return text, True
        case messages.PartStartEvent(part=messages.ToolCallPart(args=arguments)):
            return _arguments(arguments), True
        case messages.PartDeltaEvent(delta=messages.TextPartDelta(content_delta=text)):
            return text, False
        case messages.PartDeltaEvent(delta=messages.ToolCallPartDelta(args_delta=arguments)):
            return _arguments(arguments), False
    return "", False


def _arguments(arguments: object) -> str:
    """Give a tool's arguments as text; some providers send them all at once, as values."""
    if isinstance(arguments, str):
        return arguments
    return "" if arguments is None else json.dumps(arguments)


def usage_of(response: ModelResponse) -> Usage:
    """Give what one response took."""
    usage = response.usage
    cost = usage.cost
    if cost is None:
        try:
            cost = response.cost().total_price
        except (LookupError, ValueError, AssertionError):  # what genai-prices raises for what it doesn't know
            return Usage(1, usage.input_tokens, usage.output_tokens, unpriced=1)
    return Usage(1, usage.input_tokens, usage.output_tokens, float(cost))
