"""A plan made in Python, written down so that another process can make it again."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from allready.agents.values import jsonable
from allready.core.states import FailureStrategy, RunIf
from allready.engine.results import adapter_of, annotations_of, revive
from allready.errors import PermanentError, PlanError, Problem
from allready.plan.imports import import_object, reference_of
from allready.plan.plan import Answer, Body, Command, Function, Limits, Plan, Prompt, Task

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


def is_recipe(stored: Mapping[str, Any]) -> bool:
    """Say whether a stored plan is a recipe, not the document of a plan file."""
    return stored.get("python") is True


def write_recipe(plan: Plan) -> dict[str, Any]:
    """Give a linked plan as JSON values.

    Raises `PlanError` for arguments that JSON can't carry, and for agent objects that no module holds.
    """
    problems: list[Problem] = []
    references: dict[int, str | None] = {}
    tasks = []
    for task in plan.tasks.values():
        if isinstance(task.body, Answer):  # made anew from `answer`
            continue
        entry = {name: getattr(task, name) for name in TASK_FIELDS}
        entry["depends_on"] = list(task.depends_on)
        entry["resources"] = dict(task.resources)
        try:
            entry["body"] = _write_body(task.body, references)
        except PermanentError as error:
            problems.append(Problem(f"task {task.id!r}: {error}", plan.source))
        tasks.append(entry)
    variables = {}
    try:
        variables = jsonable(plan.vars)
    except PermanentError as error:
        problems.append(Problem(f"in the plan's vars, {error}", plan.source))
    if problems:
        raise PlanError(problems)
    return {
        "python": True,
        "goal": plan.goal,
        "max_parallel": plan.max_parallel,
        "vars": variables,
        "agents": plan.agents,
        "limits": asdict(plan.limits),
        "resources": plan.resources,
        "timeout": plan.timeout,
        "answer": plan.answer,
        "tasks": tasks,
    }


def _write_body(body: Body, references: dict[int, str | None]) -> dict[str, Any]:
    """Give a body as JSON values. `references` are those of agent objects so far, by `id()`."""
    if isinstance(body, Function):
        try:
            args, kwargs = jsonable(list(body.args)), jsonable(dict(body.kwargs))
        except PermanentError as error:
            raise PermanentError(f"in its arguments, {error}") from error
        return {
            "function": body.reference,
            "args": args,
            "kwargs": kwargs,
            "inputs": jsonable(dict(body.inputs)),
            "isolate": body.isolate,
        }
    if isinstance(body, Command):
        return {"command": jsonable(asdict(body))}
    assert isinstance(body, Prompt)
    by = body.by if body.by is None or isinstance(body.by, str) else _reference(body.by, references)
    return {"prompt": {"text": body.text, "agent": body.agent, "by": by}}


def _reference(agent: object, references: dict[int, str | None]) -> str:
    """Give `module:name` by which another process finds an agent object. Raises `PermanentError`."""
    if id(agent) not in references:  # one agent often does many tasks
        references[id(agent)] = reference_of(agent)
    reference = references[id(agent)]
    if reference is None:
        name = getattr(agent, "name", None)
        raise PermanentError(
            f"no module holds the agent {name or type(agent).__name__}, so another process could not find it "
            "to resume the run: make it a variable of a module (not of the program that is started), or run "
            "without a store"
        )
    return reference


def read_recipe(recipe: Mapping[str, Any], base_dir: Path, source: str | None = None) -> Plan:
    """Make the plan again. Raises `PlanError` that names every function that can't be imported."""
    plan = Plan(
        recipe["goal"],
        max_parallel=recipe["max_parallel"],
        vars=dict(recipe["vars"]),
        agents=dict(recipe["agents"]),
        limits=Limits(**recipe["limits"]),
        resources=dict(recipe["resources"]),
        timeout=recipe["timeout"],
        answer=recipe.get("answer", False),
        base_dir=base_dir,
        source=source,
    )
    problems: list[Problem] = []
    for entry in recipe["tasks"]:
        fields = {name: entry[name] for name in TASK_FIELDS}
        fields["run_if"] = RunIf(fields["run_if"])
        fields["failure_strategy"] = FailureStrategy(fields["failure_strategy"])
        fields["depends_on"] = tuple(fields["depends_on"])
        try:
            body = _read_body(entry["body"])
        except Exception as error:  # a module may raise anything while it is imported
            reason = str(error) or type(error).__name__
            text = (
                f"task {entry['id']!r}: function {entry['body']['function']} can't be imported ({reason}); "
                "go on from the program that made the plan: run(plan, store=…, resume=RUN)"
            )
            problems.append(Problem(text, source))
        else:
            plan.tasks[entry["id"]] = Task(body=body, **fields)
    if problems:
        raise PlanError(problems)
    return plan


def _read_body(body: Mapping[str, Any]) -> Body:
    if "prompt" in body:
        return Prompt(**body["prompt"])
    if "command" in body:
        fields = dict(body["command"])
        fields["argv"] = tuple(fields["argv"])
        fields["success_codes"] = tuple(fields["success_codes"])
        return Command(**fields)
    function = import_object(body["function"])
    args, kwargs = _revive_arguments(function, body["args"], body["kwargs"])
    inputs = {
        parameter: tasks if isinstance(tasks, str) else tuple(tasks)
        for parameter, tasks in body["inputs"].items()
    }
    return Function(function, args, kwargs, inputs, body["isolate"])


def _revive_arguments(
    call: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Make arguments into the types that the function's annotations promise."""
    kinds = annotations_of(inspect.unwrap(call))
    try:
        bound = inspect.signature(call).bind_partial(*args, **kwargs)
    except (ValueError, TypeError):
        return tuple(args), dict(kwargs)
    for name, value in bound.arguments.items():
        kind = kinds.get(name)
        match bound.signature.parameters[name].kind:
            case inspect.Parameter.VAR_POSITIONAL:
                bound.arguments[name] = tuple(revive(item, adapter_of(kind)) for item in value)
            case inspect.Parameter.VAR_KEYWORD:
                bound.arguments[name] = {key: revive(item, adapter_of(kind)) for key, item in value.items()}
            case _:
                bound.arguments[name] = revive(value, adapter_of(kind))
    return bound.args, bound.kwargs
