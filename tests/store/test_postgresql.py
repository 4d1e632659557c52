"""What is special about stores on a PostgreSQL server; what all stores do is in test_contract.py."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from tests.postgres import GUARDED, Lose, PostgresServer, kill_and_start, stop_and_start
from tests.store.opening import open_at_once

from allready.errors import BugError, RunNotFound, StoreBusy, StoreError, StoreUnavailable, UserError
from allready.store import open_store, postgresql, postgresql_errors, upgrade
from allready.store.contract import Batch, TaskRow
from allready.store.open import StoreMissing
from allready.store.owners import this_process
from allready.store.postgresql_url import Address
from allready.store.sql import SqlStore
from allready.testing.store_contract import OTHER_RUN, RUN, a_run, changes, some_tasks

PATIENCE = 60.0


@pytest.fixture
def store(postgres_url: str) -> Iterator[SqlStore]:
    store = open_store(postgres_url)
    store.create_run(a_run(), some_tasks("one"))
    yield store
    store.close()


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.005)


# --- where it is ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:s3cret@host:99/db", "postgresql://me@host:99/db"),
        ("postgres://host", "postgresql://host/"),
        ("POSTGRESQL+psycopg://me:s3%20cret@host/a%20b?sslmode=disable", "postgresql://me@host/a%20b"),
        ("postgresql:///db?host=/run/x&port=5433&password=s3cret", "postgresql:///db?host=/run/x&port=5433"),
        ("postgresql://%2Frun%2Fx/db", "postgresql:///db?host=/run/x"),
        ("postgresql://a:1,b:2/db?target_session_attrs=any", "postgresql://a:1,b:2/db"),
        ("postgresql://a,b/db", "postgresql://a,b/db"),
        ("postgresql://[::1]:5433/db", "postgresql://[::1]:5433/db"),
        ("postgresql://host:5432/db?application_name=x@y", "postgresql://host:5432/db"),
        ("postgresql://", "postgresql:///"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    address = Address(url)
    assert address.shown == shown
    assert Address(shown).shown == shown
    for part in ("host", "port", "dbname", "user"):
        assert Address(shown).parts.get(part) == address.parts.get(part)


def test_a_socket_is_a_place_as_good_as_any(postgres: PostgresServer, postgres_url: str) -> None:
    name = postgres_url.rpartition("/")[2]
    store = open_store(f"postgresql:///{name}?host={postgres.folder}&port={postgres.port}&user=postgres")
    store.create_run(a_run(), [])
    store.close()
    over_tcp = open_store(postgres_url, create=False)
    assert [run.id for run in over_tcp.runs()] == [RUN]
    over_tcp.close()


def test_without_the_driver_it_is_said_what_to_install() -> None:
    code = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from allready.store import open_store\n"
        "from allready.errors import UserError\n"
        "try: open_store('postgresql://host/db')\n"
        "except UserError as error: print(error)\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "pip install 'allready[postgres]'" in told


def test_an_empty_database_has_no_store(postgres: PostgresServer, postgres_url: str) -> None:
    for prepare in (None, "CREATE SCHEMA allready"):
        if prepare:
            postgres.execute(prepare, postgres_url.rpartition("/")[2])
        for ask in (lambda: open_store(postgres_url, create=False), lambda: upgrade(postgres_url)):
            with pytest.raises(StoreMissing, match="is empty"):
                ask()
    open_store(postgres_url).close()
    open_store(postgres_url, create=False).close()


def test_several_processes_may_make_a_store_at_the_same_instant(postgres_url: str) -> None:
    assert open_at_once(postgres_url) == ["0"] * 4


# --- what is in the way -----------------------------------------------------------------------------------


def open_fails(url: str, kind: type[Exception], *texts: str) -> str:
    with pytest.raises(kind) as told:
        open_store(url)
    for text in texts:
        assert text in str(told.value)
    return str(told.value)


def test_a_server_that_can_not_be_reached_is_told_with_what_to_do(postgres: PostgresServer) -> None:
    open_fails("postgresql://me:s3cret@127.0.0.1:1/db", StoreUnavailable, "start it, or check host and port")
    open_fails("postgresql://nosuch.invalid/db", StoreUnavailable, "host is not known")
    open_fails(f"postgresql:///db?host={postgres.folder}/none", StoreUnavailable, "start it, or check")
    open_fails(postgres.url("nosuch"), StoreUnavailable, "createdb nosuch")
    open_fails(postgres.url(user="nobody_of_this_name"), StoreUnavailable, "check the user's name")
    server = f"can't connect to 127.0.0.1 port {postgres.port}; check the URL and its options"
    open_fails(f"{postgres.url()}?sslmode=require", StoreUnavailable, server, "SSL was required")
    open_fails(f"{postgres.url()}?sslmode=nonsense", StoreUnavailable, server, "invalid sslmode value")


@pytest.fixture
def guarded(postgres: PostgresServer) -> Iterator[str]:
    """The name of a role that needs a password and may do next to nothing."""
    postgres.execute(f"CREATE ROLE {GUARDED} LOGIN PASSWORD 's3cret'")
    yield GUARDED
    postgres.start()
    postgres.execute(f"DROP OWNED BY {GUARDED}")
    postgres.execute(f"DROP ROLE {GUARDED}")


def test_passwords_and_rights(postgres: PostgresServer, guarded: str) -> None:
    name = postgres.new_database().rpartition("/")[2]
    wrong = open_fails(postgres.url(name, f"{guarded}:wr0ng"), StoreError, "refuses this user and password")
    assert "wr0ng" not in wrong
    open_fails(postgres.url(name, guarded), StoreError, "set PGPASSWORD, or use ~/.pgpass")
    url = postgres.url(name, f"{guarded}:s3cret")
    advice = open_fails(url, StoreError, f"CREATE SCHEMA allready AUTHORIZATION {GUARDED}")
    assert "s3cret" not in advice
    postgres.execute(f"CREATE SCHEMA allready AUTHORIZATION {guarded}", name)
    store = open_store(url)
    store.create_run(a_run(), [])
    postgres.execute(f"REVOKE SELECT, UPDATE ON allready.runs FROM {guarded}", name)
    with pytest.raises(StoreError, match="lacks rights") as told:
        store.runs()
    assert not isinstance(told.value, StoreUnavailable)
    store.close()
    postgres.drop_database(url)


def test_a_database_that_can_not_keep_all_text_is_refused(postgres: PostgresServer) -> None:
    postgres.execute(
        "CREATE DATABASE bytes ENCODING 'SQL_ASCII' LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0"
        if int(postgres.execute("SHOW server_version_num")[0][0]) >= 150_000
        else "CREATE DATABASE bytes ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    )
    open_fails(postgres.url("bytes"), StoreError, "SQL_ASCII", "createdb --encoding=UTF8")
    assert postgres.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'allready'", "bytes") == []
    postgres.drop_database(postgres.url("bytes"))


def test_a_standby_can_be_looked_at_but_not_written(
    postgres: PostgresServer, postgres_url: str, store: SqlStore
) -> None:
    mark = postgres.data / "standby.signal"
    postgres.stop()
    mark.touch()
    try:
        postgres.start()
        seen = open_store(postgres_url, create=False)
        assert [run.id for run in seen.runs()] == [RUN]
        state = seen.server()
        assert state is not None
        assert state.standby
        with pytest.raises(StoreError, match="is it a standby"):
            seen.add_command(RUN, "pause")
        seen.close()
    finally:
        postgres.stop()
        mark.unlink()
        postgres.start()


RAISE = "DO $$ BEGIN RAISE EXCEPTION 'on purpose' USING ERRCODE = '{}'; END $$"


@pytest.mark.parametrize(
    ("code", "kind", "text"),
    [
        ("40001", StoreBusy, "try again"),
        ("40P01", StoreBusy, "try again"),
        ("55P03", StoreBusy, "keeps the run locked"),
        ("57P01", StoreUnavailable, "has been stopped"),
        ("57P03", StoreUnavailable, "is starting"),
        ("57014", StoreUnavailable, "took too long"),
        ("25P03", StoreUnavailable, "took too long"),
        ("53300", StoreUnavailable, "no more connections"),
        ("08006", StoreUnavailable, "on purpose"),
        ("53100", StoreError, "disk is full"),
        ("25006", StoreError, "standby"),
        ("42501", StoreError, "lacks rights"),
        ("42P01", StoreError, "tables of the store are missing"),
        ("XX001", StoreError, "does not work: on purpose"),
        ("23505", BugError, "on purpose"),
        ("22003", BugError, "on purpose"),
        ("42601", BugError, "on purpose"),
    ],
)
def test_what_errors_of_the_server_mean(store: SqlStore, code: str, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind) as told, store._writing() as connection:
        connection.exec_driver_sql(RAISE.format(code))
    assert type(told.value) is kind
    assert text in str(told.value)
    assert [run.id for run in store.runs()] == [RUN], "the connection can be used again"


def test_a_connection_that_does_not_get_free_in_time_is_not_called_lost() -> None:
    error = sa.exc.TimeoutError("no connection got free within 30 s")
    told = postgresql_errors.explain(error, Address("postgresql://host/db"))
    assert told.startswith("the server has no more connections for us; raise its max_connections")


def test_a_user_who_may_not_use_the_schema_is_refused(postgres: PostgresServer, postgres_url: str) -> None:
    """Not with tables that are temporary, and gone with the connection."""
    open_store(postgres_url).close()
    name = postgres_url.rpartition("/")[2]
    postgres.execute("DROP ROLE IF EXISTS weak")
    postgres.execute("CREATE ROLE weak LOGIN")
    with pytest.raises(StoreError, match=r"the user weak may not use the schema 'allready'.*GRANT USAGE"):
        open_store(postgres.url(name, "weak"))
    for statement in ("GRANT USAGE ON SCHEMA allready", "GRANT SELECT ON ALL TABLES IN SCHEMA allready"):
        postgres.execute(f"{statement} TO weak", name)
    with contextlib.closing(open_store(postgres.url(name, "weak"))) as store:
        state = store.server()
        assert state is not None
        assert state.lacking is not None
        assert store.runs() == []
        with pytest.raises(StoreError, match="user weak lacks rights; whoever the tables") as told:
            store.create_run(a_run(), [])
        assert state.lacking in str(told.value)
        assert "DELETE ON ALL TABLES (and USAGE ON ALL SEQUENCES) IN SCHEMA allready TO weak" in state.lacking
        rights = {"TABLES": "INSERT, UPDATE, DELETE", "SEQUENCES": "USAGE"}
        for kind, right in rights.items():
            assert store.server() == state
            postgres.execute(f"GRANT {right} ON ALL {kind} IN SCHEMA allready TO weak", name)
        assert store.server() == state._replace(lacking=None)
        store.create_run(a_run(), [])
        store.add_command(RUN, "pause")
        store.delete_run(RUN)
    postgres.drop_database(postgres_url)
    postgres.execute("DROP ROLE weak")


def test_the_store_of_a_dropped_schema_says_so(
    postgres: PostgresServer, postgres_url: str, store: SqlStore
) -> None:
    postgres.execute("ALTER SCHEMA allready RENAME TO somewhere_else", postgres_url.rpartition("/")[2])
    with pytest.raises(StoreError, match="was its schema removed, or renamed"):
        store.runs()


# --- how it is set ----------------------------------------------------------------------------------------


def settings(connection: sa.Connection, *names: str) -> list[Any]:
    return [connection.exec_driver_sql(f"SHOW {name}").scalar() for name in names]


def test_every_transaction_is_set_as_it_must_be(postgres: PostgresServer, postgres_url: str) -> None:
    name = postgres_url.rpartition("/")[2]
    for setting in (
        *("synchronous_commit = off", "default_transaction_isolation = serializable"),
        *("search_path = public", "lock_timeout = 1"),
    ):
        postgres.execute(f"ALTER DATABASE {name} SET {setting}")
    store = open_store(postgres_url)
    ours = ("search_path", "idle_in_transaction_session_timeout", "transaction_isolation")
    with store._reading() as connection:
        found = settings(connection, *ours, "transaction_read_only")
        assert found == ["allready, pg_temp", "10s", "repeatable read", "on"]
    with store._writing() as connection:
        found = settings(connection, *ours, "transaction_read_only", "synchronous_commit", "lock_timeout")
        assert found == ["allready, pg_temp", "10s", "read committed", "off", "on", "15s"]
    store.create_run(a_run(), [])
    store.close()


def test_stronger_commits_stay_as_strong(postgres: PostgresServer, postgres_url: str) -> None:
    postgres.execute(
        f"ALTER DATABASE {postgres_url.rpartition('/')[2]} SET synchronous_commit = remote_apply"
    )
    store = open_store(postgres_url)
    with store._writing() as connection:
        assert settings(connection, "synchronous_commit") == ["remote_apply"]
    store.close()


def test_a_suspended_process_does_not_keep_others_from_the_run(
    store: SqlStore, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = store.acquire(RUN, this_process())
    short = postgresql.BEGIN_WRITING.replace(str(postgresql.IDLE_MS), "200")
    monkeypatch.setattr(postgresql, "BEGIN_WRITING", short)
    suspended, free = open_store(postgres_url), threading.Event()

    def tasks() -> Iterator[TaskRow]:
        assert free.wait(PATIENCE)
        yield TaskRow(9, "late", {})

    def commit() -> None:
        batch = Batch(changes("late"), new_tasks=tasks())  # type: ignore[arg-type]
        suspended.commit(RUN, lease.epoch, batch)

    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(commit)
        wait_until(lambda: _waits_in_a_transaction(store), "it has begun to write")
        assert store.commit(RUN, lease.epoch, Batch(changes("in time"))) == 1
        free.set()
        with pytest.raises(StoreUnavailable):
            late.result(PATIENCE)
    assert [event.type for event in store.events(RUN)] == ["in time"]
    assert suspended.commit(RUN, lease.epoch, Batch(changes("again"))) == 2
    suspended.close()


def _waits_in_a_transaction(store: SqlStore) -> bool:
    with store._reading() as connection:
        query = (
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND state = 'idle in transaction' AND pid <> pg_backend_pid()"
        )
        return bool(connection.exec_driver_sql(query).scalar())


def test_a_lock_is_not_waited_for_without_end(
    store: SqlStore, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = postgresql.BEGIN_WRITING.replace(str(postgresql.LOCK_MS), "100")
    monkeypatch.setattr(postgresql, "BEGIN_WRITING", short)
    lease = store.acquire(RUN, this_process())
    other = open_store(postgres_url)
    with psycopg.connect(postgres_url) as holder:
        holder.execute("SELECT 1 FROM allready.runs FOR UPDATE")
        with pytest.raises(StoreBusy, match="another process keeps the run locked"):
            other.commit(RUN, lease.epoch, Batch(changes("a")))
        assert other.run(RUN).last_seq == 0, "reading waits for nobody"
    assert other.commit(RUN, lease.epoch, Batch(changes("a"))) == 1
    other.close()


def test_a_wish_for_a_run_that_is_being_removed_finds_no_run(store: SqlStore, postgres_url: str) -> None:
    with ThreadPoolExecutor(1) as pool:
        with psycopg.connect(postgres_url) as remover:
            remover.execute("SELECT 1 FROM allready.runs FOR UPDATE")
            for table in ("commands", "inputs", "events", "tasks", "plans", "runs"):
                remover.execute(f"DELETE FROM allready.{table}")
            wish = pool.submit(store.add_command, RUN, "pause")
            wait_until(lambda: wish.done() or _waits_for_a_lock(postgres_url), "the wish waits for the lock")
            assert not wish.done(), "the run is neither there nor gone yet"
        with pytest.raises(RunNotFound):
            wish.result(PATIENCE)


def test_a_wish_waits_for_no_other_write(store: SqlStore, postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as owner:
        owner.execute("UPDATE allready.runs SET last_seq = last_seq + 1")
        assert store.add_command(RUN, "pause") > 0


def _waits_for_a_lock(url: str) -> bool:
    with psycopg.connect(url) as connection:
        query = (
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND wait_event_type = 'Lock' AND pid <> pg_backend_pid()"
        )
        (waiting,) = connection.execute(query).fetchone() or (0,)
    return bool(waiting)


# --- connections that are lost ----------------------------------------------------------------------------


def cut(server: PostgresServer, url: str) -> None:
    assert server.cut_connections(url) > 0
    wait_until(lambda: server.connections(url) == 0, "the connections have ended")


LOSSES: list[Any] = [
    pytest.param(stop_and_start("fast"), id="fast"),
    pytest.param(stop_and_start("immediate"), id="immediate"),
    pytest.param(kill_and_start, id="kill"),
    pytest.param(cut, id="cut"),
]


@pytest.mark.parametrize("lose", LOSSES)
def test_lost_connections_are_not_given_out_again(
    postgres: PostgresServer,
    postgres_url: str,
    store: SqlStore,
    lose: Lose,
) -> None:
    """Nothing fails that began after the server was back: that it is lost is seen without asking it."""
    lease = store.acquire(RUN, this_process())
    for round_ in range(3):
        with ThreadPoolExecutor(4) as pool:  # several connections
            list(pool.map(lambda _: store.runs(), range(20)))
        lose(postgres, postgres_url)
        assert store.commit(RUN, lease.epoch, Batch(changes("a"))) == round_ + 1
        assert len(store.events(RUN)) == round_ + 1


@pytest.mark.parametrize("lose", LOSSES)
def test_what_was_under_way_fails_and_one_more_try_is_enough(
    postgres: PostgresServer,
    postgres_url: str,
    store: SqlStore,
    lose: Lose,
) -> None:
    def tasks() -> Iterator[TaskRow]:
        yield from some_tasks(*(f"t{number}" for number in range(1500)))
        lose(postgres, postgres_url)
        yield TaskRow(1500, "last", {})

    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            store.create_run(a_run(OTHER_RUN), tasks())
        assert [run.id for run in store.runs()] == [RUN]
    store.create_run(a_run(OTHER_RUN), some_tasks("one"))
    assert [task.id for task in store.tasks(OTHER_RUN)] == ["one"]


def test_a_server_that_is_away_is_told_and_news_are_heard_after_it(
    postgres: PostgresServer, postgres_url: str, store: SqlStore
) -> None:
    assert store.changed(RUN)
    assert not store.changed(RUN)
    postgres.stop("immediate")
    with pytest.raises(StoreUnavailable, match=r"no PostgreSQL server answers at 127\.0\.0\.1 port"):
        store.runs()
    assert store.changed(RUN), "something may have come; nobody can know"
    postgres.start()
    other = open_store(postgres_url)
    command = other.add_command(RUN, "pause")
    other.close()
    wait_until(lambda: store.changed(RUN), "it has connected again")
    assert [row.id for row in store.pending_commands(RUN)] == [command]
    wait_until(lambda: not store.changed(RUN), "it is silent again")
    store.add_command(RUN, "cancel")
    wait_until(lambda: store.changed(RUN), "it hears again")


BACKEND_KEY = re.compile(rb"(K\0\0\0\x0c)....", re.DOTALL)
"""The protocol's BackendKeyData: length, the session's process id, a key."""


class Proxy:
    """Stands between a client and a server; when it is frozen, it takes what comes and hands nothing on.

    With `own_sessions` it tells clients another session's number than the server's, as poolers do.
    """

    def __init__(self, port: int, *, own_sessions: bool = False) -> None:
        self._own_sessions = own_sessions
        self._to = ("127.0.0.1", port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._flows = threading.Event()
        self._flows.set()
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(self._to)
                self._sockets += [client, server]
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._flows.wait()
                if self._own_sessions:
                    data = BACKEND_KEY.sub(lambda found: found[1] + b"\0\0\0\x07", data)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        self._flows.clear()
        try:
            yield
        finally:
            self._flows.set()

    def close(self) -> None:
        self._flows.set()
        for each in (self._listening, *self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


def test_a_server_that_hangs_is_not_waited_for_without_end(
    postgres: PostgresServer, postgres_url: str, store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = store.acquire(RUN, this_process())
    proxy = Proxy(postgres.port)
    try:
        behind = open_store(postgres_url.replace(f":{postgres.port}/", f":{proxy.port}/"))
        assert [run.id for run in behind.runs()] == [RUN]
        with monkeypatch.context() as patch, proxy.frozen():
            patch.setattr(postgresql, "LONGEST_ANSWER", 0.2)
            with pytest.raises(StoreUnavailable, match=r"does not answer in time.*did not answer within"):
                behind.commit(RUN, lease.epoch, Batch(changes("a"), number=1))
        assert behind.commit(RUN, lease.epoch, Batch(changes("a"), number=1)) == 1
        behind.close()
    finally:
        proxy.close()


@pytest.mark.parametrize(("own_sessions", "threshold"), [(False, 5), (True, None)])
def test_statements_are_not_prepared_behind_a_pooler(
    postgres: PostgresServer, postgres_url: str, own_sessions: bool, threshold: int | None
) -> None:
    """It may give each transaction to another session, where a statement of that name is another one."""
    proxy = Proxy(postgres.port, own_sessions=own_sessions)
    try:
        store = open_store(postgres_url.replace(f":{postgres.port}/", f":{proxy.port}/"))
        store.create_run(a_run(), some_tasks(*(f"t{number}" for number in range(50))))
        for _ in range(20):
            store.renew(RUN, store.acquire(RUN, this_process()).epoch)
        with psycopg.connect(postgres_url) as other:
            assert other.execute("SELECT count(*) FROM allready.tasks").fetchone() == (50,)
        with store._reading() as connection:
            driver = connection.connection.driver_connection
            assert isinstance(driver, psycopg.Connection)
            assert driver.prepare_threshold == threshold
            prepared = connection.exec_driver_sql("SELECT count(*) FROM pg_prepared_statements").scalar()
            assert bool(prepared) is not own_sessions
        store.close()
    finally:
        proxy.close()


# --- connections ------------------------------------------------------------------------------------------


def test_all_stores_of_a_process_share_few_connections(postgres: PostgresServer, postgres_url: str) -> None:
    stores = [open_store(postgres_url) for _ in range(10)]
    stores[0].create_run(a_run(), [])
    most = 0

    def use(store: SqlStore) -> None:
        for _ in range(20):
            store.add_command(RUN, "pause")
            assert store.run(RUN).id == RUN

    with ThreadPoolExecutor(20) as pool:
        work = [pool.submit(use, store) for store in stores]
        while not all(part.done() for part in work):
            most = max(most, postgres.connections(postgres_url))
        for part in work:
            part.result()
    for store in stores:
        store.changed()
    assert most <= postgresql.MOST_CONNECTIONS + 1
    wait_until(
        lambda: postgres.connections(postgres_url) == postgresql.KEPT_CONNECTIONS + 1,
        "those that are not needed any more are closed",
    )
    assert len(stores[0].pending_commands(RUN)) == 200
    for number, store in enumerate(stores):
        store.close()
        store.close()
        if number < 9:
            assert [run.id for run in stores[9].runs()] == [RUN]
    wait_until(lambda: postgres.connections(postgres_url) == 0, "all are closed")


@contextlib.contextmanager
def all_connections_but(server: PostgresServer, left: int) -> Iterator[None]:
    """Let others take all connections that the server has but a few."""
    taken: list[psycopg.Connection[Any]] = []
    try:
        with contextlib.suppress(psycopg.OperationalError):
            while True:
                taken.append(psycopg.connect(server.url()))
        for connection in [taken.pop() for _ in range(left)]:
            connection.close()
        wait_until(lambda: _can_connect(server), "connections are free") if left else None
        yield
    finally:
        for connection in taken:
            connection.close()


def _can_connect(server: PostgresServer) -> bool:
    try:
        psycopg.connect(server.url()).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.fixture
def small_server(postgres: PostgresServer) -> Iterator[PostgresServer]:
    postgres.restart(max_connections="10", superuser_reserved_connections="0")
    yield postgres
    postgres.restart()


def test_a_process_makes_do_with_the_connection_it_has(
    small_server: PostgresServer, postgres_url: str
) -> None:
    store = open_store(postgres_url)
    store.create_run(a_run(), [])
    with all_connections_but(small_server, 0):
        with ThreadPoolExecutor(4) as pool:
            seen = list(pool.map(lambda _: [run.id for run in store.runs()], range(100)))
        assert seen == [[RUN]] * 100
        store.add_command(RUN, "pause")
        assert store.changed(RUN), "it can't listen, so it has to look"
        assert store.changed(RUN)
        told = subprocess.run(
            [sys.executable, "-m", "allready", "list", "--store", postgres_url],
            capture_output=True,
            text=True,
            check=False,
        )
        assert told.returncode == 2
        assert "raise its max_connections" in told.stderr
    wait_until(lambda: not store.changed(RUN), "it listens")
    store.close()


# --- the server that tests use ----------------------------------------------------------------------------

KILLED = """
import os
from tests.postgres import PostgresServer
server = PostgresServer()
server.start()
print(server.pid, server.folder, flush=True)
os.kill(os.getpid(), 9)
"""


def test_a_server_for_tests_ends_with_who_started_it() -> None:
    root = Path(__file__).parents[2]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    pid, folder = killed.stdout.split()
    wait_until(lambda: not Path(folder).exists(), "its folder is removed")
    assert not Path(f"/proc/{pid}/cwd").exists()


def test_wrong_urls_are_the_users_errors() -> None:
    for url in (
        "postgresql://me:a/b@host/db",
        "postgresql://me:a@b@host/db",
        "postgresql://host:port/db?x=y",
    ):
        with pytest.raises(UserError) as told:
            open_store(url)
        assert "a/b" not in str(told.value)
        assert "a@b" not in str(told.value)
