"""`Usage`: what requests to models took, as providers tell it, or as near as one can tell without them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from allready.agents.models import price_of
from allready.plan.plan import Limits

CHARACTERS_A_TOKEN = 4
"""What tokenizers take for a token of English, on average; other languages and code take more tokens."""
MAX_TOKENS = 10**9
"""Of one request, read or written: a hundred times what any model can read. A larger number is a mistake."""
MAX_COST = 1e6
"""US dollars for one request; likewise."""


@dataclass(slots=True, frozen=True)
class Usage:
    """Requests to models, and what they took."""

    requests: int = 0
    input_tokens: int = 0
    """Read by the model, those from its cache included."""
    output_tokens: int = 0
    """Written by the model, its thoughts included."""
    cost: float = 0.0
    """US dollars, of the requests whose price is known."""
    unpriced: int = 0
    """Requests whose price is not known."""

    @property
    def tokens(self) -> int:
        """Read and written together."""
        return self.input_tokens + self.output_tokens

    def __bool__(self) -> bool:
        """Whether there was anything."""
        return self != Usage()

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.requests + other.requests,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cost + other.cost,
            self.unpriced + other.unpriced,
        )

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON values, as events and the store have it."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Usage:
        """Make it again from what `to_json` gave."""
        return cls(**data)


def sane(usage: Usage) -> Usage:
    """Give the usage of one request in numbers that can be counted on, whatever a provider sent for them.

    What is no number, or less than nothing, is 0; what no request can take is the most that is believed.
    """
    return Usage(
        usage.requests,
        int(_within(usage.input_tokens, MAX_TOKENS)),
        int(_within(usage.output_tokens, MAX_TOKENS)),
        _within(usage.cost, MAX_COST),
        usage.unpriced,
    )


def _within(value: object, most: float) -> float:
    try:
        number = float(value)  # type: ignore[arg-type] # it comes from outside
    except OverflowError:  # a whole number that is larger than any float
        return most if isinstance(value, int) and value > 0 else 0.0
    except (TypeError, ValueError):
        return 0.0
    return min(number, most) if number > 0 else 0.0  # NaN is not more than nothing


def estimated(read: int, written: int, model: str | None = None, told: Usage | None = None) -> Usage:
    """Estimate what one request took of which the provider did not tell all, as it broke off for example.

    `read` and `written` are the characters that the model was sent, and those that came from it. `model` is
    its name, for the price. `told` is what the provider had told until then: counts that are higher stand.
    """
    told = sane(told or Usage())
    tokens = (
        told.input_tokens or _tokens(read),
        max(told.output_tokens, _tokens(written)),
    )
    price = None if model is None else price_of(model, *tokens)
    cost = max(told.cost, price or 0.0)
    return sane(Usage(1, *tokens, cost, 0 if price is not None or cost else 1))


def _tokens(characters: int) -> int:
    return -(-characters // CHARACTERS_A_TOKEN)


def limit_reached(used: Usage, limits: Limits) -> str | None:
    """Give the limit that leaves no room for another request, as in `3 requests`; None if none does."""
    if limits.max_requests is not None and used.requests >= limits.max_requests:
        return f"{limits.max_requests:,} requests"
    if limits.max_tokens is not None and used.tokens >= limits.max_tokens:
        return f"{limits.max_tokens:,} tokens"
    if limits.max_cost is not None and used.cost >= limits.max_cost:
        return f"${limits.max_cost:,.4g}"
    return None
