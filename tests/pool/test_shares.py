"""Who gets what when there is not enough: big demands beside small ones, and runs of different weight."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from tests.pool.driving import CountingPool, Ride, now, tasks, until

from allready import Plan, run
from allready.core.graph import TaskSpec
from allready.engine.loop import Command
from allready.pool.claims import PATIENCE
from allready.pool.manager import SubAgent
from allready.testing import run_virtual

GPU = (("gpu", 1),)
ALL_GPUS = (("gpu", 4),)


async def uneven(sub_agent: SubAgent) -> None:
    """Take a time that differs from task to task, so that hardly ever two end at once."""
    await asyncio.sleep(1 + (hash_of(sub_agent.request.task) % 97) / 97)


def hash_of(task: str) -> int:
    return sum(ord(letter) * 31**place for place, letter in enumerate(task))


def one_big_demand() -> tuple[CountingPool, Ride]:
    """Sixty tasks that want one of four units each, and go before `big`, which wants all four."""
    pool = CountingPool(10, resources={"gpu": 4})
    small = [TaskSpec(f"s{number}", resources=GPU, priority=1) for number in range(60)]
    ride = Ride([*small, TaskSpec("big", resources=ALL_GPUS)], uneven, pool=pool)
    ride.scheduler.learn(now())
    return pool, ride


def test_a_big_demand_is_not_starved_by_small_ones() -> None:
    async def main() -> None:
        pool, ride = one_big_demand()
        assert await ride.go() == "completed"
        before = ride.order.index("big")
        assert before <= 4 + 3 * PATIENCE, (
            "passed by so often, and by those that ran when its units were kept"
        )
        assert not pool._claims
        assert pool._claims.holder is None

    run_virtual(main())


def test_units_beyond_those_that_are_kept_are_given_to_others() -> None:
    async def main() -> None:
        pool = CountingPool(10, resources={"gpu": 4})
        small = [TaskSpec(f"s{number}", resources=GPU, estimate=1, priority=1) for number in range(40)]
        ride = Ride([*small, TaskSpec("two", resources=(("gpu", 2),), estimate=100)], pool=pool)
        ride.scheduler.learn(now())
        driven = ride.begin()
        await until(lambda: "two" in ride.order)
        await until(lambda: len(ride.ended) == 40)
        assert now() < 30, "the other two units were used all the time"
        await driven

    run_virtual(main())


def test_two_big_demands_for_different_resources_do_not_wait_for_each_other() -> None:
    async def main() -> None:
        pool = CountingPool(20, resources={"gpu": 4, "net": 4})
        net = (("net", 1),)
        small = [TaskSpec(f"s{number}", resources=GPU, estimate=1, priority=1) for number in range(40)]
        small += [TaskSpec(f"n{number}", resources=net, estimate=1, priority=1) for number in range(40)]
        big = [
            TaskSpec("a", resources=(("gpu", 4), ("net", 1)), estimate=1),
            TaskSpec("b", resources=(("gpu", 1), ("net", 4)), estimate=1),
        ]
        ride = Ride([*small, *big], pool=pool)
        ride.scheduler.learn(now())
        assert await ride.go() == "completed"
        assert now() < 20

    run_virtual(main())


def test_nothing_is_kept_for_a_task_that_does_not_want_it_any_more() -> None:
    async def main() -> None:
        pool, ride = one_big_demand()
        driven = ride.begin()
        await until(lambda: pool._claims.holder is not None)
        ride.loop.steer(Command("skip", "big"))
        assert await driven == "completed"
        assert len(ride.ended) == 60
        assert pool._claims.holder is None

    run_virtual(main())


def test_what_was_kept_for_a_run_that_left_is_free() -> None:
    async def main() -> None:
        pool = CountingPool(10, resources={"gpu": 4})
        small = Ride(
            [TaskSpec(f"s{number}", resources=GPU) for number in range(60)],
            uneven,
            pool=pool,
            run_id="small",
        )
        big = Ride([TaskSpec("big", resources=ALL_GPUS, estimate=1)], pool=pool, run_id="big")
        first = small.begin()
        await until(lambda: len(small.started) == 4)
        second = big.begin()
        await until(lambda: pool._claims.holder == ("big", "big"))
        big.loop.interrupt()
        assert await second == "paused"
        assert pool._claims.holder is None
        assert await first == "completed"

    run_virtual(main())


def test_a_refusal_for_what_is_kept_says_so() -> None:
    async def main() -> None:
        pool, ride = one_big_demand()
        driven = ride.begin()
        await until(lambda: pool._claims.holder is not None)
        waiting = next(f"s{number}" for number in range(60) if ride.states[f"s{number}"] == "ready")
        told = "gpu is kept for task big, which waits for 4"
        await until(lambda: told in ride.scheduler.why(waiting, now()).text)
        await driven

    run_virtual(main())


def test_a_small_run_beside_a_huge_one_waits_for_one_task_at_most() -> None:
    async def main() -> None:
        pool = CountingPool(4)
        huge = Ride(tasks(10_000, estimate=1), pool=pool, run_id="huge", scheduler={"validate": False})
        first = huge.begin()
        await until(lambda: len(huge.ended) >= 40)
        began = now()
        small = Ride(tasks(3, estimate=1), pool=pool, run_id="small")
        assert await small.go() == "completed"
        assert now() - began <= 3.01, "those under way end, then it has every second place"
        huge.loop.interrupt()
        await first

    run_virtual(main())


@pytest.mark.parametrize("weight", [1, 3])
def test_runs_that_wait_get_places_by_their_weight(weight: int) -> None:
    async def main() -> None:
        pool = CountingPool(2)
        pool.weigh("heavy", weight)
        rides = [Ride(tasks(400, estimate=1), pool=pool, run_id=run_id) for run_id in ("light", "heavy")]
        driven = [ride.begin() for ride in rides]
        await until(lambda: len(pool.admitted) >= 200)
        got = Counter(run_id for run_id, _ in pool.admitted[:200])
        assert got["heavy"] == pytest.approx(200 * weight / (weight + 1), abs=4)
        for ride in rides:
            ride.loop.interrupt()
        await asyncio.gather(*driven)
        assert pool._weights == {}

    run_virtual(main())


def test_a_run_that_did_not_wait_has_no_claim_to_more_later() -> None:
    async def main() -> None:
        pool = CountingPool(1)
        alone = Ride(tasks(200, estimate=1), pool=pool, run_id="alone")
        first = alone.begin()
        await until(lambda: len(alone.ended) >= 100)
        late = Ride(tasks(20, estimate=1), pool=pool, run_id="late")
        second = late.begin()
        mark = len(pool.admitted)
        await until(lambda: len(pool.admitted) >= mark + 20)
        got = Counter(run_id for run_id, _ in pool.admitted[mark:])
        assert abs(got["alone"] - got["late"]) <= 1
        await asyncio.gather(first, second)

    run_virtual(main())


def test_runs_that_come_and_go_do_not_starve_an_old_one() -> None:
    async def main() -> None:
        pool = CountingPool(4)
        old = Ride(tasks(2000, estimate=1), pool=pool, run_id="old", scheduler={"validate": False})
        first = old.begin()
        await until(lambda: len(old.ended) >= 8)
        mark, others = len(pool.admitted), []
        for number in range(200):  # about as many as there are places
            others.append(Ride(tasks(1, estimate=1), pool=pool, run_id=f"new{number}").begin())
            await asyncio.sleep(0.25)
        got = Counter("old" if run_id == "old" else "new" for run_id, _ in pool.admitted[mark:])
        assert got["old"] > 0.03 * got.total(), "a share as one of all that wait"
        await asyncio.gather(*others)
        old.loop.interrupt()
        await first

    run_virtual(main())


def test_nothing_is_kept_for_long_for_what_others_stand_before() -> None:
    async def main() -> None:
        pool = CountingPool(6, resources={"gpu": 4})
        small = [TaskSpec(f"s{number}", resources=GPU, priority=2) for number in range(200)]
        plain = [TaskSpec(f"p{number}", priority=1) for number in range(200)]
        ride = Ride([*small, TaskSpec("big", resources=ALL_GPUS), *plain], uneven, pool=pool)
        ride.scheduler.learn(now())
        assert await ride.go() == "completed"
        assert now() < 1.2 * sum(1.5 for _ in [*small, *plain]) / 6 + 20

    run_virtual(main())


@pytest.mark.parametrize("weight", [0, -1, float("inf"), float("nan")])
def test_a_weight_that_is_none_is_refused_before_anything_runs(weight: float) -> None:
    plan = Plan()
    with pytest.raises(ValueError, match="weight is a number above 0"):
        asyncio.run(run(plan, weight=weight))
    with pytest.raises(ValueError, match="weight is a number above 0"):
        CountingPool(1).weigh("run", weight)
