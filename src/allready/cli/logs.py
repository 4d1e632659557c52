"""`logs`: what happens in a run, or what a task writes; also while it goes on."""

from __future__ import annotations

import codecs
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from allready.cli.options import JsonOption, RunArgument, StoreOption, open_settled_store, print_json
from allready.core.states import ENDED

if TYPE_CHECKING:
    from allready.store.contract import JournalEvent, RunRow, Store, TaskRow

LOOK_EVERY = 0.2
"""Seconds between two looks while following."""
READ_EVERY = 0.5
"""Seconds after which is read anyway: the process may have died, and a server tells nothing of events."""
CHUNK = 256 * 1024
"""Bytes of an output that are read at a time."""
MAX_LINE = 64 * 1024
"""Characters of a line for whose end is waited."""
MAX_NAME = 32
"""Columns for a task's name, if it is short enough."""
STDERR_MARK = "stderr| "
"""Stands before each line of a task's standard error."""


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("logs")(logs)


def logs(
    run: RunArgument = "latest",
    task: Annotated[
        str | None, typer.Argument(metavar="TASK", help="A task's id: what it writes. Without it: events.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the run (or the task) has ended.")
    ] = False,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Show a run's events, or a task's output.

    With -f also those that follow, until the run (or the task) has ended.
    """
    with closing(open_settled_store(store)) as opened:
        run_id = opened.find_run(run)
        if task is not None:
            opened.task(run_id, task)  # raises an error that names similar ids
        watch = _Watch(opened, run_id, store)
        try:
            if task is not None and not json:
                _show_output(watch, task, follow=follow)
            else:
                _show_events(watch, task, follow=follow, json=json)
        except KeyboardInterrupt:
            sys.stdout.flush()  # whoever follows has seen enough; the run goes on


class _Watch:
    """Looks at a run until it has ended, or until nobody drives it any more."""

    def __init__(self, store: Store, run_id: str, store_option: str | None) -> None:
        self.store = store
        self.row: RunRow = store.run(run_id, plan=False)
        self._option = store_option
        self._looked = time.monotonic()

    def over(self) -> bool:
        """Say whether nothing more will come."""
        from allready.core.states import RUN_ENDED
        from allready.engine.views import is_abandoned

        return self.row.status in RUN_ENDED or is_abandoned(self.row)

    def wait(self) -> bool:
        """Wait a moment; says whether something may have happened."""
        sys.stdout.flush()
        time.sleep(LOOK_EVERY)
        now = time.monotonic()
        due = self.store.changed() or now - self._looked >= READ_EVERY
        if due:
            self._looked = now
            self.row = self.store.run(self.row.id, plan=False)
        return due

    def explain_end(self) -> None:
        """Say on stderr why nothing more comes, unless the run has ended."""
        from allready.cli.tables import hint
        from allready.core.states import RUN_ENDED
        from allready.engine.views import resume_command

        if self.row.status in RUN_ENDED:
            return
        sys.stdout.flush()
        reason = "the run is paused" if self.row.status == "paused" else "no process drives the run any more"
        resume = hint(*resume_command(self.row), store=self._option)
        print(f"{reason}; go on with: {resume}", file=sys.stderr)


# --- events -----------------------------------------------------------------------------------------------


def _show_events(watch: _Watch, task: str | None, *, follow: bool, json: bool) -> None:
    from allready.cli.tables import say, width_of
    from allready.engine.views import event_view

    run_id = watch.row.id
    last = width = 0
    while True:
        over = watch.over()  # asked before the events are read, so that none is missed
        while events := watch.store.events(run_id, last, task=task):
            last = events[-1].seq
            if json:
                for event in events:
                    print_json(event_view(run_id, event))
            else:
                width = max(width, *(width_of(_subject(event)) for event in events))
                for line in event_lines(events, min(width, MAX_NAME)):
                    say(line)
        if not follow:
            return
        if over:
            watch.explain_end()
            return
        if task is not None and watch.store.task(run_id, task).state in ENDED:
            return
        while not watch.wait() and not watch.over():
            pass


def event_lines(events: Iterable[JournalEvent], width: int | None) -> Iterator[str]:
    """Give a line for each event: time, what happened, task (`width` columns; None: no), what matters."""
    from allready.cli.tables import pad, paint, time_text

    for event in events:
        kind, _, what = event.type.partition(".")
        shown = f"{what.replace('_', ' '):<10}"
        if kind == "task":
            shown = paint(shown, _COLOURS.get(what, what))
        parts = [f"{time_text(event.at)}.{int(event.at % 1 * 1000):03}", shown]
        if width is not None:
            parts.append(pad(_subject(event), width))
        details = _details(event.type, event.data or {})
        yield "  ".join([*parts, *([details] if details else [])]).rstrip()


def _subject(event: JournalEvent) -> str:
    from allready.cli.text import clean_line

    return clean_line(event.task) if event.task is not None else event.type.partition(".")[0]


_COLOURS = {"started": "blue", "retrying": "yellow", "deferred": "dim", "added": "dim"}


def _details(kind: str, data: dict[str, Any]) -> str:
    from allready.cli.tables import count
    from allready.cli.text import clean_line, duration_text

    parts = []
    if kind == "run.created":
        parts = [clean_line(str(data.get("goal", ""))), count(data.get("tasks", 0), "task")]
    if data.get("number", 1) > 1:
        parts.append(f"attempt {data['number']}")
    if "agent" in data:
        parts.append(clean_line(str(data["agent"])))
    if "duration_ms" in data:
        parts.append(duration_text(data["duration_ms"] / 1000))
    if "delay" in data:
        parts.append(f"in {duration_text(data['delay'])}")
    parts += [clean_line(str(data[key])) for key in ("error", "reason") if data.get(key)]
    if data.get("asks"):
        parts.append("waits for a decision")
    if "decision" in data:
        parts.append(f"decided: {clean_line(str(data['decision']))}")
    if data.get("approved"):
        parts.append("approved")
    return ", ".join(part for part in parts if part)


# --- output -----------------------------------------------------------------------------------------------


def _show_output(watch: _Watch, task_id: str, *, follow: bool) -> None:
    """Show what a task's latest attempt wrote; when following, also of the attempts that come."""
    from allready.cli.tables import say

    attempt = 0
    pipes: list[_Tail] = []
    while True:
        over = watch.over()
        task = watch.store.task(watch.row.id, task_id)
        if task.attempts != attempt:
            for pipe in pipes:
                pipe.read()
                pipe.finish()
            if task.attempts > 1:
                say(f"--- attempt {task.attempts} ---")
            attempt = task.attempts
            pipes = _pipes(watch.row, task)
        ended = task.state in ENDED
        for pipe in pipes:
            pipe.read()
        if not follow or over or ended:
            for pipe in pipes:
                pipe.finish()
            _show_what_is_left(task, pipes)
            if follow and not ended:
                watch.explain_end()
            return
        watch.wait()


def _show_what_is_left(task: TaskRow, pipes: Iterable[_Tail]) -> None:
    """Show what no file has: a function's value, and why there is nothing."""
    from allready.cli.tables import say
    from allready.cli.text import clean, clean_line

    if task.output and not any(pipe.seen for pipe in pipes if not pipe.mark):
        say(clean(task.output))
    sys.stdout.flush()
    if not task.attempts:
        reason = f": {clean_line(task.error)}" if task.error else ""
        print(f"{clean_line(task.id)} has not run; it is {task.state}{reason}", file=sys.stderr)
    elif task.state == "failed" and task.error:
        print(f"{clean_line(task.id)} failed: {clean_line(task.error)}", file=sys.stderr)


def _pipes(row: RunRow, task: TaskRow) -> list[_Tail]:
    from allready.agents.output import OUTPUT_FILE
    from allready.agents.process import STDERR_FILE
    from allready.engine.results import attempt_folder

    folder = attempt_folder(Path(row.folder), task.id, task.attempts)
    return [_Tail(folder / OUTPUT_FILE, ""), _Tail(folder / STDERR_FILE, STDERR_MARK)]


class _Tail:
    """A file that may grow, shown line by line."""

    def __init__(self, path: Path, mark: str) -> None:
        self.mark = mark
        self.seen = 0
        """Bytes shown so far."""
        self._path = path
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._begun = ""
        """A line without its end yet."""

    def read(self) -> None:
        """Show what is new in the file, as far as it ends in a newline."""
        from allready.agents.exchange import open_plain

        try:
            with open(self._path, "rb", opener=open_plain) as file:
                file.seek(self.seen)
                while data := file.read(CHUNK):
                    self.seen += len(data)
                    self._show(self._begun + self._decoder.decode(data))
        except OSError:  # not there yet, not any more, or no file
            pass

    def finish(self) -> None:
        """Show what is left, too."""
        if self._begun:
            self._show(self._begun + "\n")

    def _show(self, text: str) -> None:
        from allready.cli.tables import paint, say
        from allready.cli.text import clean

        whole, newline, self._begun = text.rpartition("\n")
        if not newline and len(text) < MAX_LINE:
            return
        if not newline:
            whole, self._begun = text, ""
        lines = clean(whole).split("\n")
        for line in lines:
            say(paint(f"{self.mark}{line}", "red") if self.mark else line)
