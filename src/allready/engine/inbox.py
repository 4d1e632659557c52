"""`Inbox`: where the ends of attempts and the wishes of people wait for the loop."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Inbox(Generic[T]):
    """A queue of one event loop that loses nothing, and an alarm clock.

    It has no upper bound on purpose: what it could hold at most is bounded already (one end for each attempt
    under way), it always has room for twice the number of tasks, and an end that is dropped is lost for good.
    """

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._alarm: asyncio.Future[None] | None = None
        self._woken = False

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> None:
        """Add an item, and wake whoever waits. Only from the event loop's own thread."""
        self._items.append(item)
        alarm = self._alarm
        if alarm is not None and not alarm.done():
            alarm.set_result(None)

    def wake(self) -> None:
        """End the present wait (or the next one, if nobody waits) without an item."""
        self._woken = True
        alarm = self._alarm
        if alarm is not None and not alarm.done():
            alarm.set_result(None)

    def take_all(self) -> list[T]:
        """Take everything that is there, in order."""
        items = list(self._items)
        self._items.clear()
        return items

    async def wait(self, timeout: float | None) -> None:
        """Return at the first of: an item is there, `wake()`, `timeout` seconds (None: no limit)."""
        if not self._items and not self._woken:
            loop = asyncio.get_running_loop()
            self._alarm = alarm = loop.create_future()
            timer = None
            if timeout is not None:
                timer = loop.call_later(timeout, _ring, alarm)
            try:
                await alarm
            finally:
                self._alarm = None
                if timer is not None:
                    timer.cancel()
        self._woken = False


def _ring(alarm: asyncio.Future[None]) -> None:
    if not alarm.done():
        alarm.set_result(None)
