"""Virtual time for asyncio: a day of timeouts and retries runs in milliseconds, the same way each time.

    from allready.testing import run_virtual

    def test_gives_up_after_a_minute():
        async def scenario():
            loop = asyncio.get_running_loop()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(60):
                    await asyncio.sleep(3600)
            return loop.time()

        assert run_virtual(scenario()) == 60

`loop.time()` stands still while anything can be done. When all tasks wait, it jumps to the next timer. When
they wait and there is no timer, nothing can ever happen: that raises `DeadlockError`, which names the
tasks and the lines they wait in, instead of hanging.

**Outside work** takes no virtual time: while it is under way the clock stands still and the loop waits for it
in real time. The loop knows of executors (`asyncio.to_thread`), subprocesses, sockets and pipes. What it
can't know of (a thread of your own that will use `call_soon_threadsafe`) is announced with
`with loop.outside_work():`. Outside work that must itself wait for virtual time to pass can't end; after
`patience` real seconds of silence that is an error, too.

The same program does the same things at the same times and in the same order; only the order in which
several threads or processes end is theirs. `time.monotonic()` and `time.time()` stay real.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import math
import selectors
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

PATIENCE = 30.0
"""Real seconds for outside work to say something: much for a test, little for someone who waits for it."""
RESOLUTION = 1e-9
"""Seconds between two times that count as one; grows with the time itself, as floats get coarser."""


class DeadlockError(RuntimeError):
    """Every task waits, and nothing that they wait for can happen any more."""


class _Timer(asyncio.TimerHandle):
    """Times are often equal when they are virtual; asyncio's own timers have then no order of their own."""

    order = 0
    _scheduled: bool

    def __lt__(self, other: object) -> bool:
        if isinstance(other, _Timer):
            return (self.when(), self.order) < (other.when(), other.order)
        return NotImplemented


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer whenever nothing else can happen.

    `start` is what `time()` gives at first, `patience` how many real seconds outside work may be silent.
    See the module's head for how time passes.
    """

    _scheduled: list[asyncio.TimerHandle]
    _check_closed: Callable[[], None]
    _timer_type = _Timer

    def __init__(self, start: float = 0.0, *, patience: float = PATIENCE) -> None:
        self._now = start
        self._patience = patience
        self._outside = 0
        self._timers_made = 0
        self._waiting_selector = _Selector(self._idle)
        super().__init__(self._waiting_selector)
        self._own_files = len(self._waiting_selector.get_map())
        self._move_to(start)

    def time(self) -> float:
        """Give the virtual time in seconds."""
        return self._now

    @contextmanager
    def outside_work(self) -> Iterator[None]:
        """Keep the clock still: something outside the loop is under way and will call back."""
        self._outside += 1
        try:
            yield
        finally:
            self._outside -= 1

    def _outside_ended(self, _: object = None) -> None:
        self._outside -= 1

    # --- how time passes ----------------------------------------------------------------------------------

    def _idle(self, wait: Callable[[float], list[Any]]) -> list[Any]:
        """Answer the loop when it has nothing to do: with what came from outside, or after a jump."""
        if self._outside or len(self._waiting_selector.get_map()) > self._own_files:
            return wait(self._patience) or self._raise(
                f"outside work (threads, processes, sockets) was silent for {self._patience:g} real seconds, "
                f"and virtual time stands still at {self._now:g} until it goes on. Does it wait for virtual "
                "time, or is a socket open that nobody will write to?"
            )
        timers = self._scheduled
        if not timers or math.isinf(timers[0].when()):
            self._raise(
                f"deadlock at virtual time {self._now:g}: every task waits, and there is no timer left. "
                "(Announce threads that will call back with `with loop.outside_work():`.)"
            )
        self._move_to(timers[0].when())
        return []

    def _move_to(self, time: float) -> None:
        self._now = max(self._now, time)
        self._clock_resolution = max(RESOLUTION, math.ulp(self._now))

    def _raise(self, message: str) -> list[Any]:
        waiting = sorted(map(_describe, asyncio.all_tasks(self)))
        raise DeadlockError("\n  ".join([message, *waiting]))

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call `callback(*args)` at the virtual time `when`; of several at one time, first come first."""
        self._check_closed()
        self._timers_made += 1
        timer = self._timer_type(when, callback, args, self, context)
        timer.order = self._timers_made
        timer._scheduled = True
        heapq.heappush(self._scheduled, timer)
        return timer

    # --- outside work that the loop knows of --------------------------------------------------------------

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Run `func(*args)` in a thread or process; takes no virtual time."""
        future = super().run_in_executor(executor, func, *args)
        self._outside += 1
        future.add_done_callback(self._outside_ended)
        return future

    async def shutdown_default_executor(self, *args: Any, **kwargs: Any) -> None:
        """Wait in real time for the threads to end."""
        with self.outside_work():
            await super().shutdown_default_executor(*args, **kwargs)

    async def subprocess_exec(self, protocol_factory: Any, *args: Any, **kwargs: Any) -> Any:
        """Start a process; takes no virtual time, from its start to its end."""
        with self.outside_work():
            return await super().subprocess_exec(self._until_exit(protocol_factory), *args, **kwargs)

    async def subprocess_shell(self, protocol_factory: Any, *args: Any, **kwargs: Any) -> Any:
        """Start a shell command; takes no virtual time, from its start to its end."""
        with self.outside_work():
            return await super().subprocess_shell(self._until_exit(protocol_factory), *args, **kwargs)

    def _until_exit(self, protocol_factory: Callable[[], Any]) -> Callable[[], Any]:
        def make() -> Any:
            protocol = protocol_factory()
            made, exited = protocol.connection_made, protocol.process_exited

            def connection_made(transport: asyncio.BaseTransport) -> None:
                self._outside += 1
                made(transport)

            def process_exited() -> None:
                self._outside -= 1
                exited()

            protocol.connection_made, protocol.process_exited = connection_made, process_exited
            return protocol

        return make


def run_virtual(main: Coroutine[Any, Any, T], *, start: float = 0.0, patience: float = PATIENCE) -> T:
    """Run `main` like `asyncio.run`, but on a `VirtualClockLoop`, and give its result.

    `start` is the first virtual time, `patience` how many real seconds outside work may be silent. Raises
    `DeadlockError` when nothing can happen any more, and whatever `main` raises.
    """
    with asyncio.Runner(loop_factory=lambda: VirtualClockLoop(start, patience=patience)) as runner:
        return runner.run(main)


class _Selector(selectors.DefaultSelector):
    """Never waits by itself: asks `idle`, and hands it the way to wait in real time."""

    def __init__(self, idle: Callable[[Callable[[float], list[Any]]], list[Any]]) -> None:
        super().__init__()
        self._idle = idle

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if events or timeout == 0:
            return events
        return self._idle(super().select)


def _describe(task: asyncio.Task[Any]) -> str:
    frame = _innermost_frame(task.get_coro())
    if frame is None:
        return f"{task.get_name()}: not started"
    return f"{task.get_name()}: in {frame.f_code.co_qualname}, {frame.f_code.co_filename}:{frame.f_lineno}"


def _innermost_frame(awaited: object) -> FrameType | None:
    """Give the frame nearest to what is awaited, outside asyncio itself."""
    asyncio_folder = str(Path(asyncio.__file__).parent)
    innermost = None
    while (frame := getattr(awaited, "cr_frame", None)) is not None:
        if innermost is None or not frame.f_code.co_filename.startswith(asyncio_folder):
            innermost = frame
        awaited = getattr(awaited, "cr_await", None)
    return innermost
