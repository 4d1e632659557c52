"""Templates in prompts and commands: Jinja2 in a sandbox, strict, without comment syntax.

The sandbox keeps templates away from Python's inside, and cheap ways to fill the memory are refused. It is no
wall against the author of a plan, who may run any command anyway.

Jinja2 is imported when the first text with a template in it turns up.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from allready.errors import PermanentError
from allready.plan.commands import has_template, is_raw, template_spans, unsafe_in_shell
from allready.plan.commands import split_command as split_command

if TYPE_CHECKING:
    import jinja2

MAX_RENDERED = 16 * 1024 * 1024
"""Characters that a template may become."""
MAX_CODE = 64 * 1024
"""Characters of a template within its `{{ … }}` and `{% … %}`: reading these takes the most time."""
LONGEST_REASON = 1_000
"""Characters of why a template can't be filled."""
CACHED_TEMPLATES = 1_000
"""Compiled templates that are kept."""

BUILT_INS = frozenset({"goal", "run", "tasks"})
"""Names that always stand for the same thing; variables can't have them."""
RUN_FIELDS = frozenset({"id", "folder", "plan_folder"})
_WAYS_THROUGH = frozenset({"items", "keys", "values"})
"""What may be called on `tasks` as a whole: `{% for id, task in tasks.items() %}`."""

_SIMPLE = re.compile(
    r"""\{\{\s*(?:tasks\[(?:"([^"\\\n]+)"|'([^'\\\n]+)')\]|([A-Za-z_][A-Za-z0-9_]*))(?:\.([a-z_]+))?\s*\}\}"""
)
_NOT_LITERAL = re.compile(r"\{[{%\r\0]|[\r\0]")
"""What Jinja2 would change: beginnings of templates, and line breaks, which it makes alike."""
_CONSTANTS = frozenset({"true", "false", "none", "True", "False", "None", "not"})
GLOBALS = frozenset({"range", "dict", "namespace", "cycler", "joiner"})
"""Jinja2's own functions that templates may use."""


class ResultLike(Protocol):
    """What a template may see of a result."""

    @property
    def output(self) -> str:
        """Text."""

    @property
    def data(self) -> Any:
        """Structured output."""

    @property
    def output_file(self) -> object | None:
        """Path of the whole output."""

    @property
    def exit_code(self) -> int | None:
        """Of a command."""


class DependencyLike(Protocol):
    """What a template may see of a dependency."""

    @property
    def id(self) -> str:
        """Of the task."""

    @property
    def status(self) -> str:
        """State of the task."""

    @property
    def title(self) -> str | None:
        """For people."""

    @property
    def error(self) -> str | None:
        """Why it failed."""

    @property
    def result(self) -> ResultLike | None:
        """What it gave, if it completed."""


@dataclass(frozen=True, slots=True)
class TaskView:
    """A dependency, as `{{ lint.output }}` sees it."""

    output: str
    output_file: str
    """Empty if there is none."""
    data: Any
    status: str
    exit_code: int | None
    error: str | None
    title: str | None


TASK_FIELDS = frozenset(TaskView.__dataclass_fields__)


class TemplateNames(NamedTuple):
    """What a template refers to."""

    names: frozenset[str]
    """Variables, tasks by their bare id, and built-ins."""
    tasks: frozenset[str]
    """Tasks by `tasks["id"]`."""
    fields: frozenset[tuple[str, str]]
    """(name or task, attribute that is asked of it)."""


def template_scope(
    *,
    goal: str,
    variables: Mapping[str, Any],
    dependencies: Mapping[str, DependencyLike],
    run_id: str,
    run_folder: object,
    plan_folder: object = "",
) -> dict[str, Any]:
    """Give the values that the templates of a task see. `dependencies` are the transitive ones, by id."""
    tasks = {name: _view(dependency) for name, dependency in dependencies.items()}
    run = {"id": run_id, "folder": str(run_folder), "plan_folder": str(plan_folder)}
    return {**tasks, **variables, "goal": goal, "tasks": tasks, "run": run}


def _view(dependency: DependencyLike) -> TaskView:
    result = dependency.result
    completed = result is not None and dependency.status == "completed"
    file = result.output_file if result else None
    return TaskView(
        output=result.output if result and completed else "",
        output_file="" if file is None else str(file),
        data=result.data if result else None,
        status=str(dependency.status),
        exit_code=result.exit_code if result else None,
        error=dependency.error,
        title=dependency.title,
    )


def literal(text: str) -> str:
    """Give a template that becomes `text`, whatever it holds."""
    if not has_template(text):
        return text
    return _NOT_LITERAL.sub(
        lambda found: '{{ "' + found[0].replace("\r", r"\r").replace("\0", r"\x00") + '" }}', text
    )


def names_used(text: str) -> TemplateNames:
    """Give what a template refers to, its own loop variables and such left out.

    Raises `ValueError` that says what is wrong with its syntax.
    """
    if not has_template(text):
        return TemplateNames(frozenset(), frozenset(), frozenset())
    _check_length(text)
    return _simple_names(text) or _parsed_names(text)


