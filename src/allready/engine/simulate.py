"""What a plan would take with other numbers of places: the real scheduler, loop and pool on a virtual clock.

Nothing is run and no store is touched. Each task only takes its time and completes. What was learnt from a
run ends as it did there: what failed or was skipped fails when its time is over, and does no more harm than
it did.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from allready.core.graph import TaskGraph, TaskNode, TaskSpec, topological_order
from allready.core.scheduler import DagScheduler
from allready.core.snapshot import spec_from_json
from allready.core.states import CANCELED, COMPLETED, FAILED, SKIPPED, FailureStrategy, RunIf
from allready.engine.loop import INLINE_SLOTS, SchedulerLoop
from allready.engine.virtual_clock import run_virtual
from allready.errors import PermanentError
from allready.pool.manager import SubAgent, SubAgentManager
from allready.pool.provider import ProviderGates

if TYPE_CHECKING:
    from allready.engine.compile import Compiled
    from allready.store.contract import RunRow, TaskRow

DEFAULT_SECONDS = 60.0
"""What a task is taken to last that has no estimate: models and test suites take about that."""
WORTH_IT = 0.05
"""Share of the best time that more places have to save, or they are not worth it."""
LONGEST_SECONDS = 0.2
"""Of virtual time: tasks are made shorter than the first delay after which a full pool is asked again
(`core.policy.BACKOFF_FIRST`), so that none is asked in vain. Places that come free wake the loop."""
ENDED_BADLY = frozenset({FAILED, SKIPPED, CANCELED})


@dataclass(slots=True)
class Workload:
    """Tasks, how long each takes, and what they have to share besides the places."""

    specs: list[TaskSpec]
    seconds: dict[str, float]
    """Task → how long it takes."""
    failing: set[str] = field(default_factory=set)
    """Tasks that end badly, as in the run that this was learnt from."""
    assumed: int = 0
    """How many tasks have the default for want of anything better."""
    resources: Mapping[str, int] = field(default_factory=dict)
    agent_limits: Mapping[str, int] = field(default_factory=dict)
    timeout: float | None = None
    """Of the whole run, in seconds."""
    too_long: list[str] = field(default_factory=list)
    """Tasks whose estimate is longer than their timeout."""
    earlier: int = 0
    """How many tasks have no estimate, and take what they took in earlier runs."""

    @property
    def work(self) -> float:
        """Seconds that all tasks take, one after the other."""
        return sum(self.seconds.values())


class Span(NamedTuple):
    """One task's time in a simulated run, in seconds from its beginning."""

    task: str
    ready: float
    start: float
    end: float
    slot: int | None
    """Its place in the pool, from 1; None: it ran inline, beside the pool."""


class Step(NamedTuple):
    """A task on the critical path."""

    task: str
    start: float
    seconds: float


@dataclass(slots=True)
class Simulation:
    """A run with so many places."""

    slots: int
    makespan: float
    """Seconds from the first tick to the end."""
    spans: list[Span]
    """By start."""
    use: float
    """Share of the places' time that was taken."""
    bound: float
    """Seconds below which no scheduler could come."""
    bound_by: str
    """What sets it: `critical path`, `slots`, `inline`, `resource NAME`, `agent NAME`."""
    work: float

    @property
    def speedup(self) -> float:
        """How many times faster than one task after the other."""
        return self.work / self.makespan if self.makespan else 1.0

    @property
    def ratio(self) -> float:
        """How many times as long as the bound."""
        return self.makespan / self.bound if self.bound else 1.0


# --- what there is to do ----------------------------------------------------------------------------------


