"""The scripted server, as pydantic-ai and bare HTTP see it."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.exceptions import (
    ModelAuthenticationError,
    ModelConnectionError,
    ModelHTTPError,
    ModelOverloadedError,
    ModelRateLimitError,
    ModelServerError,
)
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

from allready.testing import Call, Dropped, ScriptedServer, overloaded, rate_limited


class Planned(BaseModel):
    tasks: list[dict[str, Any]]


class Count(BaseModel):
    count: int


PATIENCE = 30.0
"""Seconds until a test gives up waiting for the other side."""


def model(server: ScriptedServer, api_key: str | None = None) -> OpenAIChatModel:
    provider = OpenAIProvider(base_url=server.url, api_key=api_key or server.api_key)
    return OpenAIChatModel("scripted", provider=provider, settings={"max_retries": 0})


async def ask(server: ScriptedServer, prompt: str) -> str:
    return (await Agent(model(server)).run(prompt)).output


async def pieces(server: ScriptedServer, prompt: str) -> list[str]:
    async with Agent(model(server)).run_stream(prompt) as streamed:
        return [piece async for piece in streamed.stream_text(delta=True, debounce_by=None)]


async def read_into(seen: list[str], server: ScriptedServer) -> None:
    async with Agent(model(server)).run_stream("go") as streamed:
        async for piece in streamed.stream_text(delta=True, debounce_by=None):
            seen.append(piece)  # noqa: PERF401 what came before an error counts


def post(server: ScriptedServer, body: bytes, path: str = "/v1/chat/completions") -> tuple[int, Any]:
    """Send bytes as they are; give status and answer."""
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=PATIENCE)
    try:
        connection.request("POST", path, body, {"Authorization": f"Bearer {server.api_key}"})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


# --- answers ----------------------------------------------------------------------------------------------


async def test_whole_and_streamed_answers_with_their_usage() -> None:
    with ScriptedServer({"Compare": "They are alike: ä ≠ a."}, chunk=4, tokens=(70, 30)) as server:
        result = await Agent(model(server), instructions="Be short.").run("Compare them")
        assert result.output == "They are alike: ä ≠ a."
        assert (result.usage.input_tokens, result.usage.output_tokens) == (70, 30)
        async with Agent(model(server)).run_stream("Compare them") as streamed:
            parts = [piece async for piece in streamed.stream_text(delta=True, debounce_by=None)]
            assert parts == ["They", " are", " ali", "ke: ", "ä ≠ ", "a."]
            assert (streamed.usage.input_tokens, streamed.usage.output_tokens) == (70, 30)
    first, second = server.requests
    assert (first.prompt, first.instructions, first.model) == ("Compare them", "Be short.", "scripted")
    assert (first.streamed, second.streamed) == (False, True)
    assert (first.outcome, second.outcome) == ("answered", "answered")


async def test_usage_without_a_fixed_number_is_a_quarter_of_the_characters() -> None:
    with ScriptedServer(default="x" * 400) as server:
        usage = (await Agent(model(server)).run("y" * 800)).usage
    assert (usage.input_tokens, usage.output_tokens) == (200, 100)


@pytest.mark.parametrize("output", [Planned, NativeOutput(Planned)], ids=["tool", "native"])
async def test_planners_get_the_plan(output: Any) -> None:
    with ScriptedServer(plan=[{"id": "a", "prompt": "x"}]) as server:
        agent: Agent[None, Planned] = Agent(model(server), output_type=output)
        assert (await agent.run("goal")).output.tasks[0]["id"] == "a"
        async with agent.run_stream("goal") as streamed:
            assert (await streamed.get_output()).tasks[0]["prompt"] == "x"
    assert all(request.for_a_plan for request in server.requests)


async def test_structured_output_of_a_persons_own_agents() -> None:
    with ScriptedServer(default={"count": 3}) as server:
        for output in (Count, NativeOutput(Count)):
            agent: Agent[None, Count] = Agent(model(server), output_type=output)
            assert (await agent.run("How many?")).output == Count(count=3)


@pytest.mark.parametrize("stream", [False, True])
async def test_tools(stream: bool) -> None:
    calls = (Call("double", {"text": "ab"}), Call("double", {"text": "c"}))
    with ScriptedServer({"Work": [calls, "done"]}) as server:
        agent = Agent(model(server))

        @agent.tool_plain
        def double(text: str) -> str:
            return text * 2

        if stream:
            async with agent.run_stream("Work") as streamed:
                assert await streamed.get_output() == "done"
        else:
            assert (await agent.run("Work")).output == "done"
    assert server.requests[0].tools == ("double",)
    assert server.requests[1].results == ("abab", "cc")


async def test_functions_may_block_without_stopping_others() -> None:
    both = threading.Barrier(2)

    def wait(prompt: str) -> str:
        both.wait(PATIENCE)
        return prompt

    async def wait_too(prompt: str) -> str:
        await asyncio.to_thread(both.wait, PATIENCE)
        return prompt

    with ScriptedServer({"a": wait, "b": wait_too}) as server:
        assert list(await asyncio.gather(ask(server, "a"), ask(server, "b"))) == ["a", "b"]
    assert server.most_at_once == 2


# --- refusals ---------------------------------------------------------------------------------------------


async def test_another_key_is_turned_away() -> None:
    with ScriptedServer() as server:
        with pytest.raises(ModelAuthenticationError):
            await Agent(model(server, "sk-another")).run("go")
        assert server.requests == []
        assert server.environment["OPENAI_API_KEY"] == server.api_key
    with ScriptedServer(api_key="sk-mine") as server:
        assert (await Agent(model(server, "sk-mine")).run("go")).output == "ok"


async def test_the_first_requests_are_refused_with_a_time_to_come_back() -> None:
    with ScriptedServer(refuse_first=2, retry_after=0.25) as server:
        for _ in range(2):
            with pytest.raises(ModelRateLimitError) as caught:
                await ask(server, "go")
            assert caught.value.retry_after == 0.25
            assert isinstance(caught.value, ModelHTTPError)
            assert (caught.value.headers or {})["retry-after"] == "1"
        assert await ask(server, "go") == "ok"
    assert (server.refused, len(server.requests)) == (2, 1)


async def test_more_than_the_rate_is_refused_until_the_window_has_room() -> None:
    with ScriptedServer(rate_limit=(2, 60)) as server:
        assert [await ask(server, "go") for _ in range(2)] == ["ok", "ok"]
        with pytest.raises(ModelRateLimitError) as caught:
            await ask(server, "go")
        assert caught.value.retry_after is not None
        assert 30 < caught.value.retry_after <= 60
    with ScriptedServer(rate_limit=(1, 0.01)) as server:
        for _ in range(3):
            while True:
                try:
                    await ask(server, "go")
                    break
                except ModelRateLimitError as error:
                    await asyncio.sleep(error.retry_after or 0)
    assert len(server.requests) == 3


@pytest.mark.parametrize("way", [ask, pieces], ids=["whole", "streamed"])
async def test_refusals_and_errors_of_rules(way: Any) -> None:
    def wrong(_: str) -> str:
        raise ZeroDivisionError("in the script")

    rules: dict[str, Any] = {"busy": overloaded(3), "limit": rate_limited(2), "wrong": wrong}
    with ScriptedServer(rules, default=None) as server:
        with pytest.raises(ModelOverloadedError):
            await way(server, "busy")
        with pytest.raises(ModelRateLimitError) as limited:
            await way(server, "limit")
        assert limited.value.retry_after == 2
        with pytest.raises(ModelServerError, match="ZeroDivisionError: in the script"):
            await way(server, "wrong")
        with pytest.raises(ModelServerError, match="no rule of the script fits"):
            await way(server, "something")
    assert [request.outcome for request in server.requests] == ["refused", "refused", "failed", "failed"]


async def test_a_connection_that_breaks_in_the_middle_of_a_stream() -> None:
    with ScriptedServer(default=Dropped("half of")) as server:
        seen: list[str] = []
        with pytest.raises(ModelConnectionError):
            await read_into(seen, server)
        assert seen == ["half ", "of"]
        with pytest.raises(ModelConnectionError):
            await ask(server, "go")
    assert [request.outcome for request in server.requests] == ["dropped", "dropped"]


# --- clients ----------------------------------------------------------------------------------------------


async def test_a_client_that_goes_away_is_noticed_at_once() -> None:
    with ScriptedServer(default="word " * 10, pause=3600) as server:
        async with Agent(model(server)).run_stream("go") as streamed:
            async for _ in streamed.stream_text(delta=True, debounce_by=None):
                break
        async with asyncio.timeout(PATIENCE):
            while server.requests[0].outcome != "gone":
                await asyncio.sleep(0)
        request = server.requests[0]
        assert request.ended is not None
        assert request.ended - request.began < PATIENCE


async def test_the_end_of_the_server_ends_what_is_under_way() -> None:
    with ScriptedServer(delay=3600) as server:
        asking = asyncio.create_task(ask(server, "go"))
        async with asyncio.timeout(PATIENCE):
            while not server.requests:
                await asyncio.sleep(0)
    with pytest.raises(ModelConnectionError):
        await asking
    assert server.requests[0].outcome == "gone"


def test_models_are_listed() -> None:
    with ScriptedServer(models=("small", "large")) as server:
        connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=PATIENCE)
        connection.request("GET", "/v1/models", headers={"Authorization": f"Bearer {server.api_key}"})
        listed = json.loads(connection.getresponse().read())
        connection.close()
    assert [entry["id"] for entry in listed["data"]] == ["small", "large"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"{}", b'{"messages": [3]}', b'{"messages": 3}', b'{"messages": [{}]}']
)
def test_what_is_no_chat_completion_is_said(body: bytes) -> None:
    with ScriptedServer() as server:
        status, answer = post(server, body)
    assert status == 400
    assert "no request for a chat completion" in answer["error"]["message"]


async def test_the_responses_api_is_not_here_and_that_is_said() -> None:
    with ScriptedServer() as server:
        status, answer = post(server, b"{}", "/v1/responses")
        assert status == 404
        assert "openai-chat:" in answer["error"]["message"]
        provider = OpenAIProvider(base_url=server.url, api_key=server.api_key)
        with pytest.raises(ModelHTTPError, match="chat completions only"):
            await Agent(OpenAIResponsesModel("scripted", provider=provider)).run("go")


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.mark.parametrize(
    "sent",
    [b"", b"x" * 100_000, b"nonsense\r\n\r\n", b"GET", b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n"],
)
async def test_what_is_no_request_at_all_disturbs_nobody(server: ScriptedServer, sent: bytes) -> None:
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname or "", address.port or 0), PATIENCE) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    assert await ask(server, "go") == "ok"
