"""The Jinja2 environment of templates. Importing this imports Jinja2."""

from __future__ import annotations

import functools
import json
import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import StrictUndefined, meta, nodes, pass_context, pass_environment
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import MAX_RANGE, ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from allready.plan.template import GLOBALS, MAX_RENDERED
from allready.plan.template_work import (
    ITEM,
    TEXT_METHODS,
    as_text,
    call_cost,
    charge,
    filter_cost,
    format_cost,
    joined,
    made,
    rounds,
    size_of,
    summed,
    weighed,
)

MAX_BITS = 4096
"""Of a number that an expression may make."""
_WIDE = re.compile(r"%[^%a-zA-Z]*([0-9]{4,}|\*)")
_NEVER = "\0#"
"""Stands for comments; no template can hold it."""
_ROUNDS, _JOINED, _WEIGHED, _MADE, _TEXT = (
    f"allready {what}" for what in ("rounds", "joined", "weighed", "made", "text")
)
"""Filters that no template can name."""
_CHARGED_TEXT = 64
"""Characters of text between templates that weigh more than the step itself."""


class Raw(str):
    """Text that is not to be quoted for the shell."""

    __slots__ = ()


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"*", "**", "%", "+"})

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        return super()._generate(_Counted(self).visit(source), *args, **kwargs)

    def call(self, context: Context, obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Call something from a template."""
        if isinstance(obj, LoopContext) and args:
            args = (rounds(args[0]), *args[1:])
        else:
            charge(call_cost(obj, args, kwargs))
        return made(super().call(context, obj, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        _check_operands(operator, left, right)
        return made(super().call_binop(context, operator, left, right))

    def getitem(self, obj: Any, argument: Any) -> Any:
        if not isinstance(argument, str | int):  # its hash goes through all that is in it
            weighed(argument)
        return super().getitem(obj, argument)

    def wrap_str_format(self, value: Any) -> None:
        """Leave `str.format` to `is_safe_attribute`, which refuses it."""

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, str) and attr not in TEXT_METHODS:
            return False
        if isinstance(obj, int) and attr in ("to_bytes", "from_bytes"):
            return False
        return super().is_safe_attribute(obj, attr, value)


class _Counted(NodeTransformer):
    """Puts what counts into a template: rounds of loops, and what is done without a call."""

    def __init__(self, environment: _Environment) -> None:
        self._environment = environment

    def _through(self, name: str, node: nodes.Node) -> nodes.Filter:
        passed = nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)
        passed.set_environment(self._environment)
        return passed

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - the names of nodes
        found = self.generic_visit(node)
        node.iter = self._through(_ROUNDS, node.iter)
        return found

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return self._through(_JOINED, nodes.List(node.nodes, lineno=node.lineno))

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.expr = self._through(_WEIGHED, node.expr)
        for operand in node.ops:
            operand.expr = self._through(_WEIGHED, operand.expr)
        return node

    def visit_Pair(self, node: nodes.Pair) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.key = self._through(_WEIGHED, node.key)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return self._through(_MADE, node) if isinstance(node.arg, nodes.Slice) else node

    def visit_Output(self, node: nodes.Output) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        size = sum(len(part.data) for part in node.nodes if isinstance(part, nodes.TemplateData))
        if size > _CHARGED_TEXT:
            node.nodes.insert(0, self._through(_TEXT, nodes.Const(size, lineno=node.lineno)))
        return node


class _Names(meta.TrackingCodeGenerator):
    """Finds names without working out constants, which takes the cube of how deep an expression is."""

    def __init__(self, environment: _Environment) -> None:
        super().__init__(environment)
        self.optimizer = None


def undeclared_names(tree: nodes.Template) -> set[str]:
    """Give the names that a parsed template takes from its scope."""
    found = _Names(tree.environment)  # type: ignore[arg-type]
    found.visit(tree)
    return found.undeclared_identifiers


def _check_operands(operator: str, left: Any, right: Any) -> None:
    """Refuse what would make something huge."""
    if isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length() * abs(right) if operator == "**" else left.bit_length() + right.bit_length()
        if bits > MAX_BITS:
            raise SecurityError("the number would be too large")
    elif operator == "%" and isinstance(left, str):
        _check_format(left)
        values = right if isinstance(right, tuple) else right.values() if isinstance(right, Mapping) else ()
        charge(format_cost(left, [right, *values]))
    else:
        size = 0
        if operator == "*":
            size = _size(left) * _size(right)
        elif operator == "+" and hasattr(left, "__len__"):
            size = _size(left) + _size(right)
        if size > MAX_RENDERED:
            raise SecurityError(f"the result would be longer than {MAX_RENDERED:,}")
        charge(max(size, 0) * (1 if isinstance(left, str) or isinstance(right, str) else ITEM))


def _size(value: Any) -> int:
    """Give how often a number repeats something, or how long something is."""
    if isinstance(value, int):
        return value
    return len(value) if hasattr(value, "__len__") else 0


def _check_format(text: str) -> None:
    if _WIDE.search(text):
        raise SecurityError("a width in a format must be a number below 1,000")


def _bounded(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """Count what a filter takes, and refuse large numbers as its settings (`center(10**9)`)."""
    value_at = 1 if hasattr(call, "jinja_pass_arg") else 0

    @functools.wraps(call)
    def bounded(*args: Any, **kwargs: Any) -> Any:
        for value in (*args[value_at + 1 :], *kwargs.values()):
            if isinstance(value, int) and abs(value) > MAX_RANGE:
                raise SecurityError(f"numbers given to a filter must be at most {MAX_RANGE:,}")
        if name == "join" and len(args) > value_at and not hasattr(args[value_at], "__len__"):
            args = (*args[:value_at], list(args[value_at]), *args[value_at + 1 :])
        charge(filter_cost(name, args[value_at:], kwargs))
        return made(call(*args, **kwargs))

    return bounded


def _weighing(test: Callable[..., Any]) -> Callable[..., Any]:
    """Count what a test compares: `x is eq y`."""

    @functools.wraps(test)
    def weighing(*args: Any, **kwargs: Any) -> Any:
        for value in (*args, *kwargs.values()):
            weighed(value)
        return test(*args, **kwargs)

    return weighing


def _bounded_format(value: str, *args: Any, **kwargs: Any) -> str:
    """Fill a `%` format: `"%.1f"|format(x)`."""
    value = as_text(value)
    _check_format(value)
    charge(format_cost(value, [*args, *kwargs.values()]))
    return str(made(value % (kwargs or args)))


def _plain(value: Any) -> Any:
    """Write values as people expect them: JSON for lists and mappings, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    charge(size_of(value))
    if isinstance(value, dict | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=str)
    return value


def _quoted(value: Any) -> Any:
    return value if isinstance(value, Raw) else shlex.quote(str(_plain(value)))


def _raw(value: Any) -> Raw:
    return Raw(str(_plain(value)))


@pass_context  # so that it is asked each time, and not once for what is always the same
def _text(_: Context, size: int) -> Raw:
    charge(size)
    return Raw()


@functools.cache
def environment(shell: bool) -> ImmutableSandboxedEnvironment:
    """Give the environment for prompts and arguments, or the one that quotes values for the shell."""
    write = _quoted if shell else _plain
    made_environment = _Environment(
        undefined=StrictUndefined,
        autoescape=False,
        keep_trailing_newline=True,
        comment_start_string=_NEVER,
        comment_end_string=_NEVER[::-1],
        finalize=pass_context(lambda _, value: write(value)),
        optimized=False,
        cache_size=0,
    )
    made_environment.globals = {name: made_environment.globals[name] for name in GLOBALS}
    filters = made_environment.filters
    filters["sum"] = pass_environment(summed)
    filters = {name: _bounded(name, call) for name, call in filters.items()}
    filters["format"] = _bounded_format
    filters["raw"] = _raw
    filters |= {_ROUNDS: rounds, _JOINED: joined, _WEIGHED: weighed, _MADE: made, _TEXT: _text}
    made_environment.filters = filters
    tests: dict[str, Any] = dict(made_environment.tests)
    made_environment.tests.update({name: _weighing(test) for name, test in tests.items()})
    return made_environment
