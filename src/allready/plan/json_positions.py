"""JSON to plain values, and the place of each. Values come from `json`; places are looked up when needed."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from allready.errors import PlanError, Problem
from allready.plan.positions import Place, Positions
from allready.plan.yaml_positions import MAX_DEPTH, MAX_DIGITS, TOO_DEEP, short

_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{},:]|[^\s\[\]{},:"]+|\n', re.DOTALL)
_OPEN = frozenset("{[")
_CLOSE = frozenset("}]")
_NOT_JSON = "not valid JSON: "
_INTEGER = re.compile(r"-?[0-9]+", re.ASCII)
_NUMERIC = frozenset("-0123456789NI")
"""What numbers begin with, NaN and Infinity included."""


def parse_json(text: str, *, file: str | None = None) -> Any:
    """Give the plain values of a JSON text. Raises `PlanError` for what is wrong.

    Equal keys in one object are an error, as are NaN, Infinity and numbers that no float can hold.
    """
    reader = _Reader()
    try:
        value = json.loads(
            text,
            object_pairs_hook=reader.pairs,
            parse_constant=reader.number,
            parse_float=reader.number,
            parse_int=reader.number,
        )
    except json.JSONDecodeError as error:
        raise PlanError([Problem(_NOT_JSON + error.msg, file, error.lineno, error.colno)]) from None
    except RecursionError:
        raise PlanError([Problem(TOO_DEEP, file, *_too_deep_at(text))]) from None
    if reader.is_wrong:
        raise PlanError([Problem(message, file, *place) for message, place in _Walk(text).problems])
    return value


class _Reader:
    """Notes only whether something is wrong with the values: where it is, is looked up when it is."""

    def __init__(self) -> None:
        self.is_wrong = False

    def pairs(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        self.is_wrong = self.is_wrong or len(result) != len(pairs)
        return result

    def number(self, text: str) -> int | float:
        if _wrong_number(text):
            self.is_wrong = True
            return 0
        return int(text) if _INTEGER.fullmatch(text) else float(text)


def _wrong_number(text: str) -> str | None:
    """Say what is wrong with a number, if anything is."""
    if _INTEGER.fullmatch(text):
        too_long = f"{_NOT_JSON}a number is too long: if it is meant as text, write it in quotes"
        return too_long if len(text) > MAX_DIGITS else None
    if math.isfinite(float(text)):
        return None
    return f"{_NOT_JSON}{text[:40]} is not a number that a plan can hold"


def json_positions(text: str) -> Positions:
    """Give the place of everything in a text that `parse_json` has accepted."""
    return _Walk(text).root


def _too_deep_at(text: str) -> Place:
    """Give the place of the first bracket that is too deep in a text that is valid up to there."""
    depth, line, start = 0, 1, 0
    for found in _TOKEN.finditer(text):
        piece = found[0]
        if piece == "\n":
            line, start = line + 1, found.end()
        elif piece in _OPEN:
            depth += 1
            if depth > MAX_DEPTH:
                return Place(line, found.start() - start + 1)
        elif piece in _CLOSE:
            depth -= 1
    return Place(1, 1)


class _Walk:
    """Goes through the tokens of a text whose syntax is right."""

    def __init__(self, text: str) -> None:
        self.root = Positions(Place(1, 1))
        self.problems: list[tuple[str, Place]] = []
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
                        self.problems.append((f"the key {short(key)} is there twice: remove one", place))
                    continue
                if piece[0] in _NUMERIC and (message := _wrong_number(piece)):
                    self.problems.append((message, place))
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
