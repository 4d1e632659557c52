"""What tasks gave: for their dependents, and for whoever asked for the run."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import json
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin

from allready.agents.base import OUTPUT_LIMIT, TaskResult
from allready.agents.command import drop_data
from allready.agents.function import text_form, to_result
from allready.agents.output import without_last_newline
from allready.agents.secrets import Redactor
from allready.agents.values import jsonable
from allready.core.states import CANCELING, COMPLETED, RUNNING
from allready.errors import PermanentError, TaskError
from allready.plan.imports import import_object
from allready.plan.plan import Function, Prompt, Task
from allready.store.contract import Store, TaskRow
from allready.store.files import read_checked, sync_folder, write_synced

if TYPE_CHECKING:
    from pydantic import TypeAdapter

CACHE_BYTES = 64 * 1024 * 1024
"""Size of the outputs of a durable run that are kept in memory; older ones are read from the store again."""
DATA_FILE = "data.json"
DATA_MARK = "$allready:file"
"""Only key of what stands in a row for structured output that is in a file: its path, size and SHA-256."""
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
        """Keep what a task gave; but not large structured output that can be loaded again."""
        durable = self._load is not None and isinstance(value, TaskResult)
        if durable and value.data is not None and len(value.output) * 4 > OUTPUT_LIMIT:
            return
        self._values[task] = value
        if durable:
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


@dataclass(slots=True)
class WholeResult(TaskResult):
    """What an agent gave in a run without a store, for commands and prompts; and the very value beside it."""

    value: Any = None


def as_result(value: Any, folder: Path, redactor: Redactor, *, durable: bool = False) -> TaskResult:
    """Give what commands and prompts see of what Python code gave: secrets blanked, long texts in `folder`.

    What JSON can't carry stays as it is, or raises `PermanentError` in a durable run.
    """
    if durable:
        return durable_result(value, folder, redactor)
    data = value.data if isinstance(value, TaskResult) else value
    try:
        told = durable_result(value, folder, redactor)
    except PermanentError:
        text = value.output if isinstance(value, TaskResult) else text_form(value)
        told = to_result(redactor.text(text), folder)
        told.data = data
    return WholeResult(told.output, told.data, told.output_file, told.exit_code, told.artifacts, value=data)


def durable_result(value: Any, folder: Path, redactor: Redactor) -> TaskResult:
    """Give what Python code gave in a form that the store can keep; long texts go to files in `folder`.

    Raises `PermanentError` for what JSON can't carry.
    """
    if not isinstance(value, TaskResult):
        return to_result(redactor.json(jsonable(value)), folder)
    data = redactor.json(jsonable(value.data))
    text = value.output
    if value.output_file is not None and not value.output_file.resolve().is_relative_to(folder.resolve()):
        try:
            text = value.output_file.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise TaskError(f"its output_file {value.output_file} can't be read: {error.strerror}") from error
    clean = to_result(redactor.text(text), folder)
    kept = value.output_file if text is value.output else clean.output_file
    return TaskResult(clean.output, data, kept or clean.output_file, value.exit_code, value.artifacts)


def as_text(value: Any) -> str:
    """Give the text of what a function gave, without its last newline; the same as in a durable run."""
    with contextlib.suppress(PermanentError):
        value = jsonable(value)
    return without_last_newline(text_form(value))


def value_of(result: Any, task: Task) -> Any:
    """Give what a Python dependent gets: structured output if there is any, else the text.

    What went through the store is made into the type that the producing function or agent object says it
    gives, whether the run was resumed meanwhile or not.
    """
    if not isinstance(result, TaskResult):
        return result
    if isinstance(task.body, Prompt) and task.body.by is not None:
        return _value_of_object(result, task.body.by)
    if not isinstance(task.body, Function):
        return result.output if result.data is None else result.data
    if result.data is None:
        return result.output or None
    return _revive(result.data, task.body.call)


def _revive(value: Any, call: Callable[..., Any]) -> Any:
    return revive(value, _return_type(inspect.unwrap(call)))


def revive(value: Any, adapter: TypeAdapter[Any] | None) -> Any:
    """Make a JSON value into the type that an annotation promised; as it is if it is not of that type."""
    if adapter is None:
        return value
    try:
        return adapter.validate_python(value, by_alias=True, by_name=True)
    except ValueError:
        pass
    try:  # strict models take text for times and the like only from JSON
        return adapter.validate_json(json.dumps(value), by_alias=True, by_name=True)
    except ValueError:
        return value


@functools.lru_cache(1_000)
def _return_type(call: Callable[..., Any]) -> TypeAdapter[Any] | None:
    return adapter_of(annotations_of(call).get("return"))


def _value_of_object(result: TaskResult, by: Any) -> Any:
    """Give what an agent object gave, in the type that it says that it gives."""
    if isinstance(result, WholeResult) and result.value is not None:
        return result.value
    agent = import_object(by) if isinstance(by, str) else by
    kinds = tuple(dict.fromkeys(output_kinds(getattr(agent, "output_type", None))))
    if result.data is not None:  # text has none
        return revive(result.data, _adapter_of_any(tuple(kind for kind in kinds if kind is not str)))
    if str in kinds or not result.output:
        return result.output or None
    return revive(result.output, _adapter_of_any(kinds))  # text of a kind: an enumeration


def output_kinds(output: Any) -> Iterator[Any]:
    """Give the types of what an agent gives: each alternative of its `output_type`, markers taken off."""
    from pydantic_ai.output import NativeOutput, PromptedOutput, TextOutput, ToolOutput

    if isinstance(output, Sequence) and not isinstance(output, str):
        for alternative in output:
            yield from output_kinds(alternative)
    elif get_origin(output) in (Union, UnionType):
        yield from get_args(output)
    elif inspect.isroutine(output):
        yield from output_kinds(annotations_of(output).get("return", Any))
    elif isinstance(output, ToolOutput):
        yield from output_kinds(output.output)
    elif isinstance(output, NativeOutput | PromptedOutput):
        yield from output_kinds(output.outputs)
    elif isinstance(output, TextOutput):
        yield from output_kinds(output.output_function)
    else:
        yield output


def _adapter_of_any(kinds: tuple[Any, ...]) -> TypeAdapter[Any] | None:
    """Give what makes JSON values into one of these types; None if that can't be said."""
    try:
        return _adapter_of_union(kinds)
    except TypeError:  # a type with a mark that has no hash
        return _adapter_of_union.__wrapped__(kinds)


