"""Puts what the checks found into one page of Markdown, and prints it: `report.py FILE 'TASK …'`."""

from __future__ import annotations

import json
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from common import GOOD, LOOK, NOT_APPLICABLE, cell, count, table

LONGEST = 6_000
"""Characters of one section."""
FAILED, SKIPPED = "failed", "skipped"
MARKS = {
    GOOD: "✔ good",
    LOOK: "▲ look",
    NOT_APPLICABLE: "– not applicable",
    FAILED: "✖ failed",
    SKIPPED: "» skipped",
}


class Check(NamedTuple):
    """What became of one check."""

    title: str
    verdict: str
    finding: str
    details: str
    seconds: float | None
    data: dict[str, Any]


def read_check(place: Path) -> Check:
    """Put together what became of a task, and what it left in its folder."""
    about = json.loads((place / "task.json").read_text(encoding="utf-8"))
    title, status, seconds = about["title"], about["status"], about["duration"]
    if not (place / "data.json").is_file():
        reason = about["error"] or status
        details = f"```\n{reason}\n```" if status == FAILED else ""
        return Check(title, status, headline(reason), details, seconds, {})
    found = json.loads((place / "data.json").read_text(encoding="utf-8"))
    details = (place / "output.txt").read_text(encoding="utf-8", errors="replace").strip()
    return Check(title, found["verdict"], found["finding"], details, seconds, found["data"])


def headline(error: str) -> str:
    """Give the line of an error that says most: the first after `… exited with code 1:` and a traceback."""
    first, *others = error.splitlines()
    return next((line for line in others if line.strip() and not line.startswith((" ", "Traceback"))), first)


def report(checks: list[Check]) -> str:
    """Write the page: the summary, what to look at first, and a section for each check."""
    facts = checks[0].data
    looks = [check for check in checks if check.verdict == LOOK]
    broken = [check for check in checks if check.verdict in (FAILED, SKIPPED)]
    other = [check for check in checks if check.verdict == NOT_APPLICABLE]
    good = sum(check.verdict == GOOD for check in checks)
    numbers = [f"{good} good", f"{len(looks)} worth a look"]
    numbers += [f"{len(other)} not applicable"] if other else []
    numbers += [f"**{len(broken)} failed or skipped**"] if broken else []
    rows = (
        (
            f"[{check.title}](#{anchor(check.title)})" if check.details else check.title,
            MARKS.get(check.verdict, check.verdict),
            "" if check.seconds is None else f"{check.seconds:.1f} s",
            cell(check.finding, 160),
        )
        for check in checks
    )
    parts = [
        f"# Health of {cell(facts['name'])}",
        f"`{facts['folder']}`, branch {cell(facts['branch'])}, {facts['head']}; "
        f"looked at on {datetime.now().astimezone():%Y-%m-%d %H:%M}.",
        f"{count(len(checks), 'check')}: {', '.join(numbers)}.",
        table(["check", "status", "time:", "finding"], rows, len(checks)),
    ]
    if looks:
        parts += ["## Look at this first", listed(looks, "1.")]
    if broken:
        parts += ["## Could not be checked", listed(broken, "-")]
    for check in checks:
        if check.details and check.verdict in (GOOD, LOOK):
            parts += [f"## {check.title}", sentence(check.finding), bounded(check.details)]
        elif check.details:
            parts += [f"## {check.title}", bounded(check.details)]
    if other:
        parts += ["## Not applicable here", listed(other, "-")]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def listed(checks: list[Check], mark: str) -> str:
    """Make a list of checks and what they found."""
    return "\n".join(f"{mark} **{check.title}**: {cell(check.finding, 300)}" for check in checks)


def sentence(text: str) -> str:
    """Make a finding a sentence."""
    text = cell(text, 300)
    return f"{text[:1].upper()}{text[1:]}."


def anchor(title: str) -> str:
    """Give the address of a section within the page."""
    return title.lower().replace(" ", "-")


def bounded(text: str) -> str:
    """Cut a section that is too long, at the end of a line."""
    if len(text) <= LONGEST:
        return text
    return f"{text[:LONGEST].rpartition(chr(10))[0]}\n\n… cut here.\n"


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
    file, tasks = Path(sys.argv[1]), sys.argv[2].split()
    text = report([read_check(Path(os.environ["ALLREADY_DEPS"], task)) for task in tasks])
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8", errors="replace")
    print(text)
