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
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, NamedTuple

from uuid_utils import uuid7

from allready.agents.output import cut_middle
from allready.core.events import Canceled, Completed, Deferred, Failed, Lost, Outcome
from allready.errors import (
    BugError,
    ConcurrencyLimit,
    FatalError,
    LostError,
    PermanentError,
    ProviderBusy,
    TaskError,
    TransientError,
    text_of,
)
from allready.pool import provider
from allready.pool.claims import Claims
from allready.pool.provider import ProviderGate, ProviderGates

DEFAULT_SLOTS = 5
"""Places of a pool unless the user says otherwise."""
GRACE = 5.0
"""Seconds between asking a sub-agent to stop and forcing it."""
INLINE_SCOPE = "inline"
"""Name of the pool beside the loop, for tasks that run inline."""
ERROR_LIMIT = 16 * 1024
"""Bytes of the text of an error that are kept."""
LOOK_AGAIN = 0.25
"""Seconds until a request is tried again that nothing but the answers to others can let through."""
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

    # defaults in the class: most attempts need none of these of their own, and are made a third faster
    cancel_reason: str | None = None
    """Why it was asked to stop; None if it was not."""
    ended = False
    """Whether its end was reported."""
    _task: asyncio.Task[None] | None = None
    _begun = False
    """Whether the first step of its coroutine was made: it never sees a cancellation before that."""
    _has_place = False
    _away = 0
    """How many `place_given_back` it is in."""
    _holds: list[Awaitable[Any]] | None = None
    _forced = False
    _force_timer: asyncio.Handle | None = None
    _end_waiter: asyncio.Future[None] | None = None
    _gate: ProviderGate | None = None
    """Of the provider of its model."""
    _asked_at = 0.0
    """When its last request was admitted."""
    _asks = 0
    """Requests that it was about to make."""
    _asking = False
    """Whether its last request was neither answered nor refused."""

    def __init__(self, manager: SubAgentManager, handle: str, request: SpawnRequest) -> None:
        self.handle = handle
        self.request = request
        self._manager = manager

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

    async def before_request(self) -> None:
        """Wait until the provider of its model takes one more request; the first came with the place."""
        gate = self._gate
        self._asks += 1
        if gate is None:
            return
        if self._asks == 1:
            now = _now()
            if gate.refused_since(self._asked_at) and (opens := gate.opens_at(now)) is not None:
                # nothing is lost yet: better put back than waiting in its place, at the cost of its time
                raise TransientError(f"{gate.name} has asked to wait meanwhile", opens - now)
            return
        gate.wait(True)
        try:
            while True:
                now = _now()
                try:
                    gate.take_request(now)
                except ConcurrencyLimit:
                    opens = gate.opens_at(now)
                    await asyncio.sleep(LOOK_AGAIN if opens is None else opens - now)
                else:
                    self._asked_at, self._asking = now, True
                    return
        finally:
            gate.wait(False)

    def answered(self, tokens: int) -> None:
        """Say that the provider answered a request, and how many tokens that took."""
        if self._gate is not None:
            self._asking = False
            self._gate.answered(_now(), tokens)

    @asynccontextmanager
    async def place_given_back(self) -> AsyncGenerator[None]:
        """Give the place back while waiting for sub-tasks; at the end take one again, before any new task.

        Several of these may be open at once (children waited for together): the place is taken again when
        the last one ends. An attempt that was asked to stop does not wait for a place only to end.
        """
        self._away += 1
        if self._away == 1:
            self._manager._free(self)
        try:
            yield
        finally:
            self._away -= 1
            if not self._away and self.cancel_reason is None and not self.ended:
                await self._manager._take_place_again(self)


