"""The documents hold what they say: code runs as written, links lead somewhere, tables are complete."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from allready.plan.models import TaskFile

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/**/*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")


class Block(NamedTuple):
    place: str
    language: str
    text: str


def blocks(*languages: str) -> Iterator[Block]:
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        for found in BLOCK.finditer(text):
            if found[1] in languages:
                line = text.count("\n", 0, found.start()) + 1
                yield Block(f"{path.relative_to(ROOT)}:{line}", found[1], found[2])


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("ALLREADY_")}
    return subprocess.run(
        command,
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("block", [*blocks("python")], ids=lambda block: block.place)
def test_python_runs_as_written(block: Block, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(block.text)
    done = run(sys.executable, "-W", "error", "program.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize("block", [*blocks("yaml")], ids=lambda block: block.place)
def test_plans_are_valid_and_run(block: Block, tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(block.text)
    valid = run(sys.executable, "-m", "allready", "validate", "plan.yaml", cwd=tmp_path)
    assert valid.returncode == 0, valid.stderr
    done = run(sys.executable, "-m", "allready", "run", "plan.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    targets = LINK.findall(path.read_text(encoding="utf-8"))
    assert [target for target in targets if not (path.parent / target).exists()] == []


def test_every_key_of_a_task_is_explained() -> None:
    table = (ROOT / "docs" / "plans.md").read_text(encoding="utf-8")
    assert [key for key in TaskFile.model_fields if f"`{key}`" not in table] == []


def test_every_command_is_explained() -> None:
    told = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    shown = run(sys.executable, "-m", "allready", "--help", cwd=ROOT).stdout
    commands = re.findall(r"^  ([a-z]+) ", shown.partition("Commands:")[2], re.MULTILINE)
    assert len(commands) > 10
    assert [command for command in commands if not re.search(rf"`{command}\b", told)] == []


def test_the_map_for_coding_agents_is_short_and_true() -> None:
    lines = (ROOT / "AGENTS.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 60
    rooms = "core|plan|agents|planning|pool|store|engine|cli"
    named = re.findall(rf"\b(?:{rooms})/[a-z_*/]+\.py", "\n".join(lines))
    assert len(named) > 20
    assert [name for name in named if not list((ROOT / "src" / "allready").glob(name))] == []
