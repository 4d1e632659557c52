"""What `do` shows while a plan is written, and of a plan before it runs."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Self

from allready.cli.tables import count, fit, paint, screen_width, table
from allready.cli.text import clean_line, duration_text
from allready.planning.draft import DraftTask
from allready.planning.events import Again, Noted, PlannerEvent, Waiting, Written

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.text import Text

    from allready.engine.compile import Compiled

REFRESH = 0.25
"""Seconds between two looks of the live view."""
OTHER_ROWS = 3
"""Rows of the view beside those of tasks and messages, and some air."""
RECENT_MESSAGES = 3
"""Messages that the view keeps in sight."""
HEAD = ("task", "agent", "waits for", "title")
MAX_NAMES = 3
"""Dependencies that a row names; the others are counted."""


class Message(NamedTuple):
    """Something that a person should know of while the plan is written."""

    text: str
    details: tuple[str, ...] = ()
    style: str = "yellow"


class PlanningView:
    """Keeps what has been written so far; a context manager around the writing. Shows nothing by itself."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.tasks: list[DraftTask] = []
        """Those of the plan as it stands: begun anew, it is empty again."""
        self.messages: list[Message] = []
        """About the plan as it stands."""
        self.waiting: Message | None = None
        """Why nothing comes at present."""
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def take(self, event: PlannerEvent) -> None:
        """Take note of what the planner tells."""
        self.waiting = None
        if isinstance(event, Written):
            self.tasks.append(event.task)
            self.written(event.task)
            return
        message = message_of(event)
        if isinstance(event, Waiting):
            self.waiting = message
        else:
            if isinstance(event, Again):
                self.tasks.clear()
                self.messages.clear()
            self.messages.append(message)
        self.told(message)

    def written(self, task: DraftTask) -> None:
        """Show a task that has come."""

    def told(self, message: Message) -> None:
        """Show a message that has come."""

    @property
    def elapsed(self) -> float:
        """Seconds since the writing began."""
        return time.monotonic() - self._began


def message_of(event: Noted | Again | Waiting) -> Message:
    """Give an event in words."""
    match event:
        case Noted(text):
            return Message(clean_line(text), style="dim")
        case Again(reason, problems):
            return Message(f"once more: {clean_line(reason)}", tuple(map(clean_line, problems)))
        case Waiting(reason, delay):
            return Message(f"waits {duration_text(delay)}: {clean_line(reason)}")


class PlainPlanning(PlanningView):
    """A line on stderr for each thing that happens: stdout may be for the plan itself."""

    def __enter__(self) -> Self:
        self._say(f"{'planning':<10} with {self.model}")
        return self

    def written(self, task: DraftTask) -> None:
        """Print the task."""
        parts = [task.id]
        if task.agent is not None:
            parts.append(f" ({task.agent})")
        if task.depends_on:
            parts.append(f" after {names_text(task.depends_on)}")
        if task.title:
            parts.append(f": {task.title}")
        self._say(f"{'planned':<10} {clean_line(''.join(parts))}")

    def told(self, message: Message) -> None:
        """Print the message."""
        self._say(f"{'planning':<10} {message.text}")
        for detail in message.details:
            print(f"{'':22}{detail}", file=sys.stderr)

    def _say(self, text: str) -> None:
        print(f"{self.elapsed:7.1f} s  {text}", file=sys.stderr, flush=True)


class LivePlanning(PlanningView):
    """A table on the terminal that grows as the plan is written, and goes away when it is complete."""

    def __init__(self, model: str) -> None:
        from rich.console import Console
        from rich.live import Live

        super().__init__(model)
        self.console = Console(stderr=True)
        self._live = Live(self, console=self.console, auto_refresh=False, transient=True)
        self._refresher: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        self._live.start()
        self._refresher = asyncio.get_running_loop().create_task(self._refresh())
        return self

    def __exit__(self, *_: object) -> None:
        if self._refresher is not None:
            self._refresher.cancel()
        self._live.stop()
        for message in self.messages:  # they would be gone with the table
            self.console.print(_message_text(message._replace(details=()), self.console.width))

    async def _refresh(self) -> None:
        while True:
            self._live.refresh()
            await asyncio.sleep(REFRESH)

    def written(self, task: DraftTask) -> None:  # noqa: ARG002
        """Draw at once."""
        self._live.refresh()

    def told(self, message: Message) -> None:  # noqa: ARG002
        """Draw at once."""
        self._live.refresh()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        width = options.max_width
        parts = ["planning", count(len(self.tasks), "task"), duration_text(self.elapsed), self.model]
        yield Text(fit(" · ".join(map(clean_line, parts)), width), "bold", no_wrap=True)
        told = self.messages[-RECENT_MESSAGES:] + ([self.waiting] if self.waiting else [])
        messages = [_message_text(message, width) for message in told]
        taken = sum(text.plain.count("\n") + 1 for text in messages)
        rows = max(3, options.size.height - OTHER_ROWS - taken)
        lines = list(_draft_lines(self.tasks))
        hidden = max(0, len(lines) - 1 - rows)
        for number, line in enumerate(lines[:1] + lines[1 + hidden :]):
            yield Text(fit(line, width), "dim" if number == 0 else "", no_wrap=True)
            if number == 0 and hidden:
                yield Text(f"… {hidden} before these", "dim")
        yield from messages


def _draft_lines(tasks: Sequence[DraftTask]) -> Iterator[str]:
    """Give a table of the tasks, its head first."""
    drafts = [draft_row(task) for task in tasks]
    head = [name if any(row[column] for row in drafts) else "" for column, name in enumerate(HEAD)]
    return table([head, *drafts] if drafts else [], cut=(3, 2, 1, 0))


def _message_text(message: Message, width: int) -> Text:
    from rich.text import Text

    lines = [message.text, *(f"  {detail}" for detail in message.details)]
    return Text("\n".join(fit(line, width) for line in lines), message.style, no_wrap=True)


def choose_view(model: str, *, quiet: bool) -> PlanningView:
    """Give what suits: nothing if asked for, a live view on a terminal, plain lines elsewhere."""
    if quiet:
        return PlanningView(model)
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        return LivePlanning(model)
    return PlainPlanning(model)


def draft_row(task: DraftTask) -> tuple[str, str, str, str]:
    """Give the cells of a task that was written."""
    return (
        clean_line(task.id),
        clean_line(task.agent or ""),
        names_text(task.depends_on),
        clean_line(task.title),
    )


def names_text(names: Sequence[str]) -> str:
    """Give the ids of tasks in a few words."""
    shown = [clean_line(name) for name in names]
    if len(shown) > MAX_NAMES:
        shown[MAX_NAMES - 1 :] = [f"{len(shown) - MAX_NAMES + 1} more"]
    return ", ".join(shown)


# --- the whole plan ---------------------------------------------------------------------------------------


def plan_lines(compiled: Compiled) -> Iterator[str]:
    """Show a plan before it runs: what is done by whom, and in which order."""
    from allready.plan.draw import draw_text, plan_nodes

    plan = compiled.plan
    agents = {spec.id: spec.agent for spec in compiled.specs}
    rows = [
        (clean_line(task.id), clean_line(agents.get(task.id) or ""), clean_line(task.title or ""))
        for task in plan.tasks.values()
    ]
    width = screen_width()
    yield paint(fit(clean_line(plan.goal), width), "bold")
    yield ""
    yield from table(rows, ("task", "agent", "title"), cut=(2, 1, 0))
    yield ""
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    nodes = [node._replace(title=None) for node in plan_nodes(plan)]  # the table has them
    yield draw_text(nodes, ascii_only=not encoding.startswith("utf"), width=width)
