"""`CommandAgent`: runs a program for a task, or answers a prompt with one."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from allready.agents.base import Attempt, TaskResult
from allready.agents.exchange import check_artifacts, put_dependencies, read_data
from allready.agents.folders import remove_quietly
from allready.agents.leftovers import ATTEMPT_VARIABLE, RUN_VARIABLE, enter_ancestors
from allready.agents.output import without_last_newline
from allready.agents.process import Finished, run_process
from allready.agents.secrets import Redactor, secret_values
from allready.agents.threads import in_thread, result_of
from allready.errors import TaskError
from allready.plan.plan import Command
from allready.plan.template import has_statements, names_used, render

T = TypeVar("T")

SHELL = "/bin/sh"
QUOTED_LINES = 10
"""Last lines of the output that an error message quotes."""
QUOTED_CHARACTERS = 2000
"""The same in characters."""
DEPENDENCIES_FOLDER = "deps"
ARTIFACTS_FOLDER = "artifacts"
DATA_FILE = "data.json"


class CommandAgent:
    """Runs a command; for an attempt with a prompt it is the command that answers it.

    A prompt is put where an argument says `{{ prompt }}`, else it goes to the program's standard input.
    """

    def __init__(self, command: Command) -> None:
        self._command = command

    async def run(self, attempt: Attempt) -> TaskResult:
        """Run the program in its working directory; its standard output is the output.

        Raises `TaskError` (with the output so far in `result`) if the exit code is not one of success, and
        what `run_process` raises.
        """
        command = self._command
        scope = attempt.scope()
        if attempt.prompt is not None:
            scope["prompt"] = attempt.prompt

        def fill() -> tuple[list[str], str, dict[str, str]]:
            return (
                [render(argument, scope, shell=command.shell) for argument in command.argv],
                render(command.cwd or ".", scope),
                {name: render(value, scope) for name, value in command.env.items()},
            )

        texts = (*command.argv, command.cwd or "", *command.env.values())
        argv, place, own = await fill_templates(texts, fill, attempt)
        if command.shell:
            argv = [SHELL, "-c", *argv]
        cwd = attempt.base_dir / place
        env = task_environment(attempt, own) | _make_places(attempt)
        redactor = Redactor(secret_values(env))
        try:
            finished = await run_process(
                argv, attempt=attempt, cwd=cwd, env=env, redactor=redactor, stdin=self._stdin(attempt)
            )
            return await self._result(attempt, argv, finished, redactor)
        except BaseException:
            drop_data(attempt.folder)
            raise

    async def _result(
        self, attempt: Attempt, argv: list[str], finished: Finished, redactor: Redactor
    ) -> TaskResult:
        result = TaskResult(
            output=without_last_newline(finished.output),
            output_file=finished.output_file,
            exit_code=finished.exit_code,
            artifacts=await in_thread(
                lambda: check_artifacts(attempt.folder / ARTIFACTS_FOLDER), "artifacts"
            ),
        )
        if finished.exit_code not in self._command.success_codes:
            raise TaskError(redactor.text(failure_text(argv[0], finished)), result)
        result.data = _take_data(attempt.folder / DATA_FILE, redactor, result)
        return result

    def _stdin(self, attempt: Attempt) -> bytes | None:
        if attempt.prompt is None or self._prompt_in_arguments():
            return None
        return attempt.prompt.encode("utf-8", "replace")

    def _prompt_in_arguments(self) -> bool:
        return any("prompt" in names_used(argument).names for argument in self._command.argv)


async def fill_templates(texts: Iterable[str], fill: Callable[[], T], attempt: Attempt) -> T:
    """Give what `fill` makes of these templates; in a thread if they have loops, which may take long."""
    if not any(map(has_statements, texts)):
        return fill()
    return await result_of(in_thread(fill, "allready template"), attempt.hold_place)


def task_environment(attempt: Attempt, own: Mapping[str, str]) -> dict[str, str]:
    """Give the environment of an attempt's process: ours, the task's own, and the ids of the attempt."""
    env = dict(os.environ)
    enter_ancestors(env, attempt.run_id)
    for name in ("ALLREADY_DEPS", "ALLREADY_OUTPUT", "ALLREADY_ARTIFACTS"):
        env.pop(name, None)  # of the task that we are ourselves, if a run is a task of another one
    return (
        env
        | dict(own)
        | {
            RUN_VARIABLE: attempt.run_id,
            ATTEMPT_VARIABLE: attempt.handle,
            "ALLREADY_TASK_ID": attempt.task_id,
            "ALLREADY_ATTEMPT": str(attempt.number),
            "ALLREADY_IDEMPOTENCY_KEY": attempt.idempotency_key,
        }
    )


def _make_places(attempt: Attempt) -> dict[str, str]:
    """Make the folders that a command exchanges files through; give the variables that name them."""
    folder = attempt.folder.absolute()
    places = {
        "ALLREADY_OUTPUT": str(folder / DATA_FILE),
        "ALLREADY_ARTIFACTS": str(folder / ARTIFACTS_FOLDER),
    }
    try:
        (folder / ARTIFACTS_FOLDER).mkdir(exist_ok=True)
        direct = [dependency for dependency in attempt.dependencies.values() if dependency.direct]
        if direct:
            put_dependencies(folder / DEPENDENCIES_FOLDER, direct)
            places["ALLREADY_DEPS"] = str(folder / DEPENDENCIES_FOLDER)
    except OSError as error:
        raise TaskError(f"the attempt's files can't be written: {error}") from error
    return places


def drop_data(folder: Path) -> None:
    """Remove what an attempt has written for us alone: nobody has blanked the secrets in it."""
    path = folder / DATA_FILE
    if path.is_dir() and not path.is_symlink():
        remove_quietly(path)
        return
    with contextlib.suppress(OSError):
        path.unlink()


def _take_data(path: Path, redactor: Redactor, result: TaskResult) -> Any:
    """Read what the command wrote; secrets are blanked in the file, too."""
    try:
        data = read_data(path)
        clean = redactor.json(data)
        if clean != data:
            path.write_text(json.dumps(clean), encoding="utf-8")
    except TaskError as error:
        error.result = result
        raise
    return clean


def failure_text(program: str, finished: Finished) -> str:
    """Say how a program ended, and quote the last lines of what it wrote."""
    code = finished.exit_code
    text = (
        f"{program} exited with code {code}" if code >= 0 else f"{program} was ended by {_signal_name(-code)}"
    )
    quoted = finished.errors.strip() or finished.output.strip()
    if not quoted:
        return f"{text}, without any output"
    return f"{text}:\n" + "\n".join(quoted.splitlines()[-QUOTED_LINES:])[-QUOTED_CHARACTERS:]


def _signal_name(number: int) -> str:
    hint = " (perhaps the system ran out of memory)" if number == signal.SIGKILL else ""
    try:
        return signal.Signals(number).name + hint
    except ValueError:
        return f"signal {number}"
