"""What every store promises. The suite in `allready.testing.store_contract` holds each of them to it.

A store is synchronous and may be called from several threads. While a run is driven the engine calls it
from threads of its own, not from the event loop. Times are seconds since 1970 (UTC) as floats. JSON values
only: no pickle, anything else is a `BugError`. In text, NUL and lone surrogates become U+FFFD.

Write-ahead order: nothing with an effect happens before `commit()` has returned. A `Batch` is one
transaction: either all of it is there after a crash, or nothing.

Owners: one process at a time may write to a run. `acquire()` gives it a *lease* and a new *epoch*; every
write carries the epoch, and the store refuses a write whose epoch is not the run's newest (`LeaseLost`).
Thus a process that was suspended and comes back can't write, however wrong its clock is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from allready.core.events import Change

LEASE_SECONDS = 10.0
"""How long an owner may be silent before another may take the run."""
RENEW_SECONDS = 3.0
"""How often an owner renews its lease."""


class Owner(NamedTuple):
    """A process, named so that a pid used again by another process can't be mistaken for it."""

    host: str
    boot_id: str
    pid: int
    started: float
    """When the process started, in seconds on a clock of its host's (see `store.owners`); only compared."""


class Lease(NamedTuple):
    """The right to write to a run."""

    run_id: str
    epoch: int
    previous: Owner | None
    """Who owned the run before, if it ended without letting go."""
    taken_at: float | None = None
    """When the store was asked for it, on this process's `lease_clock`; counts as the first renewal."""
    last_seen: float | None = None
    """When `previous` renewed its lease for the last time; None without one."""


class JournalEvent(NamedTuple):
    """One line of a run's journal: a `Change` with its place in the order."""

    seq: int
    """1, 2, 3, … without gaps within a run."""
    at: float
    type: str
    task: str | None
    attempt: str | None
    data: dict[str, Any] | None


class InputRow(NamedTuple):
    """Inputs of the scheduler as they were committed together, for replay."""

    seq: int
    data: list[Any]


@dataclass(slots=True)
class TaskRow:
    """A task as stored: what it is, where it stands, and the latest attempt's result."""

    index: int
    id: str
    spec: dict[str, Any]
    """What the scheduler needs to know of the task (`TaskSpec` as JSON)."""
    title: str | None = None
    state: str = "pending"
    attempts: int = 0
    agent: str | None = None
    handle: str | None = None
    started_at: float | None = None
    finished_at: float | None = None
    error: str | None = None
    memory: dict[str, Any] = field(default_factory=dict)
    """What else the scheduler must know to go on (retries, not_before, …); empty for most tasks."""
    output: str | None = None
    """At most 64 KiB; None if there is no result."""
    data: Any = None
    """Structured output; the store keeps `None` and JSON null apart through `has_data`."""
    has_data: bool = False
    output_file: str | None = None
    """Relative to the run's folder."""
    output_size: int | None = None
    output_sha256: str | None = None
    exit_code: int | None = None


@dataclass(slots=True)
class TaskMark:
    """Where a task stands, in few words: for runs with very many of them."""

    index: int
    id: str
    state: str
    finished_at: float | None
    remembers: bool
    """Whether its `memory` has anything."""


TASK_COLUMNS = ("state", "attempts", "agent", "handle", "started_at", "finished_at", "error", "memory")
RESULT_COLUMNS = (
    "output",
    "data",
    "has_data",
    "output_file",
    "output_size",
    "output_sha256",
    "exit_code",
)


@dataclass(slots=True)
class RunRow:
    """A run as stored."""

    id: str
    goal: str
    status: str
    created_at: float
    seed: int
    folder: str
    """Absolute path of the run's folder on the host that made it."""
    plan: dict[str, Any]
    """The stored plan (`Plan.document`, or references to functions for a plan from Python)."""
    options: dict[str, Any] = field(default_factory=dict)
    """How it was started: slots, source, working directory, …"""
    source: str | None = None
    started_at: float | None = None
    finished_at: float | None = None
    error: str | None = None
    answer: str | None = None
    counts: dict[str, int] = field(default_factory=dict)
    """Task state → how many; kept up with every commit, so that lists need not read the tasks."""
    owner: Owner | None = None
    lease_until: float | None = None
    epoch: int = 0
    last_seq: int = 0
    memory: dict[str, Any] = field(default_factory=dict)
    """What else the scheduler must know of the run to go on."""


RUN_COLUMNS = ("status", "started_at", "finished_at", "error", "answer", "counts", "memory")


@dataclass(slots=True)
class CommandRow:
    """A wish of a person, recorded for the run's owner (or for whoever will own it)."""

    id: int
    run_id: str
    kind: str
    """`pause`, `resume`, `cancel`, `retry`, `approve`, `skip`, `abort`."""
    task: str | None
    created_at: float
    done_at: float | None = None
    """When the owner took it; None: not yet."""
    refused: str | None = None
    """Why it did not apply; None if it did (or is not done yet)."""


class TaskTimes(NamedTuple):
    """How long a task took that is the same one in many runs."""

    times: int
    """How often it completed."""
    median: float
    """Seconds, of the last 31 times."""
    spread: float
    """Seconds between a quarter and three quarters of these (interquartile range)."""


