"""What all faces show of a run, as JSON values: from a run in this process, and from the store."""

from __future__ import annotations

import datetime as dt
import os
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from allready.agents.exchange import open_plain
from allready.agents.output import OUTPUT_FILE
from allready.agents.process import STDERR_FILE
from allready.agents.usage import Usage
from allready.core.graph import TaskGraph, TaskSpec
from allready.core.scheduler import DagScheduler
from allready.core.snapshot import TaskRecord, recall_refusals, reported_tasks, restore, spec_from_json
from allready.core.states import (
    AWAITING_APPROVAL,
    CANCELING,
    COMPLETED,
    ENDED,
    FAILED,
    READY,
    RUN_ENDED,
    RUNNING,
    RunState,
)
from allready.core.why import Why
from allready.engine.budget import Reached
from allready.engine.results import attempt_folder, whole_output
from allready.engine.start import record_of
from allready.engine.steer import nobody_drives
from allready.store.contract import JournalEvent, RunRow, Store, TaskMark, TaskRow
from allready.store.owners import is_alive

SHORT_ID = 13
"""Characters: a UUIDv7's milliseconds since 1970 (RFC 9562, section 5.7)."""
BODY_KEYS = ("run", "shell", "cwd", "env", "success_codes", "prompt", "agent")
"""Of a task in a plan file: what it does."""
WHOLE = 2_000
"""Tasks of a run up to which all are read, whatever is wanted."""
LATE = 100
"""Completed tasks of a larger run that may be shown as its results."""
ROUNDS = 100
"""Rounds of the loop in whose inputs is looked for refusals. One that stands is met again in every round."""


class TaskLike(Protocol):
    """A task of a run in this process, or its row in the store."""

    @property
    def id(self) -> str:
        """Its name."""

    @property
    def state(self) -> str:
        """A `TaskState`."""

    @property
    def attempts(self) -> int:
        """Made so far."""

    @property
    def agent(self) -> str | None:
        """Who does it."""

    @property
    def started_at(self) -> float | None:
        """Of the last attempt."""

    @property
    def finished_at(self) -> float | None:
        """Of the task."""

    @property
    def error(self) -> str | None:
        """Why it failed or was skipped."""


def short_id(run_id: str) -> str:
    """Give the beginning of a run's id that tells it from runs started in another millisecond."""
    return run_id[:SHORT_ID]