@functools.lru_cache(1_000)
def _adapter_of_union(kinds: tuple[Any, ...]) -> TypeAdapter[Any] | None:
    return adapter_of(Union[kinds]) if kinds else None  # noqa: UP007 - of a tuple


def annotations_of(call: Callable[..., Any]) -> Mapping[str, Any]:
    """Give the annotations of a function as types; nothing if they name what can't be found."""
    try:
        return inspect.get_annotations(call, eval_str=True)
    except (NameError, TypeError, AttributeError, SyntaxError):
        return {}


def adapter_of(kind: Any) -> TypeAdapter[Any] | None:
    """Give what makes JSON values into a type; None if nothing has to be done."""
    if kind is None or kind is Any or kind in JSON_TYPES:
        return None
    from pydantic import PydanticUserError, TypeAdapter

    try:
        return TypeAdapter(kind)
    except (PydanticUserError, TypeError, NameError):  # no type that JSON values could be made into
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
        looks_like_mark = isinstance(value.data, dict) and DATA_MARK in value.data
        if looks_like_mark or len(text.encode("utf-8", "replace")) > OUTPUT_LIMIT:
            columns["data"] = {DATA_MARK: _write_data(value.data, run_folder, attempt_folder)}
        else:
            columns["data"] = value.data
    if value.output_file is not None and is_within(value.output_file, run_folder):
        columns["output_file"] = str(value.output_file.resolve().relative_to(run_folder.resolve()))
        sync_output(value, run_folder)
        columns.update(output_size=value.output_size, output_sha256=value.output_sha256)
    return columns


def sync_output(result: TaskResult, run_folder: Path) -> None:
    """Make the output's file durable, if there is one and the store's row does not hold all of it.

    Takes a second for some hundred megabytes, so it is done before the round in which the result is written.
    """
    if result.output_file is not None and result.output_sha256 is None and is_long(result.output_file):
        result.output_size, result.output_sha256 = sync_file(result.output_file, run_folder)


def is_within(path: Path, folder: Path) -> bool:
    """Say whether there is a plain file, and really in the folder: there may be a link by now."""
    return path.is_file() and not path.is_symlink() and path.resolve().is_relative_to(folder.resolve())


def is_long(path: Path) -> bool:
    """Say whether an output is longer than what the store's row holds of it."""
    return path.exists() and path.stat().st_size > OUTPUT_LIMIT


def _write_data(data: Any, run_folder: Path, attempt_folder: Path) -> dict[str, Any]:
    """Write structured output to a file of its own; gives what the row says of it."""
    content = json.dumps(data).encode()
    path = attempt_folder / DATA_FILE
    attempt_folder.mkdir(parents=True, exist_ok=True)
    write_synced(path, content)
    _sync_folders(path, run_folder)
    digest = hashlib.sha256(content).hexdigest()
    return {"file": str(path.relative_to(run_folder)), "size": len(content), "sha256": digest}


def sync_file(path: Path, run_folder: Path) -> tuple[int, str]:
    """Make a file in the run's folder durable that was written; gives its size and SHA-256."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = os.fstat(file.fileno()).st_size
    _sync_folders(path, run_folder)
    return size, digest


def _sync_folders(path: Path, run_folder: Path) -> None:
    """Make the names of all folders from the file up to that of the runs durable."""
    path = path.resolve()
    for folder in path.parents:
        sync_folder(folder)
        if folder == run_folder.resolve().parent:
            return


def result_of_row(row: TaskRow, run_folder: Path) -> TaskResult:
    """Give the result that a row (and its files) holds. Raises `StoreError` for a file that was changed."""
    folder = attempt_folder(run_folder, row.id, row.attempts)
    data = row.data
    if isinstance(data, dict) and DATA_MARK in data:
        mark = data[DATA_MARK]
        data = json.loads(read_checked(run_folder / mark["file"], mark["size"], mark["sha256"]))
    artifacts = folder / "artifacts"
    return TaskResult(
        output=row.output or "",
        data=data,
        output_file=run_folder / row.output_file if row.output_file else None,
        exit_code=row.exit_code,
        artifacts=artifacts if artifacts.is_dir() else None,
    )


def drop_unfinished(rows: Iterable[TaskRow], run_folder: Path) -> None:
    """Remove what attempts that never ended had written for us alone: secrets in it were not blanked."""
    for row in rows:
        if row.state in {RUNNING, CANCELING}:
            drop_data(attempt_folder(run_folder, row.id, row.attempts))


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
