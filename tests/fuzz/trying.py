"""How hostile inputs are tried: how many, how they are counted, and what must not take forever.

`ALLREADY_FUZZ=20 ./dev pytest tests/fuzz` tries twenty times as many, other ones each time.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from allready.errors import PlanError

FUZZ = int(os.environ.get("ALLREADY_FUZZ", "0"))
DEADLINE = 120.0
"""Seconds for one input; most take milliseconds, on a machine that has time."""
LONGEST_MESSAGE = 1_000
"""Characters of a message about one thing that is wrong."""

RANDOMS = st.randoms(use_true_random=True)
"""For what is made by chance alone: much quicker than out of strategies, and replayed all the same."""

tried: Counter[str] = Counter()
"""Kind of input → how many were tried by the test that runs."""


def inputs(count: int) -> Callable[[Any], Any]:
    """Let a test try so many inputs, always the same ones unless more are asked for."""
    return settings(
        max_examples=count * max(1, FUZZ),
        derandomize=not FUZZ,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@contextmanager
def bounded() -> Iterator[None]:
    """Raise in what takes too long; the main thread only."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise AssertionError(f"it took more than {DEADLINE} s")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, DEADLINE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def check_messages(error: PlanError) -> None:
    """Check that something is said, and not too much of it."""
    assert error.problems
    for problem in error.problems:
        assert problem.message
        assert len(problem.message) <= LONGEST_MESSAGE, problem.message[:200]


def check_problems(error: PlanError, text: str | bytes, file: str, *, placed: bool = True) -> None:
    """Check that what is said against a text names the file, and a place that is there."""
    check_messages(error)
    whole = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    lines = len(whole.splitlines()) + 1 + whole.count("\r")
    for problem in error.problems:
        assert problem.file == file
        if placed:
            assert problem.line is not None
            assert problem.column is not None
            assert 1 <= problem.line <= lines, problem
            assert 1 <= problem.column <= len(whole) + 2, problem
