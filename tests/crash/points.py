"""Crash points: a process counts what it passes, and kills itself with SIGKILL at the one it was told.

A point is named by what happens there and how often it happened before: `commit.inside#3` is in the third
commit's transaction, right before COMMIT. The code under test knows nothing of this: its parts are wrapped
here, in the process that is to be killed only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from tests.crash import ledger

from allready.agents import leftovers, process
from allready.core import policy
from allready.engine import start, steer
from allready.engine.journal import StoreJournal
from allready.engine.loop import SchedulerLoop
from allready.engine.session import Session
from allready.engine.worker import Worker
from allready.pool.manager import SubAgent, SubAgentManager
from allready.store import lease, migrate, sql, sqlite, statements

SOONER = 0.04
"""Share of the delays before retries, and of the times between looks and renewals, that is waited here."""
GRACE = 0.15
"""Seconds between asking leftovers and sub-agents to stop and forcing them, instead of 2 and 5."""


class Points:
    """Counts points. `at` is the name of the one to die at; `after` how many to pass before that."""

    def __init__(self, trace: Path, at: str | None = None, after: int | None = None) -> None:
        self._trace = os.open(trace, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._at = at
        self._after = after
        self._counts: Counter[str] = Counter()
        self._total = 0
        self._lock = threading.Lock()

    def __call__(self, kind: str) -> None:
        """Pass a point, or die at it."""
        with self._lock:
            self._total += 1
            self._counts[kind] += 1
            name = f"{kind}#{self._counts[kind]}"
            os.write(self._trace, f"{name}\n".encode())
            if name == self._at or self._total == self._after:
                os.kill(os.getpid(), signal.SIGKILL)


def hasten() -> None:
    """Shorten delays, for a trial takes parts of a second; nothing else is changed. Also for replays."""
    for module, name in (
        (policy, "RETRY_FIRST"),
        (policy, "DEFER_FIRST"),
        (lease, "RENEW_SECONDS"),
        (lease, "LOOK_SECONDS"),
        (steer, "LOOK_AT_OWNER"),
    ):
        setattr(module, name, getattr(module, name) * SOONER)


def know_attempts() -> None:
    """Let functions know which attempt they belong to."""
    call = Worker.__call__

    async def told(self: Worker, sub_agent: SubAgent) -> Any:
        request = sub_agent.request
        ledger.here.set(ledger.Here(request.number, f"{request.run}:{request.task}"))
        return await call(self, sub_agent)

    Worker.__call__ = told  # type: ignore[method-assign]


def instrument(points: Points) -> None:
    """Put points around and into everything that makes a run durable or has an effect."""
    ledger.passing = points
    sql.SqlStore = _store_with(points)  # type: ignore[misc]
    around(points, sqlite.SqliteDatabase, "prepare", "prepare")
    around(points, migrate, "run_migrations", "migrate")
    _instrument_statements(points)
    _instrument_files(points)
    for name in ("spawn", "launch", "release", "cancel", "_end"):
        around(points, SubAgentManager, name, f"pool.{name.strip('_')}")
    around(points, SchedulerLoop, "_take_in", "loop.take_in")
    around(points, StoreJournal, "_tell", "journal.tell")
    around(points, Session, "_take_commands", "commands.take")
    around(points, process, "_start", "command.start")
    for user in (start, steer):
        around(points, user, "end_leftovers", "leftovers.end")
    around(points, leftovers, "_signal", "leftovers.signal")


def grace() -> None:
    """Have leftovers asked for a shorter time before they are killed."""
    for user in (start, steer):
        end: Callable[..., int] = vars(user)["end_leftovers"]
        setattr(user, "end_leftovers", partial(end, grace=GRACE))  # noqa: B010 - it is not exported


def around(points: Callable[[str], None], owner: Any, name: str, kind: str) -> None:
    """Put a point before and one after each call of something."""
    call: Callable[..., Any] = getattr(owner, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        points(f"{kind}.before")
        value = call(*args, **kwargs)
        points(f"{kind}.after")
        return value

    setattr(owner, name, wrapped)


def _store_with(points: Points) -> type[sql.SqlStore]:
    """Give a real store that passes points: before a transaction, in it right before COMMIT, and after it."""
    doing = threading.local()

    class PointStore(sql.SqlStore):
        @contextmanager
        def _writing(self) -> Iterator[sa.Connection]:
            with super()._writing() as connection:
                yield connection
                points(f"{getattr(doing, 'what', 'open')}.inside")

    def passing(name: str) -> Any:
        call = getattr(sql.SqlStore, name)

        def wrapped(self: PointStore, *args: Any, **kwargs: Any) -> Any:
            points(f"{name}.before")
            doing.what, doing.statements = name, 0
            try:
                value = call(self, *args, **kwargs)
            finally:
                doing.what = "open"
            points(f"{name}.after")
            return value

        return wrapped

    written = ("create_run", "acquire", "renew", "release", "commit", "add_command", "add_task_times")
    for name in (*written, "pending_commands"):
        setattr(PointStore, name, passing(name))
    return PointStore


def _instrument_statements(points: Points) -> None:
    """Put a point after the first statement of the hot path in a transaction for many rows."""
    run = statements.Statement.run

    def half(self: statements.Statement, *args: Any) -> int:
        touched = run(self, *args)
        points("statement.done")
        return touched

    statements.Statement.run = half  # type: ignore[method-assign, assignment]


def _instrument_files(points: Points) -> None:
    """Put points into the making of files: half written, not synced, synced, renamed, not yet in a row."""
    around(points, os, "fsync", "sync")
    around(points, Path, "replace", "rename")
    mkstemp = tempfile.mkstemp

    def made(*args: Any, **kwargs: Any) -> tuple[int, str]:
        found = mkstemp(*args, **kwargs)
        points("temporary.made")
        return found

    tempfile.mkstemp = made  # type: ignore[assignment]
    write_text = Path.write_text

    def in_halves(self: Path, data: str, *args: Any, **kwargs: Any) -> int:
        write_text(self, data[: len(data) // 2], *args, **kwargs)
        points("text.half")
        return write_text(self, data, *args, **kwargs)

    Path.write_text = in_halves  # type: ignore[method-assign]


def processes_of(ledger_file: Path) -> list[tuple[int, str]]:
    """Give pid and command line of what runs with a trial's ledger in its environment, not of the harness."""
    mark = f"{ledger.LEDGER_VARIABLE}={ledger_file}\0".encode()
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                place = Path(entry.path)
                if mark in (place / "environ").read_bytes():
                    command = (place / "cmdline").read_bytes().replace(b"\0", b"_").decode(errors="replace")
                    found.append((int(entry.name), command.replace(" ", "_")[:80]))
    return found


def kill_processes_of(ledger_file: Path) -> list[tuple[int, str]]:
    """Kill what is left of a trial; gives what there was."""
    found: list[tuple[int, str]] = []
    while left := processes_of(ledger_file):  # more than once: they may start others meanwhile
        found += [process for process in left if process not in found]
        for pid, _ in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
    return found
