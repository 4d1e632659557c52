"""Folders that tasks have filled: looked through and removed whatever is in them, however deep they are.

`os.walk` and `shutil.rmtree` go into themselves for each level, and a thousand are enough to break them.
"""

from __future__ import annotations

import contextlib
import os
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path


def files_below(folder: Path, *, strict: bool = False) -> Iterator[os.DirEntry[str]]:
    """Give all in a folder and in those below it that is no folder; links are not followed.

    What can't be read is passed over, or raises `OSError` if it is `strict`.
    """
    folders = [str(folder)]
    while folders:
        try:
            entries = _entries(folders.pop())
        except OSError:
            if strict:
                raise
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            else:
                yield entry


def remove_folder(folder: Path) -> None:
    """Remove a folder with all that is in it. Raises `OSError` for what can't be removed.

    Each folder is moved up to the first one before it is emptied, so that no path becomes long, and is given
    back its rights.
    """
    prefix = f".{uuid.uuid4().hex}-"
    todo = [folder]
    for current in todo:  # grows while it is read
        try:
            entries = _entries(current)
        except PermissionError:
            current.chmod(stat.S_IRWXU)
            entries = _entries(current)
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                Path(entry.path).chmod(stat.S_IRWXU)  # without, it could not be moved
                todo.append(Path(entry.path).rename(folder / f"{prefix}{len(todo)}"))
            else:
                _unlink(Path(entry.path))
        if current != folder:
            current.rmdir()
    folder.rmdir()


def _entries(folder: str | Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return list(entries)


def _unlink(path: Path) -> None:
    try:
        path.unlink()
    except PermissionError:  # of a folder that may not be written to
        path.parent.chmod(stat.S_IRWXU)
        path.unlink()


def remove_quietly(folder: Path) -> None:
    """Remove a folder as far as it can be."""
    with contextlib.suppress(OSError):
        remove_folder(folder)
