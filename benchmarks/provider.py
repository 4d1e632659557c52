"""A provider that allows R requests a minute to runs that want ten times that. Prints a Markdown table.

    ./dev python benchmarks/provider.py             R = 600 a minute, three runs, two minutes
    ./dev python benchmarks/provider.py --quick     some seconds

A real server on loopback (`allready.testing.ScriptedServer`) answers each request after half a second, and
those beyond its limit, in any minute, with 429 and the time to come again. Several runs of one process, each
with its own pool, ask it through pydantic-ai, as agents of kind `llm` do. Nobody tells them the limit. "Used"
is what was answered, divided by what the server would have let through from the first to the last request.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time

from allready import SubAgentManager, run
from allready.plan.load import plan_from_document
from allready.testing import ScriptedServer

DELAY = 0.5
"""Seconds of an answer."""
RUNS = 3


async def ask(tasks: int, places: int) -> tuple[float, list[str]]:
    """Give the seconds that the runs took, and their ends."""
    plans = []
    for number in range(RUNS):
        entries = [{"id": f"t{task}", "prompt": f"Say {task}"} for task in range(tasks // RUNS)]
        plans.append(plan_from_document({"goal": f"run {number}", "tasks": entries}))
    began = time.monotonic()
    results = await asyncio.gather(
        *(run(plan, model="openai-chat:scripted", pool=SubAgentManager(places // RUNS)) for plan in plans)
    )
    return time.monotonic() - began, [str(result.status) for result in results]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    limit, window, tasks = (40, 4.0, 150) if quick else (600, 60.0, 1800)
    places = int(10 * limit / window * DELAY)
    with ScriptedServer({}, delay=DELAY, rate_limit=(limit, window)) as server:
        os.environ.update(server.environment)
        seconds, ends = asyncio.run(ask(tasks, places))
        times = [request.began for request in server.requests]
    allowed = limit * (1 + (max(times) - min(times)) // window)
    print("| used (≥ 0.90) | refused (≤ 0.05) | completed | requests | refused | places | seconds |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    answered = len(times)
    print(
        f"| {answered / allowed:.2f} | {server.refused / (server.refused + answered):.3f} "
        f"| {ends.count('completed')} of {RUNS} | {answered} | {server.refused} | {places} | {seconds:.0f} |"
    )


if __name__ == "__main__":
    sys.exit(main())