class SubAgentManager:
    """A pool of `max_concurrent` places, with named resources and limits per agent.

    `resources` and `agent_limits` map names to the number of units there are. `grace` is in seconds. `scope`
    is the name under which the pool itself refuses. `providers` are those of this process unless others are
    given. Raises `ValueError` if there is not at least one place.
    """

    def __init__(
        self,
        max_concurrent: int = DEFAULT_SLOTS,
        *,
        resources: Mapping[str, int] | None = None,
        agent_limits: Mapping[str, int] | None = None,
        grace: float = GRACE,
        scope: str = "pool",
        providers: ProviderGates | None = None,
    ) -> None:
        if max_concurrent < 1:
            raise ValueError(f"a pool needs at least one place, not {max_concurrent}")
        self.max_concurrent = max_concurrent
        self.resources = dict(resources or {})
        self.agent_limits = dict(agent_limits or {})
        self.grace = grace
        self.scope = scope
        self.providers = providers if providers is not None else provider.of_this_process
        self.active = 0
        """Places taken."""
        self.reserved = 0
        """Places kept for requests with `reserved`."""
        self.peak = 0
        """Most places ever taken at once."""
        self._active_reserved = 0
        """Places taken by requests with `reserved`."""
        self._used: dict[str, int] = {}
        """Resource → units in use."""
        self._of_agent: dict[str, int] = {}
        """Agent → its sub-agents."""
        self._sub_agents: dict[str, SubAgent] = {}
        self._returning: dict[SubAgent, asyncio.Future[None]] = {}
        """Sub-agents that gave their place back and want one again: before anything new."""
        self._waiting: dict[str, _Waiting] = {}
        """Runs that were refused."""
        self._weights: dict[str, float] = {}
        self._served: dict[str, float] = {}
        """Run → places it took, divided by its weight; a run that waits anew begins with what others have."""
        self._last_turn: dict[str, int] = {}
        """Run → a number that grows with each place taken, when it last took one or was woken for one."""
        self._now_served = 0.0
        """What a run has that has had its share."""
        self._idle: set[str] = set()
        """Runs that wanted nothing more at the end of their last tick."""
        self._claims = Claims()
        self._turns: dict[str, int] = {}
        """Runs that were woken and have not ticked since → places promised to them."""
        self._promised = 0
        """Sum of `_turns`."""
        self._freed = 0
        """How often places came free: a run that was refused since the last time need not ask again."""
        self._put_off: set[str] = set()
        """Runs that were refused only because free places are promised to others."""
        self._gate_timer: asyncio.TimerHandle | None = None
        """Rings when the first provider opens that refused a request of ours."""
        self._name = uuid7().hex[-12:]
        self._count = 0

    # --- admission ------------------------------------------------------------------------------------

    def spawn(self, request: SpawnRequest) -> str:
        """Take a place and name the attempt; nothing runs yet. Never waits.

        The caller owes a `launch()` or a `release()`. Raises `ConcurrencyLimit` if there is no place for
        now, and `PermanentError` if the request asks for more than the pool has at all.
        """
        if (
            self.active >= self.max_concurrent
            or request.resources
            or request.provider is not None
            or (request.agent is not None and self.agent_limits)
            or self._promised
            or self._returning
            or self.reserved
        ):
            self._check(request)
        self._count += 1
        handle = f"{self._name}-{self._count:x}"
        self._sub_agents[handle] = sub_agent = SubAgent(self, handle, request)
        self._take(sub_agent)
        run = request.run
        if self._promised and self._turns.get(run):
            self._turns[run] -= 1
            self._promised -= 1
        self._last_turn[run] = self._count
        if len(self._served) > 1 or run not in self._served:  # else there is nobody to share with
            self._note_served(run)
        if self._claims:
            self._claims.admitted((run, request.task), resources=request.resources)
        return handle

    def _check(self, request: SpawnRequest) -> None:
        resources = request.resources
        for name, demand in resources:
            if demand > self.resources.get(name, 0):
                raise PermanentError(
                    f"task {request.task!r} asks for {demand} of resource {name!r}, "
                    f"but the pool has {self.resources.get(name, 0)} in all"
                )
        if self.active >= self.max_concurrent:
            raise ConcurrencyLimit(f"the {self.scope} is full", self.scope, self.active, self.max_concurrent)
        if self._returning or self._promised or self.reserved:
            self._check_kept(request)
        for name, demand in resources:
            used, most = self._used.get(name, 0), self.resources[name]
            if self._returning:
                used += sum(dict(s.request.resources).get(name, 0) for s in self._returning)
            if used + demand > most:
                self._claims.refused((request.run, request.task), dict(resources))
                raise ConcurrencyLimit(f"resource {name} is in use", f"resource:{name}", used, most)
            kept, task = self._claims.kept(name, (request.run, request.task))
            if kept and used + demand + kept > most:
                reason = f"resource {name} is kept for task {task}, which waits for {kept}"
                raise ConcurrencyLimit(reason, f"resource:{name}", used, most)
        agent = request.agent
        if agent is not None and agent in self.agent_limits:
            busy, most = self._of_agent.get(agent, 0), self.agent_limits[agent]
            busy += sum(s.request.agent == agent for s in self._returning)
            if busy >= most:
                raise ConcurrencyLimit(f"agent {agent} is busy", f"agent:{agent}", busy, most)
        if request.provider is not None:
            self._check_provider(self.providers[request.provider])

    def _check_provider(self, gate: ProviderGate) -> None:
        now = _now()
        try:
            gate.check(now)
        except ConcurrencyLimit:
            self._wake_when_open(gate, now)
            raise

    def _wake_when_open(self, gate: ProviderGate, now: float) -> None:
        """See to it that who was refused asks again when time, or what another pool does, opens the gate."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # not driven by a loop: whoever asks has to come again
            return

        def room_again() -> None:
            with suppress(RuntimeError):  # our loop has ended meanwhile
                loop.call_soon_threadsafe(self._room_again)

        gate.tell_when_free(self, room_again)
        opens = gate.opens_at(now)
        if opens is None:
            return
        if self._gate_timer is not None:
            if self._gate_timer.when() <= opens:
                return
            self._gate_timer.cancel()
        self._gate_timer = loop.call_at(opens, self._gate_opens)

    def _gate_opens(self) -> None:
        self._gate_timer = None
        self._room_again()

    def _check_kept(self, request: SpawnRequest) -> None:
        """Refuse if the free places are kept: for returning sub-agents, for planning, for runs in turn."""
        if request.reserved and self._kept:
            return
        room = self.max_concurrent - self.active - len(self._returning)
        what = "sub-agents that come back"
        if room > 0:
            what = "planning"
            room -= self._kept
        if room > 0:
            what = "the run whose turn it is"
            room -= self._promised - self._turns.get(request.run, 0)
            if room <= 0:
                self._put_off.add(request.run)
        if room <= 0:
            reason = f"the free places of the {self.scope} are kept for {what}"
            raise ConcurrencyLimit(reason, self.scope, self.active, self.max_concurrent)

    @property
    def _kept(self) -> int:
        """Reserved places that no request with `reserved` has taken."""
        return max(0, self.reserved - self._active_reserved)

    def _take(self, sub_agent: SubAgent, *, returns: bool = False) -> None:
        request = sub_agent.request
        sub_agent._has_place = True
        self.active += 1
        if self.active > self.peak:
            self.peak = self.active
        if request.reserved:
            self._active_reserved += 1
        for name, demand in request.resources:
            self._used[name] = self._used.get(name, 0) + demand
        agent = request.agent
        if agent is not None:  # also those without a limit: one may be set while they run
            self._of_agent[agent] = self._of_agent.get(agent, 0) + 1
        if request.provider is not None:
            sub_agent._gate = self.providers[request.provider]
            now = _now()
            sub_agent._gate.take(now, asks=not returns)
            if not returns:
                sub_agent._asked_at, sub_agent._asking = now, True

    def _free(self, sub_agent: SubAgent) -> None:
        """Give the place back, if it has one."""
        if not sub_agent._has_place:
            return
        sub_agent._has_place = False
        request = sub_agent.request
        self.active -= 1
        if request.reserved:
            self._active_reserved -= 1
        for name, demand in request.resources:
            self._used[name] -= demand
        if request.agent is not None:
            self._of_agent[request.agent] -= 1
        if sub_agent._gate is not None:
            sub_agent._gate.give_back(asking=sub_agent._asking)
            sub_agent._asking = False
        if self._waiting or self._turns or self._returning:
            self._room_again()

    @contextmanager
    def reserve_slots(self, count: int) -> Generator[None]:
        """Keep `count` places for requests with `reserved`, so that ordinary tasks can't starve those.

        Raises `ValueError` unless at least one place is left for ordinary tasks.
        """
        if not 0 < count < self.max_concurrent - self.reserved:
            raise ValueError(
                f"can't reserve {count} of {self.max_concurrent} places ({self.reserved} reserved)"
            )
        self.reserved += count
        try:
            yield
        finally:
            self.reserved -= count
            self._room_again()

    # --- freed places ---------------------------------------------------------------------------------

    @property
    def free(self) -> int:
        """How many places an ordinary request could take now."""
        return max(0, self._unpromised - self._kept)

    @property
    def _unpromised(self) -> int:
        return self.max_concurrent - self.active - len(self._returning) - self._promised

    def wake_when_free(self, run: str, wake: Callable[[], None]) -> None:
        """Call `wake` once when it is this run's turn to have a freed place. For a run that was refused.

        Runs are woken in turn, one for each place, and the place is kept for the run that was woken until it
        calls `turn_over` after its tick.
        """
        seen = self._freed
        if run in self._put_off:
            self._put_off.discard(run)
            seen = -1
        self._waiting[run] = _Waiting(wake, seen)
        served = self._served.get(run)
        if served is None or (run in self._idle and served < self._now_served):
            self._served[run] = self._now_served
        self._idle.discard(run)

    def weigh(self, run: str, weight: float) -> None:
        """Give a run so many times the places of others while all of them wait. Raises `ValueError`."""
        check_weight(weight)
        self._weights[run] = weight

    def turn_over(self, run: str) -> None:
        """Say that a run has taken what it wants: if places are still free, the next one is woken."""
        if run in self._turns:
            self._promised -= self._turns.pop(run)
        if run not in self._waiting:
            self._idle.add(run)
        if self._claims:
            self._claims.end_of_tick(run, full=self.active >= self.max_concurrent)
        if self._waiting and self._unpromised > 0:
            self._wake_next()

    def leave(self, run: str) -> None:
        """Say that a run does not wait for places any more."""
        self._waiting.pop(run, None)
        self._put_off.discard(run)
        self._served.pop(run, None)
        self._last_turn.pop(run, None)
        self._idle.discard(run)
        self._weights.pop(run, None)
        self._claims.leave(run)
        self.turn_over(run)

    def _room_again(self) -> None:
        """Hand a place that came free to whoever is first."""
        self._freed += 1
        if self._returning:
            self._let_return()
        if (self._waiting or self._turns) and self._unpromised > 0:
            if len(self._served) < 2:  # there is one run only: nobody could take what is not kept for it
                for run in list(self._waiting):
                    self._waiting.pop(run).wake()
            else:
                self._wake_next(also_promised=True)

    def _wake_next(self, *, also_promised: bool = False) -> None:
        """Wake a run, keep a place for it: of those not refused since places came free, the least served."""
        freed = self._freed
        asking = [run for run, waiting in self._waiting.items() if waiting.seen < freed]
        if also_promised:  # several places came free at once: one that was woken may have more of them
            asking += [run for run in self._turns if run not in self._waiting]
        if not asking:
            return
        run = asking[0] if len(asking) == 1 else min(asking, key=self._turn_of)
        self._turns[run] = self._turns.get(run, 0) + 1
        self._promised += 1
        self._last_turn[run] = self._count
        waiting = self._waiting.pop(run, None)
        if waiting is not None:
            waiting.wake()

    def _note_served(self, run: str) -> None:
        """Note that a run took a place; what new ones begin with goes on by the share of each."""
        weights = self._weights
        self._served[run] = self._served.get(run, self._now_served) + 1 / weights.get(run, 1.0)
        self._now_served += 1 / sum(weights.get(known, 1.0) for known in self._served)

    def _turn_of(self, run: str) -> tuple[float, int]:
        """Give a number that is least for the run whose turn it is."""
        promised = self._turns.get(run, 0) / self._weights.get(run, 1.0)
        return self._served.get(run, self._now_served) + promised, self._last_turn.get(run, -1)

    # --- running --------------------------------------------------------------------------------------

    def launch(self, handle: str) -> None:
        """Begin an admitted attempt. Needs a running event loop.

        One that was canceled in the meantime does not begin: it has its report at once. Raises `BugError` if
        there is no such attempt, or if it was launched before.
        """
        sub_agent = self._sub_agents.get(handle)
        if sub_agent is None or sub_agent._task is not None:
            raise self._misuse(sub_agent, f"attempt {handle} can't be launched")
        if sub_agent.cancel_reason is not None:
            self._end(sub_agent, Canceled(sub_agent.cancel_reason))
            return
        sub_agent._task = asyncio.get_running_loop().create_task(self._run(sub_agent))

    def release(self, handle: str) -> None:
        """Give back the place of an attempt that was admitted and will not be launched. It has no report.

        Raises `BugError` if there is no such attempt, or if it was launched.
        """
        sub_agent = self._sub_agents.get(handle)
        if sub_agent is None or sub_agent._task is not None:
            raise self._misuse(sub_agent, f"attempt {handle} can't be released")
        del self._sub_agents[handle]
        self._note_end(sub_agent)
        self._free(sub_agent)

    @staticmethod
    def _misuse(sub_agent: SubAgent | None, what: str) -> BugError:
        why = "it is not in the pool (any more)" if sub_agent is None else "it was launched before"
        return BugError(f"{what}: {why}")

    async def _run(self, sub_agent: SubAgent) -> None:
        sub_agent._begun = True
        outcome: Outcome
        try:
            outcome = Completed(await sub_agent.request.start(sub_agent))
        except asyncio.CancelledError:
            reason = sub_agent.cancel_reason
            outcome = Failed("the attempt canceled itself") if reason is None else Canceled(reason)
        except GeneratorExit as error:
            if not _is_current(sub_agent._task):  # nobody raised it: the coroutine is thrown away
                raise
            outcome = outcome_of(error)
        except BaseException as error:
            outcome = outcome_of(error)
            if isinstance(error, ProviderBusy) and sub_agent._gate is not None:
                sub_agent._gate.refused(
                    _now(), sub_agent._asked_at, error.retry_after, overloaded=error.overloaded
                )
                sub_agent._asking = False
        self._end(sub_agent, outcome)

    def _end(self, sub_agent: SubAgent, outcome: Outcome) -> None:
        del self._sub_agents[sub_agent.handle]
        if sub_agent._force_timer is not None:
            sub_agent._force_timer.cancel()
        if sub_agent._holds is None:
            self._free(sub_agent)
        else:
            held = asyncio.gather(*sub_agent._holds, return_exceptions=True)
            held.add_done_callback(lambda _: self._free(sub_agent))
        self._report(sub_agent, outcome)

    def _report(self, sub_agent: SubAgent, outcome: Outcome) -> None:
        if not sub_agent.ended:
            sub_agent.ended = True
            if sub_agent._end_waiter is not None:
                self._note_end(sub_agent)
            request = sub_agent.request
            request.on_end(request.task, sub_agent.handle, outcome)

    @staticmethod
    def _note_end(sub_agent: SubAgent) -> None:
        sub_agent.ended = True
        if sub_agent._end_waiter is not None and not sub_agent._end_waiter.done():
            sub_agent._end_waiter.set_result(None)

    def cancel(self, handle: str, reason: str = "canceled") -> None:
        """Ask an attempt to stop; after the grace period it is forced. Its report says how it ended.

        Does nothing if it has ended or was asked before. An attempt that was not launched yet has its report
        when it is launched; its work is not begun.
        """
        sub_agent = self._sub_agents.get(handle)
        if sub_agent is None or sub_agent.cancel_reason is not None:
            return
        sub_agent.cancel_reason = reason
        if sub_agent._task is None:
            return
        sub_agent._task.cancel()
        if not sub_agent._begun:
            self._end(sub_agent, Canceled(reason))
            return
        loop = asyncio.get_running_loop()
        sub_agent._force_timer = loop.call_later(self.grace, self._force, sub_agent)

    def _force(self, sub_agent: SubAgent) -> None:
        task = sub_agent._task
        if task is None or task.done():
            return
        sub_agent._forced = True
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
            self.cancel(sub_agent.handle, "killed")
            if sub_agent._task is None or sub_agent._task.done() or sub_agent.ended or sub_agent._forced:
                continue
            if sub_agent._force_timer is not None:
                sub_agent._force_timer.cancel()
            # not now: two cancellations before its next step would reach the work as one
            sub_agent._force_timer = asyncio.get_running_loop().call_soon(self._force, sub_agent)

    async def stop(self, run: str | None = None) -> None:
        """Stop all sub-agents (of one run): asked, then forced; returns when they ended or were given up."""
        loop = asyncio.get_running_loop()
        waiters = []
        for sub_agent in list(self._sub_agents.values()):
            if run is not None and sub_agent.request.run != run:
                continue
            self.cancel(sub_agent.handle, "the run is over")
            if not sub_agent.ended:
                if sub_agent._end_waiter is None:
                    sub_agent._end_waiter = loop.create_future()
                waiters.append(sub_agent._end_waiter)
        if waiters:
            await asyncio.wait(waiters, timeout=self.grace + 2 * AFTER_FORCE)

    # --- parents that wait for their children ---------------------------------------------------------

    async def _take_place_again(self, sub_agent: SubAgent) -> None:
        if not self._returning and self._can_return(sub_agent.request):
            self._take(sub_agent, returns=True)
            return
        place = asyncio.get_running_loop().create_future()
        self._returning[sub_agent] = place
        try:
            await place
        finally:
            # canceled: it goes on without a place, to its end
            if self._returning.pop(sub_agent, None) is not None:
                self._room_again()

    def _let_return(self) -> None:
        for sub_agent, place in list(self._returning.items()):
            if not place.done() and self._can_return(sub_agent.request):
                del self._returning[sub_agent]
                self._take(sub_agent, returns=True)
                place.set_result(None)

    def _can_return(self, request: SpawnRequest) -> bool:
        if self.active + (0 if request.reserved else self._kept) >= self.max_concurrent:
            return False
        if any(self._used.get(name, 0) + demand > self.resources[name] for name, demand in request.resources):
            return False
        return self._of_agent.get(request.agent or "", 0) < self.agent_limits.get(
            request.agent or "", math.inf
        )


class _Waiting(NamedTuple):
    """A run that was refused."""

    wake: Callable[[], None]
    seen: int
    """The value of `_freed` when it was refused."""


def _is_current(task: asyncio.Task[None] | None) -> bool:
    try:
        return asyncio.current_task() is task
    except RuntimeError:  # no event loop is running
        return False


def check_weight(weight: float) -> None:
    """Raise `ValueError` if a run can't have this weight."""
    if not 0 < weight < math.inf:
        raise ValueError(f"a run's weight is a number above 0, not {weight}")


def _now() -> float:
    """Give the time by the loop's clock, which is the monotonic one unless it is a virtual one."""
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:
        return time.monotonic()


def outcome_of(error: BaseException) -> Outcome:
    """Say what an exception means that the work of a task raised."""
    text = cut_middle(text_of(error), ERROR_LIMIT)
    if isinstance(error, LostError):
        return Lost(text)
    if isinstance(error, TransientError):
        return Deferred(text, error.retry_after)
    if isinstance(error, TaskError):
        permanent, fatal = isinstance(error, PermanentError), isinstance(error, FatalError)
        return Failed(text, permanent, error.result, fatal)
    name = type(error).__name__
    return Failed(f"{name}: {text}" if text else name)
