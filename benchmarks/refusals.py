"""What waiting costs: refused starts, processor time while nothing moves, and the start of the program.

    ./dev python -m benchmarks.refusals            two minutes

*Refusals*: 10,000 ready tasks that do nothing and have to share what is scarce; how often the pool
refused, for each task that it started.

*Nothing moves*: a durable run on SQLite in a process of its own, without a terminal, in which one task
takes long. After the first two seconds, the time that all threads of the process were on a processor
(Linux tells it in nanoseconds), over 20 s. Its lease is renewed meanwhile, and it listens for commands of
people.

*Start*: from the start of the process to its end, by the clock, median of ten, in turn.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from benchmarks.common import Options, judged, main, short, spread, table
from benchmarks.overhead import no_work

from allready.core.graph import TaskGraph, TaskSpec
from allready.core.scheduler import DagScheduler
from allready.engine.loop import run_scheduler_loop
from allready.pool.manager import SubAgentManager

TASKS = 10_000
PLACES = 5
SETTLED = 2.0
"""Seconds after the task has begun, from when on nothing moves."""
WATCHED, QUICKLY = 20.0, 0.5
TRIES = 10
GOAL_REFUSALS, GOAL_IDLE, GOAL_VERSION, GOAL_VALIDATE = 1, 0.1, 150, 300
ALLREADY = Path(sys.executable).parent / "allready"

FUNCTION = """
import asyncio, pathlib
from allready import Plan, run

plan = Plan("wait")

@plan.task
async def waits() -> None:
    pathlib.Path("begun").touch()
    await asyncio.sleep(600)

asyncio.run(run(plan, store="runs.db"))
"""
COMMAND = """
goal: wait
tasks:
  - id: waits
    run: [sh, -c, touch begun; exec sleep 600]
"""
PLAN = """
goal: a small plan
tasks:
  - id: fetch
    run: [echo, one]
  - id: check
    run: [echo, two]
  - id: report
    run: [cat, "{{ fetch.output }}", "{{ check.output }}"]
    depends_on: [fetch, check]
"""


# --- refusals ---------------------------------------------------------------------------------------------


def scarce(tasks: int) -> dict[str, tuple[list[TaskSpec], SubAgentManager]]:
    """Give specs and a pool, by what is scarce."""
    every = range(tasks)
    return {
        "places": ([TaskSpec(f"t{number}") for number in every], SubAgentManager(PLACES)),
        "places, and a resource that every second task needs": (
            [TaskSpec(f"t{number}", resources=(("gpu", 1),) if number % 2 else ()) for number in every],
            SubAgentManager(PLACES, resources={"gpu": 2}),
        ),
        "places, and ten agents that may have one task each": (
            [TaskSpec(f"t{number}", agent=f"a{number % 10}") for number in every],
            SubAgentManager(PLACES, agent_limits={f"a{number}": 1 for number in range(10)}),
        ),
    }


def refusals(tasks: int) -> Iterator[list[str]]:
    for what, (specs, pool) in scarce(tasks).items():
        scheduler = DagScheduler(TaskGraph(specs))
        began = time.process_time()
        status = asyncio.run(run_scheduler_loop(scheduler, pool, no_work))
        took = time.process_time() - began
        counts = scheduler.statistics
        assert (status, counts.spawns) == ("completed", tasks)
        refused = judged(counts.refusals / counts.spawns, GOAL_REFUSALS)
        yield [refused, what, f"{tasks:,}", f"{counts.refusals:,}", short(took / tasks * 1e6)]


# --- nothing moves ----------------------------------------------------------------------------------------


def on_processor(process: int) -> float:
    """Give the seconds that the living threads of a process were on a processor."""
    nanoseconds = 0
    for thread in Path(f"/proc/{process}/task").iterdir():
        nanoseconds += int((thread / "schedstat").read_text().split()[0])
    return nanoseconds / 1e9


def idle(command: list[str], watched: float, settled: float) -> tuple[float, int]:
    """Give processor time ÷ time of a run in which nothing moves, and how many threads it has."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        (Path(folder) / "plan.yaml").write_text(COMMAND)
        (Path(folder) / "program.py").write_text(FUNCTION)
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            while not (Path(folder) / "begun").exists():
                assert process.poll() is None, f"{command} ended with {process.returncode}"
                time.sleep(0.05)
            time.sleep(settled)
            before, began = on_processor(process.pid), time.monotonic()
            time.sleep(watched)
            used = (on_processor(process.pid) - before) / (time.monotonic() - began)
            threads = len(list(Path(f"/proc/{process.pid}/task").iterdir()))
            process.send_signal(signal.SIGINT)
            process.wait(30)
        finally:
            process.kill()
            process.wait()
    return used, threads


def nothing_moves(options: Options) -> Iterator[list[str]]:
    watched, settled = (QUICKLY, 0) if options.quick else (WATCHED, SETTLED)
    commands = {
        "a command, `allready run`": [str(ALLREADY), "run", "plan.yaml", "--store", "runs.db"],
        "a function, `run(plan, store=…)`": [sys.executable, "program.py"],
    }
    for what, command in commands.items():
        used, threads = idle(command, watched, settled)
        yield [judged(used * 100, GOAL_IDLE), what, f"{watched:g}", short(used * watched * 1e3), str(threads)]


# --- start ------------------------------------------------------------------------------------------------


def start(options: Options) -> Iterator[list[str]]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        (Path(folder) / "plan.yaml").write_text(PLAN)
        commands = {
            "allready --version": ([str(ALLREADY), "--version"], GOAL_VERSION),
            "allready validate plan.yaml": ([str(ALLREADY), "validate", "plan.yaml"], GOAL_VALIDATE),
            "python -c pass": ([sys.executable, "-c", "pass"], None),
        }
        took: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(1 if options.quick else TRIES):
            for name, (command, _) in commands.items():
                began = time.perf_counter()
                subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
                took[name].append((time.perf_counter() - began) * 1e3)
        for name, (_, goal) in commands.items():
            share = judged(median(took[name]) / goal, 1) if goal else ""
            yield [share, f"`{name}`", spread(took[name]), str(goal or "")]


def report(options: Options) -> Iterator[str]:
    yield f"{PLACES} places; processor time in µs a task.\n"
    head = [f"refused ÷ started (≤ {GOAL_REFUSALS})", " scarce are", "tasks", "refused", "time"]
    yield from table(head, refusals(100 if options.quick else TASKS))
    yield "A durable run in which one long task runs and nothing moves.\n"
    head = [f"of a processor, % (≤ {GOAL_IDLE})", " the task", "watched, s", "processor time, ms", "threads"]
    yield from table(head, nothing_moves(options))
    yield "Start to end of a process, ms: median (least to most).\n"
    yield from table(["÷ goal (≤ 1)", " command", "took", "goal"], start(options))


if __name__ == "__main__":
    main(report, __doc__)
