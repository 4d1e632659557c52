"""One trial: a run whose processes are killed and begun anew until it has ended, and then is examined."""

from __future__ import annotations

import json
import os
import random
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from tests.crash import ledger, points
from tests.crash.places import Look, Place
from tests.crash.plans import PLANS, Wish
from tests.crash.work import OWNED, Job

ROOT = Path(__file__).parents[2]
PATIENCE = 120.0
"""Seconds that a trial may take; they take one, on a machine that does nothing else."""
LOOK_EVERY = 0.01
"""Seconds between two looks at the ledger while a process runs."""
MOST_PROCESSES = 30
"""A trial with more goes round in circles."""
FURTHER_KILLS = 3
"""How often at most processes are killed after the first time."""
KILL_AGAIN = 0.7
"""How probable it is then that a process is to be killed, too."""
ENDED = frozenset({"completed", "failed", "canceled"})
KILLED = -signal.SIGKILL


class Crash(NamedTuple):
    """Where the first crash of a trial is: in which of its processes, and when."""

    process: int
    """From 1, in the order in which they begin in a run without crashes."""
    point: str | None = None
    """Its name; None: from outside, after `seconds`."""
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.process}/{self.point or f'{self.seconds:.4f}s'}"

    @classmethod
    def read(cls, text: str) -> Crash:
        """Give what `str()` wrote. Raises `ValueError`."""
        process, _, point = text.partition("/")
        if point.endswith("s") and "#" not in point:
            return cls(int(process), None, float(point[:-1]))
        return cls(int(process), point)


class Zygote:
    """The process that forks those of trials. A context manager; nothing outlives it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.zygote"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        assert self._process.stdout is not None
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._process.stdout, selectors.EVENT_READ)
        self._buffer = b""
        self._events: list[list[str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._selector.close()

    def fork(self, job: Job) -> int:
        """Begin a job; gives the process's pid."""
        assert self._process.stdin is not None
        self._process.stdin.write(job.to_json().encode() + b"\n")
        waiting: list[list[str]] = []
        while True:
            event = self.next(PATIENCE)
            assert event is not None, "the zygote does not fork"
            if event[0] == "started":
                self._events = waiting + self._events
                return int(event[1])
            if event[0] != "ready":
                waiting.append(event)

    def next(self, timeout: float) -> list[str] | None:
        """Give what the zygote tells next; None if that is nothing for so many seconds."""
        if not self._events and self._selector.select(timeout):
            assert self._process.stdout is not None
            data = self._process.stdout.read(1 << 16)
            assert data, "the zygote has ended"
            *lines, self._buffer = (self._buffer + data).split(b"\n")
            self._events += [line.decode().split() for line in lines]
        return self._events.pop(0) if self._events else None


@dataclass
class Result:
    """What came of a trial."""

    crash: Crash | None
    problems: list[str] = field(default_factory=list)
    outcome: dict[str, Any] = field(default_factory=dict)
    traces: dict[int, list[str]] = field(default_factory=dict)
    """Number of a process → the names of the points that it passed."""
    seconds: dict[int, float] = field(default_factory=dict)
    """Number of a process → how long it ran."""
    kills: int = 0
    resumes: int = 0
    """How often a run was taken up."""
    met: bool = False
    """Whether the process really died at the crash's point."""


@dataclass
class _Process:
    job: Job
    pid: int
    began: float
    kill_at: float | None
    in_company: bool = False
    """Whether another process of the trial ran at the same time."""


