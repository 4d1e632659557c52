"""Runs of the real scheduler, pool and loop on the virtual clock, for the tests of pool and loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from allready.core.events import Outcome
from allready.core.graph import TaskGraph, TaskSpec
from allready.core.scheduler import DagScheduler
from allready.core.states import TaskState
from allready.engine.loop import Command, SchedulerLoop
from allready.errors import AllreadyError
from allready.pool.manager import SpawnRequest, SubAgent, SubAgentManager

Work = Callable[[SubAgent], Awaitable[Any]]


def now() -> float:
    """The virtual time."""
    return asyncio.get_running_loop().time()


class CountingPool(SubAgentManager):
    """A real pool that remembers whom it admitted and whom it refused."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.admitted: list[tuple[str, str]] = []
        """Run and task, in order."""
        self.refused: list[tuple[str, str]] = []

    def spawn(self, request: SpawnRequest) -> str:
        try:
            handle = super().spawn(request)
        except AllreadyError:
            self.refused.append((request.run, request.task))
            raise
        self.admitted.append((request.run, request.task))
        return handle


class Ride:
    """One run: made in a virtual event loop, driven with `await ride.go()`.

    `work` is called for each attempt; without one, a task sleeps for its `estimate` (0 if it has none).
    """

    def __init__(
        self,
        specs: Iterable[TaskSpec],
        work: Work | None = None,
        *,
        slots: int = 5,
        pool: SubAgentManager | None = None,
        run_id: str | None = None,
        scheduler: dict[str, Any] | None = None,
        is_open: bool = False,
        **options: Any,
    ) -> None:
        settings: dict[str, Any] = {"validate": True, **(scheduler or {})}
        self.scheduler = DagScheduler(TaskGraph(specs, open=is_open), **settings)
        self.pool = pool if pool is not None else CountingPool(slots)
        self.started: list[tuple[str, float]] = []
        """Task and time, for each attempt whose work began."""
        self.ended: dict[str, float] = {}
        """Task → when the work of its last attempt ended, however."""
        self.outcomes: list[tuple[str, str, Outcome]] = []
        self._do = work or self._sleep
        self.loop = SchedulerLoop(
            self.scheduler,
            self.pool,
            self._work,
            run_id=run_id,
            clock=asyncio.get_running_loop().time,
            on_outcome=lambda *outcome: self.outcomes.append(outcome),
            **options,
        )

    async def _work(self, sub_agent: SubAgent) -> Any:
        task = sub_agent.request.task
        self.started.append((task, now()))
        try:
            return await self._do(sub_agent)
        finally:
            self.ended[task] = now()

    async def _sleep(self, sub_agent: SubAgent) -> None:
        await asyncio.sleep(self.scheduler.graph[sub_agent.request.task].spec.estimate or 0)

    async def go(self) -> str:
        """Drive the run to its end; gives its status."""
        return (await self.loop.run()).value

    def begin(self) -> asyncio.Task[str]:
        """Drive it in the background."""
        return asyncio.create_task(self.go())

    def steer(self, kind: str, task: str | None = None) -> asyncio.Future[str | None]:
        """Send a command; the future gives the answer."""
        answer: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self.loop.steer(Command(kind, task, answer.set_result))
        return answer

    @property
    def states(self) -> dict[str, str]:
        """Task → state."""
        return {node.id: node.state.value for node in self.scheduler.graph}

    def count(self, state: TaskState) -> int:
        return self.scheduler.graph.counts[state]

    @property
    def order(self) -> list[str]:
        """The tasks in the order in which their work began."""
        return [task for task, _ in self.started]


def tasks(count: int, prefix: str = "t", **settings: Any) -> list[TaskSpec]:
    """Tasks `t0`, `t1`, … that depend on nothing."""
    return [TaskSpec(f"{prefix}{number}", **settings) for number in range(count)]


async def until(condition: Callable[[], bool], within: float = 1000.0) -> None:
    """Let the loop go on, in virtual steps of a millisecond at most, until it is so."""
    limit = now() + within
    while not condition():
        assert now() < limit, "it did not come to pass"
        await asyncio.sleep(0.001)


async def settle() -> None:
    """Let everything happen that can happen without time passing."""
    for _ in range(50):
        await asyncio.sleep(0)
