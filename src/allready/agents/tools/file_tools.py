"""The file tools of a model: their names, what it reads about them, and where their work is done."""

from __future__ import annotations

import functools
import json
import shutil
import sys
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from allready.agents.base import Attempt
from allready.agents.threads import in_thread, result_of
from allready.agents.tools import finding
from allready.agents.tools.finding import MAX_PATTERN, Query
from allready.agents.tools.programs import Programs
from allready.agents.tools.workspace import MAX_LINES, Refused, Workspace

T = TypeVar("T")

MAX_MATCHES = 100
"""Lines that a search shows in one go."""
SEARCH_TIME = 20.0
"""Seconds for a search; a regular expression that takes longer goes back and forth without end."""


class FileTools:
    """What a model may do with files, each method a tool; its docstring is what the model reads."""

    def __init__(self, attempt: Attempt, programs: Programs) -> None:
        self._workspace = Workspace(attempt.base_dir)
        self._hold_place = attempt.hold_place
        self._programs = programs

    def chosen(self, names: Iterable[str]) -> dict[str, Callable[..., Awaitable[str]]]:
        """Give the tools of these names."""
        return {name: getattr(self, name) for name in names}

    async def read_file(self, path: str, offset: int = 1, limit: int = MAX_LINES) -> str:
        """Read a text file.

        Args:
            path: The file, relative to the working folder.
            offset: The line to begin with, from 1.
            limit: How many lines to read.
        """
        return await self._in_thread(self._workspace.read, path, offset, limit)

    async def list_files(self, pattern: str | None = None, path: str = ".") -> str:
        """List a folder's entries, or find files by name.

        Args:
            pattern: Without it, the folder's own entries are listed, folders with a / at the end. With it,
                all files below the folder that fit, such as `*.py` (in any folder) or `src/**/test_*.py`.
            path: The folder, relative to the working folder.
        """
        return await self._in_thread(self._workspace.list, path, pattern)

    async def search_files(
        self,
        pattern: str,
        path: str = ".",
        glob: str | None = None,
        ignore_case: bool = False,
        skip: int = 0,
    ) -> str:
        """Search text files for lines that fit a regular expression; gives `file:line: text`.

        Args:
            pattern: A regular expression of Python.
            path: The file or folder to search, relative to the working folder.
            glob: Which files to search, such as `*.py` or `src/**/*.{js,ts}`.
            ignore_case: Whether upper and lower case are the same.
            skip: How many matches to leave out, for reading on.
        """
        if len(pattern) > MAX_PATTERN:
            raise Refused(f"the pattern is longer than {MAX_PATTERN:,} characters")
        start = await self._in_thread(self._workspace.start_of, path)
        root = str(self._workspace.folder)
        query = Query(root, start, pattern, glob, ignore_case, max(skip, 0), MAX_MATCHES)
        ended = await self._programs.run(
            [sys.executable, "-I", "-S", finding.__file__],
            name="search",
            seconds=SEARCH_TIME,
            stdin=json.dumps(query._asdict()).encode(),
        )
        lines = await self._in_thread(_take_lines, ended.output_file)
        last = lines.pop() if lines and isinstance(lines[-1], dict) else {}
        if "error" in last:
            raise Refused(last["error"])
        return "\n".join([*map(str, lines), *_remarks(len(lines), query, last, ended.exit_code)])

    async def write_file(self, path: str, content: str) -> str:
        """Make a text file, or replace one as a whole; folders on the way are made.

        Args:
            path: The file, relative to the working folder.
            content: The whole text.
        """
        return await self._in_thread(self._workspace.write, path, content)

    async def edit_file(self, path: str, old: str, new: str, replace_all: bool = False) -> str:
        """Replace a text in a file. Read the file first.

        Args:
            path: The file, relative to the working folder.
            old: The text to replace, exactly as it is in the file, blanks included; it must be there once.
            new: What is put in its place.
            replace_all: Whether to replace it everywhere it is.
        """
        return await self._in_thread(self._workspace.edit, path, old, new, replace_all)

    async def _in_thread(self, call: Callable[..., T], *args: Any) -> T:
        thread = in_thread(functools.partial(call, *args), f"allready {call.__name__}")
        return await result_of(thread, self._hold_place)


def _take_lines(path: Path) -> list[Any]:
    """Read what the search wrote; its folder has done its service."""
    lines = []
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                lines.append(json.loads(line))
            except ValueError:  # it was ended while it wrote this one
                break
    shutil.rmtree(path.parent, ignore_errors=True)
    return lines


def _remarks(found: int, query: Query, last: dict[str, Any], exit_code: int | None) -> list[str]:
    """Say what the lines leave out."""
    if exit_code is None:
        advice = "use a simpler regular expression, or search in fewer files"
        return [f"[… ended after {SEARCH_TIME:g} seconds: {advice}]"]
    remarks = []
    if last.get("more"):
        remarks.append(f"[… there are more: go on with skip={query.skip + found}]")
    if last.get("cut"):
        remarks.append("[… not all files were searched, there are too many: name a folder below]")
    if not found and not remarks:
        return ["[no further matches]" if query.skip else "[no matches]"]
    return remarks
