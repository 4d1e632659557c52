"""An event loop for one coroutine, which ends with it, whatever the tasks' own code has left in it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

UNWIND_TIME = 1.0
"""Seconds for what is still in the loop at the end; what is there by then has withstood its cancellation."""


def run_to_end(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` and give what it gives, like `asyncio.run`.

    But coroutines that swallow their cancellation, and threads of the loop's executor, are not waited for:
    they are code of tasks that were given up, and would keep the program from ending.
    """
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(main)
    finally:
        try:
            _unwind(loop)
        finally:
            asyncio.set_event_loop(None)
            loop.close()


def _unwind(loop: asyncio.AbstractEventLoop) -> None:
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.wait(left, timeout=UNWIND_TIME))
    closing = loop.create_task(loop.shutdown_asyncgens())
    loop.run_until_complete(asyncio.wait([closing], timeout=UNWIND_TIME))
    # nobody is to read that these were thrown away, or failed in the end
    loop.set_exception_handler(lambda *_: None)
    for task in (*left, closing):
        if task.done():
            with contextlib.suppress(asyncio.CancelledError):
                task.exception()
