"""What the tasks of the reference plans do; each notes in the ledger that it begins and how it ends.

Light on imports: isolated functions are loaded in processes of their own.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence
from typing import Any

from tests.crash import ledger

LOOK_EVERY = 0.005
"""Seconds between two looks for what a task waits for."""
SHORT = 0.02
"""Seconds that a task takes which is to be under way while something else happens."""
LONG_TEXT = 150_000
"""Characters of an output that is kept in a file."""


def made(task: str, given: Sequence[Any] = ()) -> str:
    """Give what a task makes of what it is given: another value for each task and each input."""
    return f"{task}-{hashlib.sha256(repr(list(given)).encode()).hexdigest()[:16]}"


async def step(task: str, given: Sequence[Any] = (), seconds: float = 0.0) -> str:
    ledger.begin(task)
    await asyncio.sleep(seconds)
    return ledger.end(task, made(task, given))


async def unsteady(task: str, failures: int, given: Sequence[Any] = ()) -> str:
    """Fail this often, counted in the ledger; -1: always."""
    ledger.begin(task)
    await asyncio.sleep(0)
    if failures < 0 or ledger.failures(task) < failures:
        ledger.fail(task)
        raise ValueError(f"{task} fails on purpose")
    return ledger.end(task, made(task, given))


def gate(name: str) -> Any:
    return ledger.path().with_name(f"gate-{name}")


async def held(task: str, name: str = "never", given: Sequence[Any] = ()) -> str:
    """Wait until the gate is open."""
    ledger.begin(task)
    while not gate(name).exists():
        await asyncio.sleep(LOOK_EVERY)
    return ledger.end(task, made(task, given))


def thread(task: str, given: Sequence[Any] = ()) -> str:
    ledger.begin(task)
    time.sleep(SHORT)
    return ledger.end(task, made(task, given))


def patient(task: str) -> str:
    """Wait, in a thread, to be asked to stop."""
    from allready.agents.function import cancel_requested

    ledger.begin(task)
    while not cancel_requested():
        time.sleep(LOOK_EVERY)
    raise RuntimeError("was asked to stop")


def isolated(task: str, given: Sequence[Any] = ()) -> str:
    ledger.begin(task)
    return ledger.end(task, made(task, given))


def long_text(task: str, given: Sequence[Any] = ()) -> str:
    """Give a text that is too long for the store's row."""
    ledger.begin(task)
    value = made(task, given)
    ledger.end(task, value)
    return (value + " ") * (LONG_TEXT // len(value))


def long_data(task: str, given: Sequence[Any] = ()) -> list[str]:
    """Give structured output that is too long for the store's row."""
    ledger.begin(task)
    value = made(task, given)
    ledger.end(task, value)
    return [value] * (LONG_TEXT // len(value))


def digest(task: str, given: Sequence[Any]) -> str:
    ledger.begin(task)
    return ledger.end(task, made(task, given))
