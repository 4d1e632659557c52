"""The choice of a model, and the models of a run."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_ai import Agent
from pydantic_ai.models import known_model_names
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.models.google import GoogleModel
from pydantic_ai.models.ollama import OllamaModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.models.test import TestModel as EchoModel  # pytest would collect it by its own name
from tests.agents.provider_server import WIRES, Answer, Stream, Wire, provider_server

from allready.agents.models import (
    ALIASES,
    DEFAULTS,
    MODEL_SETTINGS,
    Models,
    NoModel,
    check_model,
    choose_model,
    deciding_key,
    full_name,
    price_of,
    provider_of,
)
from allready.errors import UserError


class Priced(EchoModel):
    """A model object of a provider whose prices are known."""

    @property
    def system(self) -> str:
        return "openai"


HELD = EchoModel()
PRICED = Priced(model_name="gpt-6.1-terra")
NO_MODEL = "just a text"
KEYS = ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GOOGLE_API_KEY", "GEMINI_API_KEY")
wires = pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.model)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key and no address of any provider is set."""
    for name in (*KEYS, "OPENAI_BASE_URL", "OLLAMA_BASE_URL", "OLLAMA_API_KEY", "GROQ_API_KEY"):
        monkeypatch.delenv(name, raising=False)


# --- the choice -------------------------------------------------------------------------------------------


def test_a_wanted_model_is_taken_as_it_is() -> None:
    assert choose_model("ollama:qwen3", {"OPENAI_API_KEY": "k"}) == "ollama:qwen3"


@pytest.mark.parametrize(
    ("keys", "provider"),
    [
        (["ANTHROPIC_API_KEY"], "anthropic"),
        (["OPENAI_API_KEY"], "openai"),
        (["GOOGLE_API_KEY"], "google"),
        (["GEMINI_API_KEY"], "google"),
        (["GOOGLE_API_KEY", "OPENAI_API_KEY"], "openai"),
        (["GOOGLE_API_KEY", "OPENAI_API_KEY", "ANTHROPIC_API_KEY"], "anthropic"),
    ],
)
def test_without_a_wish_the_keys_decide(keys: list[str], provider: str) -> None:
    environment = dict.fromkeys(keys, "k")
    chosen = choose_model(None, environment)
    assert chosen == DEFAULTS[provider]
    assert deciding_key(chosen, environment) in keys


def test_an_empty_key_is_none() -> None:
    assert choose_model(None, {"ANTHROPIC_API_KEY": ""}) is None


def test_a_key_for_a_server_whose_models_are_unknown_does_not_choose() -> None:
    local = {"OPENAI_BASE_URL": "http://127.0.0.1:8080/v1", "OPENAI_API_KEY": "k"}
    assert choose_model(None, local) is None
    assert choose_model(None, {**local, "GOOGLE_API_KEY": "k"}) == DEFAULTS["google"]


def test_without_a_model_two_lines_say_how_to_get_going() -> None:
    hosted, local = str(NoModel({})).splitlines()
    assert "ANTHROPIC_API_KEY" in hosted
    assert "--model" in hosted
    assert "ollama:NAME" in local
    assert "OPENAI_BASE_URL=http" in local
    _, local = str(NoModel({"OPENAI_BASE_URL": "http://127.0.0.1:1/v1"})).splitlines()
    assert "--model openai-chat:NAME" in local


def test_the_defaults_are_models_that_pydantic_ai_knows_and_whose_price_is_known() -> None:
    known = set(known_model_names())
    for name in (*DEFAULTS.values(), *ALIASES.values()):
        assert name in known
        assert price_of(name, 1_000, 1_000)


# --- names ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "full", "provider"),
    [
        ("claude-sonnet-5-5", "anthropic:claude-sonnet-5-5", "anthropic"),
        ("gpt-6.1-terra", "openai:gpt-6.1-terra", "openai"),
        ("gemini-3.8-flash", "google:gemini-3.8-flash", "google"),
        ("openai-chat:some-model", "openai-chat:some-model", "openai"),
        ("openai-responses:gpt-6.1-terra", "openai-responses:gpt-6.1-terra", "openai"),
        ("ollama:qwen3:8b", "ollama:qwen3:8b", "ollama"),
        ("python:package.module:object", "python:package.module:object", "package.module:object"),
        ("opus", ALIASES["opus"], "anthropic"),
        ("mystery", "mystery", ""),
    ],
)
def test_names_say_whose_model_it_is(name: str, full: str, provider: str) -> None:
    assert full_name(name) == full
    assert provider_of(name) == provider


