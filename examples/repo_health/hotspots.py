"""Finds files that are large and change often: there work is expensive and mistakes are likely (git log)."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

from common import GOOD, LOOK, NOT_APPLICABLE, Found, code, count, git, run, run_check, table

MOST_COMMITS = 5_000
MANY_LINES, MANY_CHANGES = 500, 10
"""A file beyond both deserves a look."""


def hotspots(repo: Path) -> Found:
    """Multiply lines, which the task `files` counted, by changes."""
    counted = Path(os.environ["ALLREADY_DEPS"], "files", "artifacts", "lines.json")
    if not counted.is_file() or run(["git", "rev-parse", "-q", "--verify", "HEAD"], repo).returncode:
        return Found(NOT_APPLICABLE, "nothing committed yet")
    lines: dict[str, int] = json.loads(counted.read_text(encoding="utf-8"))
    log = git(repo, "log", f"-n{MOST_COMMITS}", "--no-merges", "--format=", "--name-only", "--relative", "-z")
    changes = Counter(name.lstrip("\n") for name in log.split("\0") if name.lstrip("\n") in lines)
    weight = {name: changes[name] * lines[name] for name in changes if changes[name] > 1 and lines[name]}
    if not weight:
        return Found(GOOD, "no file has changed more than once")
    ranked = sorted(weight, key=lambda name: (-weight[name], name))
    hot = [name for name in ranked if lines[name] > MANY_LINES and changes[name] > MANY_CHANGES]
    first = ranked[0]
    finding = f"hottest is {code(first, 50)}: {changes[first]:,} changes, {count(lines[first], 'line')}"
    if hot:
        finding = (
            f"{count(len(hot), 'file')} with over {MANY_LINES} lines and {MANY_CHANGES} changes; {finding}"
        )
    rows = ((code(name), f"{changes[name]:,}", f"{lines[name]:,}") for name in ranked[:10])
    return Found(LOOK if hot else GOOD, finding, table(["file", "changes:", "lines:"], rows))


if __name__ == "__main__":
    run_check(hotspots)
