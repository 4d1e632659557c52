"""What a planner tells while it writes, and how it gives up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, TypeAlias

from allready.agents.secrets import Redactor
from allready.errors import OutsideError
from allready.planning.draft import DraftTask


class Written(NamedTuple):
    """A task is complete and valid, and so are all that it depends on: it may start."""

    task: DraftTask


class Noted(NamedTuple):
    """Something was put right or left out; a sentence for people."""

    text: str


class Again(NamedTuple):
    """The plan is asked for once more.

    Unless the planner was told to keep what it wrote, all tasks written so far are void.
    """

    reason: str
    problems: tuple[str, ...] = ()
    """What is wrong with the plan so far; empty if the stream broke off."""


class Waiting(NamedTuple):
    """The provider refuses for now; it is asked again after `delay` seconds."""

    reason: str
    delay: float


PlannerEvent: TypeAlias = Written | Noted | Again | Waiting


def blanked(event: PlannerEvent, redactor: Redactor) -> PlannerEvent:
    """Give the event without secrets in its texts. Ids stay: they are blanked where they are made."""
    blank = redactor.text
    match event:
        case Written(task):
            return Written(replace(task, title=blank(task.title), prompt=blank(task.prompt)))
        case Noted(text):
            return Noted(blank(text))
        case Again(reason, problems):
            return Again(blank(reason), tuple(map(blank, problems)))
        case Waiting(reason, delay):
            return Waiting(blank(reason), delay)


class PlanningFailed(OutsideError):
    """The model gave no valid plan, also after it was told what is wrong with it."""

    def __init__(
        self, message: str, problems: Sequence[str] = (), raw: str = "", *, at_limit: bool = False
    ) -> None:
        super().__init__(message)
        self.at_limit = at_limit
        """Whether it was not asked (again), because that would go beyond what may be used up."""
        self.problems = tuple(problems)
        """What is wrong with the last one."""
        self.raw = raw
        """All that the model wrote, round after round."""
