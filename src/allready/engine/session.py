"""`Session`: one run in this process, until it ends or waits for a person."""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
import time
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allready.agents.base import TaskResult
from allready.agents.folders import remove_quietly
from allready.agents.secrets import Redactor, secret_values
from allready.core.events import Change, Completed, Outcome
from allready.core.scheduler import DagScheduler
from allready.core.states import RunState
from allready.core.steering import for_people
from allready.engine.answer import answer_of
from allready.engine.budget import Budget, Reached
from allready.engine.compile import Compiled
from allready.engine.earlier import keep_times
from allready.engine.journal import PATIENCE_TEXT, MemoryJournal, Observer, RunExtra, StoreJournal
from allready.engine.loop import Command, SchedulerLoop
from allready.engine.outcome import Reader, RunResult
from allready.engine.results import Results, read_results
from allready.engine.worker import Worker, current_sub_agent
from allready.errors import (
    AllreadyError,
    CommandRefused,
    LeaseLost,
    OutsideError,
    StoreError,
    StoreUnavailable,
    TransientError,
)
from allready.plan.plan import DEFAULT_SLOTS, Plan
from allready.planning.draft import DraftTask
from allready.pool.manager import SubAgentManager
from allready.store.contract import CommandRow, Lease, Store
from allready.store.files import DamagedFile
from allready.store.lease import LeaseKeeper

if TYPE_CHECKING:
    from allready.engine.growing import Growing
    from allready.planning.planner import LlmPlanner

driven_here: set[str] = set()
"""Ids of the stored runs that this process drives at present."""


_log = logging.getLogger(__name__)


