"""Between the contract's rows and what the database carries: text, numbers, None.

JSON is kept as compact text. Two kinds of characters can't be kept everywhere: NUL (PostgreSQL's text) and
lone surrogates (no UTF-8 for them); they become U+FFFD. NUL inside JSON is escaped there and survives.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from allready.core.events import Change
from allready.errors import BugError
from allready.store.contract import CommandRow, InputRow, JournalEvent, Owner, RunRow, TaskRow

REPLACEMENT = "\ufffd"
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_JSON = json.JSONDecoder()
_decode = _JSON.decode
EMPTY = "{}"


def to_json(value: Any) -> str:
    """Give a JSON value as text. Raises `BugError` for anything else."""
    if value == {}:
        return EMPTY
    try:
        text = _encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise BugError(f"the store can keep JSON values only, not {type(value).__name__}: {error}") from error
    return text if text.isascii() else without_surrogates(text)


def clean(text: str | None) -> str | None:
    """Give text that every database can keep."""
    if text is None:
        return None
    if "\0" in text:
        text = text.replace("\0", REPLACEMENT)
    return text if text.isascii() else without_surrogates(text)


def without_surrogates(text: str) -> str:
    """Replace what has no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return "".join(REPLACEMENT if "\ud800" <= character <= "\udfff" else character for character in text)
    return text


# --- towards the database ---------------------------------------------------------------------------------

RUN_ENCODERS = {"error": clean, "answer": clean, "counts": to_json, "memory": to_json}
"""What to do with a run's columns before they are written; the others go as they are."""


def run_values(run: RunRow) -> dict[str, Any]:
    """Give a new run's columns, without its plan: no events yet, no owner."""
    return {
        "id": run.id,
        "status": run.status,
        "created_at": run.created_at,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "epoch": 0,
        "last_seq": 0,
        "last_input": 0,
        "seed": str(run.seed),
        "counts": to_json(run.counts),
        "memory": to_json(run.memory),
        "folder": clean(run.folder),
        "source": clean(run.source),
        "options": to_json(run.options),
        "goal": clean(run.goal),
        "error": clean(run.error),
        "answer": clean(run.answer),
    }


def task_values(run_id: str, task: TaskRow) -> dict[str, Any]:
    """Give all columns of a task."""
    return {
        "run_id": run_id,
        "index": task.index,
        "id": task.id,
        "state": task.state,
        "attempts": task.attempts,
        "agent": clean(task.agent),
        "handle": task.handle,
        "started_at": task.started_at,
        "finished_at": task.finished_at,
        "memory": to_json(task.memory),
        "title": clean(task.title),
        "spec": to_json(task.spec),
        "error": clean(task.error),
        **_result(task.output, task.data, task.has_data),
        "output_file": clean(task.output_file),
        "output_size": task.output_size,
        "output_sha256": task.output_sha256,
        "exit_code": task.exit_code,
    }


