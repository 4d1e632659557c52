"""Where the runs of trials are kept, and a look at a run's record from outside, that changes nothing."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from tests import postgres

from allready.store.open import open_store

STORES = ("sqlite", "postgresql")


class Look(NamedTuple):
    """What a store says of a run."""

    run: str
    status: str
    pause: str | None
    """Why it is paused."""
    undecided: int
    """Tasks that need a person's decision."""
    pending: int
    """Wishes that nobody has taken yet."""
    completed: dict[str, int]
    """Task → the attempt that completed it."""


class Place(Protocol):
    """A kind of store, for many trials one after the other."""

    def store(self, folder: Path, *, fresh: bool) -> str:
        """Give the URL of the store for a trial; with `fresh` it is not made yet."""
        ...

    def look(self, url: str, goal: str) -> Look | None:
        """Give what is on record of the run with this goal; None if there is none."""
        ...


class SqlitePlace:
    """A file for each trial: a copy of an empty store."""

    def __init__(self, folder: Path) -> None:
        self._empty = folder / "empty.db"
        open_store(self._empty).close()

    def store(self, folder: Path, *, fresh: bool) -> str:
        path = folder / "runs.db"
        if not fresh:
            shutil.copyfile(self._empty, path)
        return f"sqlite:///{path}"

    def look(self, url: str, goal: str) -> Look | None:
        """Look at a copy: to open the file itself would do the recovery that is the next process's to do."""
        path = Path(url.removeprefix("sqlite:///"))
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, "copy.db")
            if not path.exists():
                return None
            for end in ("", "-wal"):
                if path.with_name(path.name + end).exists():
                    shutil.copyfile(path.with_name(path.name + end), copy.with_name(copy.name + end))
            with closing(sqlite3.connect(copy)) as connection:
                if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'commands'").fetchone():
                    return None
                return _look(goal, lambda query, value: connection.execute(query, (value,)).fetchall())


class PostgresPlace:
    """One database of a server for all trials, but those that make their store."""

    def __init__(self, server: postgres.PostgresServer) -> None:
        self._server = server
        self._url = server.new_database()
        open_store(self._url).close()

    def store(self, folder: Path, *, fresh: bool) -> str:
        return self._server.new_database() if fresh else self._url

    def look(self, url: str, goal: str) -> Look | None:
        import psycopg

        with psycopg.connect(url, autocommit=True, options="-c search_path=allready,public") as connection:
            there = connection.execute("SELECT to_regclass('commands')").fetchone()
            if there is None or there[0] is None:
                return None

            def ask(query: str, value: str) -> Sequence[Sequence[Any]]:
                return connection.execute(query.replace("?", "%s").encode(), (value,)).fetchall()

            return _look(goal, ask)


def _look(goal: str, ask: Any) -> Look | None:
    runs = ask("SELECT id, status, memory FROM runs WHERE goal = ?", goal)
    if not runs:
        return None
    assert len(runs) == 1, f"{len(runs)} runs of one trial: {runs}"
    run, status, memory = runs[0]
    tasks = ask("SELECT id, state, attempts, memory FROM tasks WHERE run_id = ?", run)
    (pending,) = ask("SELECT count(*) FROM commands WHERE done_at IS NULL AND run_id = ?", run)[0]
    undecided = sum(
        state == "awaiting_approval" or bool(_json(kept).get("asking")) for _, state, _, kept in tasks
    )
    completed = {task: attempts for task, state, attempts, _ in tasks if state == "completed"}
    return Look(run, status, _json(memory).get("pause_reason"), undecided, pending, completed)


def _json(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text) if text else {}
    return found


@contextmanager
def place(store: str, folder: Path) -> Iterator[Place]:
    """Give where the trials' runs are kept."""
    if store == "sqlite":
        yield SqlitePlace(folder)
    else:
        with postgres.postgres_server() as server:
            yield PostgresPlace(server)
