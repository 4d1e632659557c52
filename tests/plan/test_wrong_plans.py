"""Wrong plans as files in `wrong/`: all of their problems at once, each with file, line and column.

What is expected stands in `NAME.expect` beside the file: one problem a line, `line:column: message`, or its
beginning. The first line of a plan may be a comment with options: `# set:`, `# agents:`, `# max_tasks:`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from allready.errors import PlanError
from allready.plan.load import load_plan_file

FOLDER = Path(__file__).parent / "wrong"
PLANS = sorted(path for path in FOLDER.iterdir() if path.suffix != ".expect")


def options(path: Path) -> dict[str, Any]:
    first = path.read_bytes().split(b"\n", 1)[0].decode("utf-8", "replace")
    name, _, value = first.removeprefix("# ").partition(": ")
    if name == "set":
        return {"variables": dict(pair.split("=", 1) for pair in value.split())}
    if name == "agents":
        return {"known_agents": value.split()}
    return {"max_tasks": int(value)} if name == "max_tasks" else {}


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.name)
def test_all_problems_are_reported_with_their_place(path: Path) -> None:
    expected = path.with_name(f"{path.name}.expect").read_text(encoding="utf-8").splitlines()
    with pytest.raises(PlanError) as caught:
        load_plan_file(path, **options(path))
    problems = caught.value.problems
    assert {problem.file for problem in problems} == {str(path)}
    found = [
        f"{problem.line}:{problem.column}: {problem.message}" if problem.line else problem.message
        for problem in problems
    ]
    assert len(found) == len(expected), "\n".join(found)
    for line, part in zip(found, expected, strict=True):
        assert line.startswith(part), line


def test_there_are_many_kinds() -> None:
    assert len(PLANS) >= 40
