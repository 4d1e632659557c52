"""What the checks of `repo_health.yaml` share. Standard library only.

A check is a script: `python3 CHECK.py REPO`. It prints its part of the report in Markdown, and writes
verdict, finding and data as JSON to `$ALLREADY_OUTPUT`. Most of them run without allready, too.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

GOOD, LOOK, NOT_APPLICABLE = "good", "look", "n/a"
GIT_TIMEOUT = 50
"""Seconds; below the timeout of the tasks, so that the message says which command it was."""


@dataclass
class Found:
    """What a check found."""

    verdict: str
    finding: str
    """One line for the summary."""
    details: str = ""
    """Markdown."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """For other tasks."""


def run_check(check: Callable[[Path], Found]) -> None:
    """Run a check on the repository that the command line names, and tell what it found."""
    sys.stdout.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
    found = check(Path(sys.argv[1]))
    output = os.environ.get("ALLREADY_OUTPUT")
    if output:
        Path(output).write_text(json.dumps(vars(found) | {"details": ""}), encoding="utf-8")
    else:
        print(f"{found.verdict}: {found.finding}\n")
    print(found.details)


def dependency(task: str) -> Any:
    """Give the data of a task that this one depends on; an empty mapping if there is none."""
    file = Path(os.environ.get("ALLREADY_DEPS", ""), task, "data.json")
    return json.loads(file.read_text(encoding="utf-8"))["data"] if file.is_file() else {}


# --- git --------------------------------------------------------------------------------------------------


def clean_environment() -> dict[str, str]:
    """Give an environment in which tools look at the repository alone, not at who called us."""
    foreign = ("GIT_", "PYTEST_", "COV_", "COVERAGE_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    ours = {"LC_ALL": "C.UTF-8", "GIT_OPTIONAL_LOCKS": "0", "NO_COLOR": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return kept | ours


def run(argv: Sequence[str], cwd: Path, timeout: float = GIT_TIMEOUT) -> subprocess.CompletedProcess[str]:
    """Run a tool in the repository, whatever its exit code."""
    return subprocess.run(
        argv,
        cwd=cwd,
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        timeout=timeout,
        check=False,
    )


def tool(repo: Path, name: str) -> str | None:
    """Find a program: where programs are, or in the repository's own environment."""
    return shutil.which(name) or shutil.which(name, path=repo.resolve() / ".venv" / "bin")


def git(repo: Path, *arguments: str, success: Iterable[int] = (0,)) -> str:
    """Give what a git command says, or end with its error."""
    done = run(["git", *arguments], repo)
    if done.returncode not in success:
        sys.exit(f"git {arguments[0]}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def tracked(repo: Path) -> list[str]:
    """Give the paths of all tracked files that are there, links and submodules left out."""
    names = git(repo, "ls-files", "-z").split("\0")
    return [name for name in names if name and not (repo / name).is_symlink() and (repo / name).is_file()]


# --- Markdown ---------------------------------------------------------------------------------------------


def cell(text: object, limit: int = 100) -> str:
    """Make text fit a cell of a table: one line, not too long, nothing that would part the cell."""
    line = " ".join(str(text).split())
    line = line if len(line) <= limit else f"{line[: limit - 1]}…"
    return line.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def code(text: object, limit: int = 100) -> str:
    """Write text as code, for a cell or a line."""
    line = " ".join(str(text).split()).replace("`", "'")
    line = line if len(line) <= limit else f"…{line[1 - limit :]}"
    return f"`{line}`".replace("|", "\\|")


def table(head: Sequence[str], rows: Iterable[Sequence[object]], limit: int = 10) -> str:
    """Make a table of at most `limit` rows; a last line tells how many more there are. `:` right-aligns."""
    rows = list(rows)
    if not rows:
        return ""
    ruler = ["---:" if name.endswith(":") else "---" for name in head]
    lines = [[name.removesuffix(":") for name in head], ruler, *rows[:limit]]
    text = "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
    left = len(rows) - limit
    return f"{text}\n" + (f"\n… and {left:,} more.\n" if left > 0 else "")


def count(number: int, what: str) -> str:
    """Write `1 file`, `1,200 files`, `3 dependencies`."""
    many = f"{what[:-1]}ies" if what.endswith("cy") else f"{what}s"
    return f"{number:,} {what if number == 1 else many}"


def bar(share: float, width: int = 20) -> str:
    """Draw a share of 1 as a bar."""
    return "█" * round(share * width) or "▏"
