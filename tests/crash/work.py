"""What the processes of a trial do: drive a run, say what a person says, or examine what came of it.

Each is a real process, forked by the zygote from one that has imported everything and done nothing yet.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import traceback
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from tests.crash import ledger, points
from tests.crash.oracle import examine
from tests.crash.plans import PLANS, Reference

from allready.engine.steer import decide_pending, nobody_drives, steer
from allready.errors import RunOwned
from allready.store import schema
from allready.store.contract import JournalEvent
from allready.store.open import open_store
from allready.store.sql import SqlStore


@dataclass
class Job:
    """What a process is to do."""

    kind: str
    """`drive`, `person` or `check`."""
    plan: str
    store: str
    folder: str
    """Of the trial: its ledger, traces, gates and files are there."""
    goal: str
    """By which the run is found in the store: no other trial's has it."""
    number: int
    """Which process of the trial it is."""
    at: str | None = None
    """The point to die at."""
    after: int | None = None
    """How many points to pass before death."""
    run: str | None = None
    limit: int | None = None
    wish: int | None = None
    """Which of the plan's wishes; None: what is to be decided is."""
    clean: dict[str, Any] | None = None
    """The outcome of the run without crashes."""
    kills: int = 0

    @property
    def reference(self) -> Reference:
        return PLANS[self.plan]

    @property
    def ledger(self) -> Path:
        return Path(self.folder, "ledger")

    @property
    def trace(self) -> Path:
        return Path(self.folder, f"trace-{self.number}")

    def to_json(self) -> str:
        return json.dumps(asdict(self))


OWNED = 2
"""Exit code of a process that finds the run in the hands of another one."""


def work(job: Job) -> int:
    """Do the job, in a process of its own; gives the exit code."""
    os.environ[ledger.LEDGER_VARIABLE] = str(job.ledger)
    os.chdir(job.folder)
    points.hasten()
    if job.kind == "check":
        check(job)
        return 0
    points.know_attempts()
    points.grace()
    points.instrument(points.Points(job.trace, job.at, job.after))
    ledger.note("process", job.kind, os.getpid())
    with closing(open_store(job.store)) as store:
        try:
            if job.kind == "drive":
                drive(job, store)
            else:
                person(job, store)
        except RunOwned:
            traceback.print_exc()
            return OWNED
    return 0


def drive(job: Job, store: SqlStore) -> None:
    """Begin the run, or take it up, and drive it."""
    if job.run is None:
        session = job.reference.begin(store, job.goal)
    else:
        session = job.reference.resume(store, job.run, limit=job.limit)
        for pid, command in points.processes_of(job.ledger):
            ledger.note("left", pid, command)
    session.scheduler.validate = True
    session.observe(_tell)
    asyncio.run(session.drive())


def _tell(events: Sequence[JournalEvent]) -> None:
    for event in events:
        ledger.note(
            "told", event.seq, event.type, event.task or ledger.NOTHING, event.attempt or ledger.NOTHING
        )


def person(job: Job, store: SqlStore) -> None:
    """Say what there is to say, once, as a person does who looks first."""
    assert job.run is not None
    if job.wish is not None:
        _wish(job, store, job.run, job.wish)
        return
    reference = job.reference
    if reference.again and store.run(job.run).status == "failed":
        steer(store, job.run, "retry")
        return
    said = [row["task"] for row in commands_of(store, job.run)]
    for task in store.tasks(job.run):
        if task.memory.get("asking") or task.state == "awaiting_approval":
            steer(store, job.run, reference.answer(task.id, said.count(task.id)), task.id)


def _wish(job: Job, store: SqlStore, run: str, number: int) -> None:
    wish = job.reference.wishes[number]
    if len(commands_of(store, run)) <= number:
        steer(store, run, wish.kind, wish.task)
    elif nobody_drives(store.run(run)):  # on record already, by one who was killed then
        with contextlib.suppress(RunOwned):  # somebody does by now
            decide_pending(store, run)
    if wish.opens is not None:
        Path(job.folder, f"gate-{wish.opens}").touch()
    ledger.note("wish", number)


def commands_of(store: SqlStore, run: str) -> list[dict[str, Any]]:
    """Give all wishes of people that are on record, in order."""
    table = schema.commands
    with store._reading() as connection:
        found = connection.execute(sa.select(table).where(table.c.run_id == run).order_by(table.c.id))
        return [dict(row._mapping) for row in found]


def check(job: Job) -> None:
    """Examine the trial after its end; the verdict goes to a file."""
    assert job.run is not None
    with closing(open_store(job.store)) as store:
        commands = commands_of(store, job.run)
        outcome, problems = examine(job.reference, store, job.run, job.ledger, commands, job.clean, job.kills)
    Path(job.folder, "verdict.json").write_text(json.dumps({"outcome": outcome, "problems": problems}))
