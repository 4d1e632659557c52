"""Playing many simulated runs: seeds, and fixed plans that crash at every point; in several processes."""

from __future__ import annotations

import logging
import multiprocessing
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import NamedTuple

from tests.simulation.doors import StoreFile
from tests.simulation.fixed import FIXED
from tests.simulation.life import play, play_fixed
from tests.simulation.world import Summary

MEMORY = Path("/dev/shm")
"""A file system in memory, where there is one: the simulated stores are not to be kept."""
RUNS_OF_A_FILE = 500
"""Simulated runs in one store, before a new one is made."""
MORE_CRASHES = 2
"""After a crash at a given point, runs crash at so many more points at most, chosen by a seed."""


class Trial(NamedTuple):
    """One simulated run to be played."""

    seed: int = 0
    plan: str | None = None
    """A fixed plan; None: one drawn from the seed."""
    crash_at: tuple[int, ...] = ()

    @property
    def command(self) -> str:
        """What plays it again."""
        if self.plan is None:
            return f"./dev python -m tests.simulation --seed {self.seed} -v"
        points = ",".join(map(str, self.crash_at))
        return f"./dev python -m tests.simulation --plan {self.plan} --crash-at {points} -v"


@dataclass
class Tally:
    """What became of many trials."""

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[Trial, list[str]]] = field(default_factory=list)

    def add(self, trial: Trial, summary: Summary) -> None:
        self.counts["runs"] += 1
        self.counts["points passed"] += summary.points
        self.counts[f"runs: {summary.status}"] += 1
        self.counts += summary.counts
        if summary.problems:
            self.failures.append((trial, summary.problems))

    def join(self, other: Tally) -> None:
        self.counts += other.counts
        self.failures += other.failures


@contextmanager
def store_files() -> Generator[Callable[[], StoreFile]]:
    """Give what gives a store for the next simulated run."""
    place = Path(tempfile.mkdtemp(prefix="simulated runs ", dir=MEMORY if MEMORY.is_dir() else None))
    files: list[StoreFile] = []
    used = 0

    def file() -> StoreFile:
        nonlocal used
        if used % RUNS_OF_A_FILE == 0:
            if files:
                files[-1].close()
                shutil.rmtree(files.pop().folder)
            folder = place / str(used)
            folder.mkdir()
            files.append(StoreFile(folder))
        used += 1
        return files[-1]

    try:
        yield file
    finally:
        for each in files:
            each.close()
        shutil.rmtree(place)


def play_trial(trial: Trial, file: StoreFile) -> Summary:
    if trial.plan is None:
        return play(trial.seed, file)
    return play_fixed(FIXED[trial.plan], file, trial.crash_at)


def play_all(trials: Iterable[Trial]) -> Tally:
    """Play trials in this process."""
    tally = Tally()
    with store_files() as file:
        for trial in trials:
            tally.add(trial, play_trial(trial, file()))
    return tally


def play_chunks(chunks: Iterable[Sequence[Trial]], jobs: int) -> Iterator[Tally]:
    """Play trials in `jobs` processes; gives a tally for each chunk, in order."""
    if jobs <= 1:
        yield from map(play_all, chunks)
        return
    quiet = logging.disable  # stores that fail are told of again and again
    with multiprocessing.get_context("spawn").Pool(jobs, quiet) as pool:
        yield from pool.imap(play_all, chunks)


def points_of(plan: str) -> list[str]:
    """Give all points that a fixed plan's run passes if nothing goes wrong. Raises `AssertionError`."""
    with store_files() as file:
        summary = play_fixed(FIXED[plan], file(), ())
    assert not summary.problems, f"{plan}: {summary.problems}\n" + "\n".join(summary.lines)
    return summary.names


def crashes_at_every_point(plan: str, points: int, seed: int = 0) -> list[Trial]:
    """Give a trial for each point of a plan: it crashes there, and perhaps again later."""
    trials = []
    for point in range(1, points + 1):
        random = Random(f"{seed}/{plan}/{point}")
        later = [point + random.randint(1, points) for _ in range(random.randint(0, MORE_CRASHES))]
        trials.append(Trial(plan=plan, crash_at=(point, *sorted(set(later)))))
    return trials
