"""What a provider allows: limits that are known, and what its refusals teach."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

import pytest
from tests.pool.driving import now, settle
from tests.pool.providers import AtOnce, Bucket, FixedWindow, Provider, SlidingWindow, serve
from tests.pool.test_manager import Bench

from allready import limit_provider
from allready.core.events import Completed, Deferred
from allready.errors import ConcurrencyLimit, ProviderBusy, TransientError
from allready.pool import provider
from allready.pool.manager import SubAgent
from allready.pool.provider import FORGET, MINUTE, PAUSE_MOST, ProviderGate, ProviderGates, ProviderLimits
from allready.testing import run_virtual

PROVIDERS: dict[str, Callable[[int], Provider]] = {
    "fixed window": FixedWindow,
    "sliding window": SlidingWindow,
    "large bucket": lambda requests: Bucket(requests, requests),
    "small bucket": lambda requests: Bucket(requests, requests / 10),
}


def reason(gate: ProviderGate, at: float) -> str | None:
    try:
        gate.check(at)
    except ConcurrencyLimit as limit:
        return limit.reason if limit.scope == f"provider:{gate.name}" else limit.scope
    return None


# --- what refusals teach ----------------------------------------------------------------------------------


@pytest.mark.parametrize("latency", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("requests", [60, 600, 3000])
@pytest.mark.parametrize("kind", PROVIDERS)
def test_a_limit_that_nobody_knows_is_used_and_hardly_ever_overstepped(
    kind: str, requests: int, latency: float
) -> None:
    """Ten times as much is wanted as the provider allows in a minute."""
    places = min(500, max(2, int(10 * requests / 60 * latency)))
    served = serve(PROVIDERS[kind](requests), ProviderGate("p"), places=places, latency=latency, seconds=600)
    wanted = min(requests * 10, places / (latency * math.exp(0.045)) * 600)
    assert served.answered >= 0.9 * wanted
    # at one request a second the burst of a whole pool at the beginning weighs more
    assert served.refused_share < (0.05 if requests > 60 else 0.06)


@pytest.mark.parametrize("kind", PROVIDERS)
def test_a_provider_that_does_not_say_when_to_come_again_is_used_too(kind: str) -> None:
    served = serve(PROVIDERS[kind](600), ProviderGate("p"), places=100, latency=1, seconds=600, hint=False)
    assert served.answered >= 0.9 * 6000
    assert served.refused_share < 0.05


@pytest.mark.parametrize("most", [20, 100])
def test_a_provider_that_counts_requests_at_once_is_not_asked_by_more_for_long(most: int) -> None:
    served = serve(AtOnce(most), ProviderGate("p"), places=5 * most, latency=1, seconds=600)
    assert served.answered > 0.65 * most * 600 / math.exp(0.045)
    assert served.refused_share < 0.05


def test_a_provider_without_limits_is_soon_asked_by_all() -> None:
    gate = ProviderGate("p")
    served = serve(AtOnce(10_000), gate, places=500, latency=10, seconds=100)
    assert served.answered > 500 * 8
    assert served.refused == 0
    assert gate.width == math.inf


def test_requests_under_way_when_the_first_was_refused_are_one_refusal() -> None:
    gate = ProviderGate("p")
    for _ in range(10):
        gate.take(0.0)
    for _ in range(3):
        gate.refused(0.1, 0.0, 5.0)
        gate.give_back()
    assert reason(gate, 1.0) == "p asked to wait, 5 s more"
    assert gate.opens_at(1.0) == 5.1
    assert reason(gate, 5.1) is None
    assert gate.refusals == 3


def test_the_longest_pause_that_was_asked_for_counts() -> None:
    gate = ProviderGate("p")
    gate.take(0.0)
    gate.take(0.0)
    gate.refused(0.1, 0.0, 30.0)
    gate.refused(0.2, 0.0, 2.0)
    assert gate.opens_at(1.0) == pytest.approx(30.1)
    gate.refused(0.2, 0.0, 40.0)
    gate.refused(0.3, 0.0, math.nan)
    assert gate.opens_at(1.0) == pytest.approx(40.2)


def test_pauses_grow_while_a_provider_answers_nothing_and_says_no_time() -> None:
    gate, at, pauses = ProviderGate("p"), 0.0, []
    for _ in range(9):
        gate.take(at)
        gate.refused(at, at, None)
        gate.give_back()
        opens = gate.opens_at(at)
        assert opens is not None
        pauses.append(opens - at)
        at = opens
    assert pauses == [1, 2, 4, 8, 16, *[PAUSE_MOST] * 4]
    gate.take(at)
    gate.answered(at)
    gate.give_back()
    gate.take(at + 50)
    gate.refused(at + 50, at + 50, None)
    assert gate.opens_at(at + 50) == pytest.approx(at + 51)


def test_the_width_follows_what_was_taken_and_opens_step_by_step() -> None:
    gate = ProviderGate("p")
    for at in (0.0, 10.0):
        for _ in range(12):
            gate.take(at)
        for _ in range(2):
            gate.refused(at + 0.1, at, 1.0)
            gate.give_back()
        for _ in range(10):
            if at:
                break
            gate.answered(at + 1)
            gate.give_back()
    assert gate.width == 8.0  # four fifths of the ten that were taken the second time
    assert gate.active == 10
    said = reason(gate, 20.0)
    assert said == "p refused more than 10 at once"
    for _ in range(2):
        gate.answered(20.0)
    assert gate.width == 10.0
    gate.answered(20.0)
    assert gate.width == pytest.approx(10.05)


def test_a_provider_that_is_overloaded_is_asked_by_fewer_and_not_later() -> None:
    gate = ProviderGate("p")
    for _ in range(10):
        gate.take(0.0)
    gate.refused(0.1, 0.0, overloaded=True)
    gate.give_back()
    assert gate.width == pytest.approx(0.8 * 9)
    assert gate.opens_at(0.2) is None, "time alone does not help: nine use it, and seven may"
    assert reason(gate, 0.2) == "p refused more than 9 at once"
    gate.refused(0.3, 0.0, 4.0, overloaded=True)  # that one names a time
    assert gate.opens_at(0.4) == pytest.approx(4.3)
    for _ in range(9):
        gate.give_back()
    assert reason(gate, 5.0) is None
    assert reason(gate, FORGET + 10) is None
    assert gate.width == math.inf


def test_what_was_learned_is_forgotten() -> None:
    gate = ProviderGate("p")
    gate.take(0.0)
    gate.refused(0.0, 0.0, 1.0)
    gate.give_back()
    gate.take(1.0)
    assert reason(gate, 1.0) is not None
    assert reason(gate, FORGET + 2) is None
    assert gate.opens_at(FORGET + 2) is None
    gate.refused(FORGET + 3, FORGET + 2, 1.0)  # and learned anew
    assert reason(gate, FORGET + 3.5) is not None


@pytest.mark.parametrize("later", [1_000, 3_600, 86_400, 1e9])
def test_a_provider_that_nobody_asked_for_long_is_asked_again(later: float) -> None:
    for refused in (False, True):
        gate = ProviderGate("p")
        gate.take(0.0)
        if refused:
            gate.refused(0.1, 0.0, 1.0)
        gate.give_back(asking=not refused)
        assert reason(gate, later) is None
        gate.take(later)
        assert gate.opens_at(later) is None or refused


# --- limits that are known --------------------------------------------------------------------------------


def test_requests_a_minute() -> None:
    gate = ProviderGate("p", ProviderLimits(requests_per_minute=3))
    for at in (0.0, 1.0, 2.0):
        assert reason(gate, at) is None
        gate.take(at)
        gate.give_back()
    assert reason(gate, 30.0) == "p takes 3 requests a minute"
    assert gate.opens_at(30.0) == MINUTE
    with pytest.raises(ConcurrencyLimit):
        gate.take_request(30.0)
    gate.take_request(MINUTE)
    assert gate.opens_at(MINUTE) == MINUTE + 1


def test_tokens_a_minute() -> None:
    gate = ProviderGate("p", ProviderLimits(tokens_per_minute=1000))
    gate.take(0.0)
    gate.answered(1.0, 400)
    gate.give_back()
    gate.take(2.0)  # one under way, thought to take as much
    assert reason(gate, 2.0) == "p takes 1,000 tokens a minute"
    gate.answered(3.0, 100)
    gate.give_back()
    assert reason(gate, 4.0) is None
    gate.take(4.0)
    gate.answered(5.0, 5000)
    gate.give_back()
    assert gate.opens_at(6.0) is not None
    assert reason(gate, 1.0 + MINUTE) is not None
    assert reason(gate, 5.0 + MINUTE) is None, "also one that is larger than the limit goes, alone"


def test_sub_agents_at_once() -> None:
    gate = ProviderGate("p", ProviderLimits(max_concurrent=2))
    gate.take(0.0)
    gate.take(0.0)
    assert reason(gate, 1.0) == "p is in use"
    assert gate.opens_at(1.0) is None
    gate.give_back()
    assert reason(gate, 1.0) is None


def test_a_known_limit_holds_in_any_minute_whatever_is_wanted() -> None:
    gate = ProviderGate("p", ProviderLimits(requests_per_minute=30))
    served = serve(SlidingWindow(30), gate, places=50, latency=1, seconds=600)
    assert served.refused == 0
    assert served.answered >= 30 * 9


# --- in the pool ------------------------------------------------------------------------------------------


async def busy(_: SubAgent) -> None:
    raise ProviderBusy("rate limit", 5.0)


async def quick(_: SubAgent) -> str:
    return "done"


def test_a_refusal_of_a_provider_holds_back_all_its_tasks_and_no_others() -> None:
    async def scenario() -> None:
        bench = Bench(10)
        bench.start(busy, "a", provider="acme")
        await settle()
        assert bench.reports[0][1] == Deferred("rate limit", 5.0)
        with pytest.raises(ConcurrencyLimit, match="acme asked to wait, 5 s more") as caught:
            bench.start(quick, "b", provider="acme", run="another")
        assert caught.value.scope == "provider:acme"
        woken = asyncio.Event()
        bench.pool.wake_when_free("another", woken.set)
        bench.start(quick, "c", provider="other")
        bench.start(quick, "d")
        await settle()
        assert [task for task, outcome, _ in bench.reports if isinstance(outcome, Completed)] == ["c", "d"]
        async with asyncio.timeout(10):
            while not woken.is_set() or now() < 5:
                woken.clear()
                bench.pool.wake_when_free("another", woken.set)
                await woken.wait()
                bench.pool.turn_over("another")
        assert now() == 5.0
        bench.start(quick, "b", provider="acme", run="another")

    run_virtual(scenario())


def test_trouble_that_is_not_the_providers_refusal_holds_back_nobody() -> None:
    async def drops(_: SubAgent) -> None:
        raise TransientError("the connection broke off", 60.0)

    async def scenario() -> None:
        bench = Bench(10)
        bench.start(drops, "a", provider="acme")
        await settle()
        bench.start(quick, "b", provider="acme")

    run_virtual(scenario())


def test_pools_of_one_process_share_what_a_provider_teaches() -> None:
    async def scenario() -> None:
        first, second = Bench(5), Bench(5)
        apart = Bench(5, providers=ProviderGates())
        first.start(busy, "a", provider="acme")
        await settle()
        with pytest.raises(ConcurrencyLimit):
            second.start(quick, "b", provider="acme")
        apart.start(quick, "c", provider="acme")

    run_virtual(scenario())


def test_an_end_in_one_pool_wakes_a_run_of_another_that_waits_for_the_provider() -> None:
    async def scenario() -> None:
        limit_provider("acme", ProviderLimits(max_concurrent=1))
        first, second = Bench(5), Bench(5)
        stop = asyncio.Event()

        async def until(_: SubAgent) -> None:
            await stop.wait()

        first.start(until, "a", provider="acme")
        with pytest.raises(ConcurrencyLimit):
            second.start(quick, "b", provider="acme")
        woken = asyncio.Event()
        second.pool.wake_when_free("run", woken.set)
        await settle()
        assert not woken.is_set()
        stop.set()
        async with asyncio.timeout(1):
            await woken.wait()
        second.start(quick, "b", provider="acme")

    run_virtual(scenario())


def test_further_requests_of_a_sub_agent_wait_in_its_place() -> None:
    async def scenario() -> None:
        limit_provider("acme", ProviderLimits(requests_per_minute=2))
        bench = Bench(5)
        times = []

        async def three(sub_agent: SubAgent) -> None:
            for _ in range(3):
                await sub_agent.before_request()
                times.append(now())
                sub_agent.answered(10)

        bench.start(three, "a", provider="acme")
        await asyncio.sleep(70)
        assert times == [0.0, 0.0, MINUTE]
        assert [type(outcome) for _, outcome, _ in bench.reports] == [Completed]

    run_virtual(scenario())


def test_a_first_request_that_was_admitted_before_a_refusal_is_put_back_until_the_end_of_the_pause() -> None:
    async def scenario() -> None:
        bench = Bench(5)

        async def late(sub_agent: SubAgent) -> None:
            await asyncio.sleep(1)
            await sub_agent.before_request()

        bench.start(late, "a", provider="acme")
        bench.start(busy, "b", provider="acme")
        await asyncio.sleep(20)
        assert bench.reports[1][:2] == ("a", Deferred("acme has asked to wait meanwhile", 4.0))

    run_virtual(scenario())


def test_those_that_have_begun_go_before_new_ones() -> None:
    async def scenario() -> None:
        limit_provider("acme", ProviderLimits(requests_per_minute=1))
        bench = Bench(5)
        times = []

        async def two(sub_agent: SubAgent) -> None:
            await sub_agent.before_request()
            sub_agent.answered(10)
            await sub_agent.before_request()
            times.append(now())
            sub_agent.answered(10)

        bench.start(two, "a", provider="acme")
        await asyncio.sleep(10)
        with pytest.raises(ConcurrencyLimit, match="acme is asked first by those that have begun"):
            bench.start(quick, "b", provider="acme")
        await asyncio.sleep(60)
        assert times == [MINUTE]
        with pytest.raises(ConcurrencyLimit, match="takes 1 requests a minute"):
            bench.start(quick, "b", provider="acme")

    run_virtual(scenario())


@pytest.mark.parametrize("places", [1, 5])
def test_agents_of_several_requests_get_on_under_a_limit_of_tokens(places: int) -> None:
    async def scenario() -> None:
        limit_provider("acme", ProviderLimits(tokens_per_minute=1000))
        bench = Bench(places)
        answers = 0

        async def talk(sub_agent: SubAgent) -> None:
            nonlocal answers
            for _ in range(3):
                await sub_agent.before_request()
                await asyncio.sleep(2)
                sub_agent.answered(600)
                answers += 1

        for number in range(places):
            while True:
                try:
                    bench.start(talk, f"t{number}", provider="acme")
                    break
                except ConcurrencyLimit:
                    await asyncio.sleep(1)
        await asyncio.sleep(3 * places * 2 * MINUTE)
        assert answers == 3 * places

    run_virtual(scenario())


def test_a_place_given_back_and_taken_again_is_no_request() -> None:
    async def scenario() -> None:
        limit_provider("acme", ProviderLimits(requests_per_minute=1))
        bench = Bench(1)

        async def parent(sub_agent: SubAgent) -> str:
            async with sub_agent.place_given_back():
                assert provider.of_this_process["acme"].active == 0
            assert provider.of_this_process["acme"].active == 1
            return "done"

        bench.start(parent, "a", provider="acme")
        await settle()
        assert bench.reports[0][1] == Completed("done")
        assert provider.of_this_process["acme"].active == 0

    run_virtual(scenario())
