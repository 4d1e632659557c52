"""`show`: a run with its tasks and results, or a task with everything about it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from allready.cli.options import JsonOption, RunArgument, StoreOption, open_settled_store, print_json

if TYPE_CHECKING:
    from allready.cli.tables import Cell
    from allready.store.contract import JournalEvent, RunRow, Store, TaskMark, TaskRow

ALL_ROWS = 100
"""Tasks up to which a run's table has all of them."""
SOME_ROWS = 40
"""Tasks in the table of a larger run: those that matter most."""
RESULTS = 3
"""Last tasks whose results are shown."""
RESULT_LINES = 20
"""Lines of each of their outputs."""
OUTPUT_LINES = 40
"""Lines of the output of a task that is shown by itself: three quarters from its beginning."""
DATA_LINES = 20
"""Lines of its structured output."""
EVENTS = 30
"""Last events of the task."""
_SETTINGS = (
    *("run_if", "failure_strategy", "max_retries", "timeout", "priority", "estimate", "resources"),
    *("approval", "idempotent", "inline"),
)
"""Of a task, in the words of plan files."""
_URGENT = ("running", "canceling", "failed", "awaiting_approval", "ready", "skipped", "canceled", "pending")
"""States in the order in which a large run's table takes tasks; the newest completed ones come last."""
LONGEST = 2_000
"""Characters of a line of it."""
ANSWER_LINES = 100_000
"""The same of an answer: it is what the run was for, and is shown whole."""


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("show")(show)


