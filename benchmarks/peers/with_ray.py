"""Ray: one asynchronous actor, which takes as many calls at once as there are places.

Ray's tasks are for work that fills a processor; for work that waits, asynchronous actors with
`max_concurrency` (https://docs.ray.io/en/latest/ray-core/actors/async_api.html). Results that others depend
on are handed on as references, and waited for all at once at the end
(https://docs.ray.io/en/latest/ray-core/patterns/ray-get-loop.html).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any

import ray
from protocol import Build, Edges, Job, Run, serve


@ray.remote
class Actor:
    """Does the tasks."""

    def __init__(self) -> None:
        self.ran = 0

    async def task(self, nap: float, *_: Any) -> None:
        self.ran += 1
        if nap:
            await asyncio.sleep(nap)

    async def count(self) -> int:
        return self.ran


@contextlib.asynccontextmanager
async def contest(job: Job) -> AsyncIterator[Build]:
    ray.init(
        num_cpus=os.cpu_count(),
        include_dashboard=False,
        log_to_driver=False,
        _node_ip_address="127.0.0.1",
        _temp_dir=str(job.folder),
    )
    actor = Actor.options(max_concurrency=job.places).remote()
    ran = 0

    def build(edges: Edges) -> Run:
        async def run() -> None:
            nonlocal ran
            results: dict[str, Any] = {}
            for name, deps in edges:
                results[name] = actor.task.remote(job.naps.get(name, 0), *(results[dep] for dep in deps))
            await asyncio.wait([asyncio.wrap_future(result.future()) for result in results.values()])
            ran += len(edges)

        return run

    try:
        yield build
        assert await actor.count.remote() == ran
    finally:
        ray.shutdown()


if __name__ == "__main__":
    serve(contest, ["ray"])
