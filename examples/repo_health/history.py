"""Tells who works on it, how much, and since when (git log)."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from common import GOOD, LOOK, NOT_APPLICABLE, Found, cell, code, count, git, run, run_check, table

MOST_COMMITS = 50_000
MONTHS = 12
QUIET_DAYS = 365
"""A repository without a commit for so long deserves a look."""
STEPS = "▁▂▃▄▅▆▇█"


def history(repo: Path) -> Found:
    """Look at the commits that lead to the current one."""
    if run(["git", "rev-parse", "--verify", "-q", "HEAD"], repo).returncode:
        return Found(NOT_APPLICABLE, "no commit yet")
    log = git(repo, "log", f"-n{MOST_COMMITS}", "--format=%h%x00%aN%x00%ct%x00%s", "--", ".")
    commits = [line.split("\0") for line in log.splitlines() if line.count("\0") >= 3]
    if not commits:
        return Found(NOT_APPLICABLE, "no commit touches this folder")
    authors = Counter(author for _, author, *_ in commits)
    dates = [datetime.fromtimestamp(int(when), UTC) for _, _, when, *_ in commits]
    days = (datetime.now(UTC) - max(dates)).days
    last = "today" if days <= 0 else f"{count(days, 'day')} ago"
    finding = f"{count(len(commits), 'commit')} by {count(len(authors), 'author')}, the last one {last}"
    if git(repo, "rev-parse", "--is-shallow-repository").strip() == "true":
        finding += " (a shallow clone: there is more)"
    shares = ((cell(name), f"{n:,}", f"{n / len(commits):.0%}") for name, n in authors.most_common())
    recent = "\n".join(f"- {code(commit)} {cell(subject, 80)}" for commit, _, _, subject, *_ in commits[:5])
    details = "\n".join(
        [
            f"{min(dates):%Y-%m-%d} to {max(dates):%Y-%m-%d}. The last {MONTHS} months: `{activity(dates)}`",
            "",
            table(["author", "commits:", "share:"], shares, 8),
            f"The latest:\n\n{recent}",
        ]
    )
    return Found(LOOK if days > QUIET_DAYS else GOOD, finding, details)


def activity(dates: list[datetime]) -> str:
    """Draw the commits of the last months, oldest first."""
    now = datetime.now(UTC)
    this_month = now.year * 12 + now.month
    months = Counter(this_month - (date.year * 12 + date.month) for date in dates)
    counts = [months[ago] for ago in reversed(range(MONTHS))]
    most = max(counts)
    return "".join(STEPS[(n * (len(STEPS) - 1) + most - 1) // most] if n else "·" for n in counts)


if __name__ == "__main__":
    run_check(history)
