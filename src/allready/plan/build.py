"""From plain values to a checked `Plan`.

A part that is wrong does not keep the others from being checked: ids, dependencies and templates are read
from the plain values, so a wrong number in a task does not hide a cycle that leads through it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from heapq import nsmallest
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from allready.plan.checks import describe_cycle, find_cycles
from allready.plan.document import Document
from allready.plan.models import (
    ID_REGEX,
    AgentSettings,
    LimitsFile,
    PlanHead,
    TaskFile,
    TaskSettings,
    shorten,
)
from allready.plan.plan import ANSWER, Limits, Plan
from allready.plan.problems import empty_values, findings, keys_at, model_keys
from allready.plan.report import Report
from allready.plan.tasks import make_task
from allready.plan.template import names_used
from allready.plan.template_checks import TemplateChecks, command_arguments
from allready.plan.variables import fill_variables

_RUN_ONLY = ("shell", "cwd", "env", "success_codes")
_HEAD_KEYS = model_keys(PlanHead) | {"tasks"}
_TASK_KEYS = model_keys(TaskFile)


def build_plan(
    document: Document,
    variables: Mapping[str, str],
    known_agents: Collection[str] | None,
    base_dir: Path | None,
    max_tasks: int,
) -> Plan:
    """Give the plan, or raise `PlanError` with everything that is wrong, in reading order."""
    report = Report(document)
    raw = _mapping(report)
    raw_tasks = _raw_tasks(raw, max_tasks, report)
    head = _head(raw, report)
    models = [_task_model(index, task, report) for index, task in enumerate(raw_tasks)]
    tasks = [task if isinstance(task, dict) else {} for task in raw_tasks]

    values = fill_variables(_part(raw, "vars"), variables, report)
    ids = _ids(tasks, report, answer=head.answer)
    for name in values.keys() & ids.keys():
        report.add(f"a variable and a task are both called {name!r}: rename one", ("vars", name), at_key=True)
    dependencies = _dependencies(tasks, ids, report)
    _check_agents(raw, tasks, known_agents, report)
    _check_demands(head, models, report)
    checks = TemplateChecks(report, _part(raw, "defaults"), values, ids, dependencies)
    commands = [checks.task(index, task) for index, task in enumerate(tasks)]
    cycles = find_cycles(dependencies)
    if cycles:
        _report_cycles(cycles, tasks, report)
    else:
        checks.check_order()
    report.raise_if_any()

    made = (
        make_task(model, head.defaults, commands[index])
        for index, model in enumerate(models)
        if model is not None  # none is, with nothing to report
    )
    return Plan(
        goal=head.goal,
        max_parallel=head.max_parallel,
        vars=values,
        agents=dict(_part(raw, "agents")),
        limits=Limits(**head.limits.model_dump()),
        resources=head.resources,
        timeout=head.timeout,
        answer=head.answer,
        tasks={task.id: task for task in made},
        base_dir=base_dir or Path.cwd(),
        source=document.file,
        document={**raw, "vars": values} if values else dict(raw),
    )


# --- the parts --------------------------------------------------------------------------------------------


def _part(raw: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Give the mapping under `key`; empty if there is none, or something else (reported elsewhere)."""
    value = raw.get(key)
    return value if isinstance(value, dict) else {}


def _mapping(report: Report) -> dict[str, Any]:
    value = report.document.value
    if value is None or value == {}:
        report.add("the plan is empty: it needs a list of tasks")
    elif not isinstance(value, dict):
        report.add(f"a plan must be a mapping with the key tasks, not {shorten(value)}")
    if report.problems:
        report.raise_if_any()
    return dict(value)


def _raw_tasks(raw: Mapping[str, Any], max_tasks: int, report: Report) -> list[Any]:
    tasks = raw.get("tasks")
    if "tasks" not in raw:
        report.add("the key tasks is missing")
    elif tasks is None or tasks == []:
        report.add("the plan has no tasks", ("tasks",), at_key=True)
    elif not isinstance(tasks, list):
        report.add(f"tasks must be a list, not {shorten(tasks)}", ("tasks",))
    elif len(tasks) > max_tasks:
        report.add(
            f"the plan has {len(tasks):,} tasks, more than the {max_tasks:,} allowed", ("tasks",), at_key=True
        )
    else:
        return tasks
    return []


def _head(raw: Mapping[str, Any], report: Report) -> PlanHead:
    """Give all but the tasks; what is wrong is reported and left out."""
    values = {key: value for key, value in raw.items() if key != "tasks"}
    _report_empty(values, PlanHead, (), report)
    _report_empty(values.get("defaults"), TaskSettings, ("defaults",), report)
    _report_empty(values.get("limits"), LimitsFile, ("limits",), report)
    for name, agent in _part(raw, "agents").items():
        _report_empty(agent, AgentSettings, ("agents", name), report)
    try:
        return PlanHead.model_validate(values)
    except ValidationError as error:
        wrong: set[str | int] = set()
        for finding in findings(error, values, _HEAD_KEYS, lambda path: keys_at(PlanHead, path)):
            report.add(finding.message, finding.path, at_key=finding.at_key)
            wrong.add(finding.path[0])
    return PlanHead.model_validate({key: value for key, value in values.items() if key not in wrong})


def _task_model(index: int, task: Any, report: Report) -> TaskFile | None:
    path = ("tasks", index)
    if not isinstance(task, dict):
        report.add(f"a task must be a mapping with id and run or prompt, not {shorten(task)}", path)
        return None
    _check_body(task, path, report)
    _report_empty(task, TaskFile, path, report)
    try:
        return TaskFile.model_validate(task)
    except ValidationError as error:
        for finding in findings(error, task, _TASK_KEYS):
            report.add(finding.message, (*path, *finding.path), at_key=finding.at_key)
    return None


