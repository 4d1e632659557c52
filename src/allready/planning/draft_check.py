"""Checks a plan entry by entry while it is written, and gives each task once it may start."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from unicodedata import combining, normalize

from allready.agents.context import TITLE_LIMIT, printable
from allready.plan.checks import describe_cycle, find_cycles
from allready.plan.models import ID_REGEX, shorten
from allready.plan.plan import ANSWER
from allready.planning.draft import DraftTask
from allready.planning.events import Noted, Written
from allready.planning.json_stream import Item

ID_LENGTH = 100
"""Characters that an id has at most."""
MAX_PROBLEMS = 50
"""That are told of one plan: enough to put it right."""
FIELDS = ("id", "title", "agent", "depends_on", "prompt")
ANSWER_RENAMED = f"{ANSWER}-task"
"""What a task is called that wants the id of the run's own answer."""
_NOT_IN_IDS = re.compile(r"[^A-Za-z0-9_.-]+")


class DraftCheck:
    """The tasks of one plan.

    `fixed` are there already: they can be depended on, but not written again. `agents` are the names that may
    be used; None: any.
    """

    def __init__(self, fixed: Sequence[DraftTask], agents: Collection[str] | None, max_tasks: int) -> None:
        self.fixed = {task.id: task for task in fixed}
        self.written: dict[str, DraftTask] = {}
        """All whose dependencies are written or fixed, too."""
        self.problems: list[str] = []
        self._agents = None if agents is None else frozenset(agents)
        self._folded = _by_folded_names(agents or ())
        self._max_tasks = max_tasks
        self._held: list[DraftTask] = []
        """Valid, but something they depend on has not come yet."""
        self._seen: set[str] = set()
        """All ids, those of tasks with problems included."""
        self._entries = 0
        self.too_many = False
        """Whether there are more tasks than there may be: nothing that follows is read."""
        self._notes: list[Noted] = []

    @property
    def tasks(self) -> list[DraftTask]:
        """All that hold: the fixed ones and the written ones."""
        return [*self.fixed.values(), *self.written.values()]

    def take(self, item: Item) -> list[Written | Noted]:
        """Take the next entry; give the tasks that may start now, and what was put right."""
        self._entries += 1
        self.too_many |= self._entries > self._max_tasks
        if self.too_many:
            return []
        self._notes = []
        task = self._read(item)
        written: list[Written] = []
        if task is not None:
            self._held.append(task)
            written = self._release()
        return [*self._notes, *written]

    def finish(self, incomplete: str | None) -> list[str]:
        """Give all that is wrong with the plan; `incomplete` says why its list has not come to its end."""
        problems = list(self.problems)
        if self.too_many:
            problems.append(f"more than {self._max_tasks} tasks: put some together into one")
        elif incomplete:
            problems.append(incomplete)
        if not self.too_many:  # else what is missing may be among what was not read
            problems += self._unmet()
        if not self.tasks and not problems:
            problems.append("the plan has no tasks")
        if len(problems) > MAX_PROBLEMS:
            problems[MAX_PROBLEMS:] = [f"and {len(problems) - MAX_PROBLEMS} more of this sort"]
        return problems

    # --- one entry ----------------------------------------------------------------------------------------

    def _read(self, item: Item) -> DraftTask | None:
        where = f"entry {self._entries}"
        if item.problem is not None:
            self._wrong(f"{where} is not valid JSON: {item.problem}")
            return None
        if not isinstance(item.value, dict):
            self._wrong(f"{where} is not an object but {shorten(item.value)}")
            return None
        name = self._id(item.value.get("id"), where)
        if name is None:
            return None
        if name in self.fixed:
            self._note(f"task {name!r} is there already: it stays as it is, what came for it is left out")
            return None
        if name in self._seen:
            self._wrong(f"the id {name!r} is used twice")
            return None
        self._seen.add(name)
        if len(self.tasks) + len(self._held) >= self._max_tasks:
            self.too_many = True
            return None
        return self._task(name, item.value)

    def _task(self, name: str, values: Mapping[str, Any]) -> DraftTask | None:
        before = len(self.problems)
        title, prompt = values.get("title"), values.get("prompt")
        if not isinstance(prompt, str) or not printable(prompt).strip():
            self._wrong(f"task {name!r} has no prompt")
        depends_on = self._depends_on(name, values.get("depends_on"))
        others = [shorten(key) for key in values if key not in FIELDS]
        if others:
            self._note(f"task {name!r}: {', '.join(others)} can't be set by a planner, and is left out")
        if len(self.problems) > before:
            return None
        return DraftTask(
            id=name,
            title=_line(title) if isinstance(title, str) else "",
            prompt=printable(str(prompt)).strip(),
            agent=self._agent(name, values.get("agent")),
            depends_on=depends_on,
        )

    def _id(self, value: Any, where: str) -> str | None:
        name = _as_id(value)
        if name is None:
            self._wrong(
                f"{where} has no id" if value in (None, "") else f"{where}: {shorten(value)} is no id"
            )
            return None
        if name != value:
            reason = f" (the id {ANSWER!r} is the answer's own)" if value == ANSWER else ""
            self._note(f"task {shorten(value)} is called {name!r}{reason}")
        return name

    def _depends_on(self, name: str, value: Any) -> tuple[str, ...]:
        if value is None:
            return ()
        if not isinstance(value, list):
            self._wrong(f"task {name!r}: depends_on is not a list of ids but {shorten(value)}")
            return ()
        ids: dict[str, None] = {}
        for entry in value:
            dependency = _as_id(entry)
            if dependency is None:
                self._wrong(f"task {name!r}: depends_on names {shorten(entry)}, which is no id")
            elif dependency == name:
                self._wrong(f"task {name!r} depends on itself")
            else:
                ids[dependency] = None
        return tuple(ids)

    def _agent(self, name: str, value: Any) -> str | None:
        if value in (None, ""):
            return None
        if self._agents is None and isinstance(value, str):
            return value
        wanted = value.strip() if isinstance(value, str) else ""
        known = wanted if wanted in (self._agents or ()) else self._folded.get(wanted.casefold())
        if known is None:
            self._note(f"task {name!r}: there is no agent {shorten(value)}; another one is chosen for it")
        return known

    def _wrong(self, problem: str) -> None:
        self.problems.append(problem)

    def _note(self, text: str) -> None:
        self._notes.append(Noted(text))

    # --- what they depend on ------------------------------------------------------------------------------

    def _release(self) -> list[Written]:
        """Write what is held back and has all its dependencies now."""
        released: list[Written] = []
        progress = True
        while progress:
            progress = False
            for task in list(self._held):
                if all(name in self.written or name in self.fixed for name in task.depends_on):
                    self._held.remove(task)
                    self.written[task.id] = task
                    released.append(Written(task))
                    progress = True
        return released

    def _unmet(self) -> list[str]:
        problems = [
            f"task {task.id!r} depends on {name!r}, which is not in the plan"
            for task in self._held
            for name in task.depends_on
            if name not in self._seen and name not in self.fixed
        ]
        index = {task.id: place for place, task in enumerate(self._held)}
        held = [[index[name] for name in task.depends_on if name in index] for task in self._held]
        for cycle in find_cycles(held):
            names = [self._held[place].id for place in cycle]
            problems.append(f"tasks depend on each other in a circle: {describe_cycle(names)}")
        return problems


def _by_folded_names(agents: Collection[str]) -> dict[str, str | None]:
    """Give agents by their names without regard to case; None where several would be meant."""
    found: dict[str, str | None] = {}
    for name in agents:
        folded = name.casefold()
        found[folded] = None if folded in found else name
    return found


def _as_id(value: Any) -> str | None:
    """Make an id of what stands in its place, always the same of the same; None if nothing is left of it."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        return None
    name = value
    if not ID_REGEX.fullmatch(value):
        letters = "".join(sign for sign in normalize("NFKD", value) if not combining(sign))
        name = _NOT_IN_IDS.sub("-", letters).strip("-").lstrip(".")[:ID_LENGTH]
    if name == ANSWER:
        return ANSWER_RENAMED
    return name if ID_REGEX.fullmatch(name) else None


def _line(text: str) -> str:
    line = " ".join(printable(text).split())
    return line if len(line) <= TITLE_LIMIT else f"{line[: TITLE_LIMIT - 1]}…"
