"""The life of one simulated run: processes that drive it one after the other, people, and what goes wrong."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Collection
from random import Random
from typing import Any

from tests.simulation.doors import SimPool, StoreFile, door, simulated
from tests.simulation.fixed import Fixed
from tests.simulation.growing import growing_session
from tests.simulation.oracle import judge
from tests.simulation.plans import random_plan
from tests.simulation.processes import Crashed, ProcessLoop, State
from tests.simulation.world import Driver, Faults, Summary, World

from allready.core.states import RUN_ENDED, RunState
from allready.engine import session as session_module
from allready.engine.start import new_session, resume_session
from allready.engine.steer import steer
from allready.errors import AllreadyError, LeaseLost, RunOwned, StoreError, StoreUnavailable, UserError

CALM_AFTER = 400.0
"""Virtual seconds after which nothing goes wrong any more."""
WILD_PROCESSES = 25
"""Processes after which nothing goes wrong any more."""
MOST_PROCESSES = 80
"""A run that needs more than these has no end."""
LONGEST_CALM = 3_000.0
"""Virtual seconds that one process may need when nothing goes wrong."""
LONGEST_NOTICE = 800.0
"""Virtual seconds within which a process notices that it lost the run: longer than it waits for a store."""
AFTERWARDS = 200.0
"""Virtual seconds for what could not be stopped to come to its end."""
ROUNDS_AT_ONCE = 40
SHORTEST_BACKOFF = 0.2
"""Seconds. A scheduler ticks for what happens to it, and when a backoff is over: more would be spinning."""
COMMANDS = ("pause", "resume", "retry", "skip", "approve", "abort", "retry", "skip", "cancel")
OUTSIDE = ("kill", "suspend", "cut_off", "outage", "storm", "interrupt", "cancel", "people")
SLOW = ((0.0,), (0.0, 0.0, 0.01), (0.0, 0.05, 1.0), (0.0, 0.0, 0.2, 4.0, 13.0))


def random_faults(random: Random) -> Faults:
    """Choose what goes wrong in a run: some things often, some never."""

    def share(*choices: float) -> float:
        return random.choice([0.0, 0.0, *choices])

    return Faults(
        crash_within=random.choice([None, 40, 120, 300]),
        crashes=random.choice([1, 2, 4, 12]),
        busy=share(0.02, 0.2),
        away=share(0.01, 0.1),
        answer_lost=share(0.02, 0.2),
        broken=share(0.005),
        slow=random.choice(SLOW),
        refusals=share(0.05, 0.3),
        spawn_errors=share(0.03),
        bad_work=share(0.1, 0.3, 0.6),
        stubborn=share(0.1),
        outside=random.sample(OUTSIDE, random.choice([0, 1, 2, 4, len(OUTSIDE)])),
        skew=random.choice([0.0, 0.0, 0.0, 5.0, 100.0]),
        same_host=random.random() < 0.7,
    )


class Life:
    """Plays one world from the first process to the end of the run."""

    def __init__(self, world: World, file: StoreFile) -> None:
        self.world = world
        self.file = file
        self.random = world.random
        self.older: list[Driver] = []
        """Processes that may still believe that they own the run."""
        self.retried = 0
        self.orderly = world.script is not None
        """Whether people do nothing but what the script says, and what they are asked for."""

    async def play(self) -> None:
        world = self.world
        while True:
            world.calm |= world.now > CALM_AFTER or len(world.drivers) > WILD_PROCESSES
            if len(world.drivers) > MOST_PROCESSES:
                world.problem("there is no end")
                break
            process = self.holder() or self.new_driver()
            troubles = asyncio.create_task(self.trouble(process))
            await self.until_over(process)
            troubles.cancel()
            if process.over.is_set():
                world.log(f"{process.name} is over: {process.end}")
            else:
                self.older.append(process)
            if self.finished():
                await self.wait_for_older()
                if world.status in RUN_ENDED:  # a wish may have been on its way to one of them
                    break
            await self.between()
        await self.wait_for_older()
        await asyncio.sleep(AFTERWARDS)

    # --- processes ------------------------------------------------------------------------------------

    def holder(self) -> Driver | None:
        """Give a process that was to be replaced, and kept the run."""
        last = self.world.drivers[-1] if self.world.drivers else None
        holder = self.world.holder
        if last is None or last.end != "refused" or holder not in self.older or holder.over.is_set():
            return None
        self.older.remove(holder)
        self.world.rival_wanted.clear()
        return holder

    def new_driver(self) -> Driver:
        world = self.world
        process = Driver(world, f"p{len(world.processes) + 1}", "driver")
        world.processes.append(process)
        world.rival_wanted.clear()
        if world.run_id is not None:
            session_module.driven_here.discard(world.run_id)  # that is another process's knowledge
            world.count("resumes")
        process.main = process.start(self.main(process))
        return process

    async def main(self, process: Driver) -> None:
        """Do what the program's own `run` and `resume` do, and say how it ended."""
        end, problem = await self.ending(process)
        if process.alive:
            process.end = end
            if problem is not None:
                self.world.problem(f"{process.name} ends with {type(problem).__name__}: {problem}")
            self.world.count(f"processes: {process.end}")
            self.check_effort(process)
            process.over_at = self.world.now
            process.over.set()

    async def ending(self, process: Driver) -> tuple[str, Exception | None]:
        try:
            return await self.drive(process), None
        except LeaseLost:
            return "lease lost", None
        except StoreError as error:
            silent = isinstance(error, StoreUnavailable)  # or slow, when all was to stop at once
            simulated = "simulated: " in str(error) or silent or not process.alive
            return "store error", None if simulated else error
        except (RunOwned, UserError) as error:
            if process.alive:
                self.world.log(f"{process.name} is refused: {self.world.hide(str(error))[:60]}")
            return "refused", None
        except asyncio.CancelledError:
            return "canceled", None
        except Exception as error:
            return "error", error

    async def drive(self, process: Driver) -> str:
        world = self.world
        store = door(world, self.file, process)
        pool = SimPool(world, process, world.plan.max_parallel or 5, resources={}, grace=5.0)
        if world.grows:
            session = growing_session(world, world.grows, store, pool)
        elif world.run_id is None:
            session = new_session(world.plan, store=store, pool=pool, agents={}, seed=world.seed & 0xFFFFFFFF)
        else:
            session = resume_session(store, world.run_id, pool=pool)
        process.session = session
        session.on_store = lambda reason: world.count("waits for the store" if reason else "store is back")
        session.scheduler.validate = True
        session.observe(process.hear)
        await session.drive(wait_for_person=not self.orderly and self.random.random() < 0.3)
        return "finished"

    def check_effort(self, process: Driver) -> None:
        """Nobody may spin: each tick has a reason."""
        if process.session is None:
            return
        numbers = process.session.scheduler.statistics
        reasons = numbers.events + numbers.spawns + len(self.world.wishes) + len(process.told)
        offers_again = self.world.now / SHORTEST_BACKOFF
        if numbers.ticks > ROUNDS_AT_ONCE + 4 * reasons + offers_again:
            self.world.problem(f"{process.name} made {numbers.ticks} ticks")

    async def until_over(self, process: Driver) -> None:
        """Wait until the process has ended, or another one is to take the run from it."""
        waiting = {asyncio.create_task(event.wait()) for event in (process.over, self.world.rival_wanted)}
        limit = LONGEST_CALM
        while not process.over.is_set() and not self.world.rival_wanted.is_set():
            done, _ = await asyncio.wait(waiting, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if not done and (self.world.calm or self.orderly):
                self.world.problem(f"{process.name} drives the run without an end")
                process.go_on()
                self.world.kill(process, "it has no end")
                break
        for task in waiting:
            task.cancel()

    async def wait_for_older(self) -> None:
        """Wait until those have noticed who lost the run; its owner may go on, if somebody wished that."""
        world = self.world
        limit = world.now + LONGEST_NOTICE
        while lost := [
            process
            for process in self.older
            if not process.over.is_set() and (world.holder is not process or world.status in RUN_ENDED)
        ]:
            await asyncio.sleep(5)
            if world.now > limit:
                world.problem(f"{lost[0].name} lost the run and goes on")
                return

    # --- between processes ----------------------------------------------------------------------------

    def finished(self) -> bool:
        """Say whether the run has ended, and nobody wants more of it."""
        if self.world.status not in RUN_ENDED:
            return False
        completed = self.world.status == RunState.COMPLETED
        if completed or self.orderly or self.retried >= 2 or self.random.random() < 0.5:
            return True
        self.retried += 1
        self.person("retry")
        return self.world.status in RUN_ENDED

    async def between(self) -> None:
        world = self.world
        if self.orderly:
            await asyncio.sleep(0.1)
            self.decide()
            return
        in_vain = world.drivers[-1].end in {"refused", "store error"}
        pauses = [15] if world.calm else [1, 3, 15] if in_vain else [0, 0, 0.1, 3, 15]
        await asyncio.sleep(self.random.choice(pauses))
        if world.calm or self.random.random() < 0.7:
            self.decide()
        elif self.random.random() < 0.3:
            self.anything()

    def decide(self) -> None:
        """Have a person answer what the run waits for."""
        world = self.world
        for name in list(world.asking):
            kind = (
                "retry"
                if world.calm or self.orderly
                else self.random.choice(["retry", "retry", "skip", "abort"])
            )
            self.person(kind, name)
        for name in list(world.unapproved):
            agrees = world.calm or self.orderly
            self.person("approve" if agrees else self.random.choice(["approve", "skip"]), name)

    def anything(self) -> None:
        """Have a person wish something, perhaps twice."""
        kind = self.random.choice(COMMANDS)
        if kind == "cancel" and self.random.random() < 0.7:
            kind = "resume"
        task = self.random.choice([*self.world.names, None])
        for _ in range(self.random.choice([1, 1, 2])):
            self.person(kind, task if kind in {"retry", "skip", "approve", "abort"} else None)

    def person(self, kind: str, task: str | None = None) -> str:
        """Have a person's process steer the run, as the command line does; gives what became of it."""
        world = self.world
        if world.run_id is None:
            return "nothing"
        process = Driver(world, f"person{len(world.processes) + 1}", "person")
        world.processes.append(process)
        world.count("commands")
        store = door(world, self.file, process)

        def say() -> str:
            try:
                steered = steer(store, str(world.run_id), kind, task, wait=0)
            except Crashed:
                return "crashed"
            except AllreadyError as error:
                return f"{type(error).__name__}: {world.hide(str(error))[:60]}"
            return "done" if steered.done else world.hide(steered.refused or "waits")[:60]

        said = process.context.run(say)
        process.end = process.end or "finished"
        process.over.set()
        world.log(f"{process.name}: {kind} {task or ''}: {said}")
        return said

    # --- while a process drives the run -----------------------------------------------------------------

    async def trouble(self, process: Driver) -> None:
        """Do to a process what the world does."""
        world, random = self.world, self.random
        while self.orderly:
            await self.visit(process)
        while True:
            if world.calm or world.now > CALM_AFTER:
                world.calm = True
                await asyncio.sleep(5)
                self.help(process)
                continue
            await asyncio.sleep(random.choice([0, 0.05, 0.5, 2, 7, 20]))
            if process.state is not State.ALIVE or not world.faults.outside:
                continue
            match random.choice([*world.faults.outside, "decide"]):
                case "kill" if random.random() < 0.5 and world.counts["crashes"] < world.faults.crashes:
                    world.kill(process, "killed from outside")
                case "suspend":
                    await self.suspend(process)
                case "cut_off":
                    process.away_until = world.now + random.choice([1, 9, 11, 40])
                    world.count("cut off")
                    world.log(f"{process.name} is cut off from the store until {process.away_until:.3f}")
                    self.perhaps_a_rival()
                case "outage":
                    world.away_until = world.now + random.choice([0.3, 3, 9, 11, 60])
                    world.count("outages")
                    world.log(f"the store is away until {world.away_until:.3f}")
                case "storm":
                    world.storm_until = world.now + random.choice([1, 10, 30])
                    world.count("storms")
                case "interrupt" if process.session is not None:
                    world.count("interrupts")
                    process.soon(process.session.interrupt)
                case "cancel" if process.main is not None and random.random() < 0.5:
                    world.count("cancellations")
                    process.soon(process.main.cancel)
                case "people":
                    self.anything()
                case "decide":
                    self.decide()

    async def visit(self, process: Driver) -> None:
        """Wait until people have something to say; when they have said all, they help where they have to."""
        world = self.world
        if world.visited == len(world.visits):
            await asyncio.sleep(5)
            self.help(process)
            return
        at, kind, task = world.visits[world.visited]
        await asyncio.sleep(max(0.0, at - world.now))
        world.visited += 1
        while self.person(kind, task) == "crashed":
            pass  # who does not know whether it was heard says it again

    async def suspend(self, process: Driver) -> None:
        world, random = self.world, self.random
        seconds = random.choice([1, 9, 11, 40])
        world.count("suspensions")
        world.log(f"{process.name} is suspended for {seconds} s")
        process.suspend()
        asyncio.get_running_loop().call_later(seconds, process.go_on)
        if seconds > 10:
            await asyncio.sleep(random.choice([0, 5, 11]))
            self.perhaps_a_rival()

    def perhaps_a_rival(self) -> None:
        if self.random.random() < 0.7:
            self.world.rival_wanted.set()

    def help(self, process: Driver) -> None:
        """Bring a run to its end: nobody waits for a person who has gone."""
        process.go_on()
        self.decide()
        if self.world.status == RunState.PAUSED and not process.over.is_set():
            self.person("resume")


def play(
    seed: int,
    file: StoreFile,
    fixed: Fixed | None = None,
    crash_at: Collection[int] = (),
) -> Summary:
    """Play a whole run and judge it. The same arguments give the same run.

    Plan and faults are drawn from the seed; or the plan is a fixed one, and nothing goes wrong but crashes at
    the given points.
    """
    choosing = Random(f"{seed}")
    plan = fixed.make() if fixed is not None else random_plan(choosing)
    faults = Faults() if fixed is not None else random_faults(choosing)

    async def main() -> Summary:
        loop = asyncio.get_running_loop()
        world = World(seed, file.store, faults, crash_at=crash_at)
        loop.set_exception_handler(lambda _, context: _unhandled(world, context))
        world.plan = plan
        if fixed is not None:
            world.script, world.visits, world.grows = fixed.script, fixed.visits, fixed.grows
        world.log(f"{faults}")
        try:
            await Life(world, file).play()
            status = judge(world) if world.run_id is not None else "not begun"
            if fixed is not None and world.run_id is not None:
                compare(world, status, fixed)
        finally:
            for process in world.processes:
                if process.alive and not process.over.is_set():
                    process.kill()
                    process.bury()
            if world.run_id is not None:
                session_module.driven_here.discard(world.run_id)
        digest = hashlib.sha256("\n".join(world.lines).encode()).hexdigest()[:16]
        file.clear(world.run_id)
        counts = world.counts
        counts["attempts"] += len(world.started)
        counts["completed tasks"] += len(world.completed)
        return Summary(
            seed, status, world.problems, world.lines, digest, len(world.points), counts, world.points
        )

    with simulated(), asyncio.Runner(loop_factory=ProcessLoop) as runner:
        return runner.run(main())


def play_fixed(fixed: Fixed, file: StoreFile, crash_at: Collection[int]) -> Summary:
    """Play the run of a fixed plan, which crashes at these points."""
    return play(0, file, fixed, crash_at)


def compare(world: World, status: str, fixed: Fixed) -> None:
    """See that a fixed plan came to the end that it has when nothing crashes."""
    if status != fixed.status:
        world.problem(f"the run is {status}, not {fixed.status}")
    for task in world.store.tasks(str(world.run_id)):
        if not fixed.undecided and task.state != fixed.states.get(task.id, "completed"):
            world.problem(f"{task.id} is {task.state}")


def _unhandled(world: World, context: dict[str, Any]) -> None:
    error = context.get("exception")
    nobody_left = isinstance(error, StoreError) and world.counts["crashes"]  # who waited for it is dead
    if not isinstance(error, Crashed) and not nobody_left:
        world.problem(f"nobody handled: {context.get('message')}: {error!r}")
