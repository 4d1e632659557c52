"""Plain calls in threads of their own: work that may hang, and must hold up neither the loop nor the exit."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from allready.errors import TaskError, TransientError, text_of

T = TypeVar("T")


def as_failure(error: BaseException) -> Exception:
    """Give an exception that is safe to raise in the loop: `SystemExit` and the like become a `TaskError`."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    said = text_of(error)
    text = f": {said}" if said else ""
    failure = TaskError(f"{type(error).__name__}{text} (raised by the task's function)")
    failure.__cause__ = error
    return failure


def in_thread(call: Callable[[], T], name: str, *, timeless: bool = False) -> asyncio.Future[T]:
    """Start `call` in a daemon thread with a copy of the context; the future gives its result or exception.

    The thread can't be stopped: canceling the future only stops waiting. The interpreter's exit does not
    wait for it either. What is `timeless` takes no time on a virtual clock: it waits for no other time than
    that of this machine. Raises `TransientError` if the system allows no more threads.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    future.add_done_callback(_look)
    context = contextvars.copy_context()

    def settle(value: Any, error: Exception | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)

    def work() -> None:
        value, failure = None, None
        try:
            value = context.run(call)
        except BaseException as error:
            failure = as_failure(error)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, value, failure)

    try:
        threading.Thread(target=work, name=name, daemon=True).start()
    except RuntimeError as error:
        raise TransientError(f"no thread for {name}: {error}") from error
    outside_work = getattr(loop, "outside_work", None) if timeless else None
    if outside_work is not None:
        standing = outside_work()
        standing.__enter__()
        future.add_done_callback(lambda _: standing.__exit__(None, None, None))
    return future


async def result_of(
    thread: asyncio.Future[T],
    hold_place: Callable[[Awaitable[Any]], None] | None,
    *,
    ask: Callable[[], None] | None = None,
    grace: float = 0.0,
) -> T:
    """Wait for a call that `in_thread` started, and give what it gives.

    When canceled, `ask` may tell it to stop; if it has not ended `grace` seconds later, the attempt's place
    is held until it has.
    """
    try:
        await asyncio.wait([thread])
    except asyncio.CancelledError:
        if ask is not None:
            ask()
        try:
            await asyncio.wait([thread], timeout=grace)
        finally:
            if not thread.done() and hold_place is not None:
                hold_place(thread)
        raise
    return thread.result()


def _look(future: asyncio.Future[Any]) -> None:
    """Keep asyncio from reporting the exception of a future that nobody waits for any more."""
    if not future.cancelled():
        future.exception()
