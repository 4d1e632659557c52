"""Asks the linter (ruff, with the repository's own settings)."""

from __future__ import annotations

import json
import sys
from collections import Counter
from os.path import relpath
from pathlib import Path

from common import (
    GOOD,
    LOOK,
    NOT_APPLICABLE,
    Found,
    cell,
    code,
    count,
    dependency,
    run,
    run_check,
    table,
    tool,
)


def lint(repo: Path) -> Found:
    """Run ruff over the repository."""
    if "Python" not in dependency("facts").get("languages", ["Python"]):
        return Found(NOT_APPLICABLE, "no Python here")
    ruff = tool(repo, "ruff")
    if ruff is None:
        return Found(NOT_APPLICABLE, "ruff is not installed")
    done = run([ruff, "check", "--no-cache", "--output-format", "json", "."], repo)
    if done.returncode not in (0, 1):
        sys.exit(f"ruff could not run: {done.stderr.strip()}")
    problems = json.loads(done.stdout)
    if not problems:
        return Found(GOOD, "ruff has nothing to say")
    rules = Counter(problem.get("code") or "syntax" for problem in problems)
    files = Counter(relpath(problem["filename"], repo.resolve()) for problem in problems)
    message = {problem.get("code") or "syntax": problem["message"] for problem in problems}
    fixable = sum(1 for problem in problems if problem.get("fix"))
    finding = f"{count(len(problems), 'problem')} in {count(len(files), 'file')}"
    finding += f", {fixable:,} can be fixed by ruff" if fixable else ""
    by_rule = ((rule, f"{n:,}", cell(message[rule])) for rule, n in rules.most_common())
    by_file = ((code(name), f"{n:,}") for name, n in files.most_common())
    details = [table(["rule", "times:", "for example"], by_rule, 8), table(["file", "problems:"], by_file, 5)]
    return Found(LOOK, finding, "\n".join(details))


if __name__ == "__main__":
    run_check(lint)
