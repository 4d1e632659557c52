"""What `run` and `resume` show: a live view on a terminal, plain lines elsewhere, JSON lines for programs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TextIO

from allready.agents.secrets import Redactor, secret_values
from allready.cli.exits import say
from allready.cli.options import json_line
from allready.cli.outlet import Outlet
from allready.cli.tables import hint
from allready.cli.text import clean, clean_line, duration_text, usage_text
from allready.core.states import CANCELED, COMPLETED, FAILED, SKIPPED, RunState
from allready.engine.journal import PATIENCE_TEXT
from allready.engine.outcome import RunResult
from allready.engine.session import Session
from allready.engine.views import event_view, next_steps, run_view, short_id
from allready.store.contract import JournalEvent

STDOUT = 1
"""Its file descriptor."""
MANY_TASKS = 200
"""Of a larger plan the plain lines tell only failures and the sum."""
SUM_EVERY = 2.0
"""Seconds between two sums."""
NAMED = 20
"""Failed and skipped tasks that the summary names."""
RESULT_LINES = 30
"""Lines of the last task's output that the summary shows."""


def store_text(reason: str | None) -> str:
    """Say that a run waits for its store, and why; None: that it goes on."""
    if reason is None:
        return "allready: the store answers again; the run goes on"
    until = f"up to {PATIENCE_TEXT}; nothing new starts, what runs goes on"
    return clean(f"allready: waiting for the store ({until}): {reason}")


class Display:
    """Shows a run while it goes on (as a context manager around it) and how it ended."""

    asks = False
    """Whether it asks a person about approvals and failures."""

    def __init__(self, session: Session, store: str | None = None) -> None:
        self.session = session
        self.store = store
        """As it was given on the command line."""
        self._out: TextIO = sys.stdout
        """Where it is shown."""
        self._descriptor = STDOUT
        self._outlet: Outlet | None = None
        self._trouble: OSError | None = None
        """Why it can't be shown any more."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None

    # --- writing

    def begin_to_write(self) -> None:
        """Have `write` wait for no reader from now on, if it is a real output that is written to."""
        if self._out is not sys.__stdout__:
            return
        loop = asyncio.get_running_loop()

        def failed(error: OSError) -> None:
            loop.call_soon_threadsafe(self._leave_unseen, error)

        self._out.flush()
        self._outlet = Outlet(self._descriptor, failed)

    def write(self, text: str) -> None:
        """Write to our output."""
        if self._outlet is not None:
            self._outlet.write(text.encode(self._out.encoding, "backslashreplace"))
            return
        with self.unless_broken():
            self._out.write(text)

    def flush(self) -> None:
        """See to it that all that was written is on its way."""
        if self._outlet is None:
            with self.unless_broken():
                self._out.flush()

    def drain(self) -> None:
        """Wait until what was written is read, or `hurry()` was called."""
        if self._outlet is not None:
            self._outlet.drain()

    def hurry(self) -> None:
        """Drop what nobody has read yet; called by a signal's handler at the end."""
        if self._outlet is not None:
            self._outlet.abandon()

    @contextlib.contextmanager
    def unless_broken(self) -> Iterator[None]:
        """Write to our output; if it takes no more, leave the run so that it can be resumed."""
        try:
            yield
        except OSError as error:
            self._leave_unseen(error)

    def _leave_unseen(self, error: OSError) -> None:
        """Stop the run, so that it can be resumed: nobody reads what it says, or there is no room for it."""
        if self._trouble is None:
            self._trouble = error
            with open(os.devnull, "w") as nowhere:  # noqa: PTH123
                os.dup2(nowhere.fileno(), self._descriptor)
            self.session.interrupt()

    # --- what is shown

    def observe(self, events: Sequence[JournalEvent]) -> None:
        """Take events, in order, that have become durable."""

    def output(self, task: str, attempt: str, text: str) -> None:
        """Take a piece of what a command writes."""

    def interrupted(self, first: bool) -> None:
        """Take note of a signal."""
        say("\nstopping; the run can be resumed. Once more to kill." if first else "killing")

    def store_away(self, reason: str | None) -> None:
        """Say that the run waits for its store, and why; None: that it goes on."""
        say(store_text(reason))

    def finish(self, result: RunResult, stopped_by: int | None) -> None:
        """Say how the run ended."""
        self.drain()
        if self._trouble is not None:
            say(f"allready: the output can't be written any more: {self._trouble.strerror}")
        if result.status is RunState.PAUSED and self.session.store is not None:
            say(next_steps_text(self.session, stopped_by, self.store))


