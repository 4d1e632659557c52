"""Pictures of a plan or a run: for the terminal, for Mermaid and for Graphviz.

Their languages: https://mermaid.js.org/syntax/flowchart.html, https://graphviz.org/doc/info/lang.html.
Tasks are grouped by level: one more than the highest level among their dependencies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from allready.core.states import TaskState
from allready.plan.plan import Command, Function, Plan

MAX_ROWS = 200
"""Tasks that a text shows one by one; more than that nobody reads in a terminal."""
MAX_NAMES = 4
"""Dependencies that a row names; the others are counted."""
ID_WIDTH = 32
TITLE_WIDTH = 48
"""Columns of a terminal that ids and titles may take at most in the text."""
LABEL_LENGTH = 60
"""Characters of a title in a box."""


class Node(NamedTuple):
    """A task as it is drawn. All text in it may be hostile."""

    id: str
    title: str | None = None
    depends_on: Sequence[str] = ()
    state: str | None = None
    """A `TaskState`; None in the picture of a plan."""
    kind: str | None = None
    """`command`, `prompt` or `function`: the shape of its box."""


def plan_nodes(plan: Plan) -> list[Node]:
    """Give the tasks of a plan for drawing."""
    kinds = {Command: "command", Function: "function"}
    return [
        Node(task.id, task.title, task.depends_on, kind=kinds.get(type(task.body), "prompt"))
        for task in plan.tasks.values()
    ]


def levels_of(nodes: Sequence[Node]) -> tuple[list[list[Node]], list[Node]]:
    """Give the tasks level by level, and those in or behind a cycle, which have none."""
    by_id = {node.id: node for node in nodes}
    dependents: dict[str, list[str]] = {}
    waits_for: dict[str, int] = {}
    for node in by_id.values():
        known = {name for name in node.depends_on if name in by_id}
        waits_for[node.id] = len(known)
        for name in known:
            dependents.setdefault(name, []).append(node.id)
    order = {name: place for place, name in enumerate(by_id)}
    levels: list[list[Node]] = []
    current = [name for name in by_id if not waits_for[name]]
    while current:
        levels.append([by_id[name] for name in current])
        following = []
        for name in current:
            del waits_for[name]
            for dependent in dependents.get(name, ()):
                waits_for[dependent] -= 1
                if not waits_for[dependent]:
                    following.append(dependent)
        current = sorted(following, key=order.__getitem__)
    return levels, [by_id[name] for name in waits_for]


# --- text -------------------------------------------------------------------------------------------------


class _Signs(NamedTuple):
    only: str
    first: str
    middle: str
    last: str
    arrow: str
    dots: str
    states: dict[str, str]


_STATES = [state.value for state in TaskState]
_UNICODE = _Signs("─", "┬", "├", "╰", "←", "…", dict(zip(_STATES, "·?○▶■✔✖»⊘", strict=True)))
_ASCII = _Signs("-", "+", "|", "`", "<-", "...", dict(zip(_STATES, ".?o>!vxs#", strict=True)))
NO_STATE = " "


def draw_text(
    nodes: Sequence[Node], *, ascii_only: bool = False, width: int | None = None, max_rows: int = MAX_ROWS
) -> str:
    """Draw for a terminal: a row for each task, level by level, each with what it waits for.

    With more than `max_rows` tasks, wide levels and long rows of levels are abridged, with counts. `width`
    cuts the rows at so many columns. `ascii_only` is about the drawing; ids and titles stay as they are.
    """
    if not nodes:
        return "no tasks"
    signs = _ASCII if ascii_only else _UNICODE
    levels, cyclic = levels_of(nodes)
    picture = _TextPicture(levels, cyclic, signs, max_rows)
    rows = [*picture.rows(), "", picture.summary(), *picture.legend()]
    return "\n".join((row if width is None else _fit(row, width, signs.dots)).rstrip() for row in rows)


class _TextPicture:
    def __init__(self, levels: list[list[Node]], cyclic: list[Node], signs: _Signs, max_rows: int) -> None:
        self.levels = levels
        self.cyclic = cyclic
        self.signs = signs
        self.nodes = [node for level in (*levels, cyclic) for node in level]
        self.has_states = any(node.state for node in self.nodes)
        self.level_of = {node.id: number for number, level in enumerate(levels, 1) for node in level}
        groups = len(levels) + bool(cyclic)
        abridged = len(self.nodes) > max_rows
        self.per_level = max(1, max_rows // groups) if abridged else len(self.nodes)
        self.levels_shown = max(2, max_rows) if abridged else groups
        self.number_width = len(str(len(levels)))
        shown = [node for group in self._groups() if isinstance(group, tuple) for node in group[1]]
        self.id_width = max((min(_width(clean(node.id)), ID_WIDTH) for node in shown), default=0)
        self.title_width = max(
            (min(_width(clean(node.title or "")), TITLE_WIDTH) for node in shown), default=0
        )

    def _groups(self) -> Iterator[tuple[str, list[Node], list[Node]] | list[list[Node]]]:
        """Give (mark, tasks shown, tasks left out) of each level, and in between the levels left out."""
        left_out = len(self.levels) - self.levels_shown
        first = self.levels_shown // 2 if left_out > 0 else len(self.levels)
        for number, level in enumerate(self.levels):
            if number < first or number >= first + left_out:
                yield str(number + 1), level[: self.per_level], level[self.per_level :]
            elif number == first:
                yield self.levels[first : first + left_out]
        if self.cyclic:
            yield "?", self.cyclic[: self.per_level], self.cyclic[self.per_level :]

    def rows(self) -> Iterator[str]:
        dots = self.signs.dots
        for group in self._groups():
            if isinstance(group, list):
                tasks = [node for level in group for node in level]
                counts = f"{_count(len(group), 'level')} with {_count(len(tasks), 'task')}"
                yield f"{dots} {counts}{_states(tasks)}"
                continue
            mark, shown, left_out = group
            last = len(shown) - 1 + bool(left_out)
            for place, node in enumerate(shown):
                yield f"{self._bracket(mark, place, last)} {self._row(node)}"
            if left_out:
                yield f"{self._bracket(mark, last, last)} {dots} {len(left_out):,} more{_states(left_out)}"

    def _bracket(self, mark: str, place: int, last: int) -> str:
        signs = self.signs
        if place == 0:
            return f"{mark:>{self.number_width}} {signs.first if last else signs.only}"
        return f"{'':{self.number_width}} {signs.middle if place < last else signs.last}"

    def _row(self, node: Node) -> str:
        dots = self.signs.dots
        parts = [_pad(_fit(clean(node.id), ID_WIDTH, dots), self.id_width)]
        if self.has_states:
            parts.insert(0, self.signs.states.get(node.state or "", NO_STATE))
        if self.title_width:
            parts.append(" " + _pad(_fit(clean(node.title or ""), TITLE_WIDTH, dots), self.title_width))
        if node.depends_on:
            parts.append(f" {self.signs.arrow} {self._dependencies(node)}")
        return " ".join(parts)

    def _dependencies(self, node: Node) -> str:
        names = list(dict.fromkeys(node.depends_on))
        if len(names) <= MAX_NAMES:
            return ", ".join(_fit(clean(name), ID_WIDTH, self.signs.dots) for name in names)
        level = self.level_of.get(names[0], 0)
        if (
            level
            and len(names) == len(self.levels[level - 1])
            and all(self.level_of.get(name) == level for name in names)
        ):
            return f"all {len(names):,} of level {level}"
        some = ", ".join(_fit(clean(name), ID_WIDTH, self.signs.dots) for name in names[: MAX_NAMES - 1])
        return f"{some} and {len(names) - MAX_NAMES + 1:,} more"

    def summary(self) -> str:
        text = f"{_count(len(self.nodes), 'task')}, {_count(len(self.levels), 'level')}"
        return text + (f"; {len(self.cyclic):,} of them in or behind a cycle" if self.cyclic else "")

    def legend(self) -> list[str]:
        used = [state for state in self.signs.states if any(node.state == state for node in self.nodes)]
        return ["   ".join(f"{self.signs.states[state]} {state}" for state in used)] if used else []


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _states(nodes: Iterable[Node]) -> str:
    counts = Counter(clean(node.state) for node in nodes if node.state)
    return f" ({', '.join(f'{count:,} {state}' for state, count in counts.most_common())})" if counts else ""


def clean(text: str) -> str:
    """Give text on one line, without what could steer a terminal or turn the reading around."""
    line = " ".join(text.split())
    return line if line.isprintable() else "".join(filter(str.isprintable, line))


def _width(text: str) -> int:
    from rich.cells import cell_len

    return len(text) if text.isascii() else cell_len(text)


def _fit(text: str, width: int, dots: str) -> str:
    from rich.cells import set_cell_size

    if _width(text) <= width:
        return text
    return set_cell_size(text, max(width - len(dots), 0)).rstrip() + dots[:width]


def _pad(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


# --- Mermaid and Graphviz ---------------------------------------------------------------------------------

FILLS = {
    "pending": "#eeeeee",
    "awaiting_approval": "#ffe9a8",
    "ready": "#ffffff",
    "running": "#cfe4ff",
    "canceling": "#ffd9b8",
    "completed": "#d3f2d6",
    "failed": "#ffc9c9",
    "skipped": "#e3dcf2",
    "canceled": "#d9d9d9",
}
"""Backgrounds by state, all light enough for black text."""

_MERMAID_SHAPES = {"prompt": ('(["', '"])'), "function": ('[["', '"]]')}
_MERMAID_BOX = ('["', '"]')
_DOT_SHAPES = {"prompt": "ellipse", "function": "component"}
_MERMAID_PLAIN = frozenset(" _-.,/")
"""The punctuation that means nothing to Mermaid, wherever it stands."""


def draw_mermaid(nodes: Sequence[Node], *, direction: str = "TD") -> str:
    """Draw as a Mermaid flowchart; `direction` is `TD` (top down) or `LR` (left to right)."""
    names = _names(nodes)
    lines = [f"flowchart {direction}"]
    for node in nodes:
        opening, closing = _MERMAID_SHAPES.get(node.kind or "", _MERMAID_BOX)
        label = "<br/>".join(map(_mermaid_text, _label(node)))
        lines.append(f"    {names[node.id]}{opening}{label}{closing}")
    lines += [f"    {begin} --> {end}" for begin, end in _edges(nodes, names)]
    for state, fill in FILLS.items():
        members = [names[node.id] for node in nodes if node.state == state]
        if members:
            lines.append(f"    classDef {state} fill:{fill},stroke:#555555,color:#000000")
            lines.append(f"    class {','.join(members)} {state}")
    return "\n".join(lines)


def _mermaid_text(text: str) -> str:
    """Write what could mean something to Mermaid, to Markdown or to HTML by its number."""
    return "".join(
        character
        if character.isalnum() or character in _MERMAID_PLAIN or not character.isascii()
        else f"#{ord(character)};"
        for character in text
    )


def draw_dot(nodes: Sequence[Node], *, direction: str = "TB") -> str:
    """Draw as a Graphviz digraph; `direction` is `TB` (top to bottom) or `LR` (left to right)."""
    names = _names(nodes)
    lines = [
        "digraph plan {",
        f"    rankdir={direction};",
        '    node [shape=box, style="rounded,filled", fillcolor=white, fontname="sans-serif"];',
    ]
    for node in nodes:
        label = r"\n".join(map(_dot_text, _label(node)))
        attributes = [f'label="{label}"']
        if node.kind in _DOT_SHAPES:
            attributes.append(f"shape={_DOT_SHAPES[node.kind]}")
        if node.state in FILLS:
            attributes.append(f'fillcolor="{FILLS[node.state]}", tooltip="{node.state}"')
        lines.append(f"    {names[node.id]} [{', '.join(attributes)}];")
    lines += [f"    {begin} -> {end};" for begin, end in _edges(nodes, names)]
    return "\n".join([*lines, "}"])


def _dot_text(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;")


def _names(nodes: Sequence[Node]) -> dict[str, str]:
    """Give names of our own, which neither language can mistake for a keyword or for syntax."""
    return {node.id: f"t{number}" for number, node in enumerate(nodes, 1)}


def _label(node: Node) -> list[str]:
    title = clean(node.title or "")
    if len(title) > LABEL_LENGTH:
        title = f"{title[: LABEL_LENGTH - 1].rstrip()}…"
    name = clean(node.id)
    return [name, title] if title and title != name else [name]


def _edges(nodes: Sequence[Node], names: dict[str, str]) -> Iterator[tuple[str, str]]:
    for node in nodes:
        for name in dict.fromkeys(node.depends_on):
            if name in names:
                yield names[name], names[node.id]
