"""Prefect: a flow that submits an asynchronous task for each node, waiting for those it depends on.

`submit(wait_for=…)` with the default thread pool of as many workers as there are places, as in
https://docs.prefect.io/v3/how-to-guides/workflows/run-work-concurrently, on the server that Prefect starts by
itself, with its own SQLite. There is no run without a record; durable runs also keep their results, so that a
flow that is run again need not do its tasks again (https://docs.prefect.io/v3/advanced/results).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from prefect import flow, task
from prefect.futures import wait
from prefect.task_runners import ThreadPoolTaskRunner
from protocol import Build, Edges, Job, Run, serve


@contextlib.asynccontextmanager
async def contest(job: Job) -> AsyncIterator[Build]:
    ran: list[str] = []  # threads may append to a list at once

    async def work(name: str) -> None:
        ran.append(name)
        if nap := job.naps.get(name):
            await asyncio.sleep(nap)

    node = task(work, persist_result=job.durable)

    def build(edges: Edges) -> Run:
        @flow(task_runner=ThreadPoolTaskRunner(max_workers=job.places), persist_result=job.durable)
        def graph() -> None:
            futures: dict[str, Any] = {}
            for name, deps in edges:
                futures[name] = node.submit(name, wait_for=[futures[dep] for dep in deps])
            assert not wait(list(futures.values())).not_done

        async def run() -> None:
            ran.clear()
            await asyncio.to_thread(graph)
            assert len(ran) == len(edges), f"{len(ran)} tasks ran instead of {len(edges)}"

        return run

    yield build


if __name__ == "__main__":
    serve(contest, ["prefect"])
