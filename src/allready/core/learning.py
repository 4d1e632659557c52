"""How long tasks take, learnt from those that completed; the remaining paths follow, some tasks at a time.

A task counts with its estimate, or with a second if it has none. What completes tells better: the tasks of
one agent have a *pace* if they have an estimate and another if they have none, which is what such tasks took
over what they counted. When one has moved by more than half, all paths have to be measured anew. That would
take seconds for a million tasks. So a sweep does it, dependents before what they depend on: a bounded part
of it in each tick before which something completed. (Others may be left out of a journal, so they must not
count.) What is added meanwhile is measured by the new paces, as all behind the sweep is, and what the sweep
has yet to reach hears of it then. Once it is over, all paths are as if they were measured from scratch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from allready.core.states import COMPLETED

if TYPE_CHECKING:
    from allready.core.graph import TaskGraph, TaskNode, TaskSpec

DEFAULT_ESTIMATE = 1.0
"""Seconds a task is taken to need when nobody knows better."""
SHORTEST = 0.01
"""Seconds; what takes less counts as this: an order of such tasks is worth nothing."""
MOVED = 1.5
"""Factor by which a pace has to change for the paths to be measured anew."""
LEAST_TOLD = 3
"""Completed tasks after which the estimates of a kind are doubted: one may have been an exception."""
STEP = 1_000
"""Tasks, and edges from them, that a tick brings up to date; a task is never left half-way."""


class Pace:
    """How long tasks take over what they count, of one kind with estimates, or of one without."""

    __slots__ = ("_counted", "_least", "_told", "_took", "used")

    def __init__(self, least: int) -> None:
        self._least = least
        self._told = 0
        self._took = 0.0
        self._counted = 0.0
        self.used = 1.0
        """By which the paths are measured at present."""

    def add(self, took: float, counted: float) -> None:
        """Take in a task that completed."""
        self._told += 1
        self._took += max(SHORTEST, took)
        self._counted += max(SHORTEST, counted)

    @property
    def known(self) -> float:
        """What it is by all that was told so far."""
        return self._took / self._counted if self._told >= self._least else 1.0

    @property
    def moved(self) -> bool:
        """Whether that is much more or less than what is used."""
        if self._told < self._least:
            return False
        took, expected = self._took, self._counted * self.used
        return took > expected * MOVED or took * MOVED < expected


class Paces:
    """The paces of all kinds that a graph has."""

    def __init__(self) -> None:
        self._guessed: dict[str | None, Pace] = {}
        """Of tasks without an estimate, by agent."""
        self._estimated: dict[str | None, Pace] = {}

    def know(self, specs: Iterable[TaskSpec]) -> None:
        """Take note of the kinds of these tasks."""
        guessed, estimated = self._guessed, self._estimated
        for spec in specs:
            if spec.estimate is None:
                if spec.agent not in guessed:
                    guessed[spec.agent] = Pace(1)
            elif spec.agent not in estimated:
                estimated[spec.agent] = Pace(LEAST_TOLD)

    def seconds(self, spec: TaskSpec) -> float:
        """Give what a task is taken to need; its kind has to be known."""
        if spec.estimate is None:
            return DEFAULT_ESTIMATE * self._guessed[spec.agent].used
        return spec.estimate * self._estimated[spec.agent].used

    def add(self, spec: TaskSpec, took: float) -> None:
        """Take in a task that completed."""
        guessed = self._guessed.get(spec.agent)
        if guessed is not None:
            guessed.add(took, DEFAULT_ESTIMATE)
        if spec.estimate is not None:
            self._estimated[spec.agent].add(took, spec.estimate)

    @property
    def moved(self) -> bool:
        """Whether a pace has moved, and that can change an order: not if there is but one."""
        several = len(self._guessed) + len(self._estimated) > 1
        return several and any(pace.moved for pace in self._all())

    def adopt(self) -> None:
        """Use what is known by now."""
        for pace in self._all():
            pace.used = pace.known

    def _all(self) -> Iterator[Pace]:
        yield from self._guessed.values()
        yield from self._estimated.values()


class Learning:
    """Keeps the remaining paths of a graph up to date while its tasks complete."""

    def __init__(self, graph: TaskGraph) -> None:
        """Begin anew, with what the tasks of the graph tell that have completed."""
        self._graph = graph
        self._paces = graph.paces = Paces()
        self._paces.know(node.spec for node in graph.nodes)
        self._left = 0
        """How many tasks, of those in topological order, the sweep has yet to reach; 0: there is none."""
        self.told = False
        """Whether something completed since the paths were last seen to."""
        for node in graph.nodes:
            if node.state is COMPLETED:
                self._paces.add(node.spec, node.duration or 0.0)

    def completed(self, spec: TaskSpec, took: float) -> None:
        """Take in that a task completed, after so many seconds."""
        self.told = True
        self._paces.add(spec, took)

    def measure_all(self) -> list[TaskNode]:
        """Measure all paths at once, by what is known; gives the queued tasks whose path changed."""
        self._paces.adopt()
        self._left = len(self._graph.ordered)
        return self._measure(0)

    def measure_some(self) -> list[TaskNode]:
        """Do a part of a sweep, if one is wanted; gives the queued tasks whose path changed."""
        self.told = False
        ordered = self._graph.ordered
        if not self._left:
            if not self._paces.moved:
                return []
            self._paces.adopt()
            self._left = len(ordered)
        left, budget = self._left, STEP
        while left and budget > 0:
            left -= 1
            budget -= 1 + len(ordered[left].dependents)
        return self._measure(left)

    def _measure(self, left: int) -> list[TaskNode]:
        """Go on with the sweep until so many tasks are left."""
        graph = self._graph
        changed = []
        for node in reversed(graph.ordered[left : self._left]):
            remaining = graph.remaining_of(node)
            if remaining != node.remaining:
                node.remaining = remaining
                if node.queued:
                    changed.append(node)
        self._left = left
        return changed
