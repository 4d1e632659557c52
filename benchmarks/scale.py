"""How long commands take on large stores, and what large runs cost. Prints Markdown tables.

    ./dev python benchmarks/scale.py                         100,000 tasks in a run, 10,000 runs in a store
    ./dev python benchmarks/scale.py --tasks 1000 --runs 100 --quick

First table: a plan of functions that do nothing, run durably by a process of its own (`run(plan, store=…)`)
with 100 places; and the same, killed with SIGKILL when half of it is done, and resumed. `wide`: the tasks
depend on nothing; `strands`: each of 1,000 strands is a chain.

Second table: commands as people type them, each in a new process, with what they print thrown away: on a
store with one run of one task ("small"), on one with very many small runs, and on one with one very large
run: ended, and cut off by SIGKILL in the middle. Shown is the best of three, in milliseconds, and in brackets
the most memory that the process had, in MiB. What counts is the difference to "small", which is the start of
Python and the imports.

Times are processor time, so that other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from uuid_utils import uuid7

from allready import Plan, run
from allready.core.events import Change
from allready.store.contract import Batch, RunRow, Store, TaskRow
from allready.store.open import open_store
from allready.store.owners import this_process

PLACES = 100
STRANDS = 1_000
"""Chains beside each other in the shape `strands`."""
TASKS_OF_A_RUN = 3
"""Of each of very many runs."""
TRIES = 3
QUICK = (("status",), ("why", "latest", "TASK"))
"""Commands of a trial of this script itself."""
COMMANDS = (
    ("list",),
    ("list", "--status", "failed"),
    ("status",),
    ("show",),
    ("show", "latest", "TASK"),
    ("logs", "latest", "TASK"),
    ("why",),
    ("why", "latest", "TASK"),
    ("status", "--json"),
)


class Measured(NamedTuple):
    """What a process took."""

    code: int
    seconds: float
    memory: int
    """In MiB, at most."""


# --- runs -------------------------------------------------------------------------------------------------


async def nothing() -> str:
    return "done"


def make_plan(tasks: int, shape: str) -> Plan:
    plan = Plan(f"{tasks:,} tasks that do nothing", max_parallel=min(PLACES, tasks // 10 or 1))
    strands = min(STRANDS, tasks // 10 or 1)
    for number in range(tasks):
        after = [f"t{number - strands}"] if shape == "strands" and number >= strands else []
        plan.add(nothing, id=f"t{number}", depends_on=after)
    return plan


def child(tasks: int, shape: str, store: Path, resume: str | None, kill_at: int | None) -> None:
    """Do the run in this process; at the end of the task `kill_at` it kills itself."""
    ended = 0

    def look(event: object) -> None:
        nonlocal ended
        ended += getattr(event, "type", "") == "task.completed"
        if ended == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    result = asyncio.run(run(make_plan(tasks, shape), store=store, resume=resume, on_event=look))
    sys.exit(result.status != "completed")


MEASURE = """
import os, sys
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ,
                     file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)])
