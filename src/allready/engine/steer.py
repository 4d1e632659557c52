"""Steering a run from outside: from another process, whether somebody drives the run or not."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

from allready.agents.leftovers import end_leftovers
from allready.core.events import Change
from allready.core.graph import TaskGraph
from allready.core.scheduler import DagScheduler
from allready.core.snapshot import spec_from_json
from allready.core.steering import for_people
from allready.engine.budget import remembered
from allready.engine.journal import RunExtra, StoreJournal
from allready.engine.results import drop_unfinished
from allready.engine.session import MonotonicClock
from allready.engine.start import clock_of, last_event_at, take_up
from allready.errors import CommandRefused, LeaseLost, RunOwned
from allready.plan.plan import DEFAULT_SLOTS
from allready.store.contract import Lease, Owner, RunRow, Store
from allready.store.owners import is_alive, this_process

ANSWER_TIME = 3.0
"""Seconds to wait for the owner's answer; it looks for commands a few times a second."""
LOOK_EVERY = 0.02
"""Seconds between two looks for the answer."""
LOOK_AT_OWNER = 0.25
"""Seconds between two looks whether there is a living owner; these read more."""


class Steered(NamedTuple):
    """What became of a person's wish."""

    done: bool
    """Whether it was carried out; if not, and it was not `refused` either, it waits for the run's owner."""
    refused: str | None
    owner: Owner | None
    """The process that drives the run; None if nobody does, so that `resume` is the next step."""


def steer(
    store: Store, run_id: str, kind: str, task: str | None = None, *, wait: float = ANSWER_TIME
) -> Steered:
    """Record a person's wish and see to it that it is carried out, exactly once.

    A living owner does it; without one it is done here, on the record. Kinds are those of
    `DagScheduler.command`. Raises `RunNotFound`.
    """
    row = store.run(run_id, plan=False)
    command = store.add_command(run_id, kind, task)
    now = time.monotonic()
    deadline, look_at_owner = now + wait, now
    owner = row.owner
    while True:
        if now >= look_at_owner:
            owner = _let_owner_or_decide(store, run_id)
            look_at_owner = now + LOOK_AT_OWNER
        record = store.command(command)
        if record.done_at is not None:
            return Steered(record.refused is None, record.refused, owner)
        if now >= deadline:
            return Steered(False, None, owner or row.owner)
        time.sleep(LOOK_EVERY)
        now = time.monotonic()


def _let_owner_or_decide(store: Store, run_id: str) -> Owner | None:
    """Give the living owner, who does what is waiting; None if there is none: then it has been done here."""
    row = store.run(run_id, plan=False)
    if not nobody_drives(row):
        return row.owner
    try:
        decide_pending(store, run_id)
    except (RunOwned, LeaseLost):  # lost to another thread of this process, which is the same owner
        return store.run(run_id, plan=False).owner
    return None


def nobody_drives(row: RunRow) -> bool:
    """Say whether a run has no owner, or one that is gone, as far as that can be known from here.

    An owner on this host that is suspended still drives it; of one on another host its lease tells.
    """
    if row.owner is None:
        return True
    alive = is_alive(row.owner)
    return not alive if alive is not None else (row.lease_until or 0.0) <= time.time()


def decide_pending(store: Store, run_id: str) -> None:
    """Carry out all waiting wishes on the record of a run that nobody drives. Raises `RunOwned`."""
    lease = store.acquire(run_id, this_process())
    try:
        row = store.run(run_id)
        end_leftovers(run_id, folder=Path(row.folder))
        drop_unfinished(store.tasks(run_id), Path(row.folder))
        _decide(store, row, lease)
    finally:
        store.release(run_id, lease.epoch)


def _decide(store: Store, row: RunRow, lease: Lease) -> None:
    scheduler, clock = stored_scheduler(store, row, lease.last_seen)
    kept = remembered(row.memory)
    journal = StoreJournal(
        store,
        lease,
        None,
        scheduler,
        Path(row.folder),
        [],
        extra=RunExtra(memory=lambda: kept),
    )
    assert scheduler.changes is not None
    if row.last_seq == 0:  # its process ended before the first commit
        scheduler.changes.append(Change(clock(), "run.created", None, None, _created(row, scheduler)))
    any_done = False
    try:
        for command in store.pending_commands(row.id):
            refused = None
            try:
                for_people(command.kind)
                scheduler.command(command.kind, command.task, clock())
                any_done = True
            except CommandRefused as error:
                refused = str(error)
            journal.command_done(command.id, refused)
        if any_done:
            for _ in scheduler.tick(clock()):
                pass  # the end is noticed; what is offered goes back to ready
        else:  # the run is not even taken up, and begins only when it is resumed
            scheduler.changes, scheduler.inputs = [], []
        journal.commit_now()
    finally:
        journal.close()


def _created(row: RunRow, scheduler: DagScheduler) -> dict[str, Any]:
    """Give what the first event of a run tells."""
    slots = row.options.get("max_parallel") or row.plan.get("max_parallel") or DEFAULT_SLOTS
    return {"goal": row.goal, "tasks": len(scheduler.graph), "max_parallel": slots}


def stored_scheduler(
    store: Store, row: RunRow, last_seen: float | None = None
) -> tuple[DagScheduler, MonotonicClock]:
    """Give a scheduler where the store says that the run is, and a clock that goes on from there."""
    rows = store.tasks(row.id)
    specs = [spec_from_json(task.spec) for task in rows]
    scheduler = DagScheduler(TaskGraph(specs), seed=row.seed, timeout=row.options.get("timeout"), record=True)
    clock = clock_of(store, row)
    take_up(scheduler, row, rows, clock(), last_seen or last_event_at(store, row))
    return scheduler, clock
