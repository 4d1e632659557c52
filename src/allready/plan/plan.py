"""`Plan` and `Task`: what was asked, whether it came from a file, from Python or from the planner.

Standard library only, so that `import allready` stays quick; reading files (`plan.load`) and templates
(`plan.template`) bring their libraries with them when they are used.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar, overload

from allready.core.states import FailureStrategy, RunIf
from allready.errors import PlanError, Problem
from allready.plan.durations import parse_duration

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_TIMEOUT = 600.0
"""Seconds an attempt may take unless the task says otherwise."""
NO_TIMEOUT = 0.0
DEFAULT_SLOTS = 5
"""Places of a pool if neither the user nor the plan says how many."""


@dataclass(slots=True, frozen=True)
class Command:
    """A program to run. `argv` holds templates, one an argument; with `shell` a single one for `sh -c`."""

    argv: tuple[str, ...]
    shell: bool = False
    cwd: str | None = None
    """Template; relative to the plan's `base_dir`; None: `base_dir` itself."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Added to the environment; values are templates."""
    success_codes: tuple[int, ...] = (0,)


@dataclass(slots=True, frozen=True)
class Prompt:
    """Something to ask of an agent. `text` is a template."""

    text: str
    agent: str | None = None
    """None: the router chooses."""
    by: Any = None
    """An agent from Python that answers it: an `Agent` of pydantic-ai, or `package.module:name` of one."""


@dataclass(slots=True, frozen=True)
class Function:
    """A Python function: async ones run in the event loop, plain ones in a thread, or in a process."""

    call: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    """Parameter → the task whose result it gets, or several for the list of theirs."""
    isolate: bool = False

    @property
    def reference(self) -> str:
        """`module:qualified.name`, by which another process finds the function again."""
        call = inspect.unwrap(self.call)
        return f"{getattr(call, '__module__', '?')}:{getattr(call, '__qualname__', repr(call))}"


@dataclass(slots=True, frozen=True)
class Answer:
    """The answer to the plan's goal, put together from what its tasks gave."""


Body = Command | Prompt | Function | Answer

ANSWER = "answer"
"""Id of the task that a plan with `answer` ends with."""


@dataclass(slots=True)
class Task:
    """One node of a plan. Times in seconds."""

    id: str
    body: Body
    title: str | None = None
    depends_on: tuple[str, ...] = ()
    run_if: RunIf = RunIf.ALL_COMPLETED
    failure_strategy: FailureStrategy = FailureStrategy.ABORT
    max_retries: int | None = None
    timeout: float | None = None
    """None: as the agent says, else `DEFAULT_TIMEOUT`; `NO_TIMEOUT`: no limit."""
    priority: int = 0
    estimate: float | None = None
    resources: Mapping[str, int] = field(default_factory=dict)
    approval: bool = False
    idempotent: bool | None = None
    """None: as the agent says, else True."""
    inline: bool = False


