"""Where an exception of an agent's run came from: from the model, from a tool, or from neither."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

from pydantic_ai import RunContext
from pydantic_ai.capabilities import AbstractCapability, CapabilityOrdering
from pydantic_ai.exceptions import ModelRetry, ToolFailed, UnexpectedModelBehavior
from pydantic_ai.messages import ToolCallPart
from pydantic_ai.models import ModelRequestContext

from allready.errors import TaskError, text_of


@dataclass
class Watch(AbstractCapability[Any]):
    """Looks on at one run of an agent."""

    asking: bool = False
    """Whether a request to the model has been begun; whoever begins a step sets it back."""

    def get_ordering(self) -> CapabilityOrdering:
        """Be told last of what goes wrong: an agent's own hooks may still mend it."""
        return CapabilityOrdering(position="outermost")

    async def before_model_request(
        self, _: RunContext[Any], request_context: ModelRequestContext
    ) -> ModelRequestContext:
        """Note that all that was to be done before a request, such as asking for the tools, went well."""
        self.asking = True
        return request_context

    async def on_tool_execute_error(
        self, *_: Any, call: ToolCallPart, error: Exception, **__: Any
    ) -> NoReturn:
        """Say which tool failed, whatever it is that it raised."""
        # what a tool says on purpose counts, and so does what pydantic-ai says of too many tries
        if isinstance(error, TaskError | ModelRetry | ToolFailed | UnexpectedModelBehavior):
            raise error
        raise TaskError(
            f"the tool {call.tool_name} failed: {type(error).__name__}: {text_of(error)}"
        ) from error
