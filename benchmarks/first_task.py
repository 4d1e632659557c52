"""How soon the first task starts: while the planner still writes, against when it has written all.

    ./dev python -m benchmarks.first_task

The model is a scripted one that writes so many tokens (words) a second, in real time, after a first pause of
half a second; the planner, the runs and the agents are the real ones. Both ways get the same plan of tasks
that depend on nothing, some 60 tokens each, and a pool of five places. "Streamed" is `allready do --yes`: one
run, whose graph grows while the model writes. "Whole" is what `allready do` does if the plan is agreed to at
once: plan, then run. Times are seconds from the request for the plan to the first task's start, and to the
run's end. One round: nearly all of it is the model's time, which does not vary. Takes about 45 seconds.

When there are no more tasks than places, both end alike: the last task starts when it is written.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Collection
from typing import NamedTuple

from benchmarks.common import judged, machine, table

from allready.agents.models import Models
from allready.engine.session import Session
from allready.engine.start import new_session
from allready.plan.load import plan_from_document
from allready.plan.plan import Plan
from allready.planning.draft import plan_document
from allready.planning.events import Written
from allready.planning.planner import LlmPlanner
from allready.store.contract import JournalEvent
from allready.testing import ScriptedModel

GOAL = "Compare some libraries"
RATES = [100, 300]
"""Tokens a second: a large model's and a small one's, as providers serve them."""
SIZES = [5, 12]
"""Tasks in the plan."""
PROMPT_WORDS = 45
ANSWER_WORDS = 60
THINKS = 0.5
"""Seconds until a model's first token."""
PLACES = 5
GOAL_FIRST, GOAL_ALL = 0.5, 1.05
"""Streamed over whole: at most this, until the first task starts and until all is done."""


class Times(NamedTuple):
    """Seconds from the request for the plan."""

    first: float
    done: float


def model_of(rate: int, size: int) -> ScriptedModel:
    """Give a model that writes a plan of `size` tasks, and an answer for each of them."""
    prompt = " ".join(["word"] * PROMPT_WORDS)
    plan = [{"id": f"part-{number}", "title": f"Part {number}", "prompt": prompt} for number in range(size)]
    answer = " ".join(["word"] * ANSWER_WORDS)
    return ScriptedModel(plan=plan, default=answer, delay=THINKS, pause=1 / rate)


async def streamed(model: ScriptedModel) -> Times:
    """Start tasks while the plan is written."""
    began = time.monotonic()
    plan = Plan(GOAL, answer=False)
    session = new_session(
        plan, max_parallel=PLACES, models=Models(model), planner=LlmPlanner(model, []), agents={}
    )
    return await drive(session, began)


async def whole(model: ScriptedModel) -> Times:
    """Start tasks when the plan is complete."""
    began = time.monotonic()
    tasks = [event.task async for event in LlmPlanner(model, []).write(GOAL) if isinstance(event, Written)]
    plan = plan_from_document({**plan_document(GOAL, tasks), "answer": False})
    session = new_session(plan, max_parallel=PLACES, models=Models(model), agents={})
    return await drive(session, began)


async def drive(session: Session, began: float) -> Times:
    """Run to the end; the pool's first start is what counts."""
    first: list[float] = []

    def watch(events: Collection[JournalEvent]) -> None:
        if not first and any(event.type == "task.started" for event in events):
            first.append(time.monotonic() - began)

    session.observe(watch)
    result = await session.drive()
    assert result.status == "completed", result.error
    return Times(first[0], time.monotonic() - began)


def main() -> None:
    print(f"{machine()}. Goals missed are bold. Seconds.\n")
    rows = []
    # the first run imports what all need
    asyncio.run(whole(model_of(10_000, 1)))
    for rate in RATES:
        for size in SIZES:
            ours = asyncio.run(streamed(model_of(rate, size)))
            theirs = asyncio.run(whole(model_of(rate, size)))
            rows.append(
                [
                    judged(ours.first / theirs.first, GOAL_FIRST),
                    judged(ours.done / theirs.done, GOAL_ALL),
                    str(rate),
                    str(size),
                    *(f"{value:.2f}" for value in (ours.first, theirs.first, ours.done, theirs.done)),
                ]
            )
    head = ["first task: streamed ÷ whole (≤ 0.5)", "all done: streamed ÷ whole (≤ 1.05)", "tokens a second"]
    head += ["tasks", "first, streamed", "first, whole", "done, streamed", "done, whole"]
    print("\n".join(table(head, rows)))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        os.environ.pop("ALLREADY_MODEL", None)
        sys.exit(main())
