"""Commands that look at runs: `list`, `status` and `why` here; `show`, `logs` and others in their modules."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from allready.cli import logs, show, surroundings
from allready.cli.options import (
    JsonOption,
    RunArgument,
    StoreOption,
    open_settled_store,
    print_json,
)

if TYPE_CHECKING:
    from allready.cli.tables import Cell
    from allready.core.why import Why
    from allready.store.contract import RunRow, TaskRow

NAMED = 10
"""Tasks of one kind that `status` names; the others are counted."""
STEPS = 6
"""Next steps that are named."""
ANSWERS = 20
"""Answers of one kind that `why` gives; the others are counted."""


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command("list")(list_runs)
    app.command("status")(status)
    show.register(app)
    logs.register(app)
    app.command("why")(why)
    surroundings.register(app)


# --- list -------------------------------------------------------------------------------------------------


def list_runs(
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=1_000_000, metavar="N", help="How many to show.")
    ] = 20,
    status: Annotated[
        str | None,
        typer.Option("--status", metavar="STATUS", help="Only those: running, paused, completed, failed …"),
    ] = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """List runs, newest first."""
    from allready.cli.tables import say, table
    from allready.core.states import RunState
    from allready.engine.views import run_head
    from allready.errors import UserError
    from allready.store.open import StoreMissing

    if status is not None and status not in list(RunState):
        raise UserError(f"there is no status {status!r}; there are {', '.join(RunState)}")
    try:
        with closing(open_settled_store(store)) as opened:
            rows = opened.runs(limit + 1, status=status)
    except StoreMissing:
        rows = []
    shown = rows[:limit]
    if json:
        for row in shown:
            print_json({"run": row.id, **run_head(row)})
    elif not shown:
        what = f"no run is {status}" if status is not None else "no runs yet: allready run PLAN"
        say(what)
    else:
        ids = _short_ids([row.id for row in rows])
        now = time.time()
        lines = [_list_row(row, name, now) for row, name in zip(shown, ids, strict=False)]
        head = ("RUN", "STATUS", "TASKS", "STARTED", "TOOK", "GOAL")
        for line in table(lines, head, cut=(5, 1), right=(4,)):
            say(line)
        if len(rows) > limit:
            say(f"… older ones: --limit {limit * 5}")


def _short_ids(ids: Sequence[str]) -> list[str]:
    """Give beginnings of the ids that tell them apart."""
    from allready.engine.views import SHORT_ID

    length = SHORT_ID
    while len({run[:length] for run in ids}) < len(ids):
        length += 1
    return [run[:length] for run in ids]


def _list_row(row: RunRow, name: str, now: float) -> list[Cell]:
    from allready.cli.tables import ago, span
    from allready.cli.text import clean_line
    from allready.core.states import RUN_ENDED
    from allready.engine.views import is_abandoned

    done, total = row.counts.get("completed", 0), sum(row.counts.values())
    failed = row.counts.get("failed", 0)
    tasks = f"{done:,}/{total:,}" + (f", {failed:,} failed" if failed else "")
    end = row.finished_at if row.status in RUN_ENDED else None if is_abandoned(row) else now
    goal = clean_line(row.goal) or clean_line(row.source or "")
    return [
        name,
        (status_text(row), row.status),
        tasks,
        ago(row.started_at or row.created_at, now),
        span(row.started_at, end),
        goal,
    ]


def status_text(row: RunRow) -> str:
    """Give a run's status; says so if it should be going on but no process is there for it."""
    from allready.engine.views import is_abandoned

    gone = row.status in {"created", "running"} and is_abandoned(row)
    return f"{row.status} (no process)" if gone else row.status


# --- status -----------------------------------------------------------------------------------------------


