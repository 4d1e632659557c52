"""Durations as people write them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allready.plan.durations import MAX_DURATION, format_duration, parse_duration


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (90, 90),
        (0, 0),
        (1.5, 1.5),
        ("90", 90),
        ("250ms", 0.25),
        ("5m", 300),
        ("1h", 3600),
        ("1.5s", 1.5),
        (".5s", 0.5),
        ("1h30m", 5400),
        ("1h 30m 5s", 5405),
        (" 2d ", 172_800),
    ],
)
def test_parse(written: object, seconds: float) -> None:
    assert parse_duration(written) == seconds


@pytest.mark.parametrize(
    "written",
    [-1, "-5m", "-1", math.nan, math.inf, -math.inf, True, None, [], "", "soon", "5 minutes", "1e3", "5M",
     "inf", "nan", "٣s", 10**400, "9" * 400, "9" * 60 + "h", "1h-5m"],
)  # fmt: skip
def test_refuse(written: object) -> None:
    with pytest.raises(ValueError, match="must"):
        parse_duration(written)


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0, "0ms"), (0.25, "250ms"), (0.0042, "4.2ms"), (1.5, "1.5s"), (42, "42s"), (59.97, "1m"), (300, "5m"),
     (5400, "1h30m"), (3599.9, "1h"), (90061, "1d1h"), (-5, "-5s")],
)  # fmt: skip
def test_format(seconds: float, written: str) -> None:
    assert format_duration(seconds) == written


@given(st.floats(min_value=1e-6, max_value=MAX_DURATION))
def test_what_is_formatted_can_be_parsed(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=0.05)


@given(st.one_of(st.text(), st.floats(), st.integers(), st.booleans(), st.none()))
def test_parse_gives_seconds_or_a_value_error(value: object) -> None:
    try:
        seconds = parse_duration(value)
    except ValueError:
        return
    assert 0 <= seconds <= MAX_DURATION
