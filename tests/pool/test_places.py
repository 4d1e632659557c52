"""Parents that give their place back while they wait for their children."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from tests.pool.driving import CountingPool, Ride, now, settle, tasks
from tests.pool.test_manager import Bench, forever

from allready.core.events import Canceled, Completed, Failed, Outcome
from allready.core.graph import TaskSpec
from allready.errors import ConcurrencyLimit
from allready.pool.manager import SpawnRequest, SubAgent
from allready.testing import run_virtual


class Family:
    """Parents and children on one pool; children end when they are told to."""

    def __init__(self, slots: int, **options: Any) -> None:
        self.bench = Bench(slots, **options)
        self.pool = self.bench.pool
        self.back: list[tuple[str, float]] = []

    def parent(
        self, task: str = "parent", children_take: float = 2, work_after: float = 1, **fields: Any
    ) -> str:
        async def work(sub_agent: SubAgent) -> str:
            async with sub_agent.place_given_back():
                await asyncio.sleep(children_take)
            self.back.append((task, now()))
            await asyncio.sleep(work_after)
            return task

        return self.bench.start(work, task, **fields)

    def child(self, takes: float, task: str = "child", **fields: Any) -> str:
        async def work(_: SubAgent) -> None:
            await asyncio.sleep(takes)

        return self.bench.start(work, task, **fields)


def test_a_parent_waiting_for_its_children_on_a_pool_of_one_is_no_deadlock() -> None:
    async def main() -> None:
        pool = CountingPool(1)

        async def parent(sub_agent: SubAgent) -> list[str]:
            if sub_agent.request.task != "t0":
                return []
            async with sub_agent.place_given_back():
                child = Ride(tasks(3, "child", estimate=1), pool=pool, run_id="inner")
                assert await child.go() == "completed"
            assert pool.active == 1
            return child.order

        ride = Ride(tasks(2), parent, pool=pool)
        assert await ride.go() == "completed"
        assert ride.outcomes[0][2] == Completed([]), "the second task has its turn while the first waits"
        assert ride.outcomes[1][2] == Completed(["child0", "child1", "child2"])
        assert pool.peak == 1
        assert pool.active == 0

    run_virtual(main())


def test_three_generations_on_a_pool_of_one() -> None:
    async def main() -> None:
        pool = CountingPool(1)
        depths: list[int] = []
        names = itertools.count()

        async def work(sub_agent: SubAgent) -> None:
            depth = int(sub_agent.request.run[0])
            depths.append(depth)
            if depth < 3:
                async with sub_agent.place_given_back():
                    inner = Ride(tasks(2), work, pool=pool, run_id=f"{depth + 1} {next(names)}")
                    assert await inner.go() == "completed"

        assert await Ride(tasks(1), work, pool=pool, run_id="0").go() == "completed"
        assert [depths.count(depth) for depth in range(4)] == [1, 2, 4, 8]
        assert pool.peak == 1

    run_virtual(main())


def test_it_gets_its_place_before_new_tasks_do() -> None:
    async def main() -> None:
        family = Family(1)
        family.parent(children_take=1)
        await settle()
        family.child(5)
        woken: list[float] = []
        await asyncio.sleep(2)  # the parent wants its place back
        assert family.pool.free == 0
        with pytest.raises(ConcurrencyLimit):
            family.pool.spawn(family.bench.request("new"))
        family.pool.wake_when_free("run", lambda: woken.append(now()))
        await asyncio.sleep(2.999)
        assert (family.back, woken) == ([], [])
        await asyncio.sleep(0.002)
        assert family.back == [("parent", 5)]
        with pytest.raises(ConcurrencyLimit):
            family.pool.spawn(family.bench.request("new"))
        await asyncio.sleep(1)
        assert woken == [6]
        assert family.pool.peak == 1

    run_virtual(main())


def test_no_spawn_slips_in_between_the_freed_place_and_the_parent() -> None:
    async def main() -> None:
        family = Family(1)
        stolen: list[Outcome] = []

        def on_end(task: str, handle: str, outcome: Outcome) -> None:
            # the very moment in which the child's place came free
            with pytest.raises(ConcurrencyLimit):
                family.pool.spawn(family.bench.request("thief"))
            stolen.append(outcome)

        family.parent(children_take=1)
        await settle()
        child = family.pool.spawn(SpawnRequest("run", "child", lambda _: asyncio.sleep(3), on_end))
        family.pool.launch(child)
        await asyncio.sleep(10)
        assert len(stolen) == 1
        assert family.back == [("parent", 3)]

    run_virtual(main())


def test_it_takes_its_place_at_once_if_one_is_free() -> None:
    async def main() -> None:
        family = Family(2)
        family.parent(children_take=1)
        await settle()
        family.child(5)
        await asyncio.sleep(2.5)
        assert family.back == [("parent", 1)]

    run_virtual(main())


def test_its_resources_and_its_agent_come_back_too() -> None:
    async def main() -> None:
        family = Family(9, resources={"gpu": 1}, agent_limits={"writer": 1})
        family.parent(children_take=1, resources=(("gpu", 1),), agent="writer")
        await settle()
        family.child(5, resources=(("gpu", 1),))
        family.child(3, agent="writer")
        await asyncio.sleep(4)
        for fields, scope in (
            ({"resources": (("gpu", 1),)}, "resource:gpu"),
            ({"agent": "writer"}, "agent:writer"),
        ):
            with pytest.raises(ConcurrencyLimit) as refused:
                family.pool.spawn(family.bench.request(**fields))
            assert refused.value.scope == scope, "what the parent waits for is promised to it"
        family.pool.release(family.pool.spawn(family.bench.request()))  # other tasks are not held up
        await asyncio.sleep(6)
        assert family.back == [("parent", 5)]
        assert family.pool.active == 0
        family.pool.spawn(family.bench.request(resources=(("gpu", 1),), agent="writer"))

    run_virtual(main())


def test_parents_come_back_in_the_order_in_which_they_asked() -> None:
    async def main() -> None:
        family = Family(1)
        for number in range(3):
            family.parent(f"p{number}", children_take=3 - number)
            await settle()
        family.child(10)
        await asyncio.sleep(30)
        assert family.back == [("p2", 10), ("p1", 11), ("p0", 12)]
        assert family.pool.peak == 1

    run_virtual(main())


@pytest.mark.parametrize("canceled_at", [0.5, 2])
def test_cancellation_while_it_waits_for_children_or_for_its_place(canceled_at: float) -> None:
    async def main() -> None:
        family = Family(1)
        parent = family.parent(children_take=1)
        await settle()
        family.child(5)
        await asyncio.sleep(canceled_at)
        family.pool.cancel(parent, "why")
        await settle()
        assert family.bench.reports == [("parent", Canceled("why"), canceled_at)], "at once, without a place"
        assert family.pool.active == 1
        await asyncio.sleep(10)
        assert family.pool.active == 0
        assert family.pool.peak == 1
        family.pool.spawn(family.bench.request())

    run_virtual(main())


def test_a_parent_that_gives_up_coming_back_makes_room_for_new_tasks() -> None:
    async def main() -> None:
        family = Family(2, resources={"gpu": 1})
        parent = family.parent(children_take=1, resources=(("gpu", 1),))
        await settle()
        family.child(5, resources=(("gpu", 1),))
        await asyncio.sleep(2)  # the parent waits for the gpu; one place is kept for it
        with pytest.raises(ConcurrencyLimit, match="kept for sub-agents that come back"):
            family.pool.spawn(family.bench.request())
        woken: list[float] = []
        family.pool.wake_when_free("run", lambda: woken.append(now()))
        family.pool.cancel(parent)
        await settle()
        assert woken == [2]
        family.pool.spawn(family.bench.request())

    run_virtual(main())


def test_a_timeout_of_its_own_around_the_wait_does_not_cost_it_its_place() -> None:
    async def main() -> None:
        bench = Bench(1)

        async def work(sub_agent: SubAgent) -> int:
            try:
                async with asyncio.timeout(1), sub_agent.place_given_back():
                    await forever(sub_agent)
            except TimeoutError:
                return bench.pool.active
            return -1

        bench.start(work)
        await asyncio.sleep(2)
        assert bench.reports == [("t", Completed(1), 1)]
        assert bench.pool.active == 0

    run_virtual(main())


def test_children_that_are_waited_for_together() -> None:
    async def main() -> None:
        bench = Bench(1)
        active: list[int] = []

        async def wait(sub_agent: SubAgent, seconds: float) -> None:
            async with sub_agent.place_given_back():
                await asyncio.sleep(seconds)

        async def work(sub_agent: SubAgent) -> None:
            for _ in range(2):
                await asyncio.gather(*(wait(sub_agent, seconds) for seconds in (1, 2, 3)))
                active.append(bench.pool.active)

        bench.start(work)
        await settle()
        assert bench.pool.active == 0
        await asyncio.sleep(2.5)
        assert bench.pool.active == 0, "one of them still waits"
        await asyncio.sleep(10)
        assert active == [1, 1]
        assert bench.pool.active == 0

    run_virtual(main())


def test_an_error_of_the_children_reaches_the_parent_in_its_place() -> None:
    async def main() -> None:
        bench = Bench(1)

        async def work(sub_agent: SubAgent) -> None:
            async with sub_agent.place_given_back():
                raise ValueError("a child failed")

        bench.start(work)
        await settle()
        assert bench.reports == [("t", Failed("ValueError: a child failed"), 0)]
        assert bench.pool.active == 0

    run_virtual(main())


def test_a_parent_given_up_comes_back_for_nothing() -> None:
    async def main() -> None:
        bench = Bench(1, grace=1)

        async def work(sub_agent: SubAgent) -> None:
            async with sub_agent.place_given_back():
                for _ in range(3):
                    try:
                        await asyncio.sleep(100)
                    except asyncio.CancelledError:
                        continue

        handle = bench.start(work)
        await settle()
        bench.pool.cancel(handle)
        await asyncio.sleep(500)
        assert len(bench.reports) == 1
        assert bench.pool.active == 0

    run_virtual(main())


def test_a_reserved_place_is_not_taken_by_a_parent_that_comes_back() -> None:
    async def main() -> None:
        family = Family(2)
        with family.pool.reserve_slots(1):
            family.parent(children_take=1)
            await settle()
            family.child(5)
            await asyncio.sleep(3)
            assert family.back == []
            planner = family.pool.spawn(family.bench.request("planner", reserved=True))
            family.pool.release(planner)
            await asyncio.sleep(3)
            assert family.back == [("parent", 5)]

    run_virtual(main())


def test_the_whole_run_is_canceled_while_a_parent_is_away() -> None:
    async def main() -> None:
        pool = CountingPool(1)

        async def parent(sub_agent: SubAgent) -> None:
            async with sub_agent.place_given_back():
                inner = Ride([TaskSpec("child", estimate=100)], pool=pool, run_id="inner")
                await inner.go()

        ride = Ride([TaskSpec("parent")], parent, pool=pool)
        going = ride.begin()
        await asyncio.sleep(10)
        assert pool.active == 1
        assert await ride.steer("cancel") is None
        assert await going == "canceled"
        assert (now(), pool.active) == (10, 0)

    run_virtual(main())