def workload_of_plan(compiled: Compiled, default: float = DEFAULT_SECONDS) -> Workload:
    """Give the tasks of a plan: each takes its estimate, or `default` seconds if it has none."""
    seconds = {spec.id: default if spec.estimate is None else spec.estimate for spec in compiled.specs}
    return Workload(
        list(compiled.specs),
        seconds,
        assumed=sum(spec.estimate is None for spec in compiled.specs),
        resources=compiled.plan.resources,
        agent_limits=compiled.agent_limits,
        timeout=compiled.plan.timeout,
        too_long=[
            spec.id
            for spec in compiled.specs
            if spec.estimate is not None and spec.timeout is not None and spec.estimate > spec.timeout
        ],
    )


def workload_of_run(row: RunRow, tasks: Sequence[TaskRow], default: float = DEFAULT_SECONDS) -> Workload:
    """Give the tasks of a stored run: each takes what its last attempt took.

    One that has not ended takes its estimate, else the average of those that completed, else `default`.
    """
    specs = [spec_from_json(task.spec) for task in tasks]
    seconds = {task.id: took for task in tasks if (took := _took(task)) is not None}
    completed = [seconds[task.id] for task in tasks if task.state == COMPLETED and task.id in seconds]
    average = sum(completed) / len(completed) if completed else default
    assumed = 0
    for spec in specs:
        if spec.id not in seconds:
            assumed += spec.estimate is None
            seconds[spec.id] = average if spec.estimate is None else spec.estimate
    failing = {task.id for task in tasks if task.state in ENDED_BADLY}
    agents: Mapping[str, Mapping[str, object]] = row.options.get("agents", {})
    limits = {
        name: limit
        for name, settings in agents.items()
        if isinstance(limit := settings.get("max_concurrent"), int)
    }
    return Workload(
        specs,
        seconds,
        failing,
        assumed,
        dict(row.plan.get("resources", {})),
        limits,
        row.options.get("timeout"),
    )


def _took(task: TaskRow) -> float | None:
    """Give the seconds that a task took; None if it has not ended."""
    if task.state not in ENDED_BADLY and task.state != COMPLETED:
        return None
    if not task.attempts or task.started_at is None or task.finished_at is None:
        return 0.0  # it was skipped
    return max(0.0, task.finished_at - task.started_at)


# --- simulating -------------------------------------------------------------------------------------------


def simulate(workload: Workload, slots: int) -> Simulation:
    """Give how a run of these tasks goes with so many places in the pool."""
    run = _Run(workload, slots)
    makespan = run_virtual(run.go()) * run.scale
    bound, bound_by = _bound(workload, slots)
    spans = sorted(run.spans(), key=lambda span: (span.start, span.slot or 0, span.end))
    taken = sum(span.end - span.start for span in spans if span.slot is not None)
    use = taken / (slots * makespan) if makespan else 0.0
    return Simulation(slots, makespan, spans, use, bound, bound_by, workload.work)


class _Run:
    """One simulated run."""

    def __init__(self, workload: Workload, slots: int) -> None:
        self._workload = workload
        self._scheduler = DagScheduler(TaskGraph(_plain(workload)), max_parallel=slots)
        self._pool = SubAgentManager(
            slots,
            resources=workload.resources,
            agent_limits=workload.agent_limits,
            providers=ProviderGates(),
        )
        self._free = list(range(1, slots + 1))
        """Places, the lowest on top of the heap."""
        self._slots: dict[str, int | None] = {}
        """Task → the place that it had."""
        longest = max(workload.seconds.values(), default=0.0)
        # a power of two: nothing is rounded on the way there and back
        self.scale = 2.0 ** math.frexp(longest / LONGEST_SECONDS)[1]
        """Seconds for one of virtual time."""

    async def go(self) -> float:
        clock = asyncio.get_running_loop().time
        await SchedulerLoop(self._scheduler, self._pool, self._work, clock=clock).run()
        return clock()

    async def _work(self, sub_agent: SubAgent) -> None:
        task = sub_agent.request.task
        slot = heapq.heappop(self._free) if sub_agent.pool is self._pool else None
        self._slots[task] = slot
        await asyncio.sleep(self._workload.seconds[task] / self.scale)
        if slot is not None:
            heapq.heappush(self._free, slot)
        if task in self._workload.failing:
            raise PermanentError("it ended badly in the run")

    def spans(self) -> Iterable[Span]:
        for node in self._scheduler.graph:
            if node.started_at is not None and node.finished_at is not None:
                ready, start, end = (
                    time * self.scale for time in (_ready_at(node), node.started_at, node.finished_at)
                )
                yield Span(node.id, ready, start, end, self._slots[node.id])


