"""What a run says on its way to standard output: a reader who is slow, or gone, must not hold up the run.

A pipe that nobody reads takes 64 KiB; whoever writes more waits. If the event loop waited there, nothing of
the run would go on: no result taken, no time-out kept, no command of a person heard. So a thread writes, and
what it has not got rid of waits for it: some of it in memory, the rest in a file without a name.
"""

from __future__ import annotations

import contextlib
import os
import select
import tempfile
import threading
from collections import deque
from collections.abc import Callable
from typing import IO

IN_MEMORY = 1024 * 1024
"""Bytes that wait in memory; more goes to a file."""
PIECE = 256 * 1024
"""Bytes that are read back from the file in one go."""
WAIT = 0.1
"""Seconds between two looks whether waiting makes sense."""


class Outlet:
    """Writes bytes to a descriptor, in order, from a thread of its own. `write()` never waits for the reader.

    `on_failure` is called once, in that thread, when the descriptor takes no more; then all else is dropped.
    """

    def __init__(self, descriptor: int, on_failure: Callable[[OSError], None]) -> None:
        self._descriptor = descriptor
        self._on_failure = on_failure
        self._changed = threading.Condition()
        self._waiting: deque[bytes] = deque()
        self._in_memory = 0
        self._file: IO[bytes] | None = None
        self._in_file = 0
        """Bytes in the file that were not taken out of it yet: newer than what is in memory."""
        self._read_from = 0
        self._writing = False
        """Whether a piece is under way to the descriptor."""
        self._over = False
        """Whether nothing is to be written any more."""
        threading.Thread(target=self._work, name="allready output", daemon=True).start()

    def write(self, data: bytes) -> None:
        """Hand over what is to be written."""
        if not data:
            return
        with self._changed:
            if self._over:
                return
            if self._in_file or self._in_memory + len(data) > IN_MEMORY:
                self._keep_in_file(data)
            else:
                self._keep_in_memory(data)
            self._changed.notify_all()

    def drain(self) -> None:
        """Wait until all is written, or can't be, or `abandon()` was called (by a signal's handler, say)."""
        with self._changed:
            while not self._over and (self._waiting or self._in_file or self._writing):
                self._changed.wait(WAIT)

    def abandon(self) -> None:
        """Drop what is left. Takes no lock, so that a signal's handler can call it."""
        self._over = True

    def _keep_in_memory(self, data: bytes) -> None:
        self._waiting.append(data)
        self._in_memory += len(data)

    def _keep_in_file(self, data: bytes) -> None:
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - lives as long as this
            done = 0
            while done < len(data):
                done += os.pwrite(self._file.fileno(), data[done:], self._read_from + self._in_file + done)
            self._in_file += len(data)
        except OSError:
            if self._in_file:  # behind what is in the file, so that the order stays
                self._waiting_behind(data)
            else:
                self._keep_in_memory(data)

    def _waiting_behind(self, data: bytes) -> None:
        """Take all back from the file: there is no room for more of it on the disk."""
        while self._in_file:
            self._keep_in_memory(self._take_from_file())
        self._keep_in_memory(data)

    def _take_from_file(self) -> bytes:
        assert self._file is not None
        data = os.pread(self._file.fileno(), min(PIECE, self._in_file), self._read_from)
        self._read_from += len(data)
        self._in_file -= len(data)
        if not self._in_file:
            self._read_from = 0
            os.ftruncate(self._file.fileno(), 0)
        return data

    def _next(self) -> bytes | None:
        """Wait for the next piece; None at the end."""
        with self._changed:
            self._writing = False
            self._changed.notify_all()
            while not self._over and not self._waiting and not self._in_file:
                self._changed.wait()
            if self._over:
                return None
            self._writing = True
            if not self._waiting:
                return self._take_from_file()
            data = self._waiting.popleft()
            self._in_memory -= len(data)
            return data

    def _work(self) -> None:
        try:
            while (data := self._next()) is not None:
                self._put(data)
        except OSError as error:
            self._fail(error)

    def _put(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest and not self._over:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # whoever shares the pipe with us has made it so
                select.select([], [self._descriptor], [], WAIT)

    def _fail(self, error: OSError) -> None:
        with self._changed:
            self._over = True
            self._waiting.clear()
            self._changed.notify_all()
        with contextlib.suppress(RuntimeError):  # the event loop is closed: the run has ended
            self._on_failure(error)