@dataclass(slots=True, frozen=True)
class Limits:
    """What a run may use up in all; None: no limit."""

    max_tokens: int | None = None
    max_requests: int | None = None
    max_cost: float | None = None
    """In US dollars."""

    def __post_init__(self) -> None:
        for name, value in self.given().items():
            whole = name != "max_cost"
            if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or value <= 0:
                kind = "a whole number from 1" if whole else "a number of US dollars above 0"
                raise PlanError([Problem(f"{name} must be {kind}, not {value!r}")])

    def with_others(self, others: Limits) -> Limits:
        """Give these limits with `others` in their place, as far as those are set."""
        return replace(self, **others.given())

    def given(self) -> dict[str, Any]:
        """Give name → value of those that are set."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(slots=True)
class Plan:
    """A goal, tasks, and their settings. See `Plan.task` and `Plan.add` for making one in Python."""

    goal: str = ""
    max_parallel: int | None = None
    vars: dict[str, Any] = field(default_factory=dict)
    agents: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Agents that the plan itself defines: name → settings as in an agent file's front matter, with the
    instructions under `instructions`."""
    limits: Limits = field(default_factory=Limits)
    resources: dict[str, int] = field(default_factory=dict)
    """Named resources of the pool, and how many units there are."""
    timeout: float | None = None
    """Seconds for the whole run."""
    answer: bool = False
    """Whether the run ends with an answer to the goal: one more task, `answer`, made of what the others
    gave."""
    tasks: dict[str, Task] = field(default_factory=dict)
    base_dir: Path = field(default_factory=Path.cwd)
    """Where relative working directories start: the directory in which the run was started."""
    source: str | None = None
    """The file or `package.module:plan` it came from."""
    document: dict[str, Any] | None = None
    """The plan as plain JSON values, variables filled in: enough to load it again without the file.
    None for a plan made in Python."""

    @property
    def folder(self) -> Path:
        """Where its file is; `base_dir` for a plan that is from no file."""
        path = self.base_dir / (self.source or "")
        return path.parent if path.is_file() else self.base_dir

    def dependencies(self) -> dict[str, Sequence[str]]:
        """Give task id → ids of its direct dependencies."""
        return {task.id: task.depends_on for task in self.tasks.values()}

    @overload
    def task(self, call: F, /) -> F: ...

    @overload
    def task(self, /, **settings: Any) -> Callable[[F], F]: ...

    def task(self, call: Any = None, /, **settings: Any) -> Any:
        """Make a function a task of this plan: `@plan.task` or `@plan.task(timeout=60, …)`.

        Async functions run in the event loop, plain ones in a thread. Parameters named after tasks are its
        dependencies and get their results. `settings` are those of `add`. The function stays as it was.
        """
        if call is not None:
            self.add(call)
            return call

        def decorate(function: F) -> F:
            self.add(function, **settings)
            return function

        return decorate

    def add(
        self,
        call: Callable[..., Any],
        *,
        id: str | None = None,  # noqa: A002 - the key's name in plan files
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        inputs: Mapping[str, str | Sequence[str]] | None = None,
        depends_on: Sequence[str] = (),
        isolate: bool = False,
        **settings: Any,
    ) -> str:
        """Add a call of `call` as a task, and give its id (the function's name unless `id` says otherwise).

        `settings`: `title`, `run_if`, `failure_strategy`, `max_retries`, `timeout` (seconds, `"5m"` or None),
        `priority`, `estimate` (as `timeout`), `resources` (name → units), `approval`, `idempotent`, `inline`.
        `inputs` gives a parameter the result of a task of another name, or the list of the results of several
        (None in place of one that did not complete). `isolate` runs a plain function in a process of its own.
        Raises `PlanError` for what is not valid.
        """
        name = id if id is not None else getattr(call, "__name__", "")
        problems = check_settings(name, settings)
        if name in self.tasks:
            problems.append(f"task id {name!r} is used twice")
        problems += _check_call(name, call, args, kwargs, depends_on)
        problems += _check_inputs(name, inputs, kwargs)
        if problems:
            raise PlanError(Problem(text, self.source) for text in problems)
        wanted = {
            parameter: tasks if isinstance(tasks, str) else tuple(tasks)
            for parameter, tasks in (inputs or {}).items()
        }
        body = Function(call, tuple(args), dict(kwargs or {}), wanted, isolate)
        self.tasks[name] = Task(name, body, depends_on=tuple(depends_on), **convert_settings(settings))
        return name

    def ask(
        self,
        prompt: str,
        *,
        id: str,  # noqa: A002 - the key's name in plan files
        agent: Any = None,
        depends_on: Sequence[str] = (),
        **settings: Any,
    ) -> str:
        """Add something to ask of an agent as a task, and give its id.

        `prompt` is a template, as in plan files; what the dependencies gave is put after it. `agent` is the
        name of an agent, an `Agent` of pydantic-ai, or `package.module:name` of one; None: one is chosen.
        What it gives reaches functions that depend on the task as it is, typed outputs included. `settings`
        are those of `add`. Raises `PlanError` for what is not valid.
        """
        problems = check_settings(id, settings)
        if id in self.tasks:
            problems.append(f"task id {id!r} is used twice")
        problems += _check_depends_on(id, depends_on)
        problems += _check_prompt(id, prompt, agent)
        named = isinstance(agent, str) and ":" not in agent
        if problems:
            raise PlanError(Problem(text, self.source) for text in problems)
        body = Prompt(prompt, agent if named else None, None if named else agent)
        self.tasks[id] = Task(id, body, depends_on=tuple(depends_on), **convert_settings(settings))
        return id

    def link(self) -> None:
        """Make the parameters of functions that are named after tasks their dependencies.

        Called before a run, so that a function may name a task that is added later. Raises `PlanError` for a
        parameter that is neither given nor a task nor has a default.
        """
        problems: list[Problem] = []
        signatures: dict[int, inspect.Signature | None] = {}
        for task in self.tasks.values():
            if isinstance(task.body, Function):
                call = task.body.call
                if id(call) not in signatures:  # the same function is often called many times
                    signatures[id(call)] = _signature(call)
                told = _link(task, task.body, signatures[id(call)], self.tasks)
                problems += [Problem(text, self.source) for text in told]
        if problems:
            raise PlanError(problems)


