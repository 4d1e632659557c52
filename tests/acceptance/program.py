"""The program `allready` as people start it: a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Self

from tests.agents.attempts import is_alive as is_alive

PROGRAM = [sys.executable, "-m", "allready"]
PATIENCE = 60.0
"""Seconds until a test gives up on something that has to happen."""


def environment(**more: str) -> dict[str, str]:
    """Ours without what a terminal, or allready itself, may have left in it."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("ALLREADY_")}
    return env | {"COLUMNS": "200", "TERM": "xterm", "HOME": "/nonexistent"} | more


def allready(
    *arguments: str, cwd: Path, stdin: str | None = None, timeout: float = PATIENCE, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run the program to its end."""
    return subprocess.run(
        [*PROGRAM, *arguments],
        cwd=cwd,
        env=environment(**env),
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


class Running:
    """The program while it runs, with `--json`; a context manager that leaves no process behind."""

    def __init__(self, *arguments: str, cwd: Path, before: Sequence[str] = (), **env: str) -> None:
        self.cwd = cwd
        self.errors = cwd / f"stderr-{time.monotonic_ns()}.txt"
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [*before, *PROGRAM, *arguments, "--json"],
                cwd=cwd,
                env=environment(**env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        self.events: list[dict[str, Any]] = []
        self._watchdog = threading.Timer(PATIENCE, self.process.kill)
        self._watchdog.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._watchdog.cancel()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def wait_for(self, kind: str, task: str | None = None) -> dict[str, Any]:
        """Read events up to one of this type (and task)."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event: dict[str, Any] = json.loads(line)
            self.events.append(event)
            if event["type"] == kind and task in (None, event.get("task")):
                return event
        raise AssertionError(
            f"the program ended ({self.process.wait()}) without {kind} {task}: {self.errors.read_text()}"
        )

    def wait_for_any(self, wanted: Collection[tuple[str, str]]) -> dict[str, Any]:
        """Read events up to one of these types and tasks."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event: dict[str, Any] = json.loads(line)
            self.events.append(event)
            if (event["type"], event.get("task", "")) in wanted:
                return event
        raise AssertionError(f"the program ended ({self.process.wait()}): {self.errors.read_text()}")

    def drain(self) -> int:
        """Read what there is of its output, the last line of a killed process may be cut; the exit code."""
        assert self.process.stdout is not None
        self.process.stdout.read()
        return self.process.wait(PATIENCE)

    def end(self) -> int:
        """Read all events to the end; gives the exit code."""
        assert self.process.stdout is not None
        self.events += [json.loads(line) for line in self.process.stdout]
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE)

    @property
    def run_id(self) -> str:
        return str(self.events[0]["run"])

    @property
    def last(self) -> dict[str, Any]:
        return self.events[-1]


def wait_until(condition: Any, what: str) -> None:
    """Look until something is true; for what no event tells."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.02)


def has_text(path: Path) -> bool:
    return path.exists() and path.read_text().endswith("\n")
