"""Written by hand, with the standard library: what one would write for one plan, without anything else.

Variant "counters": for each node the number of missing dependencies, and a semaphore. "waves": graphlib's
`TopologicalSorter`; all that is ready is run, and waited for, before the next are asked for. "commits":
counters, and one SQLite commit (write-ahead log, full sync) for each task that has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from graphlib import TopologicalSorter

from benchmarks.by_hand import by_hand
from protocol import Build, Counter, Edges, Job, Run, serve


async def waves(edges: Edges, places: int, task: Callable[[str], Awaitable[None]]) -> None:
    sorter = TopologicalSorter(dict(edges))
    sorter.prepare()
    semaphore = asyncio.Semaphore(places)

    async def node(name: str) -> None:
        async with semaphore:
            await task(name)

    while sorter.is_active():
        ready = sorter.get_ready()
        await asyncio.gather(*map(node, ready))
        sorter.done(*ready)


@contextlib.asynccontextmanager
async def contest(job: Job) -> AsyncIterator[Build]:
    counter = Counter(job.naps)
    database = sqlite3.connect(job.folder / "done.db", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE done (task TEXT, output TEXT)")

    async def committed(name: str) -> None:
        await counter.task(name)
        database.execute("INSERT INTO done VALUES (?, ?)", (name, "null"))  # commits by itself

    def build(edges: Edges) -> Run:
        way = waves if job.variant == "waves" else by_hand
        task = committed if job.durable else counter.task

        async def run() -> None:
            await way(edges, job.places, task)
            counter.check(edges)

        return run

    with contextlib.closing(database):
        yield build


if __name__ == "__main__":
    serve(contest, [])
