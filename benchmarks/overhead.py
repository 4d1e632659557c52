"""What the loop costs per task, in memory, beside asyncio written by hand. Prints a Markdown table.

    ./dev python benchmarks/overhead.py            graphs of 1,000 and 10,000 tasks
    ./dev python benchmarks/overhead.py --big      also 100,000 and 1,000,000

Every task is an async function that does nothing. Ours: graph, scheduler, pool and loop, from the specs to
the last task's end. By hand: a counter of missing dependencies for each node, a semaphore, an asyncio task
for each node that is ready; it can't refuse, retry, time out, cancel, pause or tell why, and would have to be
written anew for each plan. Both get the same graphs and the same number of places, in turn, in one process.

`wide`: n tasks that depend on nothing. `chain`: each depends on the one before, so that every task costs a
whole round of the loop. `layered`: layers of 100 tasks, each depends on three of the layer before. Shown are
medians of processor time over the rounds. "Per task growth" is our time per task over that at 1,000 tasks of
the same shape.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import platform
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from allready.core.graph import TaskGraph, TaskSpec
from allready.core.scheduler import DagScheduler
from allready.engine.loop import run_scheduler_loop
from allready.pool.manager import SubAgent, SubAgentManager

PLACES = 1000
"""Places for the graphs of the first table: enough not to be what is measured."""
FEW_PLACES = 5
LAYER = 100
SIZES = [1_000, 10_000]
BIG_SIZES = [100_000, 1_000_000]
ROUNDS = {1_000: 15, 10_000: 7, 100_000: 3, 1_000_000: 1}
GOAL_RATIO, GOAL_GROWTH, GOAL_REFUSALS = 2.0, 1.5, 1.0

Edges = list[tuple[str, tuple[str, ...]]]
"""Task and what it depends on, dependencies first."""


def wide(size: int) -> Edges:
    return [(f"t{number}", ()) for number in range(size)]


def chain(size: int) -> Edges:
    return [(f"t{number}", (f"t{number - 1}",) if number else ()) for number in range(size)]


def layered(size: int) -> Edges:
    edges: Edges = []
    for number in range(size):
        layer, place = divmod(number, LAYER)
        above = [(layer - 1) * LAYER + (place + step) % LAYER for step in (0, 1, 37)] if layer else []
        edges.append((f"t{number}", tuple(f"t{other}" for other in above)))
    return edges


SHAPES: dict[str, Callable[[int], Edges]] = {"wide": wide, "chain": chain, "layered": layered}


# --- by hand ----------------------------------------------------------------------------------------------


async def nothing() -> None:
    pass


async def by_hand(edges: Edges, places: int) -> None:
    """Run `nothing` for each node: counters and a semaphore, as one writes it for one plan."""
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
        task = asyncio.create_task(node(name))
        running.add(task)
        task.add_done_callback(running.discard)

    async def node(name: str) -> None:
        nonlocal left
        async with semaphore:
            await nothing()
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


# --- ours -------------------------------------------------------------------------------------------------


async def no_work(_: SubAgent) -> None:
    pass


async def ours(specs: list[TaskSpec], places: int) -> DagScheduler:
    scheduler = DagScheduler(TaskGraph(specs))
    status = await run_scheduler_loop(scheduler, SubAgentManager(places), no_work)
    assert status == "completed", status
    return scheduler


# --- measuring --------------------------------------------------------------------------------------------


def seconds(run: Callable[[], Awaitable[Any]]) -> float:
    """Give the processor time of one run in an event loop of its own.

    Nothing waits here, so that it is the time on the clock of a machine that does nothing else. Collecting
    garbage is part of it; what was left by others is not.
    """

    async def timed() -> float:
        gc.collect()
        began = time.process_time()
        await run()
        return time.process_time() - began

    return asyncio.run(timed())


def compare(shape: str, size: int, places: int) -> tuple[float, float]:
    """Give microseconds per task: ours, by hand; medians of rounds in turn."""
    edges = SHAPES[shape](size)
    specs = [TaskSpec(name, deps) for name, deps in edges]
    mine, theirs = [], []
    for _ in range(ROUNDS[size]):
        theirs.append(seconds(lambda: by_hand(edges, places)))
        mine.append(seconds(lambda: ours(specs, places)))
    return statistics.median(mine) / size * 1e6, statistics.median(theirs) / size * 1e6


def overhead_rows(sizes: list[int], shapes: list[str]) -> Iterator[list[str]]:
    for shape in shapes:
        at_1000 = None
        for size in sizes:
            mine, theirs = compare(shape, size, PLACES)
            at_1000 = at_1000 or mine
            yield [
                judged(mine / theirs, GOAL_RATIO),
                judged(mine / at_1000, GOAL_GROWTH),
                shape,
                f"{size:,}",
                f"{mine:.1f}",
                f"{theirs:.1f}",
            ]


def few_places_rows(sizes: list[int]) -> Iterator[list[str]]:
    for size in sizes:
        specs = [TaskSpec(name) for name, _ in wide(size)]
        counts = asyncio.run(ours(specs, FEW_PLACES)).statistics
        mine, theirs = compare("wide", size, FEW_PLACES)
        yield [
            judged(counts.refusals / counts.spawns, GOAL_REFUSALS),
            f"{mine / theirs:.2f}",
            f"{size:,}",
            f"{mine:.1f}",
            f"{theirs:.1f}",
        ]


def judged(value: float, goal: float) -> str:
    return f"{value:.2f}" if value <= goal else f"**{value:.2f}**"


def table(head: list[str], rows: Iterator[list[str]]) -> None:
    print("| " + " | ".join(head) + " |")
    print("|" + " ---: |" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)
    print()


def machine() -> str:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.partition(":")[2].strip()
            for line in cpuinfo.read_text().splitlines()
            if "model name" in line
        ]
        model = names[0] if names else model
    return f"{model}, {os.cpu_count()} processors, {platform.system()}, Python {platform.python_version()}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Overhead per task, beside asyncio written by hand.")
    parser.add_argument("--big", action="store_true", help="also 100,000 and 1,000,000 tasks (minutes)")
    parser.add_argument("--shape", choices=SHAPES, help="this shape only")
    options = parser.parse_args()
    sizes = SIZES + (BIG_SIZES if options.big else [])
    shapes = [options.shape] if options.shape else list(SHAPES)
    print(f"{machine()}. Goals missed are bold. Processor time in µs a task, medians.\n")
    head = ["ours ÷ by hand (≤ 2)", "per task growth (≤ 1.5)", "shape", "tasks", "ours", "by hand"]
    table(head, overhead_rows(sizes, shapes))
    if not options.shape:
        print(f"Tasks that wait for {FEW_PLACES} places:\n")
        head = ["refused ÷ started (≤ 1)", "ours ÷ by hand", "tasks", "ours", "by hand"]
        table(head, few_places_rows(sizes[1:]))


if __name__ == "__main__":
    sys.exit(main())
