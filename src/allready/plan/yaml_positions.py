"""YAML to plain values, with the place of each: strict, bounded, quick.

Only the YAML 1.2 core schema counts (https://yaml.org/spec/1.2.2/#103-core-schema), so `yes`, `1:30`, dates
and the like are text. The values are built here from the parser's events, in a loop and not by recursion,
because the libraries' own ways recurse on deep documents (libyaml's binding until the stack is full), unfold
aliases without bound and let the last of two equal keys win in silence.
"""

from __future__ import annotations

import math
import re
from typing import Any

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

from allready.errors import PlanError, Problem
from allready.plan.positions import Place, Positions

# Without libyaml: the same events from Python, some twenty times slower.
_Parser: Any = yaml.CLoader if yaml.__with_libyaml__ else yaml.Loader

MAX_DEPTH = 64
"""Mappings and lists within each other; plans need five."""
TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"
MAX_UNFOLDED = 1_000_000
"""Nodes that aliases may add to a document in all, against "billion laughs"."""
CHARACTERS_PER_NODE = 64
"""How much text weighs as one more node when an alias repeats it."""
MAX_DIGITS = 300
"""Of a number."""
TEXT_KEYS = frozenset({"run", "env"})
"""Below these keys plain words and numbers stay as written: `run: [sleep, 1.50]`, `env: {DEBUG: true}`."""

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {word: word[0] in "tT" for word in ("true", "True", "TRUE", "false", "False", "FALSE")}
_INT = re.compile(r"[-+]?[0-9]+", re.ASCII)
_RADIX = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", re.ASCII)
_NUMERIC_START = frozenset("+-.0123456789")
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_STR, _MAP, _SEQ = (f"tag:yaml.org,2002:{name}" for name in ("str", "map", "seq"))

_NO_KEY = object()


class _Frame:
    """A mapping or list that is not closed yet."""

    __slots__ = ("anchor", "as_text", "before", "key", "key_place", "merges", "positions", "value")

    def __init__(self, value: Any, positions: Positions | None, anchor: str | None, before: int) -> None:
        self.value: Any = value
        self.positions = positions
        self.anchor = anchor
        self.before = before
        self.key: Any = _NO_KEY
        self.key_place = Place(1, 1)
        self.merges: list[tuple[dict[str, Any], Positions | None]] = []
        self.as_text = False


class _Stop(Exception):
    """What follows can't be understood any more."""


