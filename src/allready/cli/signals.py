"""Signals that ask this process to stop: a terminal's Ctrl-C, a container's stop, a closed terminal."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """A signal came while nothing was under way that has to be ended in order."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


_unheard: list[int] = []
"""Signals for which `stop` raised an exception: if we still go on, it was where exceptions are ignored."""


def listen() -> None:
    """Have `stop` called for each signal; those that are ignored (as under nohup) stay so."""
    for number in SIGNALS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, stop)


def listen_no_more(code: int) -> None:
    """Have a signal end this process at once, with its exit code: all is done and told."""
    for number in SIGNALS:
        if signal.getsignal(number) is stop:
            signal.signal(number, lambda *_: os._exit(code))


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
                before[number] = signal.signal(number, handler)
        while _unheard:
            handler(_unheard.pop(), None)
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
