"""All that is special about SQLite: one file, looked at before it is touched, and how it is set.

* WAL: readers never wait for the writer. `synchronous=FULL`: a commit is on the disk when it returns.
* Writes begin with BEGIN IMMEDIATE: they queue up at the start for at most the busy timeout. With SQLite's
  own BEGIN, two processes that had read first would both fail when they want to write.
* `application_id` marks our files; others are never written to.
* Every thread gets a connection of its own from the pool while it needs one. One more is kept for
  `PRAGMA data_version`, which tells whether *another* connection has committed.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from allready.errors import StoreError

APPLICATION_ID = 0x616C7264
"""`alrd`."""
BUSY_SECONDS = 5.0
"""How long is waited for another process's transaction. Ours take milliseconds."""
CACHE_KIB = 16 * 1024
"""Page cache of a connection."""
_WRITE = {"allready_write": True}


class SqliteDatabase:
    """One SQLite file: how to make it, how to connect, and what its errors mean."""

    driver_error: type[Exception] = sqlite3.Error
    """What the driver raises where SQLAlchemy is not in between."""

    def __init__(self, path: Path, busy_seconds: float = BUSY_SECONDS) -> None:
        self.path = path
        self.url = f"sqlite:///{path}"
        self._busy_seconds = busy_seconds
        self.engine = sa.create_engine(
            sa.URL.create("sqlite", database=str(path)),
            # autocommit for the driver: BEGIN is ours
            connect_args={"timeout": busy_seconds, "isolation_level": None, "check_same_thread": False},
        )
        sa.event.listen(self.engine, "connect", _set_up)
        sa.event.listen(self.engine, "begin", _begin)
        self.writer = self.engine.execution_options(**_WRITE)
        self._watch: sqlite3.Connection | None = None
        self._watch_lock = threading.Lock()
        self._version = -1

    # --- the file ---------------------------------------------------------------------------------------

    def exists(self) -> bool:
        """Say whether there is a store of ours in the file. Raises `StoreError` if something else is there.

        Nothing is written.
        """
        if not self.path.exists():
            return False
        if not self.path.is_file():
            raise StoreError(f"{self.path} is not a file; name another store with --store")
        connection = self._connect_plainly()
        try:
            (mark,) = connection.execute("PRAGMA application_id").fetchone()
            (objects,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.Error as error:
            raise StoreError(self.explain(error)) from error
        finally:
            connection.close()
        if mark == APPLICATION_ID:
            return bool(objects)
        if mark == 0 and objects == 0:
            return False
        raise StoreError(
            f"{self.path} is a SQLite database of another program; name another file with --store; "
            "nothing was changed"
        )

    def prepare(self) -> None:
        """Make an empty file ours. Several processes may do it at once."""
        connection = self._connect_plainly(create=True)
        try:
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            deadline = time.monotonic() + self._busy_seconds
            while (mode := self._switch_to_wal(connection)) != "wal":
                if mode is not None:
                    raise StoreError(
                        f"{self.path} is on a file system that SQLite's write-ahead log does not work on (it "
                        f"stays in mode {mode}); name a store on a local disk with --store"
                    )
                if time.monotonic() > deadline:
                    raise StoreError(self.explain(sqlite3.OperationalError("database is locked")))
                time.sleep(0.005)
        except sqlite3.Error as error:
            raise StoreError(self.explain(error)) from error
        finally:
            connection.close()

    @staticmethod
    def _switch_to_wal(connection: sqlite3.Connection) -> str | None:
        """Give the mode the file is in now; None if another process is in the way: it won't wait here."""
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                return None
            raise
        return str(mode)

    def _connect_plainly(self, *, create: bool = False) -> sqlite3.Connection:
        mode = "rwc" if create else "rw"
        try:
            return sqlite3.connect(
                f"{self.path.absolute().as_uri()}?mode={mode}",
                uri=True,
                timeout=self._busy_seconds,
                isolation_level=None,
                check_same_thread=False,
            )
        except sqlite3.Error as error:
            raise StoreError(self.explain(error)) from error

    # --- in use -----------------------------------------------------------------------------------------

    def lock_for_migration(self, connection: sa.Connection) -> None:
        """Do nothing: a transaction that writes keeps all others from writing."""

    def changed(self) -> bool:
        """Say whether another connection has committed since the last call."""
        with self._watch_lock:
            if self._watch is None:
                self._watch = self._connect_plainly()
            try:
                (version,) = self._watch.execute("PRAGMA data_version").fetchone()
            except sqlite3.Error as error:
                raise StoreError(self.explain(error)) from error
            before, self._version = self._version, version
            return bool(before != version)

    def close(self) -> None:
        """Close all connections."""
        with self._watch_lock:
            if self._watch is not None:
                self._watch.close()
                self._watch = None
        self.engine.dispose()

    def explain(self, error: BaseException) -> str:
        """Say what happened, and what to do."""
        text = str(error)
        for sign, meaning in _MEANINGS:
            if sign in text:
                return f"{self.path}: {meaning} ({text})"
        return f"{self.path}: the store does not work: {text}"


_MEANINGS = (
    ("database is locked", "another process keeps the store locked; see what it does, then try again"),
    ("not a database", "is no SQLite database; name another file with --store; nothing was changed"),
    ("malformed", "the database is damaged; restore it from a backup, or move it away to begin a new one"),
    ("disk is full", "the disk is full; free some space, then resume the run"),
    ("disk I/O error", "the disk does not take what is written; is it full? Then resume the run"),
    ("readonly", "the store can't be written; check the rights of the file and its folder"),
    ("unable to open", "the store can't be opened; check the rights of the file and its folder"),
)


def _set_up(connection: sqlite3.Connection, _record: Any) -> None:
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")


def _begin(connection: sa.Connection) -> None:
    write = connection.get_execution_options().get("allready_write")
    connection.connection.cursor().execute("BEGIN IMMEDIATE" if write else "BEGIN")