def state_values(run_id: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """Give a row of `Batch.tasks` as the database takes it."""
    return {
        **row,
        "run_id": run_id,
        "agent": clean(row["agent"]),
        "error": clean(row["error"]),
        "memory": to_json(row["memory"]),
    }


def result_values(run_id: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """Give a row of `Batch.results` as the database takes it."""
    return {
        **row,
        "run_id": run_id,
        **_result(row["output"], row["data"], row["has_data"]),
        "output_file": clean(row["output_file"]),
    }


def event_values(run_id: str, seq: int, change: Change) -> dict[str, Any]:
    """Give an event as the database takes it."""
    at, kind, task, attempt, data = change
    return {
        "run_id": run_id,
        "seq": seq,
        "at": at,
        "type": kind,
        "task": task,
        "attempt": attempt,
        "data": None if data is None else to_json(data),
    }


def _result(output: str | None, data: Any, has_data: bool) -> dict[str, Any]:
    return {
        "output": clean(output),
        "has_data": has_data,
        "data": to_json(data) if has_data and data is not None else None,
    }


# --- and back ---------------------------------------------------------------------------------------------

RUN_FIELDS = (
    *(
        "id",
        "goal",
        "status",
        "created_at",
        "seed",
        "folder",
        "options",
        "source",
        "started_at",
        "finished_at",
    ),
    *("error", "answer", "counts", "lease_until", "epoch", "last_seq", "memory"),
    *("owner_host", "owner_boot_id", "owner_pid", "owner_started"),
)
TASK_FIELDS = (
    *("index", "id", "spec", "title", "state", "attempts", "agent", "handle", "started_at", "finished_at"),
    *("error", "memory", "has_data", "output_file", "output_size", "output_sha256", "exit_code"),
)
OUTPUT_FIELDS = ("output", "data")


def run_of(row: Sequence[Any], plan: dict[str, Any] | None = None) -> RunRow:
    """Give the run of a row of `RUN_FIELDS`."""
    (id_, goal, status, created, seed, folder, options, source, started, finished) = row[:10]
    (error, answer, counts, lease_until, epoch, last_seq, memory, host, boot_id, pid, began) = row[10:]
    return RunRow(
        id=id_,
        goal=goal,
        status=status,
        created_at=created,
        seed=int(seed),
        folder=folder,
        plan={} if plan is None else plan,
        options=_decode(options),
        source=source,
        started_at=started,
        finished_at=finished,
        error=error,
        answer=answer,
        counts=_decode(counts),
        owner=owner_of(host, boot_id, pid, began),
        lease_until=lease_until,
        epoch=epoch,
        last_seq=last_seq,
        memory=_decode(memory),
    )


def owner_of(host: str | None, boot_id: str | None, pid: int | None, started: float | None) -> Owner | None:
    """Give the owner that the columns name."""
    if host is None or boot_id is None or pid is None or started is None:
        return None
    return Owner(host, boot_id, pid, started)


def task_of(row: Sequence[Any]) -> TaskRow:
    """Give the task of a row of `TASK_FIELDS`, and `OUTPUT_FIELDS` if they were read."""
    (index, id_, spec, title, state, attempts, agent, handle, started, finished, error, memory) = row[:12]
    has_data, output_file, output_size, output_sha256, exit_code = row[12:17]
    output, data = row[17:] if len(row) > 17 else (None, None)
    return TaskRow(
        index,
        id_,
        _decode(spec),
        title,
        state,
        attempts,
        agent,
        handle,
        started,
        finished,
        error,
        {} if memory == EMPTY else _decode(memory),
        output,
        None if data is None else _decode(data),
        bool(has_data),
        output_file,
        output_size,
        output_sha256,
        exit_code,
    )


def event_of(row: Sequence[Any]) -> JournalEvent:
    """Give the event of a row of seq, at, type, task, attempt, data."""
    seq, at, kind, task, attempt, data = row
    return JournalEvent(seq, at, kind, task, attempt, None if data is None else _decode(data))


def input_of(row: Sequence[Any]) -> InputRow:
    """Give the inputs of a row of seq, data."""
    return InputRow(row[0], _decode(row[1]))


def command_of(row: Sequence[Any]) -> CommandRow:
    """Give the command of a row in the order of the fields."""
    return CommandRow(*row)


def plan_of(text: str) -> dict[str, Any]:
    """Give the plan of its column."""
    plan: dict[str, Any] = _decode(text)
    return plan


def task_in_plan(text: str, task: str) -> dict[str, Any]:
    """Give the entry of a task in the plan of its column; empty if there is none.

    A large plan takes most of a second to decode. Its encoder is ours: quotes inside of strings are escaped,
    so what looks like an entry with this id is one, or else the value of a variable or argument. If there is
    only one such place, it is the entry.
    """
    mark = f'"id":{_encode(task)}'
    entry: dict[str, Any]
    if text.count(mark) == 1:
        start = text.find(mark) - 1
        if text[start] == "{":
            entry, _ = _JSON.raw_decode(text, start)
            return entry
    for entry in plan_of(text).get("tasks", ()):
        if entry.get("id") == task:
            return entry
    return {}
