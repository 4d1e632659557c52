"""Attempts for tests of agents."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import psutil

from allready.agents.base import Attempt


def make_attempt(base: Path, **settings: Any) -> Attempt:
    """An attempt whose folder is `base/attempt`, of a run that no other test has."""
    place = base / "attempt"
    place.mkdir(parents=True)
    values: dict[str, Any] = {
        "run_id": f"run-{uuid.uuid4()}",
        "task_id": "task",
        "handle": f"attempt-{uuid.uuid4()}",
        "number": 1,
        "folder": place,
        "base_dir": base,
    }
    return Attempt(**(values | settings))


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def children() -> set[int]:
    """Give the processes that this one has started and not taken leave of, zombies too."""
    return {child.pid for child in psutil.Process().children()}


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"
