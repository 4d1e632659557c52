"""Making a run durable, and telling those who look on: everything passes here, once, in order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from allready.agents.usage import Usage
from allready.core.events import Change, Completed, Failed, Outcome
from allready.core.scheduler import DagScheduler
from allready.core.snapshot import run_memory, spec_to_json, task_memory
from allready.core.states import RUN_ENDED
from allready.engine.results import attempt_folder, result_columns
from allready.errors import StoreBusy, StoreError, StoreUnavailable
from allready.store.contract import Batch, JournalEvent, Lease, Store, TaskRow
from allready.store.lease import LeaseKeeper

T = TypeVar("T")
Observer = Callable[[Sequence[JournalEvent]], None]
"""Told the events of a run in order, in batches, after they have become durable."""

ENDS_OF_ATTEMPTS = frozenset(
    {"task.completed", "task.failed", "task.retrying", "task.deferred", "task.canceled"}
)
"""Changes that end the attempt they name; its result is written with them, or is of no use any more."""
STORE_PATIENCE = 600.0
"""Seconds that a run waits for a store that is away: for a server to be restarted or replaced."""
PATIENCE_TEXT = f"{STORE_PATIENCE / 60:g} minutes"
STORE_DELAYS = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Seconds between two tries; the last one again and again."""
LAST_TRIES = 3
"""Tries that are still made when nobody wants to wait any more: a lost connection is made again at once."""
LOOK_AT_ANSWERS = 1.0
"""Seconds between two looks whether the store answers."""
SILENCE = 5.0
"""Seconds without an answer after which it is told."""
SILENCE_WHEN_STOPPED = 10.0
"""The same that whoever was told to stop waits for: longer than SQLite waits for a lock."""
SILENCE_WHEN_KILLED = 2.0
"""The same for whoever was told to stop at once."""
IDLE_INPUTS = frozenset({"tick", "refuse", "backoff"})
"""Inputs that change nothing by themselves: a round of only these is kept for what it tells of refusals."""


@dataclass(slots=True)
class RunExtra:
    """What a run keeps beyond its scheduler's state; the defaults keep nothing."""

    memory: Callable[[], Mapping[str, Any]] = dict
    """What else a resumed run must know."""
    plan: Callable[[], dict[str, Any] | None] = lambda: None
    """The plan as it is now, another object for each change; None: it does not change."""
    title: Callable[[str], str | None] = lambda _: None
    """The title of a task that was added."""
    answer: Callable[[Sequence[Mapping[str, Any]]], str | None] = lambda _: None
    """The answer of a run that has ended; given the results that are to be written. Called by the writer."""


class MemoryJournal:
    """Numbers the events of a run without a store and tells the observers."""

    def __init__(self, scheduler: DagScheduler, observers: Sequence[Observer]) -> None:
        self._scheduler = scheduler
        self._observers = observers
        self._seq = 0
        self._usage: dict[str, Usage] = {}

    def keep_usage(self, handle: str, usage: Usage) -> None:
        """Take what an attempt took of models, to be told with its end."""
        self._usage[handle] = usage

    async def commit(self) -> None:
        """Tell what happened since the last call."""
        scheduler = self._scheduler
        if scheduler.inputs:
            scheduler.inputs.clear()
        changes = scheduler.changes
        if changes:
            scheduler.changes = []
            events = number(with_usage(changes, self._usage), self._seq + 1)
            self._seq += len(events)
            for observer in self._observers:
                observer(events)

    async def keep_memory(self) -> None:
        """Do nothing: there is nobody to remember it for."""

    def holds(self) -> bool:
        """Say yes: a run in memory can't be taken away."""
        return True

    async def regain(self) -> None:
        """Do nothing."""

    def give_up(self, *, at_once: bool = False) -> None:
        """Do nothing: there is nothing to wait for."""


