"""Agents that ask a model: scripted models for every path, a server on loopback for the wire."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic_ai import Agent, FunctionToolset, ModelRetry, RunContext
from pydantic_ai.capabilities import Hooks
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, DeltaToolCalls, FunctionModel
from pydantic_ai.toolsets import ToolsetTool
from tests.agents.attempts import make_attempt
from tests.agents.provider_server import WIRES, Answer, Drop, Hang, Reply, Stream, Wire, provider_server

from allready.agents.base import OUTPUT_LIMIT, Dependency, TaskResult
from allready.agents.definitions import AgentDefinition
from allready.agents.kinds import make_agent, problem_of
from allready.agents.llm import ABOUT_DATA, CUT_OFF, MAX_TURNS, LlmAgent, ObjectAgent
from allready.agents.models import Models, NoModel
from allready.agents.secrets import Redactor
from allready.agents.usage import Usage
from allready.errors import PermanentError, TaskError, TransientError, UserError
from allready.plan.imports import import_object
from allready.plan.plan import Limits

wires = pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.model)
Turn = str | list[str] | tuple[str, dict[str, Any]]
"""What a scripted model says in one answer: text, pieces of it, or the name and arguments of a tool."""


class Scripted:
    """A model that gives these turns one after the other, the last one again and again."""

    def __init__(self, *turns: Turn, name: str = "scripted") -> None:
        self.turns = turns
        self.asked: list[list[ModelMessage]] = []
        self.instructions: list[str | None] = []
        self.model = FunctionModel(stream_function=self._stream, model_name=name)

    async def _stream(
        self, messages: list[ModelMessage], info: AgentInfo
    ) -> AsyncIterator[str | DeltaToolCalls]:
        turn = self.turns[min(len(self.asked), len(self.turns) - 1)]
        self.asked.append(messages)
        self.instructions.append(info.instructions)
        if isinstance(turn, tuple):
            yield {0: DeltaToolCall(turn[0], json.dumps(turn[1]), tool_call_id=f"call-{len(self.asked)}")}
            return
        for piece in [turn] if isinstance(turn, str) else turn:
            yield piece


class Watched:
    """What an attempt told while it was under way."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.usage: list[Usage] = []
        self.spoke = asyncio.Event()

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def hooks(self) -> dict[str, Any]:
        return {"on_output": self._on_output, "on_usage": self.usage.append}

    def _on_output(self, text: str) -> None:
        self.pieces.append(text)
        self.spoke.set()


async def ask(scripted: Scripted, base: Path, watched: Watched | None = None, /, **more: Any) -> TaskResult:
    definition = AgentDefinition("writer", **more.pop("definition", {}))
    agent = LlmAgent(definition, Models(scripted.model))
    told = (watched or Watched()).hooks
    return await agent.run(make_attempt(base, **{"prompt": "Say hello.", **told, **more}))


# --- text -------------------------------------------------------------------------------------------------


async def test_text_is_shown_and_kept_as_it_comes(tmp_path: Path) -> None:
    watched, file = Watched(), tmp_path / "attempt/output.txt"
    seen: list[tuple[str, str]] = []

    async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        for piece in ("Hel", "lo", " you\n"):
            yield piece
            seen.append((watched.text, file.read_text()))

    models = Models(FunctionModel(stream_function=stream))
    attempt = make_attempt(tmp_path, prompt="Say hello.", **watched.hooks)
    result = await LlmAgent(AgentDefinition("writer"), models).run(attempt)
    assert seen[:2] == [("Hel", "Hel"), ("Hello", "Hello")]
    assert result == TaskResult("Hello you", output_file=file)
    assert file.read_text() == watched.text == "Hello you\n"


async def test_prompt_and_instructions_reach_the_model_as_they_are(tmp_path: Path) -> None:
    scripted = Scripted("Hello")
    await ask(scripted, tmp_path, definition={"instructions": "Be {{kind}}."}, prompt="Say {{hello}} {x}.")
    assert scripted.instructions == ["Be {{kind}}."]
    part = scripted.asked[0][0].parts[0]
    assert getattr(part, "content", None) == "Say {{hello}} {x}."


