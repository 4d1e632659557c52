"""`Spoken`: text of a model as it comes, secrets blanked, shown and kept at once."""

from __future__ import annotations

import codecs
import contextlib
from collections.abc import Iterator
from typing import Self

from allready.agents.base import Attempt
from allready.agents.output import OUTPUT_FILE, clean_text
from allready.agents.secrets import Redactor
from allready.errors import TaskError


class Spoken:
    """What a model says in an attempt, on its way to whoever looks on, and to the attempt's `output.txt`."""

    def __init__(self, attempt: Attempt) -> None:
        self.file = attempt.folder / OUTPUT_FILE
        self._redactor = attempt.redactor or Redactor()
        self._on_output = attempt.on_output
        self._written: list[str] = []
        self._shown = "\n"
        """The end of what was shown."""
        self._ended = False
        """Whether what comes next is another answer."""
        self._begin()

    def _begin(self) -> None:
        self._stream = self._redactor.stream()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def __enter__(self) -> Self:
        with self._failures():
            self._handle = self.file.open("w", encoding="utf-8", newline="")
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # all was flushed before
            self._handle.close()

    @property
    def so_far(self) -> str:
        """What the file holds as long as it is not finished."""
        return "".join(self._written)

    def text(self, piece: str) -> None:
        """Take the next piece of an answer."""
        self._pass_on(self._decoder.decode(self._stream.feed(clean_text(piece).encode())))

    def end_of_answer(self) -> None:
        """Let go what was held back: the answer ends here; another one begins on a line of its own."""
        self._pass_on(self._decoder.decode(self._stream.flush(), final=True))
        self._begin()
        self._ended = True

    def go_on(self, text: str) -> None:
        """Add to the answer that ended last."""
        self._ended = False
        self.text(text)

    def line(self, line: str) -> None:
        """Show a line that is no part of an answer."""
        self._show(f"{self._redactor.text(clean_text(line))}\n", own_line=True)

    def finish(self, text: str) -> str:
        """Make `text` the file's content; give it with its secrets blanked."""
        self.end_of_answer()
        text = self._redactor.text(clean_text(text))
        if self.so_far != text:
            with self._failures():
                self._handle.seek(0)
                self._handle.truncate()
                self._handle.write(text)
                self._handle.flush()
        return text

    def _pass_on(self, text: str) -> None:
        if not text:
            return
        own_line, self._ended = self._ended, False
        self._show(text, own_line=own_line)
        if own_line and self._written and not self._written[-1].endswith("\n"):
            text = f"\n{text}"
        self._written.append(text)
        with self._failures():
            self._handle.write(text)
            self._handle.flush()

    def _show(self, text: str, *, own_line: bool) -> None:
        if own_line and not self._shown.endswith("\n"):
            text = f"\n{text}"
        self._shown = text
        if self._on_output is not None:
            self._on_output(text)

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise TaskError(f"the output can't be written to {self.file}: {error.strerror}") from error
