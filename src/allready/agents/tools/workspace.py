"""Files of one folder, for a model: read, listed and written within bounds, and nothing outside of it.

What a model asks for and can mend is refused with `Refused`, whose text is for the model.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from allready.agents.output import clean_text
from allready.agents.tools.finding import SNIFFED_BYTES, glob_filter, is_binary, walk

MAX_LINES = 2_000
"""Lines that are read in one go, unless fewer are asked for."""
MAX_CHARACTERS = 30_000
"""Of one result; about 8,000 tokens."""
MAX_LINE = 2_000
"""Characters of one line that are shown; the rest is left out, and that is said."""
MAX_SKIPPED = 256 * 1024 * 1024
"""Bytes of a file before the lines that are asked for."""
MAX_LISTED = 1_000
"""Names in one list."""
MAX_EDITED_BYTES = 10 * 1024 * 1024
"""Of a file that is edited: it is in memory twice."""
MAX_WRITTEN = 1024 * 1024
"""Characters that are written in one go; no model writes more in one answer."""
PROTECTED: Mapping[str, str] = {
    ".git": "hooks, and programs that git calls",
    ".allready": "agents and servers",
    "allready.toml": "the model and the limits of runs",
    ".claude": "agents and hooks",
    ".mcp.json": "servers",
    ".github": "what runs after a push, with the repository's secrets",
    ".husky": "hooks of git",
    ".pre-commit-config.yaml": "hooks of git",
    ".envrc": "what runs when the folder is entered",
    ".vscode": "tasks that run when the folder is opened",
}
"""Names that are not written to, nor below them → what they say that others will run, without being asked."""
PROTECTED_AT_HOME: Mapping[str, str] = {
    **dict.fromkeys((".profile", ".bash_profile", ".bash_login", ".bashrc"), "what runs in each shell"),
    **dict.fromkeys((".zshenv", ".zprofile", ".zshrc", ".zlogin"), "what runs in each shell"),
    ".config": "settings of programs, and what runs at login",
    ".gitconfig": "programs that git calls",
    ".ssh": "who may log in, and programs that ssh calls",
}
"""The same for names right in the user's home folder, if that is what is worked on."""

_PIECE = 64 * 1024
_writing = threading.Lock()
"""Two edits of one file at the same time would lose one; they take no time, so one lock for all will do."""


class Refused(Exception):
    """What was asked for can't be done; the text says why, and what to do instead."""


