"""The store in SQL: one code path through SQLAlchemy Core for all databases.

What differs between databases is in one class for each (see `Database`): how to connect and begin, what an
error means, how to hear of changes. Everything here is portable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPICursor

from allready.errors import BugError, LeaseLost, RunNotFound, RunOwned, StoreError, UserError
from allready.store import migrate, naming, rows, schema, times
from allready.store.contract import (
    LEASE_SECONDS,
    RUN_COLUMNS,
    Batch,
    CommandRow,
    InputRow,
    JournalEvent,
    Lease,
    Owner,
    RunRow,
    TaskMark,
    TaskRow,
    TaskTimes,
)
from allready.store.database import Database, ServerState
from allready.store.lease import lease_clock
from allready.store.owners import is_alive
from allready.store.statements import Statements

CHUNK = 1000
"""Rows that are made and written at a time, and values in one IN."""

_NONSENSE = (ValueError, TypeError, AttributeError, LookupError, RecursionError)
"""What reading rows raises that are not as they were written: no JSON, no numbers, no text."""

_runs, _tasks, _events, _inputs, _commands = (
    schema.runs,
    schema.tasks,
    schema.events,
    schema.inputs,
    schema.commands,
)
_RUN = [_runs.c[name] for name in rows.RUN_FIELDS]
_TASK = [_tasks.c[name] for name in rows.TASK_FIELDS]
_TASK_WHOLE = [*_TASK, *(_tasks.c[name] for name in rows.OUTPUT_FIELDS)]
_OWNER = [_runs.c[name] for name in ("owner_host", "owner_boot_id", "owner_pid", "owner_started")]


class SqlStore:
    """A store in an SQL database; see `contract.Store` for what it promises.

    Made by `open_store`. `clock` gives seconds since 1970, for leases and commands; None: the database's.
    """

    def __init__(self, database: Database, clock: Callable[[], float] | None = None) -> None:
        self.url = database.url
        self._clock = clock
        self._database = database
        self._closed = False
        self._statements = Statements(database.engine.dialect)

    @property
    def path(self) -> Path | None:
        """The database's file; None if it is on a server."""
        return self._database.path

    def server(self) -> ServerState | None:
        """Give how the database's server is set up; None if it is a file."""
        self._check_open()
        return self._database.server()

    def bring_up_to_date(self) -> tuple[str | None, str]:
        """Run the migrations that are missing; gives the version before and after."""
        newest = schema.VERSIONS[-1]
        with self._reading() as connection:
            before = migrate.current_version(connection)
        migrate.check_known(before, self.url)
        if before != newest:
            with self._writing() as connection:
                self._database.lock_for_migration(connection)
                before = migrate.current_version(connection)
                migrate.check_known(before, self.url)
                if before != newest:  # another process may have been faster
                    migrate.run_migrations(connection)
        return before, newest

    # --- writing ----------------------------------------------------------------------------------------

    def create_run(self, run: RunRow, tasks: Iterable[TaskRow]) -> None:
        """Record a new run and its tasks, in one transaction."""
        with self._writing() as connection:
            if connection.execute(sa.select(_runs.c.id).where(_runs.c.id == run.id)).first() is not None:
                raise StoreError(f"run {run.id} is in {self.url} already")
            connection.execute(sa.insert(_runs).values(rows.run_values(run)))
            connection.execute(sa.insert(schema.plans).values(run_id=run.id, plan=rows.to_json(run.plan)))
            self._insert_tasks(connection.connection.cursor(), run.id, tasks)

    def _insert_tasks(self, cursor: DBAPICursor, run_id: str, tasks: Iterable[TaskRow]) -> None:
        left = iter(tasks)
        while chunk := [rows.task_values(run_id, task) for task in islice(left, CHUNK)]:
            self._statements.insert_task.run(cursor, chunk)

    def commit(self, run_id: str, epoch: int, batch: Batch) -> int:
        """Write the batch and give the seq of its last event."""
        with self._writing() as connection:
            cursor = connection.connection.cursor()
            last_seq, last_input = self._advance(connection, cursor, run_id, epoch, batch)
            if last_input is None:
                return last_seq  # written already: this is the second time that it is handed in
            self._write_tasks(cursor, run_id, batch)
            if batch.changes:
                first = last_seq - len(batch.changes) + 1
                values = [rows.event_values(run_id, *entry) for entry in enumerate(batch.changes, first)]
                self._statements.insert_event.run(cursor, values)
            if batch.inputs:
                entry = {"run_id": run_id, "seq": last_input, "data": rows.to_json(batch.inputs)}
                self._statements.insert_input.run(cursor, [entry])
            if batch.commands:
                self._take_commands(connection, run_id, batch.commands)
            if batch.plan is not None:
                plan = rows.to_json(batch.plan)
                connection.execute(
                    sa.update(schema.plans).where(schema.plans.c.run_id == run_id).values(plan=plan)
                )
        return last_seq

    def _advance(
        self, connection: sa.Connection, cursor: DBAPICursor, run_id: str, epoch: int, batch: Batch
    ) -> tuple[int, int | None]:
        """Prove the epoch and number what comes; gives the last event's and the last input's number.

        Without the latter, the batch has been written already.
        """
        values = {
            "run_id": run_id,
            "held_epoch": epoch,
            "batch_number": batch.number,
            "more_events": len(batch.changes),
            "more_inputs": 1 if batch.inputs else 0,
        }
        run = batch.run or {}
        for name, value in run.items():
            if name not in RUN_COLUMNS:
                raise BugError(f"a commit may not set the run's column {name!r}")
            encode = rows.RUN_ENCODERS.get(name)
            values[f"new_{name}"] = value if encode is None else encode(value)
        counted = batch.number is not None
        numbers = self._statements.advance(tuple(run), counted=counted).ask(cursor, values)
        if numbers:
            last_seq, last_input = numbers[0]
            return last_seq, last_input
        held = connection.execute(
            sa.select(_runs.c.last_batch, _runs.c.last_seq).where(
                _runs.c.id == run_id, _runs.c.epoch == epoch, _runs.c.owner_pid.is_not(None)
            )
        ).first()
        if held is None:
            raise LeaseLost(self._who_has(connection, run_id, epoch))
        if held.last_batch != batch.number:
            raise BugError(f"batch {batch.number} of run {run_id} can't follow batch {held.last_batch}")
        return held.last_seq, None

    def _write_tasks(self, cursor: DBAPICursor, run_id: str, batch: Batch) -> None:
        if batch.new_tasks:
            self._insert_tasks(cursor, run_id, batch.new_tasks)
        if batch.tasks:
            values = [rows.state_values(run_id, row) for row in batch.tasks]
            _expect(len(values), self._statements.update_task.run(cursor, values), "tasks")
        if batch.results:
            values = [rows.result_values(run_id, row) for row in batch.results]
            _expect(len(values), self._statements.update_result.run(cursor, values), "results")

    def _take_commands(
        self, connection: sa.Connection, run_id: str, taken: Iterable[tuple[int, str | None]]
    ) -> None:
        """Mark commands as taken. Each can be taken once: a second time would be an effect too many."""
        now = self._now(connection)
        values = [
            {"command_id": command, "run": run_id, "now": now, "reason": rows.clean(reason)}
            for command, reason in taken
        ]
        touched = self._statements.take_command.run(connection.connection.cursor(), values)
        _expect(len(values), touched, "commands")

    def acquire(self, run_id: str, owner: Owner) -> Lease:
        """Take the run."""
        taken_at = lease_clock()
        with self._writing() as connection:
            row = self._owner_row(connection, run_id)
            now = self._now(connection)
            previous = self._take_from(run_id, row, owner, now)
            connection.execute(
                sa.update(_runs)
                .where(_runs.c.id == run_id)
                .values(
                    epoch=_runs.c.epoch + 1,
                    last_batch=0,
                    lease_until=now + LEASE_SECONDS,
                    owner_host=owner.host,
                    owner_boot_id=owner.boot_id,
                    owner_pid=owner.pid,
                    owner_started=owner.started,
                )
            )
            last_seen = None if previous is None else row.lease_until - LEASE_SECONDS
            return Lease(run_id, row.epoch + 1, previous, taken_at, last_seen)

    def _owner_row(self, connection: sa.Connection, run_id: str) -> sa.Row[*tuple[Any, ...]]:
        """Give epoch, lease and owner of a run, and keep others from changing them till the commit."""
        row = connection.execute(
            sa.select(_runs.c.epoch, _runs.c.lease_until, *_OWNER)
            .where(_runs.c.id == rows.clean(run_id))
            .with_for_update()
        ).first()
        if row is None:
            raise self._not_found(connection, run_id)
        return row

    def _take_from(
        self, run_id: str, row: sa.Row[*tuple[Any, ...]], owner: Owner | None, now: float
    ) -> Owner | None:
        """Give the owner that lost the run without letting go. Raises `RunOwned` if it still has it."""
        _, _, *columns = row
        holder = rows.owner_of(*columns)
        if holder is None or holder == owner:
            return None
        until = row.lease_until or 0.0
        if until <= now or is_alive(holder) is False:
            return holder
        raise RunOwned(
            f"run {run_id} is owned by process {holder.pid} on {holder.host} (last heard of at "
            f"{naming.show_time(until - LEASE_SECONDS)}; its lease runs until {naming.show_time(until)}, "
            "and is renewed while it lives): cancel or pause it from here, or wait until it has ended"
        )

    def renew(self, run_id: str, epoch: int) -> None:
        """Prolong the lease."""
        with self._writing() as connection:
            values = {"run_id": run_id, "held_epoch": epoch, "until": self._now(connection) + LEASE_SECONDS}
            if self._statements.renew.run(connection.connection.cursor(), [values]) == 0:
                raise LeaseLost(self._who_has(connection, run_id, epoch))

    def release(self, run_id: str, epoch: int) -> None:
        """Let the run go."""
        with self._writing() as connection:
            connection.execute(
                sa.update(_runs)
                .where(_runs.c.id == run_id, _runs.c.epoch == epoch)
                .values(
                    lease_until=None, owner_host=None, owner_boot_id=None, owner_pid=None, owner_started=None
                )
            )

    def _who_has(self, connection: sa.Connection, run_id: str, epoch: int) -> str:
        """Say why a lease is worth nothing any more."""
        row = connection.execute(sa.select(_runs.c.epoch, *_OWNER).where(_runs.c.id == run_id)).first()
        if row is None:
            return f"run {run_id} is not in {self.url} any more"
        _, *columns = row
        holder = rows.owner_of(*columns)
        if row.epoch == epoch:
            return f"the lease on run {run_id} was released; acquire it again to write"
        who = f"process {holder.pid} on {holder.host}" if holder else "another process"
        return f"{who} took over run {run_id} (epoch {row.epoch}, ours was {epoch})"

    def add_command(self, run_id: str, kind: str, task: str | None = None) -> int:
        """Record a person's wish; gives its id."""
        with self._writing() as connection:
            self._check_run(connection, run_id, keep=True)
            result = connection.execute(
                sa.insert(_commands).values(
                    run_id=run_id, kind=kind, task=rows.clean(task), created_at=self._now(connection)
                )
            )
            self._database.notify(connection, run_id)
            assert result.inserted_primary_key is not None
            return int(result.inserted_primary_key[0])

    def delete_run(self, run_id: str, epoch: int | None = None) -> None:
        """Remove a run with all that belongs to it in the store."""
        with self._writing() as connection:
            row = self._owner_row(connection, run_id)
            if epoch is None:
                self._take_from(run_id, row, None, self._now(connection))
            elif row.epoch != epoch or row.owner_pid is None:
                raise LeaseLost(self._who_has(connection, run_id, epoch))
            for table in reversed(schema.metadata.sorted_tables):
                if table is not schema.task_times:
                    column = _runs.c.id if table is _runs else table.c.run_id
                    connection.execute(sa.delete(table).where(column == run_id))

    def add_task_times(self, seconds: Mapping[str, Sequence[float]]) -> None:
        """Take in what tasks took."""
        with self._writing() as connection:
            times.add(connection, seconds, self._now(connection))
        with self._writing() as connection:  # by itself: it holds rows that others may want first
            times.forget(connection)

    # --- reading ----------------------------------------------------------------------------------------

    def runs(self, limit: int = 50, before: str | None = None, status: str | None = None) -> list[RunRow]:
        """Give the newest runs first."""
        query = sa.select(*_RUN).order_by(_runs.c.id.desc()).limit(max(limit, 0))
        if before is not None:
            query = query.where(_runs.c.id < rows.clean(before))
        if status is not None:
            query = query.where(_runs.c.status == rows.clean(status))
        with self._reading() as connection:
            return [rows.run_of(row) for row in connection.execute(query)]

    def run(self, run_id: str, plan: bool = True) -> RunRow:
        """Give a run, with its plan unless that is not wanted."""
        query = sa.select(schema.plans.c.plan, *_RUN).join_from(_runs, schema.plans)
        if not plan:
            query = sa.select(sa.null(), *_RUN)
        with self._reading() as connection:
            row = connection.execute(query.where(_runs.c.id == rows.clean(run_id))).first()
            if row is None:
                raise self._not_found(connection, run_id)
            return rows.run_of(row[1:], rows.plan_of(row[0]) if plan else None)

    def plan_of_task(self, run_id: str, task_id: str) -> dict[str, Any]:
        """Give what the run's plan says of a task."""
        query = sa.select(schema.plans.c.plan).where(schema.plans.c.run_id == rows.clean(run_id))
        with self._reading() as connection:
            text = connection.execute(query).scalar()
            if text is None:
                raise self._not_found(connection, run_id)
            return rows.task_in_plan(text, task_id)

    def find_run(self, name: str) -> str:
        """Give the id for an id, an unambiguous beginning of one, or `latest`."""
        with self._reading() as connection:
            return naming.find_run(connection, self.url, name)

    def _not_found(self, connection: sa.Connection, run_id: str) -> RunNotFound:
        return naming.not_found(connection, self.url, run_id)

    def tasks(
        self, run_id: str, outputs: bool = False, indexes: Iterable[int] | None = None
    ) -> list[TaskRow]:
        """Give all tasks by index, or these."""
        columns = _TASK_WHOLE if outputs else _TASK
        query = sa.select(*columns).where(_tasks.c.run_id == rows.clean(run_id)).order_by(_tasks.c.index)
        with self._reading() as connection:
            if indexes is None:
                return [rows.task_of(row) for row in connection.execute(query)]
            left = iter(sorted(set(indexes)))
            found: list[TaskRow] = []
            while chunk := list(islice(left, CHUNK)):
                found += map(rows.task_of, connection.execute(query.where(_tasks.c.index.in_(chunk))))
            return found

    def marks(self, run_id: str) -> list[TaskMark]:
        """Give where all tasks stand, by index."""
        with self._reading() as connection:
            found = self._statements.marks.ask(connection.connection.cursor(), {"run": rows.clean(run_id)})
        return [
            TaskMark(index, id_, state, finished, bool(remembers))
            for index, id_, state, finished, remembers in found
        ]

    def task(self, run_id: str, task_id: str) -> TaskRow:
        """Give one task, output included."""
        of_run = _tasks.c.run_id == rows.clean(run_id)
        with self._reading() as connection:
            row = connection.execute(
                sa.select(*_TASK_WHOLE).where(of_run, _tasks.c.id == rows.clean(task_id))
            ).first()
            if row is not None:
                return rows.task_of(row)
            self._check_run(connection, run_id)
            raise naming.no_task(connection, run_id, task_id)

    def _check_run(self, connection: sa.Connection, run_id: str, *, keep: bool = False) -> None:
        """Raise `RunNotFound` if there is no such run; `keep` others from deleting it till the commit."""
        query = sa.select(_runs.c.id).where(_runs.c.id == rows.clean(run_id))
        if keep:  # FOR KEY SHARE, which foreign keys take as well: no other write has to wait
            query = query.with_for_update(read=True, key_share=True)
        if connection.execute(query).first() is None:
            raise self._not_found(connection, run_id)

    def results(self, run_id: str, indexes: Iterable[int]) -> dict[int, TaskRow]:
        """Give the rows of these tasks, output included."""
        return {task.index: task for task in self.tasks(run_id, outputs=True, indexes=indexes)}

    def events(
        self, run_id: str, after: int = 0, limit: int = 1000, task: str | None = None
    ) -> list[JournalEvent]:
        """Give the journal from the event after seq `after`."""
        columns = [_events.c[name] for name in JournalEvent._fields]
        query = sa.select(*columns).where(_events.c.run_id == rows.clean(run_id), _events.c.seq > after)
        if task is not None:
            query = query.where(_events.c.task == rows.clean(task))
        with self._reading() as connection:
            found = connection.execute(query.order_by(_events.c.seq).limit(max(limit, 0)))
            return [rows.event_of(row) for row in found]

    def inputs(
        self, run_id: str, after: int = 0, limit: int = 1000, *, newest: bool = False
    ) -> list[InputRow]:
        """Give the scheduler's inputs from the row after seq `after`, or the newest ones."""
        query = sa.select(_inputs.c.seq, _inputs.c.data).where(
            _inputs.c.run_id == rows.clean(run_id), _inputs.c.seq > after
        )
        query = query.order_by(_inputs.c.seq.desc() if newest else _inputs.c.seq).limit(max(limit, 0))
        with self._reading() as connection:
            found = [rows.input_of(row) for row in connection.execute(query)]
        return found[::-1] if newest else found

    def pending_commands(self, run_id: str) -> list[CommandRow]:
        """Give the commands nobody has taken yet, in the order they were recorded."""
        with self._reading() as connection:
            found = self._statements.pending_commands.ask(
                connection.connection.cursor(), {"run": rows.clean(run_id)}
            )
        return [rows.command_of(row) for row in found]

    def command(self, command_id: int) -> CommandRow:
        """Give one command, to see what became of it."""
        with self._reading() as connection:
            row = connection.execute(sa.select(*_commands.c).where(_commands.c.id == command_id)).first()
        if row is None:
            raise UserError(f"no command {command_id} in {self.url}; its run may have been deleted")
        return rows.command_of(row)

    def task_times(self, keys: Iterable[str]) -> dict[str, TaskTimes]:
        """Give what is known of these keys."""
        with self._reading() as connection:
            return times.read(connection, keys)

    def changed(self, watcher: str = "") -> bool:
        """Say whether commands may have come since the watcher's last call."""
        self._check_open()
        return self._database.changed(watcher)

    def compact(self) -> int:
        """Give back the space that deleted runs took."""
        self._check_open()
        with self._explained():
            return self._database.compact()

    def close(self) -> None:
        """Close all connections; the store can't be used afterwards."""
        self._closed = True
        self._database.close()

    def _now(self, connection: sa.Connection) -> float:
        """Give the time for what is written in the transaction."""
        return self._database.now(connection) if self._clock is None else self._clock()

    # --- transactions -----------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError(f"the store {self.url} was closed")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Make errors of the database ours: broken rules are bugs, everything else is the outside."""
        try:
            yield
        except (sa.exc.SQLAlchemyError, self._database.driver_error, OverflowError) as error:
            cause = (isinstance(error, sa.exc.DBAPIError) and error.orig) or error
            wrong = isinstance(cause, OverflowError) or self._database.breaks_rule(cause)
            if wrong and not self._closed:
                raise BugError(f"the store {self.url} refuses what it was given: {cause}") from error
            raise self._database.kind_of(cause)(self._database.explain(cause)) from error

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        """Give a connection that sees the store as it is at its first query."""
        self._check_open()
        try:
            with self._explained(), self._database.engine.begin() as connection:
                yield connection
        except _NONSENSE as error:
            what = f"{type(error).__name__}: {error}"
            raise StoreError(f"{self.url} is damaged; restore it from a backup ({what})") from error

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        """Give a connection in a transaction that will be committed, or undone if anything is raised."""
        self._check_open()
        with self._explained(), self._database.writer.begin() as connection:
            yield connection


def _expect(count: int, touched: int, what: str) -> None:
    if touched != count:
        raise BugError(f"a commit was to change {count} {what}, but {touched} of them were there to change")
