"""A program that drives several runs at once: python -m tests.acceptance.many_runs STORE COUNT.

Each comes to where `hold` waits for a file `go` in the working directory, and `gate` for approval. Prints the
status of each run when it has ended.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from allready import Plan, run
from allready.store import open_store

CHAIN = 10
"""Tasks that follow each other: each is at least one commit."""


async def step(number: int) -> int:
    return number


async def hold() -> str:
    while not Path("go").exists():
        await asyncio.sleep(0.02)
    return "held"


async def gate() -> str:
    return "open"


def make_plan() -> Plan:
    plan = Plan("One of many")
    before: list[str] = []
    for number in range(CHAIN):
        before = [plan.add(step, id=f"step-{number}", args=[number], depends_on=before)]
    plan.add(hold, id="hold", depends_on=before)
    plan.add(gate, id="gate", depends_on=before, approval=True)
    return plan


async def main(url: str, count: int) -> None:
    store = open_store(url)
    try:
        for result in await asyncio.gather(*(run(make_plan(), store=store) for _ in range(count))):
            print(result.status, flush=True)
    finally:
        store.close()


if __name__ == "__main__":
    from tests.acceptance import many_runs  # functions of __main__ can't be imported by others

    asyncio.run(many_runs.main(sys.argv[1], int(sys.argv[2])))
