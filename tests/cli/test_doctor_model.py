"""`doctor` and the model: which one, why, and whether it answers one tiny request."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from tests.agents.provider_server import (
    WIRES,
    Answer,
    Drop,
    Hang,
    ProviderServer,
    Reply,
    Stream,
    Wire,
    provider_server,
)
from tests.cli.conftest import Call

from allready.cli import model_check

wires = pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.model)


def held_answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    return ModelResponse([TextPart("ok")])


HELD = FunctionModel(held_answer)


@contextmanager
def server_beside(*replies: Reply) -> Iterator[ProviderServer]:
    """Run a server in a thread: the command has an event loop of its own."""
    ready, found = threading.Event(), []
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        async with provider_server(*replies) as server:
            found.append(server)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    ready.wait()
    try:
        yield found[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def told(call: Call, *options: str) -> tuple[str, str, str | None]:
    """Give what the doctor says about the model: status, text, hint."""
    (check,) = [
        c for c in json.loads(call("doctor", "--json", *options).out)["checks"] if c["name"] == "model"
    ]
    return check["status"], check["text"], check["hint"]


def lead_to(server: ProviderServer, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in wire.environment(server.url).items():
        monkeypatch.setenv(name, value)


@wires
def test_a_model_that_answers(wire: Wire, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    with server_beside(Stream(wire.events("ok"))) as server:
        lead_to(server, wire, monkeypatch)
        status, text, hint = told(call, "--model", wire.model)
    assert (status, hint) == ("ok", None)
    assert text.startswith(f"{wire.model} (--model) answered in ")
    ((_, request),) = server.requests
    assert "16" in json.dumps(request), "few tokens"


@pytest.mark.parametrize(
    ("wire", "why"), [(WIRES[2], "ANTHROPIC_API_KEY is set"), (WIRES[3], "GOOGLE_API_KEY is set")]
)
def test_a_key_chooses(wire: Wire, why: str, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    with server_beside(Stream(wire.events("ok"))) as server:
        lead_to(server, wire, monkeypatch)
        status, text, _ = told(call)
    assert status == "ok"
    assert text.startswith(f"{wire.model} ({why}) answered in ")


def test_configuration_and_environment_choose(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "python:tests.cli.test_doctor_model:HELD"
    Path("allready.toml").write_text(f"model = '{name}'\n", encoding="utf-8")
    assert told(call)[1].startswith(f"{name} (allready.toml) answered in ")
    monkeypatch.setenv("ALLREADY_MODEL", name)
    assert told(call)[1].startswith(f"{name} (ALLREADY_MODEL) answered in ")
    assert "means nothing" not in call("doctor").out


def test_a_model_object_that_is_not_there_is_a_problem(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "python:tests.cli.test_doctor_model:GONE"
    monkeypatch.setenv("ALLREADY_MODEL", name)
    status, text, hint = told(call)
    assert status == "problem"
    assert text.startswith(f"{name} (ALLREADY_MODEL) can't be used: AttributeError: module ")
    assert hint == "or name another one with --model"


def test_without_a_model_there_is_a_warning_that_says_how_to_get_going(call: Call) -> None:
    status, text, hint = told(call)
    assert status == "warning"
    assert text == "none is chosen; plans of commands and functions need none"
    assert hint is not None
    assert "ANTHROPIC_API_KEY" in hint
    assert "ollama:NAME" in hint
    assert call("doctor").code == 0


def test_a_model_without_its_key_is_a_problem(call: Call) -> None:
    status, text, _ = told(call, "--model", "claude-sonnet-5-5")
    assert status == "problem"
    assert text.endswith("can't be used: anthropic:claude-sonnet-5-5 needs a key: set ANTHROPIC_API_KEY")
    assert call("doctor", "--model", "claude-sonnet-5-5").code == 2


def test_a_model_that_can_not_be_made_is_a_problem(call: Call) -> None:
    status, text, _ = told(call, "--model", "mystery:some-model")
    assert status == "problem"
    assert "Unknown model" in text


@wires
def test_a_wrong_key_is_a_problem(wire: Wire, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    with server_beside(Answer(401, wire.error(401, "Who are you?"))) as server:
        lead_to(server, wire, monkeypatch)
        status, text, hint = told(call, "--model", wire.model)
    assert status == "problem"
    assert f"(--model): access denied (401): Who are you? Is {wire.key}" in text
    assert "doctor" not in text
    assert hint == "or name another one with --model"
    assert len(server.requests) == 1


@wires
@pytest.mark.parametrize(
    "reply", [Answer(503, {"error": {"message": "Later"}}), Drop()], ids=["busy", "drop"]
)
def test_a_provider_in_trouble_is_a_warning(
    wire: Wire, reply: Reply, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server_beside(reply) as server:
        lead_to(server, wire, monkeypatch)
        assert told(call, "--model", wire.model)[0] == "warning"
    assert len(server.requests) == 1


def test_a_server_that_hangs_is_a_warning(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_check, "PATIENCE", 0.1)
    wire = WIRES[1]
    with server_beside(Hang()) as server:
        lead_to(server, wire, monkeypatch)
        status, text, _ = told(call, "--model", wire.model)
    assert status == "warning"
    assert "no answer in time" in text


def test_thoughts_alone_are_an_answer_too(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    wire = WIRES[1]
    with server_beside(Stream(wire.events(""))) as server:
        lead_to(server, wire, monkeypatch)
        assert told(call, "--model", wire.model)[0] == "ok"
