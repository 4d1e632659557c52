"""Hundreds of hostile runs on the virtual clock: each attempt ends once, and nothing is left behind.

Failures, refusals, timeouts, work that ignores cancellation, pauses, cancellations, interrupts, growth: drawn
from a seed, with all invariants of the scheduler checked after each step.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import pytest
from tests.pool.driving import CountingPool, Ride, now

from allready.core.events import Outcome
from allready.core.graph import TaskSpec
from allready.core.states import RUN_ENDED, FailureStrategy, RunIf
from allready.errors import ConcurrencyLimit, LostError, PermanentError, TaskError, TransientError
from allready.pool.manager import SpawnRequest, SubAgent
from allready.testing import run_virtual

RUNS = 400
STEPS = 6
"""Things that happen to a run from outside."""


class Moody(CountingPool):
    """Refuses now and then, fails to start now and then, and counts the ends of each attempt."""

    def __init__(self, rng: random.Random, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.rng = rng
        self.handles: set[str] = set()
        self.ends: Counter[str] = Counter()
        self.released: set[str] = set()

    def spawn(self, request: SpawnRequest) -> str:
        mood = self.rng.random()
        if mood < 0.05:
            raise ConcurrencyLimit("not in the mood", "agent:a", 1, 1)
        if mood < 0.07:
            raise OSError("no memory")

        def on_end(task: str, handle: str, outcome: Outcome) -> None:
            self.ends[handle] += 1
            request.on_end(task, handle, outcome)

        handle = super().spawn(request._replace(on_end=on_end))
        self.handles.add(handle)
        return handle

    def release(self, handle: str) -> None:
        super().release(handle)
        self.released.add(handle)


def make_spec(rng: random.Random, number: int, older: list[str]) -> TaskSpec:
    deps = tuple(rng.sample(older, min(len(older), rng.choice([0, 0, 1, 1, 2, 3]))))
    return TaskSpec(
        f"t{number}",
        deps,
        agent=rng.choice(["a", "b", None]),
        run_if=rng.choice(list(RunIf)),
        failure_strategy=rng.choice([*FailureStrategy, FailureStrategy.SKIP, FailureStrategy.SKIP]),
        max_retries=rng.choice([None, 0, 2]),
        timeout=rng.choice([None, 1, 5]),
        resources=rng.choice([(), (), (("gpu", 1),), (("gpu", 3),)]) if rng.random() < 0.3 else (),
        approval=rng.random() < 0.05,
        idempotent=rng.random() < 0.9,
        inline=rng.random() < 0.1,
        priority=rng.choice([0, 0, 1]),
    )


def make_work(rng: random.Random) -> Any:
    errors = [TaskError("no luck"), PermanentError("never"), TransientError("429", 2), LostError("gone")]
    errors += [ValueError("hm"), SystemExit(1), asyncio.CancelledError()]  # type: ignore[list-item]

    async def work(sub_agent: SubAgent) -> str:
        end = now() + rng.choice([0, 0, 0.1, 1, 3, 20])
        ignores = rng.choice([0, 0, 0, 1, 5])
        while now() < end:
            try:
                if rng.random() < 0.1:
                    async with sub_agent.place_given_back():
                        await asyncio.sleep(end - now())
                await asyncio.sleep(end - now())
            except asyncio.CancelledError:
                if not ignores:
                    raise
                ignores -= 1
        if rng.random() < 0.1:
            sub_agent.hold_place(asyncio.sleep(rng.choice([0, 1, 10])))
        if rng.random() < 0.3:
            raise rng.choice(errors)
        return "done"

    return work


async def disturb(ride: Ride, rng: random.Random, names: list[str], going: asyncio.Task[str]) -> None:
    """Do to the run what people do, at random moments."""
    for _ in range(STEPS):
        await asyncio.sleep(rng.choice([0, 0, 0.05, 0.5, 2, 7]))
        if going.done():
            return
        mood = rng.random()
        if mood < 0.75:
            kind = rng.choice(["pause", "resume", "retry", "skip", "approve", "abort", "retry"])
            ride.steer(kind, rng.choice([*names, None]))
        elif mood < 0.82 and ride.scheduler.graph.open:
            spec = make_spec(rng, len(names), names)
            ride.scheduler.add_tasks([spec], now())
            names.append(spec.id)
            ride.loop.wake()
        elif mood < 0.88:
            ride.steer("cancel")
        elif mood < 0.93:
            ride.loop.interrupt()
        elif mood < 0.97:
            going.cancel()
        else:
            ride.steer("resume")
    if ride.scheduler.graph.open:
        ride.scheduler.close(now())
        ride.loop.wake()


class SlowJournal:
    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    async def commit(self) -> None:
        await asyncio.sleep(self.rng.choice([0, 0, 0.01, 0.3]))

    def holds(self) -> bool:
        return True

    async def regain(self) -> None: ...

    def give_up(self, *, at_once: bool = False) -> None: ...


async def drive_to_the_end(ride: Ride, rng: random.Random, names: list[str]) -> None:
    """Drive it again and again, as resumed runs are, until it has ended."""
    scheduler = ride.scheduler
    for _ in range(30):
        going = ride.begin()
        disturbing = asyncio.create_task(disturb(ride, rng, names, going))
        resuming = asyncio.create_task(resume_now_and_then(ride))
        try:
            await going
        except asyncio.CancelledError:
            pass
        disturbing.cancel()
        resuming.cancel()
        await asyncio.gather(disturbing, resuming, return_exceptions=True)
        check_ends(ride)
        if scheduler.status in RUN_ENDED:
            return
        assert scheduler.status == "paused"
        assert scheduler.graph.active == 0
        for node in scheduler.graph:
            if node.asking or node.state == "awaiting_approval":
                scheduler.command(
                    rng.choice(["skip", "approve" if not node.asking else "retry"]), node.id, now()
                )
        if scheduler.status == "paused":
            scheduler.resume(now())
        if scheduler.graph.open and rng.random() < 0.5:
            scheduler.close(now())
    scheduler.graph.open = False
    scheduler.cancel_all(now())
    await ride.go()


async def resume_now_and_then(ride: Ride) -> None:
    """A paused run, or an open one, would wait for ever for the person who is gone."""
    while True:
        await asyncio.sleep(60)
        ride.steer("resume")
        if ride.scheduler.graph.open:
            ride.scheduler.close(now())
        ride.loop.wake()


def check_ends(ride: Ride) -> None:
    pools = [ride.pool, ride.loop.inline_pool]
    for pool in pools:
        assert isinstance(pool, Moody)
        assert set(pool.ends.values()) <= {1}, "no attempt ended twice"
        assert pool.handles == set(pool.ends) | pool.released, "each attempt ended, or was never begun"


@pytest.mark.parametrize("block", range(8))
def test_hostile_runs_end_with_one_end_for_each_attempt(block: int) -> None:
    statuses = Counter(run_virtual(hostile_run(seed)) for seed in range(block, RUNS, 8))
    assert statuses["completed"] + statuses["failed"] + statuses["canceled"] == RUNS // 8
    assert len(statuses) > 1


async def hostile_run(seed: int) -> str:
    rng = random.Random(seed)
    names: list[str] = []
    specs: list[TaskSpec] = []
    for number in range(rng.randint(1, 14)):
        specs.append(make_spec(rng, number, names))
        names.append(specs[-1].id)
    grace = rng.choice([0.5, 5])
    pool = Moody(rng, rng.randint(1, 4), resources={"gpu": 2}, agent_limits={"b": 1}, grace=grace)
    ride = Ride(
        specs,
        make_work(rng),
        pool=pool,
        inline_pool=Moody(rng, 2, grace=grace, scope="inline"),
        is_open=rng.random() < 0.3,
        scheduler={"seed": seed, "timeout": rng.choice([None, None, 60])},
        journal=SlowJournal(rng) if rng.random() < 0.5 else None,
    )
    await drive_to_the_end(ride, rng, names)
    ride.scheduler.validate_state()
    await asyncio.sleep(200)  # what could not be stopped, and what holds a place, comes to its end
    check_ends(ride)
    for each in (pool, ride.loop.inline_pool):
        assert (each.active, each._active_reserved, each._promised) == (0, 0, 0)
        assert not each._sub_agents
        assert not each._returning
        assert not each._waiting
        assert not any(each._used.values())
        assert not any(each._of_agent.values())
    assert ride.scheduler.statistics.ticks < 3000
    assert ride.scheduler.graph.unended == 0
    return ride.scheduler.status.value
