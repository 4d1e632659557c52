"""All that is special about PostgreSQL: where it is, how to connect, and what makes it safe and quick.

* Our tables are in a schema of their own, `allready`, so that they never mix with what else is in the
  database. A schema of that name that is not ours is never written to.
* What a transaction needs is said with its BEGIN, in one message: nothing hangs on the session, so that the
  store also works through proxies that hand a session on after each transaction (PgBouncer).
* Readers see one state of the database (REPEATABLE READ); writers lock the run's row (READ COMMITTED) and so
  never fail because of each other. A commit is on the server's disk when it returns, whatever its default is.
* A transaction whose client has been suspended is ended by the server, so that it does not keep others from
  taking the run; locks are waited for only so long; a dead network is noticed within seconds.
* All stores of a process that are in the same database share one pool: `KEPT_CONNECTIONS` connection stays
  open, more are opened under load, up to `MOST_CONNECTIONS`. One more listens for commands (see `listener`).
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import sqlalchemy as sa
from psycopg.abc import PQGen
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool
from sqlalchemy.util.queue import Empty

from allready.errors import StoreError
from allready.store import postgresql_errors
from allready.store.contract import LEASE_SECONDS
from allready.store.database import ServerState
from allready.store.listener import Listener
from allready.store.postgresql_errors import SCHEMA
from allready.store.postgresql_url import Address

T = TypeVar("T")
CHANNEL = "allready_commands"
"""Commands of people are told here; the payload is the run's id."""
MIGRATION_LOCK = 0x616C7264
"""Number of the advisory lock (`alrd`)."""
OLDEST = 120_000
"""The first version of the server that is tried, as `server_version_num`."""
OURS = frozenset({"alembic_version", "runs", "tasks"})
"""Tables that every store of ours has."""

