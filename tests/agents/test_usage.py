"""What requests took, and which limits they leave no room in."""

from __future__ import annotations

from allready.agents.usage import Usage, limit_reached
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
