"""The table of what tasks took: a row for each task that is the same one in many runs, up to a number.

Nobody owns these rows, and several runs may end at the same instant: each makes the rows it lacks first, in
the order of their keys, and then holds all of them, so that no two wait for each other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

import sqlalchemy as sa

from allready.store.contract import TaskTimes
from allready.store.schema import task_times

KEPT = 31
"""Newest durations that are kept of a task: enough for a median that follows when something has changed."""
MOST_ROWS = 100_000
"""Tasks that are remembered, some 30 MB at most; what has not been run for the longest time is forgotten."""
CHUNK = 500
"""Rows that are read or written at a time."""
_NEW = sa.text(
    "INSERT INTO task_times (key, times, used_at, seconds) VALUES (:key, 0, :now, '[]') "
    "ON CONFLICT (key) DO NOTHING"
)


def add(connection: sa.Connection, seconds: Mapping[str, Sequence[float]], now: float) -> None:
    """Take in what tasks took, the newest last."""
    left = iter(sorted(seconds))
    while chunk := list(islice(left, CHUNK)):
        connection.execute(_NEW, [{"key": key, "now": now} for key in chunk])
        query = sa.select(task_times.c.key, task_times.c.times, task_times.c.seconds)
        query = query.where(task_times.c.key.in_(chunk)).order_by(task_times.c.key).with_for_update()
        found = connection.execute(query).all()
        update = sa.update(task_times).where(task_times.c.key == sa.bindparam("of"))
        values = [
            {
                "of": key,
                "times": times + len(seconds[key]),
                "used_at": now,
                "seconds": _written([*json.loads(kept), *seconds[key]]),
            }
            for key, times, kept in found
        ]
        connection.execute(update, values)


def _written(seconds: Sequence[float]) -> str:
    return json.dumps([round(value, 3) for value in seconds[-KEPT:]], separators=(",", ":"))


def forget(connection: sa.Connection) -> None:
    """Remove what has not been run for the longest time, if there is too much."""
    count = connection.execute(sa.select(sa.func.count()).select_from(task_times)).scalar_one()
    if count > MOST_ROWS:
        oldest = sa.select(task_times.c.key).order_by(task_times.c.used_at, task_times.c.key)
        connection.execute(sa.delete(task_times).where(task_times.c.key.in_(oldest.limit(count - MOST_ROWS))))


def read(connection: sa.Connection, keys: Iterable[str]) -> dict[str, TaskTimes]:
    """Give what is known of these tasks; asks for no key if nothing is known of any."""
    if connection.execute(sa.select(task_times.c.key).limit(1)).first() is None:
        return {}
    query = sa.select(task_times.c.key, task_times.c.times, task_times.c.seconds)
    left = iter(dict.fromkeys(keys))
    known = {}
    while chunk := list(islice(left, CHUNK)):
        for key, times, kept in connection.execute(query.where(task_times.c.key.in_(chunk))):
            seconds = sorted(json.loads(kept))
            spread = _quantile(seconds, 0.75) - _quantile(seconds, 0.25)
            known[key] = TaskTimes(times, _quantile(seconds, 0.5), round(spread, 3))
    return known


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Give the value below which this share lies, between two neighbors in proportion."""
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return round(ordered[below] + (ordered[above] - ordered[below]) * (place - below), 3)
