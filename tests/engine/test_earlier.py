"""What earlier tasks took, of earlier runs and of this one, decides the order."""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.engine import earlier_tasks
from tests.engine.replaying import assert_replays

from allready import Plan
from allready.core.snapshot import spec_from_json
from allready.engine import earlier
from allready.engine.compile import compile_plan
from allready.engine.earlier import key_of, use_earlier
from allready.engine.outcome import RunResult
from allready.engine.start import new_session, resume_session
from allready.engine.virtual_clock import run_virtual
from allready.errors import StoreError
from allready.plan.plan import Command, Prompt, Task
from allready.store import times
from allready.store.contract import Store, TaskTimes
from allready.store.open import open_store


def go(
    plan: Plan, store: Store | None, *, slots: int = 2, says: Sequence[tuple[float, str]] = ()
) -> tuple[RunResult, float]:
    """Run a plan on a virtual clock; gives its result, and how long it took."""

    async def main() -> tuple[RunResult, float]:
        loop = asyncio.get_running_loop()
        session = new_session(plan, store=store, agents={}, seed=1, clock=loop.time, max_parallel=slots)
        for at, kind in says:
            loop.call_at(at, session.steer, kind)
        return await session.drive(), loop.time()

    return run_virtual(main())


def add(plan: Plan, name: str, *deps: str, takes: float, **settings: Any) -> None:
    plan.add(earlier_tasks.take, id=name, args=[takes], depends_on=deps, **settings)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


# --- from run to run ----------------------------------------------------------------------------------------


def chains() -> Plan:
    """Many short tasks, and at the end of the plan a chain of long ones, on few places."""
    plan = Plan("chains")
    for number in range(12):
        add(plan, f"short-{number}", takes=2)
    for number in range(3):
        add(plan, f"short-{number}-then", f"short-{number}", takes=2)
    add(plan, "long", takes=20)
    return plan


def test_the_second_run_knows_which_task_is_long(store_url: str) -> None:
    with closing(open_store(store_url)) as store:
        first, took_first = go(chains(), store)
        second, took_second = go(chains(), store)
        assert first.status == second.status == "completed"
        # 15 short tasks in two places, and then the long one alone; or beside them from the beginning
        assert (took_first, took_second) == (34, 26)
        recorded = [spec_from_json(task.spec) for task in store.tasks(second.id)]
        assert {spec.id: spec.estimate for spec in recorded} == {
            spec.id: 20 if spec.id == "long" else 2 for spec in recorded
        }
        assert_replays(store, first.id)
        assert_replays(store, second.id)


def test_an_estimate_that_is_given_stays(place: Path) -> None:
    plan = Plan()
    add(plan, "given", takes=3, estimate=50)
    add(plan, "none", takes=4)
    with closing(open_store(place)) as store:
        go(plan, store)
        compiled = compile_plan(plan, {})
        assert use_earlier(compiled, store) == {"none"}
        assert [spec.estimate for spec in compiled.specs] == [50, 4]
        assert use_earlier(compiled, store) == set(), "all have one now"


def test_a_run_in_memory_does_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert [go(chains(), None)[1] for _ in range(2)] == [34, 34]
    assert list(tmp_path.iterdir()) == []


def test_what_failed_tells_nothing_and_each_completion_counts_once(place: Path) -> None:
    """A run that is paused in the middle and gone on with keeps each task when it is left."""
    plan = Plan()
    add(plan, "first", takes=5)
    add(plan, "second", "first", takes=7)
    plan.add(fails, id="fails", failure_strategy="skip")

    with closing(open_store(place)) as store:
        paused, _ = go(plan, store, says=[(8, "interrupt")])
        assert paused.status == "paused"
        keys = {name: str(key_of(plan, "python", plan.tasks[name])) for name in plan.tasks}
        assert store.task_times(keys.values()) == {keys["first"]: TaskTimes(1, 5.0, 0.0)}

        async def go_on() -> RunResult:
            session = resume_session(store, paused.id, plan=plan)
            clock = asyncio.get_running_loop().time
            offset = session.clock() - clock()
            session.clock = lambda: clock() + offset
            return await session.drive()

        assert run_virtual(go_on()).status == "completed"
        assert_replays(store, paused.id)
        found = store.task_times(keys.values())
        assert found.keys() == {keys["first"], keys["second"]}
        assert {known.times for known in found.values()} == {1}
        assert found[keys["second"]].median == pytest.approx(7, abs=0.01)


