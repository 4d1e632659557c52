"""What a task costs that does nothing, in memory: beside asyncio written by hand, and beside peers.

    ./dev python -m benchmarks.overhead                  with the peers, installed when they are missing
    ./dev python -m benchmarks.overhead --peers none     without

Every task is an async function that does nothing. `wide`: n tasks that depend on nothing. `chain`: each
depends on the one before, so that every task costs a whole round of the loop. `layered`: layers of 100
tasks, each depends on three of the layer before.

First table: ours and by hand in turn, in one process, with more places than are needed. Ours is graph,
scheduler, pool and loop, from the specs to the last task's end. By hand is a counter of missing
dependencies for each node, a semaphore, and an asyncio task for each node that is ready. Processor time,
which is the time on the clock here: nothing waits.

Second table: each contestant in a process (and an environment) of its own, in turn, `--rounds` times, with
100 places. The heads of `peers/with_*.py` say how each is used, and link to what its documentation says
about that. Times are without start-up, and without what can be done once for many runs of a graph (for
LangGraph, building and compiling it; for "run(plan)", making the plan). Processor time includes servers and
workers.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from benchmarks.by_hand import by_hand
from benchmarks.common import Contestant, Edges, Options, compete, judged, main, note, short, spread, table

from allready.core.graph import TaskGraph, TaskSpec
from allready.core.scheduler import DagScheduler
from allready.engine.loop import run_scheduler_loop
from allready.pool.manager import SubAgent, SubAgentManager

ENOUGH_PLACES = 1_000
"""Not to be what is measured."""
PLACES = 100
"""Beside peers: some have a thread for each place."""
LAYER = 100
SIZES = [1_000, 10_000]
ROUNDS = {1_000: 15, 10_000: 7, 100_000: 3, 1_000_000: 1}
GOAL_RATIO = 2

BY_HAND = Contestant("asyncio by hand", "asyncio", "counters")
WHOLE = Contestant("allready, run(plan)", "allready", "run")
CONTESTANTS = [
    BY_HAND,
    Contestant("allready, the loop", "allready", "loop"),
    WHOLE,
    Contestant("graphlib, in waves", "asyncio", "waves"),
    Contestant("LangGraph", "langgraph", environment="langgraph"),
    Contestant("Dask", "dask", environment="dask"),
    Contestant("Ray", "ray", environment="ray", alone=True),
    Contestant("Prefect", "prefect", environment="prefect", largest=100),
]


def wide(size: int) -> Edges:
    return [(f"t{number}", ()) for number in range(size)]


def chain(size: int) -> Edges:
    return [(f"t{number}", (f"t{number - 1}",) if number else ()) for number in range(size)]


def layered(size: int) -> Edges:
    edges = []
    across = min(LAYER, max(size // 5, 1))
    for number in range(size):
        layer, place = divmod(number, across)
        above = {(layer - 1) * across + (place + step) % across for step in (0, 1, 37)} if layer else set()
        edges.append((f"t{number}", tuple(f"t{other}" for other in sorted(above))))
    return edges


SHAPES: dict[str, Callable[[int], Edges]] = {"wide": wide, "chain": chain, "layered": layered}


# --- ours and by hand in one process ----------------------------------------------------------------------


async def no_work(_: SubAgent) -> None:
    pass


async def ours(specs: list[TaskSpec], places: int) -> DagScheduler:
    scheduler = DagScheduler(TaskGraph(specs))
    status = await run_scheduler_loop(scheduler, SubAgentManager(places), no_work)
    assert status == "completed", status
    return scheduler


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
    for _ in range(ROUNDS.get(size, 3)):
        theirs.append(seconds(lambda: by_hand(edges, places)))
        mine.append(seconds(lambda: ours(specs, places)))
    return statistics.median(mine) / size * 1e6, statistics.median(theirs) / size * 1e6


def beside_by_hand(sizes: list[int]) -> Iterator[list[str]]:
    for shape in SHAPES:
        for size in sizes:
            mine, theirs = compare(shape, size, ENOUGH_PLACES)
            yield [judged(mine / theirs, GOAL_RATIO), shape, f"{size:,}", short(mine), short(theirs)]


# --- beside peers -----------------------------------------------------------------------------------------


def beside_peers(options: Options) -> Iterator[list[str]]:
    found, versions = compete(
        options.chosen(CONTESTANTS), SHAPES, options.size, rounds=options.rounds, places=PLACES
    )
    note(versions)
    base, whole = found[BY_HAND.name], found[WHOLE.name]
    for shape in SHAPES:
        for name, times in found.items():
            wall = statistics.median(times[shape].wall)
            yield [
                short(wall / statistics.median(base[shape].wall)),
                short(wall / statistics.median(whole[shape].wall)),
                name,
                shape,
                f"{times[shape].size:,}",
                spread(times[shape].wall),
                short(statistics.median(times[shape].processor)),
                short(statistics.median(times[shape].build)),
            ]


def report(options: Options) -> Iterator[str]:
    yield "In one process, in turn; processor time in µs a task, medians.\n"
    head = [f"ours ÷ by hand (≤ {GOAL_RATIO})", " shape", "tasks", "ours", "by hand"]
    yield from table(head, beside_by_hand([options.size] if options.quick else SIZES))
    yield (
        f"Each in a process of its own, {PLACES} places, started {options.rounds} times in turn; µs a task: "
        "median on the clock (least to most), processor time, and what was built ahead, in neither.\n"
    )
    head = [
        "÷ by hand",
        "÷ ours, run(plan)",
        " who",
        " shape",
        "tasks",
        "µs a task",
        "processor",
        "built ahead",
    ]
    yield from table(head, beside_peers(options))


if __name__ == "__main__":
    main(report, __doc__)
