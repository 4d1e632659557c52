"""Text for terminals: nothing from tasks may steer one, and times and sizes read well."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from allready.agents.usage import Usage

_TERMINAL_CODE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)?")
LONGEST_LINE = 500
"""Characters of a line; more is data, not something to read."""
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def clean(text: str) -> str:
    """Give a text without anything that steers a terminal; newlines and tabs stay."""
    return _UNSEEN.sub("\ufffd", _TERMINAL_CODE.sub("", text.replace("\r\n", "\n")))


def clean_line(text: str) -> str:
    """Give a text as one cleaned line: its first, an ellipsis for the others.

    After a first line that ends with a colon (`sh exited with code 3:`) the last one says what it was.
    """
    lines = [line.strip() for line in clean(text).expandtabs().splitlines() if line.strip()]
    if not lines:
        return ""
    line = lines[0] + (" …" if len(lines) > 1 else "")
    if lines[0].endswith(":") and len(lines) > 1:
        line = f"{lines[0]} {'… ' if len(lines) > 2 else ''}{lines[-1]}"
    return line if len(line) <= LONGEST_LINE else line[: LONGEST_LINE - 1] + "…"


def usage_text(usage: Usage) -> str:
    """Give what requests to models took: `3 requests, 12,345 tokens (12,000 read, 345 written), $0.0123`."""
    requests = f"{usage.requests:,} request{'s' * (usage.requests != 1)}"
    tokens = f"{usage.tokens:,} tokens ({usage.input_tokens:,} read, {usage.output_tokens:,} written)"
    if not usage.unpriced:
        return f"{requests}, {tokens}, {money_text(usage.cost)}"
    if usage.unpriced == usage.requests:
        return f"{requests}, {tokens}, price not known"
    return f"{requests}, {tokens}, {money_text(usage.cost)} and {usage.unpriced:,} of unknown price"


def money_text(dollars: float) -> str:
    """Give US dollars, small amounts with more digits."""
    return f"${dollars:,.2f}" if dollars >= 1 or dollars == 0 else f"${dollars:,.4f}"


def duration_text(seconds: float) -> str:
    """Give a span of time: `12 ms`, `3.4 s`, `2 min 5 s`, `1 h 20 min`."""
    if seconds < 0.1:
        return f"{max(0.0, seconds) * 1000:.0f} ms"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
