"""Garbage collection while runs are driven: rarer than Python does it by itself.

CPython looks for cycles after every 700 objects that stay, and goes through all objects of the process when
those have grown by a quarter. A run makes many objects for each task, which stay and are in no cycle, so that
with 100,000 tasks that looking takes two fifths of the time (`benchmarks/growth.py`). Looking after every
10,000 takes next to nothing, and what cycles keep meanwhile is some megabytes.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

LOOK_AFTER = 10_000
"""Objects."""

_driven = 0
_before: tuple[int, int, int] | None = None
"""The thresholds to go back to; None: they were left alone."""


@contextmanager
def collect_rarely() -> Iterator[None]:
    """Raise the first threshold of the garbage collector, until the last of those who want that has left.

    A threshold that is higher already, or 0 (never), is somebody's choice and stays.
    """
    global _driven, _before
    if not _driven and 0 < gc.get_threshold()[0] < LOOK_AFTER:
        _before = gc.get_threshold()
        gc.set_threshold(LOOK_AFTER, *_before[1:])
    _driven += 1
    try:
        yield
    finally:
        _driven -= 1
        if not _driven and _before is not None:
            if gc.get_threshold()[0] == LOOK_AFTER:  # else somebody has chosen meanwhile
                gc.set_threshold(*_before)
            _before = None
