"""`allready simulate`: what it says and draws, in terminals, pipes and for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.cells import cell_len
from tests.cli.conftest import Call, call_process, make_run, write_plan

from allready.cli.gantt import MAX_ROWS, PATH_ROWS, SLOT_ROWS
from allready.errors import PlanError

PLAN = """\
goal: Simulated
max_parallel: 2
tasks:
  - {id: fetch, run: "true", estimate: 2m}
  - {id: parse, run: "true", estimate: 3m, depends_on: [fetch]}
  - {id: lint, run: "true", estimate: 90s}
  - {id: report, run: "true", estimate: 30s, depends_on: [parse, lint]}
"""


def write_tasks(*tasks: dict[str, Any], **head: Any) -> Path:
    entries = [{"run": "true", **task} for task in tasks]
    return write_plan(yaml.safe_dump({**head, "tasks": entries}))


def test_the_whole_picture(call: Call) -> None:
    write_plan(PLAN)
    answer = call("simulate", "plan.yaml", "--slots", "2,1,4")
    assert (answer.code, answer.err) == (0, "")
    assert answer.lines == [
        "4 tasks, 7 min 0 s one after the other",
        "",
        "SLOTS       TAKES  SPEED-UP    USE       BOUND  TIMES BOUND  SET BY",
        "    1   7 min 0 s      1.00  100 %   7 min 0 s         1.00  slots",
        "    2  5 min 30 s      1.27   64 %  5 min 30 s         1.00  critical path",
        "    4  5 min 30 s      1.27   32 %  5 min 30 s         1.00  critical path",
        "",
        "worth it: 2 slots; more save less than 5 %",
        "critical path: 5 min 30 s: fetch (2 min 0 s) → parse (3 min 0 s) →",
        "  report (30.0 s)",
        "",
        "with 4 slots:",
        "* fetch   █████████████████████                                        2 min 0 s",
        "  lint    ████████████████                                                90.0 s",
        "* parse                        █████████████████████████████████       3 min 0 s",
        "* report                                                        █████     30.0 s",
        "          0 ────────────────────────────────────────────── 5 min 30 s",
        "█ runs   ░ waits for a place   * is on the critical path",
    ]
    assert max(map(cell_len, answer.lines)) <= 80
    assert not Path(".allready").exists(), "no store was made"


def test_waiting_is_drawn(call: Call) -> None:
    write_plan(PLAN)
    lines = call("simulate", "plan.yaml", "--slots", "4", "--gantt", "1").lines
    (lint,) = [line for line in lines if line.startswith("  lint")]
    assert "with 1 slot:" in lines
    bar = lint.removeprefix("  lint").strip()
    assert bar.startswith("░")
    assert "░█" in bar


def test_without_the_picture(call: Call) -> None:
    write_plan(PLAN)
    lines = call("simulate", "plan.yaml", "--slots", "2", "--gantt", "0").lines
    assert lines[-3] == "tried: 2 slots; more numbers with --slots"
    assert lines[-1] == "  report (30.0 s)"


def test_where_unicode_can_not_be_written_signs_are_ascii() -> None:
    write_plan(PLAN)
    answer = call_process("simulate", "plan.yaml", env={"PYTHONIOENCODING": "ascii"})
    assert answer.code == 0
    assert answer.out.isascii()
    assert "?" not in answer.out
    assert "fetch (2 min 0 s) -> parse" in answer.out
    assert "# runs   . waits for a place" in answer.out
    assert answer.out.count("####") > 3


@pytest.mark.parametrize("columns", [40, 60, 120])
def test_the_picture_fits_the_screen(columns: int, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    write_tasks({"id": "a-task-with-quite-a-long-name-that-has-to-be-cut", "estimate": 5}, {"id": "b"})
    lines = call("simulate", "plan.yaml").lines
    picture = lines[lines.index("with 8 slots:") + 1 : -1]
    assert max(map(cell_len, picture)) <= columns
    assert "…" in picture[0]


@pytest.mark.parametrize("slots", [4, 64])
def test_many_tasks_are_drawn_as_the_critical_path_and_the_places(slots: int, call: Call) -> None:
    chain = [{"id": f"c{n}", "depends_on": [f"c{n - 1}"] if n else [], "estimate": 60} for n in range(20)]
    leaves = [{"id": f"leaf{n}", "estimate": 30 + n % 60} for n in range(200)]
    write_tasks(*chain, *leaves)
    lines = call("simulate", "plan.yaml", "--slots", f"1,{slots}").lines
    assert max(map(cell_len, lines[lines.index(f"with {slots} slots:") :])) <= 80
    picture = lines[lines.index(f"with {slots} slots:") + 1 :]
    assert len(picture) <= PATH_ROWS + SLOT_ROWS + 4
    assert [line.split()[1] for line in picture[:PATH_ROWS]] == [f"c{n}" for n in range(PATH_ROWS)]
    assert picture[PATH_ROWS] == "* … 10 more"
    places = [line for line in picture if line.startswith("  slot")]
    assert places[0].startswith("  slot 1 " if slots == 4 else "  slots 1-3 ")
    assert places[-1].startswith("  slot 4 " if slots == 4 else "  slot 64")
    assert "█" in places[0]
    assert len(chain + leaves) > MAX_ROWS
    assert "… 12 more →" in "".join(lines)


def test_what_is_assumed_is_said_aloud(call: Call) -> None:
    write_tasks(
        {"id": "a"},
        {"id": "b", "approval": True},
        {"id": "c", "estimate": "20m"},
        timeout="15m",
    )
    lines = call("simulate", "plan.yaml", "--slots", "1,2").lines
    assert lines[:5] == [
        "3 tasks, 22 min 0 s one after the other",
        "note: 2 tasks have no estimate and are taken to last 60.0 s (--estimate)",
        "note: 1 approval taken to come at once",
        "note: the timeout is shorter than the estimate of c",
        "note: the run has 15 min 0 s in all, too little with 1 slot, 2 slots",
    ]
    lines = call("simulate", "plan.yaml", "--estimate", "5m", "--slots", "1").lines
    assert lines[0] == "3 tasks, 30 min 0 s one after the other"
    write_tasks({"id": "a"}, {"id": "b", "estimate": 1})
    assert call("simulate", "plan.yaml").lines[1] == (
        "note: 1 task has no estimate and is taken to last 60.0 s (--estimate)"
    )


def test_a_task_without_an_estimate_takes_what_it_took_in_earlier_runs(call: Call) -> None:
    plan: list[dict[str, Any]] = [
        {"id": "a", "run": "echo a"},
        {"id": "b", "run": "echo b", "estimate": 9},
    ]
    write_tasks(*plan)
    assert json.loads(call("simulate", "plan.yaml", "--json").out)["without_estimate"] == 1
    assert call("run", "plan.yaml").code == 0
    write_tasks(*plan, {"id": "c", "run": "echo c", "depends_on": ["a"]})
    lines = call("simulate", "plan.yaml").lines
    assert lines[1:3] == [
        "note: 1 task has no estimate and takes the median from earlier runs",
        "note: 1 task has no estimate and is taken to last 60.0 s (--estimate)",
    ]
    view = json.loads(call("simulate", "plan.yaml", "--json").out)
    assert (view["without_estimate"], view["from_earlier_runs"]) == (1, 1)
    assert 69_000 <= view["work_ms"] < 99_000
    assert "from earlier" not in call("simulate", "plan.yaml", "--store", "other.db").out
    write_tasks(*plan, *({"id": f"a{n}", "run": "echo a"} for n in range(2)))
    assert call("simulate", "plan.yaml").lines[1] == (
        "note: 3 tasks have no estimate and take the median from earlier runs"
    )


def test_for_programs(call: Call) -> None:
    write_plan(PLAN)
    view = json.loads(call("simulate", "plan.yaml", "--slots", "1,2", "--json").out)
    assert view["slots"][1] == {
        "slots": 2,
        "makespan_ms": 330_000,
        "speedup": 1.2727,
        "use": 0.6364,
        "ratio": 1.0,
        "bound_ms": 330_000,
        "bound_by": "critical path",
    }
    assert (view["tasks"], view["work_ms"], view["without_estimate"], view["worth_it"]) == (4, 420_000, 0, 2)
    assert [step["task"] for step in view["critical_path"]] == ["fetch", "parse", "report"]
    assert view["schedule"]["slots"] == 2
    assert view["schedule"]["tasks"][2] == {
        "task": "parse",
        "slot": 1,
        "ready_ms": 120_000,
        "start_ms": 120_000,
        "end_ms": 300_000,
    }
    assert "schedule" not in json.loads(call("simulate", "plan.yaml", "--json", "--gantt", "0").out)


def test_plans_are_read_as_run_reads_them(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = "vars: {width: 3}\ntasks: [{id: a, run: 'echo {{ width }}', estimate: 4}]\n"
    assert "1 task, 4.0 s" in call_process("simulate", "-", stdin=plan).out
    write_plan(plan)
    assert call("simulate", "plan.yaml", "--set", "width=5").code == 0
    Path("mine.py").write_text(
        "from allready import Plan\nplan = Plan('p')\n@plan.task(estimate=7)\ndef a() -> None: ...\n"
    )
    assert "1 task, 7.0 s" in call("simulate", "mine:plan").out
    answer = call("simulate", "missing.yaml")
    assert (answer.code, answer.out) == (2, "")
    assert "missing.yaml: can't be read" in answer.err
    write_plan("tasks: [{id: a, run: x, depends_on: [b]}]")
    assert call("simulate", "plan.yaml").code == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--slots", "0"), "--slots 0: write numbers from 1 to 100,000"),
        (("--slots", "1,,2"), "--slots 1,,2: write numbers"),
        (("--slots", "²"), "write numbers"),
        (("--slots", "9" * 5000), "write numbers"),
        (("--estimate", "soon"), "--estimate soon: "),
        (("--estimate", "-1s"), "--estimate -1s: "),
        (("--set", "x"), "--set x: write --set NAME=VALUE"),
    ],
)
def test_mistakes_are_told(arguments: tuple[str, ...], said: str, call: Call) -> None:
    write_plan(PLAN)
    answer = call("simulate", "plan.yaml", *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err


def test_a_name_that_is_neither_a_file_nor_a_run(call: Call) -> None:
    answer = call("simulate", "nothing")
    assert answer.code == 2
    assert "there is no file 'nothing', and no such run" in answer.err


def test_a_run_is_played_with_its_own_times(call: Call) -> None:
    write_plan(
        "tasks:\n"
        "  - {id: one, run: sleep 0.2}\n"
        "  - {id: two, run: sleep 0.2}\n"
        "  - {id: bad, run: 'false', failure_strategy: skip}\n"
        "  - {id: behind, run: 'true', depends_on: [bad]}\n"
    )
    result = make_run("plan.yaml")
    answer = call("simulate", "latest", "--slots", "1,2", "--gantt", "1")
    assert answer.code == 0, answer.err
    assert answer.lines[0].startswith(f"run {result.id[:13]} took ")
    assert "note: 2 tasks failed or left out there: so here as well" in answer.lines
    assert "--estimate" not in answer.out
    assert call("simulate", "latest", "--set", "a=b").code == 2
    view = json.loads(call("simulate", result.id[:13], "--slots", "1,2", "--json").out)
    assert view["run"] == result.id
    one, two = (each["makespan_ms"] for each in view["slots"])
    assert one >= 400
    assert one > two >= 200
    assert [span["task"] for span in view["schedule"]["tasks"] if span["task"] == "behind"] == []


def test_a_run_that_goes_on_says_so(call: Call) -> None:
    write_plan("tasks: [{id: a, run: 'true'}, {id: b, run: 'true', approval: true, depends_on: [a]}]")
    make_run("plan.yaml")
    lines = call("simulate", "latest", "--slots", "1").lines
    assert "has not ended" in lines[0]
    assert "note: 1 task has no estimate and is taken to last the average of the others" in lines


def test_names_from_a_plan_do_not_steer_the_terminal(call: Call) -> None:
    with pytest.raises(PlanError):  # ids can't
        make_run(write_tasks({"id": "\x1b[2J"}))
    write_plan('tasks: [{id: a, run: "true", resources: {"r\\e[31m": 1}}]\nresources: {"r\\e[31m": 1}\n')
    answer = call("simulate", "plan.yaml")
    assert "\x1b" not in answer.out + answer.err
