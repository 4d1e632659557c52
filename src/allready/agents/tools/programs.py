"""Programs that tools run: each under an id of its own, within a time and an amount of output."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from allready.agents.base import Attempt
from allready.agents.command import task_environment
from allready.agents.output import OUTPUT_FILE, BoundedText
from allready.agents.process import run_process
from allready.agents.secrets import Redactor
from allready.errors import TaskError

FOLDER = "tools"
"""Below the attempt's folder: a folder for each program that a tool ran, with what it wrote."""
MAX_OUTPUT = 64 * 1024 * 1024
"""Characters that a program may write before it is ended: models run `cat` on anything."""
SHOWN = 32 * 1024
"""Bytes of the output that the model gets: beginning and end."""


class Ended(NamedTuple):
    """How a program ended."""

    exit_code: int | None
    """None: its time was over."""
    text: str
    """What it wrote to its output and to its errors, in the order in which it came; bounded."""
    output_file: Path
    """The whole standard output."""
    too_much: bool = False
    """Whether it was ended because it wrote more than `MAX_OUTPUT`."""


class _TooMuch(TaskError):
    """The program wrote more than it may."""


class Programs:
    """Runs programs for the tools of one attempt."""

    def __init__(self, attempt: Attempt, redactor: Redactor) -> None:
        self._attempt = attempt
        self._redactor = redactor
        self._count = 0

    async def run(
        self,
        argv: Sequence[str],
        *,
        name: str,
        seconds: float,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Ended:
        """Run a program in the working folder, for at most so many seconds; all that it started ends with it.

        Raises as `run_process`; canceled, it is stopped as a command is.
        """
        text = BoundedText(SHOWN)

        def collect(piece: str) -> None:
            text.feed_text(piece)
            if text.total > MAX_OUTPUT:
                raise _TooMuch(f"more than {MAX_OUTPUT // 1024**2} MiB of output")

        part = self._part(name)
        part.on_output = collect
        path = part.folder / OUTPUT_FILE
        try:
            async with asyncio.timeout(seconds):
                finished = await run_process(
                    argv,
                    attempt=part,
                    cwd=self._attempt.base_dir,
                    env=task_environment(part, env or {}),
                    redactor=self._redactor,
                    stdin=stdin,
                )
        except TimeoutError:
            return Ended(None, text.text(), path)
        except _TooMuch:
            return Ended(None, text.text(), path, too_much=True)
        return Ended(finished.exit_code, text.text(), path)

    def _part(self, name: str) -> Attempt:
        """Give the attempt as the program sees it.

        Its id is its own: what a program leaves running is found by that id and ended, and nothing else is.
        """
        self._count += 1
        folder = self._attempt.folder / FOLDER / f"{self._count:03}-{name}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TaskError(f"the attempt's files can't be written: {error}") from error
        return dataclasses.replace(
            self._attempt, handle=f"{self._attempt.handle}.{self._count}", folder=folder
        )