def show(
    run: RunArgument = "latest",
    task: Annotated[
        str | None, typer.Argument(metavar="TASK", help="A task's id. Without it: the whole run.")
    ] = None,
    output: Annotated[
        bool, typer.Option("--output", help="Print the task's whole output, and nothing else.")
    ] = False,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Show a run, or one of its tasks.

    A run with its tasks and results; a task with everything about it.
    """
    from allready.cli.tables import hint
    from allready.errors import UserError

    with closing(open_settled_store(store)) as opened:
        run_id = opened.find_run(run)
        if task is None:
            if output:
                command = hint("show", run, "TASK", "--output", store=store)
                raise UserError(f"--output is for one task: {command}")
            _show_run(opened, run_id, store, json=json)
        elif output:
            if json:
                raise UserError("--output prints the output as it is; take one of --output and --json")
            _print_output(opened, run_id, task)
        else:
            _show_task(opened, run_id, task, store, json=json)


# --- a run ------------------------------------------------------------------------------------------------


def _show_run(opened: Store, run_id: str, store: str | None, *, json: bool) -> None:
    from allready.cli.look import head_lines, step_lines
    from allready.cli.tables import say
    from allready.engine.views import last_completed, open_tasks, run_head, stored_view

    row = opened.run(run_id, plan=False)
    if json:
        tasks = opened.tasks(run_id)
        view = stored_view(row, tasks)
        for task in tasks:
            view["tasks"][task.id] |= {"title": task.title, "depends_on": task.spec.get("depends_on", [])}
        print_json({"run": run_id, **run_head(row), "folder": row.folder, **view})
        return
    marks = opened.marks(run_id)
    shown = marks if len(marks) <= ALL_ROWS else _most_urgent(marks)
    tasks = opened.tasks(run_id, indexes=[mark.index for mark in shown])
    last = last_completed(opened, run_id, marks, RESULTS) if row.answer is None else []
    steps = list(step_lines(row, open_tasks(opened, run_id, marks, failed=0), store))
    for line in head_lines(row):
        say(line)
    say()
    for line in _task_table(row, tasks, len(marks) - len(tasks), store):
        say(line)
    for line in _results(row, last, store):
        say(line)
    if steps:
        say()
    for line in steps:
        say(line)


def _task_table(row: RunRow, tasks: Sequence[TaskRow], more: int, store: str | None) -> Iterator[str]:
    from allready.cli.tables import hint, table
    from allready.engine.views import is_abandoned, short_id

    end = None if is_abandoned(row) else time.time()
    rows = [_task_row(task, end) for task in tasks]
    if {task.agent for task in tasks} <= {"command", "python", None}:  # goes without saying
        rows = [[*row[:4], "", row[5]] for row in rows]
    yield from table(rows, ("STATUS", "TASK", "TOOK", "ATTEMPTS", "AGENT", ""), cut=(5, 1), right=(2, 3))
    if more > 0:
        run = short_id(row.id)
        one, every = hint("show", run, "TASK", store=store), hint("show", run, "--json", store=store)
        yield f"… and {more:,} more; one of them: {one}; all: {every}"


def _most_urgent(marks: Sequence[TaskMark]) -> list[TaskMark]:
    """Give the tasks that matter most now, in the plan's order."""
    from heapq import nsmallest

    by_state: dict[str, list[TaskMark]] = {}
    for mark in marks:
        by_state.setdefault(mark.state, []).append(mark)

    def newest(state: str, most: int) -> list[TaskMark]:
        return nsmallest(most, by_state.get(state, ()), key=lambda m: (-(m.finished_at or 0.0), m.index))

    some = len(newest("completed", SOME_ROWS // 4))
    chosen: list[TaskMark] = []
    for state in _URGENT:
        chosen += newest(state, SOME_ROWS - some - len(chosen))
    chosen += newest("completed", SOME_ROWS - len(chosen))
    return sorted(chosen, key=lambda mark: mark.index)


def _task_row(task: TaskRow, end: float | None) -> list[Cell]:
    from allready.cli.tables import span
    from allready.cli.text import clean_line

    took = span(task.started_at, task.finished_at if task.finished_at is not None else end)
    told = task.error if task.error is not None else task.title
    return [
        (task.state.replace("_", " "), task.state),
        clean_line(task.id),
        took if task.attempts else "",
        f"{task.attempts:,}" if task.attempts > 1 else "",
        clean_line(task.agent or "") if task.attempts else "",
        clean_line(told or ""),
    ]


def _results(row: RunRow, last: Sequence[TaskRow], store: str | None) -> Iterator[str]:
    """Give the answer, else what the last tasks gave: those that no other waits for."""
    from allready.cli.tables import hint
    from allready.cli.text import clean_line
    from allready.engine.views import short_id

    if row.answer is not None:
        yield from ("", "answer:")
        yield from _block(row.answer, ANSWER_LINES, "")
        return
    for task in sorted(last, key=lambda task: task.index):
        text = _result_text(task)
        if text:
            whole = hint("show", short_id(row.id), task.id, "--output", store=store)
            yield from ("", f"{clean_line(task.id)}:")
            yield from _block(text, RESULT_LINES, f"; all of it: {whole}")


def _result_text(task: TaskRow) -> str:
    """Give a task's output as text, else its structured output."""
    if task.output and task.output.strip():
        return task.output
    return _json_text(task.data) if task.data is not None else ""


def _json_text(value: Any) -> str:
    import json

    return json.dumps(value, indent=2, ensure_ascii=False)


def _block(text: str, limit: int, more: str, indent: int = 2) -> Iterator[str]:
    """Give a text's lines, cleaned and indented; of more than `limit` the middle is left out."""
    from allready.cli.text import clean

    lines = clean(text).expandtabs().splitlines()
    if len(lines) > limit:
        first = limit * 3 // 4
        left_out = len(lines) - limit
        lines[first : len(lines) - (limit - first)] = [f"[… {left_out:,} lines left out{more}]"]
    for line in lines:
        if len(line) > LONGEST and limit < ANSWER_LINES:
            line = f"{line[:LONGEST]} [… {len(line) - LONGEST:,} characters left out{more}]"
        yield (" " * indent + line).rstrip()


# --- a task -----------------------------------------------------------------------------------------------


def _print_output(opened: Store, run_id: str, task_id: str) -> None:
    from allready.cli.tables import is_terminal, say
    from allready.cli.text import clean
    from allready.engine.views import output_now

    output = output_now(opened.run(run_id, plan=False), opened.task(run_id, task_id))
    if is_terminal():
        say(clean(output.decode("utf-8", "replace")).removesuffix("\n"))
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(output)
    sys.stdout.buffer.flush()


def _show_task(opened: Store, run_id: str, task_id: str, store: str | None, *, json: bool) -> None:
    from allready.cli.tables import say
    from allready.engine.views import stored_body

    task, row = opened.task(run_id, task_id), opened.run(run_id, plan=False)
    body = stored_body(opened, run_id, task_id)
    events = _last_events(opened, run_id, task_id)
    if json:
        print_json(_task_view(row, task, body, events))
        return
    for line in _task_lines(row, task, body, store):
        say(line)
    for line in _event_lines(events):
        say(line)


def _last_events(opened: Store, run_id: str, task_id: str) -> list[JournalEvent]:
    found: list[JournalEvent] = []
    while page := opened.events(run_id, found[-1].seq if found else 0, task=task_id):
        found = [*found, *page]
    return found


def _task_view(
    row: RunRow, task: TaskRow, body: Mapping[str, Any], events: Sequence[JournalEvent]
) -> dict[str, Any]:
    from allready.engine.views import attempt_files, event_view, task_view

    files = {key: str(path) for key, path in attempt_files(row, task).items()}
    return {
        "run": row.id,
        "task": task.id,
        "title": task.title,
        **task_view(task),
        "agent": task.agent or task.spec.get("agent"),
        "body": body,
        "settings": {key: value for key, value in task.spec.items() if key in _SETTINGS},
        "depends_on": list(task.spec.get("depends_on", ())),
        "exit_code": task.exit_code,
        "output": task.output,
        "data": task.data,
        "files": files,
        "events": [event_view(row.id, event) for event in events],
    }


def _task_lines(row: RunRow, task: TaskRow, body: Mapping[str, Any], store: str | None) -> Iterator[str]:
    from allready.cli.tables import hint, paint, span, time_text
    from allready.cli.text import clean, clean_line
    from allready.engine.views import attempt_files, is_abandoned, short_id

    gone = is_abandoned(row) and task.state in {"running", "canceling"}
    state = paint(task.state.replace("_", " "), task.state) + (" (no process)" if gone else "")
    if task.memory.get("asking"):
        state += ", waits for a decision"
    if task.exit_code is not None and task.state in {"completed", "failed"}:
        state += f", exit code {task.exit_code}"
    yield from _fact("task", clean_line(task.id))
    yield from _fact("title", clean_line(task.title or ""))
    yield from _fact("run", f"{row.id}  {clean_line(row.goal)}")
    yield from _fact("status", state)
    if task.attempts:
        end = task.finished_at if task.finished_at is not None else None if gone else time.time()
        took = span(task.started_at, end)
        yield from _fact("attempts", str(task.attempts))
        yield from _fact("started", time_text(task.started_at) + (f", took {took}" if took else ""))
    yield from _fact("agent", clean_line(task.agent or task.spec.get("agent") or ""))
    yield from _body_lines(body)
    yield from _fact("waits for", ", ".join(map(clean_line, task.spec.get("depends_on", ()))))
    yield from _spec_lines(task.spec)
    files = attempt_files(row, task)
    for key in ("output", "stderr", "artifacts"):
        if key in files and (files[key].is_dir() or files[key].stat().st_size):
            yield from _fact(key, clean(str(files[key])))
    if task.error is not None:
        yield from ("", "error:" if task.state in {"failed", "ready", "running"} else "reason:")
        yield from _block(task.error, OUTPUT_LINES, "")
    whole = hint("show", short_id(row.id), task.id, "--output", store=store)
    text = _output_text(row, task)
    if text:
        yield from ("", "output so far:" if task.state == "running" else "output:")
        yield from _block(text, OUTPUT_LINES, f"; all of it: {whole}")
    if task.data is not None and not (text and task.agent == "python"):  # there the output says the same
        yield from ("", "data:")
        yield from _block(_json_text(task.data), DATA_LINES, "; all of it: --json")


def _output_text(row: RunRow, task: TaskRow) -> str:
    from allready.agents.base import OUTPUT_LIMIT
    from allready.engine.views import output_now

    if task.output is not None and task.state in {"completed", "failed"}:
        return task.output
    return output_now(row, task, last=OUTPUT_LIMIT).decode("utf-8", "replace")


def _fact(name: str, text: str) -> Iterator[str]:
    if text:
        yield f"{name:<10} {text}"


def _body_lines(body: Mapping[str, Any]) -> Iterator[str]:
    """Give what a task does, as its plan says."""
    import shlex

    from allready.cli.text import clean, clean_line

    run = body.get("run")
    if run is not None:
        yield from _fact("command", clean_line(run if isinstance(run, str) else shlex.join(map(str, run))))
    if "function" in body:
        yield from _fact("function", clean_line(body["function"]))
    if "prompt" in body:
        first, *others = clean(body["prompt"]).strip().splitlines()[:RESULT_LINES] or [""]
        yield from _fact("prompt", first)
        for line in others:
            yield f"{'':<10} {line}".rstrip()
    for key in ("cwd", "env", "success_codes", "args", "kwargs"):
        if body.get(key):
            text = body[key] if isinstance(body[key], str) else _one_line(body[key])
            yield from _fact(key.replace("success_codes", "ok codes"), clean_line(text))


def _one_line(value: Any) -> str:
    import json

    return json.dumps(value, ensure_ascii=False)


def _spec_lines(spec: Mapping[str, Any]) -> Iterator[str]:
    """Give what a task says about its running, as far as it is not the usual."""
    from allready.plan.durations import format_duration

    parts = [
        f"{key.replace('_', ' ')} {spec[key]}"
        for key in ("run_if", "failure_strategy", "max_retries", "priority")
        if spec.get(key) is not None
    ]
    parts += [
        f"{key} {format_duration(spec[key])}" for key in ("timeout", "estimate") if spec.get(key) is not None
    ]
    if spec.get("resources"):
        parts.append("resources " + ", ".join(f"{name} {amount}" for name, amount in spec["resources"]))
    parts += [name for name in ("approval", "inline") if spec.get(name)]
    if spec.get("idempotent") is False:
        parts.append("not idempotent")
    yield from _fact("settings", ", ".join(parts))


def _event_lines(events: Sequence[JournalEvent]) -> Iterator[str]:
    from allready.cli.logs import event_lines

    yield from ("", "events:")
    if len(events) > EVENTS:
        yield f"  … {len(events) - EVENTS:,} earlier ones"
    for line in event_lines(events[-EVENTS:], None):
        yield f"  {line}"
