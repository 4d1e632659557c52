"""Kill runs at every point, and look whether anything was lost: `./dev poe crash`.

For each reference plan it makes a run without crashes, and notes which points its processes pass. Then, for
each of these points (and for some moments that are chosen from outside), it makes a run whose process dies
right there by SIGKILL, goes on with it, kills that process, too, at a random point, up to three times in a
row, and examines what came of it. The table tells what was tried. Exit code 1 if anything was found.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests import postgres
from tests.crash.choice import DIVISOR, crashes_of, sample
from tests.crash.places import STORES, Place, place
from tests.crash.plans import PLANS
from tests.crash.trial import Crash, Result, Trial, Zygote

OUTSIDE = 20
"""Kills from outside, at random moments, of each plan."""


@dataclass
class Row:
    """What was tried of a plan on a store."""

    store: str
    plan: str
    trials: int = 0
    points: int = 0
    """Trials whose process died at the point that was wanted."""
    outside: int = 0
    """Trials whose process was killed from outside."""
    missed: list[str] = field(default_factory=list)
    """Points that were not passed this time."""
    kills: int = 0
    resumes: int = 0
    failures: int = 0
    seconds: float = 0.0

    def add(self, result: Result) -> None:
        self.trials += 1
        self.kills += result.kills
        self.resumes += result.resumes
        self.failures += bool(result.problems)
        if result.crash is not None and result.met:
            self.points += result.crash.point is not None
            self.outside += result.crash.point is None
        elif result.crash is not None:
            self.missed.append(str(result.crash))


class Harness:
    """Makes trials, several at a time, each worker with a zygote of its own."""

    def __init__(self, stack: ExitStack, folder: Path, jobs: int, seed: int) -> None:
        self._stack = stack
        self._folder = folder
        self._seed = seed
        self._workers = stack.enter_context(ThreadPoolExecutor(jobs))
        self._own = threading.local()
        self._lock = threading.Lock()
        self._count = 0
        self.rows: list[Row] = []

    def _zygote(self) -> Zygote:
        if not hasattr(self._own, "zygote"):
            with self._lock:
                self._own.zygote = self._stack.enter_context(Zygote())
        zygote: Zygote = self._own.zygote
        return zygote

    def _trial(self, kept: Place, plan: str, crash: Crash | None, clean: Result | None) -> Result:
        with self._lock:
            self._count += 1
            folder = self._folder / f"trial-{self._count}"
        return Trial(self._zygote(), kept, folder, plan, crash, self._seed, clean).run()

    def plan(
        self, store: str, kept: Place, plan: str, points: Sequence[str], number: int | None, outside: int
    ) -> None:
        """Try a plan at all points; or at those that are given, or at so many of them."""
        row = Row(store, plan)
        self.rows.append(row)
        began = time.monotonic()
        clean = self._workers.submit(self._trial, kept, plan, None, None).result()
        self._note(row, clean)
        if not clean.problems:
            chance = random.Random(f"{self._seed}/{store}/{plan}")
            crashes = list(crashes_of(clean, outside if number is None else number // DIVISOR, chance))
            if points:
                crashes = [Crash.read(point) for point in points]
            elif number is not None:
                crashes = sample(crashes, number, chance)
            futures: list[Future[Result]] = [
                self._workers.submit(self._trial, kept, plan, crash, clean) for crash in crashes
            ]
            for future in futures:
                self._note(row, future.result())
        row.seconds = time.monotonic() - began

    def _note(self, row: Row, result: Result) -> None:
        row.add(result)
        if result.problems:
            point = f" --point {result.crash}" if result.crash else ""
            print(f"FAILED {row.store} {row.plan} {result.crash or 'without a crash'}:")
            for problem in result.problems:
                print("   ", problem.replace("\n", "\n    "))
            repeat = f"--store {row.store} --plan {row.plan} --seed {self._seed}{point}"
            print(f"    again: ./dev poe crash {repeat}", flush=True)


HEAD = "| store | plan | points | from outside | not passed | kills | resumes | failures | seconds |"


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Give what was tried, as a Markdown table."""
    yield HEAD
    yield "| --- | --- |" + " ---: |" * (HEAD.count("|") - 3)
    for store in dict.fromkeys(row.store for row in rows):
        mine = [row for row in rows if row.store == store]
        for row in mine:
            yield _line(store, row.plan, [row])
        yield _line(store, "all", mine)


def _line(store: str, plan: str, rows: Sequence[Row]) -> str:
    numbers = [
        sum(row.points for row in rows),
        sum(row.outside for row in rows),
        sum(len(row.missed) for row in rows),
        sum(row.kills for row in rows),
        sum(row.resumes for row in rows),
        sum(row.failures for row in rows),
        round(sum(row.seconds for row in rows)),
    ]
    return f"| {store} | {plan} | " + " | ".join(map(str, numbers)) + " |"


def main() -> int:
    parser = argparse.ArgumentParser(prog="poe crash", description=__doc__)
    add = parser.add_argument
    add("--store", action="append", choices=STORES, help="default: all that are there")
    add("--plan", action="append", choices=list(PLANS), help="default: all")
    point = "only this one: PROCESS/NAME#COUNT, or PROCESS/SECONDSs for a kill from outside"
    add("--point", action="append", default=[], help=point)
    add("--number", type=int, help="a sample of so many points of each plan; default: all")
    add("--outside", type=int, default=OUTSIDE, help=f"kills from outside of each plan; default: {OUTSIDE}")
    add("--seed", type=int, default=1, help="settles samples, and what is killed next; default: 1")
    add("--jobs", type=int, default=1, help="trials at a time; default: 1")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="crash-"))
    with ExitStack() as stack:
        harness = Harness(stack, folder, options.jobs, options.seed)
        for store in options.store or STORES:
            if store == "postgresql" and postgres.missing() is not None:
                print(f"left out: {postgres.missing()}")
                continue
            (folder / store).mkdir()
            with place(store, folder / store) as kept:
                for plan in options.plan or PLANS:
                    harness.plan(store, kept, plan, options.point, options.number, options.outside)
                    print(_line(store, plan, harness.rows[-1:]), flush=True)
    print("", *table(harness.rows), sep="\n")
    missed = [name for row in harness.rows for name in row.missed]
    if missed:
        print(f"\nnot passed this time: {', '.join(missed)}")
    failures = sum(row.failures for row in harness.rows)
    if failures:
        print(f"\n{failures} failures; what they left behind is in {folder}")
    else:
        shutil.rmtree(folder)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
