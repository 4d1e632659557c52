"""All that is special about SQLite: one file, looked at before it is touched, and how it is set.

* WAL: readers never wait for the writer. `synchronous=FULL`: a commit is on the disk when it returns.
* Writes begin with BEGIN IMMEDIATE: they queue up at the start for at most the busy timeout. With SQLite's
  own BEGIN, two processes that had read first would both fail when they want to write.
* `application_id` marks our files; others are never written to.
* Every thread gets a connection of its own from the pool while it needs one. One more is kept for
  `PRAGMA data_version`, which tells whether *another* connection has committed.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from allready.errors import StoreBusy, StoreError

APPLICATION_ID = 0x616C7264
"""`alrd`."""
_SMALLEST = 512
"""Bytes of the smallest database. SQLite takes a file of one byte for an empty one."""
_OLDEST = (3, 35)
"""The first SQLite with RETURNING (2021)."""
BUSY_SECONDS = 5.0
"""How long is waited for another process's transaction. Ours take milliseconds."""
CACHE_KIB = 16 * 1024
"""Page cache of a connection."""
COMPACT_BYTES = 1024 * 1024
COMPACT_SHARE = 0.1
"""Free bytes, and their share of the file, from which on it is worth it to write the file anew."""
LOG_BYTES = 16 * 1024 * 1024
"""The log is cut down to this when it begins anew after something large (a run with very many tasks)."""
_WAL_RETRY = 0.005
"""Seconds between two tries to switch a file to WAL while another process does the same."""
_WRITE = {"allready_write": True}
_RULE_ERRORS = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InterfaceError)


