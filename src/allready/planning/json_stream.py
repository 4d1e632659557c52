"""Reads the entries of a JSON list one by one while its text still comes in.

The text is a model's, so there may be prose or a fence of Markdown around the JSON. An entry is given as soon
as its last character is there.
"""

from __future__ import annotations

import json
import re
from enum import Enum, auto
from typing import Any, NamedTuple

_OPENING = re.compile(r"[{\[]")
_SPACE = re.compile(r"[ \t\r\n]*")
_SCALAR = re.compile(r"[^\s{}\[\],:\"]+")
_STRING_STOP = re.compile(r'["\\]')
_CLOSES = {"}": "{", "]": "["}
MAX_DEPTH = 20
"""Brackets that may be open in what stands beside the list. The list's object may begin with any of them:
without a bound, reading them would take time by the square of their number."""


class Item(NamedTuple):
    """An entry of the list."""

    value: Any
    problem: str | None = None
    """Why the entry is no JSON; then it has no value."""


class _Token(NamedTuple):
    kind: str
    """`string`, `plain` (numbers and words), or the sign itself: one of `{}[],:`."""
    start: int
    end: int


class _State(Enum):
    SEEKING = auto()
    """Nothing that could be the list has begun."""
    OBJECT = auto()
    """In an object that may have the list under its key."""
    LIST = auto()
    """After a bracket that may begin the list itself."""
    BETWEEN = auto()
    """In the list, before an entry."""
    ENTRY = auto()
    CLOSED = auto()
    BROKEN = auto()
    """In the list there is what can't be in one."""


class _Next(Enum):
    """What must follow in an object."""

    KEY = auto()
    COLON = auto()
    VALUE = auto()
    COMMA = auto()


class ItemReader:
    """Finds the first object whose `key` holds a list, or a list of objects by itself; reads its entries."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._items: list[Item] = []
        """Complete, and not given yet."""
        self._text = ""
        self._place = 0
        """Everything before it is read."""
        self._string_place = 0
        """Where to go on in a string that has not ended."""
        self._start = 0
        """Of the object that may be the one, or of the entry."""
        self._open: list[str] = []
        """Brackets that are open since then."""
        self._next = _Next.KEY
        self._name: object = None
        """The last key of the object."""
        self._state = _State.SEEKING
        self._steps = {
            _State.SEEKING: self._seek,
            _State.OBJECT: self._in_object,
            _State.LIST: self._in_list,
            _State.BETWEEN: self._between,
            _State.ENTRY: self._in_entry,
        }

    @property
    def found(self) -> bool:
        """Whether the list has begun."""
        return self._state not in (_State.SEEKING, _State.OBJECT, _State.LIST)

    @property
    def closed(self) -> bool:
        """Whether the list has ended as it must."""
        return self._state is _State.CLOSED

    @property
    def ended(self) -> bool:
        """Whether no more entries can come."""
        return self._state not in self._steps

    def feed(self, text: str) -> list[Item]:
        """Take the next piece of text; give the entries that are complete with it."""
        if self._state not in self._steps:
            return []
        # with no second name for it the text grows in place, instead of being copied with every piece
        buffer, self._text = self._text, ""
        buffer += text
        self._text = buffer
        del buffer
        while self._state in self._steps and self._steps[self._state]():
            pass
        if self._state is not _State.ENTRY and self.found:
            self._text, self._place, self._string_place = self._text[self._place :], 0, 0
        items, self._items = self._items, []
        return items

    # Each step reads one token; False: it needs more text.

    def _seek(self) -> bool:
        opening = _OPENING.search(self._text, self._place)
        if opening is None:
            self._text, self._place = "", 0
            return False
        self._start, self._place = opening.start(), opening.end()
        self._open, self._next = [], _Next.KEY
        self._state = _State.OBJECT if opening[0] == "{" else _State.LIST
        return True

    def _abandon(self) -> bool:
        """Take what began at `_start` for prose."""
        self._place, self._string_place, self._state = self._start + 1, 0, _State.SEEKING
        return True

    def _in_object(self) -> bool:
        token = self._token()
        if token is None:
            return False
        if self._open:
            if not self._nest(token) or len(self._open) > MAX_DEPTH:
                return self._abandon()
        elif (self._next, token.kind) == (_Next.KEY, "string"):
            self._name = self._value(token.start, token.end).value
            self._next = _Next.COLON
        elif (self._next, token.kind) == (_Next.COLON, ":"):
            self._next = _Next.VALUE
        elif (self._next, token.kind) == (_Next.COMMA, ","):
            self._next = _Next.KEY
        elif self._next is _Next.VALUE and token.kind == "[" and self._name == self._key:
            self._state = _State.BETWEEN
        elif self._next is _Next.VALUE and token.kind not in ("}", "]", ",", ":"):
            self._next = _Next.COMMA
            self._nest(token)
        elif self._next in (_Next.KEY, _Next.COMMA) and token.kind == "}":
            self._state = _State.SEEKING
        else:
            return self._abandon()
        return True

    def _in_list(self) -> bool:
        token = self._token()
        if token is None:
            return False
        if token.kind != "{":
            return self._abandon()
        self._place = token.start
        self._state = _State.BETWEEN
        return True

    def _between(self) -> bool:
        token = self._token()
        if token is None:
            return False
        if token.kind in ("{", "["):
            self._start, self._open, self._state = token.start, [token.kind], _State.ENTRY
        elif token.kind == "]":
            self._state = _State.CLOSED
        elif token.kind in ("string", "plain"):
            self._items.append(self._value(token.start, token.end))
        elif token.kind != ",":
            self._state = _State.BROKEN
        return True

    def _in_entry(self) -> bool:
        token = self._token()
        if token is None:
            return False
        if not self._nest(token):
            self._state = _State.BROKEN
        elif not self._open:
            self._items.append(self._value(self._start, token.end))
            self._state = _State.BETWEEN
        return True

    def _nest(self, token: _Token) -> bool:
        """Keep book of the brackets. False: this one closes what is not open."""
        if token.kind in ("{", "["):
            self._open.append(token.kind)
        elif token.kind in _CLOSES:
            return bool(self._open) and self._open.pop() == _CLOSES[token.kind]
        return True

    def _value(self, start: int, end: int) -> Item:
        try:
            # not strict: models write line breaks and tabs into strings as they are
            return Item(json.loads(self._text[start:end], strict=False))
        except (ValueError, RecursionError) as error:
            return Item(None, str(error))

    def _token(self) -> _Token | None:
        """Read the next token; None if it is not all there."""
        space = _SPACE.match(self._text, self._place)
        start = space.end() if space else self._place
        self._place = start
        if start == len(self._text):
            return None
        kind = self._text[start]
        if kind == '"':
            end = self._string_end(start)
            kind = "string"
        elif kind in "{}[],:":
            end = start + 1
        else:
            found = _SCALAR.match(self._text, start)
            # white space that JSON doesn't know is read like a word
            end = found.end() if found else start + 1
            end = None if end == len(self._text) else end
            kind = "plain"
        if end is None:
            return None
        self._place = end
        return _Token(kind, start, end)

    def _string_end(self, start: int) -> int | None:
        place = max(self._string_place, start + 1)
        while stop := _STRING_STOP.search(self._text, place):
            if stop[0] == '"':
                self._string_place = 0
                return stop.end()
            if stop.end() == len(self._text):
                break
            place = stop.end() + 1
        self._string_place = stop.start() if stop else len(self._text)
        return None
