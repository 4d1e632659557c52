"""What a task costs when there are very many: 1,000 to 1,000,000, time and memory.

    ./dev python -m benchmarks.growth                         minutes
    ./dev python -m benchmarks.growth --largest 100000        less

Shapes as in `overhead.py`, with 1,000 places, and `waiting`: tasks that depend on nothing and wait for 5
places. Every figure comes from a process of its own, so that nothing is left of other sizes. Times are
processor time, medians of up to 15 runs. Memory:

* *core*: what the graph and the scheduler hold for each task, from names to counters, before the first
  starts and when all have ended; counted by `tracemalloc`, which sees every object of Python, and nothing
  else. A million tasks are not counted: what is shown was found with 100,000.
* *whole*: the most memory that the process had during a run (`VmHWM`), less what it had before, over the
  tasks: pool, loop, asyncio's tasks and what the allocator wastes included. By hand the same; the graph
  itself, as a list of names, is there before for both.
"""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.by_hand import by_hand
from benchmarks.common import Options, judged, main, short, table
from benchmarks.overhead import ENOUGH_PLACES, ROUNDS, SHAPES, ours, seconds, wide

from allready.core.graph import TaskGraph, TaskSpec
from allready.core.scheduler import DagScheduler

FEW_PLACES = 5
SIZES = [1_000, 10_000, 100_000, 1_000_000]
QUICK_SIZES = [100]
COUNTED = 100_000
"""Tasks whose objects are counted one by one, at most: it takes minutes for more, and finds the same."""
GOAL_RATIO, GOAL_GROWTH, GOAL_MEMORY = 2, 1.5, 1_500
ALL = {shape: (make, ENOUGH_PLACES) for shape, make in SHAPES.items()} | {"waiting": (wide, FEW_PLACES)}


def resident(field: str) -> int:
    """Give bytes of memory that this process has (`VmRSS`), or had at most (`VmHWM`)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    raise ValueError(field)


def child_time(shape: str, size: int) -> dict[str, float]:
    make, places = ALL[shape]
    edges = make(size)
    specs = [TaskSpec(name, deps) for name, deps in edges]
    mine, theirs = [], []
    for _ in range(ROUNDS.get(size, 1)):
        theirs.append(seconds(lambda: by_hand(edges, places)))
        mine.append(seconds(lambda: ours(specs, places)))
    return {"ours": median(mine) / size * 1e6, "by_hand": median(theirs) / size * 1e6}


def child_whole(shape: str, size: int, who: str) -> dict[str, float]:
    make, places = ALL[shape]
    asyncio.run(by_hand(make(10), places) if who == "by_hand" else ours([TaskSpec("t")], places))
    edges = make(size)
    gc.collect()
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forgets what it had at most: proc(5)
    if who == "by_hand":
        asyncio.run(by_hand(edges, places))
    else:
        asyncio.run(ours([TaskSpec(name, deps) for name, deps in edges], places))
    return {who: (resident("VmHWM") - before) / size}


def child_core(shape: str, size: int) -> dict[str, float]:
    make, places = ALL[shape]
    asyncio.run(ours([TaskSpec("t")], places))
    gc.collect()
    tracemalloc.start()
    began = tracemalloc.get_traced_memory()[0]
    scheduler = DagScheduler(TaskGraph([TaskSpec(name, deps) for name, deps in make(size)]))
    gc.collect()
    before = tracemalloc.get_traced_memory()[0] - began
    tracemalloc.stop()
    del scheduler
    tracemalloc.start()
    began = tracemalloc.get_traced_memory()[0]
    ended = asyncio.run(ours([TaskSpec(name, deps) for name, deps in make(size)], places))
    gc.collect()
    after = tracemalloc.get_traced_memory()[0] - began
    assert len(ended.graph) == size
    return {"before": before / size, "after": after / size}


CHILDREN: dict[str, Any] = {"time": child_time, "whole": child_whole, "core": child_core}


def in_a_child(kind: str, *words: object) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.growth", "--child", kind, *map(str, words)]
    print(f"{kind} {' '.join(map(str, words))}", file=sys.stderr, flush=True)
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=Path(__file__).parents[1])
    found: dict[str, float] = json.loads(done.stdout)
    return found


def rows(sizes: list[int]) -> Iterator[list[str]]:
    for shape in ALL:
        at_first: float | None = None
        for size in sizes:
            took = in_a_child("time", shape, size)
            at_first = at_first or took["ours"]
            core = in_a_child("core", shape, min(size, COUNTED))
            mine, theirs = (in_a_child("whole", shape, size, who) for who in ("ours", "by_hand"))
            yield [
                judged(took["ours"] / at_first, GOAL_GROWTH),
                judged(max(core.values()), GOAL_MEMORY),
                short(took["ours"] / took["by_hand"]),
                shape,
                f"{size:,}",
                short(took["ours"]),
                short(took["by_hand"]),
                short(core["before"]),
                short(core["after"]),
                short(mine["ours"]),
                short(theirs["by_hand"]),
            ]


def report(options: Options) -> Iterator[str]:
    sizes = QUICK_SIZES if options.quick else [size for size in SIZES if size <= options.largest]
    yield "Processor time in µs a task; memory in bytes a task.\n"
    yield from table(
        [
            f"time: growth from the smallest (≤ {GOAL_GROWTH})",
            f"core memory (≤ {GOAL_MEMORY})",
            "time: ours ÷ by hand",
            " shape",
            "tasks",
            "time: ours",
            "by hand",
            "core: before",
            "core: after",
            "whole: ours",
            "by hand",
        ],
        rows(sizes),
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        kind, shape, size, *rest = sys.argv[2:]
        print(json.dumps(CHILDREN[kind](shape, int(size), *rest)))
    else:
        main(report, __doc__)
