"""`python -m tests.simulation`: plays simulated runs, and prints what happened in them."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Sequence

from tests.simulation.fixed import FIXED
from tests.simulation.many import (
    Tally,
    Trial,
    crashes_at_every_point,
    play_chunks,
    play_trial,
    points_of,
    store_files,
)

CHUNK = 100
"""Runs that a process plays before it tells."""
TOLD_EVERY = 1_000
"""Runs between two words on how far it is."""
SHOWN = 20
"""Failures that are printed as they come; all are counted."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", metavar="FROM:TO", help="play the runs of these seeds (TO is not played)")
    parser.add_argument("--seed", type=int, help="play the run of one seed")
    parser.add_argument("--plan", choices=FIXED, help="a fixed plan, that crashes at each of its points")
    parser.add_argument("--points", action="store_true", help="all fixed plans, at each of their points")
    parser.add_argument("--crash-at", metavar="N,…", help="with --plan: crash at these points only")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="print the transcript of a single run")
    options = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    if options.seed is not None:
        return play_one(Trial(options.seed), verbose=options.verbose)
    if options.crash_at is not None and options.plan is not None:
        points = tuple(int(point) for point in options.crash_at.split(",") if point)
        return play_one(Trial(plan=options.plan, crash_at=points), verbose=options.verbose)
    tally = Tally()
    if options.points or options.plan:
        play_points([options.plan] if options.plan else list(FIXED), options.jobs, tally)
    if options.seeds or not (options.points or options.plan):
        first, _, end = (options.seeds or "0:1000").partition(":")
        trials = [Trial(seed) for seed in range(int(first), int(end))]
        play_many("seeds", trials, options.jobs, tally)
    for name, amount in sorted(tally.counts.items()):
        print(f"  {amount:12,}  {name}")
    print(f"{len(tally.failures)} of {tally.counts['runs']:,} runs failed")
    return 1 if tally.failures else 0


def play_one(trial: Trial, *, verbose: bool) -> int:
    with store_files() as file:
        summary = play_trial(trial, file())
    if verbose:
        print("\n".join(summary.lines))
    for problem in summary.problems:
        print(f"FAILED: {problem}")
    print(f"{summary.status}; {summary.points} points passed; transcript {summary.digest}")
    return 1 if summary.problems else 0


def play_points(plans: Sequence[str], jobs: int, tally: Tally) -> None:
    print(f"{'plan':12} {'points':>7} {'runs':>7} {'crashes':>8} {'resumes':>8} {'failed':>7} {'seconds':>8}")
    for plan in plans:
        trials = crashes_at_every_point(plan, len(points_of(plan)))
        of_plan = Tally()
        began = time.monotonic()
        play_many(None, trials, jobs, of_plan)
        counts = of_plan.counts
        print(
            f"{plan:12} {len(trials):7,} {counts['runs']:7,} {counts['crashes']:8,} {counts['resumes']:8,} "
            f"{len(of_plan.failures):7,} {time.monotonic() - began:8.1f}"
        )
        tally.join(of_plan)
        tally.counts["points crashed at"] += len(trials)


def play_many(what: str | None, trials: Sequence[Trial], jobs: int, tally: Tally) -> None:
    chunks = [trials[start : start + CHUNK] for start in range(0, len(trials), CHUNK)]
    began = time.monotonic()
    for part in play_chunks(chunks, jobs):
        for trial, problems in part.failures:
            if len(tally.failures) < SHOWN:
                print(f"FAILED: {problems[0]}\n  {trial.command}", flush=True)
            tally.failures.append((trial, problems))
        tally.counts += part.counts
        if what is not None and tally.counts["runs"] % TOLD_EVERY == 0:
            print(f"{tally.counts['runs']:,} runs, {len(tally.failures)} failed", file=sys.stderr, flush=True)
    if what is not None:
        print(f"{len(trials):,} {what} in {time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    sys.exit(main())
