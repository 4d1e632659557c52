"""Durations as people write them: seconds, or `250ms`, `5m`, `1.5h`, `1h30m`."""

from __future__ import annotations

import math
import re

MAX_DURATION = 10 * 366 * 86_400.0
"""Seconds; ten years. More is a slip of the pen, and far from what timers can count."""

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*(ms|s|m|h|d)", re.ASCII)
_WHOLE = re.compile(rf"(?:{_PART.pattern}\s*)+", re.ASCII)
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+", re.ASCII)
_MAX_LENGTH = 64
"""Characters; longer texts are no durations."""

PATTERN = r"^\s*[0-9.][0-9.smhd\s]*$"
"""The same for a JSON Schema, a little more tolerant."""

HINT = "give seconds, or 250ms, 5m, 1h, 1h30m"


def parse_duration(value: object) -> float:
    """Give the seconds that `value` stands for. Raises `ValueError` that says what is wrong."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"must be a duration, not {_short(value)}: {HINT}")
    seconds = _from_text(value) if isinstance(value, str) else _from_number(value)
    if math.isnan(seconds):
        raise ValueError(f"must be a duration, not {_short(value)}: {HINT}")
    if seconds < 0:
        raise ValueError(f"must not be negative, and is {_short(value)}")
    if seconds > MAX_DURATION:
        raise ValueError(f"must not be longer than ten years, and is {_short(value)}")
    return seconds


def _from_number(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _from_text(value: str) -> float:
    text = value.strip()
    digits = text.removeprefix("-")
    seconds = math.nan
    if len(text) <= _MAX_LENGTH:
        if _NUMBER.fullmatch(digits):
            seconds = float(digits)
        elif _WHOLE.fullmatch(digits):
            seconds = math.fsum(float(number) * _UNITS[unit] for number, unit in _PART.findall(digits))
    return -seconds if digits != text else seconds


def _short(value: object) -> str:
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**30 else "a huge number"
    return text if len(text) <= 60 else f"{text[:57]}…"


def format_duration(seconds: float) -> str:
    """Write seconds for people, to about three digits: `0ms`, `250ms`, `1.5s`, `42s`, `5m`, `1h30m`, `3d4h`.

    What it gives can be parsed again, and is then off by at most one part in a hundred.
    """
    if seconds < 0:
        return "-" + format_duration(-seconds)
    if seconds < 0.9995:
        milliseconds = seconds * 1000
        return f"{milliseconds:.0f}ms" if milliseconds >= 10 or seconds == 0 else f"{milliseconds:.3g}ms"
    if seconds < 59.95:
        return f"{seconds:.1f}".removesuffix(".0") + "s"
    whole = round(seconds)
    for big, small in (("d", "h"), ("h", "m"), ("m", "s")):
        if whole >= _UNITS[big]:
            many, rest = divmod(whole, int(_UNITS[big]))
            few = rest // int(_UNITS[small])
            return f"{many}{big}" + (f"{few}{small}" if few else "")
    return f"{whole}s"
