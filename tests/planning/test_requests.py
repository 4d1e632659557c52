import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from decimal import Decimal

import pytest
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models.function import AgentInfo, DeltaThinkingCalls, DeltaThinkingPart, FunctionModel
from pydantic_ai.usage import RequestUsage
from tests.agents.provider_server import WIRES, Answer, Hang, Reply, Stream, Wire, provider_server
from tests.planning.scripts import Script

from allready.agents.models import Models
from allready.agents.usage import CHARACTERS_A_TOKEN, MAX_COST, MAX_TOKENS, Usage
from allready.errors import TransientError
from allready.planning.requests import CUT_OFF, MAX_CHARACTERS, Request, usage_of
from allready.testing import run_virtual


def response(usage: RequestUsage, model: str = "gpt-4o", provider: str = "openai") -> ModelResponse:
    return ModelResponse([], usage=usage, model_name=model, provider_name=provider)


def test_what_a_response_took() -> None:
    usage = usage_of(response(RequestUsage(input_tokens=1_000_000, output_tokens=10)))
    assert (usage.requests, usage.input_tokens, usage.output_tokens, usage.unpriced) == (1, 1_000_000, 10, 0)
    assert usage.cost > 1
    told = usage_of(response(RequestUsage(input_tokens=5, cost=Decimal("0.25"))))
    assert told == Usage(1, 5, 0, 0.25)


@pytest.mark.parametrize(
    ("usage", "model"),
    [(RequestUsage(input_tokens=5), "nobody-knows-it"), (RequestUsage(unmeasured_requests=1), "gpt-4o")],
)
def test_a_price_that_nobody_knows(usage: RequestUsage, model: str) -> None:
    assert usage_of(response(usage, model)) == Usage(1, usage.input_tokens, unpriced=1)


def test_numbers_that_can_t_be() -> None:
    assert usage_of(response(RequestUsage(input_tokens=10**30))) == Usage(1, MAX_TOKENS, 0, MAX_COST)
    assert usage_of(response(RequestUsage(output_tokens=-5))).tokens == 0
    assert usage_of(response(RequestUsage(input_tokens=5, cost=Decimal("NaN")))) == Usage(1, 5)


# --- what requests take that don't come to their end ------------------------------------------------------

SENT = "p" * 3_600 + "i" * 400
READ = 4_000 // CHARACTERS_A_TOKEN
TEXT = ["x" * 1_000] * 4
WRITTEN = 4_000 // CHARACTERS_A_TOKEN

wires = pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.model)


class Asking:
    """A request whose end the server decides."""

    def __init__(self, wire: Wire, monkeypatch: pytest.MonkeyPatch, reply: Reply) -> None:
        self.wire = wire
        self.set = monkeypatch.setenv
        self.reply = reply
        self.usages: list[Usage] = []

    async def pieces(self, most: int | None = None) -> list[str]:
        """Give what comes; after `most` pieces nobody listens any more."""
        got: list[str] = []
        async with provider_server(self.reply) as server:
            for name, value in self.wire.environment(server.url).items():
                self.set(name, value)
            models = Models(self.wire.model)
            request = Request(models.get(), SENT[3_600:], SENT[:3_600], None, self.usages.append)
            try:
                async with aclosing(request.pieces()) as pieces:
                    async for piece in pieces:
                        got.append(piece)
                        if len(got) == most:
                            break
            finally:
                await models.close()
        return got


