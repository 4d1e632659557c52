"""What a run may use up: reserved before a launch, settled after it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from allready.agents.usage import Usage
from allready.engine.budget import FIRST_GUESS, Budget
from allready.errors import ConcurrencyLimit
from allready.plan.plan import Limits

GUESS = int(FIRST_GUESS["max_tokens"])


def budget(own: Limits | None = None, memory: dict[str, Any] | None = None, **limits: Any) -> Budget:
    return Budget(Limits(**limits), {"writer": own or Limits(), "other": Limits()}, memory)


def start(money: Budget, handle: str, agent: str = "writer") -> None:
    money.check(agent)
    money.reserve(handle, agent)


def refusal(money: Budget, agent: str = "writer") -> ConcurrencyLimit:
    with pytest.raises(ConcurrencyLimit) as caught:
        money.check(agent)
    assert caught.value.scope == "budget"
    return caught.value


def test_without_limits_nothing_is_refused_and_all_is_counted() -> None:
    money = budget()
    for number in range(100):
        start(money, f"a{number}")
        money.take(f"a{number}", Usage(1, 10, 5, 0.5))
    assert money.settle("a0") == Usage(1, 10, 5, 0.5)
    assert money.used == Usage(100, 1000, 500, 50.0)
    assert money.allowance("a1") == Limits()


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
    money.take("a", Usage(2, 200, 100))
    money.settle("a")
    start(money, "b")
    start(money, "c")
    assert "needs about 300 tokens" in refusal(money).reason
    assert "needs about 300 tokens" in refusal(money, "other").reason, (
        "another agent's tell more than nobody's"
    )


def test_a_first_attempt_may_try_alone_with_what_is_left() -> None:
    money = budget(max_tokens=1_000)
    start(money, "a")
    assert money.allowance("a") == Limits(max_tokens=1_000)
    assert f"needs about {GUESS:,} tokens" in refusal(money).reason


def test_a_limit_that_is_reached_with_nothing_under_way_is_said() -> None:
    money = budget(max_requests=2)
    for handle in ("a", "b"):
        start(money, handle)
        money.take(handle, Usage(1, 1, 1))
        money.settle(handle)
    refusal(money)
    assert money.reached is not None
    assert money.reached.text == (
        "the run has reached its limit: max_requests: 2 requests of 2 requests used, "
        "and writer needs about 1 request"
    )
    money.raise_to(Limits(max_requests=3))
    start(money, "c")
    assert money.memory()["limits"] == {"max_requests": 3}


def test_money_is_limited_too() -> None:
    money = budget(max_cost=0.10)
    start(money, "a")
    money.take("a", Usage(1, 1000, 1000, 0.06))
    money.settle("a")
    assert "max_cost: $0.0600 of $0.1000 used, and writer needs about $0.0600" in refusal(money).reason


def test_what_others_have_reserved_is_not_allowed_to_an_attempt() -> None:
    money = budget(Limits(max_tokens=300, max_requests=2), max_tokens=1_000, max_requests=10, max_cost=1.0)
    start(money, "a")
    start(money, "b")
    money.take("b", Usage(1, 100, 100, 0.25))
    assert money.allowance("a") == Limits(max_tokens=700, max_requests=8, max_cost=0.75)
    money.take("b", Usage(5, 2_000, 0, 5.0))
    assert money.allowance("a") == Limits(max_tokens=0, max_requests=4, max_cost=0.0)


def test_a_resumed_run_knows_what_was_used_and_its_limits() -> None:
    money = budget(max_tokens=1_000)
    start(money, "a")
    money.take("a", Usage(1, 300, 100, 0.1, 0))
    money.settle("a")
    money.raise_to(Limits(max_requests=7))
    kept = json.loads(json.dumps(money.memory()))
    again = budget(memory=kept, max_tokens=5)
    assert again.used == Usage(1, 300, 100, 0.1, 0)
    assert again.allowance("x") == Limits(max_tokens=600, max_requests=6)
    assert "needs about 400 tokens" in _full(again)
    assert budget().memory() == {}


def _full(money: Budget) -> str:
    start(money, "b")
    return refusal(money).reason