def next_steps_text(session: Session, stopped_by: int | None, store: str | None) -> str:
    """Say what a person has to do, with the commands for it."""
    run = short_id(session.id)
    resume = f"go on with: {hint('resume', run, store=store)}"
    if stopped_by is not None:
        name = "interrupted" if stopped_by == signal.SIGINT else signal.Signals(stopped_by).name
        return f"{name}; {resume}"
    assert session.store is not None
    steps = next_steps(session.store.run(session.id), session.store.tasks(session.id))
    decisions = [step for step in steps if step.command[0] != "resume"]
    told = [f"  {clean_line(step.reason)}: {hint(*step.command, store=store)}" for step in decisions]
    if len(told) > NAMED:
        told[NAMED:] = [f"  … and {len(told) - NAMED} more: {hint('why', run, store=store)}"]
    reached = session.limit_reached
    if reached is not None:
        resume = f"go on with: {hint('resume', run, *reached.higher, store=store)}"
    head = reached.text if reached else f"the run {session.scheduler.waits_for_person() or 'is paused'}"
    return "\n".join([head, *told, f"then {resume}" if told else resume])


class JsonLines(Display):
    """One JSON object a line on stdout, and nothing else there: what tasks print goes to stderr."""

    def __init__(self, session: Session, store: str | None = None) -> None:
        super().__init__(session, store)
        self._held: dict[str, Any] | None = None
        """The end of the run, to be told together with how its tasks ended."""
        self._seq = 0
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        if self._out is sys.__stdout__:
            self._out.flush()
            self._descriptor = os.dup(
                STDOUT
            )  # while the run goes on, what is written to stdout goes to stderr
            self._stack.callback(os.dup2, self._descriptor, STDOUT)
            self.begin_to_write()
            os.dup2(sys.stderr.fileno(), STDOUT)  # for whatever a task starts, too
        self._stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def observe(self, events: Sequence[JournalEvent]) -> None:
        """Write each as a line."""
        for event in events:
            if self._held is not None:
                self._write(self._held)
                self._held = None
            view = event_view(self.session.id, event)
            self._seq = event.seq
            if event.type in {"run.completed", "run.failed", "run.canceled"}:
                self._held = view
            else:
                self._write(view)
        self.flush()

    def interrupted(self, first: bool) -> None:
        """Say nothing: the events tell."""

    def finish(self, result: RunResult, stopped_by: int | None) -> None:
        """Write the last line, with how every task ended."""
        last = self._held or event_view(
            self.session.id,
            JournalEvent(self._seq, self.session.clock(), f"run.{result.status}", None, None, None),
        )
        try:
            last = {**last, **self._end_view(result)}
        finally:  # the event itself has happened, also if the store can't be asked for the rest now
            self._write(last)
            self.flush()
        super().finish(result, stopped_by)

    def _end_view(self, result: RunResult) -> dict[str, Any]:
        tasks = self.session.scheduler.graph
        return run_view(result.status, tasks, error=result.error, answer=result.answer, usage=result.usage)

    def _write(self, view: dict[str, Any]) -> None:
        self.write(json_line(view))


class Quiet(Display):
    """Only what went wrong, on stderr, and the answer, if the plan has one."""

    def finish(self, result: RunResult, stopped_by: int | None) -> None:
        """Name what failed."""
        if result.answer is not None:
            self.write(clean(result.answer) + "\n")
            self.flush()
        if result.status in {RunState.FAILED, RunState.CANCELED}:
            say(f"run {short_id(result.id)} {result.status}: {clean_line(result.error or '')}")
        for line in _unfinished(self.session, self.store):
            say(line)
        super().finish(result, stopped_by)