class Workspace:
    """The folder, and what may be done in it. Paths are relative to it. All methods block."""

    def __init__(self, folder: Path) -> None:
        self._folder = Path(os.path.realpath(folder))

    # --- reading

    def read(self, path: str, offset: int = 1, limit: int = MAX_LINES) -> str:
        """Give lines of a text file, from line `offset`."""
        if offset < 1 or limit < 1:
            raise Refused("offset and limit count lines from 1")
        shown: list[str] = []
        room = MAX_CHARACTERS
        with self._open(path) as file:
            _refuse_binary(file, path)
            number = _skip_lines(file, offset - 1)
            for line in _lines(file):
                if len(shown) >= min(limit, MAX_LINES) or (shown and len(line) > room):
                    next_line = offset + len(shown)
                    shown.append(f"[… {path} goes on: read on with offset={next_line}]\n")
                    break
                room -= len(line)
                shown.append(line)
        if not shown and offset > 1:
            raise Refused(f"{path} has only {number:,} lines")
        return "".join(shown) or f"[{path} is empty]"

    def list(self, path: str = ".", pattern: str | None = None) -> str:
        """Give a folder's entries, or all files below it whose paths fit a pattern."""
        place = self._resolve(path)
        if not place.is_dir():
            raise Refused(f"{path} is no folder" if place.exists() else f"there is no folder {path}")
        start = self._name(place)
        try:
            if pattern is None:
                found = sorted(
                    entry.name + ("/" if entry.is_dir(follow_symlinks=False) else "")
                    for entry in os.scandir(place)
                )
            else:
                found = list(self._matching(start, pattern))
        except OverflowError:
            raise Refused(f"{path} holds too many files: name a folder below it") from None
        except ValueError as error:
            raise Refused(str(error)) from None
        if not found:
            return "[no files]" if pattern else f"[{path} is empty]"
        return _bounded(found)

    def start_of(self, path: str) -> str:
        """Give a file or folder as a search wants it: from the folder, real, `` for the folder itself."""
        place = self._resolve(path)
        if not place.exists():
            raise Refused(f"there is no {path}")
        return self._name(place)

    @property
    def folder(self) -> Path:
        """The real path of the folder."""
        return self._folder

    def _name(self, place: Path) -> str:
        return "" if place == self._folder else place.relative_to(self._folder).as_posix()

    def _matching(self, start: str, pattern: str) -> Iterator[str]:
        fits = glob_filter(pattern)
        for path, is_folder in walk(str(self._folder), start):
            if not is_folder and fits(path.removeprefix(f"{start}/") if start else path):
                yield path

    # --- writing

    def write(self, path: str, content: str) -> str:
        """Make or replace a text file."""
        if len(content) > MAX_WRITTEN:
            raise Refused(f"the text is longer than {MAX_WRITTEN:,} characters: write it in parts, by edits")
        place = self._resolve(path, writing=True)
        with _writing:
            there = place.exists()
            self._replace(place, path, clean_text(content).encode())
        return f"{path} was {'replaced' if there else 'written'}: {len(content):,} characters"

    def edit(self, path: str, old: str, new: str, replace_all: bool = False) -> str:
        """Replace a text that is in a file exactly once, or everywhere."""
        if not old:
            raise Refused("old is empty: give the text to replace, or use write_file for a new file")
        if old == new:
            raise Refused("old and new are the same: nothing to do")
        place = self._resolve(path, writing=True)
        with _writing:
            with self._open(path) as file:
                data = file.read(MAX_EDITED_BYTES + 1)
            if len(data) > MAX_EDITED_BYTES:
                raise Refused(f"{path} is larger than {MAX_EDITED_BYTES // 1024**2} MiB: it can't be edited")
            if is_binary(data[:SNIFFED_BYTES]):
                raise Refused(f"{path} is no text file: it can't be edited")
            text = data.decode("utf-8", "surrogateescape")  # bytes that are no UTF-8 stay what they are
            if old not in text and "\r\n" in text:
                old, new = (part.replace("\r\n", "\n").replace("\n", "\r\n") for part in (old, new))
            count = text.count(old)
            if count == 0:
                raise Refused(
                    f"the text is not in {path}: read it again; blanks and line ends must be the same"
                )
            if count > 1 and not replace_all:
                raise Refused(
                    f"the text is in {path} {count} times: give more of what is around it, or set replace_all"
                )
            result = text.replace(old, clean_text(new))
            self._replace(place, path, result.encode("utf-8", "surrogateescape"))
        return f"{path} was changed in {count} place{'s' if count > 1 else ''}"

    def _replace(self, place: Path, path: str, data: bytes) -> None:
        """Write to a file beside it and rename that: a reader sees the old text or the new one, whole."""
        if place.is_dir():
            raise Refused(f"{path} is a folder")
        if place.exists() and not place.is_file():
            raise Refused(f"{path} is no regular file")
        temporary = place.with_name(f".{secrets.token_hex(8)}.tmp")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            mode = stat.S_IMODE(place.stat().st_mode) if place.exists() else None
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            with open(os.open(temporary, flags, 0o666), "wb") as file:  # noqa: PTH123
                if mode is not None:
                    os.fchmod(file.fileno(), mode)
                file.write(data)
            temporary.replace(place)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise Refused(f"{path} can't be written: {error.strerror}") from None

    # --- paths

    def _resolve(self, path: str, *, writing: bool = False) -> Path:
        """Give the real path of what is meant; refuse what is not below the folder."""
        try:
            place = Path(os.path.realpath(self._folder / path))
        except (OSError, ValueError):
            raise Refused(f"{path!r} is no path") from None
        if not place.is_relative_to(self._folder):
            raise Refused(f"{path} is not below the working folder: only files in there can be used")
        if writing:
            self._refuse_protected(place, path)
        return place

    def _refuse_protected(self, place: Path, path: str) -> None:
        home = _home()
        while place != self._folder:
            name = place.name.lower()  # there are file systems to which upper and lower case are the same
            reason = PROTECTED.get(name) or (place.parent == home and PROTECTED_AT_HOME.get(name))
            if reason:
                raise Refused(f"{path}: {name} can't be written: it says what others run ({reason})")
            place = place.parent

    def _open(self, path: str) -> IO[bytes]:
        place = self._resolve(path)
        try:
            # the last name is no link any more; a pipe or a device must not be waited for
            number = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            raise Refused(f"there is no file {path}; list_files shows what there is") from None
        except (OSError, ValueError) as error:
            raise Refused(f"{path} can't be read: {getattr(error, 'strerror', None) or error}") from None
        kind = os.fstat(number).st_mode
        if stat.S_ISREG(kind):
            return open(number, "rb")  # noqa: PTH123
        os.close(number)
        raise Refused(f"{path} is a folder: use list_files" if stat.S_ISDIR(kind) else f"{path} is no file")


def _home() -> Path | None:
    try:
        return Path(os.path.realpath(Path.home()))
    except RuntimeError:  # a user without an entry, as in some containers
        return None


def _refuse_binary(file: IO[bytes], path: str) -> None:
    if is_binary(file.read(SNIFFED_BYTES)):
        size = os.fstat(file.fileno()).st_size
        raise Refused(f"{path} is no text file ({size:,} bytes): it can't be read here")
    file.seek(0)


def _skip_lines(file: IO[bytes], count: int) -> int:
    """Go on behind so many lines; give how many there were."""
    skipped, size, is_open = 0, 0, False
    while skipped < count and (piece := file.readline(_PIECE)):
        size += len(piece)
        if size > MAX_SKIPPED:
            raise Refused(f"line {count + 1:,} is too far into the file: search_files finds lines in it")
        is_open = not piece.endswith(b"\n")
        skipped += not is_open
    return skipped + is_open


def _lines(file: IO[bytes]) -> Iterator[str]:
    """Give the lines with their ends, long ones cut."""
    while piece := file.readline(MAX_LINE * 4):
        text = piece.decode("utf-8", "replace")
        left_out = 0
        while not piece.endswith(b"\n") and left_out < MAX_SKIPPED and (piece := file.readline(_PIECE)):
            left_out += len(piece)
        if len(text) > MAX_LINE + 2 or left_out:
            text = f"{text[:MAX_LINE]} [… the rest of this line is left out]\n"
        yield clean_text(text)


def _bounded(lines: list[str]) -> str:
    """Give at most `MAX_LISTED` lines, as one text of at most `MAX_CHARACTERS`."""
    room = MAX_CHARACTERS
    for number, line in enumerate(lines):
        room -= len(line) + 1
        if room < 0 or number == MAX_LISTED:
            left_out = f"[… and {len(lines) - number:,} more: narrow it down]"
            return clean_text("\n".join([*lines[:number], left_out]))
    return clean_text("\n".join(lines))
