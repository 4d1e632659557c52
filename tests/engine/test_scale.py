"""Large runs are looked at in parts: what is told of the parts is what the whole would tell."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.engine.replaying import replayed

from allready import Plan, run
from allready.engine import views
from allready.engine.start import new_session
from allready.engine.views import (
    last_completed,
    open_tasks,
    stored_body,
    stored_whys,
)
from allready.pool.manager import SubAgentManager
from allready.store.open import open_store
from allready.store.sql import SqlStore

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "scale.py"
SEEDS = range(6)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    store = open_store(tmp_path / "runs.db")
    yield store
    store.close()


def hindered_plan(chance: random.Random, gate: asyncio.Event) -> Plan:
    """Give a plan in which some tasks run until the gate opens, and many are refused for several reasons."""
    plan = Plan("x", resources={"browser": 1, "disk": 2})

    async def quick() -> str:
        return "done"

    async def held() -> None:
        await gate.wait()

    async def failing() -> None:
        raise ValueError("no")

    for number in range(60):
        above = [f"t{other}" for other in range(max(0, number - 12), number)]
        work = quick if number < 20 else chance.choice([quick, held, held, failing])
        resources = chance.choice([{}, {}, {"browser": 1}, {"disk": 1}, {"disk": 2}])
        plan.add(
            work,
            id=f"t{number}",
            depends_on=chance.sample(above, chance.choice([0, 0, 1, 2]) if len(above) > 2 else 0),
            resources=resources,
            failure_strategy=chance.choice(["skip", "ask"]),
            run_if=chance.choice(["all_completed", "all_done", "any_completed"]),
            approval=chance.random() < 0.1,
            max_retries=chance.choice([0, 3]),
        )
    return plan


@pytest.mark.parametrize("seed", SEEDS)
async def test_why_says_the_same_as_the_whole_journal_played_again(
    store: SqlStore, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    gate = asyncio.Event()
    plan = hindered_plan(chance, gate)
    pool = SubAgentManager(6, resources=plan.resources)
    session = new_session(plan, agents={}, store=store, pool=pool, seed=seed)
    now = session.clock()
    monkeypatch.setattr(views, "time", SimpleNamespace(time=lambda: now))
    driving = asyncio.create_task(session.drive(wait_for_person=True))
    told = set()
    compared = 0
    while compared < 3:
        await asyncio.sleep(0.01)  # wherever it is by then: the answers must agree
        row = store.run(session.id)
        if row.status == "created":
            continue
        replay = replayed(store, row)
        whys = await asyncio.to_thread(stored_whys, store, row.id)
        name = chance.choice(list(whys))
        again = stored_whys(store, row.id, [name])
        if store.run(session.id).last_seq != row.last_seq:
            continue  # it went on meanwhile
        for task, why in whys.items():
            assert why == replay.scheduler.why(task, now)
        assert again == {name: whys[name]}
        assert set(whys) == {
            node.id for node in replay.scheduler.graph if replay.scheduler.why(node.id, now).code != "ended"
        }
        told |= {why.code for why in whys.values()}
        compared += 1
    session.interrupt()
    gate.set()
    await driving
    assert {"running", "dependencies"} <= told


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have runs of some dozens of tasks treated as large."""
    monkeypatch.setattr(views, "WHOLE", 20)
    monkeypatch.setattr(views, "LATE", 8)


@pytest.mark.usefixtures("small_parts")
async def test_the_last_results_of_a_large_run_are_those_nobody_waits_for(store: SqlStore) -> None:
    plan = Plan("x")

    async def nothing() -> str:
        return "done"

    for number in range(40):
        plan.add(nothing, id=f"t{number}", depends_on=[f"t{number - 20}"] if number >= 20 else [])
    plan.add(nothing, id="report", depends_on=[f"t{number}" for number in range(20, 39)])
    result = await run(plan, store=store)
    found = last_completed(store, result.id, store.marks(result.id), 3)
    assert [(task.id, task.output) for task in found] == [("t39", "done"), ("report", "done")]


async def test_of_many_failures_some_are_read_and_all_that_wait_for_somebody(store: SqlStore) -> None:
    plan = Plan("x")

    def failing() -> None:
        raise ValueError("no")

    for number in range(30):
        plan.add(failing, id=f"f{number}", failure_strategy="skip")
        plan.add(failing, id=f"asks{number}", failure_strategy="ask")
        plan.add(failing, id=f"waits{number}", approval=True)
    result = await run(plan, store=store)
    marks = store.marks(result.id)
    asking = [mark.id for mark in marks if mark.state == "failed" and mark.remembers]
    names = [task.id for task in open_tasks(store, result.id, marks, failed=2)]
    assert asking
    failed = [mark.id for mark in marks if mark.state == "failed" and mark.id.startswith("f")]
    assert [name for name in names if name.startswith("f")] == failed[:2]
    assert [name for name in names if name.startswith("waits")] == [f"waits{number}" for number in range(30)]
    assert [name for name in names if name.startswith("asks")] == asking
    assert stored_body(store, result.id, "f3")["function"].endswith("failing")


def test_the_benchmark_runs(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARK), "--tasks=60", "--runs=3", "--quick"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert sum(line.startswith(("| wide", "| strands")) for line in lines) == 4
    assert [line.split("|")[1].strip() for line in lines[-2:]] == ["`status`", "`why latest TASK`"]
