"""DBOS: one workflow, and a step for each task, on SQLite, which is DBOS's default.

Asynchronous steps (https://docs.dbos.dev/python/tutorials/step-tutorial). Steps that run beside each other
need numbers that do not depend on which of them ends first: `DBOS.reserve_step` draws them, in the graph's
order. The workflow counts dependencies and places itself; DBOS's queues would make a workflow of every
task, which costs more.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from dbos import DBOS, StepReservation
from protocol import Build, Counter, Edges, Job, Run, serve

COUNTER = Counter({})
PLANS: dict[str, Edges] = {}
"""Name → graph: what a workflow is given is written down, and the graph is not what is measured."""


async def work(name: str) -> None:
    await COUNTER.task(name)


@DBOS.workflow()
async def graph(name: str, places: int) -> None:
    semaphore = asyncio.Semaphore(places)
    nodes: dict[str, asyncio.Task[None]] = {}

    async def node(task: str, step: StepReservation, deps: tuple[str, ...]) -> None:
        for dep in deps:
            await nodes[dep]
        async with semaphore:
            await step.run_async(None, work, task)

    for task, deps in PLANS[name]:
        nodes[task] = asyncio.create_task(node(task, DBOS.reserve_step(), deps))
    await asyncio.gather(*nodes.values())


@contextlib.asynccontextmanager
async def contest(job: Job) -> AsyncIterator[Build]:
    COUNTER.naps = job.naps
    url = f"sqlite:///{job.folder / 'dbos.db'}"
    DBOS(config={"name": "contest", "system_database_url": url, "log_level": "ERROR", "enable_otlp": False})
    DBOS.launch()

    def build(edges: Edges) -> Run:
        name = str(len(PLANS))
        PLANS[name] = edges

        async def run() -> None:
            await graph(name, job.places)
            COUNTER.check(edges)

        return run

    try:
        yield build
    finally:
        DBOS.destroy()


if __name__ == "__main__":
    serve(contest, ["dbos"])
