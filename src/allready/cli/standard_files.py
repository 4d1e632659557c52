"""The three standard files: that they are there, and what is known of an output that takes no more."""

from __future__ import annotations

import io
import os
import sys
from typing import Any, TextIO


class OutputBroken(OSError):
    """Standard output takes no more: there is no room for it, or whoever read it is gone."""


class _Output(io.FileIO):
    """Standard output below all buffers, whose errors can be told from those of other files."""

    def write(self, data: Any) -> Any:
        try:
            return super().write(data)
        except OSError as error:
            raise OutputBroken(error.errno, error.strerror) from None


def open_standard_files() -> None:
    """Have something at the three standard descriptors: what is opened next must not get one of them."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout is sys.__stdout__:
        _watch(sys.stdout)


def _watch(before: io.TextIOWrapper) -> None:
    """Put an output that says when it is broken in the place of Python's, and that is told of what it writes.

    Buffered also with PYTHONUNBUFFERED, where what a full disk took only a part of would be lost untold.
    """
    settings: dict[str, Any] = {
        "encoding": before.encoding,
        "errors": before.errors,
        "line_buffering": before.line_buffering or before.write_through,
    }
    descriptor = before.fileno()
    before.flush()
    before.detach()
    out = io.TextIOWrapper(io.BufferedWriter(_Output(descriptor, "w", closefd=False)), **settings)
    sys.__dict__.update(stdout=out, __stdout__=out)


def flush_or_forget(*files: TextIO) -> None:
    """Have all written that can be: Python tries it again at exit, complains, and takes another exit code."""
    for file in files:
        try:
            file.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())
