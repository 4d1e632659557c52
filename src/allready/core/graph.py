"""`TaskGraph`: tasks, edges and states; readiness, the spreading of ends, and remaining path lengths.

Only the scheduler changes a graph that is under way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from allready.core.learning import DEFAULT_ESTIMATE, Paces
from allready.core.states import (
    AWAITING_APPROVAL,
    CANCELING,
    COMPLETED,
    FAILED,
    PENDING,
    READY,
    RUNNING,
    SKIPPED,
    TASK_TRANSITIONS,
    FailureStrategy,
    RunIf,
    TaskState,
    no_transition,
)
from allready.errors import PlanError, Problem, UserError

MAX_TASKS = 10_000_000
"""A graph larger than this is refused: more likely a mistake than a wish."""
RETRIES_OF_RETRY = 3
"""`max_retries` under the strategy `retry`, unless the task says otherwise."""
GROWTH_BUDGET = 10_000
"""Ancestors whose remaining path is brought up to date at most when the graph grows by one batch."""

ALL_COMPLETED = RunIf.ALL_COMPLETED
ANY_COMPLETED = RunIf.ANY_COMPLETED


class TaskSpec(NamedTuple):
    """What the scheduler needs to know of a task. Times in seconds."""

    id: str
    depends_on: tuple[str, ...] = ()
    agent: str | None = None
    """Who does it; None: the router is asked."""
    run_if: RunIf = RunIf.ALL_COMPLETED
    failure_strategy: FailureStrategy = FailureStrategy.ABORT
    max_retries: int | None = None
    """None: 0, or 3 under the strategy `retry`."""
    timeout: float | None = 600.0
    """For each attempt; None: no limit."""
    priority: int = 0
    """Higher goes first."""
    estimate: float | None = None
    resources: tuple[tuple[str, int], ...] = ()
    """Named resources and how many units of each, sorted by name."""
    provider: str | None = None
    """Whose rate limits the agent shares, for the scope of refusals."""
    approval: bool = False
    idempotent: bool = True
    """False: after a lost attempt a person decides instead of a second try."""
    inline: bool = False

    @property
    def retries(self) -> int:
        """How often a failed attempt is repeated."""
        if self.max_retries is not None:
            return self.max_retries
        return RETRIES_OF_RETRY if self.failure_strategy is FailureStrategy.RETRY else 0


class TaskNode:
    """A task of a graph under way."""

    __slots__ = (
        "agent",
        "approved",
        "asking",
        "attempts",
        "bucket",
        "cancel_reason",
        "deferrals",
        "dependents",
        "deps",
        "error",
        "finished_at",
        "handle",
        "index",
        "not_before",
        "queued",
        "refused_scope",
        "remaining",
        "retries",
        "spec",
        "started_at",
        "state",
        "waiting",
    )

    def __init__(self, spec: TaskSpec, index: int) -> None:
        self.spec = spec
        self.index = index
        """Place in plan order, from 0."""
        self.state: TaskState = PENDING
        # all share one tuple until there is something in it: a million empty lists cost the garbage collector
        self.deps: list[TaskNode] | tuple[()] = ()
        self.dependents: list[TaskNode] | tuple[()] = ()
        self.waiting = 0
        """How many dependencies have not ended for good."""
        self.remaining = 0.0
        """Seconds on the longest path from the start of this task to an end of the graph."""
        self.agent: str | None = spec.agent
        self.attempts = 0
        self.retries = 0
        self.deferrals = 0
        """Attempts in a row that ended without a verdict (rate limit, lost worker)."""
        self.handle: str | None = None
        """The current, or last, attempt."""
        self.started_at: float | None = None
        """Start of the current, or last, attempt."""
        self.finished_at: float | None = None
        self.not_before: float | None = None
        """Ready, but not offered before this time."""
        self.error: str | None = None
        """Why it failed, was skipped or is to be repeated."""
        self.cancel_reason: str | None = None
        self.asking = False
        """Failed, and a person has to say what now."""
        self.approved = False
        self.refused_scope: str | None = None
        self.bucket: object = None
        """Where the scheduler keeps it while it is ready."""
        self.queued = False

    @property
    def id(self) -> str:
        """The task's id."""
        return self.spec.id

    @property
    def duration(self) -> float | None:
        """Seconds from the start of the last attempt to the end; None if it never ran or has not ended."""
        if not self.attempts or self.started_at is None or self.finished_at is None:
            return None
        return self.finished_at - self.started_at

    @property
    def settled(self) -> bool:
        """Whether its end, if it has ended, counts for its dependents."""
        state = self.state
        return state is COMPLETED or state is SKIPPED or (state is FAILED and not self.asking)

    def __repr__(self) -> str:
        return f"<{self.spec.id} {self.state}>"


