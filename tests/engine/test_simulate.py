"""Simulated runs take what they must: checked by hand, by bounds, and against the rules of the scheduler."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allready import Plan, run_sync
from allready.agents.definitions import AgentDefinition
from allready.core.graph import TaskSpec
from allready.core.states import FailureStrategy, RunIf
from allready.engine.compile import compile_plan
from allready.engine.simulate import (
    Simulation,
    Workload,
    _Run,
    critical_path,
    simulate,
    workload_of_plan,
    workload_of_run,
    worth_it,
)
from allready.engine.virtual_clock import run_virtual
from allready.errors import TaskError
from allready.plan.load import plan_from_document
from allready.store.contract import RunRow, TaskRow
from allready.store.open import open_store


def task(name: str, *deps: str, **settings: Any) -> TaskSpec:
    return TaskSpec(name, deps, settings.pop("agent", "command"), **settings)


def load(*specs: TaskSpec, default: float = 10.0, **options: Any) -> Workload:
    seconds = {spec.id: default if spec.estimate is None else spec.estimate for spec in specs}
    return Workload(list(specs), seconds, **options)


def times(simulation: Simulation) -> dict[str, tuple[float, float]]:
    return {span.task: (span.start, span.end) for span in simulation.spans}


WIDE = [task(f"t{number}") for number in range(10)]


@pytest.mark.parametrize(
    ("slots", "makespan", "use", "by"),
    [
        (1, 100, 1, "slots"),
        (3, 40, 100 / 120, "slots"),
        (10, 10, 1, "critical path"),
        (20, 10, 0.5, "critical path"),
    ],
)
def test_a_wide_plan_takes_its_work_by_the_places(slots: int, makespan: float, use: float, by: str) -> None:
    simulation = simulate(load(*WIDE), slots)
    assert simulation.makespan == makespan
    assert simulation.use == pytest.approx(use)
    assert simulation.bound_by == by
    assert simulation.bound == pytest.approx(max(100 / slots, 10))
    assert simulation.ratio == pytest.approx(makespan / max(100 / slots, 10))
    assert simulation.speedup == pytest.approx(100 / makespan)


def test_a_chain_takes_no_less_with_more_places() -> None:
    workload = load(task("a", estimate=3), task("b", "a", estimate=4), task("c", "b", estimate=5))
    for slots in (1, 8):
        simulation = simulate(workload, slots)
        assert times(simulation) == {"a": (0, 3), "b": (3, 7), "c": (7, 12)}
        assert {span.slot for span in simulation.spans} == {1}
    assert [step[1:] for step in critical_path(workload)] == [(0, 3), (3, 4), (7, 5)]


def test_the_scheduler_s_own_order_is_simulated() -> None:
    specs = [task("short", estimate=1), task("long", estimate=9), task("first", estimate=2, priority=1)]
    assert times(simulate(load(*specs), 1)) == {"first": (0, 2), "long": (2, 11), "short": (11, 12)}


def test_a_task_waits_for_its_place_from_when_it_is_ready() -> None:
    specs = [
        task("a", estimate=5),
        task("b", estimate=3),
        task("c", "b", estimate=1),
        task("d", "b", estimate=4),
    ]
    simulation = simulate(load(*specs), 2)
    ready = {span.task: span.ready for span in simulation.spans}
    assert times(simulation) == {"a": (0, 5), "b": (0, 3), "d": (3, 7), "c": (5, 6)}
    assert ready == {"a": 0, "b": 0, "c": 3, "d": 3}
    assert {span.task: span.slot for span in simulation.spans}["c"] == next(
        span.slot for span in simulation.spans if span.task == "a"
    )


def test_resources_and_agents_are_short_whatever_the_places() -> None:
    gpu = [task(f"g{n}", resources=(("gpu", 1),)) for n in range(4)]
    simulation = simulate(load(*gpu, resources={"gpu": 2}), 8)
    assert (simulation.makespan, simulation.bound, simulation.bound_by) == (20, 20, "resource gpu")
    busy = [task(f"r{n}", agent="reviewer") for n in range(4)]
    simulation = simulate(load(*busy, agent_limits={"reviewer": 1}), 8)
    assert (simulation.makespan, simulation.bound, simulation.bound_by) == (40, 40, "agent reviewer")


def test_inline_tasks_run_beside_the_places() -> None:
    inline = [task(f"i{n}", inline=True) for n in range(16)]
    simulation = simulate(load(*inline, task("a")), 1)
    assert (simulation.makespan, simulation.bound_by) == (20, "inline")
    assert {span.slot for span in simulation.spans if span.task.startswith("i")} == {None}
    assert simulation.use == 0.5


def test_run_if_is_heeded() -> None:
    specs = [
        *(task("quick", estimate=1), task("slow", estimate=9)),
        task("any", "quick", "slow", run_if=RunIf.ANY_COMPLETED, estimate=2),
        task("all", "quick", "slow", run_if=RunIf.ALL_DONE, estimate=2),
    ]
    simulation = simulate(load(*specs), 4)
    assert times(simulation)["any"] == (1, 3)
    assert times(simulation)["all"] == (9, 11)
    assert {span.task: span.ready for span in simulation.spans}["any"] == 1
    assert [step.task for step in critical_path(load(*specs))] == ["slow", "all"]
    assert [
        step.task for step in critical_path(load(*specs[:1], specs[1]._replace(estimate=2.5), specs[2]))
    ] == [
        "quick",
        "any",
    ]


def test_people_time_limits_and_retries_take_no_part() -> None:
    specs = [
        task("a", timeout=1, approval=True, failure_strategy=FailureStrategy.RETRY),
        task("b", "a", timeout=None, approval=True, idempotent=False),
    ]
    assert simulate(load(*specs, timeout=5), 1).makespan == 20


def test_what_ended_badly_does_so_without_ending_the_run() -> None:
    specs = [
        task("bad", estimate=4),
        task("behind", "bad"),
        task("any", "bad", "good", run_if=RunIf.ANY_COMPLETED, estimate=1),
        task("good", estimate=6),
        task("dropped", "good", resources=(("gpu", 1),)),
        task("last", "dropped", "behind", run_if=RunIf.ALL_DONE, estimate=1),
    ]
    workload = load(*specs, failing={"bad", "behind", "dropped"}, resources={"gpu": 1})
    workload.seconds |= {"behind": 0.0, "dropped": 0.0}
    assert times(simulate(workload, 2)) == {
        "bad": (0, 4),
        "good": (0, 6),
        "any": (6, 7),
        "dropped": (6, 6),
        "last": (6, 7),
    }


def test_tasks_that_take_no_time() -> None:
    simulation = simulate(load(task("a"), task("b", "a"), default=0.0), 2)
    assert (simulation.makespan, simulation.use, simulation.speedup, simulation.ratio) == (0, 0, 1, 1)


def test_a_pool_that_is_full_is_not_asked_in_vain() -> None:
    specs = [task(f"t{number}", estimate=1000.0 if number == 0 else 0.001) for number in range(300)]
    workload = load(*specs)
    made = _Run(workload, 1)
    assert run_virtual(made.go()) * made.scale == pytest.approx(1000.299)
    assert made._scheduler.statistics.ticks <= 2 * len(specs) + 2


@st.composite
def workloads(draw: st.DrawFn) -> Workload:
    specs: list[TaskSpec] = []
    for number in range(draw(st.integers(1, 25))):
        deps = draw(st.sets(st.integers(0, number - 1), max_size=3)) if number else set()
        seconds = draw(st.one_of(st.integers(0, 50), st.floats(0.001, 5000)))
        specs.append(
            task(
                f"t{number}",
                *(f"t{dep}" for dep in sorted(deps)),
                estimate=float(seconds),
                priority=draw(st.integers(0, 2)),
            )
        )
    return load(*specs)


@given(workloads(), st.integers(1, 6))
def test_bounds_hold_for_any_graph(workload: Workload, slots: int) -> None:
    simulation = simulate(workload, slots)
    path = critical_path(workload)
    longest = path[-1].start + path[-1].seconds
    near = 1e-6 * max(1.0, workload.work)
    assert simulation.makespan >= simulation.bound - near
    # Graham, Bounds on Multiprocessing Timing Anomalies, 1969: no list scheduler does worse
    assert simulation.makespan <= workload.work / slots + (1 - 1 / slots) * longest + near
    assert simulation.work == pytest.approx(workload.work)
    check_spans(workload, simulation, near)


def check_spans(workload: Workload, simulation: Simulation, near: float) -> None:
    by_task = {span.task: span for span in simulation.spans}
    assert by_task.keys() == workload.seconds.keys()
    for spec in workload.specs:
        span = by_task[spec.id]
        assert span.end - span.start == pytest.approx(workload.seconds[spec.id], abs=near)
        assert span.ready <= span.start + near
        assert all(by_task[dep].end <= span.start + near for dep in spec.depends_on)
    for slot in range(1, simulation.slots + 1):
        ends = [(span.start, span.end) for span in simulation.spans if span.slot == slot]
        assert all(one[1] <= two[0] + near for one, two in pairwise(ends))
    assert {span.slot for span in simulation.spans} <= set(range(1, simulation.slots + 1))


def test_the_fewest_places_that_are_nearly_as_good_are_worth_it() -> None:
    tried = [simulate(load(*WIDE), slots) for slots in (1, 5, 9, 10, 20)]
    assert [simulation.makespan for simulation in tried] == [100, 20, 20, 10, 10]
    assert worth_it(tried).slots == 10
    assert worth_it(tried[:3]).slots == 5


# --- where the times come from ----------------------------------------------------------------------------


def test_a_plan_s_tasks_take_their_estimates_or_what_is_said() -> None:
    plan = plan_from_document(
        {
            "timeout": "1h",
            "resources": {"gpu": 1},
            "tasks": [
                {"id": "a", "run": "true", "estimate": "2m"},
                {"id": "b", "run": "true", "timeout": 5},
                {"id": "c", "run": "true", "estimate": "20m"},
                {"id": "d", "run": "true", "estimate": "20m", "timeout": "30m", "resources": {"gpu": 1}},
                {"id": "e", "prompt": "Look", "agent": "reviewer"},
            ],
        }
    )
    reviewer = AgentDefinition.from_settings("reviewer", {"description": "looks", "max_concurrent": 2})
    workload = workload_of_plan(compile_plan(plan, {"reviewer": reviewer}, check_models=False), 30.0)
    assert workload.seconds == {"a": 120, "b": 30, "c": 1200, "d": 1200, "e": 30}
    assert (workload.assumed, workload.too_long, workload.timeout) == (2, ["c"], 3600)
    assert (workload.resources, workload.agent_limits) == ({"gpu": 1}, {"reviewer": 2})


def row(tasks: Sequence[TaskRow], **options: Any) -> RunRow:
    settings = {"timeout": 9.0, "agents": {"x": {"max_concurrent": 3}, "y": {}}, **options}
    return RunRow("id", "goal", "running", 0.0, 1, "/nowhere", {"resources": {"gpu": 2}}, settings)


def test_a_run_s_tasks_take_what_they_took() -> None:
    def made(
        index: int, state: str, start: float | None = None, end: float | None = None, **spec: Any
    ) -> TaskRow:
        name = f"t{index}"
        attempts = 0 if start is None else 1
        return TaskRow(index, name, {"id": name, **spec}, None, state, attempts, None, None, start, end)

    tasks = [
        made(0, "completed", 5, 9),
        made(1, "completed", 5, 7, estimate=99.0),
        made(2, "failed", 5, 6),
        made(3, "skipped", None, 6),
        made(4, "running", 7, None),
        made(5, "pending", None, None, estimate=8.0),
        made(6, "canceled", None, 5),
        made(7, "completed", 9, 8.9),
    ]
    workload = workload_of_run(row(tasks), tasks)
    assert workload.seconds == {"t0": 4, "t1": 2, "t2": 1, "t3": 0, "t4": 2, "t5": 8, "t6": 0, "t7": 0}
    assert workload.failing == {"t2", "t3", "t6"}
    assert (workload.assumed, workload.timeout) == (1, 9)
    assert (workload.resources, workload.agent_limits) == ({"gpu": 2}, {"x": 3})
    assert workload_of_run(row(tasks[4:5]), tasks[4:5], 60.0).seconds == {"t4": 60}


async def quick() -> str:
    await asyncio.sleep(0.01)
    return "done"


async def bad() -> str:
    raise TaskError("no")


@pytest.mark.parametrize("source", ["functions", "file"])
def test_a_stored_run_can_be_simulated(source: str, tmp_path: Path) -> None:
    plan = Plan("stored", resources={"gpu": 1})
    plan.add(quick, id="a", resources={"gpu": 1})
    plan.add(bad, failure_strategy="skip")
    plan.add(quick, id="after", depends_on=["bad"])
    if source == "file":
        tasks = [
            {"id": "a", "run": "true", "resources": {"gpu": 1}},
            {"id": "bad", "run": "false", "failure_strategy": "skip"},
            {"id": "after", "run": "true", "depends_on": ["bad"]},
        ]
        plan = plan_from_document({"resources": {"gpu": 1}, "tasks": tasks})
    result = run_sync(plan, store=tmp_path / "runs.db", agents={})
    with closing(open_store(tmp_path / "runs.db")) as store:
        workload = workload_of_run(store.run(result.id), store.tasks(result.id))
    assert workload.failing == {"bad", "after"}
    assert workload.seconds["a"] > 0
    simulation = simulate(workload, 3)
    assert times(simulation).keys() == {"a", "bad"}
    assert simulation.makespan == pytest.approx(max(workload.seconds.values()), abs=1e-6)
