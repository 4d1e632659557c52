"""What a task is told of its dependencies: one `<completed-dependencies>` block for its prompt.

The outputs come from other agents and commands, so they are not trusted. Inside the block nothing can look
like the block's own tags: a `<` that begins one, in any case, spacing or look-alike letters, becomes
`&lt;`. All else stays as it is, so that code and markup are still readable.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from html import escape

from allready.agents.base import Dependency
from allready.core.states import TaskState

CONTEXT_BUDGET = 16_384
"""Characters between the block's outer tags: some 4,000 tokens, small beside any model's window."""
SMALLEST_SHARE = 120
"""Characters: an output cut to less than this says nothing; rather leave a dependency out, and say so."""
TITLE_LIMIT = 120
"""Characters of a title that are shown."""
REASON_LIMIT = 500
"""Characters of the reason why a dependency did not complete."""
LONGEST_CLUSTER = 16
"""Characters a cut moves by so as not to part a letter from its marks; more is not writing but an attack."""

OPENING = "<completed-dependencies>\n"
CLOSING = "</completed-dependencies>"
LEFT_OUT = "[{:,} more dependencies left out for lack of room]\n"
LEFT_OUT_ROOM = len(LEFT_OUT.format(999_999_999))


def completed_dependencies(dependencies: Sequence[Dependency], budget: int = CONTEXT_BUDGET) -> str:
    """Give the block that tells a task of `dependencies`, in their order; empty if there are none.

    Between its outer tags stand at most `budget` characters. Outputs share them by need: what short ones
    leave over goes to the long ones, and all that are cut get the same. If not even `SMALLEST_SHARE` is
    left for each, the last dependencies are left out, and a line says how many.
    """
    if budget < 0:
        raise ValueError(f"the context's budget is {budget} characters: give 0 or more")
    if not dependencies:
        return ""
    heads = [_head(dependency) for dependency in dependencies]
    bodies = [_body(dependency) for dependency in dependencies]
    frames = [len(_element(head, "")) for head in heads]
    least = [frame + min(len(body), SMALLEST_SHARE) for frame, body in zip(frames, bodies, strict=True)]
    if sum(least) <= budget:
        shares = share_by_need([len(body) for body in bodies], budget - sum(frames))
        note = ""
    else:
        fitting = _how_many_fit(least, budget - LEFT_OUT_ROOM)
        heads = heads[:fitting]
        shares = [SMALLEST_SHARE] * fitting
        note = LEFT_OUT.format(len(dependencies) - fitting) if budget >= LEFT_OUT_ROOM else ""
    elements = (
        _element(head, cut_middle(body, share))
        for head, body, share in zip(heads, bodies, shares, strict=False)
    )
    return f"{OPENING}{''.join(elements)}{note}{CLOSING}"


def share_by_need(needs: Sequence[int], room: int) -> list[int]:
    """Share `room` among `needs` by max-min fairness: nobody gets more than needed, the rest get alike.

    What the whole numbers leave over (less than one for each) goes to nobody, so that equals stay equal.
    """
    left, waiting = max(room, 0), len(needs)
    level = 0
    for need in sorted(needs):
        level = left // waiting
        if need > level:
            break
        left -= need
        waiting -= 1
        level = need
    return [min(need, level) for need in needs]


def cut_middle(text: str, limit: int) -> str:
    """Give `text` in at most `limit` characters: cut in the middle, where a mark says how many are missing.

    A letter stays with its combining marks. A `limit` too small for the mark gives only the beginning.
    """
    return "".join(cut_parts(text, limit))


def cut_parts(text: str, limit: int) -> tuple[str, str, str]:
    """Give what `cut_middle` puts together: beginning, mark and end; the last two may be empty."""
    if len(text) <= limit:
        return text, "", ""
    kept = 0
    for _ in range(3):  # the mark's own length depends on how much is kept
        kept = limit - len(_cut_mark(len(text) - kept))
    if kept < 0:
        return text[: _cluster_start(text, limit)], "", ""
    end = _cluster_start(text, kept - kept // 2)
    begin = _cluster_end(text, len(text) - kept // 2)
    return text[:end], _cut_mark(begin - end), text[begin:]


def clean(text: str) -> str:
    """Give `text` without control characters (newlines and tabs stay) and without any tag of the block."""
    return _neutralise(printable(text))


# --- the parts of an element ------------------------------------------------------------------------------


def _head(dependency: Dependency) -> str:
    attributes = {"id": dependency.id, "title": dependency.title, "status": dependency.status}
    written = (f' {name}="{_attribute(value)}"' for name, value in attributes.items() if value)
    return f"<task{''.join(written)}>"


def _attribute(value: str) -> str:
    line = " ".join(printable(value).split())
    if len(line) > TITLE_LIMIT:
        line = line[: _cluster_start(line, TITLE_LIMIT - 1)] + "…"
    return escape(line)


def _body(dependency: Dependency) -> str:
    if dependency.status == TaskState.COMPLETED:
        return clean(dependency.result.output) if dependency.result else ""
    reason = cut_middle(clean(dependency.error or "").strip(), REASON_LIMIT)
    return f"[no output: the task is {clean(dependency.status)}{': ' if reason else ''}{reason}]"


def _element(head: str, body: str) -> str:
    return f"{head}\n{body}\n</task>\n"


def _how_many_fit(sizes: Sequence[int], room: int) -> int:
    for count, size in enumerate(sizes):
        room -= size
        if room < 0:
            return count
    return len(sizes)


# --- cutting ----------------------------------------------------------------------------------------------


def _cut_mark(missing: int) -> str:
    return f"\n[… {missing} characters left out …]\n"


def _cluster_start(text: str, index: int) -> int:
    """Give the nearest place at or before `index` where a cut parts no character from its marks."""
    for place in range(index, max(index - LONGEST_CLUSTER, 0), -1):
        if not _continues(text, place):
            return place
    return max(index - LONGEST_CLUSTER, 0)


def _cluster_end(text: str, index: int) -> int:
    """Give the nearest place at or after `index` where a cut parts no character from its marks."""
    stop = min(index + LONGEST_CLUSTER, len(text))
    for place in range(index, stop):
        if not _continues(text, place):
            return place
    return stop


def _continues(text: str, place: int) -> bool:
    if not 0 < place < len(text):
        return False
    joiner = "\u200d"
    return text[place] == joiner or text[place - 1] == joiner or unicodedata.category(text[place])[0] == "M"


# --- cleaning ---------------------------------------------------------------------------------------------

_TERMINAL_CODE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?)")
_LINE_BREAK = re.compile("\r\n|[\r\x85\u2028\u2029]")
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters
    "\u202a-\u202e\u2066-\u2069"  # direction overrides: what is read differs from what is there
    "\U000e0000-\U000e007f]"  # invisible ASCII, used to hide instructions from people
)
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def printable(text: str) -> str:
    """Give `text` without control characters; newlines, all made alike, and tabs stay."""
    text = _LINE_BREAK.sub("\n", _TERMINAL_CODE.sub("", text))
    return _LONE_SURROGATE.sub("\ufffd", _UNSEEN.sub("", text))


_LOOK_ALIKES = {
    "<": "‹«˂ᐸ⟨〈〈❮❬⧼≺𐌂",
    ">": "›»˃ᐳ⟩〉〉❯❭⧽≻",
    "a": "аαɑ",
    "c": "сϲ",
    "d": "ԁɗ",
    "e": "еҽєε",
    "k": "кκ",
    "l": "i1|іıιɩӏǀ",
    "m": "м",
    "n": "ոпη",
    "o": "0оοօ",
    "p": "рρ",
    "s": "ѕꜱ",
    "t": "тτ",
}
"""What passes for an ASCII character beyond Unicode's own compatibility forms (which the table finds by
itself); after https://www.unicode.org/reports/tr39/, cut down to the letters of our two tags."""


