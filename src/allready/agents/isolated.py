"""`IsolatedAgent`: calls a Python function in a process of its own, which can be killed."""

from __future__ import annotations

import inspect
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import IO, Any

from allready.agents.base import Attempt, TaskResult
from allready.agents.command import failure_text, task_environment
from allready.agents.function import to_result
from allready.agents.output import without_last_newline
from allready.agents.process import Finished, run_process
from allready.agents.secrets import Redactor, secret_values
from allready.agents.threads import in_thread
from allready.agents.values import jsonable
from allready.errors import PermanentError, TaskError, TransientError

STDOUT_FILE = "stdout.txt"
"""What the function prints; `output.txt` is for its value."""


class IsolatedAgent:
    """Calls a function that can be imported, with arguments and a value that JSON can carry."""

    def __init__(
        self, call: Callable[..., Any], kwargs: Mapping[str, Any] | None = None, args: Sequence[Any] = ()
    ) -> None:
        self._function = call
        self._kwargs = kwargs or {}
        self._args = args

    async def run(self, attempt: Attempt) -> TaskResult:
        """Call the function; its value is `data`, and its text form `output`. Raises as `call`."""
        result = to_result(await self.call(attempt), attempt.folder, attempt.redactor)
        result.exit_code = 0
        return result

    async def call(self, attempt: Attempt) -> Any:
        """Call the function; gives its value as JSON values.

        Raises `PermanentError` if the function can't be found by its name or an argument is no JSON,
        `PermanentError` and `TransientError` as the function does, and `TaskError` for all else it raises
        or if its process died. The traceback is in the attempt's `stderr.txt`.
        """
        env = task_environment(attempt, {})
        redactor = Redactor(secret_values(env))
        # what it is called with and what it gives may be secret: neither is ever in a file that has a name
        with _nameless() as given:
            finished = await run_process(
                [sys.executable, "-P", "-m", "allready.agents.isolated_process", str(given.fileno())],
                attempt=attempt,
                cwd=attempt.base_dir,
                env=env,
                redactor=redactor,
                stdin=self._call(),
                output_file=STDOUT_FILE,
                pass_fds=[given.fileno()],
            )
            answer = await in_thread(lambda: _read_answer(given), "allready result")
        if answer is None or "error" in answer:
            raise _failure(answer and answer["error"], finished, redactor)
        return answer["value"]

    def _call(self) -> bytes:
        reference, script = locate(self._function)
        call = {
            "function": reference,
            "script": script,
            "args": jsonable(list(self._args)),
            "kwargs": jsonable(dict(self._kwargs)),
            "path": [str(Path(entry).absolute()) for entry in sys.path],
        }
        return json.dumps(call).encode()


def locate(call: Callable[..., Any]) -> tuple[str, str | None]:
    """Give `module:qualified.name` and, for a function of a script, the script's path.

    Raises `PermanentError` for what another process can't find by that name: lambdas, inner functions,
    functions typed at a prompt.
    """
    call = inspect.unwrap(call)
    module_name, name = getattr(call, "__module__", None), getattr(call, "__qualname__", None)
    if not module_name or not name or "<" in name:
        raise PermanentError(
            f"{name or call!r} can't run in a process of its own: define it at the top of a module"
        )
    module = sys.modules.get(module_name)
    try:
        found = reduce(getattr, name.split("."), module)
    except AttributeError as error:
        raise PermanentError(f"{module_name} has no {name}, so no other process can find it there") from error
    if inspect.unwrap(found) is not call:  # type: ignore[arg-type]
        raise PermanentError(
            f"{module_name}:{name} is another function by now, so no other process can find this one"
        )
    if module_name != "__main__":
        return f"{module_name}:{name}", None
    spec = getattr(module, "__spec__", None)
    if spec is not None:  # started as `python -m package.module`
        return f"{spec.name}:{name}", None
    script = getattr(module, "__file__", None)
    if script is None:
        raise PermanentError(
            f"{name} was typed at a prompt: put it into a file to run it in a process of its own"
        )
    return f"__main__:{name}", str(Path(script).absolute())


def _nameless() -> IO[bytes]:
    try:
        return tempfile.TemporaryFile(buffering=0)
    except OSError as error:
        raise TaskError(f"there is no place for what the function gives: {error.strerror}") from error


def _read_answer(file: IO[bytes]) -> dict[str, Any] | None:
    """Read what the process has written as the last thing it did; None if it did not get so far."""
    file.seek(0)
    try:
        return json.loads(file.read())  # type: ignore[no-any-return]
    except ValueError:
        return None


def _failure(error: dict[str, Any] | None, finished: Finished, redactor: Redactor) -> TaskError:
    """Give the exception that the function raised, as far as it keeps its meaning here."""
    result = TaskResult(
        without_last_newline(finished.output), output_file=finished.output_file, exit_code=finished.exit_code
    )
    if error is None:
        text = failure_text("the function's process", finished)
        return TaskError(redactor.text(f"no result: {text}"), result)
    message = redactor.text(error["message"])
    if error["kind"] == "permanent":
        return PermanentError(message, result)
    if error["kind"] == "transient":
        return TransientError(message, error["retry_after"])
    if error["kind"] == "task":
        return TaskError(message, result)
    return TaskError(f"{error['type']}: {message}" if message else error["type"], result)
