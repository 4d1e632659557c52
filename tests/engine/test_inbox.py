from __future__ import annotations

import asyncio

import pytest
from tests.pool.driving import now, settle

from allready.engine.inbox import Inbox
from allready.testing import run_virtual


def test_items_come_out_in_order_and_none_is_lost() -> None:
    inbox: Inbox[int] = Inbox()
    for number in range(10_000):
        inbox.put(number)
    assert len(inbox) == 10_000
    assert list(inbox.take_all()) == list(range(10_000))
    assert not inbox


def test_an_error_in_the_midst_leaves_the_rest_where_it_is() -> None:
    inbox: Inbox[int] = Inbox()
    for number in range(5):
        inbox.put(number)
    for item in inbox.take_all():
        if item == 2:
            break
    assert list(inbox.take_all()) == [3, 4]


def test_what_is_put_while_items_are_taken_is_taken_too() -> None:
    inbox: Inbox[int] = Inbox()
    inbox.put(0)
    taken = []
    for item in inbox.take_all():
        taken.append(item)
        if item < 3:
            inbox.put(item + 1)
    assert taken == [0, 1, 2, 3]


@pytest.mark.parametrize("timeout", [None, 10])
def test_wait_ends_with_an_item_or_a_wake(timeout: float | None) -> None:
    async def main() -> None:
        inbox: Inbox[str] = Inbox()
        loop = asyncio.get_running_loop()
        loop.call_later(1, inbox.put, "item")
        assert await inbox.wait(timeout)
        assert now() == 1
        assert await inbox.wait(timeout), "it is still there"
        assert list(inbox.take_all()) == ["item"]
        loop.call_later(1, inbox.wake)
        loop.call_later(1, inbox.wake)
        loop.call_later(1, inbox.put, "another")
        assert await inbox.wait(timeout)
        assert now() == 2
        assert list(inbox.take_all()) == ["another"]
        inbox.wake()
        assert await inbox.wait(timeout), "a wake before the wait counts"
        loop.call_later(5, inbox.wake)
        assert await inbox.wait(timeout)
        assert now() == 7, "but only once"

    run_virtual(main())


def test_wait_ends_when_the_time_is_over() -> None:
    async def main() -> None:
        inbox: Inbox[str] = Inbox()
        assert not await inbox.wait(10)
        assert now() == 10
        assert not await inbox.wait(0)
        assert not await inbox.wait(5)
        assert now() == 15

    run_virtual(main())


def test_the_timer_of_an_earlier_wait_ends_no_later_one() -> None:
    async def main() -> None:
        inbox: Inbox[str] = Inbox()
        loop = asyncio.get_running_loop()

        async def interrupted_wait(timeout: float | None) -> None:
            loop.call_soon(inbox.wake)
            assert await inbox.wait(timeout)

        await interrupted_wait(10)
        assert not await inbox.wait(20)  # later than the timer that is set
        assert now() == 20
        await interrupted_wait(10)
        loop.call_later(50, inbox.wake)
        assert await inbox.wait(None)  # without a limit, though a timer is set
        assert now() == 70
        await interrupted_wait(100)
        assert not await inbox.wait(1)  # earlier than the timer that is set
        assert now() == 71
        await interrupted_wait(10)
        inbox.close()
        inbox.close()
        assert not await inbox.wait(30)
        assert now() == 101

    run_virtual(main())


def test_many_short_waits_make_one_timer() -> None:
    async def main() -> None:
        inbox: Inbox[int] = Inbox()
        loop = asyncio.get_running_loop()
        before = loop._timers_made  # type: ignore[attr-defined]
        for number in range(1000):
            loop.call_soon(inbox.put, number)
            assert await inbox.wait(600)
            assert list(inbox.take_all()) == [number]
        assert loop._timers_made == before + 1  # type: ignore[attr-defined]

    run_virtual(main())


def test_a_canceled_wait_leaves_the_inbox_as_good_as_new() -> None:
    async def main() -> None:
        inbox: Inbox[str] = Inbox()
        waiting = asyncio.create_task(inbox.wait(10))
        await settle()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        inbox.put("item")
        assert await inbox.wait(10)
        assert list(inbox.take_all()) == ["item"]
        assert not await inbox.wait(20)
        assert now() == 20

    run_virtual(main())


def test_canceled_in_the_moment_of_an_item() -> None:
    async def main() -> None:
        inbox: Inbox[str] = Inbox()
        waiting = asyncio.create_task(inbox.wait(None))
        await settle()
        inbox.put("item")
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert list(inbox.take_all()) == ["item"]

    run_virtual(main())
