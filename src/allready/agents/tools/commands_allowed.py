"""Which commands an agent may run: rules such as `git log:*`, and whether a command line fits one."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import NamedTuple

_ANY_REST = (":*", " *")
"""Endings of a rule that allow any further arguments; both are in use in Claude's settings."""


class CommandRule(NamedTuple):
    """The words that a command must begin with, or be made of."""

    words: tuple[str, ...]
    exact: bool
    """Whether nothing may follow the words."""

    def allows(self, argv: Sequence[str]) -> bool:
        """Say whether the command is allowed: word by word, never by the beginning of a word."""
        head = tuple(argv[: len(self.words)])
        return head == self.words and (not self.exact or len(argv) == len(self.words))

    def __str__(self) -> str:
        """As a person reads it: `git log …`."""
        return shlex.join(self.words) + ("" if self.exact else " …")


def command_rule(text: str) -> CommandRule:
    """Read `git log:*` (these words and anything after them) or `git status` (exactly this).

    Raises `ValueError` that says what is wrong with it.
    """
    text = text.strip()
    ending = next((ending for ending in _ANY_REST if text.endswith(ending)), "")
    words = split_words(text.removesuffix(ending))
    if not words or text == "*":
        raise ValueError("it names no command")
    return CommandRule(words, exact=not ending)


def split_words(text: str) -> tuple[str, ...]:
    """Split a command as a shell would, without running one: `;`, `|`, `>`, `$` and `*` are just characters.

    Raises `ValueError` if a quote is not closed.
    """
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise ValueError(f"the command can't be split into words: {str(error).lower()}") from None
