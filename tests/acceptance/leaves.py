"""What is left running of a run: processes that carry its id in their environment."""

from __future__ import annotations

from pathlib import Path

import psutil
from tests.acceptance.program import wait_until


def of_run(run_id: str) -> list[psutil.Process]:
    """Give all living processes whose environment names the run."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and run_id in process.environ().values():
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def nothing_runs(run_id: str) -> None:
    left = [(process.pid, process.cmdline()) for process in of_run(run_id)]
    assert not left, left


def wait_for_pids(folder: Path, count: int) -> list[int]:
    """Wait until so many processes have said who they are (a line each in `pids`)."""
    path = folder / "pids"
    wait_until(lambda: path.exists() and len(path.read_text().split()) >= count, f"{count} processes run")
    return [int(pid) for pid in path.read_text().split()]
