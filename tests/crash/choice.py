"""Which crashes to try of a plan: all, or some of them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from tests.crash.trial import Crash, Result

DIVISOR = 10
"""Of a sample one in so many is a kill from outside."""


def crashes_of(clean: Result, outside: int, chance: random.Random) -> Iterator[Crash]:
    """Give all points of a run, and some moments of its processes."""
    for process, trace in sorted(clean.traces.items()):
        for point in trace:
            yield Crash(process, point)
    for _ in range(outside):
        process = chance.choice(sorted(clean.seconds))
        yield Crash(process, None, chance.uniform(0.0, clean.seconds[process]))


def sample(crashes: Sequence[Crash], number: int, chance: random.Random) -> list[Crash]:
    """Give so many of these; kinds of points that are rare are not left out for those that are frequent."""
    kinds: dict[str, list[Crash]] = {}
    for crash in chance.sample(crashes, len(crashes)):
        kinds.setdefault(str(crash.point).partition("#")[0], []).append(crash)
    chosen: list[Crash] = []
    lists = chance.sample(list(kinds.values()), len(kinds))
    while len(chosen) < min(number, len(crashes)):
        for rest in lists:
            if rest and len(chosen) < number:
                chosen.append(rest.pop())
    return chosen