class _Composer:
    def __init__(self, file: str | None, first_line: int, with_positions: bool) -> None:
        self.file = file
        self.first_line = first_line
        self.with_positions = with_positions
        self.problems: list[Problem] = []
        self.stack: list[_Frame] = []
        self.nodes = 0
        self.unfolded = 0
        self.anchors: dict[str, tuple[Any, Positions | None, int] | None] = {}
        self.root: Any = None
        self.root_positions: Positions | None = None

    def compose(self, text: str) -> None:
        parser = _Parser(text)  # only its events are used, never its values
        handlers = {
            ScalarEvent: self._scalar_event,
            AliasEvent: self._alias,
            MappingStartEvent: self._start,
            SequenceStartEvent: self._start,
            MappingEndEvent: self._end,
            SequenceEndEvent: self._end,
        }
        documents = 0
        try:
            while True:
                event: Any = parser.get_event()
                handler = handlers.get(type(event))
                if handler is not None:
                    handler(event)
                elif type(event) is DocumentStartEvent:
                    documents += 1
                    if documents > 1:
                        self._stop(event, "there must be one document in the file; this starts another")
                elif type(event) is StreamEndEvent:
                    return
        finally:
            parser.dispose()

    # --- what went wrong ----------------------------------------------------------------------------------

    def _place(self, event: Any) -> Place:
        mark = event.start_mark
        return Place(mark.line + self.first_line, mark.column + 1)

    def _problem(self, event: Any, message: str) -> None:
        self.problems.append(Problem(message, self.file, *self._place(event)))

    def _stop(self, event: Any, message: str) -> None:
        self._problem(event, message)
        raise _Stop

    # --- events -------------------------------------------------------------------------------------------

    def _scalar_event(self, event: Any) -> None:
        weight = 1 + len(event.value) // CHARACTERS_PER_NODE
        self.nodes += weight
        top = self.stack[-1] if self.stack else None
        plain = event.implicit[0]
        if event.tag is not None and event.tag not in (_STR, "!"):
            self._problem(event, f"tags such as {_tag(event.tag)} are not possible here: remove it")
        if top is not None and top.key is _NO_KEY and type(top.value) is dict:
            self._set_key(top, event, plain)
            return
        value: Any = event.value
        if plain and not self._stays_text(top, value):
            value = self._resolve(event)
        positions = Positions(self._place(event)) if self.with_positions else None
        if event.anchor is not None:
            self.anchors[event.anchor] = (value, positions, weight)
        self._add(event, value, positions)

    @staticmethod
    def _stays_text(top: _Frame | None, text: str) -> bool:
        if top is None or not text:
            return False
        return top.as_text or (top.key == "run" and text in _BOOL)  # `run: true` is a command

    def _resolve(self, event: Any) -> Any:
        text: str = event.value
        if text in _NULL:
            return None
        if text in _BOOL:
            return _BOOL[text]
        if text[0] not in _NUMERIC_START:
            return text
        if len(text) > MAX_DIGITS and (
            _INT.fullmatch(text) or _RADIX.fullmatch(text) or _FLOAT.fullmatch(text)
        ):
            self._problem(event, "the number is too long: if it is meant as text, write it in quotes")
            return text
        if _INT.fullmatch(text):
            return int(text)
        if _RADIX.fullmatch(text):
            return int(text, 0)
        if _NOT_FINITE.fullmatch(text) or (_FLOAT.fullmatch(text) and math.isinf(float(text))):
            told = clipped(text)
            self._problem(
                event, f"{told} is not a number that a plan can hold: if it is meant as text, quote it"
            )
            return text
        return float(text) if _FLOAT.fullmatch(text) else text

    def _set_key(self, top: _Frame, event: Any, plain: bool) -> None:
        key: str = event.value
        if plain and key != "<<" and not isinstance(self._resolve(event), str):
            self._problem(event, f"the key {clipped(key) or 'is empty and'} must be text: write it in quotes")
        if key in top.value:
            self._problem(event, f"the key {short(key)} is there twice: remove one")
        if event.anchor is not None:
            self.anchors[event.anchor] = (key, None, 1 + len(key) // CHARACTERS_PER_NODE)
        top.key = (key,) if plain and key == "<<" else key  # a tuple can't be mistaken for a key
        if self.with_positions:
            top.key_place = self._place(event)

    def _alias(self, event: Any) -> None:
        if event.anchor not in self.anchors:
            name = clipped(event.anchor)
            self._stop(event, f"the alias *{name} has no anchor &{name} before it")
        known = self.anchors[event.anchor]
        if known is None:
            self._stop(event, f"the alias *{clipped(event.anchor)} contains itself")
            return
        value, positions, weight = known
        self.nodes += weight
        self.unfolded += weight
        if self.unfolded > MAX_UNFOLDED:
            self._stop(
                event, f"aliases unfold to more than {MAX_UNFOLDED:,} values: write out what is needed"
            )
        top = self.stack[-1] if self.stack else None
        if top is not None and top.key is _NO_KEY and type(top.value) is dict:
            self._stop(event, "an alias can't be a key: write it out")
        self._add(event, value, positions)

    def _start(self, event: Any) -> None:
        self.nodes += 1
        is_map = type(event) is MappingStartEvent
        if event.tag is not None and event.tag not in (_MAP, _SEQ, "!"):
            self._problem(event, f"tags such as {_tag(event.tag)} are not possible here: remove it")
        if len(self.stack) >= MAX_DEPTH:
            self._stop(event, TOO_DEEP)
        top = self.stack[-1] if self.stack else None
        if top is not None and top.key is _NO_KEY and type(top.value) is dict:
            hint = "a value that starts with {{ must be in quotes" if is_map else "write it in quotes"
            self._stop(event, f"a key must be text: {hint}")
        positions = Positions(self._place(event)) if self.with_positions else None
        frame = _Frame({} if is_map else [], positions, event.anchor, self.nodes)
        frame.as_text = top is not None and (top.as_text or top.key in TEXT_KEYS)
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        self.stack.append(frame)

    def _end(self, event: Any) -> None:
        frame = self.stack.pop()
        for source, positions in frame.merges:
            for key, value in source.items():
                if key not in frame.value:
                    frame.value[key] = value
                    self.nodes += 1
                    if frame.positions is not None and positions is not None and positions.children:
                        frame.positions.add(key, *positions.children[key])
        if frame.anchor is not None:
            self.anchors[frame.anchor] = (frame.value, frame.positions, self.nodes - frame.before + 1)
        self._add(event, frame.value, frame.positions)

    def _add(self, event: Any, value: Any, positions: Positions | None) -> None:
        """Put a finished value where it belongs."""
        if not self.stack:
            self.root, self.root_positions = value, positions
            return
        top = self.stack[-1]
        if type(top.value) is list:
            if positions is not None and top.positions is not None:
                top.positions.add(len(top.value), positions.place, positions)
            top.value.append(value)
            return
        key, top.key = top.key, _NO_KEY
        if type(key) is tuple:
            self._merge(top, event, value, positions)
            return
        if top.positions is not None:
            below = positions if positions is not None else Positions(self._place(event))
            top.positions.add(key, top.key_place, below)
        top.value[key] = value

    def _merge(self, top: _Frame, event: Any, value: Any, positions: Positions | None) -> None:
        """Take a merge key (`<<: *base`): a mapping or a list of mappings whose keys are added."""
        sources = value if isinstance(value, list) else [value]
        if not all(isinstance(source, dict) for source in sources):
            self._problem(event, "what follows << must be a mapping, or a list of mappings")
            return
        for index, source in enumerate(sources):
            below = positions
            if positions is not None and positions.children and isinstance(value, list):
                below = positions.children[index][1]
            top.merges.append((source, below))


def _tag(tag: str) -> str:
    return clipped(tag.replace("tag:yaml.org,2002:", "!!"))


def clipped(text: str) -> str:
    """Give the text as it is if it is not long."""
    return text if len(text) <= 60 else f"{text[:57]}…"


def short(text: str) -> str:
    """Write a text as Python would, but never long."""
    return clipped(repr(text[:60]))


def parse_yaml(
    text: str,
    *,
    file: str | None = None,
    first_line: int = 1,
    with_positions: bool = True,
    minor: list[Problem] | None = None,
) -> tuple[Any, Positions | None]:
    """Give the plain values of a YAML text (None if it is empty), and where they stand.

    `first_line` is the line of the file that the text starts at. Without `with_positions` it takes less time
    and memory, and the positions are None. Raises `PlanError` with all that is wrong; but what leaves the
    rest understandable (a number that is none, a doubled key) is added to `minor`, if that is given.
    """
    found = _UNPRINTABLE.search(text)
    if found:
        place = _locate(text, found.start(), first_line)
        raise PlanError([Problem(f"not text: character U+{ord(found[0]):04X}", file, *place)])
    composer = _Composer(file, first_line, with_positions)
    try:
        composer.compose(text)
        if minor is not None:
            minor += composer.problems
            return composer.root, composer.root_positions
    except _Stop:
        pass
    except yaml.MarkedYAMLError as error:
        composer.problems.append(_syntax_problem(error, text, file, first_line))
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        composer.problems.append(Problem(f"not valid YAML: {error}", file, first_line, 1))
    if composer.problems:
        raise PlanError(composer.problems)
    return composer.root, composer.root_positions


def _locate(text: str, offset: int, first_line: int = 1) -> Place:
    line, start = first_line, 0
    for found in _LINE_BREAK.finditer(text, 0, offset):
        line, start = line + 1, found.end()
    return Place(line, offset - start + 1)


def _syntax_problem(error: yaml.MarkedYAMLError, text: str, file: str | None, first_line: int) -> Problem:
    mark = error.problem_mark or error.context_mark
    message = f"not valid YAML: {error.problem or error.context}"
    if mark is None:
        return Problem(message, file, first_line, 1)
    lines = _LINE_BREAK.split(text)
    line = lines[mark.line] if mark.line < len(lines) else ""
    here = line[mark.column : mark.column + 1]
    if here == "\t" or (here and line[: mark.column].isspace() and "\t" in line[: mark.column]):
        message += " (YAML is indented with spaces, not tabs)"
    elif here in ("@", "`", "%") and here:
        message += f" (write a value that starts with {here} in quotes)"
    return Problem(message, file, mark.line + first_line, mark.column + 1)
