"""Command lines with templates in them: splitting, and what is safe in a shell."""

from __future__ import annotations

import re
from collections.abc import Iterator

_OPENING = re.compile(r"\{\{|\{%")
_RAW = re.compile(r"\{%[-+]?\s*raw\s*[-+]?%\}")
_END_RAW = re.compile(r"\{%[-+]?\s*endraw\s*[-+]?%\}")
_QUOTED = r"""'[^'\\]*(?:\\.[^'\\]*)*'|"[^"\\]*(?:\\.[^"\\]*)*\""""
_INSIDE = re.compile(rf"""{_QUOTED}|[\[({{]|[\])}}]|[^'"\[({{\])}}%]+|.""", re.DOTALL)
_NO_SHELL_SYNTAX = re.compile(r"[\w ./:=,@%+-]*", re.ASCII)
_PLACEHOLDER = re.compile("\0([0-9]+)\0")
_PIECE = re.compile(
    r"""([ \t\r\n]+)|([^ \t\r\n'"\\]+)|'([^']*)'|"([^"\\]*(?:\\.[^"\\]*)*)"|\\(.)""", re.DOTALL
)
"""Of a command: a blank, plain text, text in quotes (of two kinds), a character after a backslash."""
_ESCAPED = re.compile(r"""\\(["\\])""")
_ENDS_RAW = re.compile(r"\|\s*raw\s*[-+]?\}\}$")


def has_template(text: str) -> bool:
    """Say whether Jinja2 would find anything to do in the text."""
    return "{{" in text or "{%" in text


def is_raw(text: str, start: int) -> bool:
    """Say whether the template that starts there is `{% raw %}`, so that what follows is plain text."""
    return _RAW.match(text, start) is not None


def template_spans(text: str) -> Iterator[tuple[int, int]]:
    """Give start and end of each `{{ … }}` and `{% … %}`, with `{% raw %}` up to its end as one.

    Raises `ValueError` if one is not closed.
    """
    position = 0
    while found := _OPENING.search(text, position):
        start = found.start()
        raw = _RAW.match(text, start)
        if raw:
            end_raw = _END_RAW.search(text, raw.end())
            if not end_raw:
                raise ValueError("{% raw %} is not closed with {% endraw %}")
            position = end_raw.end()
        else:
            position = _closing(text, found)
        yield start, position


def _closing(text: str, opening: re.Match[str]) -> int:
    """Find the end of the template that `opening` begins; brackets and quotes hide it, as in Jinja2."""
    closing = "}}" if opening[0] == "{{" else "%}"
    depth, position = 0, opening.end()
    while position < len(text):
        if depth == 0 and text.startswith(closing, position):
            return position + len(closing)
        found = _INSIDE.match(text, position)
        if found is None or found[0] in ("'", '"'):  # a quote that is not closed
            break
        if found[0] in ("(", "[", "{"):
            depth += 1
        elif found[0] in (")", "]", "}"):
            depth -= 1
        position = found.end()
    raise ValueError(f"{opening[0]} is not closed with {closing}: {text[opening.start() :][:40]!r}")


def split_command(text: str) -> tuple[str, ...]:
    """Split a command as a POSIX shell would, without doing anything else that a shell does.

    Templates are kept whole within their argument, whatever is inside them. Raises `ValueError` if a quote or
    a template is not closed.
    """
    if _NO_SHELL_SYNTAX.fullmatch(text):
        return tuple(text.split())
    if "\0" in text:
        raise ValueError("a command can't hold a NUL character")
    pieces: list[str] = []
    templates: list[str] = []
    position = 0
    for start, end in template_spans(text):
        pieces += (text[position:start], f"\0{len(templates)}\0")
        templates.append(text[start:end])
        position = end
    pieces.append(text[position:])
    arguments = _split("".join(pieces))
    return tuple(_PLACEHOLDER.sub(lambda found: templates[int(found[1])], argument) for argument in arguments)


def _split(text: str) -> list[str]:
    """Do what `shlex.split` does, which takes the square of an argument's length."""
    arguments: list[str] = []
    argument: list[str] = []  # its pieces; [""] stands for one that is empty
    position = 0
    while position < len(text):
        found = _PIECE.match(text, position)
        if found is None:
            what = "a backslash at the end" if text[position] == "\\" else "a quote that is not closed"
            raise ValueError(f"the command has {what}")
        position = found.end()
        blank, plain, single, double, escaped = found.groups()
        if blank is not None:
            if argument:
                arguments.append("".join(argument))
            argument = []
        elif double is not None:
            argument.append(_ESCAPED.sub(r"\1", double))
        else:
            argument.append(plain or single or escaped or "")
    if argument:
        arguments.append("".join(argument))
    return arguments


def unsafe_in_shell(text: str) -> str | None:
    """Give the first template whose value, though quoted, is not safe where it stands in a shell command.

    A value comes with its own quotes; inside other quotes, backticks or a here-document these would not
    protect. Values through the filter `raw` are the author's affair. Raises `ValueError` as `template_spans`.
    """
    state = _ShellState()
    position = 0
    for start, end in template_spans(text):
        state.read(text[position:start])
        template = text[start:end]
        if template.startswith("{{") and not _ENDS_RAW.search(template) and not state.safe:
            return template
        state.read_value()
        position = end
    return None


class _ShellState:
    """Where in shell syntax we are; rather too careful than too trusting."""

    def __init__(self) -> None:
        self.quote: str | None = None
        self.backtick = False
        self.here_document = False
        self.escaped = False
        self.before = " "

    @property
    def safe(self) -> bool:
        return not (self.quote or self.backtick or self.here_document or self.escaped)

    def read_value(self) -> None:
        self.before, self.escaped = "x", False

    def read(self, text: str) -> None:
        for character in text:
            self._read_one(character)
            self.before = character

    def _read_one(self, character: str) -> None:
        if self.quote == "#":
            if character == "\n":
                self.quote = None
        elif self.escaped:
            self.escaped = False
        elif character == "\\" and self.quote != "'":
            self.escaped = True
        elif self.quote:
            if character == self.quote:
                self.quote = None
        elif character in "'\"":
            self.quote = character
        elif character == "`":
            self.backtick = not self.backtick
        elif character == "#" and self.before in " \t\n;&|(":
            self.quote = "#"
        elif character == "<" and self.before == "<":
            self.here_document = True
