"""Tells how large it is, in what languages, and leaves the line counts of all files in its artifacts."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

from common import GOOD, LOOK, NOT_APPLICABLE, Found, bar, code, count, run_check, table, tracked
from facts import language

LARGE = 1024 * 1024
"""Bytes; larger tracked files make every clone slow."""
LONGEST = 32 * 1024 * 1024
"""Bytes of a file that are read to count its lines."""


def lines_of(path: Path) -> int:
    """Count the lines of a text file; 0 for anything else."""
    with path.open("rb") as file:
        text = file.read(LONGEST)
    if b"\0" in text[:8192]:
        return 0
    return text.count(b"\n") + (not text.endswith(b"\n") and text != b"")


def files(repo: Path) -> Found:
    """Count files, lines and bytes."""
    names = tracked(repo)
    if not names:
        return Found(NOT_APPLICABLE, "no tracked file")
    lines = {name: lines_of(repo / name) for name in names}
    sizes = {name: (repo / name).stat().st_size for name in names}
    if "ALLREADY_ARTIFACTS" in os.environ:
        Path(os.environ["ALLREADY_ARTIFACTS"], "lines.json").write_text(json.dumps(lines), encoding="utf-8")
    total = sum(lines.values())
    by_language: Counter[str] = Counter()
    for name, number in lines.items():
        by_language[language(name)] += number
    number_of = Counter(map(language, names))
    languages = (
        (name, f"{number_of[name]:,}", f"{n:,}", f"{bar(n / max(total, 1))} {n / max(total, 1):.0%}")
        for name, n in by_language.most_common()
    )
    largest = sorted(sizes, key=lambda name: -sizes[name])
    large = [name for name in largest if sizes[name] > LARGE]
    finding = f"{count(total, 'line')} in {count(len(names), 'file')}, {readable(sum(sizes.values()))}"
    if large:
        finding += f"; {count(len(large), 'file')} of more than 1 MB"
    top = ((code(name), readable(sizes[name]), f"{lines[name]:,}") for name in largest[:5])
    details = [
        table(["language", "files:", "lines:", "share"], languages, 8),
        "The largest files:\n",
        table(["file", "size:", "lines:"], top),
    ]
    return Found(LOOK if large else GOOD, finding, "\n".join(details))


def readable(size: float) -> str:
    """Write a number of bytes for people."""
    for unit in ("bytes", "KB", "MB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:,.1f} GB"


if __name__ == "__main__":
    run_check(files)
