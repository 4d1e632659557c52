"""`Claims`: sees to it that a big demand for a resource is not passed by for ever by small ones."""

from __future__ import annotations

from collections.abc import Sequence

PATIENCE = 8
"""How many requests may pass one by that waits for more units of a resource: then they are kept for it."""

Asker = tuple[str, str]
"""Run and task."""


class _Passed:
    """What somebody waits for that others get."""

    __slots__ = ("asked", "demand", "silent", "times")

    def __init__(self, demand: dict[str, int]) -> None:
        self.demand = demand
        self.times = 0
        """How many requests for the same resources were admitted since."""
        self.asked = True
        """Whether it was asked for in the tick of its run that goes on."""
        self.silent = 0
        """Ticks of its run in a row in which it was not."""


class Claims:
    """Who was refused for a resource while others were admitted, and for whom its units are kept.

    They are kept for one at a time, so that no two wait for units that are kept for the other.
    """

    def __init__(self) -> None:
        self._passed: dict[Asker, _Passed] = {}
        self.holder: Asker | None = None
        """For whom units are kept now."""

    def __bool__(self) -> bool:
        return bool(self._passed)

    def refused(self, asker: Asker, demand: dict[str, int]) -> None:
        """Note that somebody was refused for a resource: name → units of all that it needs."""
        self._passed.setdefault(asker, _Passed(demand)).asked = True

    def kept(self, resource: str, asker: Asker) -> tuple[int, str]:
        """Give how many units of a resource are kept for others than `asker`, and for which task."""
        if self.holder is None or self.holder == asker:
            return 0, ""
        return self._passed[self.holder].demand.get(resource, 0), self.holder[1]

    def admitted(self, asker: Asker, resources: Sequence[tuple[str, int]]) -> None:
        """Note that somebody was admitted: others that wait for the same resources were passed by."""
        self._drop(asker)
        for waiting, passed in self._passed.items():
            if any(name in passed.demand for name, _ in resources):
                passed.times += 1
                if passed.times >= PATIENCE and self.holder is None:
                    self.holder = waiting

    def end_of_tick(self, run: str, *, full: bool) -> None:
        """Forget what this run waited for and has not asked for any more.

        When the pool is `full`, it may have been refused before it asked: then after some ticks like that, so
        that nothing is kept for long for what others stand before.
        """
        for asker, passed in list(self._passed.items()):
            if asker[0] == run:
                passed.silent = 0 if passed.asked else passed.silent + 1
                if passed.silent > (PATIENCE if full else 0):
                    self._drop(asker)
                passed.asked = False

    def leave(self, run: str) -> None:
        """Forget all that this run waited for."""
        for asker in [asker for asker in self._passed if asker[0] == run]:
            self._drop(asker)

    def _drop(self, asker: Asker) -> None:
        if self._passed.pop(asker, None) is not None and self.holder == asker:
            patient = (who for who, passed in self._passed.items() if passed.times >= PATIENCE)
            self.holder = next(patient, None)
