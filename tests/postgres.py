"""A real PostgreSQL server for tests and harnesses: made in a second, and gone with whoever asked for it.

    with postgres_server() as server:
        url = server.new_database()     # postgresql://postgres@127.0.0.1:PORT/NAME
        server.restart("immediate")

The binaries are Debian's, those on PATH, or those that `pgserver` from PyPI brings. The server listens on
127.0.0.1 and in its own folder only. It does not outlive us: a watchdog, a process of its own whose standard
input we hold, ends it and removes its folder when that closes, also if we are killed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import psutil

StopMode = Literal["smart", "fast", "immediate"]
STOP_SIGNALS: dict[str, signal.Signals] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}
"""What `pg_ctl stop -m MODE` sends to the postmaster."""
USER = "postgres"
"""The server's superuser. Nobody needs a password but the role `GUARDED`."""
GUARDED = "guarded"
"""Whoever connects by this name over TCP has to know its password; tests make the role."""
PATIENCE = 60.0
"""Seconds for whatever the server has to do."""
LOOK_EVERY = 0.01
"""Seconds between two looks at its state; it tells nobody."""
PORTS = range(20_000, 32_000)
"""Not those that the system gives to clients: while the server is down, one of them could get its port, or,
trying to connect to it, even meet itself."""
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "100",  # as it comes
    "shared_buffers": "16MB",
    "log_statement": "none",
    "logging_collector": "off",
}


def missing() -> str | None:
    """Say why there can't be a server on this machine; None if there can."""
    if importlib.util.find_spec("psycopg") is None:
        return "psycopg is not installed: pip install 'allready[postgres]'"
    if _binaries() is None:
        return "PostgreSQL is not installed: apt install postgresql, or pip install pgserver"
    return None


def _binaries() -> Path | None:
    """Give the folder with initdb and postgres: the newest of Debian's, on PATH, or pgserver's."""
    debian = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    folders = [path.parent for path in sorted(debian, key=lambda path: float(path.parts[4]), reverse=True)]
    on_path = shutil.which("initdb")
    if on_path is not None:
        folders.append(Path(on_path).resolve().parent)
    package = importlib.util.find_spec("pgserver")
    if package is not None and package.origin is not None:
        folders.append(Path(package.origin).parent / "pginstall/bin")
    return next((folder for folder in folders if (folder / "postgres").exists()), None)


@contextlib.contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Make a server and start it; at the end it is stopped and removed."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