KEPT_CONNECTIONS = 1
"""Connections that a process keeps, besides the one that listens."""
MOST_CONNECTIONS = 4
"""Connections for transactions that a process has at most."""
PATIENCE = 0.01
"""Seconds to wait for a connection that is in use, before another one is opened; that takes about as long."""
LONGEST_WAIT = 30.0
"""Seconds to wait for one if there are to be no more."""
LONGEST_ANSWER = 120.0
"""Seconds to wait for an answer: none of our statements takes as long, waiting for locks included."""
LOOK_FOR_SIGNALS = 0.1
"""Seconds after which a waiting connection sees that Ctrl-C was pressed."""
LOCK_MS = 15_000
"""How long is waited for a lock: longer than a suspended process can hold it."""
MIGRATION_LOCK_MS = 60_000
"""How long is waited for another process that migrates."""
IDLE_MS = int(LEASE_SECONDS * 1000)
"""How long a transaction may wait for its client; ours do something all the time."""
LOOK_ANYWAY = 3.0
"""Seconds after which `changed` says yes, whatever was heard: a proxy may swallow notifications."""
NETWORK = {
    "connect_timeout": "5",
    "keepalives": "1",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
"""Options of libpq: a server that can't be reached is noticed in ten seconds, as long as a lease lasts."""

_LOCAL = (
    f"SET LOCAL search_path = {SCHEMA}, pg_temp; SET LOCAL idle_in_transaction_session_timeout = {IDLE_MS}"
)
BEGIN_READING = f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {_LOCAL}"
BEGIN_WRITING = f"BEGIN ISOLATION LEVEL READ COMMITTED; {_LOCAL}; SET LOCAL lock_timeout = {LOCK_MS}"
_STATE = """
SELECT current_setting('server_version_num')::int, current_setting('server_encoding'),
  current_setting('synchronous_commit'),
  coalesce(has_schema_privilege(to_regnamespace('allready')::oid, 'USAGE'), true), current_user,
  to_regnamespace('allready') IS NOT NULL, ARRAY(
    SELECT c.relname::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'allready' AND c.relkind IN ('r', 'p', 'v', 'm', 'f') ORDER BY c.relname)
"""
_SERVER = """
SELECT 'PostgreSQL ' || current_setting('server_version'), current_setting('fsync') = 'on',
  pg_is_in_recovery(), (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
  current_setting('max_connections')::int,
  coalesce((SELECT bool_and(CASE c.relkind WHEN 'S' THEN has_sequence_privilege(c.oid, 'USAGE')
      ELSE has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'UPDATE')
        AND has_table_privilege(c.oid, 'DELETE') END)
    FROM pg_catalog.pg_class c WHERE c.relnamespace = to_regnamespace('allready')::oid
      AND c.relkind IN ('r', 'p', 'S') AND c.relname <> 'alembic_version'), true), current_user
"""


class PostgresDatabase:
    """A database on a PostgreSQL server: how to connect, and what its errors mean."""

    driver_error: type[Exception] = psycopg.Error
    path: Path | None = None

    def __init__(self, url: str) -> None:
        self._address = Address(url)
        self.url = self._address.shown
        self._server = _use_server(self._address)
        self.engine = self._server.engine.execution_options(allready_begin=BEGIN_READING)
        self.writer = self._server.engine.execution_options(allready_begin=BEGIN_WRITING)
        self._seen: dict[str, tuple[int, float]] = {}
        """Watcher → the number of the news it was told of last, and when."""
        self._closed = False
        self._user = "the_user"
        self._there = False
        """Whether the store was there when it was looked for, or has been made."""

    # --- the database -----------------------------------------------------------------------------------

    def exists(self) -> bool:
        """Say whether there is a store of ours. Raises `StoreError` if something else is in its place."""
        with self._explained(), self.engine.begin() as connection:
            state = connection.exec_driver_sql(_STATE).one()
        version, encoding, synchronous, may_use, user, _, tables = state
        self._user, self._there = user, bool(tables)
        if not may_use:  # our tables would be made as temporary ones, and gone with the connection
            raise StoreError(
                f"{self.url}: the user {user} may not use the schema {SCHEMA!r}; whoever it belongs to says: "
                f"{postgresql_errors.grants(user)}; nothing was changed"
            )
        if version < OLDEST:
            raise StoreError(f"{self.url}: stores need PostgreSQL {OLDEST // 10_000} or later")
        if encoding != "UTF8":
            raise StoreError(
                f"{self.url}: the database keeps text as {encoding}; make one that can keep any: "
                "createdb --encoding=UTF8 --template=template0 NAME"
            )
        if synchronous == "off":
            begin = f"{BEGIN_WRITING}; SET LOCAL synchronous_commit = on"
            self.writer = self._server.engine.execution_options(allready_begin=begin)
        self._check_ours(tables)
        return bool(tables)

    def _check_ours(self, tables: list[str]) -> None:
        if tables and not OURS.issubset(tables):
            shown = ", ".join(tables[:5])
            raise StoreError(
                f"{self.url}: the schema {SCHEMA!r} there is of another program (it has {shown}); name "
                "another database with --store; nothing was changed"
            )

    def prepare(self) -> None:
        """Do nothing: the schema is made together with its tables."""

    def lock_for_migration(self, connection: sa.Connection) -> None:
        """Keep other processes from migrating, and make the schema if it is missing."""
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {MIGRATION_LOCK_MS}")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
        *_, there, tables = connection.exec_driver_sql(_STATE).one()
        self._check_ours(tables)
        if not there:
            connection.exec_driver_sql(f"CREATE SCHEMA {SCHEMA}")
            connection.exec_driver_sql(f"COMMENT ON SCHEMA {SCHEMA} IS 'allready: runs and their tasks'")
        self._there = True

    # --- in use -----------------------------------------------------------------------------------------

    def now(self, connection: sa.Connection) -> float:
        """Give the server's time, which all hosts share."""
        found = connection.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp())::float8").scalar()
        assert isinstance(found, float)
        return found

    def notify(self, connection: sa.Connection, run_id: str) -> None:
        """Tell those who listen of a command, when the transaction is committed.

        Not done at other commits: the server lets only one transaction at a time commit with news.
        """
        connection.execute(sa.select(sa.func.pg_notify(CHANNEL, run_id)))

    def changed(self, watcher: str) -> bool:
        """Say whether a command was recorded; nothing is sent for that. Yes while nothing can be heard."""
        try:
            news = self._server.listener.news()
        except psycopg.Error:  # the store itself says what is wrong, if it is not only this connection
            return True
        now = time.monotonic()
        seen, at = self._seen.get(watcher, (-1, now))
        if news == seen and now - at < LOOK_ANYWAY:
            return False
        self._seen[watcher] = news, now
        return True

    def server(self) -> ServerState:
        """Give how the server is set up."""
        with self._explained(), self.engine.begin() as connection:
            *state, may_write, user = connection.exec_driver_sql(_SERVER).one()
        return ServerState._make([*state, None if may_write else postgresql_errors.grants(user)])

    def compact(self) -> int:
        """Do nothing: the server does that by itself (autovacuum)."""
        return 0

    def close(self) -> None:
        """Close all connections, unless another store of this process uses them."""
        if not self._closed:
            self._closed = True
            _leave_server(self._server)

    # --- errors -----------------------------------------------------------------------------------------

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sa.exc.SQLAlchemyError, psycopg.Error) as error:
            cause = (isinstance(error, sa.exc.DBAPIError) and error.orig) or error
            raise self.kind_of(cause)(self.explain(cause)) from error

    def breaks_rule(self, error: BaseException) -> bool:
        """Say whether what was asked for can't be: the caller's fault."""
        return postgresql_errors.breaks_rule(error)

    def kind_of(self, error: BaseException) -> type[StoreError]:
        """Give what an error means."""
        return postgresql_errors.kind_of(error)

    def explain(self, error: BaseException) -> str:
        """Say what happened, and what to do."""
        told = postgresql_errors.explain(error, self._address, self._user, there=self._there)
        return f"{self.url}: {told}"


