"""The garbage collector looks more rarely while a run is driven, but never against somebody's choice."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator

import pytest

from allready import Plan, run
from allready.engine.garbage import LOOK_AFTER


@pytest.fixture(autouse=True)
def usual_thresholds() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    yield
    gc.set_threshold(*before)


def plan_that_does(what: object) -> Plan:
    plan = Plan()

    @plan.task
    async def task() -> None:
        assert callable(what)
        what()

    return plan


async def test_it_looks_more_rarely_until_the_last_run_has_ended() -> None:
    seen = []
    begun, go_on = asyncio.Event(), asyncio.Event()
    plan = Plan()

    @plan.task
    async def ends_last() -> None:
        begun.set()
        await go_on.wait()
        seen.append(gc.get_threshold())

    last = asyncio.create_task(run(plan, agents={}))
    await begun.wait()
    await run(plan_that_does(lambda: None), agents={})
    go_on.set()
    assert (await last).status == "completed"
    assert seen == [(LOOK_AFTER, 10, 10)]
    assert gc.get_threshold() == (700, 10, 10)


@pytest.mark.parametrize("chosen", [(0, 10, 10), (50_000, 5, 5)])
async def test_what_somebody_chose_stays(chosen: tuple[int, int, int]) -> None:
    gc.set_threshold(*chosen)
    seen = []
    await run(plan_that_does(lambda: seen.append(gc.get_threshold())), agents={})
    assert seen == [chosen]
    assert gc.get_threshold() == chosen


async def test_what_a_task_chooses_stays() -> None:
    await run(plan_that_does(lambda: gc.set_threshold(1_000, 10, 10)), agents={})
    assert gc.get_threshold() == (1_000, 10, 10)


async def test_it_is_as_before_after_a_run_that_failed_and_one_that_was_canceled() -> None:
    def fails() -> None:
        raise ValueError("no")

    await run(plan_that_does(fails), agents={})
    assert gc.get_threshold() == (700, 10, 10)
    begun = asyncio.Event()
    plan = Plan()

    @plan.task
    async def waits() -> None:
        begun.set()
        await asyncio.sleep(60)

    canceled = asyncio.create_task(run(plan, agents={}))
    await begun.wait()
    assert gc.get_threshold()[0] == LOOK_AFTER
    canceled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await canceled
    assert gc.get_threshold() == (700, 10, 10)