class SqliteDatabase:
    """One SQLite file: how to make it, how to connect, and what its errors mean."""

    driver_error: type[Exception] = sqlite3.Error

    def __init__(self, path: Path) -> None:
        if sqlite3.sqlite_version_info < _OLDEST:
            raise StoreError(
                f"stores need SQLite {'.'.join(map(str, _OLDEST))} or later; this Python has "
                f"{sqlite3.sqlite_version}: use another Python"
            )
        self.path = path
        self.url = f"sqlite:///{path}"
        self._busy_seconds = busy_seconds = BUSY_SECONDS
        self.engine = sa.create_engine(
            sa.URL.create("sqlite", database=str(path)),
            # autocommit for the driver: BEGIN is ours
            connect_args={"timeout": busy_seconds, "isolation_level": None, "check_same_thread": False},
        )
        sa.event.listen(self.engine, "connect", _set_up)
        sa.event.listen(self.engine, "begin", self._begin)
        self.writer = self.engine.execution_options(**_WRITE)
        self._in_use: dict[Path, tuple[int, int]] = {}
        """File → device and inode, as it was when the first transaction had begun."""
        self._watch: sqlite3.Connection | None = None
        self._watch_lock = threading.Lock()
        self._versions: dict[str, int] = {}
        """Watcher → what it saw last."""

    # --- the file ---------------------------------------------------------------------------------------

    def exists(self) -> bool:
        """Say whether there is a store of ours in the file. Raises `StoreError` if something else is there.

        Nothing is written into files of others.
        """
        if not self._may_be_a_database():
            return False
        with self._plain_connection() as connection:
            mark = _pragma(connection, "application_id")
            mode = _pragma(connection, "journal_mode")
            (objects,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if mark not in (0, APPLICATION_ID) or (mark == 0 and objects):
            raise StoreError(
                f"{self.path} is a SQLite database of another program; name another file with --store; "
                "nothing was changed"
            )
        if objects and mode != "wal":  # SQLite leaves this mode when a database is copied with VACUUM INTO
            self.prepare()
        return bool(objects)

    def _may_be_a_database(self) -> bool:
        """Say whether something is there that SQLite should look at.

        Only its size is asked for: to open the file and close it again would take away all locks that this
        process has on it, for whatever store (fcntl(2) says so; sqlite.org/howtocorrupt.html, 2.2).
        """
        try:
            if not self.path.exists():
                return False
            if not self.path.is_file():
                raise StoreError(f"{self.path} is not a file; name another store with --store")
            size = self.path.stat().st_size
            lost = size == 0 and self._log.exists() and self._log.stat().st_size > 0
        except OSError as error:
            raise StoreError(f"{self.path} can't be looked at: {error.strerror}") from error
        if 0 < size < _SMALLEST:
            raise StoreError(self.explain(sqlite3.DatabaseError("file is not a database")))
        if lost:  # SQLite would remove the log
            raise StoreError(
                f"{self.path} is empty, but {self._log.name} is not: it was cut off; restore it from a "
                "backup, or move both away to begin a new store; nothing was changed"
            )
        return size > 0

    def prepare(self) -> None:
        """Make an empty file ours. Several processes may do it at once."""
        with self._plain_connection(create=True) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute("COMMIT")
            deadline = time.monotonic() + self._busy_seconds
            while (mode := self._switch_to_wal(connection)) != "wal":
                if mode is not None:
                    raise StoreError(
                        f"{self.path} is on a file system that SQLite's write-ahead log does not work on (it "
                        f"stays in mode {mode}); name a store on a local disk with --store"
                    )
                if time.monotonic() > deadline:
                    raise sqlite3.OperationalError("database is locked")
                time.sleep(_WAL_RETRY)

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

    @contextmanager
    def _plain_connection(self, *, create: bool = False) -> Iterator[sqlite3.Connection]:
        """Give a connection that has changed nothing yet, not even how it works."""
        try:
            connection = self._connect_plainly(create=create)
            try:
                yield connection
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise StoreError(self.explain(error)) from error

    def _connect_plainly(self, *, create: bool = False) -> sqlite3.Connection:
        return sqlite3.connect(
            f"{self.path.as_uri()}?mode={'rwc' if create else 'rw'}",
            uri=True,
            timeout=self._busy_seconds,
            isolation_level=None,
            check_same_thread=False,
        )

    @property
    def _log(self) -> Path:
        return self.path.with_name(f"{self.path.name}-wal")

    # --- in use -----------------------------------------------------------------------------------------

    def now(self, connection: sa.Connection) -> float:  # noqa: ARG002
        """Give the time: all who use the file share this machine's clock."""
        return time.time()

    def _begin(self, connection: sa.Connection) -> None:
        write = bool(connection.get_execution_options().get("allready_write"))
        connection.connection.cursor().execute("BEGIN IMMEDIATE" if write else "BEGIN")
        self._check_files(write=write)

    def _check_files(self, *, write: bool) -> None:
        """Raise `StoreError` if the files were removed or replaced while we have them open.

        Nobody else would notice: what is written to a file without a name is written well, and lost. The log
        and its index are there from the first writing on; they go with the last connection of all processes,
        and the pool keeps one of ours.
        """
        index = self.path.with_name(f"{self.path.name}-shm")
        for file in (self.path, self._log, index) if write else (self.path,):
            try:
                found = os.stat(file)  # noqa: PTH116 - in every transaction
                now = found.st_dev, found.st_ino
            except OSError:
                now = None
            before = self._in_use.get(file)
            if before is None and now is not None:
                self._in_use[file] = now
            elif before != now or (file == self.path and now is None):
                what = "removed" if now is None else "replaced by another file"
                raise StoreError(
                    f"{file} was {what} while it was in use: what happens now can't be recorded; put it back "
                    f"({self.path.name}, …-wal and …-shm belong together), then resume the run"
                )

    def lock_for_migration(self, connection: sa.Connection) -> None:
        """Do nothing: a transaction that writes keeps all others from writing."""

    def notify(self, connection: sa.Connection, run_id: str) -> None:
        """Do nothing: every commit is noticed."""

    def changed(self, watcher: str) -> bool:
        """Say whether another connection has committed since the watcher's last call."""
        with self._watch_lock:
            try:
                if self._watch is None:
                    self._watch = self._connect_plainly()
                version = _pragma(self._watch, "data_version")
            except sqlite3.Error as error:
                raise StoreError(self.explain(error)) from error
            before = self._versions.get(watcher)
            self._versions[watcher] = version
            return bool(before != version)

    def server(self) -> None:
        """Give nothing: there is none."""

    def compact(self) -> int:
        """Write the file anew without its free pages, if these are many and the disk has room for it."""
        with closing(self._connect_plainly()) as connection:
            _set_up(connection, None)
            # what is free, is free in the log at first
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            free = _pragma(connection, "freelist_count") * _pragma(connection, "page_size")
            whole = self.path.stat().st_size
            if free < max(COMPACT_BYTES, whole * COMPACT_SHARE):
                return 0
            # a copy is made in the temporary folder first, and then another in the log
            if shutil.disk_usage(self.path.parent).free < 3 * (whole - free):
                return 0
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return max(0, whole - self.path.stat().st_size)

    def close(self) -> None:
        """Close all connections."""
        with self._watch_lock:
            if self._watch is not None:
                self._watch.close()
                self._watch = None
        self.engine.dispose()

    def breaks_rule(self, error: BaseException) -> bool:
        """Say whether what was asked for can't be."""
        return isinstance(error, _RULE_ERRORS)

    def kind_of(self, error: BaseException) -> type[StoreError]:
        """Give what an error means: `StoreBusy` if another process keeps the file locked."""
        return StoreBusy if "database is locked" in str(error) else StoreError

    def explain(self, error: BaseException) -> str:
        """Say what happened, and what to do."""
        text = str(error)
        for sign, meaning in _MEANINGS:
            if sign in text:
                more = self._obstacle() if meaning in (_NO_WRITING, _NO_OPENING) else None
                return f"{self.path}: {more or meaning} ({text})"
        return f"{self.path}: the store does not work: {text}"

    def _obstacle(self) -> str | None:
        """Say what keeps us from opening or writing the file; None if that can't be seen."""
        folder = self.path.parent
        if not folder.is_dir():
            return f"there is no folder {folder}; make it first, or name another store with --store"
        for place in (self.path, folder):
            try:
                if os.statvfs(place).f_flag & os.ST_RDONLY:
                    return (
                        "the file system is read-only, but a store is written even when it is only looked "
                        f"at; copy it ({self.path.name}*) to another place, and name that with --store"
                    )
            except OSError:
                continue
        for place in (self.path, self._log, folder):
            # not os.access: that asks for the real user
            if place.exists() and not os.access(place, os.R_OK | os.W_OK, effective_ids=_EFFECTIVE):
                return (
                    f"you may not write {'into' if place is folder else 'to'} {place}; change its rights (a "
                    "store is written even when it is only looked at), or name another one with --store"
                )
        return None


_EFFECTIVE = os.access in os.supports_effective_ids
_NO_WRITING = "the store can't be written; check the rights of the file and its folder"
_NO_OPENING = "the store can't be opened; check the rights of the file and its folder"
_DAMAGED = "the database is damaged; restore it from a backup, or move it away to begin a new one"
_MEANINGS = (
    ("database is locked", "another process keeps the store locked; see what it does, then try again"),
    ("not a database", "this is no SQLite database; name another file with --store; nothing was changed"),
    ("malformed", _DAMAGED),
    ("not decode to UTF-8", _DAMAGED),
    ("disk is full", "the disk is full; free some space, then try again (a run that was stopped: resume it)"),
    (
        "disk I/O error",
        "the disk does not do what it should; is it full, or a quota used up? Then try again",
    ),
    ("readonly", _NO_WRITING),
    ("unable to open", _NO_OPENING),
)


def _pragma(connection: sqlite3.Connection, name: str) -> Any:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def _set_up(connection: sqlite3.Connection, _record: Any) -> None:
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
