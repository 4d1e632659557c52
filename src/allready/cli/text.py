"""Text for terminals: nothing from tasks may steer one, and times and sizes read well."""

from __future__ import annotations

import re

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
