"""What ticks cost, counted; nothing here is timed."""

from __future__ import annotations

from allready.core.actions import Done, RunInline, Spawn
from allready.core.events import Completed, TaskEvent
from allready.core.graph import TaskGraph, TaskSpec
from allready.core.scheduler import DagScheduler
from allready.core.states import RunState
from allready.errors import ConcurrencyLimit

MANY = 100_000


def run_in_places(scheduler: DagScheduler, places: int) -> int:
    """Drive a run with a pool of so many places; gives the number of ticks."""
    running: list[tuple[str, str]] = []
    for now in range(10**9):
        started = refused = False
        for action in scheduler.tick(now):
            if isinstance(action, Spawn | RunInline) and len(running) < places:
                handle = f"{action.task}.{action.number}"
                scheduler.record_spawn(action.task, handle, now)
                running.append((action.task, handle))
                started = True
            elif isinstance(action, Spawn | RunInline):
                scheduler.record_spawn_failure(action.task, ConcurrencyLimit(), now)
                refused = True
            else:
                assert action == Done(RunState.COMPLETED)
                return now + 1
        scheduler.record_batch_backoff(started, refused)
        for task, handle in running:
            scheduler.handle(TaskEvent(task, handle, Completed(), now))
        running.clear()
    raise AssertionError


def test_a_tick_over_many_waiting_tasks_with_a_full_pool_offers_one_of_each_kind() -> None:
    scheduler = DagScheduler(TaskGraph(TaskSpec(f"t{n}", agent=f"agent{n % 3}") for n in range(MANY)))
    full = ConcurrencyLimit()
    for tick in range(1, 101):
        for action in scheduler.tick(tick):
            assert isinstance(action, Spawn)
            scheduler.record_spawn_failure(action.task, full, tick)
        scheduler.record_batch_backoff(False, True)
        assert scheduler.statistics.offers == scheduler.statistics.refusals == tick
    assert scheduler.graph.counts[scheduler.graph["t0"].state] == MANY


def test_a_tick_offers_what_it_starts_and_one_more_for_each_scope() -> None:
    specs = [TaskSpec(f"t{n}", agent=f"agent{n % 3}") for n in range(MANY)]
    scheduler = DagScheduler(TaskGraph(specs))
    for tick in range(1, 51):
        started = 0
        for action in scheduler.tick(tick):
            assert isinstance(action, Spawn)
            if action.agent == "agent0" and started < 5:
                scheduler.record_spawn(action.task, f"{action.task}.{tick}", tick)
                started += 1
            else:
                limit = ConcurrencyLimit("as many as it may", f"agent:{action.agent}", 1, 1)
                scheduler.record_spawn_failure(action.task, limit, tick)
        assert scheduler.statistics.offers == tick * (5 + 3)


def test_a_wide_graph_of_many_tasks_on_few_places() -> None:
    scheduler = DagScheduler(TaskGraph(TaskSpec(f"t{n}") for n in range(MANY)))
    assert run_in_places(scheduler, 1000) == MANY // 1000 + 1
    counted = scheduler.statistics
    assert (counted.spawns, counted.refusals, counted.stale_events) == (MANY, MANY // 1000 - 1, 0)


def test_a_wide_graph_of_many_tasks_on_places_for_all() -> None:
    specs = [TaskSpec("first"), *(TaskSpec(f"t{n}", ("first",)) for n in range(MANY))]
    specs.append(TaskSpec("last", tuple(f"t{n}" for n in range(MANY))))
    scheduler = DagScheduler(TaskGraph(specs), max_parallel=1)
    assert run_in_places(scheduler, MANY) == 4
    assert scheduler.statistics.offers == MANY + 2


def test_a_chain_of_many_tasks() -> None:
    specs = [TaskSpec(f"t{n}", (f"t{n - 1}",) if n else ()) for n in range(MANY)]
    scheduler = DagScheduler(TaskGraph(specs))
    assert scheduler.graph["t0"].remaining == MANY
    assert run_in_places(scheduler, 5) == MANY + 1
    assert scheduler.statistics.offers == MANY


def test_a_skip_that_spreads_through_a_chain_of_many_tasks() -> None:
    specs = [TaskSpec(f"t{n}", (f"t{n - 1}",) if n else ()) for n in range(MANY)]
    scheduler = DagScheduler(TaskGraph(specs))
    scheduler.tick(0)
    scheduler.skip("t0", 0)
    assert list(scheduler.tick(0)) == [Done(RunState.COMPLETED)]
    scheduler = DagScheduler(TaskGraph(reversed(specs)))
    scheduler.tick(0)
    scheduler.skip("t0", 0)
    assert list(scheduler.tick(0)) == [Done(RunState.COMPLETED)]
