"""A plan made in Python, written down so that another process can make it again."""

from __future__ import annotations

import importlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from allready.core.states import FailureStrategy, RunIf
from allready.errors import PlanError, Problem
from allready.plan.plan import Function, Limits, Plan, Task

TASK_FIELDS = (
    "id",
    "title",
    "depends_on",
    "run_if",
    "failure_strategy",
    "max_retries",
    "timeout",
    "priority",
    "estimate",
    "resources",
    "approval",
    "idempotent",
    "inline",
)


def write_recipe(plan: Plan) -> dict[str, Any]:
    """Give a linked plan of functions as JSON values. The arguments must be JSON values already."""
    tasks = []
    for task in plan.tasks.values():
        assert isinstance(task.body, Function)
        entry = {name: getattr(task, name) for name in TASK_FIELDS}
        entry["depends_on"] = list(task.depends_on)
        entry["resources"] = dict(task.resources)
        entry["call"] = {
            "function": task.body.reference,
            "args": list(task.body.args),
            "kwargs": dict(task.body.kwargs),
            "inputs": list(task.body.inputs),
            "isolate": task.body.isolate,
        }
        tasks.append(entry)
    return {
        "python": True,
        "goal": plan.goal,
        "max_parallel": plan.max_parallel,
        "limits": asdict(plan.limits),
        "resources": plan.resources,
        "timeout": plan.timeout,
        "tasks": tasks,
    }


def read_recipe(recipe: dict[str, Any], base_dir: Path, source: str | None = None) -> Plan:
    """Make the plan again. Raises `PlanError` that names every function that can't be imported."""
    plan = Plan(
        recipe["goal"],
        max_parallel=recipe["max_parallel"],
        limits=Limits(**recipe["limits"]),
        resources=dict(recipe["resources"]),
        timeout=recipe["timeout"],
        base_dir=base_dir,
        source=source,
    )
    problems: list[Problem] = []
    for entry in recipe["tasks"]:
        fields = {name: entry[name] for name in TASK_FIELDS}
        fields["run_if"] = RunIf(fields["run_if"])
        fields["failure_strategy"] = FailureStrategy(fields["failure_strategy"])
        fields["depends_on"] = tuple(fields["depends_on"])
        call = entry["call"]
        try:
            function = import_object(call["function"])
        except (ImportError, AttributeError, ValueError) as error:
            problems.append(
                Problem(
                    f"task {entry['id']!r}: function {call['function']} can't be imported ({error}); "
                    "start in the same directory, or go on from the program that made the plan "
                    "with run(plan, store=…, resume=RUN)"
                )
            )
            continue
        body = Function(function, tuple(call["args"]), call["kwargs"], tuple(call["inputs"]), call["isolate"])
        plan.tasks[entry["id"]] = Task(body=body, **fields)
    if problems:
        raise PlanError(problems)
    return plan


def import_object(reference: str) -> Any:
    """Give what `package.module:qualified.name` stands for.

    Raises `ValueError` if it is not of that form (or names something local to a function), `ImportError` or
    `AttributeError` if it is not there.
    """
    module, colon, name = reference.partition(":")
    if not colon or not module or not name or "<" in name:
        raise ValueError(f"{reference!r} is not of the form package.module:name")
    if module == "__main__":
        raise ImportError("it was defined in the program that was started, not in a module")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    # a decorator of another library may stand where the function was: what was recorded is what it wraps
    return found