@given(st.text(max_size=40))
def test_a_full_name_stays_as_it_is(name: str) -> None:
    assert full_name(full_name(name)) == full_name(name)


def test_prices() -> None:
    assert price_of("openai-chat:gpt-6.1-terra", 1_000, 1_000)
    assert price_of("gateway/openai:gpt-6.1-terra", 1_000, 1_000)
    assert price_of("ollama:qwen3") is None
    assert price_of("openai:some-model-of-mine") is None
    assert price_of("python:package.module:object") is None
    assert price_of("python:tests.agents.test_models:HELD") is None
    assert price_of("python:tests.agents.test_models:PRICED") == price_of("openai:gpt-6.1-terra")


def test_the_models_of_agents() -> None:
    models = Models("claude-sonnet-5-5")
    assert models.default_name == "anthropic:claude-sonnet-5-5"
    assert models.name_of(None) == models.name_of("inherit") == models.default_name
    assert models.name_of("gpt-6.1-terra") == "openai:gpt-6.1-terra"
    assert Models().name_of(None) is None


def test_short_names_of_other_tools_mean_the_runs_model_where_there_is_no_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    models = Models("openai-chat:some-model")
    assert models.name_of("sonnet") == "openai-chat:some-model"
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    assert models.name_of("sonnet") == ALIASES["sonnet"]
    assert Models().name_of("haiku") == ALIASES["haiku"]


# --- checks -----------------------------------------------------------------------------------------------


def test_a_missing_key_is_told_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = check_model("claude-sonnet-5-5")
    assert problem == "anthropic:claude-sonnet-5-5 needs a key: set ANTHROPIC_API_KEY"
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    assert check_model("claude-sonnet-5-5") is None


def test_a_local_server_needs_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_model("openai-chat:some-model") is not None
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1")
    assert check_model("openai-chat:some-model") is None
    assert check_model("ollama:qwen3") is None


def test_a_library_that_is_missing_is_told() -> None:
    assert check_model("groq:some-model") == (
        "the library for groq is missing: pip install 'pydantic-ai-slim[groq]'"
    )


@pytest.mark.parametrize("name", ["mystery", "openai:", ":gpt", ""])
def test_a_name_without_a_provider_is_told(name: str) -> None:
    assert "write PROVIDER:NAME" in str(check_model(name))


def test_providers_that_are_not_in_the_table_may_work() -> None:
    assert check_model("litellm:some-model") is None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no_such_module:model", "No module named 'no_such_module'"),
        ("tests.agents.test_models:missing", "has no attribute 'missing'"),
        ("tests.agents.test_models:NO_MODEL", "no pydantic-ai model but str"),
        ("module_that_ends_the_program:model", "SystemExit: 3"),
    ],
)
def test_a_model_object_that_can_not_be_used_is_told_before_it_is_needed(
    name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "module_that_ends_the_program.py").write_text("raise SystemExit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    for problem in (check_model(f"python:{name}"), Models(f"python:{name}").problem_of(None)):
        assert problem is not None
        assert problem.startswith(f"model python:{name}: ")
        assert said in problem
    assert check_model("python:tests.agents.test_models:HELD") is None


def test_checks_import_no_library_of_models() -> None:
    code = (
        "import sys\n"
        "from allready.agents.models import *\n"
        "assert check_model('gpt-6.1-terra') is None\n"
        "Models(choose_model(None)).problem_of(None)\n"
        "from allready.agents.kinds import problem_of\n"
        "heavy = {'pydantic_ai', 'openai', 'anthropic', 'google.genai', 'httpx2'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], env={"OPENAI_API_KEY": "k"}, check=True)


def test_without_the_extra_everything_says_what_to_install() -> None:
    code = (
        "import sys\n"
        "sys.modules.update({name: None for name in ('pydantic_ai', 'genai_prices', 'openai')})\n"
        "from importlib import util\n"
        "from allready.agents import kinds, llm, models\n"
        "from allready.agents.definitions import AgentDefinition\n"
        "real = util.find_spec\n"
        "models.find_spec = lambda name: real(name) if sys.modules.get(name, 1) else None\n"
        "assert \"pip install 'allready[llm]'\" in models.check_model('openai:x')\n"
        "assert \"pip install 'allready[llm]'\" in kinds.problem_of(AgentDefinition('a'))\n"
        "assert models.price_of('openai:gpt-6.1-terra') is None\n"
        "try: models.Models('openai:x').get()\n"
        "except models.UserError as error: assert 'allready[llm]' in str(error)\n"
        "else: raise AssertionError\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- the models of a run ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("openai:gpt-6.1-terra", OpenAIResponsesModel),
        ("openai-chat:some-model", OpenAIChatModel),
        ("anthropic:claude-sonnet-5-5", AnthropicModel),
        ("google:gemini-3.8-flash", GoogleModel),
        ("ollama:qwen3", OllamaModel),
    ],
)
async def test_models_are_made_once(name: str, kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in KEYS[:3]:
        monkeypatch.setenv(key, "k")
    models = Models(name)
    model = models.get()
    assert type(model) is kind
    assert models.get(name) is models.get("inherit") is model
    await models.close()
    assert models.get() is not model
    await models.close()


async def test_ollama_is_looked_for_where_it_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    models = Models("ollama:qwen3")
    assert models.get().base_url == "http://127.0.0.1:11434/v1/"
    await models.close()
    monkeypatch.setenv("OLLAMA_BASE_URL", "http://127.0.0.1:9/v1")
    assert models.get().base_url == "http://127.0.0.1:9/v1/"
    await models.close()


def test_without_a_model_get_says_how_to_get_going() -> None:
    with pytest.raises(NoModel):
        Models().get()
    assert Models().problem_of(None) == str(NoModel())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("openai:gpt-6.1-terra", "needs a key: set OPENAI_API_KEY"),
        ("mystery", "write PROVIDER:NAME"),
        ("mystery:some-model", "Unknown model"),
        ("cohere:some-model", "pip install"),
        ("python:no_such_module:model", "No module named"),
        ("python:tests.agents.test_models:missing", "missing"),
        ("python:tests.agents.test_models", "package.module:name"),
        ("python:tests.agents.test_models:NO_MODEL", "no pydantic-ai model but str"),
    ],
)
def test_a_model_that_can_not_be_made_is_told_with_advice(name: str, said: str) -> None:
    with pytest.raises(UserError, match=name.partition(":")[0]) as caught:
        Models().get(name)
    assert said in str(caught.value)
    assert "Provider(" not in str(caught.value)


