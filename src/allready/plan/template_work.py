"""What filling a template may take: every step and every character that it makes is counted, and has an end.

Jinja2's sandbox bounds ranges only. A line of a template can still double a text forty times, multiply one by
another, or compare two lists that hold each other a million times; and what is going on inside such a call
nothing can interrupt. So costs are estimated before a call, and charged to the template that is being filled.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, ValuesView
from contextlib import contextmanager
from itertools import chain
from typing import Any

from jinja2.exceptions import SecurityError
from jinja2.filters import make_attrgetter
from jinja2.utils import Namespace

MAX_WORK = 32 * 1024 * 1024
"""Characters that filling one template may make or look at in all: some seconds."""
ITEM = 8
"""What an item of a list weighs beside its own characters."""
STEP = 16
"""What a round of a loop, a call, a filter or an operator weighs by itself."""
SCANNED = 64
"""Characters that are searched or copied in the time that one takes to be made by Python code."""

_state = threading.local()


@contextmanager
def limited_work() -> Iterator[None]:
    """Let the template that this thread fills here take `MAX_WORK`."""
    _state.left = MAX_WORK
    try:
        yield
    finally:
        _state.left = None


def charge(units: int = 0) -> None:
    """Count a step and so many characters or items. Raises `SecurityError` if it is too much."""
    left = getattr(_state, "left", None)
    if left is None:
        return
    _state.left = left - units - STEP
    if _state.left < 0:
        raise SecurityError("it takes too much time or memory")


def size_of(value: Any) -> int:
    """Give about how many characters a value has when it is written, what it holds twice counted twice."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, int):
        return value.bit_length() // 3
    held = _held(value)
    if held is not None:
        return _size_of_all(value, held, {})
    return ITEM * len(value) if isinstance(value, range) else 1


def _held(value: Any) -> Iterable[Any] | None:
    """Give what is written with a value because it is in it; None for all that holds nothing."""
    if isinstance(value, dict):
        return chain(value.keys(), value.values())
    if isinstance(value, list | tuple | set | frozenset | KeysView | ValuesView | ItemsView):
        return value
    if isinstance(value, Namespace):
        attributes: dict[str, Any] = object.__getattribute__(value, "_Namespace__attrs")
        return attributes.values()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, field.name) for field in dataclasses.fields(value)]
    return None


def _size_of_all(value: Any, held: Iterable[Any], known: dict[int, int]) -> int:
    """Add up what a container holds. `known` has those that were seen: each is gone through once."""
    known[id(value)] = MAX_WORK  # for one that holds itself
    size = 0
    for item in held:
        size += ITEM
        if isinstance(item, str | bytes):
            size += len(item)
        elif item is not None and not isinstance(item, int | float):
            inner = known.get(id(item))
            if inner is None:
                below = _held(item)
                inner = _size_of_all(item, below, known) if below is not None else 0
            size += inner
    known[id(value)] = size
    return size


