"""A real file system that is small, so that it can be full or read-only: a tmpfs, mounted for one test."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


class SmallDisk:
    """A mounted file system of `kib` KiB."""

    def __init__(self, path: Path, kib: int) -> None:
        self.path = path
        self.kib = kib
        self._filler = path / "filler"

    def leave(self, kib: int) -> None:
        """Fill it up until only `kib` KiB are free."""
        left = os.statvfs(self.path)
        with suppress(OSError):  # others may write meanwhile: then it is full, too
            self._filler.write_bytes(bytes(max(0, left.f_bavail * left.f_bsize - kib * 1024)))

    def free(self) -> None:
        """Give back what was filled."""
        self._filler.unlink()

    def read_only(self) -> None:
        """Let nobody write to it any more, not even root."""
        _as_root("mount", "-o", "remount,ro", str(self.path))

    def writable(self) -> None:
        """Let it be written again."""
        _as_root("mount", "-o", "remount,rw", str(self.path))


@contextmanager
def mounted(path: Path, kib: int) -> Iterator[SmallDisk]:
    """Mount a small disk at a new folder. Skips the test where nobody may mount anything."""
    path.mkdir()
    try:
        _as_root("mount", "-t", "tmpfs", "-o", f"size={kib}k,mode=777", "allready-test", str(path))
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a file system can't be mounted here: {error}")
    try:
        yield SmallDisk(path, kib)
    finally:
        _as_root("umount", "--lazy", str(path))


def _as_root(*command: str) -> None:
    words = command if os.geteuid() == 0 else ("sudo", "-n", *command)
    subprocess.run(words, check=True, capture_output=True)