_, status, used = os.wait4(pid, 0)
print(os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, used.ru_maxrss // 1024)
"""
"""A small process between: what a process has before it starts a program counts as the program's memory."""


def measure(command: Sequence[str | Path], cwd: Path) -> Measured:
    """Run a command of Python, without what it prints."""
    words = [sys.executable, "-ISc", MEASURE, sys.executable, *map(str, command)]
    told = subprocess.run(words, cwd=cwd, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    return Measured(int(told[0]), float(told[1]), int(told[2]))


def in_a_child(
    tasks: int, shape: str, store: Path, *, resume: str | None = None, kill_at: int | None = None
) -> Measured:
    command: list[str | Path] = [Path(__file__).absolute(), "--child", shape, store]
    command += [f"--tasks={tasks}", *([f"--resume={resume}"] if resume else [])]
    return measure([*command, *([f"--kill-at={kill_at}"] if kill_at else [])], store.parent)


def expect(measured: Measured, code: int) -> Measured:
    assert measured.code == code, f"exit code {measured.code} instead of {code}"
    return measured


def large_runs(folder: Path, tasks: int) -> tuple[Path, Path]:
    """Print what large runs cost; gives a store with one that has ended, and one with one cut off."""
    print(f"| {tasks:,} tasks | s | µs a task | MiB | of the store |")
    print("| --- | ---: | ---: | ---: | ---: |")
    stores = []
    for shape in ("wide", "strands"):
        store = folder / shape / "runs.db"
        store.parent.mkdir()
        row(f"{shape}, to its end", expect(in_a_child(tasks, shape, store), 0), tasks, store)
        stores.append(store)
    store = folder / "cut" / "runs.db"
    store.parent.mkdir()
    row(
        "strands, until half",
        expect(in_a_child(tasks, "strands", store, kill_at=tasks // 2), -9),
        tasks,
        store,
    )
    shutil.copytree(store.parent, folder / "cut off")
    row("strands, resumed", expect(in_a_child(tasks, "strands", store, resume="latest"), 0), tasks, store)
    with closing(open_store(store)) as opened:
        found = opened.run(opened.find_run("latest"), plan=False)
        assert (found.status, found.counts) == ("completed", {"completed": tasks}), found
    print()
    return stores[0], folder / "cut off" / "runs.db"


def row(name: str, measured: Measured, tasks: int, store: Path) -> None:
    files = [path for path in store.parent.iterdir() if path.name.startswith(store.name)]
    size = sum(path.stat().st_size for path in files) // 1024**2
    seconds = measured.seconds
    print(
        f"| {name} | {seconds:.1f} | {seconds / tasks * 1e6:.0f} | {measured.memory} | {size} |", flush=True
    )


# --- stores -----------------------------------------------------------------------------------------------


def many_runs(path: Path, runs: int) -> Path:
    """Make a store with very many runs that have ended, one in ten of them failed."""
    path.parent.mkdir()
    with closing(open_store(path)) as store:
        for number in range(runs):
            add_run(store, number, path.parent)
    return path


def add_run(store: Store, number: int, folder: Path) -> None:
    run_id = str(uuid7())
    at = time.time()
    end = "failed" if number % 10 == 0 else "completed"
    tasks = [TaskRow(place, f"t{place}", {"id": f"t{place}"}) for place in range(TASKS_OF_A_RUN)]
    entries = [{"id": task.id, "run": ["true"]} for task in tasks]
    made = RunRow(run_id, f"goal {number}", "created", at, number, str(folder / run_id), {"tasks": entries})
    made.options = {"base_dir": str(folder), "timeout": None, "first_tasks": TASKS_OF_A_RUN, "agents": {}}
    store.create_run(made, tasks)
    lease = store.acquire(run_id, this_process())
    moved = [
        {
            "index": task.index,
            "state": "completed",
            "attempts": 1,
            "agent": "command",
            "handle": f"h-{number}",
        }
        | {"started_at": at, "finished_at": at, "error": None, "memory": {}}
        for task in tasks
    ]
    head = {"status": end, "started_at": at, "finished_at": at, "counts": {"completed": len(tasks)}}
    changes = [Change(at, f"run.{end}", None, None, None)]
    store.commit(run_id, lease.epoch, Batch(changes, [["tick", at]], tasks=moved, run=head))
    store.release(run_id, lease.epoch)


# --- commands ---------------------------------------------------------------------------------------------


def command_table(stores: dict[str, tuple[Path, str]], *, quick: bool) -> None:
    """Print what each command takes on each store; the values are the store and a task in it."""
    print(f"| allready … | {' | '.join(stores)} |")
    print(f"| --- | {' | '.join('---:' for _ in stores)} |")
    for command in QUICK if quick else COMMANDS:
        cells = []
        for store, task in stores.values():
            words = [task if word == "TASK" else word for word in command]
            whole = ["-m", "allready", *words, "--store", store]
            tries = [expect(measure(whole, store.parent), 0) for _ in range(1 if quick else TRIES)]
            best = min(tries, key=lambda tried: tried.seconds)
            cells.append(f"{best.seconds * 1000:.0f} ms ({best.memory})")
        print(f"| `{' '.join(command)}` | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--quick", action="store_true", help="few commands, one try")
    parser.add_argument("--child", nargs=2, metavar=("SHAPE", "STORE"), help=argparse.SUPPRESS)
    parser.add_argument("--resume", help=argparse.SUPPRESS)
    parser.add_argument("--kill-at", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child is not None:
        shape, store = given.child
        child(given.tasks, shape, Path(store), given.resume, given.kill_at)
    print(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {os.cpu_count()} processors")
    print()
    with tempfile.TemporaryDirectory(prefix="allready-scale-") as name:
        folder = Path(name)
        small = folder / "small" / "runs.db"
        small.parent.mkdir()
        expect(in_a_child(1, "wide", small), 0)
        ended, cut_off = large_runs(folder, given.tasks)
        many = many_runs(folder / "many" / "runs.db", given.runs)
        half = f"t{given.tasks // 2}"
        command_table(
            {
                "small": (small, "t0"),
                f"{given.runs:,} runs": (many, "t0"),
                f"{given.tasks:,} tasks, ended": (ended, half),
                f"{given.tasks:,} tasks, cut off": (cut_off, half),
            },
            quick=given.quick,
        )


if __name__ == "__main__":
    main()
