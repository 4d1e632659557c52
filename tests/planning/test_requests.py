from decimal import Decimal

import pytest
from pydantic_ai.messages import ModelResponse
from pydantic_ai.usage import RequestUsage

from allready.agents.usage import Usage
from allready.planning.requests import usage_of


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