async def test_results_of_other_tasks_are_said_to_be_data(tmp_path: Path) -> None:
    scripted = Scripted("Hello")
    dependencies = {"facts": Dependency("facts", "completed")}
    await ask(scripted, tmp_path, definition={"instructions": "Be kind."}, dependencies=dependencies)
    assert scripted.instructions == [f"Be kind.\n\n{ABOUT_DATA}"]


async def test_a_long_answer_is_cut_in_the_middle_and_whole_in_the_file(tmp_path: Path) -> None:
    whole = "word " * OUTPUT_LIMIT
    result = await ask(Scripted(whole), tmp_path)
    assert len(result.output.encode()) <= OUTPUT_LIMIT
    assert "left out" in result.output
    assert result.output_file is not None
    assert result.output_file.read_text() == whole


async def test_what_utf_8_can_not_hold_is_replaced(tmp_path: Path) -> None:
    result = await ask(Scripted(["a\ud800", "b\0c"]), tmp_path)
    assert result.output == "a\ufffdb\ufffdc"
    assert (tmp_path / "attempt/output.txt").read_text() == result.output


SECRET = "hunter2-hunter3"


def pieces_of(text: str, cuts: list[int]) -> list[str]:
    at = sorted({cut % (len(text) + 1) for cut in cuts} | {0, len(text)})
    return [text[start:stop] for start, stop in pairwise(at)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(
    parts=st.lists(
        st.sampled_from(["ä", "𝄞", "\n", "hunter2", "-", SECRET, "text ", "[secret]"]), min_size=1
    ),
    cuts=st.lists(st.integers(0, 200)),
)
def test_the_same_text_comes_out_whatever_the_cuts(
    parts: list[str], cuts: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = f"x{''.join(parts)}"
    watched = Watched()
    base = tmp_path_factory.mktemp("cuts")
    redactor = Redactor([SECRET])
    result = asyncio.run(ask(Scripted(pieces_of(text, cuts)), base, watched, redactor=redactor))
    blanked = text.replace(SECRET, "[secret]")
    assert watched.text == blanked
    assert (base / "attempt/output.txt").read_text() == blanked
    assert result.output == blanked.removesuffix("\n")


async def test_an_empty_answer_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="the answer is empty") as caught:
        await ask(Scripted(" \n"), tmp_path)
    assert type(caught.value) is TaskError


async def test_an_answer_that_the_model_could_not_finish_says_so(tmp_path: Path) -> None:
    def cut(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        return ModelResponse([TextPart("Once upon")], finish_reason="length")

    watched = Watched()
    attempt = make_attempt(tmp_path, prompt="Tell.", **watched.hooks)
    result = await LlmAgent(AgentDefinition("writer"), Models(FunctionModel(cut))).run(attempt)
    assert result.output == f"Once upon{CUT_OFF}"
    assert (tmp_path / "attempt/output.txt").read_text() == watched.text == result.output


async def test_a_model_that_can_not_stream_is_asked_all_the_same(tmp_path: Path) -> None:
    watched = Watched()
    model = FunctionModel(lambda messages, info: ModelResponse([TextPart("Hello")]))
    attempt = make_attempt(tmp_path, prompt="Say hello.", **watched.hooks)
    result = await LlmAgent(AgentDefinition("writer"), Models(model)).run(attempt)
    assert result.output == "Hello"
    assert watched.text == "Hello"
    assert [usage.requests for usage in watched.usage] == [1]


async def test_a_file_that_can_not_be_written_is_told(tmp_path: Path) -> None:
    attempt = make_attempt(tmp_path, prompt="Say hello.")
    (attempt.folder / "output.txt").mkdir()
    with pytest.raises(TaskError, match=r"can't be written to .*output\.txt: Is a directory"):
        await LlmAgent(AgentDefinition("writer"), Models(Scripted("Hello").model)).run(attempt)


# --- tools ------------------------------------------------------------------------------------------------


def with_tool(scripted: Scripted, **more: Any) -> ObjectAgent:
    agent = Agent(scripted.model, name="counter", **more)

    @agent.tool_plain
    def count(word: str) -> int:
        if not word:
            raise ModelRetry("there is no word")
        return len(word)

    return ObjectAgent(agent, Models())


async def test_a_tool_call_is_shown_and_the_last_answer_is_the_output(tmp_path: Path) -> None:
    watched = Watched()

    async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str | DeltaToolCalls]:
        if len(messages) == 1:
            yield "Let me count."
            yield {1: DeltaToolCall("count", '{"word": "hello"}', tool_call_id="1")}
        else:
            yield "It has "
            yield "five."

    scripted = Scripted("")
    scripted.model = FunctionModel(stream_function=stream)
    attempt = make_attempt(tmp_path, prompt="How long is hello?", **watched.hooks)
    result = await with_tool(scripted).run(attempt)
    assert result == TaskResult("It has five.", output_file=tmp_path / "attempt/output.txt")
    assert watched.text == 'Let me count.\n[count {"word":"hello"}]\nIt has five.'
    assert (tmp_path / "attempt/output.txt").read_text() == "It has five."
    assert [usage.requests for usage in watched.usage] == [1, 1]


async def test_the_line_of_a_tool_call_is_short_and_without_secrets(tmp_path: Path) -> None:
    watched = Watched()
    scripted = Scripted(("count", {"word": f"{SECRET} {'long ' * 200}"}), "Done")
    attempt = make_attempt(tmp_path, prompt="Go", redactor=Redactor([SECRET]), **watched.hooks)
    await with_tool(scripted).run(attempt)
    line = watched.text.splitlines()[0]
    assert line.startswith('[count {"word":"[secret] long')
    assert line.endswith("…]")
    assert len(line) < 130


async def test_an_agent_of_a_file_uses_its_tools(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("The answer is 42.")
    scripted = Scripted(("read_file", {"path": "notes.txt"}), "It is 42.")
    result = await ask(scripted, tmp_path, definition={"tools": ("Read",)})
    assert result.output == "It is 42."
    assert "The answer is 42." in str(scripted.asked[1])
    assert scripted.instructions[0] == ABOUT_DATA


async def test_what_a_tool_raises_is_never_taken_for_the_providers(tmp_path: Path) -> None:
    import httpx2

    request = httpx2.Request("GET", "http://127.0.0.1:9/prices")
    denied = httpx2.HTTPStatusError("401", request=request, response=httpx2.Response(401, request=request))
    gone = PermanentError("the shop is closed")

    async def raised(error: Exception) -> TaskError:
        agent = Agent(Scripted(("price", {})).model, name="shopper")

        @agent.tool_plain
        async def price() -> int:
            raise error

        with pytest.raises(TaskError) as caught:
            await ObjectAgent(agent, Models()).run(make_attempt(tmp_path / type(error).__name__, prompt="Go"))
        return caught.value

    for error in (ConnectionError("refused"), denied, TimeoutError("too slow")):
        failure = await raised(error)
        assert type(failure) is TaskError
        assert str(failure) == f"the tool price failed: {type(error).__name__}: {error}"
        assert failure.__cause__ is error
        assert failure.result is None, "nothing was said yet"
    assert await raised(gone) is gone


async def test_a_tool_that_asks_a_model_of_its_own_fails_as_a_tool(tmp_path: Path) -> None:
    inner = Agent(FunctionModel(stream_function=no_connection))
    outer = Agent(Scripted(("ask", {})).model)

    @outer.tool_plain
    async def ask() -> str:
        async with inner.run_stream("Go") as answer:
            return await answer.get_output()

    with pytest.raises(TaskError, match=r"^the tool ask failed: ConnectionRefusedError: ") as caught:
        await ObjectAgent(outer, Models()).run(make_attempt(tmp_path, prompt="Go"))
    assert type(caught.value) is TaskError


async def no_connection(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
    if messages:
        raise ConnectionRefusedError(111, "Connection refused")
    yield ""


@pytest.mark.parametrize("when", ["entered", "asked"])
async def test_a_toolset_that_can_not_be_reached_is_not_the_model(when: str, tmp_path: Path) -> None:
    class Away(FunctionToolset[None]):
        async def __aenter__(self) -> Self:
            if when == "entered":
                raise ConnectionRefusedError(111, "Connection refused")
            return await super().__aenter__()

        async def get_tools(self, ctx: RunContext[None]) -> dict[str, ToolsetTool[None]]:
            raise ConnectionRefusedError(111, "Connection refused")

    scripted = Scripted("Hello")
    agent = ObjectAgent(Agent(scripted.model, name="shopper", toolsets=[Away()]), Models())
    said = "agent shopper failed: ConnectionRefusedError: .*Connection refused"
    with pytest.raises(TaskError, match=said) as caught:
        await agent.run(make_attempt(tmp_path, prompt="Go"))
    assert type(caught.value) is TaskError
    assert scripted.asked == []


async def test_an_agents_own_hooks_may_still_mend_what_a_tool_raises(tmp_path: Path) -> None:
    scripted = Scripted(("price", {}), "It is unknown.")
    hooks: Hooks[None] = Hooks()
    agent = Agent(scripted.model, capabilities=[hooks])

    @hooks.on.tool_execute_error
    async def mend(ctx: RunContext[None], /, *, error: Exception, **_: Any) -> str:
        assert isinstance(error, ConnectionError)
        return "unknown"

    @agent.tool_plain
    def price() -> int:
        raise ConnectionError("refused")

    result = await ObjectAgent(agent, Models()).run(make_attempt(tmp_path, prompt="Go"))
    assert result.output == "It is unknown."


async def test_tools_are_made_outside_of_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "import threading\nmade_in = threading.current_thread()\ndef f() -> int:\n    return 1\n"
    (tmp_path / "slow_to_import.py").write_text(module)
    monkeypatch.syspath_prepend(str(tmp_path))
    await ask(Scripted("Hello"), tmp_path, definition={"tools": ("slow_to_import:f",)})
    made_in = import_object("slow_to_import:made_in")
    assert made_in is not threading.main_thread()


# --- limits and usage -------------------------------------------------------------------------------------


async def test_each_request_is_told_even_if_the_attempt_fails_later(tmp_path: Path) -> None:
    watched = Watched()

    async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str | DeltaToolCalls]:
        if len(messages) > 1:
            raise ConnectionResetError(104, "Connection reset by peer")
        yield {0: DeltaToolCall("count", '{"word": "hello"}', tool_call_id="1")}

    scripted = Scripted("")
    scripted.model = FunctionModel(stream_function=stream)
    with pytest.raises(TransientError, match="reset by peer"):
        await with_tool(scripted).run(make_attempt(tmp_path, prompt="Go", **watched.hooks))
    assert [usage.requests for usage in watched.usage] == [1]
    assert watched.usage[0].tokens > 0
    assert watched.usage[0].unpriced == 1


async def test_what_a_request_costs_is_told_where_the_price_is_known(tmp_path: Path) -> None:
    watched = Watched()
    await ask(Scripted("Hello", name="gpt-6.1-terra"), tmp_path, watched)
    (usage,) = watched.usage
    assert usage.cost > 0
    assert usage.unpriced == 0


LOOP: Turn = ("count", {"word": "again"})


@pytest.mark.parametrize(
    ("limits", "said", "requests"),
    [
        (Limits(max_requests=3), "its limit of 3 requests for one attempt", 3),
        (Limits(max_tokens=1), "its limit of 1 tokens for one attempt", 1),
        (Limits(max_cost=0.0000001), r"its limit of \$1e-07 for one attempt", 1),
        (Limits(), f"its limit of {MAX_TURNS} requests for one attempt", MAX_TURNS),
    ],
)
async def test_the_agents_own_limit_ends_the_attempt_for_good(
    limits: Limits, said: str, requests: int, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("a")
    scripted = Scripted(("read_file", {"path": "a.txt"}), name="gpt-6.1-terra")
    watched = Watched()
    with pytest.raises(PermanentError, match=f"agent writer: {said} is reached; raise"):
        await ask(scripted, tmp_path, watched, definition={"limits": limits, "tools": ("Read",)})
    assert len(scripted.asked) == len(watched.usage) == requests


async def test_what_was_said_before_a_failure_is_left_behind(tmp_path: Path) -> None:
    async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        yield "Half of"
        raise ValueError("no more")

    attempt = make_attempt(tmp_path, prompt="Tell.")
    with pytest.raises(TaskError, match="no more") as caught:
        await LlmAgent(AgentDefinition("writer"), Models(FunctionModel(stream_function=stream))).run(attempt)
    assert caught.value.result == TaskResult("Half of", output_file=tmp_path / "attempt/output.txt")


@pytest.mark.parametrize("room", [2, 0])
async def test_the_run_is_asked_before_each_request(room: int, tmp_path: Path) -> None:
    scripted, asked = Scripted(LOOP), 0

    def allow() -> None:
        nonlocal asked
        if asked == room:
            raise TransientError("the run has no room", 0.0)
        asked += 1
        assert len(scripted.asked) == asked - 1, "it is asked before, not after"

    with pytest.raises(TransientError, match=r"^the run has no room$") as caught:
        await with_tool(scripted).run(make_attempt(tmp_path, prompt="Go", allow=allow))
    assert caught.value.retry_after == 0.0
    assert len(scripted.asked) == asked == room


async def test_an_answer_that_is_paid_for_is_kept_though_it_passes_a_limit(tmp_path: Path) -> None:
    result = await ask(Scripted("Hello"), tmp_path, definition={"limits": Limits(max_tokens=1)})
    assert result.output == "Hello"


# --- objects from Python ----------------------------------------------------------------------------------


class Answers(BaseModel):
    """Typed output."""

    yes: int
    no: int


async def test_typed_output_is_data(tmp_path: Path) -> None:
    scripted = Scripted(("final_result", {"yes": 3, "no": 1}))
    agent = ObjectAgent(Agent(scripted.model, output_type=Answers), Models())
    result = await agent.run(make_attempt(tmp_path, prompt="Count"))
    assert result.data == Answers(yes=3, no=1)
    assert result.output == '{"yes":3,"no":1}'
    assert (tmp_path / "attempt/output.txt").read_text() == result.output


async def test_an_object_without_a_model_takes_the_runs(tmp_path: Path) -> None:
    scripted = Scripted("Hello")
    result = await ObjectAgent(Agent(), Models(scripted.model)).run(make_attempt(tmp_path, prompt="Hi"))
    assert result.output == "Hello"
    assert result.data is None
    with pytest.raises(PermanentError, match="no model is chosen"):
        await ObjectAgent(Agent(), Models()).run(make_attempt(tmp_path / "2", prompt="Hi"))


async def test_an_object_that_names_its_model_gets_it_from_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with provider_server(Answer(401, WIRES[1].error(401, "Who are you?"))) as server:
        for name, value in WIRES[1].environment(server.url).items():
            monkeypatch.setenv(name, value)
        models = Models()
        agent = Agent(WIRES[1].model, defer_model_check=True)
        with pytest.raises(PermanentError, match=r"openai-chat:some-model: access denied \(401\)"):
            await ObjectAgent(agent, models).run(make_attempt(tmp_path, prompt="Hi"))
        await models.close()
    assert len(server.requests) == 1


async def test_a_tool_that_is_called_wrongly_too_often_is_a_failure_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="there is no word") as caught:
        await with_tool(Scripted(("count", {"word": ""}))).run(make_attempt(tmp_path, prompt="Go"))
    assert type(caught.value) is TaskError


async def test_an_agent_that_runs_many_attempts_at_once(tmp_path: Path) -> None:
    scripted = Scripted("Hello")
    agent = ObjectAgent(Agent(scripted.model), Models())
    attempts = [make_attempt(tmp_path / str(n), prompt=str(n)) for n in range(20)]
    results = await asyncio.gather(*map(agent.run, attempts))
    assert {result.output for result in results} == {"Hello"}
    assert len(scripted.asked) == 20


# --- over the wire ----------------------------------------------------------------------------------------


async def over_the_wire(
    wire: Wire, url: str, base: Path, monkeypatch: pytest.MonkeyPatch, watched: Watched
) -> TaskResult:
    for name, value in wire.environment(url).items():
        monkeypatch.setenv(name, value)
    models = Models(wire.model)
    try:
        attempt = make_attempt(base, prompt="Say hello.", **watched.hooks)
        return await LlmAgent(AgentDefinition("writer"), models).run(attempt)
    finally:
        await models.close()


@wires
async def test_a_stream_over_http(wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched()
    async with provider_server(Stream(wire.events("Hel", "lo", "!", usage=(11, 7)))) as server:
        result = await over_the_wire(wire, server.url, tmp_path, monkeypatch, watched)
    assert result.output == "Hello!"
    assert watched.pieces == ["Hel", "lo", "!"]
    assert [(u.requests, u.input_tokens, u.output_tokens) for u in watched.usage] == [(1, 11, 7)]
    assert len(server.requests) == 1


@wires
async def test_a_generation_that_is_canceled_ends_at_once(
    wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched()
    events = wire.events("Hel", "lo")
    async with provider_server(Hang(events[:-1] if wire.key == "GOOGLE_API_KEY" else events[:4])) as server:
        running = asyncio.create_task(over_the_wire(wire, server.url, tmp_path, monkeypatch, watched))
        await server.hanging.wait()
        await watched.spoke.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await server.gone.wait()
    assert watched.text.startswith("Hel")
    assert (tmp_path / "attempt/output.txt").read_text() == watched.text
    (usage,) = watched.usage
    assert usage.requests == 1
    assert usage.input_tokens > 0, "estimated: nobody tells of an answer that is not heard to its end"
    assert usage.output_tokens > 0


@wires
async def test_refusals_and_drops_are_transient(
    wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched()
    refused = Answer(429, wire.error(429, "Slow down"), {"retry-after": "3"})
    broken = Stream(wire.events("Hel", "lo", "!")[:-1], complete=False)
    replies: list[Reply] = [refused, Drop(), broken]
    for n, reply in enumerate(replies):
        async with provider_server(reply) as server:
            with pytest.raises(TransientError) as caught:
                await over_the_wire(wire, server.url, tmp_path / str(n), monkeypatch, watched)
        assert caught.value.retry_after == (3.0 if reply is refused else None)
        assert len(server.requests) == 1
    (usage,) = watched.usage
    assert usage.requests == 1, "only the stream that had begun took something"
    assert usage.output_tokens > 0


@wires
async def test_a_stream_that_ends_in_good_order_but_too_early_is_no_answer(
    wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched()
    last = 3 if wire.key == "OPENAI_API_KEY" else 2
    events = wire.events("Hel", "lo", "!")
    async with provider_server(Stream(events[: 1 if wire.model.startswith("google") else -last])) as server:
        with pytest.raises(TransientError, match="broke off"):
            await over_the_wire(wire, server.url, tmp_path, monkeypatch, watched)
    assert [usage.requests for usage in watched.usage] == [1]


# --- kinds ------------------------------------------------------------------------------------------------


def test_an_agent_is_made_with_the_models_of_the_run() -> None:
    models = Models(Scripted("Hello").model)
    assert isinstance(make_agent(AgentDefinition("writer"), models), LlmAgent)
    with pytest.raises(UserError, match="agent 'writer': no model is chosen"):
        make_agent(AgentDefinition("writer"), Models())


def test_what_is_wrong_with_an_agent_that_asks_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    scripted = Models(Scripted("Hello").model)

    def of(models: Models | None = None, **more: Any) -> str | None:
        return problem_of(AgentDefinition("a", **more), models)

    assert of() is of(model="inherit") is of(model="sonnet") is None, "the run will choose"
    assert of(Models()) == str(NoModel())
    assert of(scripted) is of(scripted, model="inherit") is of(scripted, model="sonnet") is None
    missing = "anthropic:claude-opus-5-5 needs a key: set ANTHROPIC_API_KEY"
    assert of(model="claude-opus-5-5") == of(scripted, model="claude-opus-5-5") == missing
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    assert of(model="claude-opus-5-5") is None


def test_a_money_limit_needs_a_price(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    limits = Limits(max_cost=1.0)
    assert problem_of(AgentDefinition("a", model="gpt-6.1-terra", limits=limits)) is None
    problem = problem_of(AgentDefinition("a", model="ollama:qwen3", limits=limits))
    assert (
        problem
        == "its max_cost can't be kept: the price of ollama:qwen3 is not known; use max_tokens instead"
    )


def test_a_remote_agent_is_refused_with_advice() -> None:
    problem = problem_of(AgentDefinition("a", kind="a2a", url="http://127.0.0.1:9"))
    assert "with a command" in str(problem)
