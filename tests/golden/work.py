"""What the tasks of recorded runs do."""

from __future__ import annotations

import asyncio
from collections import Counter

from allready.errors import FatalError, LostError, PermanentError, TaskError, TransientError

calls: Counter[str] = Counter()
"""Task → how often it was called in this run."""
ENDS: dict[str, Exception] = {
    "fails": TaskError("it went wrong"),
    "fails for good": PermanentError("it can't be done"),
    "ends the run": FatalError("nothing of this kind can be done"),
    "is lost": LostError("its worker is gone"),
    "is refused": TransientError("too many requests", 4.0),
    "is refused without a word": TransientError("overloaded"),
}


async def take(name: str, seconds: float, ends: list[str]) -> str:
    """Take so long; end the first time as the first of `ends` says, and so on, then well."""
    calls[name] += 1
    await asyncio.sleep(seconds)
    if calls[name] <= len(ends):
        raise ENDS[ends[calls[name] - 1]]
    return name
