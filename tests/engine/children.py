"""Child processes that drive runs, to be killed, steered and raced."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LONGEST = 60.0
"""Seconds a child may live."""
ROOT = Path(__file__).parents[2]


class Child:
    """A process that tells its events on stdout, one JSON list a line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def wait_for(self, *wanted: Any) -> list[Any]:
        """Read until this line came; gives all lines read."""
        assert self.process.stdout is not None
        seen = []
        for line in self.process.stdout:
            seen.append(json.loads(line))
            if seen[-1][: len(wanted)] == list(wanted):
                return seen
        raise AssertionError(f"the child ended before {wanted}; it told {seen}")

    def wait_for_all(self, *wanted: list[Any]) -> None:
        """Read until each of these lines came, in any order."""
        assert self.process.stdout is not None
        left = list(wanted)
        for line in self.process.stdout:
            if json.loads(line) in left:
                left.remove(json.loads(line))
            if not left:
                return
        raise AssertionError(f"the child ended before {left}")

    def kill(self) -> None:
        """As the system does when memory runs out."""
        self.process.kill()
        self.process.wait()

    def rest(self) -> list[Any]:
        """Read to the end."""
        assert self.process.stdout is not None
        lines = [json.loads(line) for line in self.process.stdout]
        self.process.wait()
        return lines


@contextmanager
def child(base: Path, kind: str, resume: str | None = None) -> Iterator[Child]:
    """Start `crash_program` on the store and the folder at `base`."""
    arguments = [f"sqlite:///{base}/runs.db", str(base), kind, *([resume] if resume else [])]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.engine.crash_program", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        watchdog = threading.Timer(LONGEST, process.kill)  # a test that waits in vain fails then
        watchdog.start()
        try:
            yield Child(process)
        finally:
            watchdog.cancel()
            process.kill()


def block(base: Path, *tasks: str) -> None:
    (base / "block").write_text(" ".join(tasks))


def unblock(base: Path) -> None:
    (base / "block").unlink(missing_ok=True)


def calls(base: Path) -> Counter[str]:
    """How often each task was called, in all processes."""
    path = base / "calls"
    return Counter(path.read_text().split() if path.exists() else [])