class Trial:
    """Makes a run of a plan, crashes and all. `clean` is the result of one without; None: this is it."""

    def __init__(
        self,
        zygote: Zygote,
        place: Place,
        folder: Path,
        plan: str,
        crash: Crash | None = None,
        seed: int = 0,
        clean: Result | None = None,
    ) -> None:
        self._zygote = zygote
        self._place = place
        self._plan = plan
        self._reference = PLANS[plan]
        self._folder = folder
        folder.mkdir(parents=True)
        self._url = place.store(folder, fresh=self._reference.fresh)
        self._goal = f"{plan}-{folder.name}-{os.getpid()}-{time.monotonic_ns()}"
        self._crash = crash
        self._clean = clean
        self._chance = random.Random(f"{seed}/{plan}/{crash}")
        self._further = self._chance.randint(0, FURTHER_KILLS) if crash else 0
        self._most = max(map(len, clean.traces.values())) if clean else 0
        self._count = 0
        self._limits = 1
        self._wished = 0
        self._result = Result(crash)
        self._ledger = folder / "ledger"
        self._deadline = time.monotonic() + PATIENCE
        self._completed: dict[str, int] = {}
        self._running: list[_Process] = []

    def run(self) -> Result:
        """Do it; the folder stays if there are problems."""
        result = self._result
        look: Look | None = None
        try:
            while True:
                look = self._look()
                job = self._next(look)
                if job is None:
                    break
                self._go(job, look)
            assert look is not None
            self._examine(look)
        except _Stopped as stopped:
            result.problems.append(str(stopped))
        finally:
            self._stop_all()
        left = points.kill_processes_of(self._ledger)
        if left:
            result.problems.append(f"left running at the end: {left}")
        if not result.problems:
            shutil.rmtree(self._folder)
        return result

    # --- what comes next ------------------------------------------------------------------------------

    def _look(self) -> Look | None:
        """Look at the record; what was completed must stay so."""
        look = self._place.look(self._url, self._goal)
        now = look.completed if look else {}
        if any(now.get(task) != attempts for task, attempts in self._completed.items()):
            self._result.problems.append(f"was completed: {self._completed}, is now: {now}")
        self._completed = now
        return look

    def _next(self, look: Look | None) -> Job | None:
        """Say which process comes next; None: the run has ended."""
        if look is None:
            return self._job("drive")
        if look.status in ENDED:
            if look.status == "failed" and self._reference.again:
                return self._job("person", look)
            return None
        if look.status == "paused" and not look.pending:
            if look.pause == "limit":
                self._limits += 1
                return self._job("drive", look)
            if look.pause == "decision" and look.undecided:
                return self._job("person", look)
        return self._job("drive", look)

    def _job(self, kind: str, look: Look | None = None, wish: int | None = None) -> Job:
        limit = self._reference.limit
        return Job(
            kind,
            self._plan,
            self._url,
            str(self._folder),
            self._goal,
            0,
            run=look.run if look else None,
            limit=None if limit is None or look is None else limit * self._limits,
            wish=wish,
        )

    def _start(self, job: Job) -> _Process:
        """Begin a process, and settle whether and where it is to die."""
        self._count += 1
        if self._count > MOST_PROCESSES:
            raise _Stopped(f"{MOST_PROCESSES} processes did not bring the run to its end")
        job.number = self._count
        kill_in = None
        crash = self._crash
        if crash is not None and self._count == crash.process:
            job.at = crash.point
            kill_in = crash.seconds if crash.point is None else None
        elif crash is not None and self._count > crash.process and self._kills_again():
            job.after = self._chance.randint(1, self._most)
        if job.kind == "drive" and job.run is not None:
            self._result.resumes += 1
        pid = self._zygote.fork(job)
        now = time.monotonic()
        return _Process(job, pid, now, None if kill_in is None else now + kill_in)

    def _kills_again(self) -> bool:
        again = self._further > 0 and self._chance.random() < KILL_AGAIN
        self._further -= again
        return again

    # --- processes ------------------------------------------------------------------------------------

    def _go(self, job: Job, look: Look | None) -> None:
        """Have a process do a job to its end, or to its death; the person may say something meanwhile."""
        running = self._running
        main = self._start(job)
        running.append(main)
        while running:
            self._wait()
            if main in running and len(running) == 1 and job.kind == "drive":
                wish = self._due_wish()
                if wish is not None:
                    look = look or self._place.look(self._url, self._goal)
                    if look is not None:
                        main.in_company = True
                        running.append(self._start(self._job("person", look, wish)))

    def _due_wish(self) -> int | None:
        """Give the number of what the person wants to say now."""
        wishes = self._reference.wishes
        lines = list(ledger.lines(self._ledger))
        given = {int(line[1]) for line in lines if line[0] == "wish"}
        number = len(given)
        if number >= len(wishes):
            return None
        return number if _is_due(wishes[number], lines) else None

    def _wait(self) -> None:
        """Wait for the end of a process, for a moment; kill what is to be killed from outside."""
        now = time.monotonic()
        if now > self._deadline:
            raise _Stopped(f"hangs: not done after {PATIENCE:g} s")
        kills = [process.kill_at - now for process in self._running if process.kill_at is not None]
        ended = self._hear(max(0.0, min([LOOK_EVERY, *kills])))
        if ended is not None:
            self._ended(*ended)
        for process in self._running:
            if process.kill_at is not None and process.kill_at <= time.monotonic():
                process.kill_at = None
                os.kill(process.pid, signal.SIGKILL)

    def _hear(self, timeout: float) -> tuple[_Process, int] | None:
        """Give the process that has ended, and its exit code, if one did in this time."""
        event = self._zygote.next(timeout)
        if event is None or event[0] != "ended":
            return None
        process = next(one for one in self._running if one.pid == int(event[1]))
        self._running.remove(process)
        return process, os.waitstatus_to_exitcode(int(event[2]))

    def _stop_all(self) -> None:
        """Kill what still runs, because the trial can't go on."""
        for process in self._running:
            os.kill(process.pid, signal.SIGKILL)
        while self._running:
            self._hear(PATIENCE)

    def _ended(self, process: _Process, code: int) -> None:
        result, job = self._result, process.job
        if job.trace.exists():
            result.traces[job.number] = job.trace.read_text().split()
            result.seconds[job.number] = time.monotonic() - process.began
        if code == KILLED:
            result.kills += 1
            if self._crash is not None and job.number == self._crash.process:
                result.met = True
        elif code == OWNED and process.in_company:
            pass  # it came while the person decided on the record
        elif code != 0:
            errors = Path(job.folder, "errors").read_text()
            result.problems.append(
                f"process {job.number} ({job.kind}) ended with code {code}: {errors[-3000:]}"
            )
            raise _Stopped("so the trial ends")

    def _examine(self, look: Look) -> None:
        result = self._result
        job = self._job("check", look)
        job.clean = self._clean.outcome if self._clean else None
        job.kills = result.kills
        self._running.append(_Process(job, self._zygote.fork(job), time.monotonic(), None))
        while self._running:
            self._wait()
        verdict = json.loads((self._folder / "verdict.json").read_text())
        result.outcome = verdict["outcome"]
        result.problems += verdict["problems"]


def _is_due(wish: Wish, lines: Sequence[list[str]]) -> bool:
    if wish.paused:
        told = [line[2] for line in lines if line[0] == "told" and line[2].startswith("run.")]
        if not told or told[-1] != "run.paused":
            return False
    return all(_has(lines, once) for once in wish.once)


def _has(lines: Sequence[list[str]], once: tuple[str, ...]) -> bool:
    """Whether there is such a line; a task that was lost in a crash does not end before it is begun again."""
    if any(tuple(line[: len(once)]) == once for line in lines):
        return True
    told = [line[2] for line in lines if line[0] == "told" and line[3] == once[1]] if once[0] == "end" else []
    return bool(told) and told[-1] == "task.deferred"


class _Stopped(Exception):
    """The trial can't go on."""