def status(run: RunArgument = "latest", store: StoreOption = None, json: JsonOption = False) -> None:
    """Say how a run stands.

    What is running, what failed, what waits for you, and what comes next.
    """
    from allready.cli.tables import say
    from allready.engine.views import open_tasks, stored_run_view

    with closing(open_settled_store(store)) as opened:
        run_id = opened.find_run(run)
        if json:
            print_json(stored_run_view(opened, run_id))
            return
        row, marks = opened.run(run_id, plan=False), opened.marks(run_id)
        tasks = open_tasks(opened, run_id, marks, failed=NAMED)
    for line in head_lines(row):
        say(line)
    for line in _task_lines(row, tasks, sum(mark.state == "failed" for mark in marks)):
        say(line)
    steps = list(step_lines(row, tasks, store))
    if steps:
        say()
    for line in steps:
        say(line)


def head_lines(row: RunRow) -> Iterator[str]:
    """Give a run's id, goal, state and times in a few lines."""
    from allready.cli.tables import ago, paint, span, time_text
    from allready.cli.text import clean_line, usage_text
    from allready.core.states import RUN_ENDED
    from allready.engine.views import is_abandoned, usage_of

    now = time.time()
    yield f"run      {row.id}"
    if clean_line(row.goal):
        yield f"goal     {clean_line(row.goal)}"
    if row.source:
        yield f"plan     {clean_line(row.source)}"
    state = paint(status_text(row), row.status)
    if row.owner is not None and not is_abandoned(row):
        state += f" in process {row.owner.pid} on {clean_line(row.owner.host)}"
    if row.error:
        state += f": {clean_line(row.error)}"
    yield f"status   {state}"
    start = row.started_at or row.created_at
    took = span(row.started_at, row.finished_at) if row.status in RUN_ENDED else ""
    yield f"started  {time_text(start)}, {ago(start, now)}{took and ', took '}{took}"
    yield f"tasks    {counts_text(row.counts)}"
    usage = usage_of(row)
    if usage:
        yield f"used     {usage_text(usage)}"


def counts_text(counts: Mapping[str, int]) -> str:
    """Give how many tasks are in which state."""
    from allready.cli.tables import paint
    from allready.core.states import TaskState

    total = sum(counts.values())
    parts = [f"{counts.get('completed', 0):,} of {total:,} completed"]
    others = [state for state in TaskState if state != "completed" and counts.get(state)]
    parts += [paint(f"{counts[state]:,} {state.replace('_', ' ')}", state) for state in others]
    return ", ".join(parts)


def _task_lines(row: RunRow, tasks: Sequence[TaskRow], all_failed: int) -> Iterator[str]:
    from allready.cli.tables import span
    from allready.cli.text import clean_line
    from allready.engine.views import is_abandoned

    now = time.time()
    gone = is_abandoned(row)
    running: list[list[Cell]] = []
    failed: list[list[Cell]] = []
    waiting: list[list[Cell]] = []
    for task in tasks:
        name = clean_line(task.id)
        if task.state in {"running", "canceling"}:
            state = f"was {task.state}" if gone else task.state
            attempt = f"attempt {task.attempts}" if task.attempts > 1 else ""
            elapsed = "" if gone else span(task.started_at, now)
            running.append([(state, task.state), name, elapsed, attempt])
        elif task.state == "failed":
            what = "failed, asks" if task.memory.get("asking") else "failed"
            failed.append([(what, "failed"), name, clean_line(task.error or "")])
        elif task.state == "awaiting_approval":
            waiting.append([("waits", "paused"), name, "for approval"])
        elif task.state == "ready" and task.memory.get("not_before", 0) > now:
            due = f"for another try in {span(now, task.memory['not_before'])}: {clean_line(task.error or '')}"
            waiting.append([("waits", "paused"), name, due])
    for rows, number in ((running, len(running)), (failed, all_failed), (waiting, len(waiting))):
        if rows:
            yield ""
            yield from _bounded(rows, number)


