"""Checks the types (mypy, with the repository's own settings)."""

from __future__ import annotations

import configparser
import re
import sys
import tomllib
from collections import Counter
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

LONGEST = 110
"""Seconds; below the timeout of the task."""
ERROR = re.compile(r"^(.+?):(\d+)(?::\d+)?: error: (.*?)(?:  \[([\w-]+)\])?$", re.MULTILINE)
MISSING = {"import-not-found", "import-untyped", "import"}


def settings(repo: Path) -> dict[str, object] | None:
    """Give mypy's settings in the repository, or None."""
    for name in ("mypy.ini", ".mypy.ini", "setup.cfg"):
        parser = configparser.ConfigParser(interpolation=None, strict=False)
        parser.read(repo / name, encoding="utf-8")
        if parser.has_section("mypy"):
            return dict(parser["mypy"])
    if (repo / "pyproject.toml").is_file():
        tools = tomllib.loads((repo / "pyproject.toml").read_text(encoding="utf-8")).get("tool", {})
        if "mypy" in tools:
            return dict(tools["mypy"])
    return None


def types(repo: Path) -> Found:
    """Run mypy over what the settings name, else over everything."""
    if "Python" not in dependency("facts").get("languages", ["Python"]):
        return Found(NOT_APPLICABLE, "no Python here")
    chosen = settings(repo)
    if chosen is None:
        return Found(NOT_APPLICABLE, "the repository has no settings for mypy")
    mypy = tool(repo, "mypy")
    if mypy is None:
        return Found(NOT_APPLICABLE, "mypy is not installed")
    command = [mypy, "--cache-dir=/dev/null", "--no-error-summary", "--hide-error-context", "--no-pretty"]
    own = repo.resolve() / ".venv" / "bin" / "python"
    command += ["--python-executable", str(own)] if own.exists() else []
    command += [] if {"files", "packages", "modules"} & chosen.keys() else ["."]
    done = run(command, repo, LONGEST)
    errors = ERROR.findall(done.stdout)
    if done.returncode and (done.returncode != 1 or not errors):
        sys.exit(f"mypy could not run: {(done.stderr or done.stdout).strip()}")
    if not errors:
        strict = str(chosen.get("strict")).lower() == "true"
        return Found(GOOD, "mypy finds no error" + (", and it is strict" if strict else ""))
    missing = sum(1 for *_, kind in errors if kind in MISSING)
    files = Counter(file for file, *_ in errors)
    finding = f"{count(len(errors), 'error')} in {count(len(files), 'file')}"
    finding += f", {missing} because a library is not installed here or has no types" if missing else ""
    rows = ((code(f"{file}:{line}", 60), cell(message), kind) for file, line, message, kind in errors)
    return Found(LOOK, finding, table(["place", "error", "kind"], rows))


if __name__ == "__main__":
    run_check(types)
