"""What all contestants share: a job comes in as JSON, times go out as JSON. Standard library only.

    python with_NAME.py JOB.json RESULT.json

A job has `graphs` (name → list of [task, [what it depends on]], dependencies first), `places` (tasks at
once, at most), `variant` (which of several ways of the script), `durable`, `folder` (an empty one, for
whatever has to be kept), `seconds` and `times` (each graph is run again until so much time was used up, or
so often), `alone` (whether the network is one of this process alone, whose loopback has to be brought up
first), and perhaps `naps` (task → seconds that it sleeps; the others do nothing).

The answer has, for each graph, a list of runs with `build`, `wall` and `processor`, in seconds, and the
`versions` of the packages that matter. `build` is what can be done once for many runs of a graph, where the
contestant has such a step. `wall` and `processor` are the run alone, from the graph in memory to the end of
its last task. Processor time is that of the process and of all that it has started, as far as they live:
servers and workers are part of the price.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import json
import os
import socket
import struct
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

Edges = list[tuple[str, tuple[str, ...]]]
Run = Callable[[], Awaitable[Any]]
Build = Callable[[Edges], Run]
WARM = 20
"""Tasks of the graphs, a wide one and a chain, that are run first, and not counted."""


@dataclass
class Job:
    """What is to be measured."""

    graphs: dict[str, Edges]
    places: int
    variant: str
    durable: bool
    folder: Path
    seconds: float
    times: int
    alone: bool
    naps: dict[str, float] = field(default_factory=dict)


Contest = Callable[[Job], contextlib.AbstractAsyncContextManager[Build]]
"""Starts what it takes, and gives what makes a run of a graph."""


class Counter:
    """The task: it tells that it was there, and sleeps if it has a nap."""

    def __init__(self, naps: dict[str, float]) -> None:
        self.naps = naps
        self.ran = 0

    async def task(self, name: str) -> None:
        self.ran += 1
        if nap := self.naps.get(name):
            await asyncio.sleep(nap)

    def check(self, edges: Edges) -> None:
        """Look whether every task was run, and forget it."""
        assert self.ran == len(edges), f"{self.ran} tasks ran instead of {len(edges)}"
        self.ran = 0


class Clock:
    """Wall clock and processor time from its making on."""

    def __init__(self) -> None:
        gc.collect()
        self._below = _below()
        self._own = time.process_time()
        self._wall = time.perf_counter()

    def stop(self) -> dict[str, float]:
        wall, own = time.perf_counter() - self._wall, time.process_time() - self._own
        return {"wall": wall, "processor": own + _below() - self._below}


def _below() -> float:
    """Give the seconds of processor time of all processes below this one, and of their dead children."""
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            parents[int(entry.name)] = int(fields[1])
            ticks[int(entry.name)] = sum(map(int, fields[11:15]))
    own = os.getpid()
    total = 0
    for process, above in parents.items():
        while above not in (0, own):
            above = parents.get(above, 0)
        total += ticks[process] if above == own else 0
    return total / os.sysconf("SC_CLK_TCK")


def _bring_up_loopback() -> None:
    up, set_flags, request = 0x1, 0x8914, "16sh14x"  # netdevice(7)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, set_flags, struct.pack(request, b"lo", up))


async def _measure(contest: Contest, job: Job) -> dict[str, list[dict[str, float]]]:
    times: dict[str, list[dict[str, float]]] = {}
    wide: Edges = [(f"w{number}", ()) for number in range(WARM)]
    chain: Edges = [(f"c{number}", (f"c{number - 1}",) if number else ()) for number in range(WARM)]
    async with contest(job) as build:
        for edges in (wide, chain):
            await build(edges)()
        for name, edges in job.graphs.items():
            runs = times[name] = []
            while not runs or (len(runs) < job.times and sum(run["wall"] for run in runs) < job.seconds):
                began = time.perf_counter()
                run = build(edges)
                built = time.perf_counter() - began
                clock = Clock()
                await run()
                runs.append({"build": built, **clock.stop()})
    return times


def serve(contest: Contest, packages: list[str]) -> None:
    """Do the job that the command line names."""
    given = json.loads(Path(sys.argv[1]).read_text())
    graphs = {name: [(task, tuple(deps)) for task, deps in edges] for name, edges in given["graphs"].items()}
    job = Job(**given | {"graphs": graphs, "folder": Path(given["folder"])})
    if job.alone:
        _bring_up_loopback()
    times = asyncio.run(_measure(contest, job))
    result = {"times": times, "versions": {package: version(package) for package in packages}}
    Path(sys.argv[2]).write_text(json.dumps(result))
