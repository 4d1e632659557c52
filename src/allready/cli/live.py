"""The live view of a run on a terminal, and the questions to whoever sits in front of it."""

from __future__ import annotations

import asyncio
import io
import select
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import IO, Self, cast

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.markdown import Markdown
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from allready.cli.ask import Asker
from allready.cli.progress import Display, closing_lines, plan_line, store_text, summary
from allready.cli.tables import fit
from allready.cli.text import LONGEST_LINE, clean, clean_line, duration_text
from allready.core.graph import TaskNode
from allready.core.states import CANCELING, ENDED, FAILED, RUNNING, SKIPPED, RunState
from allready.engine.estimate import remaining_seconds
from allready.engine.outcome import RunResult
from allready.engine.session import Session
from allready.store.contract import JournalEvent

REFRESH = 0.25
"""Seconds between two looks of the live view."""
RECENT_FAILURES = 5
"""Failures that the view keeps in sight."""
OTHER_ROWS = 8
"""Rows of the view beside those of running tasks, and some air."""


class LiveView(Display):
    """Overall bar, running tasks with their last line of output, failures, and why nothing moves."""

    def __init__(self, session: Session, store: str | None = None) -> None:
        super().__init__(session, store)
        self.console = Console(file=cast("IO[str]", _Unbreakable(self)))
        self.asks = sys.stdin.isatty()
        self._live = self._make_live()
        self._refresher: asyncio.Task[None] | None = None
        self._asker: Asker | None = None
        self._last_lines: dict[str, str] = {}
        self._open_lines: dict[str, str] = {}
        """Task → the line it has not ended yet."""
        self._planning = ""
        """What the planner does; empty if there is none, or no more."""
        self._failures: dict[str, str] = {}
        """Task → why it failed, the newest last."""
        self._running: dict[str, TaskNode] = {}
        self._stopping = False
        self._left: float | None = None
        self._estimated_at = 0.0

    # --- life -----------------------------------------------------------------------------------------

    def _make_live(self) -> Live:
        return Live(self, console=self.console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        self._refresher = asyncio.get_running_loop().create_task(self._refresh())
        if self.asks:
            self._asker = Asker(self.session, self.console, self._hide, self._show_again)
            self._asker.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._refresher is not None:
            self._refresher.cancel()
        self._live.stop()
        if self._asker is not None:
            self._asker.close()

    def _hide(self) -> None:
        self._live.stop()

    def _show_again(self) -> None:
        """Give a new view: one that was stopped would draw over what was printed since."""
        if not self._stopping:
            self._live = self._make_live()
            self._live.start()

    async def _refresh(self) -> None:
        while True:
            if _takes_output(self._descriptor):
                self._live.refresh()
            await asyncio.sleep(REFRESH)

    def interrupted(self, first: bool) -> None:
        """Say so in the view."""
        self._stopping = True
        if not first:
            self.console.print("killing what does not stop")

    def store_away(self, reason: str | None) -> None:
        """Say so above the view."""
        self.console.print(Text(store_text(reason)), soft_wrap=True)

    def finish(self, result: RunResult, stopped_by: int | None) -> None:
        """Print the summary."""
        for number, line in enumerate(summary(self.session, result, self.store)):
            style = _STYLES.get(result.status, "") if number == 0 else ""
            self.console.print(Text(line, style), soft_wrap=True)
        if result.answer is not None:
            self.console.print()
            self.console.print(Markdown(clean(result.answer), hyperlinks=False))
            self.console.print()
        for line in closing_lines(self.session, result, self.store):
            self.console.print(Text(line), soft_wrap=True)
        super().finish(result, stopped_by)

    # --- what happens ---------------------------------------------------------------------------------

    def observe(self, events: Sequence[JournalEvent]) -> None:
        """Take note of what is running, what failed, and what a person has to decide."""
        graph = self.session.scheduler.graph
        for event in events:
            if event.type.startswith("plan."):
                self._planning = "" if event.type == "plan.closed" else plan_line(event)
            if event.task is None:
                continue
            node = graph[event.task]
            if node.state is RUNNING or node.state is CANCELING:
                self._running[event.task] = node
            else:
                self._running.pop(event.task, None)
                self._last_lines.pop(event.task, None)
                self._open_lines.pop(event.task, None)
            data = event.data or {}
            if event.type == "task.failed" and "decision" not in data:
                self._failures.pop(event.task, None)
                self._failures[event.task] = f"{event.task}: {clean_line(str(data.get('error', '')))}"
        if self._asker is not None:
            self._asker.observe(events)

    def output(self, task: str, attempt: str, text: str) -> None:  # noqa: ARG002
        """Keep the last line of what a task wrote; models write a line in many pieces."""
        line = (self._open_lines.get(task, "") + text)[-LONGEST_LINE:]
        self._last_lines[task] = clean_line(line.rstrip("\n").rpartition("\n")[2]) or self._last_lines.get(
            task, ""
        )
        self._open_lines[task] = line.rpartition("\n")[2]

    # --- drawing --------------------------------------------------------------------------------------

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        yield self._bar(width)
        now = self.session.clock()
        failures = list(self._failures.values())[-RECENT_FAILURES:]
        rows = max(3, options.size.height - OTHER_ROWS - len(failures))
        running = sorted(self._running.values(), key=lambda node: node.started_at or 0.0)
        for node in running[:rows]:
            yield self._running_line(node, now, width)
        if len(running) > rows:
            yield Text(f"  … and {len(running) - rows} more running", "dim")
        if self._planning:
            yield Text(fit(f"✎ {self._planning}", width), "magenta")
        elif not running:
            yield from self._why_nothing_runs(now, width)
        if running:
            yield from self._put_off_line(now, width)
        for failure in failures:
            yield Text(fit(f"✖ {failure}", width), "red")

    def _bar(self, width: int) -> Table:
        session = self.session
        graph = session.scheduler.graph
        now = session.clock()
        done = sum(graph.counts[state] for state in ENDED)
        parts = [f"{done}/{len(graph)}", f"{session.pool.active}/{session.pool.max_concurrent} slots"]
        parts += [f"{graph.counts[state]} {state}" for state in (FAILED, SKIPPED) if graph.counts[state]]
        if session.scheduler.started_at is not None:
            parts.append(duration_text(now - session.scheduler.started_at))
        left = self._seconds_left(now)
        if left is not None and left >= 1.0 and done < len(graph):
            parts.append(f"about {duration_text(left)} left")
        if self._stopping:
            parts.append("stopping")
        elif session.status is RunState.PAUSED:
            parts.append("paused")
        text = Text(" · ".join(parts), no_wrap=True, overflow="ellipsis")
        table = Table.grid(padding=(0, 1))
        if width - cell_len(text.plain) >= 12:
            bar = ProgressBar(
                total=max(1, len(graph)), completed=done, width=min(40, width - cell_len(text.plain) - 2)
            )
            table.add_row(bar, text)
        else:
            table.add_row(text)
        return table

    def _seconds_left(self, now: float) -> float | None:
        """Give about how long it will take; looked at all tasks anew once a second only."""
        if now - self._estimated_at >= 1.0:
            self._estimated_at = now
            session = self.session
            self._left = remaining_seconds(session.scheduler.graph, session.pool.max_concurrent, now)
        return self._left

    def _running_line(self, node: TaskNode, now: float, width: int) -> Text:
        sign = "■" if node.state is CANCELING else "▶"
        elapsed = duration_text(now - (node.started_at or now))
        head = f"{sign} {clean_line(node.id)}  {elapsed}"
        last = self._last_lines.get(node.id)
        text = Text(fit(head, width), "cyan")
        if last and width - cell_len(head) > 12:
            room = width - cell_len(head) - 2
            if cell_len(last) > room:  # the newest is at the end
                last = f"…{set_cell_size(last[::-1], room - 1)[::-1]}"
            text.append(f"  {last}", "dim")
        return text

    def _put_off_line(self, now: float, width: int) -> RenderResult:
        """Say that tasks wait for their time beside those that run, and why the first of them does."""
        waiting = sorted(self.session.scheduler.put_off(), key=lambda node: node.not_before or 0.0)
        if waiting:
            due = duration_text(max(0.0, (waiting[0].not_before or now) - now))
            text = f"· {len(waiting)} put off (next in {due}): {clean_line(waiting[0].error or '')}"
            yield Text(fit(text, width), "yellow")

    def _why_nothing_runs(self, now: float, width: int) -> RenderResult:
        scheduler = self.session.scheduler
        if scheduler.status is not RunState.RUNNING or scheduler.ending is not None:
            return
        told = 0
        for node in scheduler.graph:
            if node.state not in ENDED:
                yield Text(fit(f"· {clean_line(scheduler.why(node.id, now).text)}", width), "yellow")
                told += 1
                if told == 3:
                    return


class _Unbreakable(io.TextIOBase):
    """Our output for what draws on it: when it takes no more (the terminal was closed), that is no error."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._out = sys.stdout
        """Not what stands there while the view is shown: that prints above the view."""

    def write(self, text: str) -> int:
        with self._display.unless_broken():
            self._out.write(text)
        return len(text)

    def flush(self) -> None:
        with self._display.unless_broken():
            self._out.flush()

    def isatty(self) -> bool:
        return self._out.isatty()

    def fileno(self) -> int:
        return self._out.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._out.encoding


def _takes_output(descriptor: int) -> bool:
    """Say whether a terminal takes output now: one that is halted (Ctrl-S) must not halt the run."""
    try:
        return bool(select.select([], [descriptor], [], 0)[1])
    except (OSError, ValueError):
        return True  # writing will tell


_STYLES = {RunState.COMPLETED: "bold green", RunState.FAILED: "bold red", RunState.CANCELED: "bold yellow"}
