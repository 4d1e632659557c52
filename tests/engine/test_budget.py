"""What a run may use up: reserved before a launch, settled after it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from allready.agents.usage import Usage
from allready.engine.budget import FIRST_GUESS, Budget, Need
from allready.errors import ConcurrencyLimit, TransientError
from allready.plan.plan import Limits

GUESS = int(FIRST_GUESS["max_tokens"])


def budget(own: Limits | None = None, memory: dict[str, Any] | None = None, **limits: Any) -> Budget:
    needs = {"writer": Need(own or Limits()), "other": Need(), "user": Need(turns=4)}
    return Budget(Limits(**limits), needs, memory)


def start(money: Budget, handle: str, agent: str = "writer") -> None:
    money.check(agent)
    money.reserve(handle, agent)


def refusal(money: Budget, agent: str = "writer") -> ConcurrencyLimit:
    with pytest.raises(ConcurrencyLimit) as caught:
        money.check(agent)
    assert caught.value.scope == "budget"
    return caught.value


def ask(money: Budget, handle: str, tokens: int = 10, cost: float = 0.0) -> None:
    """Make a request."""
    money.allow(handle)
    money.take(handle, Usage(1, tokens, 0, cost))


def test_without_limits_nothing_is_refused_and_all_is_counted() -> None:
    money = budget()
    for number in range(100):
        start(money, f"a{number}")
        ask(money, f"a{number}", 15, 0.5)
    assert money.settle("a0") == Usage(1, 15, 0, 0.5)
    assert money.used == Usage(100, 1500, 0, 50.0)


def test_agents_that_ask_no_model_need_nothing() -> None:
    money = budget(max_tokens=1)
    money.used = Usage(1, 10, 10)
    for agent in ("command", "python", None):
        money.check(agent)
        money.reserve("x", agent)
        assert money.settle("x") == Usage()


def test_the_own_limits_of_an_agent_are_reserved() -> None:
    money = budget(Limits(max_tokens=400), max_tokens=1_000)
    start(money, "a")
    start(money, "b")
    limit = refusal(money)
    assert (limit.active, limit.max) == (800, 1_000)
    assert "max_tokens: 0 tokens of 1,000 tokens used, 800 tokens reserved" in limit.reason
    assert "writer needs about 400 tokens" in limit.reason
    assert money.reached is None, "what is under way may leave room"
    money.take("a", Usage(1, 100, 0))
    assert money.settle("a") == Usage(1, 100, 0)
    start(money, "c")


def test_what_attempts_took_so_far_is_what_the_next_is_thought_to_take() -> None:
    money = budget(max_tokens=1_000)
    start(money, "a")
    ask(money, "a", 100)
    ask(money, "a", 200)
    money.settle("a", completed=True)
    start(money, "b")
    start(money, "c")
    assert "needs about 300 tokens" in refusal(money).reason
    assert "needs about 300 tokens" in refusal(money, "other").reason


def test_what_was_not_let_to_its_end_takes_at_least_that_much_again() -> None:
    money = budget(max_requests=10)
    start(money, "a")
    for _ in range(4):
        ask(money, "a")
    money.settle("a")
    start(money, "b")
    assert "needs about 4 requests" in refusal(money).reason


def test_a_first_attempt_may_try_alone_with_what_is_left() -> None:
    money = budget(max_tokens=1_000)
    start(money, "a")
    assert f"needs about {GUESS:,} tokens" in refusal(money).reason
    ask(money, "a", 900)
    ask(money, "a", 900)
    with pytest.raises(TransientError, match="1,800 tokens of 1,000 tokens used") as caught:
        money.allow("a")
    assert caught.value.retry_after == 0.0


def test_agents_with_tools_are_thought_to_make_several_requests() -> None:
    money = budget(max_requests=10)
    start(money, "a", "user")
    start(money, "b", "user")
    assert "needs about 4 requests" in refusal(money, "user").reason


def test_limits_hold_however_many_ask_at_the_same_time() -> None:
    money = budget(max_requests=20)
    live = []
    for number in range(5):
        start(money, f"a{number}")
        live.append(f"a{number}")
    made = 0
    while live:  # each would make 16
        for handle in list(live):
            try:
                ask(money, handle)
            except TransientError:
                money.settle(handle)
                live.remove(handle)
            else:
                made += 1
    assert made == money.used.requests == 20
    assert money.refused is not None


def test_an_attempt_under_way_keeps_a_reservation_for_its_next_request() -> None:
    money = budget(max_requests=3)
    start(money, "a")
    ask(money, "a")
    start(money, "b")
    assert refusal(money).active == 3
    ask(money, "a")
    money.settle("a", completed=True)
    ask(money, "b")
    with pytest.raises(TransientError):
        money.allow("b")


def test_planning_that_goes_on_at_the_limit_asks_nothing_more() -> None:
    money = budget(memory={"used": Usage(3, 10, 10).to_json()}, max_requests=3)
    money.reserve("planning", "planning")
    with pytest.raises(TransientError):
        money.allow("planning")
    fresh = budget(max_requests=3)
    fresh.reserve("planning", "planning")
    fresh.allow("planning")


def test_what_its_own_limits_have_reserved_an_attempt_may_use() -> None:
    money = budget(Limits(max_requests=3), max_requests=6)
    start(money, "a")
    start(money, "b")
    for handle in ("a", "b", "a", "b", "a", "b"):
        ask(money, handle)
    assert money.used.requests == 6


def test_a_limit_that_is_reached_with_nothing_under_way_is_said() -> None:
    money = budget(max_requests=2)
    for handle in ("a", "b"):
        start(money, handle)
        ask(money, handle)
        money.settle(handle, completed=True)
    refusal(money)
    assert money.reached is not None
    assert money.reached.text == (
        "the run has reached its limit: max_requests: 2 requests of 2 requests used, "
        "and writer needs about 1 request"
    )
    assert money.reached.higher == ("--max-requests", "4")


def test_the_limit_that_is_suggested_is_enough() -> None:
    money = budget(max_tokens=100)
    start(money, "a")
    ask(money, "a", 5_000)
    money.settle("a", completed=True)
    refusal(money)
    assert money.reached is not None
    assert money.reached.higher == ("--max-tokens", "10000")


def test_money_is_limited_too() -> None:
    money = budget(max_cost=0.10)
    start(money, "a")
    ask(money, "a", 2_000, 0.06)
    money.settle("a", completed=True)
    assert "max_cost: $0.06 of $0.1 used, and writer needs about $0.06" in refusal(money).reason
    assert money.reached is not None
    assert money.reached.higher == ("--max-cost", "0.2")


def test_a_resumed_run_knows_what_was_used_and_what_attempts_take() -> None:
    money = budget(max_tokens=1_000)
    start(money, "a")
    ask(money, "a", 400, 0.1)
    money.settle("a", completed=True)
    start(money, "b")
    ask(money, "b", 100)
    money.settle("b")
    kept = json.loads(json.dumps(money.memory()))
    again = budget(memory=kept, max_tokens=1_000)
    assert again.used == Usage(2, 500, 0, 0.1)
    start(again, "c")
    assert "needs about 400 tokens" in refusal(again).reason
    assert budget().memory() == {}
