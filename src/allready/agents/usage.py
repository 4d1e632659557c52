"""`Usage`: what requests to models took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from allready.plan.plan import Limits


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


def limit_reached(used: Usage, limits: Limits) -> str | None:
    """Give the limit that leaves no room for another request, as in `3 requests`; None if none does."""
    if limits.max_requests is not None and used.requests >= limits.max_requests:
        return f"{limits.max_requests:,} requests"
    if limits.max_tokens is not None and used.tokens >= limits.max_tokens:
        return f"{limits.max_tokens:,} tokens"
    if limits.max_cost is not None and used.cost >= limits.max_cost:
        return f"${limits.max_cost:,.4g}"
    return None
