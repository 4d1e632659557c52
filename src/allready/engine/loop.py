"""`run_scheduler_loop`: drives a scheduler with a pool, until the run ends or waits for a person."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Protocol

from uuid_utils import uuid7

from allready.core.actions import Cancel, Done, RunInline, Spawn
from allready.core.course import LEFT_PAUSED
from allready.core.events import Completed, Failed, Outcome, TaskEvent
from allready.core.scheduler import DagScheduler
from allready.core.states import RUN_ENDED, RunState
from allready.engine.budget import Budget
from allready.engine.garbage import collect_rarely
from allready.engine.inbox import Inbox
from allready.errors import BugError, CommandRefused, ConcurrencyLimit, LeaseLost
from allready.pool.manager import INLINE_SCOPE, SpawnRequest, SubAgent, SubAgentManager

INLINE_SLOTS = 8
"""Tasks that may run beside the loop at once, outside the pool."""
IDLE_ROUNDS = 100
"""Rounds in a row that did nothing, though the scheduler asked for them at once: more than that is a bug."""
LATE = 1.0
"""Seconds between a tick and the launch of what it started, beyond which their time is counted anew."""
IDLE_PAUSE = 0.25
"""Seconds between the rounds then: a bug must not take a whole processor, nor stop a run that can go on."""
SHORTEST_WAIT = 1e-6
"""Seconds; a timer may ring a little early by the scheduler's clock, and is set again for at least this."""


class Command(NamedTuple):
    """A wish of a person on its way to the scheduler."""

    kind: str
    task: str | None = None
    answer: Callable[[str | None], None] | None = None
    """Called once: with None when it was carried out, or with why it was refused."""


class Journal(Protocol):
    """What makes a run durable."""

    async def commit(self) -> None:
        """Make all that the scheduler did since the last commit durable. Nothing has had an effect before.

        Called once in each round, and never canceled half-way. Raises `LeaseLost` if the run belongs to
        another process now.
        """
        ...

    def holds(self) -> bool:
        """Say whether this process may start things for the run right now."""
        ...

    async def regain(self) -> None:
        """Do what it takes to hold the run again. Raises `LeaseLost` if it belongs to another process now."""
        ...

    def give_up(self, *, at_once: bool = False) -> None:
        """Wait no longer for what `commit()` or `regain()` may wait for; they raise an error instead.

        `at_once`: not even for an answer that is under way.
        """
        ...


