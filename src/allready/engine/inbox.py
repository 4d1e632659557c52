"""`Inbox`: where the ends of attempts and the wishes of people wait for the loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Inbox(Generic[T]):
    """A queue of one event loop that loses nothing, and an alarm clock.

    It has no upper bound on purpose: what it could hold at most is bounded already (one end for each attempt
    under way), it always has room for twice the number of tasks, and an end that is dropped is lost for good.
    """

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._alarm: asyncio.Future[bool] | None = None
        self._woken = False
        self._due: float | None = None
        """When the present wait is over, on the event loop's clock; None: it has no limit."""
        self._timer: asyncio.TimerHandle | None = None
        """Outlives a wait: most waits end early, and have a later limit than the one before."""

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> None:
        """Add an item, and wake whoever waits. Only from the event loop's own thread."""
        self._items.append(item)
        alarm = self._alarm
        if alarm is not None and not alarm.done():
            alarm.set_result(True)

    def wake(self) -> None:
        """End the present wait (or the next one, if nobody waits) without an item."""
        self._woken = True
        alarm = self._alarm
        if alarm is not None and not alarm.done():
            alarm.set_result(True)

    def take_all(self) -> Iterator[T]:
        """Take everything that is there, in order; each item is taken when it is asked for."""
        items = self._items
        while items:
            yield items.popleft()

    async def wait(self, timeout: float | None) -> bool:
        """Wait until an item is there, for `wake()`, or for `timeout` seconds (None: no limit).

        Gives False if only the time has passed.
        """
        alarm = self.arm(timeout)
        if alarm is None:
            return True
        try:
            await alarm
        finally:
            self.disarm()
        return alarm.result()

    def arm(self, timeout: float | None) -> asyncio.Future[bool] | None:
        """Give what `wait()` would wait for, to be followed by `disarm()`; None if there is no need to."""
        if self._items or self._woken:
            self._woken = False
            return None
        loop = asyncio.get_running_loop()
        alarm: asyncio.Future[bool] = loop.create_future()
        self._alarm = alarm
        if timeout is None:
            self._due = None
        else:
            self._due = due = loop.time() + timeout
            if self._timer is None or self._timer.when() > due:
                self._set_timer(due)
        return alarm

    def disarm(self) -> None:
        """End a wait that `arm()` began: what woke it counts no more."""
        self._alarm = None
        self._woken = False

    def close(self) -> None:
        """Let go of the timer. The items stay."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self, due: float) -> None:
        self.close()
        self._timer = asyncio.get_running_loop().call_at(due, self._ring, due)

    def _ring(self, rung: float) -> None:
        self._timer = None
        alarm, due = self._alarm, self._due
        if alarm is None or alarm.done() or due is None:
            return
        if due > rung:
            self._set_timer(due)
        else:
            alarm.set_result(False)
