"""Graphs of tasks with durations, what no schedule can beat, and schedules that cost nothing.

The schedules are played by a small simulation of their own, apart from the program's scheduler: they say how
much of a makespan is the order's doing, and how much is overhead.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from math import inf
from typing import NamedTuple

SIGMA = 0.8
"""Of log-normal durations: their spread is then about as large as their mean."""
HEAVY_TAIL = 1.5
"""Exponent of Pareto durations: the mean exists, the variance does not."""
STRAGGLER = 8.0
"""How many times as long as the others a straggler takes."""


class Task(NamedTuple):
    """What a benchmark needs to know of a task."""

    id: str
    depends_on: tuple[str, ...]
    seconds: float


class Workload(NamedTuple):
    """Tasks, dependencies first."""

    name: str
    tasks: Sequence[Task]

    @property
    def work(self) -> float:
        """Seconds that the tasks take, one after the other."""
        return sum(task.seconds for task in self.tasks)

    def scaled(self, factor: float) -> Workload:
        """Give the same tasks with durations times `factor`."""
        return Workload(self.name, [task._replace(seconds=task.seconds * factor) for task in self.tasks])


# --- what no schedule can beat ----------------------------------------------------------------------------


def remaining_paths(workload: Workload, seconds: Callable[[Task], float]) -> dict[str, float]:
    """Give for each task the longest path from its start to an end of the graph."""
    longest_after = dict.fromkeys((task.id for task in workload.tasks), 0.0)
    paths = {}
    for task in reversed(workload.tasks):
        paths[task.id] = path = longest_after[task.id] + seconds(task)
        for dep in task.depends_on:
            longest_after[dep] = max(longest_after[dep], path)
    return paths


def critical_path(workload: Workload) -> float:
    return max(remaining_paths(workload, lambda task: task.seconds).values(), default=0.0)


def bound(workload: Workload, slots: int) -> float:
    """Give seconds below which no schedule with so many places can come; there need not be one that does."""
    return max(critical_path(workload), workload.work / slots)


# --- schedules that cost nothing --------------------------------------------------------------------------


def critical_path_first(workload: Workload, slots: int) -> float:
    """Give the makespan of a list schedule that takes the longest remaining path first, knowing durations."""
    return list_schedule(workload, slots, remaining_paths(workload, lambda task: task.seconds))


def most_steps_first(workload: Workload, slots: int) -> float:
    """Do the same without knowing durations: paths are counted in tasks."""
    return list_schedule(workload, slots, remaining_paths(workload, lambda _: 1.0))


def first_come(workload: Workload, slots: int) -> float:
    """Give the makespan of a list schedule in the order in which tasks become ready."""
    return list_schedule(workload, slots, None)


def list_schedule(workload: Workload, slots: int, rank: dict[str, float] | None) -> float:
    """Give the makespan when a free place is never left empty, and starting and ending take no time.

    Of the ready tasks the one of highest rank starts first, of equal ones the first in the workload's order.
    """
    missing = {task.id: len(task.depends_on) for task in workload.tasks}
    dependents: dict[str, list[int]] = {task.id: [] for task in workload.tasks}
    for index, task in enumerate(workload.tasks):
        for dep in task.depends_on:
            dependents[dep].append(index)
    ready: list[tuple[float, int]] = []
    running: list[tuple[float, int]] = []
    came = now = 0.0

    def come(index: int) -> None:
        nonlocal came
        came += 1
        heappush(ready, (came if rank is None else -rank[workload.tasks[index].id], index))

    for index, task in enumerate(workload.tasks):
        if not task.depends_on:
            come(index)
    while ready or running:
        while ready and len(running) < slots:
            index = heappop(ready)[1]
            heappush(running, (now + workload.tasks[index].seconds, index))
        now = running[0][0]
        while running and running[0][0] == now:  # all that end at one time do so before anything starts
            for index in dependents[workload.tasks[heappop(running)[1]].id]:
                missing[workload.tasks[index].id] -= 1
                if not missing[workload.tasks[index].id]:
                    come(index)
    return now


# --- generated graphs -------------------------------------------------------------------------------------


def log_normal(chance: random.Random, mean: float = 1.0) -> float:
    return mean * chance.lognormvariate(-(SIGMA**2) / 2, SIGMA)


def layered(
    seed: int, *, layers: int = 12, narrowest: int = 6, widest: int = 26, name: str = "layered"
) -> Workload:
    """Layers of random width; each task depends on one to three of the two layers before."""
    chance = random.Random(f"{name} {seed}")
    tasks: list[Task] = []
    above: list[list[str]] = []
    for layer in range(layers):
        row = [f"l{layer}-{place}" for place in range(chance.randint(narrowest, widest))]
        for task in row:
            deps: list[str] = []
            if above:
                deps.append(chance.choice(above[-1]))
                older = [other for part in above[-2:] for other in part if other not in deps]
                deps += chance.sample(older, chance.randint(0, 2))
            tasks.append(Task(task, tuple(deps), log_normal(chance)))
        above.append(row)
    return Workload(name, tasks)


def diamonds(seed: int, *, strands: int = 6, length: int = 4, branches: int = 5) -> Workload:
    """Chains of diamonds beside each other; in each diamond one branch has a straggler."""
    chance = random.Random(f"diamonds {seed}")
    tasks: list[Task] = []
    for step in range(length):
        for strand in range(strands):
            here = f"s{strand}-{step}"
            after = (f"s{strand}-{step - 1}-join",) if step else ()
            tasks.append(Task(f"{here}-fork", after, chance.uniform(0.2, 1.0)))
            ends = []
            slow = chance.randrange(branches)
            for branch in range(branches):
                dep = f"{here}-fork"
                for link in range(chance.randint(1, 3)):
                    times = STRAGGLER if branch == slow and not link else 1.0
                    task = Task(f"{here}-{branch}-{link}", (dep,), times * chance.uniform(0.2, 1.0))
                    tasks.append(task)
                    dep = task.id
                ends.append(dep)
            tasks.append(Task(f"{here}-join", tuple(ends), chance.uniform(0.2, 1.0)))
    return Workload("diamonds with stragglers", tasks)


def heavy(seed: int, *, width: int = 160) -> Workload:
    """Many tasks with heavy-tailed durations, a short check after each, one summary of all."""
    chance = random.Random(f"heavy {seed}")
    tasks = [Task(f"work-{number}", (), chance.paretovariate(HEAVY_TAIL)) for number in range(width)]
    tasks += [Task(f"check-{n}", (f"work-{n}",), chance.uniform(0.1, 0.5)) for n in range(width)]
    tasks.append(Task("summary", tuple(f"check-{number}" for number in range(width)), 0.5))
    return Workload("wide, heavy-tailed", tasks)


GENERATED: tuple[Callable[[int], Workload], ...] = (layered, diamonds, heavy)


def shortest(workload: Workload, seconds: float, slots: float = inf) -> Workload:
    """Scale a workload so that its bound is `seconds`; without `slots`, its critical path."""
    longest = critical_path(workload) if slots == inf else bound(workload, int(slots))
    return workload.scaled(seconds / longest)