class SchedulerLoop:
    """One run's loop. `run()` drives it; `steer()` and `interrupt()` may be called meanwhile.

    Each round hands what came in to the scheduler, ticks, asks the pool for a place for every offer, makes it
    all durable (if there is a journal), and only then launches and cancels. Then it waits: for an event, a
    freed place, a deadline, the end of the backoff, or a command. It never polls.

    `work` is called for each attempt; `clock` gives seconds; `on_outcome` is told task, handle and outcome of
    each attempt, before the scheduler is; `redact` is applied to the texts of outcomes before anybody sees
    them. An error of either comes out of `run()`. A `budget` is asked before the pool, and told what was
    admitted; whoever runs the attempts tells it what they took.
    """

    def __init__(
        self,
        scheduler: DagScheduler,
        pool: SubAgentManager,
        work: Callable[[SubAgent], Awaitable[Any]],
        *,
        run_id: str | None = None,
        inline_pool: SubAgentManager | None = None,
        clock: Callable[[], float] = time.time,
        journal: Journal | None = None,
        on_outcome: Callable[[str, str, Outcome], None] | None = None,
        redact: Callable[[str], str] | None = None,
        wait_for_person: bool = False,
        budget: Budget | None = None,
    ) -> None:
        self.scheduler = scheduler
        self.pool = pool
        self.budget = budget
        self.inline_pool = inline_pool or SubAgentManager(INLINE_SLOTS, grace=pool.grace, scope=INLINE_SCOPE)
        self.run_id = run_id or str(uuid7())
        """Its name in the pool: runs that share one need different names."""
        self.wait_for_person = wait_for_person
        """Go on waiting when only a person can go on, instead of returning."""
        self._work = work
        self._clock = clock
        self._journal = journal
        self._on_outcome = on_outcome
        self._redact = redact
        self._inbox: Inbox[TaskEvent | Command] = Inbox()
        self._where: dict[str, SubAgentManager] = {}
        """Inline attempts → their pool; the others are in `pool`."""
        self._interrupt_waits = False
        """Whether an interrupt is on its way to the scheduler."""
        self._interrupt_refused = False
        """Whether one came when the run was ending anyway."""
        self._idle_rounds = 0
        self._over: str | None = None
        """Why commands are refused from now on; None while the run is driven, or will be."""
        self._failure: Exception | None = None
        """What went wrong outside a round; it comes out of the present or the next one."""

    def steer(self, command: Command) -> None:
        """Hand a person's wish to the run; it is always answered. Only from the event loop's own thread."""
        if self._over is None:
            self._inbox.put(command)
        elif command.answer is not None:
            command.answer(self._over)

    def wake(self) -> None:
        """Make the loop tick, because the graph has grown or was closed."""
        self._inbox.wake()

    def interrupt(self) -> None:
        """Stop what runs and pause, so that the run can be resumed; a second call kills at once."""
        stopping = self._interrupt_waits or self._interrupt_refused or self._over is not None
        again = stopping or self.scheduler.pause_reason == "interrupt"
        if self._journal is not None:
            self._journal.give_up(at_once=again)
        if again:
            self._kill()
        else:
            self._interrupt_waits = True
            self.steer(Command("interrupt"))

    def fail(self, error: Exception) -> None:
        """Stop at once, without recording anything more: `run()` kills what runs and raises `error`."""
        self._failure = self._failure or error
        if self._journal is not None:
            self._journal.give_up()
        self._kill()
        self._inbox.wake()

    async def run(self) -> RunState:
        """Drive the run until it ends, or until only a person can go on.

        Canceling this is an `interrupt()`: the commit under way is finished, what runs is stopped, the run is
        paused so that it can be resumed, and that is committed; then the cancellation goes on. A second one
        kills at once. Raises what the journal raises (`StoreError`, `LeaseLost`), and `BugError`; then too
        nothing is left running.
        """
        # the driver has an asyncio task of its own so that no cancellation reaches it half-way
        driver = asyncio.create_task(self._drive())
        canceled: asyncio.CancelledError | None = None
        while not driver.done():
            try:
                await asyncio.wait([driver])
            except asyncio.CancelledError as error:
                canceled = canceled or error
                self.interrupt()
        status = driver.result()
        if canceled is not None:
            raise canceled
        return status

    async def _drive(self) -> RunState:
        self._over = None
        refusal = "the run was stopped"
        try:
            with collect_rarely():
                await self._rounds()
            refusal = self._refusal()
            return self.scheduler.status
        except BaseException as error:
            refusal = f"the run stopped because of an error: {str(error) or type(error).__name__}"
            if isinstance(error, LeaseLost):
                self._kill()  # whoever owns the run now may be doing the same tasks already
            raise
        finally:
            self._over = refusal
            self._inbox.close()
            for item in self._inbox.take_all():
                if isinstance(item, Command) and item.answer is not None:
                    item.answer(refusal)
            self.pool.leave(self.run_id)
            self.inline_pool.leave(self.run_id)
            await self._stop_all()
            self._interrupt_waits = self._interrupt_refused = False
            self._failure = None

    async def _rounds(self) -> None:
        """Make rounds until there is nothing more to do, and nobody has said anything since."""
        ended: Done | None = None
        while True:
            ended = await self._round() or ended
            if ended is not None and self.scheduler.status is not ended.status:
                ended = None  # a command that came with the last round led on
            if ended is None or self._stays():
                # waits here and not in a coroutine of its own, which would cost a tenth of a whole round
                while (alarm := self._next_alarm()) is not None:
                    awaited = await alarm
                    self._inbox.disarm()
                    if awaited:
                        break
            elif not self._inbox:
                return

    def _stays(self) -> bool:
        paused = self.scheduler.status is RunState.PAUSED and self.scheduler.pause_reason not in LEFT_PAUSED
        return paused and self.wait_for_person

    def _refusal(self) -> str:
        status = self.scheduler.status
        if status in RUN_ENDED:
            return f"the run has ended ({status})"
        return f"the run is {status} and not driven by this process any more; resume it first"

    async def _round(self) -> Done | None:
        self._idle_rounds += 1
        self._take_in()
        launches: list[tuple[SubAgentManager, str]] = []
        cancels: list[Cancel] = []
        try:
            done = self._tick(launches, cancels)
            if self._journal is not None:
                await self._journal.commit()
                self._check_failure()
                while launches and not self._journal.holds():
                    await self._journal.regain()
                    self._check_failure()
                if launches and (now := self._clock()) - self.scheduler.now > LATE:
                    self.scheduler.began_late([handle for _, handle in launches], now)
        except BaseException:
            for pool, handle in launches:
                pool.release(handle)
            raise
        for pool, handle in launches:
            if self._interrupt_waits:  # it came during the commit: better not begun than stopped
                pool.cancel(handle, "interrupt")
            pool.launch(handle)
        for cancel in cancels:
            self._where.get(cancel.handle, self.pool).cancel(cancel.handle, cancel.reason)
        return done

    def _take_in(self) -> None:
        """Hand to the scheduler what came in."""
        handle = self.scheduler.handle
        for item in self._inbox.take_all():
            self._idle_rounds = 0
            if isinstance(item, TaskEvent):
                handle(item)
            else:
                self._carry_out(item)
        self._check_failure()

    def _check_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _tick(self, launches: list[tuple[SubAgentManager, str]], cancels: list[Cancel]) -> Done | None:
        """Play one batch: ask the pools for what is offered, gather the rest."""
        scheduler = self.scheduler
        now = self._clock()
        any_concurrency_failure = False
        done: Done | None = None
        for action in scheduler.tick(now):
            if isinstance(action, (Spawn, RunInline)):  # a union is made anew each time
                pool = self.pool if isinstance(action, Spawn) else self.inline_pool
                try:
                    handle = self._admit(pool, action)
                except ConcurrencyLimit as limit:
                    any_concurrency_failure = True
                    scheduler.record_spawn_failure(action.task, limit, now)
                    pool.wake_when_free(self.run_id, self._inbox.wake)
                except BugError:
                    raise
                except Exception as error:
                    self._idle_rounds = 0
                    scheduler.record_spawn_failure(action.task, error, now)
                else:
                    launches.append((pool, handle))  # first: whatever comes, it is launched or released
                    scheduler.record_spawn(action.task, handle, now)
                    if pool is self.inline_pool:
                        self._where[handle] = pool
            elif isinstance(action, Cancel):
                cancels.append(action)
            else:
                done = action
        # after each batch, also an empty one: it is what ends a backoff that nobody waits for any more
        scheduler.record_batch_backoff(bool(launches), any_concurrency_failure)
        self.pool.turn_over(self.run_id)
        self.inline_pool.turn_over(self.run_id)
        if self.budget is not None:
            self._pause_at_limit(now)
        if launches or cancels or any_concurrency_failure:
            self._idle_rounds = 0
        return done

    def _admit(self, pool: SubAgentManager, action: Spawn | RunInline) -> str:
        if self.budget is None:
            return pool.spawn(self._request(action))
        agent = self.scheduler.graph.by_id[action.task].agent
        self.budget.check(agent)
        handle = pool.spawn(self._request(action))
        self.budget.reserve(handle, agent)
        return handle

    def _pause_at_limit(self, now: float) -> None:
        """Pause when only a higher limit helps, and nothing that goes on without one is under way or due."""
        assert self.budget is not None
        scheduler = self.scheduler
        reached, self.budget.reached = self.budget.reached, None
        going = scheduler.status is RunState.RUNNING and scheduler.ending is None
        if reached is None or not going or scheduler.graph.active:
            return
        if not any(self.budget.fits(node.agent) for node in scheduler.put_off()):
            self.budget.paused_for = reached
            scheduler.command("limit", reached.text, now)

    def _request(self, action: Spawn | RunInline) -> SpawnRequest:
        if isinstance(action, RunInline):
            return SpawnRequest(self.run_id, action.task, self._work, self._ended, number=action.number)
        spec = self.scheduler.graph.by_id[action.task].spec
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

    def _ended(self, task: str, handle: str, outcome: Outcome) -> None:
        if self._where:
            self._where.pop(handle, None)
        try:
            if self._redact is not None:
                outcome = _redacted(outcome, self._redact)
            if self._on_outcome is not None:
                self._on_outcome(task, handle, outcome)
        except Exception as error:
            self._failure = self._failure or error
            self._inbox.wake()
            return
        self._inbox.put(TaskEvent(task, handle, outcome, self._clock()))

    def _carry_out(self, command: Command) -> None:
        refused = None
        try:
            self.scheduler.command(command.kind, command.task, self._clock())
        except CommandRefused as error:
            refused = str(error)
        except BaseException as error:
            refused = f"the run stopped because of an error: {error}"
            raise
        finally:
            if command.kind == "interrupt":
                self._interrupt_waits = False
                self._interrupt_refused = refused is not None
            elif refused is None and command.kind == "retry":
                self._interrupt_refused = False  # the run goes on: the next interrupt is a first one
            if command.answer is not None:
                command.answer(refused)

    def _next_alarm(self) -> asyncio.Future[bool] | None:
        """Give what to wait for until there is something to do, or None if that is now.

        It gives False for a timer. That may ring a little early by the scheduler's clock: ask again.
        """
        at = self.scheduler.next_wakeup()
        if at is None:
            return self._inbox.arm(None)
        delay = at - self._clock()
        if delay > 0:
            return self._inbox.arm(max(delay, SHORTEST_WAIT))
        if self._idle_rounds <= IDLE_ROUNDS:
            return None
        if self.scheduler.validate:
            raise BugError(
                f"this is a bug in allready, please report it: {self._idle_rounds} rounds in a row did "
                f"nothing, and the scheduler asks for the next one at once (run {self.run_id})"
            )
        self._idle_rounds = IDLE_ROUNDS  # one more after the pause
        return self._inbox.arm(IDLE_PAUSE)

    def _kill(self) -> None:
        self.pool.kill_all(self.run_id)
        self.inline_pool.kill_all(self.run_id)

    async def _stop_all(self) -> None:
        await asyncio.gather(self.pool.stop(self.run_id), self.inline_pool.stop(self.run_id))


def _redacted(outcome: Outcome, redact: Callable[[str], str]) -> Outcome:
    if isinstance(outcome, Completed):
        return outcome
    if isinstance(outcome, Failed):
        return outcome._replace(error=redact(outcome.error))
    return outcome._replace(reason=redact(outcome.reason))


async def run_scheduler_loop(
    scheduler: DagScheduler, pool: SubAgentManager, work: Callable[[SubAgent], Awaitable[Any]], **options: Any
) -> RunState:
    """Drive `scheduler` with `pool` until the run ends, or until only a person can go on; gives its state.

    `work` is called for each attempt that is launched, with its `SubAgent` (`.request.task` names the task);
    what it returns is the result, what it raises the failure. `options` are those of `SchedulerLoop`.
    """
    return await SchedulerLoop(scheduler, pool, work, **options).run()
