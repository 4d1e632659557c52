"""Dask: one worker in this process with a thread for each place, which gets the whole graph at once.

`LocalCluster(processes=False)` in asynchronous mode, and a graph of `Task`s with `Client.get`, as in
https://docs.dask.org/en/stable/custom-graphs.html; to submit futures one by one takes two to five times as
long. An `async def` runs on the worker's event loop and takes a place there.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from typing import Any

import dask
from dask.task_spec import Task, TaskRef
from distributed import Client, LocalCluster, wait
from protocol import Build, Edges, Job, Run, serve


async def task(nap: float, *_: Any) -> None:
    """Can't count: Dask makes a copy of it."""
    if nap:
        await asyncio.sleep(nap)


@contextlib.asynccontextmanager
async def contest(job: Job) -> AsyncIterator[Build]:
    dask.config.set({"temporary-directory": str(job.folder)})
    numbers = itertools.count()
    cluster = LocalCluster(
        processes=False,
        n_workers=1,
        threads_per_worker=job.places,
        dashboard_address=None,
        asynchronous=True,
    )
    async with cluster, Client(cluster, asynchronous=True) as client:

        def build(edges: Edges) -> Run:
            graph = next(numbers)  # a name must not be used twice: Dask would know the result

            def key(name: str) -> str:
                return f"{name}-{graph}"

            async def run() -> None:
                tasks = {}
                for name, deps in edges:
                    needs = (TaskRef(key(dep)) for dep in deps)
                    tasks[key(name)] = Task(key(name), task, job.naps.get(name, 0), *needs)
                futures = client.get(tasks, list(tasks), sync=False)
                await wait(futures)
                assert all(future.status == "finished" for future in futures)

            return run

        yield build


if __name__ == "__main__":
    serve(contest, ["distributed"])