def _check_length(text: str) -> None:
    """Raise `ValueError` for templates that take too long to read."""
    if len(text) > MAX_CODE:
        length = sum(end - start for start, end in template_spans(text) if not is_raw(text, start))
        if length > MAX_CODE:
            raise ValueError(f"its expressions and statements are longer than {MAX_CODE:,} characters")


def _simple_names(text: str) -> TemplateNames | None:
    """Read the usual templates without Jinja2: a hundred times quicker."""
    names, tasks, fields = set(), set(), set()
    position = 0
    for found in _SIMPLE.finditer(text):
        if has_template(text[position : found.start()]):
            return None
        position = found.end()
        task, name, field = found[1] or found[2], found[3], found[4]
        if name in _CONSTANTS or name in GLOBALS:
            return None
        if task:
            tasks.add(task)
        else:
            names.add(name)
        if field and name == "tasks":
            if field not in _WAYS_THROUGH:
                tasks.add(field)
        elif field:
            fields.add((task or name, field))
    if has_template(text[position:]):
        return None
    return TemplateNames(frozenset(names), frozenset(tasks), frozenset(fields))


def _parsed_names(text: str) -> TemplateNames:
    from jinja2 import TemplateError, nodes

    from allready.plan.sandbox import environment, undeclared_names

    try:
        tree = environment(False).parse(text)
        names = undeclared_names(tree)
    except TemplateError as error:
        raise ValueError(_syntax_message(error)) from None
    except RecursionError:
        raise ValueError("the template is nested too deep") from None
    except ValueError:  # Python reads no number of that length
        raise ValueError("a number in it is too long") from None
    if next(tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)), None):
        raise ValueError("include, import and extends are not possible: there are no other templates")
    tasks: set[str] = set()
    fields: set[tuple[str, str]] = set()
    for owner, attribute in _attributes(tree):
        if isinstance(owner, nodes.Name) and owner.name in names:
            if owner.name == "tasks":
                if attribute not in _WAYS_THROUGH:
                    tasks.add(attribute)
            else:
                fields.add((owner.name, attribute))
        else:
            inner = _attribute(owner)
            if inner and isinstance(inner[0], nodes.Name) and inner[0].name == "tasks" and "tasks" in names:
                fields.add((inner[1], attribute))
    return TemplateNames(frozenset(names), frozenset(tasks), frozenset(fields))


def _attributes(tree: jinja2.nodes.Template) -> Iterator[tuple[jinja2.nodes.Node, str]]:
    from jinja2 import nodes

    for node in tree.find_all((nodes.Getattr, nodes.Getitem)):
        found = _attribute(node)
        if found:
            yield found


def _attribute(node: jinja2.nodes.Node) -> tuple[jinja2.nodes.Node, str] | None:
    """Take `x.name` and `x["name"]` apart."""
    from jinja2 import nodes

    if isinstance(node, nodes.Getattr):
        return node.node, node.attr
    if (
        isinstance(node, nodes.Getitem)
        and isinstance(node.arg, nodes.Const)
        and isinstance(node.arg.value, str)
    ):
        return node.node, node.arg.value
    return None


def _syntax_message(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(".")


def has_statements(text: str) -> bool:
    """Say whether a template has statements: with loops in it, filling it may take any time."""
    return "{%" in text


def check_shell_template(text: str) -> None:
    """Raise `ValueError` if a value in this shell command would stand where its quotes don't protect."""
    unsafe = unsafe_in_shell(text)
    if unsafe:
        raise ValueError(
            f"{unsafe} stands inside quotes, backticks, a comment or a here-document of a shell command: "
            "values are quoted by themselves, so take the quotes around it away (or, if you trust it, "
            "write `| raw` at its end)"
        )


def render(text: str, scope: Mapping[str, Any], *, shell: bool = False) -> str:
    """Fill a template. With `shell`, every value is quoted for `sh`, unless it goes through the filter `raw`.

    Raises `PermanentError` if it can't be filled: trying again would not help.
    """
    if not has_template(text):
        return text
    from jinja2 import TemplateError

    from allready.plan.template_work import limited_work

    try:
        _check_length(text)
        if shell:
            check_shell_template(text)
        with limited_work():
            return _joined(_compiled(text, shell).generate(dict(scope)))
    except PermanentError:
        raise
    except TemplateError as error:
        reason = _syntax_message(error)
    except RecursionError:
        reason = "it goes into itself too often"
    except MemoryError:
        reason = "it takes too much memory"
    except Exception as error:  # whatever an expression in a template can raise
        reason = f"{type(error).__name__}: {error}"
    raise PermanentError(f"the template {_beginning(text)} can't be filled: {reason[:LONGEST_REASON]}")


def _beginning(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:77]}…")


def _joined(pieces: Iterator[str]) -> str:
    kept: list[str] = []
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > MAX_RENDERED:
            raise PermanentError(f"the template becomes longer than {MAX_RENDERED:,} characters")
        kept.append(piece)
    text = "".join(kept)
    if "\0" in text:
        raise PermanentError("the template becomes text with a NUL character in it")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PermanentError("the template becomes text with half a character in it") from None
    return text


@functools.lru_cache(CACHED_TEMPLATES)
def _compiled(text: str, shell: bool) -> jinja2.Template:
    from allready.plan.sandbox import environment

    return environment(shell).from_string(text)