@wires
async def test_what_the_provider_tells_counts(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    asking = Asking(wire, monkeypatch, Stream(wire.events(*TEXT)))
    assert "".join(await asking.pieces()) == "".join(TEXT)
    (usage,) = asking.usages
    assert (usage.requests, usage.input_tokens, usage.output_tokens) == (1, 11, 7)


@wires
async def test_of_an_answer_that_breaks_off_what_came_counts(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = wire.events(*TEXT)
    second = [place for place, event in enumerate(events) if TEXT[0] in event][1]
    asking = Asking(wire, monkeypatch, Stream(events[: second + 1], complete=False))
    with pytest.raises(TransientError):
        await asking.pieces()
    (usage,) = asking.usages
    assert usage.requests == 1
    assert usage.input_tokens in (READ, 11)
    assert usage.output_tokens == WRITTEN / 2


@wires
async def test_of_an_answer_that_is_left_what_came_counts(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking = Asking(wire, monkeypatch, Stream(wire.events(*TEXT)))
    await asking.pieces(most=2)
    (usage,) = asking.usages
    assert usage.requests == 1
    assert usage.input_tokens in (READ, 11)
    assert usage.output_tokens == WRITTEN / 2


async def test_a_server_that_tells_no_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = WIRES[1]
    events = [event for event in wire.events(*TEXT) if "usage" not in event]
    asking = Asking(wire, monkeypatch, Stream(events))
    await asking.pieces()
    assert asking.usages == [Usage(1, READ, WRITTEN, unpriced=1)]


async def test_a_price_that_is_known_is_that_of_the_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire("openai-chat:gpt-4o", "OPENAI_API_KEY", "OPENAI_BASE_URL", "/v1")
    asking = Asking(wire, monkeypatch, Stream(wire.events(*TEXT)[:4], complete=False))
    with pytest.raises(TransientError):
        await asking.pieces()
    (usage,) = asking.usages
    assert usage.tokens == READ + WRITTEN
    assert usage.cost > 0
    assert usage.unpriced == 0


async def test_a_request_that_is_refused_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = WIRES[1]
    asking = Asking(wire, monkeypatch, Answer(429, wire.error(429, "Later.")))
    with pytest.raises(TransientError):
        await asking.pieces()
    assert asking.usages == []


async def test_a_request_that_is_stopped_before_its_first_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = WIRES[1]
    usages: list[Usage] = []
    async with provider_server(Hang(headers_first=True)) as server:
        for name, value in wire.environment(server.url).items():
            monkeypatch.setenv(name, value)
        models = Models(wire.model)
        request = Request(models.get(), SENT[3_600:], SENT[:3_600], None, usages.append)

        async def ask() -> None:
            async for _ in request.pieces():
                raise AssertionError

        asking = asyncio.create_task(ask())
        await server.hanging.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await server.gone.wait()
        await models.close()
    assert usages == [Usage(1, READ, 0, unpriced=1)]


# --- thoughts ---------------------------------------------------------------------------------------------


def thinking(thoughts: Sequence[str], pause: float = 0.0) -> FunctionModel:
    async def play(_: list[ModelMessage], __: AgentInfo) -> AsyncIterator[DeltaThinkingCalls | str]:
        for thought in thoughts:
            await asyncio.sleep(pause)
            yield {0: DeltaThinkingPart(content=thought)}
        yield "Done."

    return FunctionModel(stream_function=play)


def test_a_model_that_thinks_aloud_is_not_silent() -> None:
    async def scenario() -> tuple[list[str], float]:
        request = Request(thinking(["hm"] * 10, 9.0), "", "", silence=10.0)
        return [piece async for piece in request.pieces()], asyncio.get_running_loop().time()

    assert run_virtual(scenario()) == (["Done."], 90.0)


async def test_thoughts_without_an_end_are_cut_off() -> None:
    request = Request(thinking(["hm" * 5_000] * 100), "", "")
    assert [piece async for piece in request.pieces()] == []
    assert request.finish_reason == CUT_OFF


async def test_an_answer_of_the_most_that_is_read_is_whole() -> None:
    def request(characters: int) -> Request:
        return Request(Script(["x" * characters]).model, "", "")

    whole, cut = request(MAX_CHARACTERS), request(MAX_CHARACTERS + 1)
    text = "x" * MAX_CHARACTERS
    assert [piece async for piece in whole.pieces()] == [text]
    assert [piece async for piece in cut.pieces()] == [text]
    assert (whole.finish_reason, cut.finish_reason) == (None, CUT_OFF)