async def test_a_model_object_of_a_module() -> None:
    models = Models("python:tests.agents.test_models:HELD")
    assert models.get() is HELD
    await models.close()


async def test_a_model_object_is_the_runs_model() -> None:
    models = Models(HELD)
    assert models.default_name == "test:test"
    assert models.get() is models.get("inherit") is models.get(models.name_of(None)) is HELD
    assert models.problem_of(None) is None
    await models.close()


def test_the_name_by_which_another_process_finds_the_runs_model_again() -> None:
    assert (Models().stored_name, Models().has_object) == (None, False)
    named = Models("gpt-6.1-terra")
    assert (named.stored_name, named.has_object) == ("openai:gpt-6.1-terra", False)
    held = Models(HELD)
    assert (held.stored_name, held.has_object) == ("python:tests.agents.test_models:HELD", True)
    assert Models(held.stored_name).get() is HELD
    mine = Models(EchoModel())
    assert (mine.stored_name, mine.has_object, mine.default_name) == (None, True, "test:test")


# --- over the wire ----------------------------------------------------------------------------------------


@wires
def test_models_of_two_loops_one_after_the_other(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the first loop is left: no connection, no client that belongs to it."""

    async def one_run() -> None:
        async with provider_server(Stream(wire.events("Hel", "lo"))) as server:
            for name, value in wire.environment(server.url).items():
                monkeypatch.setenv(name, value)
            models = Models(wire.model)
            async with Agent(None).iter("Hi", model=models.get(), model_settings={"max_retries": 0}) as run:
                node = run.next_node
                while not run.result:
                    if Agent.is_model_request_node(node):
                        async with node.stream(run.ctx) as events:
                            async for _ in events:
                                pass
                    node = await run.next(node)  # type: ignore[arg-type]
            assert run.result.output == "Hello"
            await models.close()

    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        asyncio.run(one_run())
        asyncio.run(one_run())
        gc.collect()


async def test_a_local_server_is_asked_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"role": "assistant", "content": "Hello"}
    body = {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": said, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
    for empty in (False, True):
        async with provider_server(Answer(200, body)) as server:
            monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
            if empty:
                monkeypatch.setenv("OPENAI_API_KEY", "")
            models = Models("openai-chat:some-model")
            result = await Agent(models.get()).run("Hi")
            assert result.output == "Hello"
            assert server.requests[0][0] == "/v1/chat/completions"
            await models.close()


def test_settings_switch_the_libraries_retries_off() -> None:
    assert MODEL_SETTINGS["max_retries"] == 0
    assert "max_retries" not in FunctionModel.unsupported_settings
