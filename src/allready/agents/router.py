"""Who does a task that names no agent: the one whose words fit best."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from allready.agents.definitions import AgentDefinition

_STOP_WORDS = (
    "about agent all and any are but can each file files for from has have her his how into its just may "
    "more must new not only other our out should some task tasks than that the their them then there these "
    "they this use used uses using was were what when where which who will with work you your"
)
STOP_WORDS = frozenset(_STOP_WORDS.split())
"""Words that say nothing about what a task or an agent is about."""

_OPENING = re.compile(r"\{[{%]")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")
_WORD = re.compile(r"[^\W\d_]{3,}")


class Match(NamedTuple):
    """How well an agent fits a task."""

    agent: str
    words: tuple[str, ...]
    """What they have in common, in alphabetical order."""

    @property
    def score(self) -> int:
        """The more, the better."""
        return len(self.words)


class Routing(NamedTuple):
    """A choice, and all that it was made from."""

    agent: str | None
    """None: there is nobody to choose."""
    matches: tuple[Match, ...]
    """All agents in the order of their definition."""

    def __str__(self) -> str:
        """Say in a sentence who was chosen and why."""
        if self.agent is None:
            return "no agent is defined"
        if not any(match.score for match in self.matches):
            return f"{self.agent}: the first one, as the task has no word in common with any"
        ranked = sorted(self.matches, key=lambda match: -match.score)
        return "; ".join(
            f"{match.agent}: {match.score} ({', '.join(match.words)})" if match.words else f"{match.agent}: 0"
            for match in ranked
        )


class Router:
    """Chooses among agents by the words that a task shares with their names, descriptions and tools.

    Deterministic: the most words win, and among equals the one that was defined first; if no agent has a word
    in common with the task, the first does it. Every kind of agent can answer a prompt.
    """

    def __init__(self, definitions: Sequence[AgentDefinition]) -> None:
        self._words = [
            (agent.name, words_of(agent.name, agent.description, *(agent.tools or ())))
            for agent in definitions
        ]

    def route(self, title: str, prompt: str) -> str | None:
        """Give the name of the agent for a task; None if there is no agent at all."""
        wanted = words_of(title, prompt)
        return max(self._words, key=lambda agent: len(agent[1] & wanted), default=(None, None))[0]

    def explain(self, title: str, prompt: str) -> Routing:
        """Give the same choice with what each agent has in common with the task."""
        wanted = words_of(title, prompt)
        matches = tuple(Match(name, tuple(sorted(words & wanted))) for name, words in self._words)
        return Routing(self.route(title, prompt), matches)


def words_of(*texts: str) -> frozenset[str]:
    """Give the words that count: of three letters or more, lower case, `WebSearch` as two, no templates."""
    words: set[str] = set()
    for text in texts:
        plain = _HUMP.sub(" ", _without_templates(text))
        words.update(word.casefold() for word in _WORD.findall(plain))
    return frozenset(words - STOP_WORDS)


def _without_templates(text: str) -> str:
    """Put a blank in the place of each template, in one go also if none is closed."""
    kept: list[str] = []
    position, unclosed = 0, set()
    search = 0
    while found := _OPENING.search(text, search):
        search = found.end()
        closing = "}}" if found[0] == "{{" else "%}"
        end = -1 if closing in unclosed else text.find(closing, search)
        if end < 0:
            unclosed.add(closing)
            continue
        kept.append(text[position : found.start()])
        position = search = end + len(closing)
    kept.append(text[position:])
    return " ".join(kept)
