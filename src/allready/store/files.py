"""Files that belong to a store's rows: there, whole and synced before the row that names them.

The order is what counts: data into a temporary file of the same folder, `fsync`, rename over the name,
`fsync` of the folder, and only then the commit of the row. After a crash at any instant there is either no
file, or one nobody speaks of yet, or the whole one.
"""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from pathlib import Path

from allready.errors import StoreError


class DamagedFile(StoreError):
    """A file is not the one that the store speaks of."""


def write_synced(path: Path, data: bytes) -> None:
    """Write a file so that it is whole and on the disk when this returns, or else as it was before.

    Raises `StoreError`, then nothing is left behind.
    """
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), 0o666 & ~_UMASK)
            os.fsync(file.fileno())
        Path(temporary).replace(path)
        temporary = None
        sync_folder(path.parent)
    except OSError as error:
        advice = (
            "free some space" if error.errno in _NO_SPACE else "check that its folder is there and writable"
        )
        raise StoreError(
            f"could not write {path}: {error.strerror or error}; {advice}, then resume the run"
        ) from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder, and those above it that are missing, so that they are there after a crash, too.

    Raises `StoreError`.
    """
    if path.is_dir():
        return
    make_folder(path.parent)
    try:
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        raise StoreError(f"could not make the folder {path}: {error.strerror or error}") from error


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable: new files, and files that were renamed."""
    descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_checked(path: Path, size: int, sha256: str) -> bytes:
    """Read a file that must be the one that was recorded.

    Raises `DamagedFile` if it is missing, can't be read, or is not the same any more.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DamagedFile(
            f"{path} is missing, but the store says that a result is in it ({size} bytes); "
            "put the file back from a backup, or retry the task to have it made again"
        ) from None
    except OSError as error:
        raise DamagedFile(f"could not read {path}: {error.strerror or error}") from error
    found = hashlib.sha256(data).hexdigest()
    if len(data) != size or found != sha256:
        what = (
            f"it has {len(data)} bytes instead of {size}" if len(data) != size else "its SHA-256 is another"
        )
        raise DamagedFile(
            f"{path} was changed after the result was recorded ({what}); "
            "put the file back from a backup, or retry the task to have it made again"
        )
    return data


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


_UMASK = _umask()
"""Read once: asking for the mask means setting it, which other threads would notice."""
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