def fails() -> None:
    raise ValueError("no")


def test_only_the_longest_of_very_many_are_kept(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(earlier, "MOST_KEPT", 3)
    plan = Plan()
    for number in range(6):
        add(plan, f"t{number}", takes=1 + number)
    with closing(open_store(place)) as store:
        go(plan, store)
        compiled = compile_plan(plan, {})
        assert use_earlier(compiled, store) == {"t3", "t4", "t5"}
        monkeypatch.setattr(earlier, "MOST_ASKED", 5)
        assert use_earlier(compile_plan(plan, {}), store) == set(), "too many tasks to ask for"


def test_a_store_that_breaks_at_the_end_changes_nothing_of_the_run(
    place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with closing(open_store(place)) as store:

        def broken(_: Mapping[str, Sequence[float]]) -> None:
            raise StoreError("the disk is full")

        monkeypatch.setattr(store, "add_task_times", broken)
        result, took = go(chains(), store)
        assert (result.status, took) == ("completed", 34)
        assert store.run(result.id).status == "completed"
    assert f"what the tasks of run {result.id} took is not kept: the disk is full" in caplog.text


def test_a_store_forgets_what_was_not_run_for_long(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(times, "MOST_ROWS", 4)
    ticks = itertools.count()
    with closing(open_store(store_url, clock=lambda: float(next(ticks)))) as store:
        for keys in ("abc", "d", "ae"):
            store.add_task_times({key: [1.0] for key in keys})
        assert store.task_times("abcde").keys() == {*"acde"}


# --- what the same task is --------------------------------------------------------------------------------


def test_a_task_is_the_same_whatever_it_depends_on_and_is_called() -> None:
    plan = Plan("goal", base_dir=Path("/somewhere"))
    elsewhere = Plan("goal", base_dir=Path("/elsewhere"))
    command = Command(("make", "{{ target }}"))
    key = key_of(plan, "command", Task("a", command))
    assert key == key_of(plan, "command", Task("b", command, depends_on=("a",), priority=3, timeout=5))
    others = [
        key_of(elsewhere, "command", Task("a", command)),
        key_of(plan, "other", Task("a", command)),
        key_of(plan, "command", Task("a", Command(("make", "all")))),
        key_of(plan, "command", Task("a", Command(("make", "{{ target }}"), cwd="x"))),
        key_of(plan, "command", Task("a", Command(("make", "{{ target }}"), env={"A": "b"}))),
        key_of(plan, "x", Task("a", Prompt("What?"))),
        key_of(plan, "x", Task("a", Prompt("Why?"))),
    ]
    assert len({key, *others}) == 8


def test_functions_are_told_apart_by_what_they_are_called_with() -> None:
    plan = Plan()
    for name, argument in (("one", 1.0), ("same", 1.0), ("two", 2.0), ("strange", object())):
        plan.add(earlier_tasks.take, id=name, args=[argument])
    plan.add(earlier_tasks.named, id="other", args=[1.0])
    keys = {name: key_of(plan, "python", task) for name, task in plan.tasks.items()}
    assert keys.pop("strange") is None, "it can't be written down"
    assert keys["one"] == keys["same"]
    assert len(set(keys.values())) == 3


def test_the_answer_to_a_goal_is_known_by_the_goal(place: Path) -> None:
    plan = Plan("What is it?", answer=True)
    add(plan, "found", takes=3)
    with closing(open_store(place)) as store:
        go(plan, store)
        compiled = compile_plan(plan, {})
        assert "found" in use_earlier(compiled, store)
        assert key_of(plan, "aggregator", plan.tasks["answer"]) != key_of(
            Plan("What else?"), "aggregator", plan.tasks["answer"]
        )


# --- within a run -----------------------------------------------------------------------------------------


def test_a_run_learns_which_kind_of_task_is_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Estimates that are far too long let tasks go first that others should wait for."""
    monkeypatch.chdir(tmp_path)
    plan = Plan("learning")
    for number in range(10):
        add(plan, f"estimated-{number}", takes=1, estimate=60)
    add(plan, "sample", takes=10, priority=1)
    add(plan, "long", takes=10)
    add(plan, "longer", "long", takes=10)
    learnt = functools.partial(go, plan, None)
    assert learnt()[1] == 23

    monkeypatch.setattr("allready.core.scheduler.DagScheduler.learn", lambda *_: None)
    assert learnt()[1] == 30
