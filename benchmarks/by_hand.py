"""A graph run with asyncio alone, as one writes it for one plan: what the others are measured against."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

Edges = Sequence[tuple[str, tuple[str, ...]]]
"""Task and what it depends on, dependencies first."""


async def nothing(_: str) -> None:
    pass


async def by_hand(edges: Edges, places: int, task: Callable[[str], Awaitable[None]] = nothing) -> None:
    """Run `task` for each node: counters and a semaphore.

    It can't refuse, retry, time out, cancel, pause or tell why, and is written anew for each plan.
    """
    missing = {name: len(deps) for name, deps in edges}
    dependents: dict[str, list[str]] = {name: [] for name, _ in edges}
    for name, deps in edges:
        for dep in deps:
            dependents[dep].append(name)
    semaphore = asyncio.Semaphore(places)
    left = len(edges)
    done = asyncio.Event()
    running: set[asyncio.Task[None]] = set()

    def start(name: str) -> None:
        started = asyncio.create_task(node(name))
        running.add(started)
        started.add_done_callback(running.discard)

    async def node(name: str) -> None:
        nonlocal left
        async with semaphore:
            await task(name)
        for dependent in dependents[name]:
            missing[dependent] -= 1
            if not missing[dependent]:
                start(dependent)
        left -= 1
        if not left:
            done.set()

    for name, count in list(missing.items()):
        if not count:
            start(name)
    await done.wait()
