from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pydantic
import pytest
from tests.agents.attempts import make_attempt

from allready.agents.base import TaskResult
from allready.agents.function import FunctionAgent, cancel_requested, to_result
from allready.errors import PermanentError, TaskError, TransientError

variable = contextvars.ContextVar("variable", default="unset")


class Model(pydantic.BaseModel):
    name: str
    when: list[int]


async def test_an_async_function_runs_in_the_loop(tmp_path: Path) -> None:
    async def work(a: int, *, b: int) -> dict[str, Any]:
        return {"sum": a + b, "thread": threading.current_thread() is threading.main_thread()}

    result = await FunctionAgent(work, {"b": 2}, [1]).run(make_attempt(tmp_path))
    assert result == TaskResult('{"sum": 3, "thread": true}', {"sum": 3, "thread": True})


async def test_a_plain_function_runs_in_a_daemon_thread_with_the_context(tmp_path: Path) -> None:
    def work() -> list[Any]:
        return [threading.current_thread().daemon, variable.get(), cancel_requested()]

    variable.set("set")
    assert (await FunctionAgent(work).run(make_attempt(tmp_path))).data == [True, "set", False]


async def test_awaitables_and_callable_objects(tmp_path: Path) -> None:
    class Work:
        async def __call__(self) -> str:
            return "object"

    async def work() -> str:
        return "inner"

    attempt = make_attempt(tmp_path)
    assert (await FunctionAgent(Work()).run(attempt)).data == "object"
    assert (await FunctionAgent(lambda: work()).run(attempt)).data == "inner"


THREAD_ONLY = [StopIteration(), GeneratorExit()]
"""Python itself keeps a coroutine from raising these."""


@pytest.mark.parametrize(
    ("error", "is_async"),
    [
        *((error, is_async) for error in (SystemExit(3), KeyboardInterrupt()) for is_async in (False, True)),
        *((error, False) for error in THREAD_ONLY),
    ],
)
async def test_exceptions_that_would_end_the_loop_become_failures(
    tmp_path: Path, error: BaseException, is_async: bool
) -> None:
    def work() -> None:
        raise error

    async def async_work() -> None:
        raise error

    with pytest.raises(TaskError, match=type(error).__name__):
        await FunctionAgent(async_work if is_async else work).run(make_attempt(tmp_path))


@pytest.mark.parametrize("error", [ValueError("bad"), PermanentError("never"), TransientError("later", 3.0)])
async def test_other_exceptions_come_as_they_are(tmp_path: Path, error: Exception) -> None:
    def work() -> None:
        raise error

    async def async_work() -> None:
        raise error

    for call in (work, async_work):
        with pytest.raises(type(error)) as caught:
            await FunctionAgent(call).call(make_attempt(tmp_path / str(call.__name__)))
        assert caught.value is error


async def test_a_cancellation_that_nobody_asked_for_is_a_failure(tmp_path: Path) -> None:
    async def work() -> None:
        raise asyncio.CancelledError

    with pytest.raises(TaskError, match="nobody asked"):
        await FunctionAgent(work).run(make_attempt(tmp_path))


async def test_an_async_function_is_canceled(tmp_path: Path) -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    task = asyncio.create_task(FunctionAgent(work).run(make_attempt(tmp_path)))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


class Stubborn:
    """A plain function that goes on until it is let go."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.started = asyncio.Event()
        self.let_go = threading.Event()

    def __call__(self) -> str:
        self.loop.call_soon_threadsafe(self.started.set)
        self.let_go.wait()
        return "late"


async def test_a_thread_that_looks_ends_within_the_grace(tmp_path: Path) -> None:
    seen = []
    started = asyncio.Event()
    loop = asyncio.get_running_loop()
    tick = threading.Event()

    def work() -> None:
        loop.call_soon_threadsafe(started.set)
        while not cancel_requested():
            tick.wait(0.001)
        seen.append("asked")

    held: list[Any] = []
    task = asyncio.create_task(
        FunctionAgent(work).run(make_attempt(tmp_path, grace=3600, hold_place=held.append))
    )
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["asked"]
    assert held == []


@pytest.mark.parametrize(("grace", "cancels"), [(0.01, 1), (3600, 2)])
async def test_a_hung_thread_keeps_its_place_until_it_ends(
    tmp_path: Path, grace: float, cancels: int
) -> None:
    held: list[Any] = []
    work = Stubborn()
    task = asyncio.create_task(
        FunctionAgent(work).run(make_attempt(tmp_path, grace=grace, hold_place=held.append))
    )
    await work.started.wait()
    for _ in range(cancels):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task
    [place] = held
    assert not place.done()
    work.let_go.set()
    assert await place == "late"


def test_the_interpreter_does_not_wait_for_a_hung_thread(tmp_path: Path) -> None:
    code = """
import asyncio, threading, sys
from pathlib import Path
from allready.agents.base import Attempt
from allready.agents.function import FunctionAgent
started = threading.Event()
def hang():
    started.set()
    threading.Event().wait()
async def main():
    attempt = Attempt("r", "t", "h", 1, Path(sys.argv[1]), Path(sys.argv[1]), grace=0)
    task = asyncio.create_task(FunctionAgent(hang).run(attempt))
    await asyncio.to_thread(started.wait)
    task.cancel()
    await asyncio.wait([task])
    print(task.cancelled())
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(tmp_path)],
        capture_output=True,
        timeout=30,
        check=True,
    )
    assert (done.stdout, done.stderr) == (b"True\n", b"")


@dataclasses.dataclass
class Point:
    x: int


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        ("text\n", "text"),
        ("a\0b", "a\ufffdb"),
        ({"ä": [1, 2.5, None]}, '{"ä": [1, 2.5, null]}'),
        (Model(name="n", when=[1]), '{"name":"n","when":[1]}'),
        ([Model(name="n", when=[])], '[{"name": "n", "when": []}]'),
        (Point(3), '{"x": 3}'),
        ({1}, "{1}"),
        (float("nan"), "nan"),
    ],
)
def test_the_text_of_a_value(tmp_path: Path, value: Any, text: str) -> None:
    result = to_result(value, tmp_path)
    assert result.output == text
    assert result.data is value
    assert result.output_file is None


def test_long_texts_are_cut_and_kept_whole_in_a_file(tmp_path: Path) -> None:
    value = ["x" * 100_000]
    result = to_result(value, tmp_path / "made")
    assert len(result.output.encode()) <= 65_536
    assert "bytes left out" in result.output
    assert result.output_file is not None
    assert json.loads(result.output_file.read_text()) == value


def test_a_ready_result_is_passed_on(tmp_path: Path) -> None:
    result = TaskResult("text", exit_code=4)
    assert to_result(result, tmp_path) is result
