"""Files between allready and a command: what it finds of its dependencies, and what it may leave behind."""

from __future__ import annotations

import json
import logging
import math
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from allready.agents.base import Dependency
from allready.agents.folders import files_below
from allready.agents.values import MAX_DEPTH, is_deeper, jsonable
from allready.errors import PermanentError, TaskError

DATA_LIMIT = 1024 * 1024
"""Bytes of the JSON that a command may write to `$ALLREADY_OUTPUT`."""
MAX_DIGITS = 4_000
"""Of a whole number in it; Python reads no more than 4,300."""
SHOWN_PATH = 300
"""Characters of a path in an error message."""

_log = logging.getLogger(__name__)


def put_dependencies(folder: Path, dependencies: Iterable[Dependency]) -> None:
    """Lay out `<task>/task.json` for each, and `output.txt`, `data.json`, `artifacts` if it completed."""
    folder.mkdir(exist_ok=True)
    for dependency in dependencies:
        result = dependency.result
        place = folder / dependency.id
        place.mkdir(exist_ok=True)
        about = {
            "id": dependency.id,
            "title": dependency.title,
            "status": dependency.status,
            "error": dependency.error,
            "exit_code": result.exit_code if result else None,
            "duration": dependency.duration,
        }
        (place / "task.json").write_text(json.dumps(about, ensure_ascii=False, indent=1), encoding="utf-8")
        if result is None:
            continue
        if result.output_file is not None and result.output_file.is_file():
            _link(place / "output.txt", result.output_file)
        else:
            (place / "output.txt").write_text(result.output, encoding="utf-8", errors="replace")
        if result.artifacts is not None and result.artifacts.is_dir():
            _link(place / "artifacts", result.artifacts)
        if result.data is not None:
            try:
                text = json.dumps(jsonable(result.data), ensure_ascii=False, indent=1)
            except PermanentError:
                continue  # a Python object, in a run without a store: there is nothing to write
            (place / "data.json").write_text(text, encoding="utf-8")


def _link(link: Path, target: Path) -> None:
    link.unlink(missing_ok=True)
    link.symlink_to(target.absolute())


def read_data(path: Path) -> Any:
    r"""Give the JSON that a command wrote; None if it wrote none. Raises `TaskError` if it is not good.

    It is a `PermanentError` for what no text may hold, whether this run's store could keep it or not. A NUL
    that is written as `\u0000` can be kept by all.
    """
    try:
        with open(path, "rb", opener=open_plain) as file:
            text = file.read(DATA_LIMIT + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _bad(f"can't be read: {error.strerror}") from error
    if len(text) > DATA_LIMIT:
        raise _bad(f"is larger than {DATA_LIMIT} bytes; write large results to $ALLREADY_ARTIFACTS")
    if not text.strip():
        raise _bad("is empty")
    place = text.find(b"\0")
    if place >= 0:
        raise _bad(f"holds a NUL character at byte {place + 1}, which no text may", PermanentError)
    try:
        told = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = error.start + len(text) - len(error.object)  # without the mark at its beginning
        raise _bad(
            f"is not text in UTF-8: byte {place + 1} is 0x{text[place]:02x}", PermanentError
        ) from error
    try:
        value = json.loads(told, parse_constant=_refuse, parse_float=_finite, parse_int=_bounded)
    except RecursionError as error:
        raise _bad(f"is nested deeper than {MAX_DEPTH} levels") from error
    except ValueError as error:
        raise _bad(f"is not valid JSON: {error}") from error
    if is_deeper(value, MAX_DEPTH):
        raise _bad(f"is nested deeper than {MAX_DEPTH} levels")
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise _bad(
            "holds half of a character (a lone surrogate), which no text may", PermanentError
        ) from error
    return value


def open_plain(path: str, flags: int) -> int:
    """Open nothing but a plain file: a link could lead anywhere, a FIFO would block."""
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(0, "it is not a plain file")
    return fd


def _bad(what: str, kind: type[TaskError] = TaskError) -> TaskError:
    return kind(f"what the command wrote to $ALLREADY_OUTPUT {what}")


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is too large a number")
    return number


def _bounded(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number of {len(text):,} digits is too long")
    return int(text)


def check_artifacts(folder: Path) -> Path | None:
    """Give the folder if it holds anything; remove from it what is no file or leads out of it.

    Raises `TaskError` if that can't be done: folders without permissions, or too deep for any program.
    """
    try:
        return _check_artifacts(folder)
    except OSError as error:
        where = f": {error.filename}" if error.filename and len(str(error.filename)) <= SHOWN_PATH else ""
        raise TaskError(f"its artifacts can't be looked through: {error.strerror}{where}") from error


def _check_artifacts(folder: Path) -> Path | None:
    if folder.is_symlink() or not folder.is_dir():
        folder.unlink(missing_ok=True)
        return None
    root = folder.resolve()
    # first find all, then remove: a link to a link that leads out leads out, too
    for path in [path for path in _not_plain(root) if not path.is_symlink() or _leaves(path, root)]:
        told = repr(str(path))  # its name may hold what steers a terminal
        _log.warning("removed artifact %s: it is no file, or leads out of the artifacts' folder", told)
        path.unlink(missing_ok=True)
    return folder if any(root.iterdir()) else None


def _not_plain(root: Path) -> Iterator[Path]:
    """Give links, sockets, FIFOs and devices below a folder."""
    for entry in files_below(root, strict=True):
        if not entry.is_file(follow_symlinks=False):
            yield Path(entry.path)


def _leaves(link: Path, root: Path) -> bool:
    try:
        return not link.resolve().is_relative_to(root)
    except (OSError, RuntimeError):  # a circle of links
        return True
