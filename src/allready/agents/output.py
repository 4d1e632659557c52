"""Outputs kept within bounds: the beginning and the end of a text, with a mark in place of the middle."""

from __future__ import annotations

import codecs
import re

from allready.agents.base import OUTPUT_LIMIT

OUTPUT_FILE = "output.txt"
"""Where an attempt's output is, in its folder."""
_MARK = "\n[… {} bytes left out …]\n"
_MARK_ROOM = 64
"""Bytes kept free for the mark; enough for the count of any output."""
_STEP = 64 * 1024
"""Characters of a finished text that are looked at in one go."""
_SURROGATE = re.compile("[\ud800-\udfff]")


def clean_text(text: str) -> str:
    """Replace what stores, arguments and UTF-8 can't hold (NUL, lone surrogates) by U+FFFD."""
    text = text.replace("\0", "\ufffd")
    try:
        text.encode()
    except UnicodeEncodeError:
        return _SURROGATE.sub("\ufffd", text)
    return text


def without_last_newline(text: str) -> str:
    r"""Take off one `\n` (or `\r\n`) at the end, as a shell's `$(…)` does for all of them."""
    return text[:-2] if text.endswith("\r\n") else text.removesuffix("\n")


def cut_middle(text: str, limit: int = OUTPUT_LIMIT) -> str:
    """Give the text in at most `limit` bytes of UTF-8: whole if it fits, else with its middle left out."""
    if len(text) * 4 <= limit:
        return clean_text(text)
    bounded = BoundedText(limit)
    for start in range(0, len(text), _STEP):
        bounded.feed_text(text[start : start + _STEP])
    return bounded.text()


class BoundedText:
    """The beginning and the end of a stream of bytes as text, in memory that does not grow with the stream.

    Bytes that are not UTF-8, and NUL, become U+FFFD. `limit` is in bytes of the resulting text's UTF-8.
    """

    def __init__(self, limit: int = OUTPUT_LIMIT) -> None:
        if limit < 2 * _MARK_ROOM:
            raise ValueError(f"a limit of {limit} bytes leaves no room for text beside the mark")
        self._limit = limit
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._head = bytearray()
        self._tail = bytearray()
        self.total = 0
        """Bytes of the whole text as UTF-8."""

    def feed(self, data: bytes) -> str:
        """Take the next piece; give its text (a character split between pieces comes with the later one)."""
        return self.feed_text(self._decoder.decode(data))

    def finish(self) -> str:
        """Give the text of what was left incomplete at the end of the stream; call it once, at the end."""
        return self.feed_text(self._decoder.decode(b"", final=True))

    def feed_text(self, text: str) -> str:
        """Take a piece that is text already; give it as it is kept."""
        text = clean_text(text)
        data = text.encode()  # twice with the look for surrogates, which no other look does quicker
        self.total += len(data)
        room = self._limit - len(self._head)
        self._head += data[:room]
        self._tail += data[max(room, len(data) - self._limit) :]
        if len(self._tail) > 2 * self._limit:
            del self._tail[: -self._limit]
        return text

    def text(self) -> str:
        """Give what was kept: all of it, or the beginning, a mark with the bytes left out, and the end."""
        kept = bytes(self._head + self._tail)
        if self.total <= self._limit:
            return kept.decode()
        half = (self._limit - _MARK_ROOM) // 2
        head = kept[:half].decode(errors="ignore")
        tail = kept[-half:].decode(errors="ignore")
        left_out = self.total - len(head.encode()) - len(tail.encode())
        return head + _MARK.format(left_out) + tail
