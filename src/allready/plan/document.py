"""A plan's text (or bytes) as plain values: YAML or JSON, strict and bounded."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import Any

from allready.errors import PlanError, Problem
from allready.plan.json_positions import json_positions, parse_json
from allready.plan.positions import Path, Place, Positions
from allready.plan.yaml_positions import MAX_DEPTH, MAX_DIGITS, TOO_DEEP, parse_yaml, short

MAX_BYTES = 256 * 1024 * 1024
"""Of a plan file: a million tasks fit."""
LONGEST_MESSAGE = 500
"""Characters that are said about one thing."""


class Document:
    """Plain values, and (looked up only when something is wrong) where they stand in `file`."""

    def __init__(
        self,
        value: Any,
        file: str | None = None,
        find_positions: Callable[[], Positions | None] | None = None,
        problems: Sequence[Problem] = (),
    ) -> None:
        self.value = value
        self.file = file
        self.problems = problems
        """What was found wrong while it was read; the rest can be understood all the same."""
        self._find_positions = find_positions
        self._positions: Positions | None = None

    @property
    def positions(self) -> Positions | None:
        """Where the values stand; None if there is no text behind them. Empty text is line 1, column 1."""
        if self._positions is None and self._find_positions is not None:
            self._positions = self._find_positions() or Positions(Place(1, 1))
        return self._positions

    def problem(self, message: str, path: Path = (), *, at_key: bool = False) -> Problem:
        """Give the problem with the place of the value at `path` (or of its key), else the path."""
        if len(message) > LONGEST_MESSAGE:  # for the names in it
            message = f"{message[: LONGEST_MESSAGE - 1]}…"
        positions = self.positions
        if positions is None:
            return Problem(f"{describe_path(self.value, path)}{message}", self.file)
        place = positions.of_key(path) if at_key else positions.of_value(path)
        return Problem(message, self.file, place.line, place.column)


def describe_path(value: Any, path: Path) -> str:
    """Say in words which part of a plan `path` leads to, as the beginning of a sentence: `task 'lint': `."""
    if len(path) >= 2 and path[0] == "tasks" and isinstance(path[1], int):
        try:
            name = value["tasks"][path[1]]["id"]
        except (KeyError, IndexError, TypeError):
            name = None
        return f"task {short(name)}: " if isinstance(name, str) else f"task {path[1] + 1}: "
    if len(path) >= 2 and path[0] == "agents":
        return f"agent {short(str(path[1]))}: "
    return f"{path[0]}: " if len(path) >= 2 else ""


def read_document(data: str | bytes, file: str | None = None) -> Document:
    """Read a plan's text. Raises `PlanError` if it is not text, not valid, or too big.

    It is JSON if the file's name ends in `.json`, or if it starts with `{` and is valid JSON; else YAML.
    """
    if len(data) > MAX_BYTES:
        raise PlanError([Problem(f"larger than {MAX_BYTES // 1024**2} MiB", file)])
    text = _decode(data, file).removeprefix("\ufeff")
    is_json = file is not None and PurePath(file).suffix.lower() == ".json"
    if is_json or text.lstrip().startswith("{"):
        try:
            value = parse_json(text, file=file)
        except PlanError as error:
            if is_json or not any("not valid JSON" in problem.message for problem in error.problems):
                raise
        else:
            document = Document(value, file, lambda: json_positions(text))
            check_plain(document)
            return document
    minor: list[Problem] = []
    value, _ = parse_yaml(text, file=file, with_positions=False, minor=minor)
    document = Document(value, file, lambda: parse_yaml(text, file=file, minor=[])[1], minor)
    check_plain(document)
    return document


def _decode(data: str | bytes, file: str | None) -> str:
    if isinstance(data, str):
        return data
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PlanError([Problem("not text in UTF-8", file, *place_in(data, error.start))]) from None


def place_in(data: bytes, offset: int) -> Place:
    """Give the place of a byte in a file that is text up to there."""
    start = data.rfind(b"\n", 0, offset) + 1
    return Place(data.count(b"\n", 0, offset) + 1, len(data[start:offset].decode("utf-8", "replace")) + 1)


def check_plain(document: Document) -> None:
    """Raise `PlanError` unless the document is made of values that JSON can carry, of bounded depth.

    Text must not hold what no program, file or database could take: NUL and half characters (surrogates).
    """
    problems: list[Problem] = []
    todo: list[tuple[Any, tuple[str | int, ...]]] = [(document.value, ())]
    while todo:
        value, path = todo.pop()
        kind = type(value)
        if kind is str:
            message = bad_text(value)
        elif kind is dict or kind is list:
            message = None if len(path) < MAX_DEPTH else TOO_DEEP
        else:
            message = _bad_scalar(value)
        if message:
            problems.append(document.problem(message, path))
        elif kind is list:
            todo.extend((item, (*path, index)) for index, item in enumerate(value))
        elif kind is dict:
            for key, item in value.items():
                if type(key) is str and not bad_text(key):
                    todo.append((item, (*path, key)))
                else:
                    message = bad_text(key) if isinstance(key, str) else None
                    place = (*path, key) if isinstance(key, str) else path
                    problems.append(document.problem(message or "a key must be text", place, at_key=True))
    if problems:
        raise PlanError(sorted_problems(problems))


def bad_text(value: str) -> str | None:
    """Say why a text can't be kept, if it can't."""
    if "\0" in value:
        return "the text holds a NUL character: remove it"
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            return "the text holds half a character (a lone surrogate): remove it"
    return None


def _bad_scalar(value: object) -> str | None:
    if value is None or isinstance(value, bool):
        return None
    if type(value) is int:
        return None if value.bit_length() < MAX_DIGITS * 3 else "the number is too large"
    if type(value) is float:
        return None if math.isfinite(value) else f"{value} is not a number that a plan can hold"
    return f"a plan can't hold a {type(value).__name__}"


def sorted_problems(problems: list[Problem]) -> list[Problem]:
    """Give the problems in reading order, each once."""
    unique = dict.fromkeys(problems)
    return sorted(unique, key=lambda problem: (problem.line or 0, problem.column or 0))