class PostgresServer:
    """One server with a data folder of its own; it keeps its port when it is started again."""

    def __init__(self) -> None:
        binaries = _binaries()
        assert binaries is not None, missing()
        self.folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # short, for the socket's path
        self.data = self.folder / "data"
        self.log = self.folder / "log.txt"
        self._watchdog = subprocess.Popen(
            [sys.executable, __file__, str(self.data)],
            stdin=subprocess.PIPE,
            start_new_session=True,
            cwd="/",
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0
        self.port = _free_port()
        try:
            self._as_user = _user_for_it()
            if self._as_user:
                shutil.chown(self.folder, **self._as_user)
            self.binaries = self._reachable(binaries)
            self._initialize()
        except BaseException:
            self.remove()
            raise

    def _reachable(self, binaries: Path) -> Path:
        """Give a folder with the binaries that the server's user can read: not in root's home, say."""
        try:
            self._run(binaries / "initdb", "--version")
        except (OSError, subprocess.CalledProcessError):
            copy = self.folder / "install/pgserver/pginstall"
            shutil.copytree(binaries.parent, copy, symlinks=True)
            libraries = binaries.parents[2] / "pgserver.libs"  # where the binaries of the wheel look for them
            if libraries.exists():
                shutil.copytree(libraries, self.folder / "install/pgserver.libs")
            return copy / "bin"
        return binaries

    def _run(self, *command: str | Path) -> None:
        subprocess.run(
            command,
            check=True,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            **self._user,
        )

    @property
    def _user(self) -> dict[str, Any]:
        return {**self._as_user, "extra_groups": []} if self._as_user else {}

    def _initialize(self) -> None:
        """Make the data folder; its databases sort as people do, not by bytes, if the server can do that."""
        initdb = (
            self.binaries / "initdb",
            "-D",
            self.data,
            "-U",
            USER,
            "-E",
            "UTF8",
            "-A",
            "trust",
            "--no-sync",
        )
        try:
            self._run(*initdb, "--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US")
        except subprocess.CalledProcessError:  # before version 15, or without ICU
            self._run(*initdb, "--no-locale")
        rules = self.data / "pg_hba.conf"
        rules.write_text(f"host all {GUARDED} 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")

    # --- up and down ------------------------------------------------------------------------------------

    def start(self, **settings: str) -> None:
        """Start it and wait until it can be used; does nothing if it runs. `settings` are for this time."""
        if self.runs:
            return
        deadline = time.monotonic() + PATIENCE
        while not self._started(settings, deadline):
            # another program has the port, or processes of a killed server have not ended yet
            log = self.log.read_text(errors="replace")[-2000:]
            assert time.monotonic() < deadline, f"PostgreSQL does not start: {log}"
            time.sleep(LOOK_EVERY)
            if not self._databases:
                self.port = _free_port()

    def _started(self, settings: dict[str, str], deadline: float) -> bool:
        wanted = {**SETTINGS, "unix_socket_directories": str(self.folder), "port": str(self.port), **settings}
        options = [part for name, value in wanted.items() for part in ("-c", f"{name}={value}")]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [self.binaries / "postgres", "-D", self.data, *options],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._user,
            )
        while self._process.poll() is None:
            if self._state() == [str(self._process.pid), "ready"]:
                return True
            assert time.monotonic() < deadline, "PostgreSQL takes too long to start"
            time.sleep(LOOK_EVERY)
        return False

    def _state(self) -> list[str]:
        """Give pid and state, as pg_ctl reads them."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return []
        return [lines[0].strip(), lines[7].strip()] if len(lines) > 7 else []

    @property
    def runs(self) -> bool:
        """Whether its postmaster lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The postmaster's."""
        assert self._process is not None
        return self._process.pid

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop it and wait for its end; `immediate` is without a checkpoint, as if it had crashed."""
        if self._process is not None:
            if self._process.poll() is None:
                self._process.send_signal(STOP_SIGNALS[mode])
            self._process.wait(PATIENCE)

    def restart(self, mode: StopMode = "fast", **settings: str) -> None:
        """Stop it and start it again."""
        self.stop(mode)
        self.start(**settings)

    def kill(self) -> None:
        """Kill the postmaster with SIGKILL; its processes end by themselves, a moment later."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(PATIENCE)

    def suspend(self) -> None:
        """Have it hang: its processes are stopped, its connections stay open, nothing is answered."""
        self._send(signal.SIGSTOP)

    def go_on(self) -> None:
        """Have it go on after `suspend()`, as if nothing had been."""
        self._send(signal.SIGCONT)

    def _send(self, number: signal.Signals) -> None:
        """Send a signal to all its processes, the postmaster first: it makes no others then."""
        postmaster = psutil.Process(self.pid)
        postmaster.send_signal(number)
        for process in postmaster.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def remove(self) -> None:
        """End it and remove all it wrote."""
        if self.runs:
            self.go_on()
        self.stop("immediate")
        assert self._watchdog.stdin is not None
        self._watchdog.stdin.close()
        self._watchdog.wait(PATIENCE)

    # --- in use -----------------------------------------------------------------------------------------

    def url(self, database: str = "postgres", user: str = USER) -> str:
        """Give the URL of a database."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """Make an empty database; gives its URL."""
        self._databases += 1
        name = f"db{self._databases}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Remove a database, whoever is connected to it."""
        self.execute(f"DROP DATABASE IF EXISTS {url.rpartition('/')[2]} WITH (FORCE)")

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run a statement as superuser, outside of a transaction; gives its rows."""
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return [] if cursor.description is None else cursor.fetchall()

    def connections(self, url: str) -> int:
        """Count the connections to a database."""
        name = url.rpartition("/")[2]
        found = self.execute(f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'")
        return int(found[0][0])

    def cut_connections(self, url: str) -> int:
        """End all connections to a database, and wait until they have; gives how many."""
        name = url.rpartition("/")[2]
        of_it = f"FROM pg_stat_activity WHERE datname = '{name}'"
        ended = {pid for pid, _ in self.execute(f"SELECT pid, pg_terminate_backend(pid) {of_it}")}
        deadline = time.monotonic() + PATIENCE
        while ended & {pid for (pid,) in self.execute(f"SELECT pid {of_it}")}:
            assert time.monotonic() < deadline, "the connections don't end"
            time.sleep(LOOK_EVERY)
        return len(ended)


Lose = Callable[[PostgresServer, str], None]
"""A way to lose the connections to a database of a server, by its URL."""


def stop_and_start(mode: StopMode) -> Lose:
    return lambda server, _: server.restart(mode)


def kill_and_start(server: PostgresServer, _: str) -> None:
    server.kill()
    server.start()


def _user_for_it() -> dict[str, Any]:
    """Give whom the server runs as: it refuses root."""
    if os.geteuid() != 0:
        return {}
    for name in (USER, "nobody"):
        with contextlib.suppress(KeyError):
            found = pwd.getpwnam(name)
            return {"user": found.pw_uid, "group": found.pw_gid}
    raise AssertionError("PostgreSQL does not run as root, and there is no user postgres or nobody")


def _free_port() -> int:
    for port in random.sample(PORTS, 100):
        with socket.socket() as tried, contextlib.suppress(OSError):
            tried.bind(("127.0.0.1", port))
            return port
    raise AssertionError("there is no free port")


# --- the watchdog -----------------------------------------------------------------------------------------


def watch(data: Path) -> None:
    """Wait until standard input closes, then end the server of this data folder, and remove its folder."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdin.buffer.read()
    for path in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            if path.readlink() == data:  # a test may have stopped it
                os.kill(int(path.parent.name), signal.SIGCONT)
    with contextlib.suppress(OSError, ValueError, IndexError):
        pid = int((data / "postmaster.pid").read_text().split()[0])
        for number in (signal.SIGQUIT, signal.SIGKILL):
            deadline = time.monotonic() + 5
            while Path(f"/proc/{pid}/cwd").readlink() == data and time.monotonic() < deadline:
                os.kill(pid, number)
                time.sleep(0.05)
    shutil.rmtree(data.parent, ignore_errors=True)


if __name__ == "__main__":
    watch(Path(sys.argv[1]))
