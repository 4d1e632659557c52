"""Finds what somebody wanted to do later: comments with one of four well-known words (git grep)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from common import GOOD, LOOK, Found, cell, code, count, git, run_check, table

MANY = 50
"""More of them deserve a look."""
WORDS = "TODO|FIXME|XXX|HACK"
PATTERN = rf"(^|[[:space:]])(#|//|/\*|\*|<!--|--|;+|%+)[[:space:]]*({WORDS})([^[:alnum:]_]|$)"


def todos(repo: Path) -> Found:
    """Search the tracked text files."""
    found = git(repo, "grep", "-zInE", "--no-color", PATTERN, success=(0, 1))
    places = [line.split("\0", 2) for line in found.splitlines() if line.count("\0") >= 2]
    if not places:
        return Found(GOOD, "no comment asks for anything")
    words = Counter(next(word for word in WORDS.split("|") if word in text) for _, _, text in places)
    files = {name for name, *_ in places}
    kinds = ", ".join(f"{n:,} {word}" for word, n in words.most_common())
    rows = ((code(f"{name}:{line}", 60), cell(text)) for name, line, text in places)
    finding = f"{count(len(places), 'comment')} in {count(len(files), 'file')} ({kinds})"
    return Found(LOOK if len(places) > MANY else GOOD, finding, table(["place", "comment"], rows))


if __name__ == "__main__":
    run_check(todos)