def _bounded(rows: Sequence[Sequence[Cell]], number: int) -> Iterator[str]:
    from allready.cli.tables import table

    yield from table(rows[:NAMED], cut=(2, 1))
    if number > NAMED:
        yield f"… and {number - NAMED:,} more"


def step_lines(
    row: RunRow, tasks: Iterable[TaskRow], store: str | None, *, without: str | None = None
) -> Iterator[str]:
    """Give what a person can do next, each with its command, but not the command `without`."""
    from allready.cli.tables import hint, table
    from allready.engine.views import next_steps, short_id

    steps = [step for step in next_steps(row, tasks) if step.command[0] != without]
    shown = steps if len(steps) <= STEPS else [*steps[: STEPS - 1], steps[-1]]
    rows: list[list[Cell]] = [[f"{step.reason}:", hint(*step.command, store=store)] for step in shown]
    yield from table(rows)
    if len(steps) > len(shown):
        more = hint("why", short_id(row.id), store=store)
        yield f"… and {len(steps) - len(shown):,} more: {more}"


# --- why --------------------------------------------------------------------------------------------------


def why(
    run: RunArgument = "latest",
    task: Annotated[
        str | None, typer.Argument(metavar="TASK", help="A task's id. Without it: all that have not ended.")
    ] = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Say why tasks are not running yet.

    One task, or all of a run that have not ended.
    """
    from allready.cli.tables import say
    from allready.engine.views import open_tasks, stored_whys

    with closing(open_settled_store(store)) as opened:
        run_id = opened.find_run(run)
        if task is not None:
            opened.task(run_id, task)  # raises an error that names similar ids
        answers = stored_whys(opened, run_id, None if task is None else [task])
        row = opened.run(run_id, plan=False)
        if task is None:
            tasks = open_tasks(opened, run_id, opened.marks(run_id), failed=0)
        else:
            tasks = [opened.task(run_id, task)]
    if json:
        for name, answer in answers.items():
            print_json({"run": run_id, "task": name, **answer._asdict()})
        return
    for line in _why_lines(row, tasks, answers, store):
        say(line)


def _why_lines(
    row: RunRow, tasks: Sequence[TaskRow], answers: Mapping[str, Why], store: str | None
) -> Iterator[str]:
    from allready.cli.tables import hint
    from allready.cli.text import clean_line
    from allready.core.states import RUN_ENDED, RunState
    from allready.engine.views import is_abandoned, limit_of, resume_command

    if row.status in RUN_ENDED:
        error = f": {clean_line(row.error)}" if row.error else ""
        yield f"the run has ended ({row.status}){error}"
    elif is_abandoned(row):
        reached = limit_of(row)
        resume = hint(*resume_command(row), store=store)
        what = "the run is paused" if row.status == RunState.PAUSED else "no process drives the run"
        if reached is not None:
            what = clean_line(reached.text)
        yield f"{what}; go on with: {resume}"
    groups: dict[str, list[tuple[str, Why]]] = {}
    for name, answer in answers.items():
        groups.setdefault(answer.code, []).append((name, answer))
    if not answers and row.status not in RUN_ENDED:
        yield "all tasks have ended"
    for code, members in groups.items():
        if code == "run_ended":
            continue
        if code == "paused" and len(members) > 1:
            yield f"{clean_line(members[0][1].text)}: {len(members):,} tasks are ready, but are not started"
            continue
        for _, answer in members[:ANSWERS]:
            yield clean_line(answer.text)
        if len(members) > ANSWERS:
            yield f"… and {len(members) - ANSWERS:,} more that are {_MORE.get(code, code)}"
    told = "resume" if is_abandoned(row) else None
    yield from step_lines(row, tasks, store, without=told)


_MORE = {
    "dependencies": "waiting for others",
    "refused": "refused a place",
    "next": "ready",
    "approval": "waiting for approval",
    "retry": "to be retried",
    "deferred": "put off",
    "asking": "waiting for a decision",
    "lost": "lost with the process",
    "not_started": "not begun",
}
