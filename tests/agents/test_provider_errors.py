"""What providers raise, from their real libraries against a server that refuses, breaks off and hangs."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import socket
from typing import Any

import httpx2
import pytest
from pydantic_ai import ModelRequest, exceptions
from pydantic_ai.direct import model_request, model_request_stream
from pydantic_ai.models import Model
from pydantic_ai.settings import ModelSettings
from tests.agents.provider_server import (
    WIRES,
    Answer,
    Drop,
    Hang,
    Reply,
    Stream,
    Wire,
    provider_server,
)

from allready.agents.models import MODEL_SETTINGS, Models
from allready.agents.provider_errors import task_error
from allready.errors import FatalError, PermanentError, TaskError, TransientError

LONG = 30.0
"""Seconds: enough for any answer on loopback."""

wires = pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.model)
ways = pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])


async def failure(
    wire: Wire, reply: Reply, monkeypatch: pytest.MonkeyPatch, *, streamed: bool, timeout: float = LONG
) -> TaskError:
    """Make one request that fails; the server must have seen exactly this one."""
    async with provider_server(reply) as server:
        for name, value in wire.environment(server.url).items():
            monkeypatch.setenv(name, value)
        models = Models(wire.model)
        with pytest.raises(exceptions.ModelAPIError) as caught:
            await ask(models.get(), streamed=streamed, timeout=timeout)
        await models.close()
        assert len(server.requests) == 1
        return task_error(caught.value, wire.model)


async def ask(model: Model, *, streamed: bool, timeout: float = LONG) -> None:
    settings = ModelSettings(timeout=timeout, max_retries=MODEL_SETTINGS["max_retries"])
    messages = [ModelRequest.user_text_prompt("Say hello.")]
    if not streamed:
        await model_request(model, messages, model_settings=settings)
        return
    async with model_request_stream(model, messages, model_settings=settings) as response:
        async for _ in response:
            pass


@wires
@ways
@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 529])
async def test_a_refusal_for_now_is_transient(
    wire: Wire, streamed: bool, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = "overloaded_error" if status == 529 else "some_error"
    reply = Answer(status, wire.error(status, "Come back later.", kind))
    error = await failure(wire, reply, monkeypatch, streamed=streamed)
    assert isinstance(error, TransientError)
    assert error.retry_after is None
    assert str(error).startswith(f"{wire.model}: ")
    assert str(error).endswith(": Come back later")


@wires
@ways
@pytest.mark.parametrize("status", [429, 503])
async def test_how_long_to_wait_is_read(
    wire: Wire, streamed: bool, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    reply = Answer(status, wire.error(status, "Come back later."), {"retry-after": "7"})
    error = await failure(wire, reply, monkeypatch, streamed=streamed)
    assert isinstance(error, TransientError)
    assert error.retry_after == 7.0


@wires
@ways
@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (400, "the request was refused (400): No"),
        (401, "access denied (401): No. Is {key}"),
        (402, "the quota is used up: No. Top up the account"),
        (403, "access denied (403): No. Is {key}"),
        (404, "not found: No. Is the model's name"),
        (413, "the request is too large: No. Give the agent less to read"),
        (422, "the request was refused (422): No"),
        (501, "the request was refused (501): No"),
    ],
)
async def test_a_refusal_for_good_is_permanent_and_says_what_to_do(
    wire: Wire, streamed: bool, status: int, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reply = Answer(status, wire.error(status, "No."))
    error = await failure(wire, reply, monkeypatch, streamed=streamed)
    assert isinstance(error, PermanentError)
    assert isinstance(error, FatalError) == (status not in {413, 501}), "others will be refused as well"
    assert str(error).startswith(f"{wire.model}: {advice.format(key=wire.key)}")


@wires
async def test_a_quota_that_is_used_up_is_no_rate_limit(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    body: Any
    match wire.key:
        case "OPENAI_API_KEY":
            reply = Answer(429, wire.error(429, "Empty.", "insufficient_quota", "insufficient_quota"))
        case "ANTHROPIC_API_KEY":
            said = "Your credit balance is too low to access the Anthropic API."
            reply = Answer(400, wire.error(400, said, "invalid_request_error"))
        case _:
            body = wire.error(429, "Empty.", "RESOURCE_EXHAUSTED")
            violation = {"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}
            failure_ = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]}
            body["error"]["details"] = [failure_]
            reply = Answer(429, body)
    error = await failure(wire, reply, monkeypatch, streamed=True)
    assert isinstance(error, PermanentError)
    assert "the quota is used up" in str(error)
    assert "Top up the account" in str(error)


@wires
async def test_a_full_context_window_is_permanent(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {
        "OPENAI_API_KEY": "This model's maximum context length is 8 tokens.",
        "ANTHROPIC_API_KEY": "prompt is too long: 9 tokens > 8 maximum",
        "GOOGLE_API_KEY": "The input token count (9) exceeds the maximum number of tokens allowed (8).",
    }[wire.key]
    kind = "INVALID_ARGUMENT" if wire.key == "GOOGLE_API_KEY" else "invalid_request_error"
    reply = Answer(400, wire.error(400, said, kind, "context_length_exceeded"))
    error = await failure(wire, reply, monkeypatch, streamed=True)
    assert isinstance(error, PermanentError)
    assert "the context window is full" in str(error)
    assert "less to read" in str(error)


async def test_a_key_that_google_refuses_with_a_400_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = WIRES[3]
    body = wire.error(400, "API key not valid.", "INVALID_ARGUMENT")
    body["error"]["details"] = [{"@type": "google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]
    error = await failure(wire, Answer(400, body), monkeypatch, streamed=True)
    assert isinstance(error, PermanentError)
    assert "access denied (400): API key not valid. Is GOOGLE_API_KEY" in str(error)


async def test_a_key_that_is_refused_within_the_stream_is_permanent(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = WIRES[0]
    told = {"type": "error", "code": "invalid_api_key", "message": "No such key", "param": None}
    reply = Stream([f"event: error\ndata: {json.dumps(told)}\n\n"])
    error = await failure(wire, reply, monkeypatch, streamed=True)
    assert isinstance(error, PermanentError)
    assert "access denied: invalid_api_key: No such key. Is OPENAI_API_KEY right" in str(error)


async def test_a_similar_name_is_suggested(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = dataclasses.replace(WIRES[0], model="openai:gpt-6.1-tera")
    said = "The model 'gpt-6.1-tera' does not exist"
    reply = Answer(404, wire.error(404, said, "invalid_request_error", "model_not_found"))
    error = await failure(wire, reply, monkeypatch, streamed=True)
    assert "Did you mean openai:gpt-6.1-terra?" in str(error)


async def test_a_request_larger_than_the_limit_of_a_minute_is_permanent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wire = WIRES[0]
    said = "Request too large for gpt-6.1-terra on tokens per min (TPM): Limit 30000, Requested 40000."
    reply = Answer(429, wire.error(429, said, "tokens", "rate_limit_exceeded"))
    error = await failure(wire, reply, monkeypatch, streamed=True)
    assert isinstance(error, PermanentError)


@wires
@ways
async def test_a_dropped_connection_is_transient(
    wire: Wire, streamed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = await failure(wire, Drop(), monkeypatch, streamed=streamed)
    assert isinstance(error, TransientError)
    assert "broke off: Server disconnected" in str(error)
    assert "127.0.0.1:" in str(error)


@wires
async def test_a_stream_that_breaks_off_is_transient(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    events = wire.events("Hel", "lo", "!")
    error = await failure(wire, Stream(events[:-1], complete=False), monkeypatch, streamed=True)
    assert isinstance(error, TransientError)
    assert "broke off: peer closed connection" in str(error)


@wires
@ways
async def test_a_server_that_hangs_is_transient(
    wire: Wire, streamed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = await failure(wire, Hang(), monkeypatch, streamed=streamed, timeout=0.1)
    assert isinstance(error, TransientError)
    assert "no answer in time from the server 127.0.0.1:" in str(error)


@wires
async def test_a_stream_that_hangs_is_transient(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    events = wire.events("Hel", "lo", "!")[:-1]
    error = await failure(wire, Hang(events), monkeypatch, streamed=True, timeout=0.1)
    assert isinstance(error, TransientError)
    assert "no answer in time" in str(error)


@wires
async def test_an_overload_told_within_the_stream_is_transient(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    if wire.key == "GOOGLE_API_KEY":
        event = f"data: {json.dumps(wire.error(503, 'Overloaded', 'UNAVAILABLE'))}\n\n"
    elif wire.key == "ANTHROPIC_API_KEY":
        event = f"event: error\ndata: {json.dumps(wire.error(529, 'Overloaded', 'overloaded_error'))}\n\n"
    elif wire.model.startswith("openai:"):
        told = {"type": "error", "code": "server_is_overloaded", "message": "Overloaded", "param": None}
        event = f"event: error\ndata: {json.dumps(told)}\n\n"
    else:
        event = f"data: {json.dumps(wire.error(503, 'Overloaded', 'overloaded', 'overloaded'))}\n\n"
    error = await failure(wire, Stream([*wire.events("Hel", "lo")[:1], event]), monkeypatch, streamed=True)
    assert isinstance(error, TransientError)
    assert "overloaded" in str(error).lower()


@wires
async def test_a_page_of_html_is_not_shown(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    error = await failure(wire, Answer(502, "<html>Bad gateway</html>"), monkeypatch, streamed=True)
    assert isinstance(error, TransientError)
    assert "html" not in str(error)


@wires
async def test_long_answers_are_cut_and_secrets_blanked(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "No key sk-test-0123456789 here. " + "x" * 5_000
    error = await failure(wire, Answer(400, wire.error(400, said)), monkeypatch, streamed=True)
    assert "sk-test" not in str(error)
    assert "[secret]" in str(error)
    assert len(str(error)) < 450


NO_API = "this does not look like the answer of "
NOTHING = "data: null\n\n"
NULLS = "data: " + json.dumps({"id": None, "choices": None}) + "\n\n"


@wires
@ways
@pytest.mark.parametrize(
    "reply",
    [
        Answer(200, "<html>Log in, secret-0123456789</html>"),
        Answer(200, {"foo": 1}),
        Answer(200, ""),
        Answer(204, ""),
        Stream(["data: {not json\n\n"]),
        Stream([NULLS, NOTHING, "data: []\n\n"]),
    ],
    ids=["page", "json", "nothing", "204", "no json", "nulls"],
)
async def test_what_is_no_answer_of_a_model_is_told_as_such(
    wire: Wire, streamed: bool, reply: Reply, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with provider_server(reply) as server:
        for name, value in wire.environment(server.url).items():
            monkeypatch.setenv(name, value)
        models = Models(wire.model)
        error = None
        try:
            await ask(models.get(), streamed=streamed)
        except Exception as raised:
            error = task_error(raised, wire.model)
        await models.close()
    if error is None and wire.key == "GOOGLE_API_KEY":
        return  # its library takes any JSON for an empty answer
    assert type(error) is TaskError, "it may be the page of a proxy that is out of order for a moment"
    kind = "an OpenAI-compatible server" if wire.key == "OPENAI_API_KEY" else "the model's API"
    assert f"{NO_API}{kind} (" in str(error)
    assert "Is the server's address right" in str(error)
    assert "allready doctor" in str(error)
    assert "html" not in str(error)


@wires
@ways
@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_permanent(
    wire: Wire, streamed: bool, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    reply = Answer(status, "<html>", {"location": "/login?token=abc"})
    error = await failure(wire, reply, monkeypatch, streamed=streamed)
    assert type(error) is FatalError
    said = f"the server sends the request elsewhere ({status}) to /login. Is the server's address right?"
    assert str(error).startswith(f"{wire.model}: {said}")


def test_what_a_model_s_own_code_raises_is_not_the_server_s() -> None:
    def model() -> None:
        raise AttributeError("a mistake in a scripted model")

    with pytest.raises(AttributeError) as raised:
        model()
    error = task_error(raised.value, "m")
    assert str(error) == "m: AttributeError: a mistake in a scripted model"
    assert str(task_error(KeyError("k"), "m")) == "m: KeyError: 'k'"


@wires
async def test_a_server_that_is_not_running_is_transient(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # taken, but nobody listens
        for name, value in wire.environment(f"http://127.0.0.1:{bound.getsockname()[1]}").items():
            monkeypatch.setenv(name, value)
        models = Models(wire.model)
        with pytest.raises(exceptions.ModelAPIError) as caught:
            await ask(models.get(), streamed=True)
        await models.close()
    error = task_error(caught.value, wire.model)
    assert isinstance(error, TransientError)
    assert "can't be reached" in str(error)
    assert "Is it running?" in str(error)


async def test_an_address_of_another_kind_is_permanent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "gopher://127.0.0.1/v1")
    models = Models("openai-chat:some-model")
    with pytest.raises(exceptions.ModelAPIError) as caught:
        await ask(models.get(), streamed=True)
    await models.close()
    error = task_error(caught.value, "openai-chat:some-model")
    assert isinstance(error, PermanentError)
    assert "Is the server's address right?" in str(error)


async def test_a_responses_model_at_a_server_of_chat_completions_is_told_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wire = WIRES[0]
    error = await failure(wire, Answer(404, {"detail": "Not Found"}), monkeypatch, streamed=True)
    assert "openai-chat:NAME" in str(error)


# --- what the libraries raise, unwrapped ------------------------------------------------------------------

REQUEST = httpx2.Request("POST", "http://127.0.0.1:9/v1/chat")


def response(status: int, body: Any = None, headers: dict[str, str] | None = None) -> httpx2.Response:
    return httpx2.Response(status, json=body or {}, headers=headers, request=REQUEST)


def bare_status_errors(status: int) -> list[Exception]:
    """Give the exceptions of all the libraries for a status."""
    import anthropic
    import openai
    from google.genai import errors

    body = {"error": {"message": "No", "code": status, "status": "S"}}
    answer = response(status, body, {"retry-after": "3"})
    google = errors.APIError(status, body, answer)
    return [
        openai.APIStatusError("No", response=answer, body=body),
        anthropic.APIStatusError("No", response=answer, body=body),
        google,
        httpx2.HTTPStatusError("No", request=REQUEST, response=answer),
    ]


@pytest.mark.parametrize("index", range(4))
def test_bare_exceptions_with_a_status_are_known(index: int) -> None:
    later = task_error(bare_status_errors(429)[index], "m")
    assert isinstance(later, TransientError)
    assert later.retry_after == 3.0
    for status in (400, 401, 403, 404):
        assert isinstance(task_error(bare_status_errors(status)[index], "m"), PermanentError)
    assert isinstance(task_error(bare_status_errors(503)[index], "m"), TransientError)


def bare_connection_errors() -> list[Exception]:
    import anthropic
    import openai

    return [
        openai.APIConnectionError(request=REQUEST),
        openai.APITimeoutError(REQUEST),
        anthropic.APIConnectionError(request=REQUEST),
        anthropic.APITimeoutError(REQUEST),
        httpx2.RemoteProtocolError("peer closed connection"),
        httpx2.ReadError("", request=REQUEST),
        httpx2.ReadTimeout("", request=REQUEST),
        ConnectionResetError(104, "Connection reset by peer"),
        TimeoutError(),
    ]


@pytest.mark.parametrize("error", bare_connection_errors(), ids=lambda error: type(error).__qualname__)
def test_bare_exceptions_of_connections_are_transient(error: Exception) -> None:
    assert isinstance(task_error(error, "m"), TransientError)


def test_an_address_that_is_none_is_permanent() -> None:
    assert isinstance(task_error(httpx2.InvalidURL("no"), "m"), PermanentError)
    untrusted = httpx2.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed", request=REQUEST)
    assert isinstance(task_error(untrusted, "m"), PermanentError)


def test_trouble_with_a_connection_that_led_to_something_else_is_no_dropped_connection() -> None:
    error = RuntimeError("the tool is broken")
    error.__context__ = ConnectionResetError(104, "Connection reset by peer")
    assert type(task_error(error, "m")) is TaskError


# --- what pydantic-ai itself raises -----------------------------------------------------------------------


def test_a_task_error_passes_through() -> None:
    error = TransientError("later", 3.0)
    assert task_error(error, "m") is error


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (exceptions.UnexpectedModelBehavior("Exceeded retries", "{}"), TaskError, "m: Exceeded retries"),
        (exceptions.ContentFilterError("held"), TaskError, "content filter: held"),
        (exceptions.OutputTokenLimitExceeded("cut"), PermanentError, "limit of output was reached: cut"),
        (exceptions.IncompleteToolCall("cut"), PermanentError, "limit of output was reached: cut"),
        (exceptions.UserError("not with this model"), PermanentError, "m: not with this model"),
        (exceptions.UsageLimitExceeded("too much"), PermanentError, "m: too much. Raise the limit"),
        (exceptions.ModelRequestTimeout("m", 3.0), TransientError, "no answer in time"),
        (exceptions.ModelAPIError("m", "odd"), TaskError, "odd"),
        (RuntimeError("boom"), TaskError, "m: RuntimeError: boom"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_what_pydantic_ai_raises(error: Exception, kind: type[TaskError], said: str) -> None:
    found = task_error(error, "m")
    assert type(found) is kind
    assert said in str(found)
    assert found.__cause__ is error


def test_why_the_model_could_not_be_brought_to_use_a_tool_is_said() -> None:
    error = exceptions.UnexpectedModelBehavior("Tool 'read' exceeded max retries count of 1")
    error.__cause__ = ValueError("no such file")
    assert str(task_error(error, "m")).endswith("count of 1 (no such file)")


def test_of_several_errors_the_most_hopeful_counts() -> None:
    refused = exceptions.ModelHTTPError.for_category(
        exceptions.ModelAuthenticationError, status_code=401, model_name="a"
    )
    busy = [
        exceptions.ModelHTTPError.for_category(
            exceptions.ModelRateLimitError, status_code=429, model_name="b", retry_after=seconds
        )
        for seconds in (9.0, 4.0)
    ]
    odd = exceptions.UnexpectedModelBehavior("odd")
    all_failed = exceptions.FallbackExceptionGroup("all models failed", [refused, odd, *busy])
    found = task_error(all_failed, "m")
    assert isinstance(found, TransientError)
    assert found.retry_after == 4.0
    assert type(task_error(ExceptionGroup("two", [refused, odd]), "m")) is TaskError
    assert type(task_error(ExceptionGroup("one", [refused]), "m")) is FatalError


async def test_a_cancellation_is_not_taken_for_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopping a request in the middle raises `CancelledError` itself and closes the connection."""
    for wire in WIRES:
        async with provider_server(Hang(wire.events("Hel", "lo")[:1])) as server:
            for name, value in wire.environment(server.url).items():
                monkeypatch.setenv(name, value)
            models = Models(wire.model)
            asking = asyncio.create_task(ask(models.get(), streamed=True))
            await server.hanging.wait()
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            await server.gone.wait()
            await models.close()
