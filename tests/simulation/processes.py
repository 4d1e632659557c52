"""Simulated processes: many in one event loop, each of which can be killed or suspended at any instant.

Whatever runs in the loop belongs to the process that is set in its context, as do all timers and tasks that
follow from it. A killed process never takes another step: what it had under way is closed, and all doors
to the world outside (store, ledger) are shut to it. A suspended one takes its steps later, all at once.

Threads would take steps at instants that no seed can repeat. So a writer's or another executor's call is made
in the loop, at a definite virtual time, and the keeper of a lease takes its steps there, too.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from enum import Enum
from typing import Any, TypeVar, TypeVarTuple

from allready.engine.virtual_clock import VirtualClockLoop, _Timer
from allready.store.contract import Lease, Owner, Store
from allready.store.lease import LeaseKeeper

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

CLOSINGS = 50
"""How often is tried to close a coroutine that goes on waiting in its `finally`."""


class Crashed(BaseException):
    """The process that sees this is dead; it is raised only to get out of its code."""


class State(Enum):
    ALIVE = "alive"
    STOPPED = "suspended"
    DEAD = "dead"


class Process:
    """One simulated process."""

    def __init__(self, name: str, owner: Owner, delays: Callable[[], tuple[float, float]]) -> None:
        self.name = name
        self.owner = owner
        self.delays = delays
        """Gives how long the next call in an executor waits before it is made, and then for its answer."""
        self.state = State.ALIVE
        self.parked: list[Callable[[], None]] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self.busy_until: dict[int, float] = {}
        """Executor → when it is free."""
        self.context = contextvars.copy_context()
        self.context.run(PROCESS.set, self)

    @property
    def alive(self) -> bool:
        return self.state is not State.DEAD

    def takes(self, step: Callable[[], None]) -> bool:
        """Say whether the process takes a step now; a suspended one remembers it."""
        if self.state is State.STOPPED:
            self.parked.append(step)
        return self.state is State.ALIVE

    def add(self, task: asyncio.Task[Any]) -> None:
        self.tasks.append(task)
        if len(self.tasks) > 200:
            self.tasks = [task for task in self.tasks if not task.done()]

    def start(self, main: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        return asyncio.get_running_loop().create_task(main, context=self.context)

    def soon(self, call: Callable[[*Ts], object], *args: *Ts) -> None:
        """Have something called in this process."""
        asyncio.get_running_loop().call_soon(call, *args, context=self.context)

    def suspend(self) -> None:
        if self.state is State.ALIVE:
            self.state = State.STOPPED

    def go_on(self) -> None:
        """Take all steps that were due meanwhile, in their order."""
        if self.state is State.STOPPED:
            self.state = State.ALIVE
            parked, self.parked = self.parked, []
            loop = asyncio.get_running_loop()
            for step in parked:
                loop.call_soon(step, context=contextvars.Context())

    def kill(self) -> None:
        """End it now. `bury` must follow, when none of its code is on the stack."""
        self.state = State.DEAD
        self.parked = []

    def bury(self) -> None:
        """Close all coroutines of a dead process, so that nothing of it stays in memory."""
        assert not self.alive
        while self.tasks:
            task = self.tasks.pop(0)
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                asyncio.tasks._unregister_task(task)  # it is not to be waited for when the loop is closed
                self.context.copy().run(_close, task)


PROCESS: contextvars.ContextVar[Process | None] = contextvars.ContextVar("simulated process", default=None)


def this_process() -> Process:
    """Give the process whose code is running."""
    process = PROCESS.get()
    assert process is not None
    return process


def _close(task: asyncio.Task[Any]) -> None:
    """Lead a coroutine out of all that it is in; `close()` would leave behind what waits in a `finally`."""
    coroutine = task.get_coro()
    assert isinstance(coroutine, Coroutine)
    for _ in range(CLOSINGS):
        try:
            coroutine.throw(Crashed())
        except BaseException:
            return  # what code of a dead process raises is nobody's concern


class _Handle(asyncio.Handle):
    """Code of a process: not run while that is suspended, nor when it is dead."""

    _context: contextvars.Context

    def _run(self) -> None:
        process = self._context.get(PROCESS)
        if process is None or process.takes(self.again):
            super()._run()

    def again(self) -> None:
        if not self.cancelled():
            self._run()


class _ProcessTimer(_Handle, _Timer):
    """The same for timers."""


class ProcessLoop(VirtualClockLoop):
    """Virtual time for simulated processes."""

    _ready: Any
    _timer_type = _ProcessTimer

    def _call_soon(
        self, callback: Callable[..., object], args: tuple[Any, ...], context: contextvars.Context | None
    ) -> asyncio.Handle:
        handle = _Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        task = super().create_task(coro, **options)
        context: contextvars.Context | None = options.get("context")
        process = PROCESS.get() if context is None else context.get(PROCESS)
        if process is not None:
            process.add(task)
        return task

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Make the call in the loop, one after the other for each executor, after the process's delay."""
        process = PROCESS.get()
        if process is None:
            return super().run_in_executor(executor, func, *args)
        future: asyncio.Future[T] = self.create_future()
        before, after = process.delays()
        begin = self.time() + before
        if executor is not None:
            begin = max(begin, process.busy_until.get(id(executor), 0.0) + before)
            process.busy_until[id(executor)] = begin + after
        self.call_at(begin, self._execute, future, after, func, args)
        return future

    def _execute(
        self, future: asyncio.Future[T], after: float, func: Callable[..., T], args: tuple[Any, ...]
    ) -> None:
        if future.cancelled():
            return
        try:
            value = func(*args)
        except Crashed:
            return  # there is nobody to tell
        except BaseException as error:
            self.call_later(after, _settle, future, None, error)
        else:
            self.call_later(after, _settle, future, value, None)


def _settle(future: asyncio.Future[T], value: Any, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is not None:
        future.set_exception(error)
        future.exception()  # the process may be dead before it looks at it
    else:
        future.set_result(value)


class _Waits(BaseException):
    """The keeper's thread waits now, for so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


class SteppingKeeper(LeaseKeeper):
    """The real keeper of a lease, whose thread is a chain of timers.

    Where the thread would wait, it is left, and begun anew when the time has passed: all it knows is in
    `self`, and what it does first is to see what is due.
    """

    def __init__(self, store: Store, lease: Lease, **callbacks: Any) -> None:
        self._ticking = asyncio.get_running_loop()
        super().__init__(store, lease, clock=self._ticking.time, wait=self._leave, **callbacks)
        self._next: asyncio.Handle | None = None

    def start(self) -> None:
        self._next = self._ticking.call_soon(self._step)

    def stop(self, *, wait: bool = True) -> None:
        super().stop()
        if self._next is not None:
            self._next.cancel()

    def _leave(self, _event: object, seconds: float) -> bool:
        raise _Waits(seconds)

    def _step(self) -> None:
        try:
            self._keep()
        except _Waits as wait:
            self._next = self._ticking.call_later(wait.seconds, self._step)
        except Crashed:
            pass