def rfc3339(seconds: float | None) -> str | None:
    """Give a time in UTC with milliseconds, as RFC 3339 writes it: `2026-11-24T09:30:00.125Z`."""
    if seconds is None:
        return None
    moment = dt.datetime.fromtimestamp(seconds, dt.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def event_view(run_id: str, event: JournalEvent) -> dict[str, Any]:
    """Give an event as a line of `--json`, a server-sent event and the like have it."""
    view: dict[str, Any] = {
        "seq": event.seq,
        "time": rfc3339(event.at),
        "run": run_id,
        "type": event.type,
    }
    if event.task is not None:
        view["task"] = event.task
    if event.attempt is not None:
        view["attempt"] = event.attempt
    return {**view, **{key: value for key, value in (event.data or {}).items() if key not in view}}


def task_view(task: TaskLike) -> dict[str, Any]:
    """Give how a task stands."""
    duration = None
    if task.attempts and task.started_at is not None and task.finished_at is not None:
        duration = round((task.finished_at - task.started_at) * 1000)
    view = {
        "status": str(task.state),
        "attempts": task.attempts,
        "started_at": rfc3339(task.started_at) if task.attempts else None,
        "finished_at": rfc3339(task.finished_at),
        "duration_ms": duration,
        "agent": task.agent,
    }
    if task.error is not None:
        view["error"] = task.error
    return view


def run_view(
    status: str,
    tasks: Iterable[TaskLike],
    *,
    error: str | None = None,
    answer: str | None = None,
    usage: Usage | None = None,
) -> dict[str, Any]:
    """Give how a run stands: the last line of `--json`, and with more around it `status --json`."""
    view: dict[str, Any] = {"status": str(status)}
    if error is not None:
        view["error"] = error
    if answer is not None:
        view["answer"] = answer
    if usage:
        view["usage"] = usage.to_json()
    view["tasks"] = {task.id: task_view(task) for task in tasks}
    return view


def stored_run_view(store: Store, run_id: str) -> dict[str, Any]:
    """Give how a stored run stands, with its owner."""
    row = store.run(run_id, plan=False)
    return {"run": run_id, **run_head(row), **stored_view(row, store.tasks(run_id))}


def stored_view(row: RunRow, tasks: Iterable[TaskRow]) -> dict[str, Any]:
    """Give how a stored run stands, its tasks at hand."""
    return run_view(row.status, tasks, error=row.error, answer=row.answer, usage=usage_of(row))


def usage_of(row: RunRow) -> Usage:
    """Give what requests to models took in a stored run."""
    return Usage.from_json(row.memory.get("used", {}))


def run_head(row: RunRow) -> dict[str, Any]:
    """Give what a list says of a run."""
    owner = None
    if row.owner is not None:
        owner = {"host": row.owner.host, "pid": row.owner.pid, "alive": is_alive(row.owner)}
    return {
        "goal": row.goal,
        "source": row.source,
        "status": row.status,
        "created_at": rfc3339(row.created_at),
        "started_at": rfc3339(row.started_at),
        "finished_at": rfc3339(row.finished_at),
        "counts": row.counts,
        "owner": owner,
    }


def is_abandoned(row: RunRow) -> bool:
    """Say whether a run has not ended and no living process drives it."""
    return row.status not in RUN_ENDED and nobody_drives(row)


def stored_whys(store: Store, run_id: str, tasks: Collection[str] | None = None) -> dict[str, Why]:
    """Give task → why it is not running; without `tasks`, for all that have not ended.

    For what was under way in a run whose process is gone, the code is `lost`. Refusals are those that the
    run's own scheduler met in its last `ROUNDS`.
    """
    row = store.run(run_id, plan=False)
    marks = {mark.id: mark for mark in store.marks(run_id)}
    every = tasks is None
    if tasks is None:
        tasks = [mark.id for mark in marks.values() if mark.state not in ENDED or mark.remembers]
    gone = is_abandoned(row)
    waiting = any(marks[name].state == READY for name in tasks)
    reports = []
    if waiting and not gone and row.status not in RUN_ENDED:
        reports = [
            entry for inputs in store.inputs(run_id, limit=ROUNDS, newest=True) for entry in inputs.data
        ]
    scheduler = _part_of_scheduler(store, row, marks, tasks, reported_tasks(reports))
    recall_refusals(scheduler, reports)
    now = time.time()
    answers = {name: scheduler.why(name, now) for name in tasks}
    if every:
        answers = {name: answer for name, answer in answers.items() if answer.code != "ended"}
    if gone:
        answers = {name: _after_death(scheduler, name, answer) for name, answer in answers.items()}
    return answers


def _after_death(scheduler: DagScheduler, name: str, answer: Why) -> Why:
    """Give what an answer means in a run whose process is gone."""
    if answer.code in {"running", "canceling"}:
        again = "it is made again" if scheduler.graph[name].spec.idempotent else "a person is asked"
        text = f"{name} was under way when the run's process ended; {again} on resume"
        return Why("lost", text, answer.data)
    if answer.code in {"refused", "next"}:  # by a pool that is gone
        return Why("next", f"{name} is ready and will be offered on resume", {})
    return answer


def _part_of_scheduler(
    store: Store, row: RunRow, marks: Mapping[str, TaskMark], tasks: Iterable[str], others: Iterable[str]
) -> DagScheduler:
    """Give a scheduler as the run's own one was at the last commit, but of some tasks only.

    What `tasks` depend on is there, with its state alone; of the `others` nothing that they depend on.
    """
    wanted = {marks[name].index for name in tasks}
    found = {task.id: task for task in store.tasks(row.id, indexes=wanted)}
    specs = {name: spec_from_json(task.spec) for name, task in found.items()}
    needed = {name for spec in specs.values() for name in spec.depends_on} | {*others}
    asking = [marks[name].index for name in needed - found.keys() if marks[name].remembers or name in others]
    found |= {task.id: task for task in store.tasks(row.id, indexes=asking)}
    for name in sorted(needed - specs.keys(), key=lambda name: marks[name].index):
        if name in found:
            specs[name] = spec_from_json(found[name].spec)._replace(depends_on=())
        else:
            specs[name] = TaskSpec(name, timeout=None)
    records = [
        record_of(found[name]) if name in found else TaskRecord(name, marks[name].state) for name in specs
    ]
    scheduler = DagScheduler(TaskGraph(specs.values()), seed=row.seed, timeout=row.options.get("timeout"))
    restore(scheduler, row.status, records, row.memory)
    return scheduler


def open_tasks(store: Store, run_id: str, marks: Iterable[TaskMark], failed: int) -> list[TaskRow]:
    """Give the tasks that a person wants to know of: under way, waiting for somebody or for another try.

    Of those that failed for good only the first ones, `failed` of them.
    """
    wanted = []
    for mark in marks:
        if mark.state == FAILED and not mark.remembers:
            failed -= 1
            if failed < 0:
                continue
        elif mark.state not in _OPEN and not (mark.remembers and mark.state in {FAILED, READY}):
            continue
        wanted.append(mark.index)
    return store.tasks(run_id, indexes=wanted)


_OPEN = frozenset({RUNNING, CANCELING, AWAITING_APPROVAL})


def last_completed(store: Store, run_id: str, marks: Sequence[TaskMark], most: int) -> list[TaskRow]:
    """Give the completed tasks that no other depends on, with what they gave; `most` of them, newest last.

    In a run of more than `WHOLE` tasks only the newest `LATE` completed ones are considered, and it is
    only known of tasks that ended later or not at all whether they depend on them.
    """
    ended = sorted(
        (mark for mark in marks if mark.state == COMPLETED), key=lambda mark: mark.finished_at or 0
    )
    late, looked_at = ended, None
    if len(marks) > WHOLE:
        late = ended[-LATE:]
        looked_at = [mark.index for mark in marks if mark.state != COMPLETED]
        if len(looked_at) > WHOLE:
            return []
        looked_at += [mark.index for mark in late]
    tasks = store.tasks(run_id, indexes=looked_at)
    needed = {name for task in tasks for name in task.spec.get("depends_on", ())}
    chosen = [mark for mark in late if mark.id not in needed][-most:]
    found = store.results(run_id, [mark.index for mark in chosen])
    return [found[mark.index] for mark in chosen]


class Step(NamedTuple):
    """A command with which a person can go on, and why."""

    reason: str
    command: tuple[str, ...]
    """As after `allready`: its name and arguments."""


def next_steps(row: RunRow, tasks: Iterable[TaskRow]) -> list[Step]:
    """Give what a person can do next for a run, most useful first; nothing if it goes on by itself."""
    run = short_id(row.id)
    if row.status in RUN_ENDED:
        if row.status == RunState.COMPLETED:
            return []
        return [
            Step(f"the run {'failed' if row.status == RunState.FAILED else 'was canceled'}", ("retry", run))
        ]
    steps = []
    for task in tasks:
        if task.memory.get("asking"):
            steps.append(Step(f"{task.id} failed and waits for a decision", ("retry", run, task.id)))
            steps.append(Step("or leave it out", ("skip", run, task.id)))
        elif task.state == AWAITING_APPROVAL:
            steps.append(Step(f"{task.id} waits for approval", ("approve", run, task.id)))
    if is_abandoned(row):
        reason = "the run is paused" if row.status == RunState.PAUSED else "no process drives the run"
        if row.memory.get("ending"):
            reason = "the run is ending, and no process drives it"
        reached = limit_of(row)
        if reached is not None:
            reason = reached.text
        steps.append(Step(reason, resume_command(row)))
    elif row.status == RunState.PAUSED:
        steps.append(Step("the run is paused", ("resume", run)))
    return steps


def limit_of(row: RunRow) -> Reached | None:
    """Give the limit that a stored run is paused at; None if it is not."""
    at_limit = row.memory.get("pause_reason") == "limit" and "reached" in row.memory
    return Reached(*row.memory["reached"]) if at_limit else None


def resume_command(row: RunRow) -> tuple[str, ...]:
    """Give the command that goes on with a stored run, with a higher limit if it has reached one."""
    reached = limit_of(row)
    return ("resume", short_id(row.id), *(reached.higher if reached else ()))


def stored_body(store: Store, run_id: str, task: str) -> dict[str, Any]:
    """Give what a task of a stored run does, as its plan says: keys such as `run`, `prompt`, `function`."""
    entry = store.plan_of_task(run_id, task)
    if "body" not in entry:  # of a plan file, not of functions
        return {key: entry[key] for key in BODY_KEYS if key in entry}
    body: dict[str, Any] = entry["body"]
    if "command" in body:
        return {"run": body["command"]["argv"], **_set_values(body["command"], "shell", "cwd", "env")}
    if "prompt" in body:
        return {"prompt": body["prompt"]["text"]}
    return {"function": body["function"], **_set_values(body, "args", "kwargs", "inputs")}


def _set_values(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: values[name] for name in names if values.get(name)}


def attempt_files(row: RunRow, task: TaskRow) -> dict[str, Path]:
    """Give the files that a task's latest attempt left (or is writing), those that exist.

    Keys: `output`, `stderr`, and `artifacts` for the folder.
    """
    folder = attempt_folder(Path(row.folder), task.id, task.attempts)
    names = {"output": OUTPUT_FILE, "stderr": STDERR_FILE, "artifacts": "artifacts"}
    found = {key: folder / name for key, name in names.items() if (folder / name).exists()}
    if "artifacts" in found and not any(found["artifacts"].iterdir()):
        del found["artifacts"]
    return found


def output_now(row: RunRow, task: TaskRow, last: int | None = None) -> bytes:
    """Give a task's whole output: of one under way, what it wrote so far (or the `last` bytes of that).

    Raises `StoreError` if what is there is not what was recorded.
    """
    has_result = task.output is not None and task.state in {COMPLETED, FAILED}
    if has_result and (task.output_size is not None or task.output_file is None):
        return whole_output(task, Path(row.folder))
    try:
        with open(attempt_files(row, task)["output"], "rb", opener=open_plain) as file:
            if last is not None:
                file.seek(max(0, os.fstat(file.fileno()).st_size - last))
            return file.read()
    except (KeyError, OSError):
        return (task.output or "").encode() if has_result else b""
