"""What pydantic found wrong, in plain sentences."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, get_args, get_origin

from pydantic import BaseModel, ValidationError

from allready.plan.models import ID_PATTERN, shorten

MAX_CANDIDATES = 5_000
"""Names that are searched for similar ones; more would take longer than the hint is worth."""


class Finding(NamedTuple):
    """A sentence about the value at `path`, or about its key."""

    path: tuple[str | int, ...]
    message: str
    at_key: bool = False


_TYPES = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a whole number of sensible size",
    "float_type": "a number",
    "finite_number": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
_BOUNDS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}


def findings(
    error: ValidationError,
    value: Any,
    keys: Collection[str],
    keys_below: Callable[[Sequence[str | int]], Collection[str]] | None = None,
) -> Iterator[Finding]:
    """Say what is wrong with `value`, a mapping whose known keys are `keys`.

    `keys_below` gives the known keys of the mapping that a path leads to, for mappings inside.
    """
    for item in error.errors(include_url=False):
        path = _clean_path(value, item["loc"])
        if item["type"] == "extra_forbidden":
            known = keys_below(path[:-1]) if keys_below is not None and len(path) > 1 else keys
            yield Finding(path, unknown("key", str(path[-1]), known), at_key=True)
        else:
            yield Finding(path, _sentence(dict(item), path), at_key=item["loc"][-1:] == ("[key]",))


def _clean_path(value: Any, loc: Iterable[str | int]) -> tuple[str | int, ...]:
    """Leave out of pydantic's location what only names branches of its models."""
    path: list[str | int] = []
    for step in loc:
        if isinstance(value, dict) and isinstance(step, str) and step != "[key]":
            path.append(step)
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int):
            path.append(step)
            value = value[step] if step < len(value) else None
    return tuple(path)


def _sentence(item: dict[str, Any], path: tuple[str | int, ...]) -> str:
    kind, given, context = item["type"], item["input"], item.get("ctx", {})
    subject = _subject(path)
    if kind == "plan":
        return f"{subject} {item['msg']}" if item["msg"].startswith("must") else str(item["msg"])
    if kind == "missing":
        return f"the key {path[-1]} is missing"
    if given is None:
        return f"{subject} has no value: give it one, or remove the key"
    if kind in _TYPES:
        return f"{subject} must be {_TYPES[kind]}, not {shorten(given)}{_hint(kind, given)}"
    if kind in _BOUNDS:
        words, bound = _BOUNDS[kind]
        return f"{subject} must be {words} {context[bound]:,g}, not {shorten(given)}"
    if kind == "literal_error":
        suggestion = did_you_mean(given, _choices(context)) if isinstance(given, str) else ""
        return f"{subject} must be one of {context['expected']}, not {shorten(given)}{suggestion}"
    if kind in ("string_too_short", "too_short"):
        return f"{subject} must not be empty"
    if kind == "string_pattern_mismatch":
        return f"{subject} {_pattern_sentence(context['pattern'], given)}"
    return f"{subject}: {item['msg']}"


def _subject(path: tuple[str | int, ...]) -> str:
    keys = [step for step in path if isinstance(step, str)]
    subject = keys[-1] if keys else "it"
    if path and isinstance(path[-1], int):
        return f"item {path[-1] + 1} of {subject}"
    return subject


def _hint(kind: str, given: object) -> str:
    if kind == "string_type":
        return ": write it in quotes" if isinstance(given, bool | int | float) else ""
    if kind == "list_type" and isinstance(given, str):
        return f": write [{given}]" if len(given) <= 40 else ""
    return ""


def _choices(context: dict[str, Any]) -> list[str]:
    return [part.strip("' ") for part in str(context["expected"]).replace(" or ", ",").split(",")]


def _pattern_sentence(pattern: str, given: object) -> str:
    if pattern == f"^{ID_PATTERN}$":
        return (
            f"must be made of letters, digits, _, - and ., begin with a letter, digit or _, "
            f"and be at most 100 characters long; it is {shorten(given)}"
        )
    if "https?" in pattern:
        return f"must be an address such as https://example.com/agent, not {shorten(given)}"
    if ":" in pattern:
        return f"must be package.module:function, not {shorten(given)}"
    if "=" in pattern:
        return f"can't be a variable of the environment: {shorten(given)}"
    return f"must be made of letters, digits and _, and begin with a letter or _; it is {shorten(given)}"


def unknown(what: str, name: str, known: Collection[str]) -> str:
    """Say that there is no such key, task, … and what may have been meant."""
    return f"unknown {what} {shorten(name)}{did_you_mean(name, known)}"


def did_you_mean(name: str, known: Collection[str]) -> str:
    """Give `; did you mean 'x'?` if something similar is known, else nothing."""
    if len(known) > MAX_CANDIDATES or len(name) > 200:
        return ""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def empty_values(value: Mapping[str, Any], keys: Collection[str]) -> Iterator[Finding]:
    """Say which of the known keys are there without a value; the models take null for "not given"."""
    for key, item in value.items():
        if item is None and key in keys:
            yield Finding((key,), f"{key} has no value: give it one, or remove the key")


def model_keys(model: type[BaseModel]) -> frozenset[str]:
    """Give the keys that a model knows."""
    return frozenset(model.model_fields)


def keys_at(model: type[BaseModel], path: Sequence[str | int]) -> frozenset[str]:
    """Give the keys that are known in the mapping at `path` below a mapping that `model` describes."""
    if not path:
        return model_keys(model)
    field = model.model_fields.get(str(path[0]))
    kind: Any = field.annotation if field else None
    if get_origin(kind) is dict:
        kind, path = get_args(kind)[1], path[1:]
    options = [kind, *get_args(kind)]
    inner = next((item for item in options if isinstance(item, type) and issubclass(item, BaseModel)), None)
    return keys_at(inner, path[1:]) if inner else frozenset()