class _Skeleton(dict[int, str]):
    """Translation to what a character looks like: one of `a-z0-9<>`, `?` for other letters, else a space.

    Filled as characters are met; one for one, so that places in the skeleton are places in the text.
    """

    def __missing__(self, code: int) -> str:
        self[code] = shape = self._shape(chr(code))
        return shape

    @staticmethod
    def _shape(character: str) -> str:
        folded = "".join(
            part
            for part in unicodedata.normalize("NFKD", character.lower())
            if not unicodedata.combining(part)
        ).lower()
        for shape, others in _LOOK_ALIKES.items():
            if folded in others and folded:
                return shape
        if len(folded) == 1 and folded.isascii():
            return folded if folded.isalnum() or folded in "<>" else " "
        return "?" if folded.isalnum() else " "


_SKELETON = _Skeleton()


def _spelled(name: str) -> str:
    return " *".join(name.translate(_SKELETON))


_TAG_START = re.compile(rf"<(?= *{_spelled('task')}|[^<>]*{_spelled('completeddependencies')})")


def _neutralise(text: str) -> str:
    places = [found.start() for found in _TAG_START.finditer(text.translate(_SKELETON))]
    parts, begin = [], 0
    for place in places:
        parts += [text[begin:place], "&lt;"]
        begin = place + 1
    return "".join([*parts, text[begin:]])
