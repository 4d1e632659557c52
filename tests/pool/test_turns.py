"""Runs that share a pool: freed places in turn, and nobody is woken for nothing, again and again."""

from __future__ import annotations

import asyncio
import random

import pytest
from tests.pool.driving import CountingPool, Ride, now, tasks

from allready.core.events import Outcome
from allready.core.graph import TaskSpec
from allready.errors import ConcurrencyLimit
from allready.pool.manager import SpawnRequest, SubAgent, SubAgentManager
from allready.testing import run_virtual


async def nothing(_: SubAgent) -> None:
    pass


def ignore(task: str, handle: str, outcome: Outcome) -> None:
    pass


class Runs:
    """Runs by name that ask a pool, by hand."""

    def __init__(self, pool: SubAgentManager) -> None:
        self.pool = pool
        self.woken: list[str] = []

    def ask(self, run: str, **fields: object) -> str | None:
        """Ask for a place; a refused run waits to be woken."""
        try:
            return self.pool.spawn(SpawnRequest(run, "t", nothing, ignore, **fields))  # type: ignore[arg-type]
        except ConcurrencyLimit:
            self.pool.wake_when_free(run, lambda: self.woken.append(run))
            return None

    def must(self, run: str, **fields: object) -> str:
        handle = self.ask(run, **fields)
        assert handle is not None
        return handle


def test_runs_are_woken_in_turn_one_for_each_place() -> None:
    runs = Runs(SubAgentManager(3))
    held = [runs.must("holder") for _ in range(3)]
    assert [runs.ask(run) for run in "abc"] == [None] * 3
    runs.pool.release(held.pop())
    assert runs.woken == ["a"]
    runs.pool.release(held.pop())
    assert runs.woken == ["a", "b"]


def test_a_place_is_kept_for_the_run_that_was_woken() -> None:
    runs = Runs(SubAgentManager(1))
    held = runs.must("a")
    assert runs.ask("b") is None
    runs.pool.release(held)
    assert runs.pool.free == 0
    with pytest.raises(ConcurrencyLimit, match="kept for the run whose turn it is"):
        runs.pool.spawn(SpawnRequest("a", "t", nothing, ignore))
    assert runs.ask("a") is None
    held = runs.must("b")
    runs.pool.turn_over("b")
    assert runs.woken == ["b"]
    runs.pool.release(held)
    assert runs.woken == ["b", "a"]


def test_a_turn_that_was_not_used_goes_on() -> None:
    runs = Runs(SubAgentManager(1))
    held = runs.must("holder")
    for run in "abc":
        runs.ask(run)
    runs.pool.release(held)
    runs.pool.turn_over("a")
    assert runs.woken == ["a", "b"]
    runs.pool.leave("b")
    assert runs.woken == ["a", "b", "c"]
    runs.pool.turn_over("c")
    assert runs.pool.free == 1
    runs.must("anybody")


def test_a_run_put_off_for_a_turn_that_was_not_used_is_woken() -> None:
    runs = Runs(SubAgentManager(1))
    held = runs.must("holder")
    runs.ask("a")
    runs.pool.release(held)
    assert runs.ask("late") is None  # the place is kept for a
    runs.pool.turn_over("a")
    assert runs.woken == ["a", "late"]
    runs.must("late")


def test_places_that_come_free_together_are_shared() -> None:
    runs = Runs(SubAgentManager(6))
    held = [runs.must("holder") for _ in range(6)]
    runs.ask("a")
    runs.ask("b")
    for handle in held:
        runs.pool.release(handle)
    assert runs.woken == ["a", "b"]
    for _ in range(3):
        runs.must("a")
    assert runs.ask("a") is None
    for _ in range(3):
        runs.must("b")


def test_runs_refused_for_another_reason_do_not_wake_each_other_for_ever() -> None:
    runs = Runs(SubAgentManager(5, resources={"gpu": 1}))
    gpu = runs.must("holder", resources=(("gpu", 1),))
    other = runs.must("holder")
    for run in "ab":
        assert runs.ask(run, resources=(("gpu", 1),)) is None
    runs.pool.release(other)
    for _ in range(10):
        if not runs.woken:
            break
        run = runs.woken.pop(0)
        assert runs.ask(run, resources=(("gpu", 1),)) is None
        runs.pool.turn_over(run)
    assert runs.woken == []
    runs.pool.release(gpu)
    assert runs.woken == ["a"]
    runs.must("a", resources=(("gpu", 1),))
    runs.pool.turn_over("a")


def test_a_run_that_got_a_place_goes_to_the_end_of_the_queue() -> None:
    runs = Runs(SubAgentManager(4, resources={"gpu": 1}))
    held = runs.must("holder", resources=(("gpu", 1),))
    for run in "ab":
        runs.ask(run, resources=(("gpu", 1),))
    runs.must("a")
    runs.pool.release(held)
    assert runs.woken == ["b"]


