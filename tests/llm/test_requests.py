"""Requests to a real server of a real model, as the models of a run make them."""

from __future__ import annotations

import asyncio

import pytest
from pydantic_ai import Agent
from pydantic_ai.settings import ModelSettings
from tests.llm.refusing_proxy import refusing_proxy
from tests.llm.small_model import MODEL, PATIENCE, SmallModel

from allready.agents.models import MODEL_SETTINGS, Models
from allready.agents.provider_errors import task_error
from allready.errors import PermanentError, TransientError

pytestmark = pytest.mark.xdist_group("small_model")
SHORT = ModelSettings(max_retries=MODEL_SETTINGS["max_retries"], max_tokens=20)

ENDLESS = ModelSettings(extra_body={"ignore_eos": True}, max_tokens=4_000)


async def test_an_answer_with_its_usage(small: SmallModel) -> None:
    models = Models(MODEL)
    result = await Agent(models.get()).run("Say hello.", model_settings=SHORT)
    await models.close()
    assert result.output.strip()
    assert result.usage.input_tokens > 5
    assert 1 <= result.usage.output_tokens <= 20


async def test_it_is_told_which_key_is_wrong(small: SmallModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-this-one")
    models = Models(MODEL)
    with pytest.raises(Exception, match="401") as caught:
        await Agent(models.get()).run("Say hello.", model_settings=SHORT)
    await models.close()
    error = task_error(caught.value, MODEL)
    assert isinstance(error, PermanentError)
    assert "OPENAI_API_KEY" in str(error)


async def test_a_refusal_is_seen_and_when_to_come_back(
    small: SmallModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with refusing_proxy(small.address, refuse=1, retry_after=7) as proxy:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{proxy.address}/v1")
        models = Models(MODEL)
        agent = Agent(models.get())
        with pytest.raises(Exception, match="429") as caught:
            await agent.run("Say hello.", model_settings=SHORT)
        error = task_error(caught.value, MODEL)
        assert isinstance(error, TransientError)
        assert error.retry_after == 7
        assert (proxy.refused, proxy.passed) == (1, 0), "the provider's library asked again by itself"
        assert (await agent.run("Say hello.", model_settings=SHORT)).output.strip()
        await models.close()


async def test_a_cancellation_frees_the_servers_place(small: SmallModel) -> None:
    models = Models(MODEL)

    async def talk() -> None:
        async with Agent(models.get()).run_stream("Count.", model_settings=ENDLESS) as streamed:
            async for _ in streamed.stream_text(delta=True, debounce_by=None):
                speaking.set()

    speaking = asyncio.Event()
    talking = asyncio.create_task(talk())
    await asyncio.wait_for(speaking.wait(), PATIENCE)
    assert await asyncio.to_thread(small.busy_places) == 1
    talking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await talking
    async with asyncio.timeout(5):  # to the end of its answer it would be longer
        while await asyncio.to_thread(small.busy_places):
            pass
    await models.close()