ID_PATTERN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
"""What a task may be called."""

SETTINGS: Mapping[str, tuple[type, ...]] = {
    "title": (str,),
    "run_if": (str,),
    "failure_strategy": (str,),
    "max_retries": (int,),
    "timeout": (int, float, str, type(None)),
    "priority": (int,),
    "estimate": (int, float, str),
    "resources": (Mapping,),
    "approval": (bool,),
    "idempotent": (bool,),
    "inline": (bool,),
}


def _check_call(name: object, call: object, args: object, kwargs: object, depends_on: object) -> list[str]:
    """Give what is wrong with the call of a task."""
    problems = []
    if not callable(call):
        problems.append(f"task {name!r}: {call!r} is no function")
    elif inspect.isgeneratorfunction(call) or inspect.isasyncgenfunction(call):
        problems.append(f"task {name!r}: {call!r} is a generator: let it return a list instead")
    if isinstance(args, str | bytes) or not isinstance(args, Sequence):
        problems.append(f"task {name!r}: args is a list of arguments, not {args!r}")
    if kwargs is not None and not (
        isinstance(kwargs, Mapping) and all(isinstance(key, str) for key in kwargs)
    ):
        problems.append(f"task {name!r}: kwargs maps names to arguments, not {kwargs!r}")
    return problems + _check_depends_on(name, depends_on)


def _check_depends_on(name: object, depends_on: object) -> list[str]:
    if (
        isinstance(depends_on, str | bytes)
        or not isinstance(depends_on, Sequence)
        or not all(isinstance(dependency, str) for dependency in depends_on)
    ):
        return [f"task {name!r}: depends_on is a list of ids, not {depends_on!r}"]
    return []


def _check_prompt(name: object, prompt: object, agent: object) -> list[str]:
    problems = []
    if not isinstance(prompt, str) or not prompt.strip():
        problems.append(f"task {name!r}: prompt is what to ask, not {prompt!r}")
    if agent is not None and not isinstance(agent, str) and not hasattr(agent, "run_stream_events"):
        problems.append(f"task {name!r}: agent is a name or an Agent of pydantic-ai, not {agent!r}")
    return problems


