"""The ledger of a trial: what attempts and processes did, noted outside of the store, a line each.

Each line is appended with one small write to a file that is open for appending, so no crash can tear it, and
the order is that of what happened. Words are separated by blanks, so none may have one:

    process KIND PID                    a process of the harness begins: `drive` or `person`
    start TASK NUMBER KEY PID           an attempt begins: its number and its idempotency key
    fail TASK NUMBER                    it is about to fail
    end TASK NUMBER VALUE               it is about to give this
    child TASK PID                      it started a process of its own
    told SEQ TYPE TASK ATTEMPT          the driver was told this event, which therefore is durable
    left PID COMMAND                    a process of the trial was there although the run had been taken up
    wish NUMBER                         a person's wish with this number (of those under way) is on record
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import NamedTuple

LEDGER_VARIABLE = "CRASH_LEDGER"
"""In the environment of all processes of a trial: where its ledger is; they are found by it, too."""
NOTHING = "-"


class Here(NamedTuple):
    """The attempt that code belongs to."""

    number: int
    key: str


here: ContextVar[Here | None] = ContextVar("here", default=None)
"""Set in the process that drives the run; processes of commands and isolated functions have variables."""


def _nothing(_: str) -> None:
    """In a process that is not to be killed."""


passing: Callable[[str], None] = _nothing
"""Told the name of each point in a task that is passed; the process may be killed there."""


def path() -> Path:
    return Path(os.environ[LEDGER_VARIABLE])


def note(*words: object) -> None:
    """Append a line."""
    descriptor = os.open(path(), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, (" ".join(map(str, words)) + "\n").encode())
    finally:
        os.close(descriptor)


def lines(ledger: Path) -> Iterator[list[str]]:
    """Give the lines of a ledger as lists of words."""
    if ledger.exists():
        for line in ledger.read_text().splitlines():
            yield line.split(" ")


def failures(task: str) -> int:
    """Count how often a task has failed so far."""
    return sum(line[:2] == ["fail", task] for line in lines(path()))


def begin(task: str) -> None:
    """Note that an attempt begins."""
    attempt = _attempt()
    note("start", task, attempt.number, attempt.key, os.getpid())
    passing("task.begun")


def fail(task: str) -> None:
    """Note that the attempt fails; whoever calls this raises next."""
    note("fail", task, _attempt().number)
    passing("task.failing")


def end(task: str, value: str) -> str:
    """Note what the attempt gives, and give it."""
    note("end", task, _attempt().number, value)
    passing("task.done")
    return value


def _attempt() -> Here:
    attempt = here.get()
    return attempt or Here(int(os.environ["ALLREADY_ATTEMPT"]), os.environ["ALLREADY_IDEMPOTENCY_KEY"])
