"""Repositories and programs for the tests of the examples."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
BIN = str(Path(sys.executable).parent)
"""Where the project's tools are, also when pytest was not started through ./dev."""
PATIENCE = 300.0
"""Seconds until a program is given up."""
IGNORED = shutil.ignore_patterns(
    ".git", ".venv", "__pycache__", ".allready", ".*_cache", ".hypothesis", ".coverage*", "repo_health*.md"
)


def environment(**more: str) -> dict[str, str]:
    """Give the environment for a program: the tools can be found, and nobody's settings play a part."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ALLREADY_", "GIT_"))}
    path = os.pathsep.join([BIN, kept.get("PATH", os.defpath)])
    return kept | {"PATH": path, "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", "COLUMNS": "200"} | more


def program(*arguments: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run this Python with arguments, to its end."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment(**env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def git(folder: Path, *arguments: str) -> str:
    """Run git as somebody with a difficult name; give what it says."""
    author = ["-c", "user.name=A | B", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", *author, *arguments],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def repository(folder: Path, **files: str) -> Path:
    """Make a repository with one commit of these files (`__` stands for `/`)."""
    folder.mkdir(parents=True)
    git(folder, "init", "-q", "-b", "trunk")
    for name, text in files.items():
        write(folder, name.replace("__", "/"), text)
    if files:
        commit(folder, "The first | commit")
    return folder


def write(folder: Path, name: str, text: str) -> None:
    """Write a file."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def commit(folder: Path, subject: str) -> None:
    """Commit everything."""
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", subject)


def copy_of_this_repository(folder: Path) -> Path:
    """Copy the project into a repository of its own, whoever owns it and whether it came with .git or not."""
    shutil.copytree(ROOT, folder, ignore=IGNORED)
    git(folder, "init", "-q")
    commit(folder, "All of it")
    return folder
