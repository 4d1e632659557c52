"""The Jinja2 environment of templates. Importing this imports Jinja2."""

from __future__ import annotations

import functools
import json
import re
import shlex
from collections.abc import Callable
from typing import Any

from jinja2 import StrictUndefined
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import MAX_RANGE, ImmutableSandboxedEnvironment

from allready.plan.template import GLOBALS, MAX_RENDERED

MAX_BITS = 4096
"""Of a number that an expression may make."""
_WIDE = re.compile(r"%[^%a-zA-Z]*([0-9]{4,}|\*)")
_WIDENING = frozenset({"center", "expandtabs", "format", "format_map", "ljust", "rjust", "zfill"})
"""Methods of text that can make it as long as one likes; for `format` there is the filter."""
_NEVER = "\0#"
"""Stands for comments; no template can hold it."""


class Raw(str):
    """Text that is not to be quoted for the shell."""

    __slots__ = ()


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"*", "**", "%", "+"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        _check_operands(operator, left, right)
        return super().call_binop(context, operator, left, right)

    def wrap_str_format(self, value: Any) -> None:
        """Leave `str.format` to `is_safe_attribute`, which refuses it."""

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, str) and attr in _WIDENING:
            return False
        return super().is_safe_attribute(obj, attr, value)


def _check_operands(operator: str, left: Any, right: Any) -> None:
    """Refuse what would make something huge."""
    if isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length() * abs(right) if operator == "**" else left.bit_length() + right.bit_length()
        if bits > MAX_BITS:
            raise SecurityError("the number would be too large")
    elif operator == "%" and isinstance(left, str):
        _check_format(left)
    else:
        size = 0
        if operator == "*":
            size = _size(left) * _size(right)
        elif operator == "+" and hasattr(left, "__len__"):
            size = _size(left) + _size(right)
        if size > MAX_RENDERED:
            raise SecurityError(f"the result would be longer than {MAX_RENDERED:,}")


def _size(value: Any) -> int:
    """Give how often a number repeats something, or how long something is."""
    if isinstance(value, int):
        return value
    return len(value) if hasattr(value, "__len__") else 0


def _check_format(text: str) -> None:
    if _WIDE.search(text):
        raise SecurityError("a width in a format must be a number below 1,000")


def _bounded(call: Callable[..., Any]) -> Callable[..., Any]:
    """Refuse large numbers as settings of a filter (`center(10**9)`)."""
    settings_from = 2 if hasattr(call, "jinja_pass_arg") else 1

    @functools.wraps(call)
    def bounded(*args: Any, **kwargs: Any) -> Any:
        for value in (*args[settings_from:], *kwargs.values()):
            if isinstance(value, int) and abs(value) > MAX_RANGE:
                raise SecurityError(f"numbers given to a filter must be at most {MAX_RANGE:,}")
        return call(*args, **kwargs)

    return bounded


def _bounded_format(value: str, *args: Any, **kwargs: Any) -> str:
    """Fill a `%` format: `"%.1f"|format(x)`."""
    _check_format(value)
    return str(value) % (kwargs or args)


def _plain(value: Any) -> Any:
    """Write values as people expect them: JSON for lists and mappings, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=str)
    return value


def _quoted(value: Any) -> Any:
    return value if isinstance(value, Raw) else shlex.quote(str(_plain(value)))


@functools.cache
def environment(shell: bool) -> ImmutableSandboxedEnvironment:
    """Give the environment for prompts and arguments, or the one that quotes values for the shell."""
    made = _Environment(
        undefined=StrictUndefined,
        autoescape=False,
        keep_trailing_newline=True,
        comment_start_string=_NEVER,
        comment_end_string=_NEVER[::-1],
        finalize=_quoted if shell else _plain,
        cache_size=0,
    )
    made.globals = {name: made.globals[name] for name in GLOBALS}
    made.filters = {name: _bounded(call) for name, call in made.filters.items()}
    made.filters["format"] = _bounded_format
    made.filters["raw"] = lambda value: Raw(str(_plain(value)))
    return made
