"""The variables of a plan: default values, and what `--set name=value` makes of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from allready.errors import PlanError
from allready.plan.document import Document, bad_text, check_plain
from allready.plan.json_positions import parse_json
from allready.plan.report import Report
from allready.plan.template import BUILT_INS, GLOBALS
from allready.plan.yaml_positions import MAX_DIGITS, clipped, short


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
            missing = f"the plan has no variable {short(name)} under vars{report.similar(name, declared)}"
            report.add_outside(f"--set {clipped(name)}: {missing}")
            continue
        try:
            filled[name] = _like(declared[name], text)
        except ValueError as error:
            report.add_outside(f"--set {clipped(name)}: {clipped(name)} must be {error}, not {short(text)}")
    return filled


def _like(default: Any, text: str) -> Any:
    """Read `text` as the kind of value that `default` is. Raises `ValueError` that says what it must be."""
    if bad_text(text):
        raise ValueError("text in UTF-8, without NUL characters")
    if isinstance(default, bool):
        return _read(_boolean, text, "true or false")
    if isinstance(default, int):
        return _read(_integer, text, "a whole number")
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
    except (ValueError, PlanError):
        raise ValueError(wanted) from None


def _boolean(text: str) -> bool:
    return (
        {"true": True, "false": False}[text.lower()] if text.lower() in ("true", "false") else bool(_refuse())
    )


def _integer(text: str) -> int:
    return int(text) if text.isascii() and len(text) <= MAX_DIGITS and "_" not in text else int(_refuse())


def _number(text: str) -> float:
    value = float(text) if text.isascii() and "_" not in text else float(_refuse())
    return value if math.isfinite(value) else float(_refuse())


def _json(text: str, kind: type) -> Any:
    """Give what a plan can hold as well: it is stored with the plan."""
    value = parse_json(text)
    check_plain(Document(value))
    return value if isinstance(value, kind) else _refuse()


def _refuse() -> Any:
    raise ValueError
