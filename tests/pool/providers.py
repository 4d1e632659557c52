"""Providers of models as a pool meets them, on a clock that is only a number."""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from typing import NamedTuple, Protocol

from allready.errors import ConcurrencyLimit
from allready.pool.provider import ProviderGate

TRIP = 0.015
"""Seconds that a request is on its way."""


class Provider(Protocol):
    def ask(self, now: float) -> float | None:
        """Let a request in (None), or say after how many seconds it may come again."""

    def end(self) -> None:
        """Note that a request was answered."""


class FixedWindow:
    """So many requests in each minute of the clock."""

    def __init__(self, requests: int) -> None:
        self.requests = self.left = requests
        self.minute = 0

    def ask(self, now: float) -> float | None:
        if now // 60 != self.minute:
            self.minute, self.left = int(now // 60), self.requests
        if not self.left:
            return math.ceil((self.minute + 1) * 60 - now)
        self.left -= 1
        return None

    def end(self) -> None:
        pass


class SlidingWindow:
    """So many requests in any minute."""

    def __init__(self, requests: int) -> None:
        self.requests = requests
        self.log: deque[float] = deque()

    def ask(self, now: float) -> float | None:
        while self.log and self.log[0] <= now - 60:
            self.log.popleft()
        if len(self.log) >= self.requests:
            return math.ceil(self.log[0] + 60 - now)
        self.log.append(now)
        return None

    def end(self) -> None:
        pass


class Bucket:
    """So many requests a minute, and so many at once."""

    def __init__(self, requests: int, burst: float) -> None:
        self.rate = requests / 60
        self.burst = self.left = burst
        self.at = 0.0

    def ask(self, now: float) -> float | None:
        self.left = min(self.burst, self.left + (now - self.at) * self.rate)
        self.at = now
        if self.left < 1:
            return math.ceil((1 - self.left) / self.rate)
        self.left -= 1
        return None

    def end(self) -> None:
        pass


class AtOnce:
    """So many requests at once."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.active = 0

    def ask(self, now: float) -> float | None:
        if self.active >= self.most:
            return 1
        self.active += 1
        return None

    def end(self) -> None:
        self.active -= 1


class Served(NamedTuple):
    answered: int
    refused: int

    @property
    def refused_share(self) -> float:
        return self.refused / (self.answered + self.refused)


def serve(
    provider: Provider,
    gate: ProviderGate,
    *,
    places: int,
    latency: float,
    seconds: float,
    hint: bool = True,
    until: float = math.inf,
) -> Served:
    """Let a pool with so many places, and work without end, ask the provider through the gate.

    Answers take about `latency` seconds (log-normal); `hint`: refusals say when to come again.
    """
    chance = random.Random(1)
    now, count, answered, refused = 0.0, 0, 0, 0
    events: list[tuple[float, int, str, float]] = []
    while now < seconds:
        while gate.active < places:
            try:
                gate.check(now)
            except ConcurrencyLimit:
                break
            gate.take(now)
            count += 1
            heapq.heappush(events, (now + TRIP, count, "arrives", now))
        opens = gate.opens_at(now) if gate.active < places else None
        now = min(events[0][0] if events else math.inf, math.inf if opens is None else opens)
        assert now < math.inf, "nobody would ever ask again"
        while events and events[0][0] <= now:
            _, _, what, sent_at = heapq.heappop(events)
            count += 1
            if what == "arrives":
                wait = provider.ask(now)
                if wait is None:
                    answered += 1
                    takes = latency * chance.lognormvariate(0, 0.3)
                    heapq.heappush(events, (now + takes, count, "answered", sent_at))
                else:
                    refused += 1
                    heapq.heappush(events, (now + TRIP, count, f"refused {wait}", sent_at))
            elif what == "answered":
                provider.end()
                gate.answered(now)
                gate.give_back()
            else:
                gate.refused(now, sent_at, float(what.split()[1]) if hint else None)
                gate.give_back()
    return Served(answered, refused)
