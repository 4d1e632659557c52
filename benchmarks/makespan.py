"""How close runs of ragged graphs come to the bound. Prints Markdown tables.

    ./dev python -m benchmarks.makespan                        generated graphs, beside peers; half an hour
    ./dev python -m benchmarks.makespan --peers none           without peers
    ./dev python -m benchmarks.makespan --traces FOLDER        also published traces (WfFormat JSON 1.5)
    ./dev python -m benchmarks.makespan --quick                seconds, on tiny graphs: to try the script

Tasks sleep, in real time, on the real loop and pool. The bound is the longer of the critical path and work
÷ places; no schedule beats it, and often none reaches it. Beside it stand schedules of the same durations
that cost nothing (simulated, see `workloads.py`): what they lack to the bound is the order's and the graph's
doing, what a run lacks to them is overhead.

*knowing*: ours, with the durations as `estimate`. *not knowing*: ours without them. *durable*: ours, knowing,
with a new SQLite store; counted from when the beginning of the run was recorded. *learnt*: the same without
estimates, for the second time in the same store, which knows what the first took. *by hand*: asyncio,
counters and a semaphore, first come, first served. *waves*: the standard library's graphlib, all that is
ready is waited for before the next are started. Peers know no durations either; they are run in processes of
their own, start-up is not counted, and `peers/with_*.py` say how each is used.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from graphlib import TopologicalSorter
from math import isnan, nan
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks.by_hand import by_hand
from benchmarks.common import (
    VERSIONS,
    Contestant,
    Edges,
    add_options,
    machine,
    note,
    options_from,
    table,
    versions_line,
)
from benchmarks.common import measure as compete
from benchmarks.traces import BadTrace, read_folder
from benchmarks.workloads import (
    GENERATED,
    Task,
    Workload,
    bound,
    critical_path_first,
    first_come,
    most_steps_first,
    shortest,
)

from allready import Plan, run
from allready.core.graph import TaskGraph, TaskSpec
from allready.core.scheduler import DagScheduler
from allready.engine.loop import run_scheduler_loop
from allready.pool.manager import SubAgent, SubAgentManager

FEW_PLACES = 5
SECONDS = 5.0
"""What the bound of a run is scaled to: long enough that a timer's millisecond is little."""
SEEDS = 3
QUICK = 0.1
"""Seconds of a trial of this script itself."""
GOAL_SPARE, GOAL_FEW, GOAL_TRACES = 1.03, 1.05, 1.05
CONTESTANTS = [
    Contestant("LangGraph", "langgraph", environment="langgraph"),
    Contestant("Dask", "dask", environment="dask"),
]
FAST_BRANCHES, FAST_LINKS, SLOW_LINKS = 4, 8, 20
"""In the diamond with one slow branch: branches beside it, their tasks, and how many such it takes itself."""

Work = Callable[[str], Awaitable[None]]
"""Does the task of that id."""
Runner = Callable[[Workload, int, Work], Awaitable[float | None]]
"""Runs a workload with so many places; may give seconds at its beginning that are not part of the run."""


def edges_of(workload: Workload, prefix: str = "") -> Edges:
    return [(prefix + task.id, tuple(prefix + dep for dep in task.depends_on)) for task in workload.tasks]


# --- who runs ---------------------------------------------------------------------------------------------


async def first_come_by_hand(workload: Workload, places: int, work: Work) -> None:
    await by_hand(edges_of(workload), places, work)


async def waves(workload: Workload, places: int, work: Work) -> None:
    """Run all that is ready, wait for all of it, and look again."""
    sorter = TopologicalSorter({task.id: task.depends_on for task in workload.tasks})
    sorter.prepare()
    semaphore = asyncio.Semaphore(places)

    async def node(name: str) -> None:
        async with semaphore:
            await work(name)

    while sorter.is_active():
        ready = sorter.get_ready()
        await asyncio.gather(*map(node, ready))
        sorter.done(*ready)


