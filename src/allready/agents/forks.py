"""Forks of a process that drives a run: each says who it is.

A program that a task's code starts carries the run's id in its environment. A fork (of `multiprocessing`, or
`os.fork`) can't: the system goes on showing the environment that the first process was started with. So it
adds a line to a file in the run's folder, before any code of the task runs in it. On Linux only.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

NOTES_FILE = "forks"
"""In the run's folder: boot, pid and start time of each fork, a line each."""
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_PLENTY = 4096
_DEAD_STATES = {b"Z", b"X", b"x"}

_notes: str | None = None
_boot = b""
_over = False
_told_python = False


def note_forks(folder: Path | None) -> Path | None:
    """Have forks of this process noted in the folder of the one run that it drives (None: nowhere).

    Gives the folder where they were noted before.
    """
    global _notes, _boot, _told_python
    before = _notes
    _notes = None
    with contextlib.suppress(OSError):  # not Linux
        if folder is not None:
            _boot = _read(_BOOT_ID).strip()
            _notes = str(folder.absolute() / NOTES_FILE)
    if not _told_python:
        _told_python = True
        os.register_at_fork(after_in_child=_in_fork)
    return None if before is None else Path(before).parent


def no_more_forks() -> Path | None:
    """Have forks end at once, since this process is about to; gives the run's folder, if it has notes."""
    global _over
    _over = True
    return Path(_notes).parent if _notes is not None and Path(_notes).exists() else None


def noted_forks(folder: Path) -> list[int]:
    """Give the forks that are noted in a run's folder, and still live."""
    try:
        lines = set((folder / NOTES_FILE).read_bytes().splitlines())
        boot = _read(_BOOT_ID).strip()
    except OSError:
        return []
    found = []
    for line in lines:
        fields = line.split()
        if len(fields) == 3 and fields[0] == boot and fields[1].isdigit():  # else cut: the disk was full
            with contextlib.suppress(OSError):
                state, started = _state_and_start(int(fields[1]))
                if started == fields[2] and state not in _DEAD_STATES:
                    found.append(int(fields[1]))
    return found


def forget_forks(folder: Path) -> None:
    """Remove the notes of forks that have ended."""
    with contextlib.suppress(OSError):
        (folder / NOTES_FILE).unlink()


def _in_fork() -> None:
    """In each fork: no import, and no lock that another thread of the first process may have held."""
    if _over:
        os._exit(1)
    if _notes is None:
        return
    with contextlib.suppress(OSError):  # a full disk: then it is not found again
        pid = os.getpid()
        line = b"%s %d %s\n" % (_boot, pid, _state_and_start(pid)[1])
        file = os.open(_notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(file, line)
        finally:
            os.close(file)


def _state_and_start(pid: int) -> tuple[bytes, bytes]:
    """Give the state of a process, and when it started: ticks since boot, which no clock's change alters."""
    # the name in parentheses may itself hold blanks and parentheses
    fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return fields[0], fields[19]


def _read(path: str) -> bytes:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(file, _PLENTY)
    finally:
        os.close(file)
