"""Ours. Variant "loop": graph, scheduler, pool and loop by themselves; "run": what `allready.run(plan)` does.

"run" has all that users get: a plan of functions, results handed on, outputs kept, agents' records. The
plan is made ahead. Durable runs have a SQLite store, which is opened ahead, as the others' databases are.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from protocol import Build, Counter, Edges, Job, Run, serve

from allready import (
    DagScheduler,
    Plan,
    SubAgent,
    SubAgentManager,
    TaskGraph,
    TaskSpec,
    run,
    run_scheduler_loop,
)
from allready.store.contract import Store
from allready.store.open import open_store


@contextlib.asynccontextmanager
async def contest(job: Job) -> AsyncIterator[Build]:
    counter = Counter(job.naps)

    async def work(sub_agent: SubAgent) -> None:
        await counter.task(sub_agent.request.task)

    def loop(edges: Edges) -> Run:
        specs = [TaskSpec(name, deps) for name, deps in edges]

        async def started() -> None:
            scheduler = DagScheduler(TaskGraph(specs))
            assert await run_scheduler_loop(scheduler, SubAgentManager(job.places), work) == "completed"
            counter.check(edges)

        return started

    def whole(edges: Edges) -> Run:
        plan = Plan(max_parallel=job.places)
        for name, deps in edges:
            plan.add(counter.task, id=name, args=[name], depends_on=deps)

        async def started() -> None:
            options: dict[str, Any] = {"store": store} if store else {}
            result = await run(plan, agents={}, **options)
            assert result.status == "completed", result.error
            counter.check(edges)

        return started

    store: Store | None = None
    with contextlib.ExitStack() as stack:
        if job.durable:
            store = stack.enter_context(contextlib.closing(open_store(job.folder / "runs.db")))
        yield loop if job.variant == "loop" else whole


if __name__ == "__main__":
    serve(contest, ["allready"])