@dataclass(slots=True)
class Batch:
    """One transaction of a run's owner: all that one tick brought."""

    changes: Sequence[Change] = ()
    """In order; the store numbers them."""
    inputs: list[Any] | None = None
    new_tasks: Sequence[TaskRow] = ()
    tasks: Sequence[dict[str, Any]] = ()
    """Rows to update: `index` and all of `TASK_COLUMNS`."""
    results: Sequence[dict[str, Any]] = ()
    """Rows to update: `index` and all of `RESULT_COLUMNS`."""
    run: dict[str, Any] | None = None
    """Columns of the run to set, out of `RUN_COLUMNS`."""
    commands: Sequence[tuple[int, str | None]] = ()
    """Commands taken: (id, why refused or None)."""
    plan: dict[str, Any] | None = None
    """The plan as it is now, of a run that grows; None: as it was."""
    number: int | None = None
    """Counts the batches of one lease, 1, 2, 3, …: the one written last may be handed in again, by an owner
    that can't know whether it was (see `StoreUnavailable`), and is not written twice. None: not counted."""


class Store(Protocol):
    """See the module's head. Every method raises `StoreError` if the store does not work."""

    url: str

    @property
    def path(self) -> Path | None:
        """Absolute path of the database's file; None if it is on a server."""
        ...

    def create_run(self, run: RunRow, tasks: Iterable[TaskRow]) -> None:
        """Record a new run and its tasks, in one transaction; it has no owner yet."""
        ...

    def acquire(self, run_id: str, owner: Owner) -> Lease:
        """Take the run. Raises `RunOwned` while another living owner has it, `RunNotFound`.

        Possible at once if nobody owns it, if its lease ran out, if `owner` itself has it, or if the
        owner was on this host and is dead (another boot id, no such pid, or another start time).
        """
        ...

    def renew(self, run_id: str, epoch: int) -> None:
        """Prolong the lease by `LEASE_SECONDS`. Raises `LeaseLost` if the epoch is not the newest."""
        ...

    def release(self, run_id: str, epoch: int) -> None:
        """Let the run go: this epoch can't write any more. Does nothing if another has the run by now."""
        ...

    def commit(self, run_id: str, epoch: int, batch: Batch) -> int:
        """Write the batch and give the seq of the run's last event.

        Raises `LeaseLost`, or `BugError` for a task that isn't there, a command that was taken before, or a
        number that is neither the last one nor the next; then nothing is written. After `StoreUnavailable`
        it may have been written: hand in the same batch, with its number, again.
        """
        ...

    def runs(self, limit: int = 50, before: str | None = None, status: str | None = None) -> list[RunRow]:
        """Give the newest runs first, those before run id `before`; `plan` is left empty.

        Quick for 10,000 runs.
        """
        ...

    def run(self, run_id: str, plan: bool = True) -> RunRow:
        """Give a run; without `plan` that is left empty, which is much quicker for large runs.

        Raises `RunNotFound`.
        """
        ...

    def find_run(self, name: str) -> str:
        """Give the id for an id, an unambiguous beginning of one (4 characters or more), or `latest`.

        Raises `RunNotFound`, which lists what it could have meant.
        """
        ...

    def plan_of_task(self, run_id: str, task_id: str) -> dict[str, Any]:
        """Give the entry of a task in the run's plan; empty if there is none. Raises `RunNotFound`."""
        ...

    def tasks(
        self, run_id: str, outputs: bool = False, indexes: Iterable[int] | None = None
    ) -> list[TaskRow]:
        """Give all tasks by index, or those with these; without `outputs` no `output` and `data`."""
        ...

    def marks(self, run_id: str) -> list[TaskMark]:
        """Give where all tasks stand, by index. Takes a tenth of a second for 100,000."""
        ...

    def task(self, run_id: str, task_id: str) -> TaskRow:
        """Give one task, output included. Raises `UserError` that names similar ids."""
        ...

    def results(self, run_id: str, indexes: Iterable[int]) -> dict[int, TaskRow]:
        """Give the rows of these tasks, output included."""
        ...

    def events(
        self, run_id: str, after: int = 0, limit: int = 1000, task: str | None = None
    ) -> list[JournalEvent]:
        """Give the journal from the event after seq `after`."""
        ...

    def inputs(
        self, run_id: str, after: int = 0, limit: int = 1000, *, newest: bool = False
    ) -> list[InputRow]:
        """Give the scheduler's inputs in order, from the row after seq `after`; or the `newest` of them."""
        ...

    def add_command(self, run_id: str, kind: str, task: str | None = None) -> int:
        """Record a person's wish; gives its id. Needs no lease."""
        ...

    def pending_commands(self, run_id: str) -> list[CommandRow]:
        """Give the commands nobody has taken yet, in the order they were recorded."""
        ...

    def command(self, command_id: int) -> CommandRow:
        """Give one command, to see what became of it."""
        ...

    def add_task_times(self, seconds: Mapping[str, Sequence[float]]) -> None:
        """Take in what tasks took, the newest last, by keys that name what they are. Needs no lease.

        Those that were not run for the longest time are forgotten when there are very many.
        """
        ...

    def task_times(self, keys: Iterable[str]) -> dict[str, TaskTimes]:
        """Give what is known of these keys; takes none of them if nothing is known of any."""
        ...

    def changed(self, watcher: str = "") -> bool:
        """Say whether a command may have been recorded since the last call by this watcher (a run, say).

        Takes microseconds, and may say yes too often: a file tells of all that others wrote, a server only of
        commands, and both some time later.
        """
        ...

    def delete_run(self, run_id: str, epoch: int | None = None) -> None:
        """Remove a run with all that belongs to it in the store.

        Raises `RunOwned` while it is owned by a living process, be it this one; unless `epoch` is that of the
        lease that is held (`LeaseLost` if it is not the newest). Raises `RunNotFound`.
        """
        ...

    def compact(self) -> int:
        """Give back the space that deleted runs took, if there is much of it; gives the bytes that are freed.

        May take a second for every 100 MB, in which nobody else can write.
        """
        ...

    def close(self) -> None:
        """Close all connections; the store can't be used afterwards."""
        ...