def _plain(workload: Workload) -> list[TaskSpec]:
    """Give the tasks without what a simulation has none of: people, time limits, second tries."""
    plain = []
    for spec in workload.specs:
        spec = spec._replace(approval=False, timeout=None, max_retries=0)
        if spec.id in workload.failing:
            spec = spec._replace(failure_strategy=FailureStrategy.SKIP)
            if not workload.seconds[spec.id]:  # it never began: it takes no place either
                spec = spec._replace(inline=True, resources=())
        plain.append(spec)
    return plain


def _ready_at(node: TaskNode) -> float:
    """Give when a task that has run could have begun."""
    ends = [dep.finished_at or 0.0 for dep in node.deps]
    if node.spec.run_if is RunIf.ANY_COMPLETED:
        ends = [dep.finished_at or 0.0 for dep in node.deps if dep.state is COMPLETED]
        return min(ends, default=0.0)
    return max(ends, default=0.0)


# --- what no scheduler can do better ----------------------------------------------------------------------


def critical_path(workload: Workload) -> list[Step]:
    """Give the tasks that would set the time if there were places for all: the longest chain."""
    graph = TaskGraph(workload.specs)
    order, _ = topological_order({spec.id: spec.depends_on for spec in workload.specs})
    ends: dict[int, float] = {}
    before: dict[int, TaskNode | None] = {}
    for node in map(graph.by_id.__getitem__, order):
        seconds = workload.seconds[node.id]
        choose = min if node.spec.run_if is RunIf.ANY_COMPLETED else max
        dep = choose(node.deps, key=lambda dep: ends[dep.index], default=None)
        before[node.index] = dep
        ends[node.index] = seconds + (ends[dep.index] if dep is not None else 0.0)
    steps = []
    last = max(graph.nodes, key=lambda node: ends[node.index], default=None)
    while last is not None:
        seconds = workload.seconds[last.id]
        steps.append(Step(last.id, ends[last.index] - seconds, seconds))
        last = before[last.index]
    return steps[::-1]


def _bound(workload: Workload, slots: int) -> tuple[float, str]:
    """Give the highest of the lower bounds, and what sets it."""
    path = critical_path(workload)
    bounds = {"critical path": path[-1].start + path[-1].seconds if path else 0.0, "slots": 0.0}
    shares: dict[str, float] = {}
    for spec in workload.specs:
        seconds = workload.seconds[spec.id]
        if spec.inline:
            shares["inline"] = shares.get("inline", 0.0) + seconds / INLINE_SLOTS
            continue
        bounds["slots"] += seconds / slots
        for name, amount in spec.resources:
            key = f"resource {name}"
            shares[key] = shares.get(key, 0.0) + seconds * amount / workload.resources[name]
        if spec.agent is not None and spec.agent in workload.agent_limits:
            key = f"agent {spec.agent}"
            shares[key] = shares.get(key, 0.0) + seconds / workload.agent_limits[spec.agent]
    bounds |= shares
    name = max(bounds, key=lambda key: bounds[key])
    return bounds[name], name


def worth_it(simulations: Sequence[Simulation]) -> Simulation:
    """Give the one with the fewest places whose time is nearly that of the best."""
    best = min(simulation.makespan for simulation in simulations)
    good = [simulation for simulation in simulations if simulation.makespan <= best * (1 + WORTH_IT)]
    return min(good, key=lambda simulation: simulation.slots)
