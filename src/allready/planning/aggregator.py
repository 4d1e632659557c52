"""The answer to a goal from what the tasks gave: by a model, or put together without one."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

from allready.agents.base import Dependency
from allready.agents.context import TITLE_LIMIT, cut_parts, printable, share_by_need
from allready.agents.usage import Usage
from allready.errors import TaskError, TransientError
from allready.planning.prompts import AGGREGATOR, SHOWN_MISSING, answer_prompt, missing_line
from allready.planning.requests import CUT_OFF, Request

if TYPE_CHECKING:
    from pydantic_ai.models import Model

ANSWER_BUDGET = 32_768
"""Characters of outputs that the model is given: some 8,000 tokens, twice what a single task gets."""
COMPOSED_LIMIT = 60_000
"""Characters of outputs in an answer that is put together without a model."""
MISSING_TITLE = "## Missing"
BREAKS_OFF = "_The answer breaks off here: it was longer than the model may write._"
NOTHING = "No task gave anything."

_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})(.*)$", re.MULTILINE)


class LlmAggregator:
    """Answers goals with a model; without one, or if it fails, the outputs are put together as they are.

    `on_text` is called with each piece of the answer as it comes, `allow` before the request, which it may
    refuse with a `TransientError`, `on_usage` after it. `budget` is the number of characters of outputs that
    the model is shown.
    """

    def __init__(
        self,
        model: Model | None,
        *,
        on_text: Callable[[str], None] | None = None,
        on_usage: Callable[[Usage], None] | None = None,
        allow: Callable[[], None] | None = None,
        budget: int = ANSWER_BUDGET,
        name: str | None = None,
    ) -> None:
        self._model = model
        self._name = name
        self._on_text = on_text
        self._on_usage = on_usage
        self._allow = allow
        self._budget = budget

    async def answer(self, goal: str, outputs: Sequence[Dependency], missing: Sequence[Dependency]) -> str:
        """Give the answer as Markdown; the ids of all that are `missing` stand in it.

        Raises `TransientError` if the provider refuses for now (what came until then was told to `on_text`),
        or `allow` does. An answer of more than `requests.MAX_CHARACTERS` is cut off there. Whatever else goes
        wrong is said in a note above the composition that is given then.
        """
        model = self._model
        if model is None or not outputs:
            return self._composed(goal, outputs, missing, None)
        if self._allow is not None:
            self._allow()
        prompt = answer_prompt(goal, outputs, missing, self._budget)
        request = Request(model, AGGREGATOR, prompt, None, self._on_usage, name=self._name)
        pieces: list[str] = []
        try:
            async with aclosing(request.pieces()) as stream:
                async for piece in stream:
                    pieces.append(printable(piece))
                    self._tell(pieces[-1])
        except TransientError:
            raise
        except TaskError as error:
            return self._composed(goal, outputs, missing, str(error))
        text = "".join(pieces).strip()
        if not text:
            return self._composed(goal, outputs, missing, f"{self._name or model.model_id} gave no text")
        rest = _rest(text, missing, cut_off=request.finish_reason == CUT_OFF)
        if rest:
            self._tell(rest)
        return text + rest

    def _composed(
        self, goal: str, outputs: Sequence[Dependency], missing: Sequence[Dependency], why: str | None
    ) -> str:
        note = None if why is None else f"No model put this answer together: {why}"
        text = compose(goal, outputs, missing, note=note)
        self._tell(text)
        return text

    def _tell(self, text: str) -> None:
        if self._on_text is not None:
            self._on_text(text)


def _rest(text: str, missing: Sequence[Dependency], *, cut_off: bool) -> str:
    """Give what a model's answer lacks: an end, and the tasks that gave nothing."""
    unnamed = [task for task in missing if f"`{task.id}`" not in text]
    parts = [BREAKS_OFF] if cut_off else []
    if unnamed:
        parts.append(_missing_section(unnamed))
    if not parts:
        return ""
    return _closing(text) + "\n\n" + "\n\n".join(parts)


def compose(
    goal: str,
    outputs: Sequence[Dependency],
    missing: Sequence[Dependency],
    *,
    note: str | None = None,
    limit: int = COMPOSED_LIMIT,
) -> str:
    """Put outputs together as Markdown, without a model: each under a heading, then what is missing and why.

    The outputs share `limit` characters by need; one that is cut says so. A single output with nothing
    missing and no `note` is given as it is.
    """
    texts = [printable(task.result.output if task.result else "").strip("\n") for task in outputs]
    shares = share_by_need([len(text) for text in texts], limit)
    texts = [_cut(text, share) for text, share in zip(texts, shares, strict=True)]
    if len(texts) == 1 and not missing and note is None:
        return texts[0]
    heading = _line(goal)
    parts = [f"# {heading}"] if heading else []
    if note is not None:
        parts.append(f"> {_line(note, None)}")
    parts += [
        f"## {_line(task.title or '') or task.id}\n\n{text or '(no output)'}"
        for task, text in zip(outputs, texts, strict=True)
    ]
    if not outputs:
        parts.append(NOTHING)
    if missing:
        parts.append(_missing_section(missing))
    return "\n\n".join(parts)


def _missing_section(missing: Sequence[Dependency]) -> str:
    lines = [f"- {missing_line(task)}" for task in missing[:SHOWN_MISSING]]
    rest = ", ".join(f"`{task.id}`" for task in missing[SHOWN_MISSING:])
    return "\n".join([MISSING_TITLE, "", *lines, *([f"- and {rest}"] if rest else [])])


def _line(text: str, limit: int | None = TITLE_LIMIT) -> str:
    line = " ".join(printable(text).split())
    return line if limit is None or len(line) <= limit else f"{line[: limit - 1]}…"


# --- fences -----------------------------------------------------------------------------------------------


def _cut(text: str, limit: int) -> str:
    """Cut Markdown in the middle; code that the cut goes through is code on both sides of it."""
    begin, mark, end = cut_parts(text, limit)
    opened = _open_fence(text[: len(text) - len(end)]) if mark else None
    if opened is not None:
        end = f"{opened}\n{end}"
    return begin + (_closing(begin) if mark else "") + mark + end + _closing(end if mark else begin)


def _closing(text: str) -> str:
    """Give what closes the code block that `text` leaves open."""
    opened = _open_fence(text)
    return "" if opened is None else f"\n{opened}"


def _open_fence(text: str) -> str | None:
    """Give the fence of the code block that is open at the end of `text`, as CommonMark has it (§ 4.5)."""
    opened: str | None = None
    for found in _FENCE.finditer(text):
        fence, info = found[1], found[2]
        if opened is None:
            if fence[0] == "~" or "`" not in info:
                opened = fence
        elif fence[0] == opened[0] and len(fence) >= len(opened) and not info.strip():
            opened = None
    return opened
