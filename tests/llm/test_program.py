"""The real program with a real model behind a real server, from a plan or a goal to the end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.examples.places import program
from tests.llm.small_model import MODEL, SmallModel

pytestmark = pytest.mark.xdist_group("small_model")
PLAN = """\
goal: Say something about the sea and the sky
answer: true
tasks:
  - {id: sea, prompt: What colour is the sea?}
  - {id: sky, prompt: What colour is the sky?}
  - {id: both, prompt: Which of them is larger?, depends_on: [sea, sky]}
"""


def test_a_plan_runs_to_its_answer(small: SmallModel, tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN)
    done = program(
        *("-m", "allready", "run", "plan.yaml", "--model", MODEL, "--json"), cwd=tmp_path, **small.environment
    )
    assert done.returncode == 0, done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    assert {task["status"] for task in last["tasks"].values()} == {"completed"}
    assert set(last["tasks"]) == {"sea", "sky", "both", "answer"}
    assert last["answer"].strip()


def test_a_goal_becomes_a_plan_or_it_is_said_why_not(small: SmallModel, tmp_path: Path) -> None:
    done = program(
        *("-m", "allready", "do", "Write a poem about the sea", "--plan-only", "-o", "plan.yaml"),
        *("--model", MODEL, "--max-tasks", "2"),
        cwd=tmp_path,
        **small.environment,
    )
    if done.returncode == 0:
        valid = program(
            "-m", "allready", "validate", "plan.yaml", cwd=tmp_path, ALLREADY_MODEL=MODEL, **small.environment
        )
        assert valid.returncode == 0, valid.stderr
    else:
        assert done.returncode == 2, done.stderr
        assert "no valid plan" in done.stderr
        (raw,) = (tmp_path / ".allready" / "plans").glob("failed-*.txt")
        assert '"tasks"' in raw.read_text()
