"""A thousand simulated runs with faults, and fixed plans that crash at every point."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.simulation.fixed import FIXED, Fixed, chain
from tests.simulation.life import play_fixed
from tests.simulation.many import (
    Tally,
    Trial,
    crashes_at_every_point,
    play_all,
    play_trial,
    points_of,
    store_files,
)
from tests.simulation.work import Behaviour

from allready.core.scheduler import DagScheduler
from allready.engine.journal import StoreJournal
from allready.pool.manager import SubAgentManager
from allready.store.contract import Batch
from allready.store.sql import SqlStore

ROOT = Path(__file__).parents[2]
SEEDS = 1_000
BLOCKS = 20
"""Tests that they are divided into, for several workers."""
LEAST_POINTS = 1_000
"""Points of all fixed plans together."""


def report(tally: Tally) -> str:
    lines = [f"{problems[0]}\n    {trial.command}" for trial, problems in tally.failures]
    return "\n".join(
        [f"{len(lines)} of {tally.counts['runs']} runs failed; each is played again by:", *lines]
    )


@pytest.mark.parametrize("block", range(BLOCKS))
def test_whatever_goes_wrong_runs_come_to_a_right_end_and_lose_nothing(
    block: int, record_property: Callable[[str, object], None]
) -> None:
    tally = play_all(Trial(seed) for seed in range(block, SEEDS, BLOCKS))
    assert not tally.failures, report(tally)
    record_property("tried: simulated runs with faults", tally.counts["runs"])
    record_property("tried: crashes in simulated runs", tally.counts["crashes"])
    for what in ("crashes", "answers lost", "take-overs", "suspensions", "work deferred", "runs: completed"):
        assert tally.counts[what], f"this block shows nothing: no {what}"


@pytest.mark.parametrize("plan", FIXED)
def test_crashing_at_every_point_changes_nothing_about_the_end(
    plan: str, record_property: Callable[[str, object], None]
) -> None:
    points = points_of(plan)
    tally = play_all(crashes_at_every_point(plan, len(points)))
    assert not tally.failures, report(tally)
    record_property("tried: points at which a simulated run crashed", len(points))
    assert tally.counts["crashes"] >= len(points)
    kinds = {
        "before create",
        "in acquire",
        "in commit",
        "after commit",
        "told",
        "before launch",
        "after launch",
    }
    assert kinds <= set(points)


def test_there_are_points_enough() -> None:
    counts = Counter({plan: len(points_of(plan)) for plan in FIXED})
    assert counts.total() >= LEAST_POINTS


# --- a seed is a run --------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_run_in_any_process() -> None:
    trials = [*map(Trial, range(12)), Trial(plan="hurried", crash_at=(40, 90))]
    with store_files() as file:
        first = {trial: play_trial(trial, file()) for trial in trials}
        again = {trial: play_trial(trial, file()) for trial in reversed(trials)}
    for trial in trials:
        assert first[trial].lines == again[trial].lines
    trial = trials[3]
    command = [sys.executable, "-m", "tests.simulation", "--seed", str(trial.seed)]
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    told = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    assert first[trial].digest in told.stdout
    assert first[trial].digest != first[trials[4]].digest


# --- the judge sees what is wrong ---------------------------------------------------------------------------


def problems_of(fixed: Fixed = FIXED["chain"], crash_at: tuple[int, ...] = ()) -> str:
    with store_files() as file:
        return "\n".join(play_fixed(fixed, file(), crash_at).problems)


def test_an_effect_before_its_record_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    async def lazily(self: StoreJournal) -> None:
        """Durable one round too late."""
        held, self._held = getattr(self, "_held", None), self._take()  # type: ignore[attr-defined]
        if held is not None:
            self._tell(held, await self.patiently(self._write, held))
        elif self._held is not None:  # type: ignore[attr-defined]
            self._scheduler._fresh = True

    monkeypatch.setattr(StoreJournal, "commit", lazily)
    assert "whose start is not durable" in problems_of()


def test_a_lost_completion_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    original = SqlStore.commit

    def forgetful(self: SqlStore, run_id: str, epoch: int, batch: Batch) -> int:
        for row in batch.tasks:
            if row["state"] == "completed":
                row["state"] = "ready"
        return original(self, run_id, epoch, batch)

    points = points_of("chain")
    late = len(points) - points[::-1].index("before launch")
    monkeypatch.setattr(SqlStore, "commit", forgetful)
    assert "begins again, though it has completed" in problems_of(crash_at=(late,))


def test_a_write_by_an_owner_who_was_replaced_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    original = SqlStore.commit

    def unfenced(self: SqlStore, run_id: str, epoch: int, batch: Batch) -> int:
        batch.number = None
        return original(self, run_id, self.run(run_id).epoch, batch)

    monkeypatch.setattr(SqlStore, "commit", unfenced)
    tally = play_all(map(Trial, range(60)))
    told = [problem for _, problems in tally.failures for problem in problems]
    assert any("wrote to a run that it does not own" in problem for problem in told)


def test_a_refusal_that_uses_up_a_retry_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    original = DagScheduler._defer

    def harsh(self: DagScheduler, node: Any, reason: str, retry_after: float | None, at: float) -> None:
        if "429" in reason or retry_after is None:
            self._attempt_failed(node, reason, False, at)
        else:
            original(self, node, reason, retry_after, at)

    monkeypatch.setattr(DagScheduler, "_defer", harsh)
    fixed = Fixed(chain, script={"t1": [Behaviour(0.1, "429"), Behaviour(0.1)]})
    assert "but its work ended as deferred" in problems_of(fixed)


def test_a_place_that_is_never_given_back_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    original = SubAgentManager._free

    def greedy(self: SubAgentManager, sub_agent: Any) -> None:
        if sub_agent.request.task != "t5":
            original(self, sub_agent)

    monkeypatch.setattr(SubAgentManager, "_free", greedy)
    assert "places are left taken" in problems_of()