# --- connections ------------------------------------------------------------------------------------------


class _Server:
    """What the stores of a process that are in the same database share."""

    def __init__(self, address: Address) -> None:
        self.key = _key(address)
        self.users = 0
        self._address = address
        self.engine = sa.create_engine(
            "postgresql+psycopg://",
            creator=self._connect,
            poolclass=_Pool,
            pool_size=KEPT_CONNECTIONS,
            max_overflow=MOST_CONNECTIONS - KEPT_CONNECTIONS,
            pool_timeout=LONGEST_WAIT,
            use_native_hstore=False,
        )
        sa.event.listen(self.engine, "begin", _begin)
        sa.event.listen(self.engine, "checkout", _look_at)
        self.listener = Listener(self._connect, CHANNEL)

    def _connect(self) -> psycopg.Connection[Any]:
        name = {"application_name": f"allready {os.getpid()}"}
        options = {**NETWORK, **name, **self._address.parts, "client_encoding": "UTF8"}
        connection = _Connection.connect(**options, autocommit=True)  # BEGIN is ours
        try:
            found = connection.execute("SELECT pg_backend_pid()").fetchone()
        except BaseException:
            connection.close()
            raise
        if found != (connection.info.backend_pid,):
            # a proxy is in between, which may give each transaction to another session: what was prepared in
            # one is not there in another, or is something else
            connection.prepare_threshold = None
        return connection

    def close(self) -> None:
        self.listener.close()
        self.engine.dispose()


_servers: dict[tuple[int, str], _Server] = {}
_servers_lock = threading.Lock()


def _key(address: Address) -> tuple[int, str]:
    return os.getpid(), address.url  # a forked child must not use its parent's connections


def _use_server(address: Address) -> _Server:
    with _servers_lock:
        key = _key(address)
        server = _servers.get(key)
        if server is None:
            server = _servers[key] = _Server(address)
        server.users += 1
        return server


def _leave_server(server: _Server) -> None:
    with _servers_lock:
        server.users -= 1
        if server.users == 0:
            _servers.pop(server.key, None)
            server.close()


class _Connection(psycopg.Connection[Any]):
    """A connection that does not wait for ever, and whose loss is told once: not by a rollback again."""

    def wait(self, gen: PQGen[T], interval: float = LOOK_FOR_SIGNALS, timeout: float | None = None) -> T:
        """Wait for an answer of the server. Raises `psycopg.OperationalError` if it takes too long.

        The network notices a machine that is gone, but not a server that hangs, or a proxy.
        """
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        begun = time.monotonic()
        try:
            return super().wait(gen, interval, LONGEST_ANSWER)
        except psycopg.OperationalError as error:
            if time.monotonic() - begun < LONGEST_ANSWER:
                raise
            self.close()
            reason = f"the server did not answer within {LONGEST_ANSWER:.0f} s: timeout expired"
            raise psycopg.OperationalError(reason) from error

    def rollback(self) -> None:
        """Undo the transaction; with the connection it is gone anyway."""
        if not self.closed:
            super().rollback()


class _Pool(QueuePool):
    """Opens another connection only if none gets free soon, and makes do with those it has."""

    def _do_get(self) -> ConnectionPoolEntry:
        if self.checkedout() > 0:
            try:
                return self._pool.get(True, PATIENCE)
            except Empty:
                pass
        try:
            return super()._do_get()
        except psycopg.OperationalError:
            if self.checkedout() == 0:
                raise
        # the server may have no more connections; whether it is gone, those that are in use will find out
        try:
            return self._pool.get(True, LONGEST_WAIT)
        except Empty:
            raise sa.exc.TimeoutError(f"no connection got free within {LONGEST_WAIT:.0f} s") from None


def _begin(connection: sa.Connection) -> None:
    begin = connection.get_execution_options()["allready_begin"]
    connection.connection.cursor().execute(begin, prepare=False)  # type: ignore[call-arg]


def _look_at(connection: psycopg.Connection[Any], _record: Any, _proxy: Any) -> None:
    """Don't give out a connection that the server has closed; then all that are as old are opened anew.

    That is seen without asking the server: nothing comes on an idle connection but notices, and the end.
    """
    if not is_alive(connection):
        raise sa.exc.InvalidatePoolError("the server has closed the connection")


def is_alive(connection: psycopg.Connection[Any]) -> bool:
    """Say whether a connection still stands, as far as can be known from here. Reads what has come."""
    try:
        while not connection.closed and _readable(connection):
            connection.pgconn.consume_input()
            connection.pgconn.is_busy()  # libpq looks into what it has read
    except psycopg.Error:
        return False
    return not connection.closed


def _readable(connection: psycopg.Connection[Any]) -> bool:
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))
