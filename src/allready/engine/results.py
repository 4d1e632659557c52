"""What tasks gave: for their dependents, and for whoever asked for the run."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allready.agents.base import OUTPUT_LIMIT, TaskResult
from allready.agents.function import text_form, to_result
from allready.agents.output import without_last_newline
from allready.agents.secrets import Redactor
from allready.agents.values import jsonable
from allready.core.states import COMPLETED
from allready.plan.plan import Function, Task
from allready.store.contract import Store, TaskRow
from allready.store.files import read_checked, write_synced

if TYPE_CHECKING:
    from pydantic import TypeAdapter

CACHE_BYTES = 64 * 1024 * 1024
"""Size of the outputs of a durable run that are kept in memory; older ones are read from the store again."""
OUTPUT_FILE = "output.txt"
DATA_FILE = "data.json"
JSON_TYPES = frozenset({str, int, float, bool, list, dict})
"""What JSON gives back as it was."""


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

    def put(self, task: str, value: Any) -> None:
        """Keep what a task gave."""
        self._values[task] = value
        if self._load is not None and isinstance(value, TaskResult):
            self._size += len(value.output) - self._sizes.get(task, 0)
            self._sizes[task] = len(value.output)
            while self._size > CACHE_BYTES and len(self._values) > 1:
                oldest, _ = self._values.popitem(last=False)
                self._size -= self._sizes.pop(oldest)

    def __getitem__(self, task: str) -> Any:
        return self._values[task]

    async def get(self, tasks: Collection[str]) -> dict[str, Any]:
        """Give what these (completed) tasks gave."""
        found = {task: self._values[task] for task in tasks if task in self._values}
        missing = [task for task in tasks if task not in found]
        if missing and self._load is not None:
            for task, result in (await self._load(missing)).items():
                found[task] = result
                self.put(task, result)
        return found


def as_result(value: Any, folder: Path, redactor: Redactor) -> TaskResult:
    """Give a `TaskResult` for what a task gave: itself, or the value of a function with its text."""
    if isinstance(value, TaskResult):
        return value
    result = to_result(value, folder)
    clean = redactor.text(result.output)
    if clean != result.output:
        return to_result(redactor.text(text_form(value)), folder)
    return result


def durable_result(value: Any, folder: Path, redactor: Redactor) -> TaskResult:
    """Give a function's value in a form that the store can keep; long ones go to files in `folder`.

    Raises `PermanentError` for what JSON can't carry.
    """
    if isinstance(value, TaskResult):
        return value
    return to_result(redactor.json(jsonable(value)), folder)


def as_text(value: Any) -> str:
    """Give the text of what a function gave, without its last newline."""
    return without_last_newline(text_form(value))


def value_of(result: Any, task: Task) -> Any:
    """Give what a Python dependent gets: structured output if there is any, else the text.

    What went through the store is made into the type that the producing function says it returns, whether
    the run was resumed meanwhile or not.
    """
    if not isinstance(result, TaskResult):
        return result
    if not isinstance(task.body, Function):
        return result.output if result.data is None else result.data
    return None if result.data is None else _revive(result.data, task.body.call)


def _revive(value: Any, call: Callable[..., Any]) -> Any:
    adapter = _return_type(inspect.unwrap(call))
    if adapter is None:
        return value
    try:
        return adapter.validate_python(value)
    except ValueError:  # the function does not keep to what it says
        return value


@functools.lru_cache(1_000)
def _return_type(call: Callable[..., Any]) -> TypeAdapter[Any] | None:
    """Give what makes JSON values into the type that a function returns; None if nothing has to be done."""
    try:
        kind = inspect.get_annotations(call, eval_str=True).get("return")
    except (NameError, TypeError, AttributeError, SyntaxError):
        return None
    if kind is None or kind is Any or kind in JSON_TYPES:
        return None
    from pydantic import PydanticSchemaGenerationError, TypeAdapter

    try:
        return TypeAdapter(kind)
    except (PydanticSchemaGenerationError, TypeError):
        return None


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
        columns["output_file"] = str(value.output_file.relative_to(run_folder))
        if value.output_file.stat().st_size > OUTPUT_LIMIT:  # else the row has all of it
            columns["output_size"], columns["output_sha256"] = sync_file(value.output_file)
    return columns


def sync_file(path: Path) -> tuple[int, str]:
    """Make a file that was written durable; gives its size and SHA-256."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return os.fstat(file.fileno()).st_size, digest


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


def read_results(store: Store, run_id: str, folder: Path, indexes: Collection[int]) -> dict[str, TaskResult]:
    """Give what these tasks of a stored run gave, by id."""
    rows = store.results(run_id, indexes).values()
    return {row.id: result_of_row(row, folder) for row in rows if row.state == COMPLETED}


def whole_output(row: TaskRow, run_folder: Path) -> bytes:
    """Give the whole output of a task. Raises `StoreError` if its file is not what was recorded."""
    if row.output_file and row.output_size is not None and row.output_sha256:
        return read_checked(run_folder / row.output_file, row.output_size, row.output_sha256)
    return (row.output or "").encode()


def attempt_folder(run_folder: Path, task: str, number: int) -> Path:
    """Give where an attempt keeps its files."""
    return run_folder / "tasks" / task / str(number)
