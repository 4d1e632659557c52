from decimal import Decimal

import pytest
from pydantic_ai.messages import ModelResponse
from pydantic_ai.usage import RequestUsage

from allready.agents.usage import Usage
from allready.plan.plan import Limits
from allready.planning.requests import limit_reached, usage_of


def response(usage: RequestUsage, model: str = "gpt-4o", provider: str = "openai") -> ModelResponse:
    return ModelResponse([], usage=usage, model_name=model, provider_name=provider)


def test_what_a_response_took() -> None:
    usage = usage_of(response(RequestUsage(input_tokens=1_000_000, output_tokens=10)))
    assert (usage.requests, usage.input_tokens, usage.output_tokens, usage.unpriced) == (1, 1_000_000, 10, 0)
    assert usage.cost > 1
    told = usage_of(response(RequestUsage(input_tokens=5, cost=Decimal("0.25"))))
    assert told == Usage(1, 5, 0, 0.25)


@pytest.mark.parametrize(
    ("usage", "model"),
    [(RequestUsage(input_tokens=5), "nobody-knows-it"), (RequestUsage(unmeasured_requests=1), "gpt-4o")],
)
def test_a_price_that_nobody_knows(usage: RequestUsage, model: str) -> None:
    assert usage_of(response(usage, model)) == Usage(1, usage.input_tokens, unpriced=1)


def test_which_limit_is_reached() -> None:
    used = Usage(requests=2, input_tokens=600, output_tokens=400, cost=0.5)
    assert limit_reached(used, Limits()) is None
    assert limit_reached(used, Limits(max_requests=3, max_tokens=1001, max_cost=0.51)) is None
    assert limit_reached(used, Limits(max_requests=2)) == "the limit of 2 requests"
    assert limit_reached(used, Limits(max_tokens=1000)) == "the limit of 1,000 tokens"
    assert limit_reached(used, Limits(max_cost=0.5)) == "the limit of $0.5"
