"""`run_scheduler_loop`: drives a scheduler with a pool, until the run ends or waits for a person."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Protocol

from allready.core.actions import Cancel, Done, RunInline, Spawn
from allready.core.events import Outcome, TaskEvent
from allready.core.scheduler import DagScheduler
from allready.core.states import RunState
from allready.engine.inbox import Inbox
from allready.errors import CommandRefused, ConcurrencyLimit
from allready.pool.manager import SpawnRequest, SubAgent, SubAgentManager

INLINE_SLOTS = 8
"""Tasks that may run beside the loop at once, outside the pool."""


class Command(NamedTuple):
    """A wish of a person on its way to the scheduler."""

    kind: str
    task: str | None = None
    answer: Callable[[str | None], None] | None = None
    """Called with None when it was carried out, or with why it was refused."""


class Journal(Protocol):
    """What makes a run durable."""

    async def commit(self) -> None:
        """Make all that the scheduler did since the last commit durable. Nothing has had an effect before.

        Raises `LeaseLost` if the run belongs to another process now.
        """
        ...

    def check_lease(self) -> None:
        """Raise `LeaseLost` unless this process may still start things for the run."""
        ...


class SchedulerLoop:
    """One run's loop. `run()` drives it; `steer()` and `interrupt()` may be called meanwhile.

    Each round hands what came in to the scheduler, ticks, asks the pool for a place for every offer, makes it
    all durable (if there is a journal), and only then launches and cancels. Then it waits: for an event, a
    freed place, a deadline, the end of the backoff, or a command. It never polls.
    """

    def __init__(
        self,
        scheduler: DagScheduler,
        pool: SubAgentManager,
        work: Callable[[SubAgent], Awaitable[Any]],
        *,
        run_id: str = "run",
        inline_pool: SubAgentManager | None = None,
        clock: Callable[[], float] = time.time,
        journal: Journal | None = None,
        on_outcome: Callable[[str, str, Outcome], None] | None = None,
        wait_for_person: bool = False,
    ) -> None:
        self.scheduler = scheduler
        self.pool = pool
        self.inline_pool = inline_pool or SubAgentManager(INLINE_SLOTS, grace=pool.grace, scope="inline")
        self.run_id = run_id
        self.wait_for_person = wait_for_person
        """Go on waiting when only a person can go on, instead of returning."""
        self._work = work
        self._clock = clock
        self._journal = journal
        self._on_outcome = on_outcome
        self._inbox: Inbox[TaskEvent | Command] = Inbox()
        self._where: dict[str, SubAgentManager] = {}
        """Inline attempts → their pool; the others are in `pool`."""
        self._interrupts = 0

    def steer(self, command: Command) -> None:
        """Hand a person's wish to the run. Only from the event loop's own thread."""
        self._inbox.put(command)

    def wake(self) -> None:
        """Make the loop tick, because the graph has grown or was closed."""
        self._inbox.wake()

    def interrupt(self) -> None:
        """Stop what runs and pause, so that the run can be resumed; a second call kills at once."""
        self._interrupts += 1
        if self._interrupts == 1:
            self.steer(Command("interrupt"))
        else:
            self._kill()

    async def run(self) -> RunState:
        """Drive the run until it ends, or until only a person can go on."""
        canceled: asyncio.CancelledError | None = None
        try:
            while True:
                done = await self._round()
                if done is not None and not (self._stays(done)):
                    break
                try:
                    await self._wait()
                except asyncio.CancelledError as error:
                    canceled = error
                    self.interrupt()
        finally:
            self.pool.leave(self.run_id)
            await self._stop_all()
        if canceled is not None:
            raise canceled
        return self.scheduler.status

    def _stays(self, done: Done) -> bool:
        paused = done.status is RunState.PAUSED and self.scheduler.pause_reason != "interrupt"
        return paused and self.wait_for_person

    async def _round(self) -> Done | None:
        scheduler = self.scheduler
        for item in self._inbox.take_all():
            if isinstance(item, TaskEvent):
                scheduler.handle(item)
            else:
                self._carry_out(item)
        now = self._clock()
        any_spawn_success = any_concurrency_failure = False
        launches: list[tuple[SubAgentManager, str]] = []
        cancels: list[Cancel] = []
        done: Done | None = None
        for action in scheduler.tick(now):
            if isinstance(action, Spawn | RunInline):
                pool = self.pool if isinstance(action, Spawn) else self.inline_pool
                try:
                    handle = pool.spawn(self._request(action))
                except ConcurrencyLimit as limit:
                    any_concurrency_failure = True
                    scheduler.record_spawn_failure(action.task, limit, now)
                    pool.wake_when_free(self.run_id, self._inbox.wake)
                except Exception as error:
                    scheduler.record_spawn_failure(action.task, error, now)
                else:
                    any_spawn_success = True
                    scheduler.record_spawn(action.task, handle, now)
                    launches.append((pool, handle))
                    if pool is self.inline_pool:
                        self._where[handle] = pool
            elif isinstance(action, Cancel):
                cancels.append(action)
            else:
                done = action
        if any_spawn_success or any_concurrency_failure:
            scheduler.record_batch_backoff(any_spawn_success, any_concurrency_failure)
        self.pool.turn_over(self.run_id)
        await self._make_durable(launches)
        for pool, handle in launches:
            pool.launch(handle)
        for cancel in cancels:
            self._where.get(cancel.handle, self.pool).cancel(cancel.handle, cancel.reason)
        return done

    def _request(self, action: Spawn | RunInline) -> SpawnRequest:
        spec = self.scheduler.graph[action.task].spec
        if isinstance(action, RunInline):
            return SpawnRequest(self.run_id, action.task, self._work, self._ended, number=action.number)
        return SpawnRequest(
            self.run_id,
            action.task,
            self._work,
            self._ended,
            action.agent,
            spec.provider,
            spec.resources,
            action.number,
        )

    async def _make_durable(self, launches: list[tuple[SubAgentManager, str]]) -> None:
        if self._journal is None:
            return
        try:
            await self._journal.commit()
            if launches:
                self._journal.check_lease()
        except BaseException:
            for pool, handle in launches:
                pool.release(handle)
            launches.clear()
            raise

    def _ended(self, task: str, handle: str, outcome: Outcome) -> None:
        self._where.pop(handle, None)
        if self._on_outcome is not None:
            self._on_outcome(task, handle, outcome)
        self._inbox.put(TaskEvent(task, handle, outcome, self._clock()))

    def _carry_out(self, command: Command) -> None:
        refused = None
        try:
            self.scheduler.command(command.kind, command.task, self._clock())
        except CommandRefused as error:
            refused = str(error)
        if command.answer is not None:
            command.answer(refused)

    async def _wait(self) -> None:
        at = self.scheduler.next_wakeup()
        if at is None:
            await self._inbox.wait(None)
            return
        timeout = at - self._clock()
        if timeout > 0:
            await self._inbox.wait(timeout)
        else:
            await asyncio.sleep(0)

    def _kill(self) -> None:
        self.pool.kill_all(self.run_id)
        self.inline_pool.kill_all(self.run_id)

    async def _stop_all(self) -> None:
        await asyncio.gather(self.pool.stop(self.run_id), self.inline_pool.stop(self.run_id))


async def run_scheduler_loop(
    scheduler: DagScheduler, pool: SubAgentManager, work: Callable[[SubAgent], Awaitable[Any]], **options: Any
) -> RunState:
    """Drive `scheduler` with `pool` until the run ends, or until only a person can go on; gives its state.

    `work` is called for each attempt that is launched, with its `SubAgent` (`.request.task` names the task);
    what it returns is the result, what it raises the failure. `options` are those of `SchedulerLoop`.
    """
    return await SchedulerLoop(scheduler, pool, work, **options).run()
