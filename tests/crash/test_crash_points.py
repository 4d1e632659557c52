"""A sample of the crash points of all plans; `./dev poe crash` tries all of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import postgres
from tests.crash.choice import crashes_of, sample
from tests.crash.places import STORES, Place, place
from tests.crash.plans import PLANS
from tests.crash.trial import Crash, Result, Trial, Zygote

SEED = 1
NUMBER = 2
"""Points of each plan that are tried here: some thirty of each store."""


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote() as zygote:
        yield zygote


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place("sqlite", tmp_path_factory.mktemp("stores")) as kept:
        yield kept


@pytest.fixture(scope="module")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    missing = postgres.missing()
    if missing is not None:
        pytest.skip(missing)
    with place("postgresql", tmp_path_factory.mktemp("stores")) as kept:
        yield kept


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize(  # all trials on a store in one worker: they share a server and a zygote
    "store", [pytest.param(store, marks=pytest.mark.xdist_group(f"crash {store}")) for store in STORES]
)
def test_a_run_survives_crashes(
    store: str,
    plan: str,
    zygote: Zygote,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, Any], None],
) -> None:
    kept: Place = request.getfixturevalue(store)
    clean = Trial(zygote, kept, tmp_path / "clean", plan).run()
    assert not clean.problems
    chance = random.Random(f"{SEED}/{store}/{plan}")
    kills = 0
    for number, crash in enumerate(sample(list(crashes_of(clean, 0, chance)), NUMBER, chance)):
        result = Trial(zygote, kept, tmp_path / f"trial-{number}", plan, crash, SEED, clean).run()
        repeat = f"./dev poe crash --store {store} --plan {plan} --point {crash} --seed {SEED}"
        assert not result.problems, f"{repeat}\n" + "\n".join(result.problems)
        kills += result.kills
    record_property(f"tried: crashes on {store}", kills)


def test_the_harness_finds_what_is_wrong(zygote: Zygote, sqlite: Place, tmp_path: Path) -> None:
    """A run that ends in another way than the one it is compared with."""
    clean = Trial(zygote, sqlite, tmp_path / "clean", "chain").run()
    other = Result(None, outcome={**clean.outcome, "status": "failed"}, traces=clean.traces)
    crash = Crash(1, "commit.inside#2")
    result = Trial(zygote, sqlite, tmp_path / "trial", "chain", crash, SEED, other).run()
    assert result.met
    assert [problem[:14] for problem in result.problems] == ["the outcome is"]
