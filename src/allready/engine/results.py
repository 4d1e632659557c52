"""What tasks gave: for their dependents, and for whoever asked for the run."""

from __future__ import annotations

import inspect
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from allready.agents.base import OUTPUT_LIMIT, TaskResult
from allready.agents.function import to_result
from allready.agents.values import jsonable
from allready.plan.plan import Function, Task
from allready.store.contract import TaskRow
from allready.store.files import read_checked, write_synced

CACHE_BYTES = 64 * 1024 * 1024
"""Outputs of a durable run that are kept in memory at most; older ones are read from the store again."""
OUTPUT_FILE = "output.txt"
DATA_FILE = "data.json"


class Results:
    """Task → what it gave. In a durable run a cache over the store, otherwise the only place.

    A function's value is kept as it is; `as_result` makes a `TaskResult` of it where one is needed.
    """

    def __init__(
        self, load: Callable[[Collection[str]], Awaitable[Mapping[str, TaskResult]]] | None = None
    ) -> None:
        self._load = load
        self._values: OrderedDict[str, Any] = OrderedDict()
        self._sizes: dict[str, int] = {}
        self._size = 0

    def put(self, task: str, value: Any, size: int = 0) -> None:
        """Keep what a task gave; `size` in bytes."""
        self._values[task] = value
        if self._load is not None:
            self._size += size - self._sizes.get(task, 0)
            self._sizes[task] = size
            while self._size > CACHE_BYTES and len(self._values) > 1:
                oldest, _ = self._values.popitem(last=False)
                self._size -= self._sizes.pop(oldest)

    def __contains__(self, task: str) -> bool:
        return task in self._values

    def __getitem__(self, task: str) -> Any:
        return self._values[task]

    async def fetch(self, tasks: Collection[str]) -> None:
        """Bring the results of these (completed) tasks into memory."""
        missing = [task for task in tasks if task not in self._values]
        if missing and self._load is not None:
            for task, result in (await self._load(missing)).items():
                self.put(task, result, len(result.output))


def as_result(value: Any, folder: Path) -> TaskResult:
    """Give a `TaskResult` for what a task gave: itself, or the value of a function with its text."""
    if isinstance(value, TaskResult):
        return value
    if not isinstance(value, str | None) or len(value or "") * 4 > OUTPUT_LIMIT:
        folder.mkdir(parents=True, exist_ok=True)
    return to_result(value, folder)


def durable_result(value: Any, folder: Path) -> TaskResult:
    """Give a function's value in a form that the store can keep; long ones go to files in `folder`.

    Raises `PermanentError` for what JSON can't carry.
    """
    return as_result(jsonable(value), folder)


def value_of(result: Any, task: Task | None) -> Any:
    """Give what a Python dependent gets: structured output if there is any, else the text.

    What comes from the store is made into the type that the producing function says it returns.
    """
    if not isinstance(result, TaskResult):
        return result
    value = result.data if result.data is not None else result.output
    if task is None or not isinstance(task.body, Function):
        return value
    if result.data is None:
        return None
    return _revive(value, task.body.call)


def _revive(value: Any, call: Callable[..., Any]) -> Any:
    try:
        kind = inspect.get_annotations(inspect.unwrap(call), eval_str=True).get("return")
    except (NameError, TypeError, AttributeError, SyntaxError):
        return value
    if kind is None or kind is Any:
        return value
    from pydantic import PydanticSchemaGenerationError, TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_python(value, strict=False)
    except (PydanticSchemaGenerationError, ValidationError, TypeError):
        return value


# --- rows of the store ------------------------------------------------------------------------------------


def result_columns(index: int, value: Any, run_folder: Path, attempt_folder: Path) -> dict[str, Any]:
    """Give the columns of a task's row that hold its result; what is too long is in synced files."""
    columns: dict[str, Any] = {
        "index": index,
        "output": None,
        "data": None,
        "has_data": False,
        "output_file": None,
        "output_size": None,
        "output_sha256": None,
        "exit_code": None,
    }
    if not isinstance(value, TaskResult):
        return columns
    columns.update(output=value.output, exit_code=value.exit_code, has_data=value.data is not None)
    if value.data is not None:
        text = json.dumps(value.data, ensure_ascii=False)
        if len(text.encode("utf-8", "replace")) <= OUTPUT_LIMIT:
            columns["data"] = value.data
        else:
            attempt_folder.mkdir(parents=True, exist_ok=True)
            write_synced(attempt_folder / DATA_FILE, text.encode("utf-8", "replace"))
    if value.output_file is not None and value.output_file.exists():
        size, digest = sync_file(value.output_file)
        if size > OUTPUT_LIMIT:
            columns.update(output_size=size, output_sha256=digest)
        columns["output_file"] = str(value.output_file.relative_to(run_folder))
    return columns


def sync_file(path: Path) -> tuple[int, str]:
    """Make a file that is written durable; gives its size and SHA-256."""
    import hashlib
    import os

    with path.open("rb") as file:
        os.fsync(file.fileno())
        size = os.fstat(file.fileno()).st_size
        digest = hashlib.file_digest(file, "sha256").hexdigest() if size > OUTPUT_LIMIT else ""
    return size, digest


def result_of_row(row: TaskRow, run_folder: Path) -> TaskResult:
    """Give the result that a row (and its files) holds."""
    folder = attempt_folder(run_folder, row.id, row.attempts)
    data = row.data
    if row.has_data and data is None and (folder / DATA_FILE).exists():
        data = json.loads((folder / DATA_FILE).read_text(encoding="utf-8"))
    artifacts = folder / "artifacts"
    return TaskResult(
        output=row.output or "",
        data=data,
        output_file=run_folder / row.output_file if row.output_file else None,
        exit_code=row.exit_code,
        artifacts=artifacts if artifacts.is_dir() else None,
    )


def whole_output(row: TaskRow, run_folder: Path) -> bytes:
    """Give the whole output of a task. Raises `StoreError` if its file is not what was recorded."""
    if row.output_file and row.output_size is not None and row.output_sha256:
        return read_checked(run_folder / row.output_file, row.output_size, row.output_sha256)
    return (row.output or "").encode()


def attempt_folder(run_folder: Path, task: str, number: int) -> Path:
    """Give where an attempt keeps its files."""
    return run_folder / "tasks" / task / str(number)
