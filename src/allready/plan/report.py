"""Collects what is wrong with a document, so that all of it is said at once."""

from __future__ import annotations

from collections.abc import Collection
from itertools import chain

from allready.errors import PlanError, Problem
from allready.plan.document import Document, sorted_problems
from allready.plan.positions import Path
from allready.plan.problems import did_you_mean

MAX_SEARCHES = 50
"""How often similar names are looked for; a plan with more wrong names has one cause for them all."""
MAX_COMPARED = 20_000
"""Names that are compared for that in all: takes two seconds at most."""


class Report:
    """The problems of one document so far."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems: list[Problem] = []
        """Beside those of the document itself."""
        self._searches = 0
        self._compared = 0

    def add(self, message: str, path: Path = (), *, at_key: bool = False) -> None:
        """Note what is wrong with the value at `path`, or with its key."""
        self.problems.append(self.document.problem(message, path, at_key=at_key))

    def add_outside(self, message: str) -> None:
        """Note what is wrong with the plan, but stands nowhere in its text."""
        self.problems.append(Problem(message, self.document.file))

    def similar(self, name: str, *known: Collection[str]) -> str:
        """Give `; did you mean 'x'?` if something similar is known, else nothing."""
        self._searches += 1
        self._compared += sum(map(len, known))
        if self._searches > MAX_SEARCHES or self._compared > MAX_COMPARED:
            return ""
        return did_you_mean(name, known[0] if len(known) == 1 else [*chain(*known)])

    def raise_if_any(self) -> None:
        """Raise `PlanError` with the problems in reading order.

        Where the text itself is wrong, nothing more is said of the value that was made of it.
        """
        told = {(problem.line, problem.column) for problem in self.document.problems}
        more = [problem for problem in self.problems if (problem.line, problem.column) not in told]
        if told or more:
            raise PlanError(sorted_problems([*self.document.problems, *more]))
