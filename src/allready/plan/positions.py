"""Where in a text each value of a document stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

Path = Sequence[str | int]
"""The way from the document's root to a value: keys of mappings and indexes of lists."""


class Place(NamedTuple):
    """A line and a column, both from 1."""

    line: int
    column: int


class Positions:
    """The place of one value, and below it those of what it contains.

    `children` has, by key or index, the place of the key (for an item of a list: of the item) and the
    positions of the value.
    """

    __slots__ = ("children", "place")

    def __init__(self, place: Place) -> None:
        self.place = place
        self.children: dict[str | int, tuple[Place, Positions]] | None = None

    def add(self, step: str | int, place: Place, positions: Positions) -> None:
        """Note where a key (or item) and its value stand; a key that is noted again has its last place."""
        if self.children is None:
            self.children = {}
        self.children[step] = (place, positions)

    def of_value(self, path: Path) -> Place:
        """Give the place of the value at `path`, or of the nearest thing around it that has one."""
        return self._find(path)[1]

    def of_key(self, path: Path) -> Place:
        """Give the place of the key that leads to the value at `path`, or of the nearest thing around it."""
        return self._find(path)[0]

    def _find(self, path: Path) -> tuple[Place, Place]:
        node, key_place = self, self.place
        for step in path:
            child = node.children.get(step) if node.children else None
            if child is None:
                return node.place, node.place
            key_place, node = child
        return key_place, node.place
