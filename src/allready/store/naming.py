"""What people call runs and tasks, and what to tell them when there is no such thing, or more than one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from difflib import get_close_matches

import sqlalchemy as sa

from allready.errors import RunNotFound, UserError
from allready.store.rows import clean
from allready.store.schema import runs, tasks

LATEST = "latest"
NAME_MINIMUM = 4
"""Characters of a beginning of a run's id. It takes more to tell runs of one minute apart (see UUIDv7)."""
LONGEST = 200
"""Characters of a name that are looked at: no run and no task has a longer one."""
SHOWN = 10
"""Candidates in an error message."""
_COMPARED = 2_000
"""Ids that are searched for similar ones: takes some 20 ms."""
_LAST = "\U0010ffff"
"""Sorts after everything that an id may go on with."""
_IDS = sa.select(runs.c.id).order_by(runs.c.id.desc())


def find_run(connection: sa.Connection, url: str, name: str) -> str:
    """Give the id for an id, an unambiguous beginning of one, or `latest`. Raises `RunNotFound`."""
    name = shown(name)
    wanted = name.strip()
    exact = _IDS.limit(1) if wanted == LATEST else _IDS.where(runs.c.id == wanted)
    found = connection.execute(exact).scalar()
    if found is not None:
        return str(found)
    wanted = wanted.lower()
    if wanted == LATEST or not wanted:
        raise not_found(connection, url, name)
    if len(wanted) < NAME_MINIMUM:
        raise RunNotFound(
            f"{name!r} is too short for a run: give {NAME_MINIMUM} characters of its id, or '{LATEST}'"
        )
    begins = _IDS.where(runs.c.id >= wanted, runs.c.id < wanted + _LAST)
    candidates = connection.execute(begins.limit(SHOWN + 1)).scalars().all()
    if len(candidates) == 1:
        return str(candidates[0])
    if not candidates:
        raise not_found(connection, url, name)
    more = "\n  …" if len(candidates) > SHOWN else ""
    raise RunNotFound(
        f"more than one run begins with {name!r}:{_lines(connection, candidates[:SHOWN])}{more}"
    )


def shown(name: str) -> str:
    """Give a name that somebody wrote, as a database and a message can take it."""
    text = clean(name) or ""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def not_found(connection: sa.Connection, url: str, name: str) -> RunNotFound:
    """Make the error for a run that isn't there, with what could have been meant."""
    name = shown(name)
    ids = connection.execute(_IDS.limit(_COMPARED)).scalars().all()
    if not ids:
        return RunNotFound(f"no run {name!r}: there are no runs in {url} yet")
    similar = get_close_matches(name.lower(), ids, 3)
    if similar:
        return RunNotFound(f"no run {name!r} in {url}; similar ones:{_lines(connection, similar)}")
    return RunNotFound(f"no run {name!r} in {url}; the newest are:{_lines(connection, ids[:5])}")


def no_task(connection: sa.Connection, run_id: str, task_id: str) -> UserError:
    """Make the error for a task that isn't there, with what could have been meant."""
    of_run = sa.select(tasks.c.id).where(tasks.c.run_id == run_id).order_by(tasks.c.index)
    ids = connection.execute(of_run.limit(_COMPARED)).scalars().all()
    task_id = shown(task_id)
    similar = get_close_matches(task_id, ids, 3, 0.5)
    if similar:
        advice = f"did you mean {' or '.join(similar)}?"
    else:
        more = ", …" if len(ids) > SHOWN else ""
        advice = f"it has {', '.join(ids[:SHOWN])}{more}" if ids else "it has none"
    return UserError(f"run {run_id} has no task {task_id!r}; {advice}")


def _lines(connection: sa.Connection, ids: Sequence[str]) -> str:
    """Give a line for each run: id, time, status, goal."""
    query = sa.select(runs.c.id, runs.c.created_at, runs.c.status, runs.c.goal).where(runs.c.id.in_(ids))
    found = {row.id: row for row in connection.execute(query)}
    return "".join(
        f"\n  {row.id}  {show_time(row.created_at)}  {row.status}  {_short(row.goal)}"
        for row in map(found.get, ids)
        if row is not None
    )


def show_time(at: float) -> str:
    """Give a time as people read it, in their own zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def _short(text: str, width: int = 60) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 1]}…"
