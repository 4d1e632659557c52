"""`FunctionAgent`: calls a Python function; async ones in the event loop, plain ones in a thread."""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from allready.agents.base import OUTPUT_LIMIT, Attempt, TaskResult
from allready.agents.output import OUTPUT_FILE, clean_text, cut_middle, without_last_newline
from allready.agents.secrets import Redactor
from allready.agents.threads import as_failure, in_thread, result_of
from allready.agents.values import is_model, jsonable
from allready.errors import PermanentError, TaskError

_canceled: ContextVar[threading.Event | None] = ContextVar("allready_canceled", default=None)


def cancel_requested() -> bool:
    """Say whether the task that this code runs for was asked to stop.

    For plain functions, which can't be interrupted: one that looks now and then and returns ends within the
    grace period. Async functions get `CancelledError` instead.
    """
    event = _canceled.get()
    return event is not None and event.is_set()


class FunctionAgent:
    """Calls a function with the given arguments; made for one attempt."""

    def __init__(
        self, call: Callable[..., Any], kwargs: Mapping[str, Any] | None = None, args: Sequence[Any] = ()
    ) -> None:
        self._function = call
        self._kwargs = kwargs or {}
        self._args = args

    async def run(self, attempt: Attempt) -> TaskResult:
        """Call the function; its value is `data`, and its text form `output`. Raises as `call`."""
        return to_result(await self.call(attempt), attempt.folder, attempt.redactor)

    async def call(self, attempt: Attempt) -> Any:
        """Call the function and give its value.

        Raises what the function raises, except that `SystemExit` and the like become a `TaskError`.
        """
        attempt.begin()
        if _is_async(self._function):
            return await _guarded(self._function(*self._args, **self._kwargs))
        value = await self._run_in_thread(attempt)
        return await _guarded(value) if inspect.isawaitable(value) else value

    async def _run_in_thread(self, attempt: Attempt) -> Any:
        stop = threading.Event()
        token = _canceled.set(stop)
        try:
            future = in_thread(
                lambda: self._function(*self._args, **self._kwargs), f"allready task {attempt.task_id}"
            )
        finally:
            _canceled.reset(token)
        return await result_of(future, attempt.hold_place, ask=stop.set, grace=attempt.grace)


def _is_async(call: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(getattr(call, "__call__", None))  # noqa: B004


async def _guarded(work: Awaitable[Any]) -> Any:
    """Await the work of a task, so that nothing it raises ends the loop or passes for a cancellation."""
    try:
        return await work
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise TaskError("the function raised CancelledError, though nobody asked it to stop") from error
    except GeneratorExit:
        raise
    except BaseException as error:
        failure = as_failure(error)
        if failure is error:
            raise
        raise failure from error


def to_result(value: Any, folder: Path, redactor: Redactor | None = None) -> TaskResult:
    """Give a function's value as a result; a text beyond `OUTPUT_LIMIT` goes to the folder whole.

    Of a value that is no result yet, the text has its secrets blanked by `redactor`; the data stays as it is.
    """
    if value is None:
        return TaskResult()
    if isinstance(value, TaskResult):
        return value
    text = text_form(value) if redactor is None else redactor.text(text_form(redactor.json(value)))
    if len(text) * 4 > OUTPUT_LIMIT and len(text.encode("utf-8", "replace")) > OUTPUT_LIMIT:
        path = folder / OUTPUT_FILE
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(clean_text(text), encoding="utf-8")
        except OSError as error:
            raise TaskError(f"the output can't be written to {path}: {error.strerror}") from error
        return TaskResult(cut_middle(without_last_newline(text)), value, path)
    return TaskResult(clean_text(without_last_newline(text)), value)


def text_form(value: Any) -> str:
    """Give a value as text: text itself, None as nothing, JSON of what JSON can carry, else `str(value)`."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    try:
        return value.model_dump_json() if is_model(value) else json.dumps(jsonable(value), ensure_ascii=False)
    except (PermanentError, ValueError):
        return str(value)