async def knowing(workload: Workload, places: int, work: Work) -> None:
    await _ours(workload, places, work, lambda task: task.seconds)


async def not_knowing(workload: Workload, places: int, work: Work) -> None:
    await _ours(workload, places, work, lambda _: None)


async def _ours(
    workload: Workload, places: int, work: Work, estimate: Callable[[Task], float | None]
) -> None:
    async def attempt(sub_agent: SubAgent) -> None:
        await work(sub_agent.request.task)

    graph = TaskGraph(TaskSpec(task.id, task.depends_on, estimate=estimate(task)) for task in workload.tasks)
    clock = asyncio.get_running_loop().time
    status = await run_scheduler_loop(DagScheduler(graph), SubAgentManager(places), attempt, clock=clock)
    assert status == "completed", status


async def durable(workload: Workload, places: int, work: Work) -> float:
    with new_store() as store:
        return await _stored(workload, places, work, store, told=True)


async def learnt(workload: Workload, places: int, work: Work) -> float:
    began = time.perf_counter()
    with new_store() as store:
        await _stored(workload, places, work, store, told=False)
        first = time.perf_counter() - began
        return first + await _stored(workload, places, work, store, told=False)


@contextmanager
def new_store() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="allready-makespan-") as folder:
        yield Path(folder) / "runs.db"


async def _stored(workload: Workload, places: int, work: Work, store: Path, *, told: bool) -> float:
    """Run durably, told the durations or not; gives the seconds until the run's beginning was recorded."""
    began = time.perf_counter()
    events: list[float] = []
    plan = Plan(workload.name, max_parallel=places)
    for task in workload.tasks:
        known: dict[str, Any] = {"estimate": task.seconds} if told else {}
        plan.add(work, id=task.id, args=[task.id], depends_on=task.depends_on, **known)
    result = await run(plan, store=store, on_event=lambda _: events.append(time.perf_counter()))
    assert result.status == "completed", result.status
    return events[0] - began


# --- measuring --------------------------------------------------------------------------------------------


class Measured(NamedTuple):
    """Of one run, in seconds."""

    makespan: float
    ends: dict[str, float]
    """Task → when it ended, from the beginning of the run."""


def measure(runner: Runner, workload: Workload, places: int) -> Measured:
    """Run a workload in an event loop of its own, its tasks asleep for their time."""
    seconds = {task.id: task.seconds for task in workload.tasks}
    ends = {}

    async def timed() -> float:
        nonlocal ends
        gc.collect()
        began = time.perf_counter()

        async def work(name: str) -> None:
            await asyncio.sleep(seconds[name])
            ends[name] = time.perf_counter() - began

        before = await runner(workload, places, work) or 0.0
        return time.perf_counter() - began - before

    makespan = asyncio.run(timed())
    assert ends.keys() == seconds.keys(), "not all tasks were run"
    return Measured(makespan, ends)


Cases = Sequence[tuple[Workload, int]]
"""Workloads, each with a number of places."""


def spans(runners: Sequence[Runner], contestants: Sequence[Contestant], cases: Cases) -> list[list[float]]:
    """Give for each runner and then each contestant the makespan of each case; the runners take turns."""
    found: list[list[float]] = [[] for _ in runners]
    for workload, places in cases:
        for row, runner in zip(found, runners, strict=True):
            row.append(measure(runner, workload, places).makespan)
    return found + [[peer_span(contestant, *case) for case in cases] for contestant in contestants]


def peer_span(contestant: Contestant, workload: Workload, places: int) -> float:
    """Give a peer's makespan; not a number if it failed: the figures of the others are worth having."""
    naps = {task.id: task.seconds for task in workload.tasks}
    graphs = {workload.name: edges_of(workload)}
    try:
        result = compete(contestant, graphs, places=places, naps=naps, times=1)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return nan
    note(result["versions"])
    wall: float = result["times"][workload.name][0]["wall"]
    return wall


# --- tables -----------------------------------------------------------------------------------------------


