"""A program for tests that kill it: runs the plan that its arguments say, and tells what happens on stdout.

`python -m tests.engine.crash_program STORE FOLDER KIND [RUN]`. As long as `FOLDER/block` exists, the tasks
that are to block do so. Each call of a task appends a line to `FOLDER/calls`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from allready import Plan, PlanError, UserError, run
from allready.plan.load import plan_from_document
from allready.plan.plan import Command, Task
from allready.store.contract import JournalEvent


def folder() -> Path:
    return Path(os.environ["CRASH_FOLDER"])


def called(task: str) -> None:
    with (folder() / "calls").open("a") as file:
        file.write(task + "\n")
    if __name__ == "__main__":
        print(json.dumps(["called", task]), flush=True)


async def hold(task: str) -> None:
    """Wait for ever if this task is the one to block."""
    block = folder() / "block"
    if block.exists() and task in block.read_text().split():
        await asyncio.Event().wait()


async def first() -> str:
    called("first")
    await hold("first")
    return "one"


async def second(first: str) -> dict[str, str]:
    called("second")
    await hold("second")
    return {"second": first}


async def side() -> int:
    called("side")
    await hold("side")
    return 7


async def third(second: dict[str, str], side: int) -> list[Any]:
    called("third")
    await hold("third")
    return [second, side]


async def once() -> str:
    called("once")
    await hold("once")
    return "once"


async def unsteady() -> str:
    called("unsteady")
    count = (folder() / "calls").read_text().split().count("unsteady")
    await hold("unsteady")
    if count < 3:
        raise ValueError(f"try {count}")
    return f"after {count}"


def diamond() -> Plan:
    plan = Plan("diamond")
    for call in (first, second, side, third):
        plan.add(call)
    return plan


def careful() -> Plan:
    plan = Plan("careful")
    plan.add(once, idempotent=False)
    plan.add(side)
    return plan


def retrying() -> Plan:
    plan = Plan("retrying")
    plan.add(unsteady, max_retries=2)
    return plan


def leaving() -> Plan:
    """A command that leaves a process behind, in a session of its own."""
    plan = Plan("leaving")
    script = (
        'echo leave >> "$CRASH_FOLDER/calls"; [ -e "$CRASH_FOLDER/block" ] || exit 0; '
        'setsid sleep 3600 & echo $! > "$CRASH_FOLDER/told"; sleep 3600'
    )
    plan.tasks["leave"] = Task("leave", Command((script,), shell=True))
    return plan


def commands() -> Plan:
    script = 'echo {} >> "$CRASH_FOLDER/calls"; echo {}'
    tasks = [
        {"id": "a", "run": script.format("a", "from a"), "shell": True},
        {"id": "b", "run": script.format("b", "{{ a.output }}"), "shell": True, "depends_on": ["a"]},
    ]
    return plan_from_document({"tasks": tasks}, base_dir=folder())


async def asks() -> str:
    called("asks")
    if (folder() / "calls").read_text().split().count("asks") < 2:
        raise ValueError("no")
    return "yes"


def steered() -> Plan:
    """One that blocks, one that asks, one that wants approval, one that waits for the first."""
    plan = Plan("steered")
    plan.add(side)
    plan.add(asks, failure_strategy="ask")
    plan.add(once, id="careful", approval=True)
    plan.add(first, id="unwanted", depends_on=["side"])
    return plan


async def holder() -> None:
    await hold("holder")


def crowded() -> Plan:
    """Two that need the only unit of a resource."""
    plan = Plan("crowded", resources={"gpu": 1})
    plan.add(holder, resources={"gpu": 1}, priority=1)
    plan.add(first, id="waiter", resources={"gpu": 1})
    return plan


PLANS = {call.__name__: call for call in (diamond, careful, retrying, leaving, commands, steered, crowded)}


def tell(event: JournalEvent) -> None:
    print(json.dumps([event.type, event.task]), flush=True)


async def main(store: str, kind: str, resume: str | None) -> None:
    try:
        result = await run(
            PLANS[kind](), store=store, resume=resume, agents={}, on_event=tell, max_parallel=4, seed=1
        )
    except PlanError as error:
        print(json.dumps(["plan error", str(error)]), flush=True)
    except UserError as error:
        print(json.dumps([type(error).__name__, str(error)]), flush=True)
    else:
        print(json.dumps(["result", result.status]), flush=True)


if __name__ == "__main__":
    os.environ["CRASH_FOLDER"] = sys.argv[2]
    asyncio.run(main(sys.argv[1], sys.argv[3], sys.argv[4] if len(sys.argv) > 4 else None))
