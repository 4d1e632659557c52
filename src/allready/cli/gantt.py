"""A simulated run as bars over time, for a terminal of any width."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from math import ceil
from typing import TYPE_CHECKING, NamedTuple

from allready.cli.tables import fit, pad, width_of
from allready.cli.text import clean_line, duration_text

if TYPE_CHECKING:
    from allready.engine.simulate import Simulation, Span

MAX_ROWS = 40
"""Tasks that are drawn one by one; of more the critical path is, and how full the places are."""
PATH_ROWS = 10
"""Of the critical path then."""
SLOT_ROWS = 30
"""Places then; of more several share a row."""
MIN_BARS = 10
"""Columns that the bars have at least."""
MARK = "* "
SLOT_NAME = "slots 1000-1000"
"""Room for the names of places."""


class _Signs(NamedTuple):
    run: str
    wait: str
    shades: str
    """From empty to full."""
    line: str
    dots: str


_UNICODE = _Signs("█", "░", " ░▒▓█", "─", "…")
_ASCII = _Signs("#", ".", " .:+#", "-", "...")


def draw_gantt(
    simulation: Simulation, path: Sequence[str], *, width: int, ascii_only: bool = False
) -> Iterator[str]:
    """Give the lines of the picture; `path` names the tasks of the critical path, which are marked."""
    signs = _ASCII if ascii_only else _UNICODE
    if len(simulation.spans) <= MAX_ROWS:
        yield from _Picture(simulation, simulation.spans, set(path), width, signs).lines()
        yield f"{signs.run} runs   {signs.wait} waits for a place   * is on the critical path"
        return
    by_task = {span.task: span for span in simulation.spans}
    spans = [by_task[task] for task in path if task in by_task]
    picture = _Picture(simulation, spans[:PATH_ROWS], set(path), width, signs, SLOT_NAME)
    yield from picture.lines(
        left_out=len(spans) - PATH_ROWS, shares=_slot_shares(simulation, picture.columns)
    )
    shades = f"{signs.shades[1]} to {signs.shades[-1]}"
    yield f"* is on the critical path   below it, by place: {shades} partly to always taken"


class _Picture:
    def __init__(
        self,
        simulation: Simulation,
        spans: Sequence[Span],
        path: Collection[str],
        width: int,
        signs: _Signs,
        longest_name: str = "",
    ) -> None:
        self.spans = spans
        self.path = path
        self.signs = signs
        self.names = {span.task: clean_line(span.task) for span in spans}
        self.total = simulation.makespan
        self.times = [duration_text(span.end - span.start) for span in spans]
        self.time_width = max(map(len, [*self.times, ""]))
        longest = max(map(width_of, [*self.names.values(), longest_name]))
        self.name_width = min(longest, max(width // 4, len(longest_name)))
        self.columns = max(MIN_BARS, width - len(MARK) - self.name_width - self.time_width - 4)

    def lines(self, left_out: int = 0, shares: Sequence[tuple[str, list[float]]] = ()) -> Iterator[str]:
        for span, time in zip(self.spans, self.times, strict=True):
            name = fit(self.names[span.task], self.name_width)
            if self.signs is _ASCII:
                name = name.replace("…", "~")
            yield self._line(MARK if span.task in self.path else "  ", name, self._bar(span), time)
        if left_out > 0:
            yield f"{MARK}{self.signs.dots} {left_out:,} more"
        full = len(self.signs.shades) - 1
        for name, cells in shares:
            bar = "".join(self.signs.shades[min(full, ceil(share * full - 0.25))] for share in cells)
            yield self._line("  ", name, bar, "")
        end = duration_text(self.total)
        rule = self.signs.line * max(1, self.columns - len(end) - 3)
        yield self._line("  ", "", f"0 {rule} {end}", "")

    def _line(self, mark: str, name: str, bar: str, time: str) -> str:
        parts = (pad(name, self.name_width), pad(bar, self.columns), f"{time:>{self.time_width}}")
        return (mark + "  ".join(parts)).rstrip()

    def _bar(self, span: Span) -> str:
        begin = min(self._column(span.start), self.columns - 1)
        end = max(begin + 1, self._column(span.end))
        ready = min(self._column(span.ready), begin)
        return " " * ready + self.signs.wait * (begin - ready) + self.signs.run * (end - begin)

    def _column(self, time: float) -> int:
        return round(time / self.total * self.columns) if self.total else 0


def _slot_shares(simulation: Simulation, columns: int) -> list[tuple[str, list[float]]]:
    """Give for each place, or group of places, its name and how much of each column's time it is taken."""
    group = ceil(simulation.slots / SLOT_ROWS)
    rows = ceil(simulation.slots / group)
    taken = [[0.0] * columns for _ in range(rows)]
    unit = simulation.makespan / columns
    for span in simulation.spans:
        if span.slot is None or not unit:
            continue
        cells = taken[(span.slot - 1) // group]
        for column in range(int(span.start / unit), min(columns, ceil(span.end / unit))):
            inside = min(span.end, (column + 1) * unit) - max(span.start, column * unit)
            cells[column] += max(0.0, inside) / unit / group
    shares = []
    for row, cells in enumerate(taken):
        first, last = row * group + 1, min((row + 1) * group, simulation.slots)
        name = f"slot {first}" if first == last else f"slots {first}-{last}"
        shares.append((name, [share * group / (last - first + 1) for share in cells]))
    return shares
