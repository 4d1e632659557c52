"""Sees whether there are tests and whether they can be loaded (pytest); `tests.py REPO true` runs them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path, PurePosixPath

from common import GOOD, LOOK, NOT_APPLICABLE, Found, code, count, run, run_check, table, tracked

LONGEST = 280
"""Seconds; below the timeout of the task."""
TEST_FILE = re.compile(r"test_.*\.py|.*_test\.py")
OTHERS = {
    "go.mod": "go test",
    "Cargo.toml": "cargo test",
    "package.json": "npm test",
    "Makefile": "make test",
}
"""How others test; only named, not run."""
NO_TESTS = 5
"""Exit code of pytest."""


def interpreter(repo: Path) -> str | None:
    """Give a Python that has pytest: the repository's own, else ours."""
    for python in (str(repo.resolve() / ".venv" / "bin" / "python"), sys.executable):
        try:
            if run([python, "-c", "import pytest"], repo).returncode == 0:
                return python
        except OSError:
            continue
    return None


def tests(repo: Path) -> Found:
    """Collect the tests, or run them."""
    names = tracked(repo)
    files = [name for name in names if TEST_FILE.fullmatch(PurePosixPath(name).name)]
    if not files:
        others = [command for file, command in OTHERS.items() if file in names]
        return Found(NOT_APPLICABLE, "no tests for pytest" + (f"; perhaps `{others[0]}`" if others else ""))
    python = interpreter(repo)
    if python is None:
        return Found(NOT_APPLICABLE, f"{count(len(files), 'file')} with tests, but pytest is not installed")
    running = sys.argv[2:] == ["true"]
    # --verbosity: the project's own options may say -q or -v, too
    mode = ["--tb=line"] if running else ["--collect-only", "--verbosity=-1"]
    try:
        done = run([python, "-m", "pytest", *mode, "-p", "no:cacheprovider", "--color=no"], repo, LONGEST)
    except subprocess.TimeoutExpired:
        return Found(LOOK, f"pytest did not end within {LONGEST} seconds")
    last = done.stdout.strip().rpartition("\n")[2].strip("= ")
    if done.returncode not in (0, 1, 2, NO_TESTS):
        sys.exit(f"pytest could not run: {(done.stderr.strip() or last)}")
    collected = Counter(line.partition("::")[0] for line in done.stdout.splitlines() if "::" in line)
    problems = re.findall(r"^(?:ERROR|FAILED) .*", done.stdout, re.MULTILINE)
    finding = last if running else f"{count(collected.total(), 'test')} in {count(len(collected), 'file')}"
    if problems and not running:
        finding += f"; {count(len(problems), 'file')} can't be loaded"
    rows = ((code(name), n) for name, n in collected.most_common())
    details = table(["file", "tests:"], rows if not running else (), 8)
    details += "".join(f"\n- {code(problem, 160)}" for problem in problems[:8])
    return Found(GOOD if done.returncode == 0 else LOOK, finding, details)


if __name__ == "__main__":
    run_check(tests)
