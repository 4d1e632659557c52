"""Signals that ask this process to stop: a terminal's Ctrl-C, a container's stop, a closed terminal.

Forks (of a function that uses `multiprocessing`) hear them as if we had never listened: they are to end, and
they know nothing of the run. Signals that come while a fork is made wait until it has been made so.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """A signal came while nothing was under way that has to be ended in order."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


_unheard: list[int] = []
"""Signals for which `stop` raised an exception: if we still go on, it was where exceptions are ignored."""


_taken: dict[int, tuple[Any, Any]] = {}
"""Signal → our handler, and the one that was there before any of ours."""
_held = threading.local()
"""`mask`: the signals that were held back in this thread before it began to fork."""


def listen() -> None:
    """Have `stop` called for each signal; those that are ignored (as under nohup) stay so."""
    for number in SIGNALS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            _take(number, stop)


def listen_no_more(end: Callable[[], None]) -> None:
    """Have a signal end this process at once, by calling `end`: all is done and told."""
    for number in SIGNALS:
        if signal.getsignal(number) is stop:
            _take(number, lambda *_: end())


def stop(number: int, _frame: FrameType | None) -> None:
    """Leave whatever is being done; the handler where there is no better one."""
    _unheard.append(number)
    raise KeyboardInterrupt if number == signal.SIGINT else Stopped(number)


@contextlib.contextmanager
def heard_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Have a handler called for each signal, in the main thread between any two steps of Python code.

    Not by the event loop, which a task's code may hold up. Signals that are ignored (as under nohup) stay so.
    """
    before = {}
    try:
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.getsignal(number)
                _take(number, handler)
        while _unheard:
            handler(_unheard.pop(), None)
        yield
    finally:
        for number, previous in before.items():
            _take(number, previous)


def _take(number: int, handler: Any) -> None:
    if not _taken:
        os.register_at_fork(before=_hold, after_in_parent=_let_through, after_in_child=_in_fork)
    now = signal.getsignal(number)
    ours, theirs = _taken.get(number, (None, now))
    _taken[number] = (handler, theirs if now is ours else now)
    signal.signal(number, handler)


def _hold() -> None:
    _held.mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def _let_through() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _held.mask)


def _in_fork() -> None:
    for number, (ours, theirs) in _taken.items():
        if signal.getsignal(number) is ours:
            signal.signal(number, theirs or signal.SIG_DFL)
    _let_through()
