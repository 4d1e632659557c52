"""Python values as JSON: what can be carried from one process, or one day, to another."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import math
import sys
import uuid
from pathlib import PurePath
from typing import Any

from allready.errors import PermanentError

MAX_DEPTH = 100
"""Levels of nesting; far below where JSON libraries give up, far above what people write."""
MAX_BITS = 13_000
"""Of a whole number: some 3,900 digits; Python writes and reads no more than 4,300."""


def jsonable(value: Any) -> Any:
    """Give the value in plain JSON types, such that reading it back gives the same again.

    Carries None, booleans, finite numbers, text, lists, tuples (as lists), dictionaries with text keys,
    pydantic models, dataclasses, enumerations (as their values), dates and times (ISO 8601), UUIDs and paths.
    Raises `PermanentError` that names the place of anything else: sets, bytes, NaN, other objects, circles.
    """
    return _convert(value, "", 0)


def _convert(value: Any, place: str, depth: int) -> Any:
    if value is None or value is True or value is False:
        return value
    if depth > MAX_DEPTH:
        raise _refused(f"is nested deeper than {MAX_DEPTH} levels, or contains itself", "")
    if isinstance(value, enum.Enum):
        return _convert(value.value, place, depth + 1)
    if isinstance(value, str):
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise _refused("has text that is not valid Unicode (a lone surrogate)", place)
        return str.__str__(value)
    if isinstance(value, int):
        if value.bit_length() > MAX_BITS:
            raise _refused("has a number that is too long to be written", place)
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _refused(f"has {value}, which is not a JSON number", place)
        return float(value)
    if isinstance(value, list | tuple):
        return [_convert(item, f"{place}[{index}]", depth + 1) for index, item in enumerate(value)]
    if isinstance(value, dict):
        return {
            _key(key, place): _convert(item, f"{place}[{key!r}]", depth + 1) for key, item in value.items()
        }
    return _convert_object(value, place, depth)


def _convert_object(value: Any, place: str, depth: int) -> Any:
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, PurePath | uuid.UUID):
        return _convert(str(value), place, depth + 1)
    if is_model(value):
        return _convert(value.model_dump(mode="json"), place, depth + 1)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {
            field.name: _convert(getattr(value, field.name), f"{place}.{field.name}", depth + 1)
            for field in fields
        }
    raise _refused(f"has a value of type {type(value).__qualname__}", place)


def _key(key: Any, place: str) -> str:
    if not isinstance(key, str):
        raise _refused(f"has a dictionary key that is not text ({key!r})", place)
    return str(_convert(key, place, 0))


def is_model(value: Any) -> bool:
    """Say whether it is a pydantic model, without importing pydantic for it."""
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and isinstance(value, pydantic.BaseModel)


def is_deeper(value: Any, levels: int) -> bool:
    """Say whether lists and dictionaries are nested in each other more than so many levels."""
    layer = [value]
    for _ in range(levels):
        layer = [
            item
            for parent in layer
            if isinstance(parent, dict | list)
            for item in (parent.values() if isinstance(parent, dict) else parent)
        ]
    return any(isinstance(item, dict | list) for item in layer)


def _refused(what: str, place: str) -> PermanentError:
    where = f" at {place.lstrip('.')}" if place else ""
    return PermanentError(
        f"the value can't be carried as JSON: it {what}{where}; "
        f"use text, numbers, lists, dictionaries with text keys, dataclasses or pydantic models"
    )