def test_two_runs_take_turns() -> None:
    async def main() -> None:
        pool = CountingPool(1)
        rides = [Ride(tasks(10, estimate=1), pool=pool, run_id=run) for run in "ab"]
        assert await asyncio.gather(*(ride.go() for ride in rides)) == ["completed"] * 2
        assert [run for run, _ in pool.admitted] == ["a", "b"] * 10
        assert now() == 20
        assert sum(ride.scheduler.statistics.ticks for ride in rides) < 100
        assert pool._promised == 0
        assert not pool._waiting
        assert not pool._turns

    run_virtual(main())


def test_a_run_with_slow_commits_has_its_turn_too() -> None:
    class SlowJournal:
        async def commit(self) -> None:
            await asyncio.sleep(0.1)

        def holds(self) -> bool:
            return True

        async def regain(self) -> None: ...

        def give_up(self, *, at_once: bool = False) -> None: ...

    async def main() -> None:
        pool = CountingPool(1)
        slow = Ride(tasks(10, estimate=0.01), pool=pool, run_id="slow", journal=SlowJournal())
        fast = Ride(tasks(10, estimate=0.01), pool=pool, run_id="fast")
        await asyncio.gather(slow.go(), fast.go())
        runs = [run for run, _ in pool.admitted]
        assert runs[:18] in (["slow", "fast"] * 9, ["fast", "slow"] * 9)

    run_virtual(main())


def test_one_of_many_runs_wakes_for_a_freed_place() -> None:
    async def main() -> None:
        pool = CountingPool(1)
        holder = Ride(
            [TaskSpec("long", estimate=3), TaskSpec("last", ("long",), estimate=100)], pool=pool, run_id="h"
        )
        rides = [Ride(tasks(1, estimate=100), pool=pool, run_id=f"r{number}") for number in range(20)]
        going = [ride.begin() for ride in [holder, *rides]]
        await asyncio.sleep(2.9)
        before = [ride.scheduler.statistics.ticks for ride in rides]
        await asyncio.sleep(0.15)
        after = [ride.scheduler.statistics.ticks for ride in rides]
        woken = [number for number in range(20) if after[number] > before[number]]
        assert [ride.order for ride in rides if ride.order] == [["t0"]]
        # those whose own backoff happens to end in this moment look by themselves
        assert 0 in woken
        assert len(woken) <= 3
        for task in going:
            task.cancel()
        await asyncio.gather(*going, return_exceptions=True)
        assert pool.active == 0

    run_virtual(main())


def test_a_paused_run_lets_its_turn_go_by() -> None:
    async def main() -> None:
        pool = CountingPool(1)
        rides = [Ride(tasks(4, estimate=1), pool=pool, run_id=run) for run in "abc"]
        going = [ride.begin() for ride in rides]
        await asyncio.sleep(0.5)
        assert await rides[1].steer("pause") is None
        await asyncio.sleep(7.9)
        assert [run for run, _ in pool.admitted] == ["a", "c"] * 4
        assert rides[1].order == []
        assert now() < 8.5
        assert await going[0] == "completed"
        assert await going[2] == "completed"
        assert now() < 8.51
        assert await rides[1].steer("resume") is None
        assert await going[1] == "completed"
        assert now() < 12.51

    run_virtual(main())


@pytest.mark.parametrize("seed", range(60))
def test_random_runs_on_one_pool_all_end_and_leave_it_clean(seed: int) -> None:
    async def main() -> None:
        rng = random.Random(seed)
        pool = CountingPool(rng.randint(1, 3), resources={"gpu": 1}, agent_limits={"w": 1})
        rides = []

        async def work(sub_agent: SubAgent) -> None:
            await asyncio.sleep(rng.choice([0, 0.1, 1]))
            if rng.random() < 0.3:  # waits for others in between
                async with sub_agent.place_given_back():
                    await asyncio.sleep(rng.choice([0, 0.1, 1]))
                await asyncio.sleep(rng.choice([0, 0.1]))

        for _ in range(5):
            specs = [
                TaskSpec(
                    f"t{place}",
                    tuple(f"t{dep}" for dep in range(place) if rng.random() < 0.15),
                    agent=rng.choice([None, "w"]),
                    resources=rng.choice([(), (("gpu", 1),)]),
                )
                for place in range(12)
            ]
            rides.append(Ride(specs, work, pool=pool))
        assert await asyncio.gather(*(ride.go() for ride in rides)) == ["completed"] * 5
        assert pool.active == pool._promised == 0
        assert not pool._waiting
        assert not pool._turns
        assert not pool._put_off
        assert pool.peak <= pool.max_concurrent
        for ride in rides:
            assert ride.scheduler.statistics.ticks < 150

    run_virtual(main())
