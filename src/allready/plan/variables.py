"""The variables of a plan: default values, and what `--set name=value` makes of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from allready.plan.report import Report
from allready.plan.template import BUILT_INS, GLOBALS


def fill_variables(declared: Mapping[str, Any], given: Mapping[str, str], report: Report) -> dict[str, Any]:
    """Give the variables with the values that were set; a set value takes the kind of its default value."""
    for name in declared:
        if name in BUILT_INS or name in GLOBALS:
            report.add(
                f"a variable can't be called {name!r}: templates use this name", ("vars", name), at_key=True
            )
    filled = dict(declared)
    for name, text in given.items():
        if name not in declared:
            hint = report.similar(name, declared)
            report.add_outside(f"--set {name}: the plan has no variable {name!r} under vars{hint}")
            continue
        try:
            filled[name] = _like(declared[name], text)
        except ValueError as error:
            report.add_outside(f"--set {name}: {name} must be {error}, not {text!r}")
    return filled


def _like(default: Any, text: str) -> Any:
    """Read `text` as the kind of value that `default` is."""
    if "\0" in text or not text.isprintable():
        text.encode("utf-8")
        if "\0" in text:
            raise ValueError("text without NUL characters")
    if isinstance(default, bool):
        return _read(_boolean, text, "true or false")
    if isinstance(default, int):
        return _read(int, text, "a whole number")
    if isinstance(default, float):
        return _read(_number, text, "a number")
    if isinstance(default, list | dict):
        kind = type(default)
        return _read(
            lambda value: _json(value, kind), text, f"a JSON {'array' if kind is list else 'object'}"
        )
    return text


def _read(read: Callable[[str], Any], text: str, wanted: str) -> Any:
    try:
        return read(text)
    except (ValueError, RecursionError):
        raise ValueError(wanted) from None


def _boolean(text: str) -> bool:
    return (
        {"true": True, "false": False}[text.lower()] if text.lower() in ("true", "false") else bool(_refuse())
    )


def _number(text: str) -> float:
    value = float(text)
    return value if abs(value) < float("inf") else float(_refuse())


def _json(text: str, kind: type) -> Any:
    value = json.loads(text, parse_constant=lambda _: _refuse())
    return value if isinstance(value, kind) else _refuse()


def _refuse() -> Any:
    raise ValueError
