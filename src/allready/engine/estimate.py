"""How long a run will still take, roughly: for people who wait."""

from __future__ import annotations

from allready.core.graph import TaskGraph
from allready.core.states import CANCELING, COMPLETED, ENDED, RUNNING


def remaining_seconds(graph: TaskGraph, slots: int, now: float) -> float | None:
    """Give about how many seconds are left; None as long as there is nothing to judge by.

    A task takes what its `estimate` says, else what completed tasks took on average. The result is the larger
    of two lower bounds, the work divided by the places and the longest single task that is left, so a long
    chain is underrated at first.
    """
    known = [node.duration for node in graph if node.state is COMPLETED and node.duration is not None]
    average = sum(known) / len(known) if known else None
    work = longest = 0.0
    for node in graph:
        if node.state in ENDED:
            continue
        estimate = node.spec.estimate if node.spec.estimate is not None else average
        if estimate is None:
            return None
        spent = 0.0
        if (node.state is RUNNING or node.state is CANCELING) and node.started_at is not None:
            spent = now - node.started_at
        left = max(0.0, estimate - spent)
        work += left
        longest = max(longest, left)
    return max(work / slots, longest)
