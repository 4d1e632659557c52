"""JSON to plain values, and the place of each. Values come from `json`; places are looked up when needed."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

from allready.errors import PlanError, Problem
from allready.plan.positions import Place, Positions
from allready.plan.yaml_positions import MAX_DEPTH, MAX_DIGITS

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},:]|[^\s\[\]{},:"]+|\n', re.DOTALL)
_OPEN = frozenset("{[")
_CLOSE = frozenset("}]")


class _Repeated(Exception):
    """A key stands twice in an object."""


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise _Repeated
    return result


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number that a plan can hold")


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:40]} is not a number that a plan can hold")
    return value


def _int(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError("a number is too long: if it is meant as text, write it in quotes")
    return int(text)


def parse_json(text: str, *, file: str | None = None) -> Any:
    """Give the plain values of a JSON text. Raises `PlanError` for what is wrong.

    Equal keys in one object are an error, as are NaN, Infinity and numbers that no float can hold.
    """
    try:
        return json.loads(
            text, object_pairs_hook=_pairs, parse_constant=_constant, parse_float=_float, parse_int=_int
        )
    except _Repeated:
        raise PlanError(_repeated_keys(text, file)) from None
    except json.JSONDecodeError as error:
        problem = Problem(f"not valid JSON: {error.msg}", file, error.lineno, error.colno)
    except RecursionError:
        problem = Problem(f"nested deeper than {MAX_DEPTH} levels", file, 1, 1)
    except ValueError as error:
        problem = Problem(f"not valid JSON: {error}", file, 1, 1)
    raise PlanError([problem])


def json_positions(text: str) -> Positions:
    """Give the place of everything in a text that `parse_json` has accepted."""
    return _Walk(text).root


def _repeated_keys(text: str, file: str | None) -> list[Problem]:
    return [
        Problem(f"the key {key!r} is there twice: remove one", file, *place)
        for key, place in _Walk(text).repeated
    ]


class _Walk:
    """Goes through the tokens of a text whose syntax is right."""

    def __init__(self, text: str) -> None:
        self.root = Positions(Place(1, 1))
        self.repeated: list[tuple[str, Place]] = []
        stack: list[Positions] = []
        lists: list[bool] = []
        key: str | None = None
        key_place = Place(1, 1)
        line, start = 1, 0
        for found in _TOKEN.finditer(text):
            piece = found[0]
            if piece == "\n":
                line, start = line + 1, found.end()
            elif piece in _CLOSE:
                stack.pop()
                lists.pop()
            elif piece not in ",:":
                place = Place(line, found.start() - start + 1)
                if stack and not lists[-1] and key is None:
                    key, key_place = json.loads(piece), place
                    if key in (stack[-1].children or ()):
                        self.repeated.append((key, place))
                    continue
                here = Positions(place)
                if not stack:
                    self.root = here
                elif lists[-1]:
                    stack[-1].add(len(stack[-1].children or ()), place, here)
                elif key is not None:
                    stack[-1].add(key, key_place, here)
                    key = None
                if piece in _OPEN:
                    stack.append(here)
                    lists.append(piece == "[")