def spare_places(contestants: Sequence[Contestant], seconds: float, seeds: int) -> Iterator[str]:
    """Give the table of graphs that have a place for each task."""
    yield (
        f"Places to spare: makespan ÷ critical path, of {seeds} graphs each the median (the worst). The "
        f"critical path takes {seconds:g} s.\n"
    )
    runners: list[Runner] = [knowing, first_come_by_hand, waves]

    def rows() -> Iterator[list[str]]:
        for make in GENERATED:
            graphs = [shortest(make(seed), seconds) for seed in range(seeds)]
            found = spans(runners, contestants, [(graph, len(graph.tasks)) for graph in graphs])
            ours, *others = [[span / seconds for span in those] for those in found]
            yield [judged(ours, GOAL_SPARE), *map(shown, others), graphs[0].name, sizes(graphs)]

    names = [contestant.name for contestant in contestants]
    head = [f"places to spare: ours (≤ {GOAL_SPARE})", "by hand", "waves", *names, " graph", "tasks"]
    yield from table(head, rows())


def few_places(contestants: Sequence[Contestant], seconds: float, seeds: int) -> Iterator[str]:
    """Give the table of graphs that have to share few places, and what schedules without cost take."""
    yield (
        f"{FEW_PLACES} places: makespan ÷ max(critical path, work ÷ {FEW_PLACES}), of {seeds} graphs each "
        f"the median (the worst). The bound is {seconds:g} s. The last three columns are simulated schedules "
        "that cost nothing: critical path first, most steps first, first come.\n"
    )
    runners: list[Runner] = [knowing, not_knowing, durable, learnt, first_come_by_hand, waves]

    def rows() -> Iterator[list[str]]:
        for make in GENERATED:
            graphs = [shortest(make(seed), seconds, FEW_PLACES) for seed in range(seeds)]
            found = spans(runners, contestants, [(graph, FEW_PLACES) for graph in graphs])
            known, *others = [[span / seconds for span in those] for those in found]
            free = [
                [schedule(graph, FEW_PLACES) / seconds for graph in graphs]
                for schedule in (critical_path_first, most_steps_first, first_come)
            ]
            kind = [graphs[0].name, sizes(graphs)]
            yield [judged(known, GOAL_FEW), *map(shown, others), *kind, *map(shown, free)]

    names = [contestant.name for contestant in contestants]
    head = [f"{FEW_PLACES} places: knowing (≤ {GOAL_FEW})", "not knowing", "durable", "learnt"]
    head += ["by hand", "waves"]
    head += [*names, " graph", "tasks", "free: path", "free: steps", "free: first"]
    yield from table(head, rows())


def published(traces: Sequence[Workload], contestants: Sequence[Contestant], seconds: float) -> Iterator[str]:
    """Give the table of published traces."""
    yield (
        f"Published traces with {FEW_PLACES} places: makespan ÷ that of a critical-path-first schedule of "
        f"the same durations that costs nothing. All durations are divided by the factor, so that the bound "
        f"is {seconds:g} s.\n"
    )
    runners: list[Runner] = [knowing, not_knowing, durable, learnt, first_come_by_hand, waves]

    def rows() -> Iterator[list[str]]:
        for trace in traces:
            workload = shortest(trace, seconds, FEW_PLACES)
            free = critical_path_first(workload, FEW_PLACES)
            found = spans(runners, contestants, [(workload, FEW_PLACES)])
            known, *others = [[span / free for span in those] for those in found]
            kind = [trace.name, str(len(trace.tasks)), f"{bound(trace, FEW_PLACES) / seconds:.1f}"]
            bounds = [f"{found[0][0] / seconds:.3f}", f"{free / seconds:.3f}"]
            yield [judged(known, GOAL_TRACES), *map(shown, others), *kind, *bounds]

    names = [contestant.name for contestant in contestants]
    head = [f"traces: knowing (≤ {GOAL_TRACES})", "not knowing", "durable", "learnt"]
    head += ["by hand", "waves", *names]
    head += [" trace", "tasks", "factor", "knowing ÷ bound", "free ÷ bound"]
    yield from table(head, rows())