class PlainLines(Display):
    """A line for each thing that happens; for many tasks only failures, and now and then a sum."""

    def __init__(self, session: Session, store: str | None = None) -> None:
        super().__init__(session, store)
        self._began: float | None = None
        self._many = len(session.scheduler.graph) > MANY_TASKS
        self._next_sum = 0.0

    def __enter__(self) -> Self:
        self.begin_to_write()
        return self

    def observe(self, events: Sequence[JournalEvent]) -> None:
        """Print what happened."""
        for event in events:
            if self._began is None:
                self._began = event.at
                self._say(event.at, self._head())
            text = self._line(event)
            if text is not None:
                self._say(event.at, text)
        if self._many and events and events[-1].at >= self._next_sum:
            self._next_sum = events[-1].at + SUM_EVERY
            self._say(events[-1].at, counts_text(self.session))
        self.flush()

    def _head(self) -> str:
        return head_text(self.session)

    def _say(self, at: float, text: str) -> None:
        self.write(f"{at - (self._began or at):7.1f} s  {text}\n")

    def _line(self, event: JournalEvent) -> str | None:
        data = event.data or {}
        kind, _, what = event.type.partition(".")
        if kind == "plan":
            return plan_line(event)
        if kind == "run":
            if what in {"created", "started", "ending", "failed"}:
                return None  # the summary says how it ended
            reason = data.get("error") or data.get("reason")
            return f"run {what}" + (f": {clean_line(str(reason))}" if reason else "")
        if self._many and what not in {"failed", "awaiting_approval"}:
            return None
        return task_line(event)

    def finish(self, result: RunResult, stopped_by: int | None) -> None:
        """Print the summary."""
        # before what the store has to be asked for
        self._write_lines(["", *summary(self.session, result, self.store)])
        answer = result.answer
        told = [] if answer is None else ["", clean(answer), ""]
        self._write_lines(told + closing_lines(self.session, result, self.store))
        super().finish(result, stopped_by)

    def _write_lines(self, lines: Sequence[str]) -> None:
        self.write("".join(f"{line}\n" for line in lines))
        self.flush()


def task_line(event: JournalEvent) -> str | None:
    """Give a line for something that happened to a task; None for what nobody needs to read."""
    data = event.data or {}
    what = event.type.partition(".")[2]
    told = {"awaiting_approval": "waits for approval"}.get(what, what)
    line = f"{told:<10} {event.task}"
    match what:
        case "completed":
            return f"{line} ({duration_text(data.get('duration_ms', 0) / 1000)})"
        case "started":
            number = data.get("number", 1)
            return line if number == 1 else f"{line} (attempt {number})"
        case "failed" if "decision" in data:
            return f"decided    {event.task}: {data['decision']}"
        case "canceled" if event.attempt is None:
            return None  # it had not begun: the summary counts them
        case "failed" | "canceled":
            reason = data.get("error") or data.get("reason")
            return f"{line}: {clean_line(str(reason))}" if reason else line
        case "retrying":
            return f"{line} in {duration_text(data['delay'])}: {clean_line(data['error'])}"
        case "deferred" if "delay" in data:
            delay = f" for {duration_text(data['delay'])}" if data["delay"] else ""
            return f"{line}{delay}: {clean_line(data['reason'])}"
        case "skipped" | "canceling":
            return f"{line}: {clean_line(str(data.get('reason', '')))}"
        case "awaiting_approval" | "added":
            return line
        case _:
            return None  # ready, and refusals for want of a place


def plan_line(event: JournalEvent) -> str:
    """Give a line for what happens to a plan that is written while the run goes on."""
    data = event.data or {}
    match event.type:
        case "plan.started":
            return "planning   the rest of the plan" if data.get("taken") else "planning"
        case "plan.noted":
            return f"planning   {clean_line(data['text'])}"
        case "plan.again":
            problems = "".join(f"; {clean_line(problem)}" for problem in data["problems"])
            return f"planning   once more: {clean_line(data['reason'])}{problems}"
        case "plan.waiting":
            return f"planning   waits {duration_text(data['delay'])}: {clean_line(data['reason'])}"
        case _:
            return "planned    the plan is complete"