class Session:
    """One run that this process drives. `engine.start` makes sessions of new runs and of stored ones.

    `observe()` before `drive()`. While it is driven, `steer()` and `interrupt()` reach it, from the event
    loop's own thread.
    """

    def __init__(
        self,
        run_id: str,
        compiled: Compiled,
        *,
        pool: SubAgentManager | None = None,
        max_parallel: int | None = None,
        seed: int = 0,
        store: Store | None = None,
        lease: Lease | None = None,
        folder: Path | None = None,
        clock: Callable[[], float] | None = None,
        planner: LlmPlanner | None = None,
        budget: Mapping[str, Any] | None = None,
    ) -> None:
        plan = compiled.plan
        self.id = run_id
        self.plan: Plan = plan
        self.compiled = compiled
        self.store = store
        self.clock = clock or MonotonicClock()
        slots = max_parallel or plan.max_parallel or DEFAULT_SLOTS
        self.pool = pool or SubAgentManager(slots)
        _add_missing(self.pool.resources, plan.resources)
        _add_missing(self.pool.agent_limits, compiled.agent_limits)
        self.scheduler = DagScheduler(
            compiled.take_graph(),
            max_parallel=self.pool.max_concurrent,
            seed=seed,
            timeout=plan.timeout,
            record=True,
        )
        self.on_output: Callable[[str, str, str], None] | None = None
        """Told task, attempt and each piece of text that a command or an agent writes, secrets blanked."""
        self.on_planned: Callable[[Sequence[DraftTask]], None] | None = None
        """Told all tasks of a plan that was written while the run went on, when it is complete."""
        self.on_store: Callable[[str | None], None] | None = None
        """Told why the store can't be reached, when the run has to wait for it; None when it can again."""
        self.budget = Budget(plan.limits, compiled.model_needs, budget, first_cost=compiled.first_cost)
        self._planner = planner
        self._growing: Growing | None = None
        self._redactor = Redactor(secret_values(os.environ))
        self._observers: list[Observer] = []
        self._lease = lease
        self._folder = folder
        self._temporary: _TemporaryFolder | None = None
        self._results = Results(self._load if store is not None else None)
        self._loop: SchedulerLoop | None = None
        self._journal: MemoryJournal | StoreJournal | None = None
        self._lost: LeaseLost | None = None
        self._times_since = self.clock()
        """What completed before is known to the store already, or was not to be kept."""

    def note(self, kind: str, data: dict[str, Any]) -> None:
        """Add something about the run itself to its journal."""
        assert self.scheduler.changes is not None
        self.scheduler.changes.append(Change(self.clock(), kind, None, None, data))

    def note_created(self) -> None:
        """Note how the run begins."""
        told = {"goal": self._redactor.text(self.plan.goal), "tasks": len(self.scheduler.graph)}
        self.note("run.created", {**told, "max_parallel": self.pool.max_concurrent})

    def observe(self, observer: Observer) -> None:
        """Have `observer` told the events of the run, in order, after they have become durable."""
        self._observers.append(observer)

    @property
    def folder(self) -> Path:
        """Where the run keeps its files; made when it is first asked for."""
        if self._folder is None:
            self._temporary = _TemporaryFolder()
            self._folder = self._temporary.path
        return self._folder

    # --- driving --------------------------------------------------------------------------------------

    async def drive(self, *, wait_for_person: bool = False) -> RunResult:
        """Drive the run until it ends, or until only a person can go on; `wait_for_person` waits for that.

        Raises `LeaseLost` if another process took the run over; this one's sub-agents have been stopped then.
        Cancellation pauses the run, so that it can be resumed, before it goes on.
        """
        parent = current_sub_agent()
        if parent is not None and parent.pool is self.pool:
            async with parent.place_given_back():
                return await self._drive(wait_for_person)
        return await self._drive(wait_for_person)

    async def _drive(self, wait_for_person: bool) -> RunResult:
        keeper = self._make_keeper()
        observers = list(self._observers)
        self._journal = self._make_journal(keeper, observers)
        self._loop = SchedulerLoop(
            self.scheduler,
            self.pool,
            self._make_worker(),
            run_id=self.id,
            clock=self.clock,
            journal=self._journal,
            on_outcome=self._on_outcome,
            wait_for_person=wait_for_person,
            redact=self._redactor.text,
            budget=self.budget if self.budget.has_needs else None,
        )
        try:
            if keeper is not None:
                driven_here.add(self.id)
                await self._take_waiting(keeper)
                keeper.start()
            if self._planner is not None and self.scheduler.graph.open:
                self._growing = self._make_growing(self._planner, self._loop)
                observers.append(self._growing.observe)
                self._growing.go_on()
            await self._loop.run()
            await self._keep_times(self._journal)
        except BaseException as error:
            if self._lost is not None and self._lost is not error:
                raise self._lost from error
            raise
        finally:
            try:
                await self._stop_asking()
            finally:
                await self._let_go(keeper)
        return self.result()

    async def _stop_asking(self) -> None:
        """End all requests to models that are no attempts, and their connections."""
        if self._growing is not None and await self._growing.stop() and self._lost is None:
            assert self._journal is not None
            try:
                await self._journal.keep_memory()  # what its request took is in no event
            except OutsideError as error:
                _log.warning("what the plan of run %s took is not recorded: %s", self.id, error)
        try:
            await self.compiled.models.close()
        except Exception:  # of the provider's library: the run has ended as it has
            _log.exception("connections to models can't be closed")

    async def _keep_times(self, journal: MemoryJournal | StoreJournal) -> None:
        """Keep what tasks took here, for later runs. That it does not work changes nothing of this one."""
        since, self._times_since = self._times_since, self.clock()
        if isinstance(journal, StoreJournal):
            try:
                await journal.in_writer(keep_times, journal.store, self.compiled, self.scheduler.graph, since)
            except AllreadyError as error:
                _log.info("what the tasks of run %s took is not kept: %s", self.id, error)

    def _make_worker(self) -> Worker:
        return Worker(
            self.compiled,
            self.scheduler.graph,
            self._results,
            run_id=self.id,
            folder=lambda: self.folder,
            durable=self.store is not None,
            redactor=self._redactor,
            on_output=self.on_output,
            budget=self.budget,
            check_lease=self._check_lease,
        )

    def _check_lease(self) -> None:
        """Raise `TransientError` if another process may own the run right now."""
        if self._journal is not None and not self._journal.holds():
            raise TransientError("the lease on the run ran out before the attempt could begin")

    def _make_journal(
        self, keeper: LeaseKeeper | None, observers: Sequence[Observer]
    ) -> MemoryJournal | StoreJournal:
        if keeper is None or self.store is None or self._lease is None:
            return MemoryJournal(self.scheduler, observers)
        extra = RunExtra(self.budget.memory, lambda: self.plan.document, self._title, self._answer)
        return StoreJournal(
            self.store,
            self._lease,
            keeper,
            self.scheduler,
            self.folder,
            observers,
            extra=extra,
            on_store=self._tell_store,
        )

    def _tell_store(self, reason: str | None) -> None:
        if self.on_store is not None:
            self.on_store(reason)
        elif reason is None:
            _log.warning("run %s goes on: the store answers again", self.id)
        else:
            text = "run %s waits for its store (up to %s), what runs goes on: %s"
            _log.warning(text, self.id, PATIENCE_TEXT, reason)

    def _make_growing(self, planner: LlmPlanner, loop: SchedulerLoop) -> Growing:
        """Give what has the rest of the plan written, while what is there already runs."""
        from allready.engine.growing import Growing

        return Growing(
            self.compiled,
            loop,
            planner,
            self.budget,
            clock=self.clock,
            note=self.note,
            folder=lambda: self.folder,
            redactor=self._redactor,
            on_planned=self.on_planned,
        )

    def _make_keeper(self) -> LeaseKeeper | None:
        if self.store is None or self._lease is None:
            return None
        loop = asyncio.get_running_loop()
        return LeaseKeeper(
            self.store,
            self._lease,
            on_commands=lambda commands: _in_loop(loop, self._take_commands, commands),
            on_lost=lambda error: _in_loop(loop, self._lose, error),
        )

    async def _let_go(self, keeper: LeaseKeeper | None) -> None:
        journal = self._journal
        if keeper is None or not isinstance(journal, StoreJournal):
            return
        # in the run's own thread: those that the loop has for all may be taken by what tasks left behind.
        # Whoever is canceled here again does not wait, but what waits for the thread is done all the same: a
        # keeper that nobody stops would hold the run for as long as this process lives
        releasing = asyncio.ensure_future(journal.in_writer(self._release, keeper))
        try:
            await asyncio.shield(releasing)
        except StoreUnavailable as error:  # all is to stop at once, and the store is silent
            keeper.stop(wait=False)
            driven_here.discard(self.id)
            self._log_still_ours(error)
        finally:
            journal.close()

    def _release(self, keeper: LeaseKeeper) -> None:
        """Let the run go. That the store does not work now changes nothing of how the run went."""
        keeper.stop()
        driven_here.discard(self.id)
        if self._lost is None:
            assert self.store is not None
            assert self._lease is not None
            try:
                self.store.release(self.id, self._lease.epoch)
            except StoreError as error:
                self._log_still_ours(error)

    def _log_still_ours(self, error: StoreError) -> None:
        # no warning: what is wrong with the store comes out of the run, and a process that ended owns nothing
        _log.info("run %s stays ours until its lease runs out: %s", self.id, error)

    def _lose(self, error: LeaseLost) -> None:
        """Stop at once, because another process may own the run by now."""
        self._lost = error
        if self._loop is not None:
            self._loop.fail(error)

    def _on_outcome(self, task: str, handle: str, outcome: Outcome) -> None:
        usage = self.budget.settle(handle, completed=isinstance(outcome, Completed))
        if usage and self._journal is not None:
            self._journal.keep_usage(handle, usage)
        node = self.scheduler.graph[task]
        if node.handle != handle:
            return  # late: another attempt has taken its place
        if isinstance(self._journal, StoreJournal):
            self._journal.keep_outcome(handle, node.attempts, outcome)
        if isinstance(outcome, Completed):
            self._results.put(task, outcome.value)

    async def _load(self, tasks: Collection[str]) -> Mapping[str, TaskResult]:
        assert isinstance(self._journal, StoreJournal)
        try:
            return await self._journal.patiently(self._load_now, tasks)
        except DamagedFile:
            raise  # to have it made again is for a person
        except StoreError as error:  # it is not the attempt that failed, which has not begun
            if not isinstance(error, StoreUnavailable) and self._loop is not None:
                self._loop.fail(error)  # as where it can't be written: the run stops, and can be resumed
            raise TransientError(str(error)) from error

    def _load_now(self, tasks: Collection[str]) -> dict[str, TaskResult]:
        assert self.store is not None
        graph = self.scheduler.graph
        return read_results(self.store, self.id, self.folder, [graph[task].index for task in tasks])

    def _title(self, task: str) -> str | None:
        return self._redactor.text(self.plan.tasks[task].title or "") or None

    def _answer(self, written: Sequence[Mapping[str, Any]]) -> str | None:
        """Give the answer of the run, which has ended; `written` are results not yet in the store."""
        graph = self.scheduler.graph
        last = {row["index"]: TaskResult(row["output"] or "") for row in written}

        def read(tasks: Collection[str]) -> dict[str, TaskResult]:
            stored = self._load_now([task for task in tasks if graph[task].index not in last])
            return {task: stored[task] if task in stored else last[graph[task].index] for task in tasks}

        try:
            return answer_of(self.plan, graph, self.status, read, self._redactor.text)
        except StoreUnavailable:
            raise  # tried again
        except StoreError as error:  # a file of an output is gone: the run has ended all the same
            _log.warning("run %s has no answer: %s", self.id, error)
            return None

    # --- steering -------------------------------------------------------------------------------------

    def steer(
        self, kind: str, task: str | None = None, answer: Callable[[str | None], None] | None = None
    ) -> None:
        """Hand a person's wish to the run; `answer` is told None when it was done, or why it was refused."""
        assert self._loop is not None
        self._loop.steer(Command(kind, task, answer))

    def wait_for_person(self, wait: bool) -> None:
        """Say whether to go on waiting when only a person can go on; if not, `drive` returns then."""
        if self._loop is None:
            return
        self._loop.wait_for_person = wait
        if not wait and self.status is RunState.PAUSED and self.scheduler.pause_reason == "decision":
            self._loop.steer(Command("interrupt"))

    def interrupt(self) -> None:
        """Stop what runs and pause, so that the run can be resumed; a second call kills at once."""
        if self._loop is not None:
            self._loop.interrupt()

    async def _take_waiting(self, keeper: LeaseKeeper) -> None:
        """Take what was said while nobody drove the run, before anything else: it might end at once else."""
        assert isinstance(self._journal, StoreJournal)
        self._take_commands(await self._journal.patiently(keeper.waiting))

    def _take_commands(self, commands: list[CommandRow]) -> None:
        assert isinstance(self._journal, StoreJournal)
        for command in commands:
            answer = partial(self._journal.command_done, command.id)
            try:
                for_people(command.kind)
            except CommandRefused as error:
                answer(str(error))
            else:
                self.steer(command.kind, command.task, answer)

    # --- the end --------------------------------------------------------------------------------------

    @property
    def status(self) -> RunState:
        """Where the run is."""
        return self.scheduler.status

    @property
    def planning_seconds(self) -> float:
        """How long this process had the plan written while the run went on."""
        return self._growing.seconds if self._growing is not None else 0.0

    @property
    def limit_reached(self) -> Reached | None:
        """What stands in the way, if the run is paused because it reached a limit."""
        return self.budget.paused_for if self.scheduler.pause_reason == "limit" else None

    def result(self, read: Reader | None = None) -> RunResult:
        """Give how the run stands. `read` gives what tasks gave, if it is not to be asked of the store."""
        scheduler = self.scheduler
        if self.store is None:
            results = self._results
            read = lambda tasks: {task: results[task] for task in tasks}  # noqa: E731
        return RunResult(
            self.id,
            self.plan,
            scheduler.graph,
            scheduler.status,
            read or self._load_now,
            redact=self._redactor.text,
            error=self.limit_reached.text if self.limit_reached else scheduler.error,
            started_at=scheduler.started_at,
            finished_at=scheduler.finished_at,
            usage=self.budget.used,
            temporary=self._temporary,
        )


class _TemporaryFolder:
    """A folder that is removed when nobody refers to this any more: neither the session nor a result."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="allready-"))
        weakref.finalize(self, remove_quietly, self.path)


def _add_missing(limits: dict[str, int], more: Mapping[str, int]) -> None:
    for name, amount in more.items():
        limits.setdefault(name, amount)


def _in_loop(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *args: Any) -> None:
    """Have `call` called in the event loop, unless that has ended by now."""
    try:
        loop.call_soon_threadsafe(call, *args)
    except RuntimeError:
        if not loop.is_closed():
            raise


class MonotonicClock:
    """Seconds since 1970 that never jump while this process lives, whatever happens to the system's clock.

    Begins not before `at_least`: the newest time that an earlier process recorded.
    """

    def __init__(self, at_least: float = 0.0) -> None:
        self._offset = max(time.time(), at_least) - time.monotonic()

    def __call__(self) -> float:
        """Give the time now."""
        return time.monotonic() + self._offset
