"""What a scheduler must remember to go on in another process, as JSON values; and going on from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from heapq import heappush
from typing import TYPE_CHECKING, Any, NamedTuple

from allready.core.graph import TaskNode, TaskSpec
from allready.core.states import READY, RUNNING, FailureStrategy, RunIf, RunState, TaskState
from allready.errors import ConcurrencyLimit, UserError

if TYPE_CHECKING:
    from allready.core.scheduler import DagScheduler

TASK_MEMORY: Mapping[str, Any] = {
    "retries": 0,
    "deferrals": 0,
    "not_before": None,
    "cancel_reason": None,
    "asking": False,
    "approved": False,
}
"""What else is kept of a task → what it is when there is nothing to keep."""
RUN_MEMORY: Mapping[str, Any] = {
    "error": None,
    "started_at": None,
    "finished_at": None,
    "consecutive_spawn_failures": 0,
    "ending": None,
    "pause_reason": None,
    "paused_at": None,
    "deadline": None,
}


class TaskRecord(NamedTuple):
    """Where a task stands, as recorded. `memory` has what `task_memory` gave."""

    id: str
    state: str
    attempts: int = 0
    handle: str | None = None
    agent: str | None = None
    started_at: float | None = None
    finished_at: float | None = None
    error: str | None = None
    memory: dict[str, Any] | None = None


def spec_to_json(spec: TaskSpec) -> dict[str, Any]:
    """Give a spec as JSON values, without what is at its default."""
    defaults = TaskSpec._field_defaults
    return {
        name: value
        for name, value in zip(TaskSpec._fields, spec, strict=True)
        if name not in defaults or value != defaults[name]
    }


def spec_from_json(data: dict[str, Any]) -> TaskSpec:
    """Give the spec that `spec_to_json` wrote down (also after a way through JSON)."""
    fields = dict(data)
    fields["depends_on"] = tuple(fields.get("depends_on", ()))
    fields["resources"] = tuple((name, amount) for name, amount in fields.get("resources", ()))
    if "run_if" in fields:
        fields["run_if"] = RunIf(fields["run_if"])
    if "failure_strategy" in fields:
        fields["failure_strategy"] = FailureStrategy(fields["failure_strategy"])
    return TaskSpec(**fields)


def task_memory(node: TaskNode) -> dict[str, Any]:
    """Give what else must be kept of a task: nothing, for most."""
    return {name: value for name, none in TASK_MEMORY.items() if (value := getattr(node, name)) != none}


def run_memory(scheduler: DagScheduler) -> dict[str, Any]:
    """Give what must be kept of the run itself."""
    memory = {name: value for name, none in RUN_MEMORY.items() if (value := getattr(scheduler, name)) != none}
    memory["open"] = scheduler.graph.open
    return memory


def task_record(node: TaskNode) -> TaskRecord:
    """Give where a task stands."""
    return TaskRecord(
        node.id,
        node.state.value,
        node.attempts,
        node.handle,
        node.agent,
        node.started_at,
        node.finished_at,
        node.error,
        task_memory(node),
    )


def restore(scheduler: DagScheduler, status: str, tasks: Iterable[TaskRecord], run: dict[str, Any]) -> None:
    """Bring a scheduler that has not ticked yet to the recorded state.

    It then decides as the recorded one would have. Call `recover()` next if that one's process has ended.
    The states are set as recorded, not moved through the table: these are no steps.
    """
    if scheduler.status is not RunState.CREATED:
        raise UserError("only a scheduler that has not begun can be restored")
    scheduler.status = RunState(status)
    for name in RUN_MEMORY:
        if name in run:
            setattr(scheduler, name, RunState(run[name]) if name == "ending" else run[name])
    scheduler.graph.open = run.get("open", scheduler.graph.open)
    graph = scheduler.graph
    for record in tasks:
        node = graph[record.id]
        graph.counts[node.state] -= 1
        node.state = TaskState(record.state)
        graph.counts[node.state] += 1
        node.attempts, node.handle, node.error = record.attempts, record.handle, record.error
        node.agent = record.agent if record.agent is not None else node.agent
        node.started_at, node.finished_at = record.started_at, record.finished_at
        for name, value in (record.memory or {}).items():
            setattr(node, name, value)
    for node in graph.nodes:
        node.waiting = sum(not dep.settled for dep in node.deps)
        _take_up(scheduler, node)


def _take_up(scheduler: DagScheduler, node: TaskNode) -> None:
    """Put a restored task where the scheduler looks for it."""
    if node.asking:
        scheduler.asking += 1
    if node.state is READY:
        if node.not_before is None:
            scheduler._ready.put(node)
        else:
            heappush(scheduler._delayed, (node.not_before, node.index, node))
    elif node.state is RUNNING and node.spec.timeout is not None:
        assert node.started_at is not None
        assert node.handle is not None
        scheduler._push_deadline(node.started_at + node.spec.timeout, node, node.handle)


def recall_refusals(scheduler: DagScheduler, inputs: Iterable[Sequence[Any]]) -> None:
    """Tell a restored scheduler what its pool refused lately: the reports in the last of its inputs.

    Reports of tasks that the graph lacks are left out, so that a part of a large graph will do.
    """
    ready, nodes = scheduler._ready, scheduler.graph
    for entry in inputs:
        kind, *rest = entry[1:] if entry[0] == "late" else entry
        if kind not in {"spawn", "refuse"} or rest[0] not in nodes:
            continue
        node = nodes[rest[0]]
        if kind == "spawn":
            ready.started(node)
        else:
            _, reason, scope, active, most, now = rest
            ready.refuse(node, ConcurrencyLimit(reason, scope, active, most), now)


def reported_tasks(inputs: Iterable[Sequence[Any]]) -> set[str]:
    """Give the tasks that `recall_refusals` wants to know of."""
    reports = (entry[1:] if entry[0] == "late" else entry for entry in inputs)
    return {report[1] for report in reports if report[0] in {"spawn", "refuse"}}