def shown(text: str) -> str:
    """Give a text of the plan with its secrets blanked: what is shown is often kept."""
    return Redactor(secret_values(os.environ)).text(text)


def head_text(session: Session) -> str:
    """Give the run in a line."""
    count = len(session.scheduler.graph)
    goal = clean_line(shown(session.plan.goal)) or clean_line(session.plan.source or "")
    tasks = "being planned" if session.scheduler.graph.open else f"{count} task{'s' * (count != 1)}"
    return f"run {short_id(session.id)}: {goal} ({tasks}, {session.pool.max_concurrent} at a time)"


def counts_text(session: Session) -> str:
    """Give how far a run is in a line."""
    graph = session.scheduler.graph
    parts = [f"{graph.counts[COMPLETED]} of {len(graph)} completed"]
    parts += [f"{graph.counts[state]} {state}" for state in (FAILED, SKIPPED) if graph.counts[state]]
    parts.append(f"{graph.active} running")
    return ", ".join(parts)


def _unfinished(session: Session, store: str | None) -> list[str]:
    """Name the tasks that failed or were skipped, and say why."""
    lines = [
        f"  {node.state:<9} {node.id}: {clean_line(node.error or '')}"
        for state in (FAILED, SKIPPED)
        for node in session.scheduler.graph
        if node.state is state
    ]
    if len(lines) > NAMED:
        whole = hint("status", short_id(session.id), store=store)
        lines[NAMED:] = [f"  … and {len(lines) - NAMED} more: {whole}"]
    return lines


def summary(session: Session, result: RunResult, store: str | None) -> list[str]:
    """Say how a run ended, and what is missing and why."""
    graph = session.scheduler.graph
    status = str(result.status)
    if result.duration is not None:
        status += f" in {duration_text(result.duration)}"
    work = sum(report.duration or 0.0 for report in result.tasks.values()) + session.planning_seconds
    told = [f"{graph.counts[state]} {state}" for state in (FAILED, SKIPPED, CANCELED) if graph.counts[state]]
    parts = [f"{graph.counts[COMPLETED]} of {len(graph)} tasks completed", *told]
    if graph.counts[COMPLETED] and result.duration is not None and work > result.duration * 1.05:
        saved = duration_text(work - result.duration)
        parts.append(f"{duration_text(work)} of work (in parallel: {saved} saved)")
    lines = [f"{status}: {', '.join(parts)}"]
    if result.status is RunState.FAILED and result.error and not graph.counts[FAILED]:
        lines.append(f"  {clean_line(result.error)}")
    return lines + _unfinished(session, store)


def closing_lines(session: Session, result: RunResult, store: str | None) -> list[str]:
    """Give what the last task gave, if there is no answer, what it all took, and how to look at it again."""
    lines = []
    if result.status is RunState.COMPLETED and result.answer is None:
        lines += _last_output(session, result, store)
    if result.usage:
        lines.append(f"used {usage_text(result.usage)}")
    if session.store is not None:
        lines.append(f"look at it again with: {hint('show', short_id(session.id), store=store)}")
    return lines


def _last_output(session: Session, result: RunResult, store: str | None) -> list[str]:
    """Give what the last task gave, if there is only one."""
    last = [node for node in session.scheduler.graph if not node.dependents and node.state is COMPLETED]
    if len(last) != 1:
        return []
    lines = [clean_line(line) for line in result.tasks[last[0].id].output.splitlines()]
    if not lines:
        return []
    if len(lines) > RESULT_LINES:
        left_out = len(lines) - RESULT_LINES
        whole = hint("show", short_id(session.id), last[0].id, "--output", store=store)
        lines[RESULT_LINES:] = [f"[… {left_out} more lines: {whole}]"]
    return ["", f"{last[0].id}:", *(f"  {line}".rstrip() for line in lines), ""]


def choose_display(session: Session, *, json: bool, quiet: bool, store: str | None) -> Display:
    """Give what suits: JSON lines or quiet if asked for, a live view on a terminal, plain lines elsewhere."""
    if json:
        return JsonLines(session, store)
    if quiet:
        return Quiet(session, store)
    if sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        from allready.cli.live import LiveView

        return LiveView(session, store)
    return PlainLines(session, store)
