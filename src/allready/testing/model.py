"""`ScriptedModel`: a pydantic-ai model that answers by rules, for tests without a provider."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from allready.errors import UserError
from allready.testing.script import Piece, PlanRule, Refused, Request, Rule, Rules, Said, Script

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelMessage, ModelResponse
    from pydantic_ai.models.function import AgentInfo, DeltaToolCalls, FunctionModel
else:
    try:
        from pydantic_ai.models.function import FunctionModel
    except ImportError:  # the extra is missing: told when one is made, so that a test can import and skip
        FunctionModel = object
HAS_PYDANTIC_AI = hasattr(FunctionModel, "request")


class ScriptedModel(FunctionModel):
    """A model that answers by rules, streaming or not, and keeps a record of what it was asked.

        model = ScriptedModel(
            {
                "Compare": "They are alike.",                       # in any prompt that has this word
                re.compile("fetch (?P<page>.*)"): [rate_limited(2), "here it is"],
                "Count": lambda prompt: str(len(prompt)),
                "Read": [Call("read_file", {"path": "a.txt"}), "It says hello."],
            },
            plan=[{"id": "facts", "prompt": "Find"}, {"id": "sum", "prompt": "…", "depends_on": ["facts"]}],
            default="ok",
        )

    **Rules** are tried in their order, on the newest prompt of the conversation first; the outputs of other
    tasks in it (`<completed-dependencies>`) are not looked at. An answer is a text, a mapping (structured
    output), a `Call` or a tuple of them, `rate_limited()`, `overloaded()`, `Refused(status, …)`,
    `Dropped("half of it")`, an exception to raise, a list (one after the other, the last stays), or a
    function, async or not, that gets the prompt and gives one of these.

    `plan` is what planners get: the tasks, whose `title`, `agent` and `depends_on` may be left out, or a list
    of several plans, texts and refusals, one after the other. `answer` is what the run's goal is answered
    with; without it the rules are tried on the goal, too. `default` answers what no rule fits; None: that is
    a `LookupError`. `delay` is the time in seconds before the first piece of an answer and `pause` that
    between two, through `asyncio.sleep`, so that a virtual clock can move it; `chunk` is the size of a piece
    in characters, None: a word.

    Raises `UserError` if the extra `llm` is not installed.
    """

    def __init__(
        self,
        rules: Rules | None = None,
        *,
        plan: PlanRule | None = None,
        answer: Rule | None = None,
        default: Rule | None = "ok",
        delay: float = 0.0,
        pause: float = 0.0,
        chunk: int | None = None,
        name: str = "scripted",
    ) -> None:
        if not HAS_PYDANTIC_AI:
            raise UserError(
                "ScriptedModel needs pydantic-ai, which is not installed\nhint: pip install 'allready[llm]'"
            )
        self.script = Script(
            rules, plan=plan, answer=answer, default=default, delay=delay, pause=pause, chunk=chunk
        )
        super().__init__(self._whole, stream_function=self._streamed, model_name=name)

    @property
    def requests(self) -> list[Request]:
        """All that was asked, in order."""
        return self.script.requests

    @property
    def most_at_once(self) -> int:
        """The largest number of requests that were answered at the same time."""
        return self.script.most_at_once

    async def _whole(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart

        said = Said()
        async with aclosing(self._say(_request(messages, info, self.model_name, streamed=False))) as saying:
            async for answer, _ in saying:
                said = answer
        if not said.calls:
            return ModelResponse(parts=[TextPart(said.text)])
        return ModelResponse(parts=[ToolCallPart(call.tool, dict(call.arguments)) for call in said.calls])

    async def _streamed(
        self, messages: list[ModelMessage], info: AgentInfo
    ) -> AsyncGenerator[str | DeltaToolCalls]:
        from pydantic_ai.models.function import DeltaToolCall

        async with aclosing(self._say(_request(messages, info, self.model_name, streamed=True))) as saying:
            async for _, piece in saying:
                if piece.call is None:
                    yield piece.text
                else:
                    yield {piece.call: DeltaToolCall(piece.tool, piece.text)}

    async def _say(self, request: Request) -> AsyncGenerator[tuple[Said, Piece]]:
        """Answer in pieces and with the script's pauses; on record."""
        from pydantic_ai.exceptions import ModelConnectionError

        script = self.script
        with script.record(request, asyncio.get_running_loop().time):
            said = await script.answer(request)
            await asyncio.sleep(script.delay)
            if isinstance(said, Refused):
                request.outcome = "refused"
                raise _http_error(said, self.model_name)
            for number, piece in enumerate(script.pieces(said)):
                if number and script.pause:
                    await asyncio.sleep(script.pause)
                yield said, piece
            if said.breaks:
                request.outcome = "dropped"
                cause = ConnectionResetError("the script says so")  # as real ones have one
                message = "the connection broke"
                raise ModelConnectionError(self.model_name, message, phase="read", in_stream=True) from cause


def _request(messages: list[ModelMessage], info: AgentInfo, name: str, *, streamed: bool) -> Request:
    from pydantic_ai.messages import ModelRequest, ToolReturnPart, UserPromptPart

    asked = [message for message in messages if isinstance(message, ModelRequest)]
    prompts = [
        _text(part.content) for message in asked for part in message.parts if isinstance(part, UserPromptPart)
    ]
    results = [part.model_response_str() for part in asked[-1].parts if isinstance(part, ToolReturnPart)]
    output = info.model_request_parameters.output_object
    tool = info.output_tools[0] if info.output_tools else None
    return Request(
        prompts=tuple(reversed(prompts)),
        instructions=_instructions(messages, info),
        tools=tuple(tool.name for tool in info.function_tools),
        results=tuple(results),
        schema=tool.parameters_json_schema if tool else output.json_schema if output else None,
        output_tool=tool.name if tool else None,
        model=name,
        streamed=streamed,
    )


def _instructions(messages: list[ModelMessage], info: AgentInfo) -> str:
    from pydantic_ai.messages import SystemPromptPart

    parts = [
        part.content for message in messages for part in message.parts if isinstance(part, SystemPromptPart)
    ]
    return "\n\n".join([*parts, info.instructions] if info.instructions else parts)


def _text(content: str | Sequence[Any]) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part if isinstance(part, str) else getattr(part, "content", "") for part in content)


def _http_error(refused: Refused, name: str) -> Exception:
    """Give the error that pydantic-ai's own models raise for such an answer."""
    from pydantic_ai import exceptions

    by_code: dict[str, Any] = {
        "insufficient_quota": exceptions.ModelQuotaExceededError,
        "context_length_exceeded": exceptions.ModelContextWindowExceededError,
        "overloaded_error": exceptions.ModelOverloadedError,
    }
    by_status: dict[int, Any] = {
        **dict.fromkeys((400, 422), exceptions.ModelRequestRejectedError),
        **dict.fromkeys((401, 403), exceptions.ModelAuthenticationError),
        402: exceptions.ModelQuotaExceededError,
        404: exceptions.ModelNotFoundError,
        429: exceptions.ModelRateLimitError,
        503: exceptions.ModelUnavailableError,
        529: exceptions.ModelOverloadedError,
    }
    unknown = exceptions.ModelServerError if refused.status >= 500 else None
    return exceptions.ModelHTTPError.for_category(
        by_code.get(refused.code or "") or by_status.get(refused.status, unknown),
        status_code=refused.status,
        model_name=name,
        body={"message": refused.message, "code": refused.code},
        provider_error_code=refused.code,
        retry_after=refused.retry_after,
    )
