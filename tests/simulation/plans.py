"""Plans for simulated runs, drawn from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from tests.simulation.work import work

from allready.core.states import FailureStrategy, RunIf
from allready.plan.plan import Plan

MOST_TASKS = 14


def add(plan: Plan, name: str, needs: Sequence[str] = (), *, reads: bool = True, **settings: Any) -> None:
    """Add a task that does as the seed says; with `reads` it looks at what its dependencies gave."""
    given: dict[str, Any] = {"args": [name], "depends_on": [*needs]}
    if needs and reads:
        given |= {"kwargs": {"needs": [*needs]}, "inputs": {"got": [*needs]}}
    plan.add(work, id=name, **given, **settings)


def random_plan(random: Random) -> Plan:
    plan = Plan("A simulated run", max_parallel=random.choice([1, 2, 3, 5]), resources={"gpu": 2})
    if random.random() < 0.15:
        plan.timeout = random.choice([20.0, 60.0, 600.0])
    count = random.choice([1, 2, 3, 4, 5, 6, 8, 10, MOST_TASKS])
    shape = random.choice(["random", "random", "random", "chain", "wide", "layers"])
    names = [f"t{number}" for number in range(count)]
    for number, name in enumerate(names):
        settings = random_settings(random)
        add(plan, name, _needs(random, shape, names[:number]), reads=random.random() < 0.8, **settings)
    return plan


def _needs(random: Random, shape: str, older: Sequence[str]) -> list[str]:
    if not older:
        return []
    match shape:
        case "chain":
            return [older[-1]]
        case "wide":
            return []
        case "layers":
            start = len(older) // 3 * 3
            return [*older[max(0, start - 3) : start]]
    return random.sample(older, min(len(older), random.choice([0, 0, 1, 1, 2, 3])))


def random_settings(random: Random) -> dict[str, Any]:
    strategies = [*FailureStrategy, FailureStrategy.SKIP, FailureStrategy.SKIP]
    settings: dict[str, Any] = {
        "run_if": random.choice([*RunIf, RunIf.ALL_COMPLETED]).value,
        "failure_strategy": random.choice(strategies).value,
        "priority": random.choice([0, 0, 1]),
        "approval": random.random() < 0.06,
    }
    if random.random() < 0.5:
        settings["max_retries"] = random.choice([0, 1, 2])
    if random.random() < 0.5:
        settings["timeout"] = random.choice([None, 1, 5, 30])
    if random.random() < 0.3:
        settings["estimate"] = random.choice([0, 1, 10])
    if random.random() < 0.1:
        settings["idempotent"] = False
    if random.random() < 0.1:
        settings["inline"] = True
    elif random.random() < 0.15:
        settings["resources"] = {"gpu": random.choice([1, 2])}
    return settings
