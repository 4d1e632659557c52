"""Agents, planner and aggregator with a real model: tested is the way there and back, not what it says."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.agents.attempts import make_attempt
from tests.llm.refusing_proxy import refusing_proxy
from tests.llm.small_model import MODEL, PATIENCE, SmallModel

from allready.agents.base import Attempt, Dependency, TaskResult
from allready.agents.definitions import AgentDefinition
from allready.agents.llm import LlmAgent
from allready.agents.models import Models
from allready.agents.usage import Usage
from allready.errors import PermanentError, TransientError
from allready.plan.load import plan_from_document
from allready.planning.aggregator import LlmAggregator
from allready.planning.draft import DraftTask, plan_document
from allready.planning.events import Again, PlanningFailed, Written
from allready.planning.planner import LlmPlanner

pytestmark = pytest.mark.xdist_group("small_model")
TALKER = AgentDefinition("talker", instructions="You talk a lot.")


def _set(event: asyncio.Event, _: str) -> None:
    event.set()


async def talk(attempt: Attempt) -> TaskResult:
    models = Models(MODEL)
    try:
        return await LlmAgent(TALKER, models).run(attempt)
    finally:
        await models.close()


async def test_an_agents_text_comes_in_pieces_and_all_of_it_is_kept(
    small: SmallModel, tmp_path: Path
) -> None:
    pieces: list[str] = []
    used: list[Usage] = []
    attempt = make_attempt(
        tmp_path, prompt="Say hello to the world.", on_output=pieces.append, on_usage=used.append
    )
    result = await talk(attempt)
    assert len(pieces) > 3
    assert result.output.startswith("".join(pieces).strip())  # after it, that it was cut off, if it was
    assert (attempt.folder / "output.txt").read_text().strip() == result.output.strip()
    assert [usage.requests for usage in used] == [1]
    assert used[0].output_tokens >= len(pieces) - 1


async def test_several_agents_are_answered_at_the_same_time(small: SmallModel, tmp_path: Path) -> None:
    speaking = [asyncio.Event(), asyncio.Event()]
    talking = []
    for number, event in enumerate(speaking):
        folder = tmp_path / str(number)
        folder.mkdir()
        attempt = make_attempt(
            folder, prompt="Tell a long story.", on_output=lambda _, event=event: event.set()
        )
        talking.append(asyncio.create_task(talk(attempt)))
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*(event.wait() for event in speaking))
    assert await asyncio.to_thread(small.busy_places) == 2
    assert not any(task.done() for task in talking)
    for task in talking:
        task.cancel()
    await asyncio.gather(*talking, return_exceptions=True)


async def test_a_canceled_agent_lets_the_server_go(small: SmallModel, tmp_path: Path) -> None:
    speaking = asyncio.Event()
    attempt = make_attempt(tmp_path, prompt="Count from 1 to 1000.", on_output=lambda _: speaking.set())
    talking = asyncio.create_task(talk(attempt))
    await asyncio.wait_for(speaking.wait(), PATIENCE)
    talking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await talking
    async with asyncio.timeout(PATIENCE):
        while await asyncio.to_thread(small.busy_places):
            pass
    assert (attempt.folder / "output.txt").read_text()


async def test_an_agent_with_a_wrong_key_fails_for_good(
    small: SmallModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-this-one")
    with pytest.raises(PermanentError, match="OPENAI_API_KEY"):
        await talk(make_attempt(tmp_path, prompt="Hello"))


async def test_an_agent_that_is_refused_for_now_comes_back(
    small: SmallModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with refusing_proxy(small.address, refuse=1, retry_after=9) as proxy:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{proxy.address}/v1")
        attempt = make_attempt(tmp_path, prompt="Say yes.")
        with pytest.raises(TransientError) as caught:
            await talk(attempt)
        assert caught.value.retry_after == 9
        assert (await talk(attempt)).output.strip()
        assert (proxy.refused, proxy.passed) == (1, 1)


async def test_a_plan_by_the_small_model_is_valid_or_it_is_said_why_not(small: SmallModel) -> None:
    models = Models(MODEL)
    used: list[Usage] = []
    planner = LlmPlanner(models.get(), [TALKER], max_tasks=2, on_usage=used.append)
    written: list[DraftTask] = []
    failed: PlanningFailed | None = None
    try:
        async for event in planner.write("Write a short poem about the sea."):
            if isinstance(event, Written):
                written.append(event.task)
            elif isinstance(event, Again):
                written.clear()
    except PlanningFailed as error:
        failed = error
    if failed is not None:
        assert failed.problems
        assert '"tasks"' in failed.raw
    else:
        plan = plan_from_document(plan_document("poem", written))
        assert 1 <= len(plan.tasks) <= 2
    await models.close()
    assert 1 <= len(used) <= 2
    assert all(usage.output_tokens for usage in used)


async def test_an_answer_is_put_together_from_outputs(small: SmallModel) -> None:
    models = Models(MODEL)
    heard: list[str] = []
    outputs = [Dependency("sea", "completed", "The sea", TaskResult("The sea is blue and deep."))]
    missing = [Dependency("sky", "failed", "The sky", error="no time")]
    answer = await LlmAggregator(models.get(), on_text=heard.append).answer("What colour?", outputs, missing)
    await models.close()
    assert len(heard) > 3
    assert "".join(heard).strip() == answer
    assert "`sky`" in answer