class StoreJournal:
    """Writes a run to its store, one transaction a round, from a writer thread of its own."""

    def __init__(
        self,
        store: Store,
        lease: Lease,
        keeper: LeaseKeeper | None,
        scheduler: DagScheduler,
        folder: Path,
        observers: Sequence[Observer],
        *,
        extra: RunExtra | None = None,
        on_store: Callable[[str | None], None] | None = None,
    ) -> None:
        """Write under `lease`, which `keeper` renews; None: it is held for a moment only.

        `on_store` is told why the store can't be reached, when it is waited for, and None when it can again.
        """
        self.store = store
        self._lease = lease
        self._keeper = keeper
        self._scheduler = scheduler
        self._folder = folder
        self._observers = observers
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="allready-store")
        self._outcomes: dict[str, tuple[int, Any]] = {}
        """Attempt → its number and what it gave or left behind, until its end is committed."""
        self._commands: list[tuple[int, str | None]] = []
        self._inputs: list[Any] = []
        """Inputs that await the next commit."""
        self._backoffs: list[Any] = []
        """Of rounds that were left out."""
        self._known_tasks = len(scheduler.graph)
        self._refused: frozenset[str] = frozenset()
        """Scopes that refused, as last recorded."""
        self._extra = extra or RunExtra()
        self._usage: dict[str, Usage] = {}
        self._plan = self._extra.plan()
        """The plan as last recorded."""
        self._batches = 0
        self._on_store = on_store or (lambda _: None)
        self._away = False
        """Whether it was told that the store is away."""
        self._given_up = asyncio.Event()
        self._killed = False
        self._answers: dict[asyncio.Future[Any], float] = {}
        """What is waited for of the writer thread, and since when."""
        self._next_look: asyncio.TimerHandle | None = None
        self._deserted = False
        """Whether the store was left without waiting for its answer."""
        self._behind = False
        """Whether the store lacks something of what the scheduler did."""

    def keep_outcome(self, handle: str, number: int, outcome: Outcome) -> None:
        """Take the result of the attempt with this number, to be written together with its end."""
        if isinstance(outcome, Completed | Failed) and outcome.value is not None:
            self._outcomes[handle] = number, outcome.value

    def keep_usage(self, handle: str, usage: Usage) -> None:
        """Take what an attempt took of models, to be told with its end."""
        self._usage[handle] = usage

    def command_done(self, command_id: int, refused: str | None) -> None:
        """Note that a command was taken, to be written together with its effects."""
        self._commands.append((command_id, refused))

    async def commit(self) -> None:
        """Make everything durable that happened since the last call, then tell the observers."""
        batch = self._take()
        if batch is not None:
            self._behind = True
            last = await self.patiently(self._write, batch)
            self._behind = False
            self._tell(batch, last)

    async def keep_memory(self) -> None:
        """Make durable what a resumed run must know, without any event; not if a commit before it failed."""
        if self._behind:
            return
        memory = {**run_memory(self._scheduler), **self._extra.memory()}
        await self.patiently(self._write, self._numbered(Batch(run={"memory": memory})))

    def commit_now(self) -> None:
        """Do the same where there is no event loop; a store that is away is not waited for."""
        batch = self._take()
        if batch is not None:
            self._tell(batch, self._write(batch))

    def _take(self) -> Batch | None:
        """Give what has to be written; None if there is nothing."""
        changes = self._scheduler.changes or []
        if self._scheduler.inputs:
            self._take_inputs(self._scheduler.inputs, keep=bool(changes))
            self._scheduler.inputs = []
        if not changes and not self._commands and not self._inputs:
            return None
        self._scheduler.changes = []
        commands, self._commands = self._commands, []
        inputs, self._inputs = self._inputs, []
        return self._make_batch(with_usage(changes, self._usage), inputs, commands)

    def _tell(self, batch: Batch, last: int) -> None:
        events = number(batch.changes, last - len(batch.changes) + 1)
        for observer in self._observers:
            observer(events)

    def _take_inputs(self, inputs: list[Any], *, keep: bool) -> None:
        """Add inputs to those to be written; a round that only met the same refusals again is left out."""
        refused = frozenset(entry[3] for entry in inputs if entry[0] == "refuse")
        if not keep and refused == self._refused and all(entry[0] in IDLE_INPUTS for entry in inputs):
            # but what it says of the backoff counts: it is told with the next round that is kept
            self._backoffs += [entry for entry in inputs if entry[0] == "backoff" and any(entry[1:])]
            return
        if any(entry[0] != "tick" for entry in inputs) or keep:
            self._inputs += self._backoffs
            self._inputs += inputs
            self._backoffs = []
        self._refused = refused

    def _make_batch(
        self, changes: Sequence[Change], inputs: list[Any], commands: list[tuple[int, str | None]]
    ) -> Batch:
        scheduler = self._scheduler
        graph = scheduler.graph
        names = dict.fromkeys(change.task for change in changes if change.task is not None)
        rows = []
        for name in names:
            node = graph[name]
            rows.append(
                {
                    "index": node.index,
                    "state": node.state.value,
                    "attempts": node.attempts,
                    "agent": node.agent,
                    "handle": node.handle,
                    "started_at": node.started_at,
                    "finished_at": node.finished_at,
                    "error": node.error,
                    "memory": task_memory(node),
                }
            )
        new = graph.nodes[self._known_tasks :]
        self._known_tasks = len(graph)
        run: dict[str, Any] | None = None
        if changes:
            run = {
                "status": scheduler.status.value,
                "started_at": scheduler.started_at,
                "finished_at": scheduler.finished_at if scheduler.status in RUN_ENDED else None,
                "error": scheduler.error,
                "counts": {state.value: count for state, count in graph.counts.items() if count},
                "memory": {**run_memory(scheduler), **self._extra.memory()},
            }
        new_rows = [
            TaskRow(node.index, node.id, spec_to_json(node.spec), self._extra.title(node.id)) for node in new
        ]
        plan = self._extra.plan()
        grown = None if plan is self._plan else plan
        self._plan = plan
        return self._numbered(Batch(changes, inputs or None, new_rows, rows, (), run, commands, grown))

    def _numbered(self, batch: Batch) -> Batch:
        self._batches += 1
        batch.number = self._batches
        return batch

    def _write(self, batch: Batch) -> int:
        """Write a batch and give the seq of its last event; results may have to be synced to files first.

        To be called again if it raises `StoreUnavailable`.
        """
        if batch.results == ():  # at the first try
            try:
                batch.results = self._results(batch.changes)
            except OSError as error:
                raise StoreError(f"results can't be written to {self._folder}: {error}") from error
        if batch.run is not None and batch.run.get("status") in RUN_ENDED:
            batch.run["answer"] = self._extra.answer(batch.results)
        return self.store.commit(self._lease.run_id, self._lease.epoch, batch)

    def _results(self, changes: Sequence[Change]) -> list[dict[str, Any]]:
        results = []
        for change in changes:
            if change.attempt is None or change.type not in ENDS_OF_ATTEMPTS:
                continue
            number, value = self._outcomes.pop(change.attempt, (0, None))
            told = change.type in {"task.completed", "task.failed"} and "decision" not in (change.data or {})
            if told:  # without a value, too: nothing of an earlier attempt must stay
                node = self._scheduler.graph[change.task or ""]
                folder = attempt_folder(self._folder, node.id, number)
                results.append(result_columns(node.index, value, self._folder, folder))
        return results

    async def in_writer(self, call: Callable[..., T], *args: Any) -> T:
        """Run `call` in the writer thread, where all writing of this run is done."""
        if self._deserted:
            raise StoreUnavailable(f"{self.store.url} does not answer, and is not waited for any longer")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        self._answers[answer] = loop.time()
        if self._next_look is None:
            self._next_look = loop.call_later(LOOK_AT_ANSWERS, self._look_at_answers)
        loop.run_in_executor(self._writer, call, *args).add_done_callback(partial(_hand_on, answer))
        try:
            return await answer
        finally:
            del self._answers[answer]

    def _look_at_answers(self) -> None:
        """Tell of a store that is silent for long, or leave it, if all is to stop."""
        self._next_look = None
        if not self._answers:
            return
        loop = asyncio.get_running_loop()
        silent = loop.time() - min(self._answers.values())
        patience = SILENCE_WHEN_KILLED if self._killed else SILENCE_WHEN_STOPPED
        if self._given_up.is_set() and silent >= patience:
            self._deserted = True
            for answer in self._answers:
                if not answer.done():
                    answer.set_exception(StoreUnavailable(f"{self.store.url} does not answer"))
            return
        if silent >= SILENCE:
            self._tell_store(f"{self.store.url} has not answered for {SILENCE:g} s")
        self._next_look = loop.call_later(LOOK_AT_ANSWERS, self._look_at_answers)

    async def patiently(self, call: Callable[..., T], *args: Any) -> T:
        """Run `call` in the writer thread, again and again while the store is away.

        Raises its last `StoreUnavailable` after `STORE_PATIENCE`, or once nobody wants to wait any more.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        tries = 0
        while True:
            try:
                result = await self.in_writer(call, *args)
            except StoreUnavailable as error:
                hurried = self._given_up.is_set()
                if self._deserted or (hurried and tries >= LAST_TRIES):
                    raise
                if loop.time() - began > STORE_PATIENCE:
                    waited = f"the run has waited {PATIENCE_TEXT} for that to end"
                    raise type(error)(f"{error} ({waited})") from error
                if tries or isinstance(error, StoreBusy):  # a lost connection is mostly made again at once
                    self._tell_store(str(error))
            else:
                self._tell_store(None)
                return result
            delay = STORE_DELAYS[min(tries, len(STORE_DELAYS) - 1)]
            if hurried:
                await asyncio.sleep(delay)
            else:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._given_up.wait(), delay)
            tries += 1

    def _tell_store(self, reason: str | None) -> None:
        away = reason is not None
        if away is not self._away:
            self._away = away
            self._on_store(reason)

    def give_up(self, *, at_once: bool = False) -> None:
        """Wait no more for a store that is away, nor for ever for a silent one; `at_once`: hardly at all."""
        self._given_up.set()
        self._killed |= at_once

    def holds(self) -> bool:
        """Say whether nobody else can own the run right now, by the monotonic clock."""
        return self._keeper is None or self._keeper.valid()

    async def regain(self) -> None:
        """Renew a lease that ran out. Raises `LeaseLost` if another process has taken the run."""
        if self._keeper is not None:
            await self.patiently(self._keeper.renew)

    def close(self) -> None:
        """End the writer thread, when it has done what it is at."""
        if self._next_look is not None:
            self._next_look.cancel()
        self._writer.shutdown(wait=False)


def _hand_on(answer: asyncio.Future[T], given: asyncio.Future[T]) -> None:
    """Hand on what the writer thread gave, if somebody still waits for it."""
    error = None if given.cancelled() else given.exception()
    if answer.done():
        return
    if given.cancelled():
        answer.cancel()
    elif error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(given.result())


def with_usage(changes: list[Change], usage: dict[str, Usage]) -> list[Change]:
    """Add to the ends of attempts what they took of models; takes it out of `usage`."""
    if not usage:
        return changes
    told = []
    for change in changes:
        ends = change.type in ENDS_OF_ATTEMPTS and change.attempt is not None
        taken = usage.pop(change.attempt, None) if ends and change.attempt is not None else None
        told.append(
            change if not taken else change._replace(data={**(change.data or {}), "usage": taken.to_json()})
        )
    return told


def number(changes: Sequence[Change], first: int) -> list[JournalEvent]:
    """Give changes their place in the journal."""
    return [JournalEvent(seq, *change) for seq, change in enumerate(changes, first)]
