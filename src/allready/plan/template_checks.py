"""What templates name: only what is there when they are filled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from allready.plan.checks import not_before
from allready.plan.commands import has_template
from allready.plan.positions import Path
from allready.plan.report import Report
from allready.plan.template import (
    BUILT_INS,
    RUN_FIELDS,
    TASK_FIELDS,
    TemplateNames,
    check_shell_template,
    names_used,
    split_command,
)

NO_ARGUMENTS: tuple[str, ...] = ()


class TemplateChecks:
    """Goes through the templates of a plan's tasks; needs only that what it reads is of the right type."""

    def __init__(
        self,
        report: Report,
        defaults: Mapping[str, Any],
        variables: Mapping[str, Any],
        ids: Mapping[str, int],
        dependencies: Sequence[Sequence[int]],
    ) -> None:
        self.report = report
        self.defaults = defaults
        self.variables = variables
        self.ids = ids
        self.dependencies = dependencies
        self._later: dict[tuple[int, int], list[Path]] = {}
        self._without_value: set[str] = set()
        self._needed: tuple[int, frozenset[int]] = (-1, frozenset())
        self._by_beginning: dict[str, str] | None = None

    def task(self, index: int, task: Mapping[str, Any]) -> tuple[str, ...]:
        """Check all templates of a task, and give the arguments of its command."""
        path = ("tasks", index)
        prompt = task.get("prompt")
        if isinstance(prompt, str):
            self._template(prompt, (*path, "prompt"), index)
        if "run" not in task:
            return NO_ARGUMENTS
        shell = task.get("shell", self.defaults.get("shell")) is True
        arguments = command_arguments(task["run"], shell, (*path, "run"), self.report)
        for place, text in arguments:
            self._template(text, place, index, shell=shell)
        for source, source_path in ((task, path), (self.defaults, ("defaults",))):
            for place, text in _settings_with_templates(source):
                self._template(text, (*source_path, *place), index)
        return tuple(text for _, text in arguments)

    def check_order(self) -> None:
        """Report the templates that name tasks which are no dependencies; for graphs without cycles."""
        names = list(self.ids)
        by_index = {index: name for name, index in self.ids.items()}
        for task, other in not_before(self.dependencies, self._later):
            for path in self._later[task, other]:
                name = by_index.get(other, names[0])
                self.report.add(
                    f"the template names the task {name!r}, which is not a dependency: add it to depends_on",
                    path,
                )

    def _template(self, text: str, path: Path, index: int, *, shell: bool = False) -> None:
        if not has_template(text):
            return
        try:
            used = names_used(text)
            if shell:
                check_shell_template(text)
        except ValueError as error:
            self.report.add(f"the template is not valid: {error}", path)
            return
        for name in sorted(used.names):
            if name in BUILT_INS:
                continue
            if name in self.variables:
                self._variable(name)
            elif name in self.ids:
                self._task_named(name, path, index)
            else:
                self.report.add(f"the template names {name!r}, {self._unknown(name)}", path)
        for name in sorted(used.tasks):
            if name in self.ids:
                self._task_named(name, path, index)
            else:
                hint = self.report.similar(name, self.ids)
                self.report.add(f"the template names the task {name!r}, which does not exist{hint}", path)
        self._fields(used, path)

    def _unknown(self, name: str) -> str:
        hint = self.report.similar(name, self.variables, self.ids, BUILT_INS)
        if self._by_beginning is None:
            others = [task for task in self.ids if not task.isidentifier()]
            self._by_beginning = {task.replace(".", "-").split("-")[0]: task for task in reversed(others)}
        if name in self._by_beginning:
            hint = f'; for a task write tasks["{self._by_beginning[name]}"]'
        return f"which is neither a variable nor a task{hint}"

    def _variable(self, name: str) -> None:
        if self.variables[name] is None and name not in self._without_value:
            self._without_value.add(name)
            message = f"the variable {name!r} has no value: give it one here, or with --set {name}=…"
            self.report.add(message, ("vars", name), at_key=True)

    def _task_named(self, name: str, path: Path, index: int) -> None:
        other = self.ids[name]
        if other == index:
            self.report.add("the template names its own task, which has no output yet", path)
        elif other not in self._needed_by(index):
            self._later.setdefault((index, other), []).append(path)

    def _needed_by(self, index: int) -> frozenset[int]:
        if self._needed[0] != index:
            self._needed = (index, frozenset(self.dependencies[index]))
        return self._needed[1]

    def _fields(self, used: TemplateNames, path: Path) -> None:
        for owner, field in sorted(used.fields):
            if owner == "run" and owner in used.names:
                known = RUN_FIELDS
            elif owner in self.ids and owner not in self.variables:
                known = TASK_FIELDS
            else:
                continue
            if field not in known:
                hint = self.report.similar(field, known) or f"; there are {', '.join(sorted(known))}"
                self.report.add(
                    f"the template asks {owner!r} for {field!r}, which it does not have{hint}", path
                )


def _settings_with_templates(source: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    cwd, env = source.get("cwd"), source.get("env")
    if isinstance(cwd, str):
        yield ("cwd",), cwd
    if isinstance(env, dict):
        for name, value in env.items():
            if isinstance(value, str):
                yield ("env", name), value


def command_arguments(run: Any, shell: bool, path: Path, report: Report) -> list[tuple[Path, str]]:
    """Give the arguments of a command with their places; reports what can't be split or is empty."""
    if isinstance(run, str):
        if shell:
            return [(path, run)]
        try:
            arguments = split_command(run)
        except ValueError as error:
            report.add(f"run can't be split into arguments: {error}", path)
            return []
        placed: list[tuple[Path, str]] = [(path, argument) for argument in arguments]
    elif isinstance(run, list):
        if shell:
            report.add("with shell: true, run must be one text, not a list", path)
            return []
        placed = [((*path, place), _text(argument)) for place, argument in enumerate(run)]
    else:
        return []
    if run and not (placed and placed[0][1].strip()):  # nothing at all is the model's affair
        report.add("run names no program", path)
    return placed


def _text(argument: Any) -> str:
    return str(argument).lower() if isinstance(argument, bool) else str(argument)
