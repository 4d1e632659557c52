"""`SubAgentManager`: admits or refuses sub-agents, runs them in this process, and tells how each ended.

Two steps start a sub-agent, so that nothing has an effect before its record is safe: `spawn()` takes the
place and names the attempt, or refuses; `launch()` begins it, or `release()` gives the place back.

Each attempt ends in exactly one report through `on_end`, whatever became of it. Its place comes back when
what held it has really ended: usually before that report (so that the tick which follows finds it free), but
for a thread that ignores its cancellation only when the thread is gone.

A pool belongs to one process and one event loop; nothing here is safe to call from other threads.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NamedTuple

from uuid_utils import uuid7

from allready.core.events import Canceled, Completed, Deferred, Failed, Lost, Outcome
from allready.errors import BugError, ConcurrencyLimit, LostError, PermanentError, TaskError, TransientError

DEFAULT_SLOTS = 5
"""Places of a pool unless the user says otherwise."""
GRACE = 5.0
"""Seconds between asking a sub-agent to stop and forcing it."""
AFTER_FORCE = 1.0
"""Seconds a forced sub-agent has to unwind before its attempt is declared ended without it."""


class SpawnRequest(NamedTuple):
    """What the driver asks a place for."""

    run: str
    task: str
    start: Callable[[SubAgent], Awaitable[Any]]
    """Called at the launch, not before: makes the prompt and the context, and does the work."""
    on_end: Callable[[str, str, Outcome], None]
    """Told task, handle and outcome, once."""
    agent: str | None = None
    provider: str | None = None
    resources: tuple[tuple[str, int], ...] = ()
    number: int = 1
    reserved: bool = False
    """May use places kept by `reserve_slots`."""


class SubAgent:
    """One live attempt. Its work may use `hold_place` and `place_given_back`."""

    __slots__ = ("_force_timer", "_holds", "_manager", "_task", "cancel_reason", "ended", "handle", "request")

    def __init__(self, manager: SubAgentManager, handle: str, request: SpawnRequest) -> None:
        self.handle = handle
        self.request = request
        self.cancel_reason: str | None = None
        """Why it was asked to stop; None if it was not."""
        self.ended = False
        """Whether its end was reported."""
        self._manager = manager
        self._task: asyncio.Task[None] | None = None
        self._holds: list[Awaitable[Any]] | None = None
        self._force_timer: asyncio.TimerHandle | None = None

    @property
    def grace(self) -> float:
        """Seconds between asking it to stop and forcing it."""
        return self._manager.grace

    @property
    def pool(self) -> SubAgentManager:
        """The pool it lives in."""
        return self._manager

    def hold_place(self, until: Awaitable[Any]) -> None:
        """Keep the place taken, beyond the end of the attempt, until this is done (a thread, say)."""
        if self._holds is None:
            self._holds = []
        self._holds.append(until)

    @asynccontextmanager
    async def place_given_back(self) -> AsyncGenerator[None]:
        """Give the place back while waiting for sub-tasks; at the end take one again, before any new task."""
        self._manager._give_place_back(self)
        try:
            yield
        finally:
            await self._manager._take_place_again(self)


class SubAgentManager:
    """A pool of `max_concurrent` places, with named resources and limits per agent.

    `resources` and `agent_limits` map names to the number of units there are. `scope` is the name under
    which the pool itself refuses.
    """

    def __init__(
        self,
        max_concurrent: int = DEFAULT_SLOTS,
        *,
        resources: Mapping[str, int] | None = None,
        agent_limits: Mapping[str, int] | None = None,
        grace: float = GRACE,
        scope: str = "pool",
    ) -> None:
        if max_concurrent < 1:
            raise ValueError(f"a pool needs at least one place, not {max_concurrent}")
        self.max_concurrent = max_concurrent
        self.resources = dict(resources or {})
        self.agent_limits = dict(agent_limits or {})
        self.grace = grace
        self.scope = scope
        self.active = 0
        """Places taken."""
        self.reserved = 0
        """Places kept for requests with `reserved`."""
        self.peak = 0
        """Most places ever taken at once."""
        self._used: dict[str, int] = {}
        """Resource → units in use."""
        self._of_agent: dict[str, int] = {}
        """Limited agent → its sub-agents."""
        self._sub_agents: dict[str, SubAgent] = {}
        self._waiting: dict[str, Callable[[], None]] = {}
        """Run → how to wake it; in turn."""
        self._returning: deque[asyncio.Future[None]] = deque()
        """Sub-agents that gave their place back and want one again: before anything new."""
        self._name = uuid7().hex[-12:]
        self._count = 0

    # --- admission ------------------------------------------------------------------------------------

    def spawn(self, request: SpawnRequest) -> str:
        """Take a place and name the attempt; nothing runs yet. Never waits.

        Raises `ConcurrencyLimit` if there is no place for now, and `PermanentError` if the request asks for
        more than the pool has at all.
        """
        self._check(request)
        self._count += 1
        handle = f"{self._name}-{self._count:x}"
        self._sub_agents[handle] = SubAgent(self, handle, request)
        self._take(request)
        return handle

    def _check(self, request: SpawnRequest) -> None:
        places = self.max_concurrent if request.reserved else self.max_concurrent - self.reserved
        for name, demand in request.resources:
            if demand > self.resources.get(name, 0):
                raise PermanentError(
                    f"task {request.task!r} asks for {demand} of resource {name!r}, "
                    f"but the pool has {self.resources.get(name, 0)} in all"
                )
        if self.active >= places or self._returning:
            raise ConcurrencyLimit(f"the {self.scope} is full", self.scope, self.active, self.max_concurrent)
        for name, demand in request.resources:
            used, most = self._used.get(name, 0), self.resources[name]
            if used + demand > most:
                raise ConcurrencyLimit(f"resource {name} is in use", f"resource:{name}", used, most)
        agent = request.agent
        if agent is not None and agent in self.agent_limits:
            busy, most = self._of_agent.get(agent, 0), self.agent_limits[agent]
            if busy >= most:
                raise ConcurrencyLimit(f"agent {agent} is busy", f"agent:{agent}", busy, most)

    def _take(self, request: SpawnRequest) -> None:
        self.active += 1
        self.peak = max(self.peak, self.active)
        for name, demand in request.resources:
            self._used[name] = self._used.get(name, 0) + demand
        if request.agent in self.agent_limits:
            self._of_agent[request.agent] = self._of_agent.get(request.agent, 0) + 1

    def _free(self, request: SpawnRequest) -> None:
        self.active -= 1
        for name, demand in request.resources:
            self._used[name] -= demand
        if request.agent in self.agent_limits:
            self._of_agent[request.agent] -= 1
        while self._returning:
            waiter = self._returning.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._wake_next()

    @contextmanager
    def reserve_slots(self, count: int) -> Generator[None]:
        """Keep `count` places for requests with `reserved`, so that ordinary tasks can't starve those."""
        if not 0 < count < self.max_concurrent - self.reserved:
            raise ValueError(
                f"can't reserve {count} of {self.max_concurrent} places ({self.reserved} reserved)"
            )
        self.reserved += count
        try:
            yield
        finally:
            self.reserved -= count
            self._wake_next()

    # --- freed places ---------------------------------------------------------------------------------

    @property
    def free(self) -> int:
        """How many places an ordinary request could take now."""
        return 0 if self._returning else max(0, self.max_concurrent - self.reserved - self.active)

    def wake_when_free(self, run: str, wake: Callable[[], None]) -> None:
        """Call `wake` once when it is this run's turn to have a freed place.

        Runs are woken in turn, one for each place. A run that was woken calls `turn_over` after its tick.
        """
        self._waiting[run] = wake

    def turn_over(self, run: str) -> None:
        """Say that a run has taken what it wants: if places are still free, the next one is woken."""
        if self._waiting and self.free > 0 and not (len(self._waiting) == 1 and run in self._waiting):
            self._wake_next()

    def leave(self, run: str) -> None:
        """Say that a run does not wait for places any more."""
        if self._waiting.pop(run, None) is not None and self.free > 0:
            self._wake_next()

    def _wake_next(self) -> None:
        if self._waiting:
            run = next(iter(self._waiting))
            self._waiting.pop(run)()

    # --- running --------------------------------------------------------------------------------------

    def launch(self, handle: str) -> None:
        """Begin an admitted attempt. Needs a running event loop."""
        sub_agent = self._sub_agents[handle]
        if sub_agent._task is not None:
            raise BugError(f"attempt {handle} was launched twice")
        sub_agent._task = asyncio.get_running_loop().create_task(self._run(sub_agent))

    def release(self, handle: str) -> None:
        """Give back the place of an attempt that was admitted and will not be launched. It has no report."""
        sub_agent = self._sub_agents[handle]
        if sub_agent._task is not None:
            raise BugError(f"attempt {handle} is under way and can't be released")
        del self._sub_agents[handle]
        self._free(sub_agent.request)

    async def _run(self, sub_agent: SubAgent) -> None:
        outcome: Outcome
        try:
            outcome = Completed(await sub_agent.request.start(sub_agent))
        except asyncio.CancelledError:
            reason = sub_agent.cancel_reason
            outcome = Failed("the attempt canceled itself") if reason is None else Canceled(reason)
        except BaseException as error:
            outcome = outcome_of(error)
        del self._sub_agents[sub_agent.handle]
        if sub_agent._force_timer is not None:
            sub_agent._force_timer.cancel()
        if sub_agent._holds is None:
            self._free(sub_agent.request)
            self._report(sub_agent, outcome)
        else:
            self._report(sub_agent, outcome)
            await asyncio.gather(*sub_agent._holds, return_exceptions=True)
            self._free(sub_agent.request)

    def _report(self, sub_agent: SubAgent, outcome: Outcome) -> None:
        if not sub_agent.ended:
            sub_agent.ended = True
            request = sub_agent.request
            request.on_end(request.task, sub_agent.handle, outcome)

    def cancel(self, handle: str, reason: str = "canceled") -> None:
        """Ask an attempt to stop; after the grace period it is forced. Its report says how it ended.

        Does nothing if it has ended. An attempt that was not launched yet is launched into its cancellation,
        so that it too has its one report.
        """
        sub_agent = self._sub_agents.get(handle)
        if sub_agent is None or sub_agent.cancel_reason is not None:
            return
        sub_agent.cancel_reason = reason
        if sub_agent._task is None:
            del self._sub_agents[handle]
            self._free(sub_agent.request)
            self._report(sub_agent, Canceled(reason))
            return
        sub_agent._task.cancel()
        loop = asyncio.get_running_loop()
        sub_agent._force_timer = loop.call_later(self.grace, self._force, sub_agent)

    def _force(self, sub_agent: SubAgent) -> None:
        task = sub_agent._task
        if task is None or task.done():
            return
        task.cancel()
        loop = asyncio.get_running_loop()
        sub_agent._force_timer = loop.call_later(AFTER_FORCE, self._give_up, sub_agent)

    def _give_up(self, sub_agent: SubAgent) -> None:
        """End the attempt of a sub-agent that can't be stopped; its place stays taken until it ends."""
        self._report(sub_agent, Canceled(f"{sub_agent.cancel_reason}; it did not stop when forced"))

    def kill_all(self, run: str | None = None) -> None:
        """Force all sub-agents (of one run) at once, without a grace period."""
        for sub_agent in list(self._sub_agents.values()):
            if run is not None and sub_agent.request.run != run:
                continue
            if sub_agent.cancel_reason is None:
                self.cancel(sub_agent.handle, "killed")
            if sub_agent._force_timer is not None:
                sub_agent._force_timer.cancel()
            self._force(sub_agent)

    async def stop(self, run: str | None = None) -> None:
        """Stop all sub-agents (of one run): asked, then forced; returns when they ended or were given up."""
        mine = [s for s in self._sub_agents.values() if run is None or s.request.run == run]
        for sub_agent in mine:
            self.cancel(sub_agent.handle, "the run is over")
        tasks = [s._task for s in mine if s._task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=self.grace + 2 * AFTER_FORCE)

    # --- parents that wait for their children ---------------------------------------------------------

    def _give_place_back(self, sub_agent: SubAgent) -> None:
        self._free(sub_agent.request)

    async def _take_place_again(self, sub_agent: SubAgent) -> None:
        request = sub_agent.request
        while self.active >= self.max_concurrent or self._returning:
            place = asyncio.get_running_loop().create_future()
            self._returning.append(place)
            try:
                await place
            except asyncio.CancelledError:
                # the attempt ends now and will free a place: so it counts as having taken one
                break
            if self.active < self.max_concurrent:
                break
        self._take(request)


def outcome_of(error: BaseException) -> Outcome:
    """Say what an exception means that the work of a task raised."""
    text = str(error)
    if isinstance(error, LostError):
        return Lost(text)
    if isinstance(error, TransientError):
        return Deferred(text, error.retry_after)
    if isinstance(error, TaskError):
        return Failed(text, isinstance(error, PermanentError), error.result)
    name = type(error).__name__
    return Failed(f"{name}: {text}" if text else name)