def diamond(link: float, slow: float) -> Workload:
    """Fast branches of some tasks each, and one task of `slow` seconds beside them."""
    tasks = [Task("fork", (), link), Task("slow", ("fork",), slow)]
    for branch in range(FAST_BRANCHES):
        for step in range(FAST_LINKS):
            after = f"fast-{branch}-{step - 1}" if step else "fork"
            tasks.append(Task(f"fast-{branch}-{step}", (after,), link))
    tasks.append(Task("join", ("slow", *(f"fast-{b}-{FAST_LINKS - 1}" for b in range(FAST_BRANCHES))), link))
    return Workload("a diamond with one slow branch", tasks)


def stragglers(link: float) -> Iterator[str]:
    """Give the table of how long the fast branches of a diamond take beside a slow one."""
    yield (
        f"A slow sibling: when the last of {FAST_BRANCHES} branches of {FAST_LINKS} tasks of {link:g} s is "
        f"through, beside a branch of one such task, and of one task of {SLOW_LINKS * link:g} s; with "
        f"{FAST_BRANCHES + 1} places.\n"
    )
    who: dict[str, Runner] = {"ours": not_knowing, "by hand": first_come_by_hand, "waves": waves}
    last = [f"fast-{branch}-{FAST_LINKS - 1}" for branch in range(FAST_BRANCHES)]

    def rows() -> Iterator[list[str]]:
        for name, runner in who.items():
            runs = [
                measure(runner, diamond(link, times * link), FAST_BRANCHES + 1) for times in (1, SLOW_LINKS)
            ]
            without, beside = (max(run.ends[task] for task in last) for run in runs)
            yield [f"{beside / without:.2f}", name, f"{without:.2f}", f"{beside:.2f}"]

    yield from table(["with ÷ without", " who", "without, s", "with, s"], rows())


def shown(values: Sequence[float]) -> str:
    """Give the median, and the worst if there are several; a dash if one is missing."""
    if any(map(isnan, values)):
        return "–"
    worst = f" ({max(values):.3f})" if len(values) > 1 else ""
    return f"{median(values):.3f}{worst}"


def judged(values: Sequence[float], goal: float) -> str:
    """Show values, in bold when the median misses the goal."""
    return shown(values) if median(values) <= goal else f"**{shown(values)}**"


def sizes(graphs: Sequence[Workload]) -> str:
    counts = [len(graph.tasks) for graph in graphs]
    return f"{min(counts)} to {max(counts)}" if min(counts) < max(counts) else str(counts[0])


def tables(
    traces: Sequence[Workload] = (),
    *,
    seconds: float = SECONDS,
    seeds: int = SEEDS,
    peers: Sequence[str] = (),
) -> Iterator[Iterator[str]]:
    """Give the tables, each as lines that come when they are measured."""
    contestants = [contestant for contestant in CONTESTANTS if contestant.environment in peers]
    yield spare_places(contestants, seconds, seeds)
    yield few_places(contestants, seconds, seeds)
    if traces:
        yield published(traces, contestants, seconds)
    yield stragglers(seconds / SLOW_LINKS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add_options(parser)
    parser.add_argument("--traces", type=Path, help="a folder of traces, WfFormat JSON 1.5")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"bound of each run ({SECONDS:g})")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"generated graphs of each kind ({SEEDS})")
    given = parser.parse_args()
    options = options_from(parser, given)
    try:
        traces = read_folder(given.traces) if given.traces else []
    except BadTrace as error:
        parser.error(str(error))
    seconds, seeds = (QUICK, 1) if options.quick else (given.seconds, given.seeds)
    print(f"{machine()}. Goals missed are bold.\n")
    for lines in tables(traces, seconds=seconds, seeds=seeds, peers=options.peers):
        for line in lines:
            print(line, flush=True)
    if VERSIONS:
        print(versions_line())


if __name__ == "__main__":
    main()
