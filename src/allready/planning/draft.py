"""`DraftTask`: a task as a planner writes it, and how drafts become a plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from allready.agents.definitions import AgentDefinition
from allready.plan.plan import Limits, Plan
from allready.plan.template import literal

DEFAULTS = {"failure_strategy": "skip", "max_retries": 1}
"""For all tasks of a written plan: what fails costs its own branch only; the answer says what is missing."""


@dataclass(frozen=True, slots=True)
class DraftTask:
    """Something to ask of an agent."""

    id: str
    title: str
    """A few words for people; may be empty."""
    prompt: str
    """Plain text: `{{` and `{%` in it mean nothing."""
    agent: str | None
    """Who does it; None: the router chooses."""
    depends_on: tuple[str, ...]


def task_entry(task: DraftTask) -> dict[str, Any]:
    """Give the entry under `tasks` in a plan file. Its prompt is a template that gives the draft's text."""
    entry: dict[str, Any] = {"id": task.id}
    if task.title:
        entry["title"] = task.title
    if task.agent is not None:
        entry["agent"] = task.agent
    if task.depends_on:
        entry["depends_on"] = list(task.depends_on)
    return {**entry, "prompt": literal(task.prompt)}


def plan_document(
    goal: str,
    tasks: Sequence[DraftTask],
    *,
    limits: Limits | None = None,
    max_parallel: int | None = None,
    resources: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Give what a plan file with these tasks holds: it ends with an answer to the goal.

    `resources` are those of the pool; `needed_resources` gives the fewest that agents can work with.
    """
    document: dict[str, Any] = {"goal": goal, "answer": True}
    if max_parallel is not None:
        document["max_parallel"] = max_parallel
    if resources:
        document["resources"] = dict(resources)
    set_limits = (limits or Limits()).given()
    if set_limits:
        document["limits"] = set_limits
    return {**document, "defaults": dict(DEFAULTS), "tasks": [task_entry(task) for task in tasks]}


def document_of(plan: Plan, tasks: Sequence[DraftTask]) -> dict[str, Any]:
    """Give the document of a plan that is being written, with the tasks that it has so far."""
    return plan_document(
        plan.goal, tasks, limits=plan.limits, max_parallel=plan.max_parallel, resources=plan.resources
    )


def needed_resources(agents: Iterable[AgentDefinition]) -> dict[str, int]:
    """Give, for each resource that agents need, as many units as the one with the largest demand."""
    needed: dict[str, int] = {}
    for agent in agents:
        for name, amount in agent.resources.items():
            needed[name] = max(amount, needed.get(name, 0))
    return needed
