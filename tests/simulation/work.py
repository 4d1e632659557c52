"""What the tasks of simulated plans do: one function that behaves as the seed says, and writes the ledger."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass, replace
from random import Random

from tests.simulation.doors import here
from tests.simulation.world import Attempt, World

from allready.errors import FatalError, LostError, PermanentError, TaskError, TransientError
from allready.pool.manager import SubAgent

SUB_AGENT: ContextVar[SubAgent] = ContextVar("simulated attempt")
LONG = 70_000
"""Characters: more than a row of the store holds."""
ENDS = (
    "failed",
    "failed",
    "value error",
    "permanent",
    "429",
    "429",
    "429",
    "lost",
    "lost",
    "cancels itself",
    "exit",
)


@dataclass
class Behaviour:
    seconds: float = 0.0
    end: str = "ok"
    retry_after: float | None = None
    ignores: int = 0
    """Cancellations that it does not listen to."""
    gives_back: bool = False
    holds: float | None = None
    """Seconds for which its place is taken beyond its end."""
    long: bool = False


def behaviour_of(world: World, task: str, count: int) -> Behaviour:
    """Choose by seed, task and the number of the call, whatever else happened; or as the script says."""
    if world.script is not None:
        script = world.script.get(task, [Behaviour(0.5)])
        return replace(script[min(world.judged[task], len(script) - 1)])
    random = Random(f"{world.seed}/{task}/{count}")
    faults = world.faults
    chosen = Behaviour(random.choice([0, 0, 0, 0.1, 1, 1, 3, 8, 20]))
    timeout = world.plan.tasks[task].timeout
    if timeout and random.random() < 0.15:
        chosen.seconds = timeout  # it ends at the very instant of its timeout
    if random.random() < faults.bad_work:
        chosen.end = random.choice(ENDS) if random.random() > 0.01 else "fatal"
        chosen.retry_after = random.choice([None, None, 0, 2, 30])
    if random.random() < faults.stubborn:
        chosen.ignores = random.choice([1, 1, 5])
    chosen.gives_back = random.random() < 0.1
    if faults.stubborn and random.random() < 0.05:
        chosen.holds = random.choice([0, 1, 10])
    chosen.long = random.random() < 0.05
    return calmer(chosen) if world.calm else chosen


def calmer(chosen: Behaviour) -> Behaviour:
    return Behaviour(min(chosen.seconds, 0.5), long=chosen.long)


async def work(task: str, got: list[str | None] | None = None, needs: tuple[str, ...] = ()) -> str:
    """Do a task of a simulated plan. `got` is what the tasks `needs` gave."""
    process = here()
    world = process.world
    sub_agent = SUB_AGENT.get()
    attempt = world.begin(process, task, sub_agent.handle, sub_agent.request.number)
    for name, value in zip(needs, got or (), strict=True):
        check_input(world, attempt, name, value)
    world.point(process, "work begins")
    chosen = behaviour_of(world, task, attempt.count)
    try:
        await pass_time(world, sub_agent, chosen, attempt)
        world.point(process, "work ends")
        return finish(world, attempt, chosen)
    except asyncio.CancelledError as error:
        if attempt.how is None:
            world.end(attempt, "canceled", str(error))
        raise


def check_input(world: World, attempt: Attempt, name: str, value: str | None) -> None:
    given = [other.value for other in world.of_task.get(name, ()) if other.how == "ok"]
    if value is not None and value not in given:
        world.problem(f"{attempt.task} got from {name} what that never gave: {value[:40]!r}")
    _, known = world.launched[attempt.handle]
    if value is None and name in list(world.completed)[:known]:
        world.problem(f"{attempt.task} got nothing from {name}, which has completed")


async def pass_time(world: World, sub_agent: SubAgent, chosen: Behaviour, attempt: Attempt) -> None:
    end = world.now + chosen.seconds
    while world.now < end:
        try:
            if chosen.gives_back:
                chosen.gives_back = False
                attempt.away = True
                async with sub_agent.place_given_back():
                    await asyncio.sleep((end - world.now) / 2)
                attempt.away = sub_agent.cancel_reason is not None
            await asyncio.sleep(end - world.now)
        except asyncio.CancelledError:
            if not chosen.ignores:
                raise
            chosen.ignores -= 1


def finish(world: World, attempt: Attempt, chosen: Behaviour) -> str:
    text = f"{attempt.task} at call {attempt.count}"
    if chosen.holds is not None:
        SUB_AGENT.get().hold_place(asyncio.create_task(asyncio.sleep(chosen.holds)))
    end = "429" if world.now < world.storm_until and not world.calm else chosen.end
    match end:
        case "failed":
            world.end(attempt, "failed", text)
            raise TaskError(text)
        case "value error":
            world.end(attempt, "failed", f"ValueError: {text}")
            raise ValueError(text)
        case "exit":
            world.end(attempt, "failed", f"SystemExit: {text}")
            raise SystemExit(text)
        case "cancels itself":
            world.end(attempt, "failed", "the attempt canceled itself")
            raise asyncio.CancelledError
        case "permanent":
            world.end(attempt, "permanent", text)
            raise PermanentError(text)
        case "fatal":
            world.end(attempt, "fatal", text)
            raise FatalError(text)
        case "429":
            world.end(attempt, "deferred", text, after=chosen.retry_after)
            raise TransientError(text, chosen.retry_after)
        case "lost":
            world.end(attempt, "lost", text)
            raise LostError(text)
    value = text + "." * (LONG if chosen.long else 0)
    world.end(attempt, "ok", value=value)
    return value