def weighed(value: Any) -> Any:
    """Charge for what is going to be compared or hashed, and give it."""
    charge(len(value) // SCANNED if isinstance(value, str) else size_of(value))
    return value


def rounds(iterable: Iterable[Any]) -> Iterator[Any]:
    """Give the items of what a loop goes through, each charged."""
    for item in iterable:
        charge()
        yield item


def joined(parts: Iterable[Any]) -> str:
    """Do what `~` does."""
    items = list(parts)
    charge(sum(map(size_of, items)))
    return "".join(map(str, items))


def as_text(value: Any) -> str:
    """Give the text of a value that it is not too long for."""
    if not isinstance(value, str):
        charge(size_of(value))
    return str(value)


def made(value: Any) -> Any:
    """Charge for what a call has made, and give it; what gives its items later is charged for each."""
    if hasattr(value, "__next__"):
        return rounds(value)
    if isinstance(value, str | bytes):
        charge(len(value))
    else:
        charge(ITEM * len(value) if isinstance(value, list | tuple | dict) else 0)
    return value


# --- what a call is going to cost -------------------------------------------------------------------------


def _number(value: Any, otherwise: int) -> int:
    return abs(value) if isinstance(value, int) else otherwise


def _replace(value: Any, old: Any, new: Any, count: Any = -1) -> int:
    text = as_text(value)
    old = as_text(old)
    many = text.count(old) if old else len(text) + 1
    if isinstance(count, int) and count >= 0:
        many = min(many, count)
    return len(text) + many * size_of(new)


def _join(items: Any, by: Any = "", *_: Any) -> int:
    many = len(items) if hasattr(items, "__len__") else 0
    return size_of(items) + many * size_of(by)


def _indent(value: Any, width: Any = 4, *_: Any) -> int:
    text = as_text(value)
    return len(text) + (text.count("\n") + 1) * _number(width, size_of(width))


def _wrap(value: Any, width: Any = 79, _long: Any = True, by: Any = None, *_: Any) -> int:
    text = as_text(value)
    lines = len(text) // max(1, _number(width, 1)) + text.count(" ") + text.count("\n")
    return (len(text) + lines * (1 + size_of(by))) * 8


def _center(text: Any, width: Any = 80, *_: Any) -> int:
    return size_of(text) + _number(width, 0)


def _trim(text: Any, characters: Any = None, *_: Any) -> int:
    return size_of(text) * (1 + size_of(characters)) // SCANNED


def _json(value: Any, indent: Any = None, *_: Any) -> int:
    return size_of(value) * (6 + _number(indent, 0))


def _scanned(text: Any, *others: Any) -> int:
    return (size_of(text) + sum(map(size_of, others))) // SCANNED


def _parts(value: Any, many: Any = 1, *_: Any) -> int:
    return size_of(value) + _number(many, 0)


def _urls(value: Any, *others: Any) -> int:
    text = as_text(value)
    return len(text) * 8 + (text.count(".") + text.count("@")) * (64 + sum(map(size_of, others)))


def _tags(value: Any, *_: Any) -> int:
    text = as_text(value)  # every comment and tag that is taken out copies the rest
    return len(text) + text.count("<") * len(text) // SCANNED


def _all(*given: Any) -> int:
    return sum(map(size_of, given))


def _settings(_: Any, *settings: Any) -> int:
    return sum(0 if isinstance(setting, str) else size_of(setting) for setting in settings)


_NOTHING: Callable[..., int] = lambda *_: 0  # noqa: E731 - stands in the tables like the others
FILTER_COSTS: dict[str, Callable[..., int]] = {
    **dict.fromkeys(("attr", "default", "d", "first", "last", "length", "count", "random"), _settings),
    **dict.fromkeys(("map", "select", "selectattr", "reject", "rejectattr", "items", "reverse"), _settings),
    **dict.fromkeys(("batch", "slice"), _parts),
    "center": _center,
    "indent": _indent,
    "join": _join,
    "replace": _replace,
    "striptags": _tags,
    "tojson": _json,
    "trim": _trim,
    "urlize": _urls,
    "wordwrap": _wrap,
    **dict.fromkeys(("e", "escape", "forceescape", "urlencode", "xmlattr", "pprint"), _json),
}
"""Filter → what it costs with these arguments; all others what they are given."""

METHOD_COSTS: dict[str, Callable[..., int]] = {
    "join": lambda by, items=(), *_: _join(items, by),
    "replace": _replace,
    **dict.fromkeys(("strip", "lstrip", "rstrip"), _trim),
    **dict.fromkeys(("startswith", "endswith", "removeprefix", "removesuffix"), _NOTHING),
    **dict.fromkeys(("find", "rfind", "index", "rindex", "count"), _scanned),
}
"""The same for methods of text."""
TEXT_METHODS = frozenset(METHOD_COSTS) | {
    *("capitalize", "casefold", "lower", "swapcase", "title", "upper"),
    *("partition", "rpartition", "rsplit", "split", "splitlines"),
    *("isalnum", "isalpha", "isascii", "isdecimal", "isdigit", "isidentifier", "islower", "isnumeric"),
    *("isprintable", "isspace", "istitle", "isupper"),
}
"""What may be called on text: nothing that makes it as long as one likes, or bytes of it."""


def filter_cost(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """Give about what a filter will cost; `args` begin with the value that goes through it."""
    cost = FILTER_COSTS.get(name)
    if cost is None:
        return sum(map(size_of, (*args, *kwargs.values())))
    # which of the settings one by name is makes no difference for a bound from above, if each may be it
    named = tuple(kwargs.values())
    return max(_cost(cost, args + named), _cost(cost, args + named[::-1]) if len(named) > 1 else 0)


def call_cost(call: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """Give about what a call will cost."""
    owner, given = getattr(call, "__self__", None), (*args, *kwargs.values())
    if isinstance(owner, str):
        return _cost(METHOD_COSTS.get(call.__name__, _all), (owner, *given))
    beside = size_of(owner) if isinstance(owner, list | tuple) else 0
    return beside + sum(map(size_of, given))


def _cost(cost: Callable[..., int], given: tuple[Any, ...]) -> int:
    try:
        return cost(*given)
    except TypeError:  # too many or too few for it: the call itself will say so
        return sum(map(size_of, given))


# --- filters that are made anew ---------------------------------------------------------------------------


def format_cost(text: str, values: Iterable[Any]) -> int:
    """Give about what filling a `%` format will cost."""
    return len(text) + text.count("%") * max(map(size_of, values), default=0)


def summed(environment: Any, iterable: Iterable[Any], attribute: Any = None, start: Any = 0) -> Any:
    """Add up; lists are copied for each that is added to them."""
    if attribute is not None:
        iterable = map(make_attrgetter(environment, attribute), iterable)
    total = start
    for item in iterable:
        total = total + item
        charge(len(total) if isinstance(total, str | list | tuple) else 0)
    return total
