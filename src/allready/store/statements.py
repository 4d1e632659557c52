"""The statements of the hot path: compiled once, given to the driver as text, with all rows at once.

SQLAlchemy writes the SQL, for any database; what is left out is its way of running it, which takes about
15 µs a statement. A commit has five or six, so this halves what the smallest one costs beside the disk.
An idle run's renewals and looks for commands are here because its way is also much code to bring back into
the processor's caches each time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPICursor

from allready.store.contract import RESULT_COLUMNS, TASK_COLUMNS
from allready.store.rows import EMPTY
from allready.store.schema import commands, events, inputs, runs, tasks


class Statement:
    """A statement in the database's own words, to be run for rows that are given as mappings."""

    def __init__(self, statement: sa.Executable, dialect: sa.Dialect) -> None:
        compiled = statement.compile(dialect=dialect)  # type: ignore[attr-defined]
        self._sql: str = compiled.string
        self._order: Sequence[str] | None = compiled.positiontup
        """The names in the order of the question marks; None for a driver that takes names."""

    def run(self, cursor: DBAPICursor, values: Sequence[Mapping[str, Any]]) -> int:
        """Run it for all rows; gives how many rows of the table it touched."""
        order = self._order
        cursor.executemany(
            self._sql, values if order is None else [tuple([row[name] for name in order]) for row in values]
        )
        return cursor.rowcount

    def ask(self, cursor: DBAPICursor, values: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        """Run a statement that returns rows, once; gives them."""
        order = self._order
        cursor.execute(self._sql, values if order is None else tuple([values[name] for name in order]))
        return cursor.fetchall()


class Statements:
    """All of them, for one dialect."""

    def __init__(self, dialect: sa.Dialect) -> None:
        self._dialect = dialect
        self.insert_task = self._of(sa.insert(tasks))
        self.insert_event = self._of(sa.insert(events))
        self.insert_input = self._of(sa.insert(inputs))
        self.update_task = self._of(_task_update(TASK_COLUMNS))
        self.update_result = self._of(_task_update(RESULT_COLUMNS))
        self.take_command = self._of(
            sa.update(commands)
            .where(
                commands.c.id == sa.bindparam("command_id"),
                commands.c.run_id == sa.bindparam("run"),
                commands.c.done_at.is_(None),
            )
            .values(done_at=sa.bindparam("now"), refused=sa.bindparam("reason"))
        )
        self.renew = self._of(
            sa.update(runs)
            .where(
                runs.c.id == sa.bindparam("run_id"),
                runs.c.epoch == sa.bindparam("held_epoch"),
                runs.c.owner_pid.is_not(None),
            )
            .values(lease_until=sa.bindparam("until"))
        )
        self.pending_commands = self._of(
            sa.select(*commands.c)
            .where(commands.c.run_id == sa.bindparam("run"), commands.c.done_at.is_(None))
            .order_by(commands.c.id)
        )
        self.marks = self._of(
            sa.select(
                *(tasks.c[name] for name in ("index", "id", "state", "finished_at")),
                tasks.c.memory != sa.literal_column(f"'{EMPTY}'"),
            )
            .where(tasks.c.run_id == sa.bindparam("run"))
            .order_by(tasks.c.index)
        )
        self._advance: dict[tuple[bool, tuple[str, ...]], Statement] = {}

    def advance(self, columns: tuple[str, ...], *, counted: bool) -> Statement:
        """Give the statement that moves a run on, if the epoch is right, and sets these columns.

        Of a batch that is counted, the number must be the next one, too.
        """
        statement = self._advance.get((counted, columns))
        if statement is None:
            number = sa.bindparam("batch_number", type_=runs.c.last_batch.type)
            update = sa.update(runs).where(
                runs.c.id == sa.bindparam("run_id"),
                runs.c.epoch == sa.bindparam("held_epoch"),
                runs.c.owner_pid.is_not(None),
            )
            if counted:
                update = update.where(runs.c.last_batch + sa.literal_column("1") == number).values(
                    last_batch=number
                )
            statement = self._advance[counted, columns] = self._of(
                update.values(
                    last_seq=runs.c.last_seq + sa.bindparam("more_events"),
                    last_input=runs.c.last_input + sa.bindparam("more_inputs"),
                    **{name: sa.bindparam(f"new_{name}", type_=runs.c[name].type) for name in columns},
                ).returning(runs.c.last_seq, runs.c.last_input)
            )
        return statement

    def _of(self, statement: sa.Executable) -> Statement:
        return Statement(statement, self._dialect)


def _task_update(columns: Iterable[str]) -> sa.Update:
    return (
        sa.update(tasks)
        .where(tasks.c.run_id == sa.bindparam("run_id"), tasks.c.index == sa.bindparam("index"))
        .values({name: sa.bindparam(name, type_=tasks.c[name].type) for name in columns})
    )
