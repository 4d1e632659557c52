"""Finding files by name, and lines in files by a regular expression.

Searching is done by a program of its own, this file: Python's regular expressions may take forever on some
patterns, can't be interrupted, and hold up all threads meanwhile; a process can be ended. So this file needs
nothing but the standard library, and reads a `Query` as JSON from its standard input.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

MAX_ENTRIES = 200_000
"""Files and folders that are looked at in one go; a larger tree must be narrowed down."""
MAX_FILE_BYTES = 20 * 1024 * 1024
"""Of a file that is searched; larger ones are data, and are left out."""
MAX_LINE = 500
"""Characters of a line that are shown."""
MAX_PATTERN = 1_000
"""Characters of a regular expression."""
MAX_GLOB = 200
"""Characters of a pattern for names."""
MAX_CHOICES = 50
"""Patterns that the braces of one may stand for."""
SNIFFED_BYTES = 8 * 1024
"""Beginning of a file that is looked at for NUL, which no text has."""
LEFT_OUT = frozenset({".git", ".allready"})
"""Folders that are never listed or searched: they hold what is kept about the files."""


class Query(NamedTuple):
    """What to search for."""

    root: str
    """The working folder; results are named from there."""
    start: str
    """A file or folder below it, `/` between names, `` for itself."""
    pattern: str
    glob: str | None
    ignore_case: bool
    skip: int
    """Matches that were shown before."""
    limit: int
    """Matches to show."""


class Match(NamedTuple):
    """A line that fits."""

    path: str
    line: int
    text: str


def walk(root: str, start: str) -> Iterator[tuple[str, bool]]:
    """Give all below a folder: path from `root`, and whether it is a folder; symlinks are not followed.

    Folders' entries are sorted by name. Stops after `MAX_ENTRIES`, with an `OverflowError`.
    """
    count = 0
    pending = [start]
    while pending:
        place = pending.pop()
        try:
            entries = sorted(os.scandir(os.path.join(root, place)), key=lambda entry: entry.name)  # noqa: PTH118
        except OSError:
            continue  # not readable, or gone
        below = []
        for entry in entries:
            count += 1
            if count > MAX_ENTRIES:
                raise OverflowError
            path = f"{place}/{entry.name}" if place else entry.name
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in LEFT_OUT:
                    yield path, True
                    below.append(path)
            else:
                yield path, False
        pending.extend(reversed(below))


def glob_filter(pattern: str) -> Callable[[str], bool]:
    """Give a test for paths: `*`, `?` and `[…]` within a name, `**` for any folders, `{a,b}` for one of them.

    A pattern without `/` is one for names, in any folder. Raises `ValueError` if it would take too long.
    """
    if len(pattern) > MAX_GLOB:
        raise ValueError(f"the pattern for names is longer than {MAX_GLOB} characters")
    choices = [_steps(choice) for choice in _braces(pattern.removeprefix("./"))]
    return lambda path: any(_fits(tuple(path.split("/")), choice) for choice in choices)


def _braces(pattern: str) -> list[str]:
    found = re.search(r"\{([^{}]*)\}", pattern)
    if found is None:
        return [pattern]
    texts = [pattern[: found.start()] + part + pattern[found.end() :] for part in found[1].split(",")]
    whole = [text for part in texts for text in _braces(part)]
    if len(whole) > MAX_CHOICES:
        raise ValueError("the pattern stands for too many: use fewer braces")
    return whole


def _steps(pattern: str) -> tuple[str, ...]:
    """Part the pattern at its `/`; several `**` in a row are no more than one."""
    steps = pattern.split("/")
    return tuple(step for at, step in enumerate(steps) if step != "**" or steps[at - 1 : at] != ["**"])


def _fits(names: tuple[str, ...], steps: tuple[str, ...]) -> bool:
    if len(steps) == 1 and steps[0] != "**":
        return _name_pattern(steps[0]).match(names[-1]) is not None
    reached = {0}  # how many of the names may be used up by the steps so far
    for step in steps:
        if step == "**":
            reached = set(range(min(reached), len(names) + 1))
        else:
            fits = _name_pattern(step)
            reached = {at + 1 for at in reached if at < len(names) and fits.match(names[at])}
        if not reached:
            return False
    return len(names) in reached


@lru_cache(maxsize=256)
def _name_pattern(step: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(step))  # its stars don't go back, so it takes no exponential time


def is_binary(beginning: bytes) -> bool:
    """Say whether a file that begins so is no text."""
    return b"\0" in beginning


def search(query: Query) -> Iterator[Match]:
    """Give the lines that fit, file by file, in the order of their paths. Raises `re.error`."""
    pattern = re.compile(query.pattern, re.IGNORECASE if query.ignore_case else 0)
    fits = glob_filter(query.glob) if query.glob else None
    for path in _files(query.root, query.start):
        if fits is not None and not fits(path):
            continue
        lines = _lines(os.path.join(query.root, path))  # noqa: PTH118
        for number, line in enumerate(lines, 1):
            if pattern.search(line):
                yield Match(path, number, line)


def _files(root: str, start: str) -> Iterator[str]:
    if os.path.isfile(os.path.join(root, start)):  # noqa: PTH113, PTH118
        yield start
        return
    for path, is_folder in walk(root, start):
        if not is_folder:
            yield path


def _lines(path: str) -> list[str]:
    try:
        # a link may lead out of the folder, a pipe would be waited for
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return []
    with open(file, "rb") as stream:  # noqa: PTH123
        if not stat.S_ISREG(os.fstat(file).st_mode):
            return []
        try:
            data = stream.read(MAX_FILE_BYTES + 1)
        except OSError:
            return []
    if len(data) > MAX_FILE_BYTES or is_binary(data[:SNIFFED_BYTES]):
        return []
    return data.decode("utf-8", "replace").splitlines()


def main() -> None:
    """Read a query; write each match as it is found as `path:line: text`, and a last line that is JSON."""
    query = Query(**json.load(sys.stdin))
    shown, more, cut = 0, False, False
    try:
        for number, match in enumerate(search(query)):
            if number < query.skip:
                continue
            if shown == query.limit:
                more = True
                break
            text = match.text if len(match.text) <= MAX_LINE else match.text[:MAX_LINE] + " […]"
            print(json.dumps(f"{match.path}:{match.line}: {text}"), flush=True)
            shown += 1
    except re.error as error:
        print(json.dumps({"error": f"the regular expression is not valid: {error}"}))
        return
    except ValueError as error:
        print(json.dumps({"error": str(error)}))
        return
    except OverflowError:
        cut = True
    print(json.dumps({"more": more, "cut": cut}))


if __name__ == "__main__":
    main()