def _check_inputs(name: object, inputs: object, kwargs: object) -> list[str]:
    """Give what is wrong with what the parameters of a task are to get from others."""
    if inputs is None:
        return []
    if not isinstance(inputs, Mapping):
        return [f"task {name!r}: inputs maps parameters to ids of tasks, not {inputs!r}"]
    problems = []
    for parameter, tasks in inputs.items():
        if not isinstance(tasks, str | Sequence) or not all(isinstance(task, str) for task in tasks):
            problems.append(
                f"task {name!r}: inputs: {parameter}: {tasks!r} is neither a task's id nor a list"
            )
        elif isinstance(kwargs, Mapping) and parameter in kwargs:
            problems.append(f"task {name!r}: {parameter!r} is in kwargs and in inputs: keep one")
    return problems


def check_settings(name: object, settings: Mapping[str, Any]) -> list[str]:
    """Give what is wrong with the id and the settings of a task made in Python."""
    problems = []
    if not isinstance(name, str) or not ID_PATTERN.fullmatch(name):
        nameless = name in {"", "<lambda>"}
        hint = "give it one with id=…" if nameless else f"it must match {ID_PATTERN.pattern}"
        problems.append(f"{name!r} is no task id: {hint}")
    for key, value in settings.items():
        if key not in SETTINGS:
            close = difflib.get_close_matches(key, SETTINGS, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            problems.append(f"task {name!r}: there is no setting {key!r}{hint}")
        elif not isinstance(value, SETTINGS[key]) or (isinstance(value, bool) and bool not in SETTINGS[key]):
            problems.append(f"task {name!r}: {key} can't be {value!r}")
        else:
            try:
                convert_settings({key: value})
            except (ValueError, TypeError) as error:
                problems.append(f"task {name!r}: {key}: {error}")
    return problems


def convert_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Give settings in the types of `Task`. Raises `ValueError` for what is out of range."""
    converted = dict(settings)
    for key, kind in (("run_if", RunIf), ("failure_strategy", FailureStrategy)):
        if key in converted:
            converted[key] = kind(converted[key])
    for key in ("timeout", "estimate"):
        if converted.get(key) is not None:
            converted[key] = parse_duration(converted[key])
    if "timeout" in converted:
        if converted["timeout"] == 0:
            raise ValueError("must be longer than 0 seconds, or None for no limit")
        converted["timeout"] = converted["timeout"] or NO_TIMEOUT
    if converted.get("max_retries", 0) < 0:
        raise ValueError("must not be negative")
    for name, amount in converted.get("resources", {}).items():
        if not isinstance(name, str) or isinstance(amount, bool) or not isinstance(amount, int) or amount < 1:
            raise ValueError(f"{name!r}: {amount!r} is no number of units (1 or more)")
    return converted


def _signature(call: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(call)
    except (ValueError, TypeError):  # some built-in functions tell nothing of their parameters
        return None


def _link(
    task: Task, body: Function, signature: inspect.Signature | None, tasks: Mapping[str, Task]
) -> list[str]:
    """Bind a function's parameters to tasks; gives what can't be bound."""
    inputs = dict(body.inputs)
    problems = []
    if signature is not None:
        try:
            given = signature.bind_partial(*body.args, **{**body.kwargs, **inputs}).arguments
        except TypeError as error:
            return [f"task {task.id!r}: {body.reference}: {error}"]
        for name, parameter in signature.parameters.items():
            if name in given or parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}:
                continue
            if name in tasks and name != task.id and parameter.kind is not parameter.POSITIONAL_ONLY:
                inputs[name] = name
            elif parameter.default is parameter.empty:
                where = f"task {task.id!r}: parameter {name!r} of {body.reference}"
                problems.append(f"{where} is neither given nor a task's id")
    if inputs != body.inputs:
        task.body = replace(body, inputs=inputs)
    task.depends_on = tuple(dict.fromkeys((*task.depends_on, *tasks_of(inputs))))
    return problems


def tasks_of(inputs: Mapping[str, str | tuple[str, ...]]) -> list[str]:
    """Give all tasks that `Function.inputs` names."""
    return [task for tasks in inputs.values() for task in ((tasks,) if isinstance(tasks, str) else tasks)]
