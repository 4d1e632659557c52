"""LangGraph: a node for each task, an edge for each dependency; a node with several waits for all of them.

Edges from lists of nodes, `max_concurrency` and `recursion_limit` in the configuration, `ainvoke`, as in
https://docs.langchain.com/oss/python/langgraph/use-graph-api; durable runs have the asynchronous SQLite
checkpointer, with the durability that the variant names ("async" is LangGraph's default):
https://docs.langchain.com/oss/python/langgraph/durable-execution. The graph is built and compiled ahead.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypedDict

from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, StateGraph
from protocol import Build, Counter, Edges, Job, Run, serve


class State(TypedDict):
    """What nodes would hand on: nothing."""

    unused: str


@contextlib.asynccontextmanager
async def contest(job: Job) -> AsyncIterator[Build]:
    counter = Counter(job.naps)
    threads = itertools.count()

    def node(name: str) -> Callable[[State], Awaitable[dict[str, str]]]:
        async def task(_: State) -> dict[str, str]:
            await counter.task(name)
            return {}

        return task

    def build(edges: Edges) -> Run:
        graph = StateGraph(State)
        for name, deps in edges:
            graph.add_node(name, node(name))
            # a list of one would make a channel that is not needed
            graph.add_edge(list(deps) if len(deps) > 1 else deps[0] if deps else START, name)
        compiled = graph.compile(checkpointer=saver)
        config: dict[str, Any] = {"recursion_limit": len(edges) + 10, "max_concurrency": job.places}

        async def run() -> None:
            config["configurable"] = {"thread_id": str(next(threads))}
            await compiled.ainvoke({"unused": ""}, config, **({"durability": job.variant} if saver else {}))
            counter.check(edges)

        return run

    saver = None
    async with contextlib.AsyncExitStack() as stack:
        if job.durable:
            opened = AsyncSqliteSaver.from_conn_string(str(job.folder / "checkpoints.db"))
            saver = await stack.enter_async_context(opened)
        yield build


if __name__ == "__main__":
    serve(contest, ["langgraph", "langgraph-checkpoint-sqlite"])
