"""Small runs of the benchmarks, without peers: they still run, measure everything, and write Markdown."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT))  # benchmarks are run from there, and are no part of what is installed

from benchmarks.__main__ import document, goals, parts  # noqa: E402
from benchmarks.common import PEER_NAMES, PEERS  # noqa: E402

ROWS = {
    "overhead": [3, 12],
    "durable": [3, 6],
    "growth": [4],
    "refusals": [3, 2, 3],
}
"""Benchmark → rows of its tables, in a small run without peers."""


@pytest.mark.parametrize("name", ROWS)
def test_a_small_run(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--quick"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    tables = [part for part in done.stdout.split("\n\n") if part.startswith("|")]
    assert [len(table.strip().splitlines()) - 2 for table in tables] == ROWS[name], done.stdout


def test_each_peer_has_a_script_that_needs_no_other_module_of_ours() -> None:
    for peer in PEER_NAMES:
        script = (PEERS / f"with_{peer}.py").read_text()
        assert "from protocol import" in script
        assert "benchmarks" not in script
        assert "allready" not in script


def test_a_peer_gives_times_for_each_graph(tmp_path: Path) -> None:
    job = {"graphs": {"pair": [["a", []], ["b", ["a"]]]}, "places": 1, "variant": "waves", "durable": False}
    job |= {"folder": str(tmp_path), "seconds": 60, "times": 3, "alone": False, "naps": {"b": 0.01}}
    (tmp_path / "job.json").write_text(json.dumps(job))
    command: list[str | Path] = [
        sys.executable,
        PEERS / "with_asyncio.py",
        tmp_path / "job.json",
        tmp_path / "result.json",
    ]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=60)
    result = json.loads((tmp_path / "result.json").read_text())
    assert [sorted(run) for run in result["times"]["pair"]] == [["build", "processor", "wall"]] * 3
    assert all(run["wall"] > 0.009 for run in result["times"]["pair"])


TABLES = """
What was measured.

| ours (≤ 1.03) | others | ahead (≥ 5) |
| ---: | ---: | ---: |
| 1.01 | 7 | 6.20 |
| **1.20 (1.4)** | 8 | (1.00) |
|  | 8 | **1,000** |

| others (more) |
| ---: |
| 99 |
"""


def test_goals_are_read_from_the_heads_of_tables() -> None:
    """The worst of each column; what is empty or in brackets has no goal."""
    assert list(goals(TABLES.splitlines())) == [("ours (≤ 1.03)", "**1.20 (1.4)**"), ("ahead (≥ 5)", "6.20")]


def test_a_section_is_written_anew_and_the_others_stay() -> None:
    """Also one that no benchmark writes."""
    first = document({"Why": "By hand.", "Two": TABLES, "One": "As it was."}, ["One", "Two"])
    kept = parts(first)
    kept["One"] = "As it is."
    again = document(kept, ["One", "Two"])
    assert again == first.replace("As it was.", "As it is.")
    assert again.index("## Two") < again.index("## Why\n\nBy hand.")
    assert "| [Two](#two) | ours (≤ 1.03) | **1.20 (1.4)** |" in again
