"""Counts the inputs that were tried, for the summary at the end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.fuzz.trying import tried


@pytest.fixture(autouse=True)
def count_inputs(record_property: pytest.FixtureRequest) -> Iterator[None]:
    tried.clear()
    yield
    for what, count in tried.items():
        record_property(f"tried: {what}", count)  # type: ignore[operator]
