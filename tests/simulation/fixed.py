"""Fixed plans for crashing at every point, with what their tasks and the people around them do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.plans import add
from tests.simulation.work import Behaviour

from allready.plan.plan import Plan


@dataclass
class Fixed:
    """A plan and what happens in its run."""

    make: Callable[[], Plan]
    status: str = "completed"
    """How it ends, whatever crashes."""
    states: Mapping[str, str] = field(default_factory=dict)
    """How tasks end that do not complete."""
    script: Mapping[str, Sequence[Behaviour]] = field(default_factory=dict)
    """Task → what it does after so many ends of its work that are on the record; the last goes on."""
    visits: Sequence[tuple[float, str, str | None]] = ()
    """When people say what, in virtual seconds."""
    grows: Sequence[Mapping[str, Any]] = ()
    """Tasks that a planner writes while it runs; then `make` is not asked."""
    undecided: bool = False
    """Whether the states of tasks depend on when it crashed."""


def chain() -> Plan:
    plan = Plan("chain", max_parallel=2)
    add(plan, "t0")
    for number in range(1, 6):
        add(plan, f"t{number}", [f"t{number - 1}"])
    return plan


def wide() -> Plan:
    plan = Plan("wide", max_parallel=3)
    for number in range(8):
        add(plan, f"t{number}")
    add(plan, "last", [f"t{number}" for number in range(8)])
    return plan


def diamonds() -> Plan:
    plan = Plan("diamonds", max_parallel=3)
    add(plan, "top", failure_strategy="retry", max_retries=2)
    for name in ("left", "right"):
        add(plan, name, ["top"], failure_strategy="retry")
    add(plan, "middle", ["left", "right"], failure_strategy="skip", max_retries=1)
    add(plan, "either", ["middle", "right"], run_if="any_completed")
    add(plan, "left_out", ["middle"])
    add(plan, "bottom", ["middle", "either", "left_out"], run_if="all_done")
    return plan


def asking() -> Plan:
    plan = Plan("asking", max_parallel=3)
    add(plan, "asks", failure_strategy="ask")
    add(plan, "careful", approval=True)
    add(plan, "once", idempotent=False)
    add(plan, "after", ["asks", "careful", "once"])
    return plan


def crowded() -> Plan:
    plan = Plan("crowded", max_parallel=2, resources={"gpu": 1})
    for number in range(4):
        add(plan, f"gpu{number}", resources={"gpu": 1}, priority=number % 2)
        add(plan, f"free{number}", inline=number % 2 == 0)
    add(plan, "last", ["gpu0", "gpu1", "gpu2", "gpu3"])
    return plan


def hurried() -> Plan:
    plan = Plan("hurried", max_parallel=2)
    add(plan, "slow", timeout=2, max_retries=1, failure_strategy="skip")
    add(plan, "limited")
    add(plan, "losing")
    add(plan, "long", ["limited", "losing"])
    add(plan, "end", ["slow", "long"], run_if="all_done")
    return plan


def failing() -> Plan:
    plan = Plan("failing", max_parallel=3)
    add(plan, "steady")
    add(plan, "fails", max_retries=1)
    add(plan, "never", ["fails"])
    return plan


def steered() -> Plan:
    plan = Plan("steered", max_parallel=2)
    for number in range(4):
        add(plan, f"t{number}")
    add(plan, "last", ["t0", "t1", "t2", "t3"])
    return plan


FAILS, OK = Behaviour(0.2, "failed"), Behaviour(0.5)

FIXED: dict[str, Fixed] = {
    "chain": Fixed(chain, script={"t2": [Behaviour(0.1, long=True)]}),
    "wide": Fixed(wide),
    "diamonds": Fixed(
        diamonds,
        states={"middle": "failed", "left_out": "skipped"},
        script={"top": [FAILS, FAILS, OK], "right": [FAILS, OK], "middle": [FAILS]},
    ),
    "asking": Fixed(asking, script={"asks": [FAILS, OK]}),
    "crowded": Fixed(crowded),
    "hurried": Fixed(
        hurried,
        states={"slow": "failed"},
        script={
            "slow": [Behaviour(60)],
            "limited": [Behaviour(0.1, "429", 3.0), Behaviour(0.1, "429"), OK],
            "losing": [Behaviour(0.1, "lost"), OK],
            "long": [Behaviour(4, gives_back=True, long=True)],
        },
    ),
    "failing": Fixed(
        failing,
        "failed",
        {"fails": "failed", "never": "canceled", "steady": "canceled"},
        script={"steady": [Behaviour(30, ignores=1)], "fails": [FAILS]},
    ),
    "steered": Fixed(
        steered,
        script={f"t{number}": [Behaviour(1.5)] for number in range(4)},
        visits=[(0.6, "pause", None), (0.6, "pause", None), (3.0, "resume", None), (3.2, "skip", "t3")],
        undecided=True,
    ),
    "growing": Fixed(
        Plan,
        grows=[
            {"id": "facts"},
            {"id": "numbers"},
            {"id": "sum", "depends_on": ["facts", "numbers"]},
            {"id": "check", "depends_on": ["sum"]},
        ],
        script={"facts": [Behaviour(0.1, "429", 2.0), OK], "numbers": [FAILS, OK]},
    ),
    "canceled": Fixed(
        steered,
        "canceled",
        script={f"t{number}": [Behaviour(20, ignores=number)] for number in range(4)},
        visits=[(0.6, "cancel", None), (0.7, "cancel", None)],
        undecided=True,
    ),
}
