"""Runs of one process beside a real server that allows less than they want, and does not say how much."""

from __future__ import annotations

import asyncio

import pytest

from allready import ProviderLimits, SubAgentManager, limit_provider, run
from allready.plan.load import plan_from_document
from allready.testing import ScriptedServer

RUNS, TASKS, PLACES = 3, 40, 12


async def ask_all() -> list[str]:
    tasks = [{"id": f"t{number}", "prompt": f"Say {number}"} for number in range(TASKS)]
    plans = [plan_from_document({"goal": f"run {number}", "tasks": tasks}) for number in range(RUNS)]
    results = await asyncio.gather(
        *(run(plan, model="openai-chat:scripted", pool=SubAgentManager(PLACES)) for plan in plans)
    )
    assert all(task.attempts >= 1 for result in results for task in result.tasks.values())
    return [str(result.status) for result in results]


def use(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.slow
async def test_runs_share_what_the_server_teaches(monkeypatch: pytest.MonkeyPatch) -> None:
    """They want ten times what it allows: no task fails, and few requests are refused."""
    with ScriptedServer({}, delay=0.3, rate_limit=(24, 2.0)) as server:
        use(server, monkeypatch)
        assert await ask_all() == ["completed"] * RUNS
        assert len(server.requests) == RUNS * TASKS
        # the server notes the last one's end when the client may have read its answer already
        assert {request.outcome for request in server.requests} <= {"answered", "running"}
        # each run alone would overstep the limit again and again; the first refusal finds the pools full
        assert 1 <= server.refused <= RUNS * PLACES


@pytest.mark.slow
async def test_a_limit_that_is_known_is_never_overstepped(monkeypatch: pytest.MonkeyPatch) -> None:
    limit_provider("openai", ProviderLimits(max_concurrent=4))
    with ScriptedServer({}, delay=0.05) as server:
        use(server, monkeypatch)
        assert await ask_all() == ["completed"] * RUNS
        assert 2 <= server.most_at_once <= 4
        assert server.refused == 0
