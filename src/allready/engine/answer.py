"""The answer to a run's goal: what it is made of, and what it is if no model has given one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from allready.agents.base import Dependency, TaskResult
from allready.core.graph import TaskGraph, TaskNode
from allready.core.states import CANCELED, COMPLETED, FAILED, SKIPPED, RunState
from allready.plan.plan import ANSWER, Plan


def sources(graph: TaskGraph) -> list[TaskNode]:
    """Give the completed tasks whose output no other completed task has taken up, in their order."""
    return [
        node
        for node in graph
        if node.state is COMPLETED
        and node.id != ANSWER
        and not any(other.state is COMPLETED and other.id != ANSWER for other in node.dependents)
    ]


def missing(graph: TaskGraph, plan: Plan) -> list[Dependency]:
    """Give the tasks that gave nothing: failed, skipped or canceled, in their order."""
    gone = {FAILED, SKIPPED, CANCELED}
    return [as_dependency(node, plan) for node in graph if node.state in gone and node.id != ANSWER]


def as_dependency(
    node: TaskNode, plan: Plan, result: TaskResult | None = None, *, direct: bool = True
) -> Dependency:
    """Give a task as its dependents, and the aggregator, see it."""
    return Dependency(
        id=node.id,
        status=node.state.value,
        title=plan.tasks[node.id].title,
        result=result,
        error=node.error,
        direct=direct,
        duration=node.duration,
    )


def answer_of(
    plan: Plan,
    graph: TaskGraph,
    status: RunState,
    read: Callable[[Collection[str]], Mapping[str, Any]],
    redact: Callable[[str], str],
) -> str | None:
    """Give the answer of a run that has ended; None if it has none.

    That is what the task `answer` gave, or, if it could not, a composition of what is there. `read` gives
    what completed tasks gave, as `TaskResult`; `redact` blanks the secrets of what is composed.
    """
    if not plan.answer or status not in {RunState.COMPLETED, RunState.FAILED}:
        return None
    if ANSWER in graph and graph[ANSWER].state is COMPLETED:
        found: TaskResult = read([ANSWER])[ANSWER]
        return found.output
    nodes = sources(graph)
    results = read([node.id for node in nodes])
    outputs = [as_dependency(node, plan, results[node.id]) for node in nodes]
    if not outputs:
        return None  # how the run ended says all there is
    from allready.planning.aggregator import compose

    note = graph[ANSWER].error if ANSWER in graph and graph[ANSWER].state is FAILED else None
    text = compose(plan.goal, outputs, missing(graph, plan), note=note)
    return redact(text)  # goal and titles are the plan's own
