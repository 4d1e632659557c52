"""What requests took, and which limits they leave no room in."""

from __future__ import annotations

import math
from typing import Any

import pytest

from allready.agents.models import price_of
from allready.agents.usage import MAX_COST, MAX_TOKENS, Usage, estimated, limit_reached, sane
from allready.plan.plan import Limits


def test_usages_add_up_and_come_back_from_json() -> None:
    one, two = Usage(1, 10, 5, 0.25), Usage(2, 1, 1, unpriced=2)
    assert one + two == Usage(3, 11, 6, 0.25, 2)
    assert (one + two).tokens == 17
    assert Usage.from_json((one + two).to_json()) == one + two
    assert not Usage()
    assert one


def test_which_limit_is_reached() -> None:
    used = Usage(requests=2, input_tokens=600, output_tokens=400, cost=0.5)
    assert limit_reached(used, Limits()) is None
    assert limit_reached(used, Limits(max_requests=3, max_tokens=1001, max_cost=0.51)) is None
    assert limit_reached(used, Limits(max_requests=2)) == "2 requests"
    assert limit_reached(used, Limits(max_tokens=1000)) == "1,000 tokens"
    assert limit_reached(used, Limits(max_cost=0.5)) == "$0.5"


@pytest.mark.parametrize(
    ("told", "tokens"),
    [
        (12, 12),
        (2.7, 2),
        (-5, 0),
        (0, 0),
        (10**30, MAX_TOKENS),
        (10**400, MAX_TOKENS),
        (-(10**400), 0),
        (1.7e308, MAX_TOKENS),
        (math.inf, MAX_TOKENS),
        (-math.inf, 0),
        (math.nan, 0),
        (None, 0),
        ("many", 0),
        ({}, 0),
    ],
)
def test_numbers_that_no_request_can_have(told: Any, tokens: int) -> None:
    usage = sane(Usage(1, told, told, told, unpriced=1))
    assert usage == Usage(1, tokens, tokens, usage.cost, 1)
    assert type(usage.input_tokens) is type(usage.output_tokens) is int
    assert 0 <= usage.cost <= MAX_COST
    assert sane(usage) == usage


def test_what_nobody_tells_is_estimated() -> None:
    assert estimated(4_001, 10) == Usage(1, 1_001, 3, unpriced=1)
    assert estimated(4_000, 0, "openai:nobody-knows-it") == Usage(1, 1_000, 0, unpriced=1)
    priced = estimated(4_000, 400, "openai:gpt-4o")
    assert priced == Usage(1, 1_000, 100, price_of("openai:gpt-4o", 1_000, 100) or -1)
    assert priced.cost > 0


def test_an_estimate_never_goes_below_what_was_told() -> None:
    assert estimated(4_000, 400, None, Usage(1, 700, 1, unpriced=1)) == Usage(1, 700, 100, unpriced=1)
    assert estimated(4_000, 400, None, Usage(1, 700, 900, 0.5)) == Usage(1, 700, 900, 0.5)
    assert estimated(4_000, 400, None, Usage(1, -1, 10**30)) == Usage(1, 1_000, MAX_TOKENS, unpriced=1)
