"""Tables, times and colours for terminals of any width. Whoever calls has cleaned the text."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from typing import TypeGuard

from allready.cli.text import duration_text

_CODES = {"red": "31", "green": "32", "yellow": "33", "blue": "34", "magenta": "35", "dim": "2", "bold": "1"}
STATE_COLOURS = {
    "completed": "green",
    "running": "blue",
    "failed": "red",
    "paused": "yellow",
    "awaiting_approval": "yellow",
    "canceling": "yellow",
    "canceled": "magenta",
    "skipped": "magenta",
    "pending": "dim",
    "ready": "dim",
}
GAP = 2
"""Blanks between columns."""
MIN_CUT = 12
"""Columns of a terminal that a cell keeps at least when it is cut."""
DOTS = "…"


def is_terminal() -> bool:
    """Say whether a person's terminal shows our output."""
    return sys.stdout.isatty()


def screen_width() -> int | None:
    """Give the columns there are; None if the output goes elsewhere, so that nothing has to be cut."""
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given) > 0:
        return int(given)
    if not is_terminal():
        return None
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or None
    except OSError:
        return None


def paint(text: str, colour: str | None) -> str:
    """Give the text in a colour, or in a state's colour; plain where colours are not wanted."""
    code = _CODES.get(STATE_COLOURS.get(colour or "", colour or ""))
    if code is None or not text or not is_terminal():
        return text
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{code}m{text}\x1b[0m"


def say(text: str = "") -> None:
    """Print a line, whatever the encoding of the output can hold."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(f"{text}\n".encode(encoding, "replace").decode(encoding))


def hint(command: str, *arguments: str, store: str | None = None) -> str:
    """Give a command of ours as a person would type it, for the same store; a password is not repeated."""
    from allready.store.open import without_password

    given = ["--store", without_password(store)] if store is not None else []
    return shlex.join(["allready", command, *arguments, *given])


# --- width ------------------------------------------------------------------------------------------------


def width_of(text: str) -> int:
    """Give the columns of a terminal that a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def fit(text: str, width: int | None) -> str:
    """Cut a text so that it takes `width` columns at most; None: as it is."""
    if width is None or width_of(text) <= width:
        return text
    from rich.cells import set_cell_size

    return set_cell_size(text, max(width - len(DOTS), 0)).rstrip() + DOTS[: max(width, 0)]


def pad(text: str, width: int, *, right: bool = False) -> str:
    """Fill a text up to `width` columns."""
    blanks = " " * (width - width_of(text))
    return blanks + text if right else text + blanks


# --- tables -----------------------------------------------------------------------------------------------

Cell = str | tuple[str, str | None]
"""A text, or a text and its colour."""


def _is_painted(cell: Cell) -> TypeGuard[tuple[str, str | None]]:
    return not isinstance(cell, str)


def table(
    rows: Sequence[Sequence[Cell]],
    head: Sequence[str] | None = None,
    *,
    cut: Sequence[int] = (),
    right: Collection[int] = (),
    indent: int = 0,
) -> Iterator[str]:
    """Give the lines of a table. Too wide for the screen, the columns in `cut` are shortened, in that order.

    Columns in which no row has anything are left out.
    """
    used = [
        column for column in range(len(rows[0]) if rows else 0) if any(_text(row[column]) for row in rows)
    ]
    heads = [[head[column] for column in used]] if head else []
    texts = [*heads, *([_text(row[column]) for column in used] for row in rows)]
    widths = [max(map(width_of, column)) for column in zip(*texts, strict=True)]
    _shorten(widths, [used.index(column) for column in cut if column in used], indent)
    if head:
        yield paint(_line(heads[0], widths, [None] * len(used), [c in right for c in used], indent), "dim")
    for row in rows:
        cells = [row[column] for column in used]
        colours = [cell[1] if _is_painted(cell) else None for cell in cells]
        yield _line([_text(c) for c in cells], widths, colours, [c in right for c in used], indent)


def _text(cell: Cell) -> str:
    return cell[0] if _is_painted(cell) else str(cell)


def _shorten(widths: list[int], cut: Sequence[int], indent: int) -> None:
    screen = screen_width()
    if screen is None:
        return
    for column in cut:
        excess = sum(widths) + GAP * (len(widths) - 1) + indent - screen
        if excess > 0:
            widths[column] = max(min(widths[column], MIN_CUT), widths[column] - excess)


def _line(
    texts: Sequence[str],
    widths: Sequence[int],
    colours: Sequence[str | None],
    right: Sequence[bool],
    indent: int,
) -> str:
    last = len(texts) - 1
    parts = []
    for place, (text, width) in enumerate(zip(texts, widths, strict=True)):
        cell = fit(text, width)
        filled = cell if place == last and not right[place] else pad(cell, width, right=right[place])
        parts.append(filled.replace(cell, paint(cell, colours[place])) if cell else filled)
    return (" " * indent + (" " * GAP).join(parts)).rstrip()


# --- times ------------------------------------------------------------------------------------------------


def time_text(at: float | None, now: float | None = None) -> str:
    """Give a time on this machine's clock: `09:30:05`, with the date unless it is today."""
    if at is None:
        return ""
    local = time.localtime(at)
    today = time.localtime(time.time() if now is None else now)
    is_today = local[:3] == today[:3]
    return time.strftime("%H:%M:%S" if is_today else "%Y-%m-%d %H:%M:%S", local)


def ago(at: float, now: float) -> str:
    """Give how long ago something was, roughly: `12 s ago`, `3 h ago`, `5 d ago`."""
    seconds = max(0.0, now - at)
    if seconds < 1:
        return "just now"
    for unit, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * unit or (unit < 86_400 and seconds >= unit):
            return f"{int(seconds // unit)} {name} ago"
    return f"{int(seconds)} s ago"


def span(start: float | None, end: float | None) -> str:
    """Give the time between two moments; empty if one is missing."""
    return duration_text(end - start) if start is not None and end is not None else ""


def count(number: int, what: str) -> str:
    """Give a number of things: `1 task`, `12,000 tasks`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
