"""Commands that steer a run from outside: `pause`, `cancel`, `retry`, `approve`, `skip`."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from allready.cli.options import (
    JsonOption,
    QuietOption,
    RunArgument,
    StoreOption,
    TaskArgument,
    load_settings,
    open_settled_store,
    print_json,
)

if TYPE_CHECKING:
    from allready.engine.steer import Steered
    from allready.store.contract import RunRow, Store

END_TIME = 10.0
"""Seconds to wait for a canceled run's end: sub-agents get 5 to stop before they are killed."""
LOOK_EVERY = 0.05
"""Seconds between two looks for it."""
READ_EVERY = 0.25
"""Seconds after which is read again in any case: a server does not tell that something was written."""

OptionalTask = Annotated[
    str | None, typer.Argument(metavar="TASK", help="A task's id. Without it: all that failed.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    for command in (pause, cancel, retry, approve, skip):
        app.command(command.__name__)(command)


def pause(
    run: RunArgument, store: StoreOption = None, json: JsonOption = False, quiet: QuietOption = False
) -> int:
    """Pause a run: nothing new starts.

    What runs may end. `allready resume` goes on.
    """
    return _steer("pause", run, None, store, json=json, quiet=quiet)


def cancel(
    run: RunArgument, store: StoreOption = None, json: JsonOption = False, quiet: QuietOption = False
) -> int:
    """Cancel a run and wait for its end.

    What runs is stopped, nothing new starts.
    """
    return _steer("cancel", run, None, store, json=json, quiet=quiet)


def retry(
    run: RunArgument,
    task: OptionalTask = None,
    store: StoreOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Try again what failed or was canceled.

    Or one task; what was skipped because of it comes along.
    """
    return _steer("retry", run, task, store, json=json, quiet=quiet)


def approve(
    run: RunArgument,
    task: TaskArgument,
    store: StoreOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Approve a task that waits for it.

    Also ahead of its turn.
    """
    return _steer("approve", run, task, store, json=json, quiet=quiet)


def skip(
    run: RunArgument,
    task: TaskArgument,
    store: StoreOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Leave out a task.

    One that has not begun, that waits for approval, or that failed and asks.
    """
    return _steer("skip", run, task, store, json=json, quiet=quiet)


def _steer(command: str, run: str, task: str | None, store: str | None, *, json: bool, quiet: bool) -> int:
    from allready.engine.steer import steer
    from allready.errors import CommandRefused

    with closing(open_settled_store(store)) as opened:
        run_id = opened.find_run(run)
        if task is not None:
            opened.task(run_id, task)  # raises an error that names similar ids
        steered = steer(opened, run_id, command, task)
        row = opened.run(run_id, plan=False)
        if command == "cancel" and steered.done:
            row = _wait_for_end(opened, row)
        if json:
            print_json(_view(command, task, steered, row))
            return 0 if steered.refused is None else 2
        if steered.refused is not None:
            raise CommandRefused(steered.refused)
        if not (quiet or load_settings().quiet):
            from allready.cli.tables import say

            for line in _told(command, task, steered, row, store):
                say(line)
    return 0


def _wait_for_end(store: Store, row: RunRow) -> RunRow:
    import time

    from allready.core.states import RUN_ENDED
    from allready.engine.views import is_abandoned

    read_at = time.monotonic()
    deadline = read_at + END_TIME
    while row.status not in RUN_ENDED and not is_abandoned(row) and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY)
        if store.changed() or time.monotonic() - read_at >= READ_EVERY:
            read_at = time.monotonic()
            row = store.run(row.id, plan=False)
    return row


def _view(command: str, task: str | None, steered: Steered, row: RunRow) -> dict[str, object]:
    owner = steered.owner
    return {
        "run": row.id,
        "command": command,
        "task": task,
        "done": steered.done,
        "refused": steered.refused,
        "owner": None if owner is None else {"host": owner.host, "pid": owner.pid},
        "status": row.status,
    }


def _told(command: str, task: str | None, steered: Steered, row: RunRow, store: str | None) -> list[str]:
    """Say what happened, and what comes next if that is up to a person."""
    from allready.cli.tables import hint
    from allready.core.states import RUN_ENDED
    from allready.engine.views import is_abandoned, short_id

    run = short_id(row.id)
    if not steered.done:
        owner = steered.owner
        who = f"process {owner.pid} on {owner.host}" if owner else "its process"
        what = f"{command} {task}" if task else command
        return [
            f"recorded: {what}; {who}, which drives run {run}, has not answered yet",
            f"see what becomes of it: {hint('status', run, store=store)}",
        ]
    lines = [_done(command, task, run, row)]
    if command == "pause":
        lines.append(f"go on with: {hint('resume', run, store=store)}")
    elif row.status not in RUN_ENDED and is_abandoned(row):
        lines.append(f"no process drives the run; go on with: {hint('resume', run, store=store)}")
    return lines


def _done(command: str, task: str | None, run: str, row: RunRow) -> str:
    from allready.cli.tables import count
    from allready.core.states import RUN_ENDED

    active = row.counts.get("running", 0) + row.counts.get("canceling", 0)
    if command == "cancel":
        if row.status in RUN_ENDED:
            return f"run {run} {row.status}"
        return f"run {run} is being canceled: {count(active, 'task')} still to stop"
    if command == "pause":
        rest = f"; {count(active, 'running task')} may end" if active else ""
        return f"run {run} paused{rest}"
    if command == "retry":
        return f"{task or 'what failed'} will be tried again in run {run}"
    return f"{task} {'approved' if command == 'approve' else 'skipped'} in run {run}"