class TaskGraph:
    """A plan under way. While it is `open` it may grow, and neither its end nor a deadlock is judged."""

    def __init__(
        self,
        specs: Iterable[TaskSpec] = (),
        *,
        open: bool = False,  # noqa: A002
        max_tasks: int = MAX_TASKS,
    ) -> None:
        self.nodes: list[TaskNode] = []
        self.ordered = self.nodes
        """Each after all that it depends on; the same list for as long as the plan has them so."""
        self.paces: Paces | None = None
        """How long tasks take over what they count; None: as long."""
        self.by_id: dict[str, TaskNode] = {}
        self.counts: dict[TaskState, int] = dict.fromkeys(TaskState, 0)
        self.open = open
        self.max_tasks = max_tasks
        self.add(specs)

    def __len__(self) -> int:
        return len(self.nodes)

    def __iter__(self) -> Iterator[TaskNode]:
        return iter(self.nodes)

    def __contains__(self, task: object) -> bool:
        return task in self.by_id

    def __getitem__(self, task: str) -> TaskNode:
        try:
            return self.by_id[task]
        except KeyError:
            raise UserError(f"there is no task {task!r}") from None

    def add(self, specs: Iterable[TaskSpec], longer: list[TaskNode] | None = None) -> list[TaskNode]:
        """Add tasks that depend on each other or on tasks already here; all of them or, on an error, none.

        Looks at the new part only. The older tasks whose remaining path has grown are appended to `longer`.
        Raises `PlanError` with every problem found.
        """
        specs = specs if isinstance(specs, list | tuple) else list(specs)
        problems, order = self._check(specs)
        if problems:
            raise PlanError(Problem(text) for text in problems)
        first = len(self.nodes)
        by_id = self.by_id
        new = [TaskNode(spec, first + place) for place, spec in enumerate(specs)]
        for node in new:
            by_id[node.spec.id] = node
        for node in new:
            if node.spec.depends_on:
                deps = node.deps = [by_id[name] for name in dict.fromkeys(node.spec.depends_on)]
                waiting = 0
                for dep in deps:
                    dependents = dep.dependents
                    if isinstance(dependents, list):
                        dependents.append(node)
                    else:
                        dep.dependents = [node]
                    if not dep.settled:
                        waiting += 1
                node.waiting = waiting
        ordered = new if order is None else [new[place] for place in order]
        if order is not None and self.ordered is self.nodes:
            self.ordered = list(self.nodes)
        if self.ordered is not self.nodes:
            self.ordered += ordered
        self.nodes.extend(new)
        self.counts[PENDING] += len(new)
        if self.paces is not None:
            self.paces.know(specs)
        self._measure(ordered)
        if first:
            grown = self._lengthen(new)
            if longer is not None:
                longer += grown
        return new

    def _check(self, specs: Sequence[TaskSpec]) -> tuple[list[str], list[int] | None]:
        """Give what is wrong with `specs`, and their places in topological order (None: as given)."""
        problems = []
        if len(self.nodes) + len(specs) > self.max_tasks:
            problems.append(f"too many tasks: {len(self.nodes) + len(specs)}; the limit is {self.max_tasks}")
        known = self.by_id
        places: dict[str, int] = {}
        in_order = True
        for place, spec in enumerate(specs):
            if spec.id in known or spec.id in places:
                problems.append(f"task id {spec.id!r} is used twice")
            for dep in spec.depends_on:
                if dep not in known and dep not in places:
                    in_order = False
            places[spec.id] = place
        if in_order or len(self.nodes) + len(specs) > self.max_tasks:
            return problems, None
        inside: dict[str, list[str]] = {}
        for spec in specs:
            for dep in spec.depends_on:
                if dep == spec.id:
                    problems.append(f"task {spec.id!r} depends on itself")
                elif dep not in known and dep not in places:
                    problems.append(f"task {spec.id!r} depends on {dep!r}, which does not exist")
            inside[spec.id] = [dep for dep in spec.depends_on if dep in places and dep != spec.id]
        order, cycle = topological_order(inside)
        if cycle:
            problems.append(f"the tasks depend on each other in a circle: {' → '.join(cycle)}")
        return problems, [places[name] for name in order]

    def _measure(self, ordered: Sequence[TaskNode]) -> None:
        """Set the remaining path of new nodes, given dependencies first."""
        for node in reversed(ordered):
            node.remaining = self.remaining_of(node)

    def remaining_of(self, node: TaskNode) -> float:
        """Give the seconds on the longest path from the start of a task, by what its dependents say."""
        longest = 0.0
        for dependent in node.dependents:
            if dependent.remaining > longest:
                longest = dependent.remaining
        if self.paces is not None:
            return longest + self.paces.seconds(node.spec)
        estimate = node.spec.estimate
        return longest + (DEFAULT_ESTIMATE if estimate is None else estimate)

    def _lengthen(self, new: Sequence[TaskNode]) -> Iterable[TaskNode]:
        """Carry the remaining path of new nodes on to older ones; gives those it made longer."""
        behind = deque(new)
        longer: dict[int, TaskNode] = {}
        budget = GROWTH_BUDGET
        while behind and budget > 0:
            node = behind.popleft()
            for dep in node.deps:
                if self.paces is not None:
                    seconds = self.paces.seconds(dep.spec)
                else:
                    seconds = DEFAULT_ESTIMATE if dep.spec.estimate is None else dep.spec.estimate
                remaining = node.remaining + seconds
                if remaining > dep.remaining:
                    dep.remaining = remaining
                    longer[dep.index] = dep
                    behind.append(dep)
                    budget -= 1
        return longer.values()

    def move(self, node: TaskNode, state: TaskState) -> None:
        """Change a task's state: the only place where that happens. Raises `InvalidTransition`."""
        old = node.state
        if state not in TASK_TRANSITIONS[old]:
            raise no_transition(f"task {node.spec.id!r}", old, state)
        counts = self.counts
        counts[old] -= 1
        counts[state] += 1
        node.state = state

    def settle(self, node: TaskNode, ready: list[TaskNode], skipped: list[TaskNode]) -> None:
        """Tell the dependents that `node` has ended for good.

        Those that can go now are appended to `ready`, those that never can to `skipped`; the caller moves
        them (and settles the skipped ones in turn).
        """
        completed = node.state is COMPLETED
        for dependent in node.dependents:
            dependent.waiting -= 1
            if dependent.state is not PENDING:
                continue
            run_if = dependent.spec.run_if
            if completed:
                if dependent.waiting == 0 or run_if is ANY_COMPLETED:
                    ready.append(dependent)
            elif run_if is ALL_COMPLETED:
                skipped.append(dependent)
            elif dependent.waiting == 0:
                # one that is new, or wanted again, may not have been looked at since a dependency completed
                (ready if self.verdict(dependent) is READY else skipped).append(dependent)

    def recount(self, node: TaskNode) -> TaskState:
        """Count anew what a pending task waits for; gives the state it should have."""
        node.waiting = sum(not dep.settled for dep in node.deps)
        return self.verdict(node)

    @staticmethod
    def verdict(node: TaskNode) -> TaskState:
        """Say what `run_if` makes of the dependencies as they are: pending, ready or skipped."""
        run_if = node.spec.run_if
        if run_if is ALL_COMPLETED:
            if any(dep.settled and dep.state is not COMPLETED for dep in node.deps):
                return SKIPPED
            return PENDING if node.waiting else READY
        if run_if is ANY_COMPLETED and node.deps:
            if any(dep.state is COMPLETED for dep in node.deps):
                return READY
            return PENDING if node.waiting else SKIPPED
        return PENDING if node.waiting else READY

    @property
    def active(self) -> int:
        """How many tasks have an attempt in the pool or beside the loop."""
        return self.counts[RUNNING] + self.counts[CANCELING]

    @property
    def unended(self) -> int:
        """How many tasks have not ended."""
        counts = self.counts
        return counts[PENDING] + counts[READY] + counts[AWAITING_APPROVAL] + self.active

    def ancestors(self, task: str) -> list[TaskNode]:
        """Give all direct and transitive dependencies of a task, in plan order."""
        seen: set[int] = set()
        found: list[TaskNode] = []
        stack = list(self[task].deps)
        while stack:
            node = stack.pop()
            if node.index not in seen:
                seen.add(node.index)
                found.append(node)
                stack.extend(node.deps)
        return sorted(found, key=lambda node: node.index)


def topological_order(dependencies: Mapping[str, Sequence[str]]) -> tuple[list[str], list[str] | None]:
    """Give the keys with dependencies first, and one cycle if there is any (`[a, b, a]`: a needs b needs a).

    Every dependency has to be a key. With a cycle the order lacks its members and what depends on them.
    Kahn's algorithm, O(V + E), without recursion.
    """
    missing = {name: len(deps) for name, deps in dependencies.items()}
    dependents: dict[str, list[str]] = {name: [] for name in dependencies}
    for name, deps in dependencies.items():
        for dep in deps:
            dependents[dep].append(name)
    order = [name for name, count in missing.items() if not count]
    for name in order:  # grows while it is read
        for dependent in dependents[name]:
            missing[dependent] -= 1
            if not missing[dependent]:
                order.append(dependent)
    if len(order) == len(dependencies):
        return order, None
    # every name that is left has a dependency that is left too: walking these must come round
    left = {name for name, count in missing.items() if count}
    name = next(iter(sorted(left)))
    seen: dict[str, int] = {}
    path: list[str] = []
    while name not in seen:
        seen[name] = len(path)
        path.append(name)
        name = next(dep for dep in dependencies[name] if dep in left)
    return order, [*path[seen[name] :], name]