def _report_empty(value: Any, model: type[BaseModel], path: tuple[str | int, ...], report: Report) -> None:
    for finding in empty_values(value, model_keys(model)) if isinstance(value, dict) else ():
        report.add(finding.message, (*path, *finding.path))


def _check_body(task: Mapping[str, Any], path: tuple[str, int], report: Report) -> None:
    """Check which of the keys of a task go together."""
    runs, prompts = "run" in task, "prompt" in task
    if runs and prompts:
        report.add("a task has run or prompt, not both: remove one", (*path, "prompt"), at_key=True)
    elif runs and "agent" in task:
        report.add(
            "agent goes with prompt; a command (run) has no agent: remove one", (*path, "agent"), at_key=True
        )
    elif not runs and not prompts and "agent" not in task:
        report.add("a task needs run (a command) or prompt (something to ask of an agent)", path)
    elif not runs:
        for key in _RUN_ONLY:
            if key in task:
                report.add(
                    f"{key} is for commands (run), and this task is for an agent: remove it",
                    (*path, key),
                    at_key=True,
                )


def _ids(tasks: list[dict[str, Any]], report: Report, *, answer: bool) -> dict[str, int]:
    """Give id → index of the task; ids that are not valid are left out, doubled ones reported."""
    ids: dict[str, int] = {}
    for index, task in enumerate(tasks):
        name = task.get("id")
        if not isinstance(name, str) or not ID_REGEX.fullmatch(name):
            continue
        if name in ids:
            positions = report.document.positions
            where = f" in line {positions.of_value(('tasks', ids[name], 'id')).line}" if positions else ""
            report.add(
                f"the id {name!r} is already used by the task{where}: rename one", ("tasks", index, "id")
            )
        else:
            ids[name] = index
    if ANSWER in ids and answer:
        report.add(
            f"the id {ANSWER!r} belongs to the task that answers the goal (answer: true): rename this one",
            ("tasks", ids[ANSWER], "id"),
        )
    return ids


def _dependencies(tasks: list[dict[str, Any]], ids: Mapping[str, int], report: Report) -> list[list[int]]:
    """Give for each task the indexes of its dependencies; those that don't exist are reported."""
    result: list[list[int]] = []
    for index, task in enumerate(tasks):
        needed: dict[int, None] = {}
        listed = task.get("depends_on")
        for place, name in enumerate(listed if isinstance(listed, list) else ()):
            if not isinstance(name, str):
                continue
            path = ("tasks", index, "depends_on", place)
            if name == task.get("id"):
                report.add(f"the task {name!r} depends on itself", path)
            elif name not in ids:
                report.add(
                    f"depends_on names the task {name!r}, which does not exist{report.similar(name, ids)}",
                    path,
                )
            else:
                needed[ids[name]] = None
        result.append(list(needed))
    return result


def _report_cycles(cycles: list[list[int]], tasks: list[dict[str, Any]], report: Report) -> None:
    for cycle in cycles:
        names = [tasks[index]["id"] for index in cycle]
        first, following = tasks[cycle[0]], names[1 % len(names)]
        place = first["depends_on"].index(following)
        message = f"tasks depend on each other in a cycle: {describe_cycle(names)}"
        report.add(message, ("tasks", cycle[0], "depends_on", place))


# --- agents and resources ---------------------------------------------------------------------------------


def _check_agents(
    raw: Mapping[str, Any], tasks: list[dict[str, Any]], known_agents: Collection[str] | None, report: Report
) -> None:
    own = _part(raw, "agents")
    for name, agent in own.items():
        if isinstance(agent, dict) and "run" in agent:
            _check_agent_command(agent, ("agents", name, "run"), report)
    if known_agents is None:
        return
    known = {*known_agents, *own}
    some = ", ".join(nsmallest(10, known))
    places: list[tuple[Any, tuple[str | int, ...]]] = [
        (task.get("agent"), ("tasks", index, "agent")) for index, task in enumerate(tasks)
    ]
    for name, path in [(_part(raw, "defaults").get("agent"), ("defaults", "agent")), *places]:
        if isinstance(name, str) and name not in known:
            hint = report.similar(name, known)
            if not hint and known:
                hint = f"; there are {some}"
            if not known:
                hint = ": define it in .allready/agents/, or here under agents"
            report.add(f"unknown agent {name!r}{hint}", path)


def _check_agent_command(agent: Mapping[str, Any], path: tuple[str, str, str], report: Report) -> None:
    for place, text in command_arguments(agent["run"], agent.get("shell") is True, path, report):
        try:
            names_used(text)
        except ValueError as error:
            report.add(f"the template is not valid: {error}", place)


def _check_demands(head: PlanHead, models: list[TaskFile | None], report: Report) -> None:
    """Report what asks for more of a resource than the plan has of it."""
    if not head.resources:
        return

    def check(settings: TaskSettings, path: tuple[str | int, ...]) -> None:
        for name, units in (settings.resources or {}).items():
            there = head.resources.get(name, units)
            if units > there:
                report.add(
                    f"needs {units} of the resource {name!r}, and the plan has {there}",
                    (*path, "resources", name),
                )

    check(head.defaults, ("defaults",))
    for index, model in enumerate(models):
        if model is not None:
            check(model, ("tasks", index))
    for name, agent in head.agents.items():
        check(TaskSettings(resources=agent.resources), ("agents", name))
