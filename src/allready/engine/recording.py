"""Files of recorded runs, to be kept and played again: `allready replay RUN --export FILE`.

One JSON object; a line for each task, input and event, so that two files can be compared by eye.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from allready.core.events import Change
from allready.core.graph import TaskGraph, TaskSpec
from allready.core.history import OUTCOMES, REPORTS
from allready.core.snapshot import spec_to_json
from allready.engine.replay import Final, Recording
from allready.errors import PlanError, UserError

FORMAT = "allready-journal"
VERSION = 1
"""Of the file's format; one with a higher number is of a newer allready."""

SHAPES: Mapping[str, Any] = {
    "tick": tuple[str, float],
    "spawn": tuple[str, str, str, float],
    "refuse": tuple[str, str, str, str, float, float, float],
    "spawn_failed": tuple[str, str, str, bool, float],
    "offer": tuple[str, str],
    "end": tuple[str],
    "leave": tuple[str],
    "cancel": tuple[str, str, str],
    "done": tuple[str, str],
    "backoff": tuple[str, bool, bool],
    "event": tuple[str, str, str, str, list[Any], float],
    "command": tuple[str, str, str | None, float],
    "add": tuple[str, list[TaskSpec], float],
    "close": tuple[str, float],
    "learn": tuple[str, float],
    "recover": tuple[str, float, float],
    "began_late": tuple[str, list[str], float],
}
"""Inputs of the scheduler, with their names; `late` is followed by a whole report."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Final(_Model):
    status: str
    tasks: dict[str, tuple[str, int]]


class _File(_Model):
    format: str
    version: int
    seed: int
    timeout: float | None
    open: bool
    final: _Final | None
    tasks: list[TaskSpec]
    inputs: list[list[Any]]
    events: list[tuple[float, str, str | None, str | None, dict[str, Any] | None]]


def write_recording(recording: Recording, path: Path) -> None:
    """Write a recording to a file. Raises `UserError`."""
    final = None
    if recording.final is not None:
        final = {"status": recording.final.status, "tasks": recording.final.tasks}
    head = {
        "format": FORMAT,
        "version": VERSION,
        "seed": recording.seed,
        "timeout": None if recording.timeout is None else float(recording.timeout),
        "open": recording.open,
        "final": final,
    }
    lists: dict[str, list[Any]] = {
        "tasks": [spec_to_json(spec) for spec in recording.tasks],
        "inputs": recording.inputs,
        "events": [list(event) for event in recording.events],
    }
    parts = [f"{_line(key)}: {_line(value)}" for key, value in head.items()]
    for key, values in lists.items():
        inside = ",\n".join(_line(value) for value in values)
        parts.append(f"{_line(key)}: [\n{inside}\n]")
    try:
        path.write_text("{" + ",\n".join(parts) + "}\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: can't be written: {error.strerror}") from None


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def load_recording(path: Path) -> Recording:
    """Read a file that `write_recording` made. Raises `UserError` that says what is wrong with it."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
    except OSError as error:
        raise UserError(f"{path}: can't be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: no JSON: {error}") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise UserError(f"{path}: no recorded run; allready replay RUN --export FILE writes one")
    if data.get("version") != VERSION:
        raise UserError(
            f"{path}: its format has version {data.get('version')}, and this allready reads {VERSION}: "
            "export the run again, or use the version that wrote it"
        )
    try:
        file = _File.model_validate(data)
        for number, entry in enumerate(file.inputs):
            _check_input(f"inputs[{number}]", entry)
        TaskGraph(file.tasks)
    except ValidationError as error:
        raise UserError(f"{path}: {_first(error)}") from None
    except _Wrong as error:
        raise UserError(f"{path}: {error}") from None
    except PlanError as error:
        raise UserError(f"{path}: tasks: {error}") from None
    return Recording(
        file.tasks,
        file.seed,
        file.timeout,
        file.open,
        file.inputs,
        [Change(*event) for event in file.events],
        None if file.final is None else Final(file.final.status, file.final.tasks),
    )


class _Wrong(Exception):
    """An input is not as it must be."""


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def _check_input(place: str, entry: list[Any]) -> None:
    report = entry[1:] if entry[:1] == ["late"] else entry
    known = REPORTS if report is not entry else SHAPES.keys()
    if not report or not isinstance(report[0], str) or report[0] not in known:
        raise _Wrong(f"{place}: there is no such input: {str(entry)[:80]}")
    try:
        _adapter(report[0]).validate_python(report)
        if report[0] == "event":
            if report[3] not in OUTCOMES:
                raise _Wrong(f"{place}: there is no outcome {report[3]!r}")
            _adapter(report[3]).validate_python(report[4])
    except ValidationError as error:
        raise _Wrong(f"{place}: {_first(error)}") from None


@cache
def _adapter(name: str) -> TypeAdapter[Any]:
    return TypeAdapter(SHAPES[name] if name in SHAPES else OUTCOMES[name])


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
    return f"{where.lstrip('.')}: {first['msg']}".lstrip(": ")
