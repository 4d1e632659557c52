"""How long after its last look at the lease a process may still start a program.

    ./dev python benchmarks/launch_window.py [--tasks N] [--slots N]

A durable run of commands that do nothing, on SQLite. For each is taken the time from the last look at the
lease until the system has started the program. A process that is suspended just in between, for longer than
its lease, starts that one program when it goes on, although the run may belong to another process by then.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from allready import run_sync
from allready.engine.journal import StoreJournal
from allready.plan.load import plan_from_document


def windows(tasks: int, slots: int) -> list[float]:
    """Give the seconds for each task, sorted."""
    looked = 0.0
    taken = []
    holds, popen = StoreJournal.holds, subprocess.Popen

    def looking(self: StoreJournal) -> bool:
        nonlocal looked
        looked = time.perf_counter()
        return holds(self)

    def starting(*args: Any, **kwargs: Any) -> Any:
        began = looked
        process = popen(*args, **kwargs)  # returns when the program has taken the child's place
        taken.append(time.perf_counter() - began)
        return process

    StoreJournal.holds, subprocess.Popen = looking, starting  # type: ignore[method-assign, assignment, misc]
    try:
        with tempfile.TemporaryDirectory() as folder:
            document = {"tasks": [{"id": f"t{number}", "run": ["true"]} for number in range(tasks)]}
            plan = plan_from_document(document, base_dir=Path(folder))
            run_sync(plan, store=Path(folder) / "runs.db", max_parallel=slots, agents={})
    finally:
        StoreJournal.holds, subprocess.Popen = holds, popen  # type: ignore[method-assign, misc]
    return sorted(taken)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", type=int, default=500)
    parser.add_argument("--slots", type=int, default=4)
    options = parser.parse_args()
    found = windows(options.tasks, options.slots)
    print("| programs | median | 99 of 100 within | longest |\n| --- | --- | --- | --- |")
    figures = (median(found), found[int(len(found) * 0.99)], found[-1])
    print(f"| {len(found)} | {' | '.join(f'{figure * 1e3:.1f} ms' for figure in figures)} |")


if __name__ == "__main__":
    main()
