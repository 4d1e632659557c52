"""`list`, `status`, `why` and `show`, of runs that have ended."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from tests.cli.conftest import STORE, Call, call_process, make_run, write_plan

from allready import Plan
from allready.store.contract import RunRow
from allready.store.open import open_store

HOSTILE = "\x1b[31mred\x1b[0m\x07 \x1b]0;title\x07bell\u202e"
MIXED = """\
goal: Some of it works
tasks:
  - {id: first, run: echo hello}
  - id: broken
    title: Never works
    run: [sh, -c, "echo partial; echo first line >&2; echo last line >&2; exit 3"]
    depends_on: [first]
    failure_strategy: skip
  - {id: behind, run: echo never, depends_on: [broken]}
  - {id: last, run: [printf, "%s\\n", one, two], depends_on: [first]}
"""


@pytest.fixture
def mixed() -> str:
    """Make a run in which something failed; gives its id."""
    return make_run(write_plan(MIXED)).id


def short(run: str) -> str:
    return run[:13]


def without_times(text: str) -> str:
    """Replace what differs from run to run; columns are two blanks apart."""
    text = re.sub(r"\d\d:\d\d:\d\d(\.\d{3})?", "TIME", text)
    text = re.sub(r"\b\d+(\.\d)? (ms|s|min)\b( ago)?|just now", "SPAN", text)
    return re.sub(r"(?<=\S) {2,}", "  ", text)


# --- without runs -----------------------------------------------------------------------------------------


def test_list_without_a_store(call: Call) -> None:
    assert call("list") == (0, "no runs yet: allready run PLAN\n", "")
    assert call("list", "--json") == (0, "", "")
    assert not STORE.exists()


@pytest.mark.parametrize("command", ["status", "show", "logs", "why"])
def test_without_a_store_there_is_nothing_to_look_at(command: str, call: Call, project: Path) -> None:
    answer = call(command)
    assert answer == (2, "", f"allready: no store at {project}/{STORE}: no run was started here yet\n")


@pytest.mark.parametrize("command", ["status", "show", "logs", "why"])
def test_unknown_runs_are_told_with_those_there_are(command: str, call: Call, mixed: str) -> None:
    answer = call(command, "ffffffff")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("allready: no run 'ffffffff' in ")
    assert mixed in answer.err


@pytest.mark.parametrize("command", ["status", "show", "logs", "why"])
def test_ambiguous_runs_are_told_with_what_could_be_meant(command: str, call: Call) -> None:
    plan = write_plan("tasks: [{id: a, run: 'true'}]")
    runs = [make_run(plan).id for _ in range(2)]
    answer = call(command, runs[0][:5])
    assert (answer.code, answer.out) == (2, "")
    assert f"more than one run begins with '{runs[0][:5]}'" in answer.err
    assert all(run in answer.err for run in runs)


@pytest.mark.parametrize("command", ["show", "logs", "why"])
def test_unknown_tasks_are_told_with_similar_ones(command: str, call: Call, mixed: str) -> None:
    answer = call(command, "latest", "brokn")
    assert answer == (2, "", f"allready: run {mixed} has no task 'brokn'; did you mean broken?\n")


def test_store_of_somebody_else(call: Call) -> None:
    Path("other.db").write_text("this is no database, but a text of some length", encoding="utf-8")
    answer = call("list", "--store", "other.db")
    assert (answer.code, answer.out) == (2, "")
    assert "is no SQLite database" in answer.err


# --- list -------------------------------------------------------------------------------------------------


def test_list_is_a_table_newest_first(call: Call, mixed: str) -> None:
    second = make_run(write_plan("tasks: [{id: a, run: 'false'}]")).id
    answer = call("list")
    assert (answer.code, answer.err) == (0, "")
    assert without_times(answer.out).splitlines()[1:] == [
        f"{short(second)}  failed  0/1, 1 failed  SPAN  SPAN  plan.yaml",
        f"{short(mixed)}  completed  2/4, 1 failed  SPAN  SPAN  Some of it works",
    ]
    assert answer.lines[0].split() == ["RUN", "STATUS", "TASKS", "STARTED", "TOOK", "GOAL"]


def test_list_as_json(call: Call, mixed: str) -> None:
    (line,) = call("list", "--json").lines
    found = json.loads(line)
    assert found["run"] == mixed
    assert found["status"] == "completed"
    assert found["counts"] == {"completed": 2, "failed": 1, "skipped": 1}
    assert found["owner"] is None


def test_list_of_one_status(call: Call, mixed: str) -> None:
    assert mixed in call("list", "--json", "--status", "completed").out
    assert call("list", "--status", "failed") == (0, "no run is failed\n", "")
    answer = call("list", "--status", "done")
    assert answer.code == 2
    assert answer.err.startswith("allready: there is no status 'done'; there are created, running, paused")


def test_list_is_bounded_and_quick_with_many_runs(call: Call) -> None:
    STORE.parent.mkdir()
    with closing(open_store(STORE)) as store:
        for number in range(120):
            name = f"01a20d15-{number:04x}-7000-8000-{number:012x}"
            store.create_run(RunRow(name, f"goal {number}", "running", 1.0, 0, "/nowhere", {}), [])
    answer = call("list")
    assert len(answer.lines) == 1 + 20 + 1
    assert answer.lines[1].startswith("01a20d15-0077  running (no process)")
    assert answer.lines[-1] == "… older ones: --limit 100"
    assert len(call("list", "--limit", "500").lines) == 1 + 120


def test_ids_in_a_list_tell_runs_of_the_same_millisecond_apart(call: Call) -> None:
    STORE.parent.mkdir()
    with closing(open_store(STORE)) as store:
        for name in ("01a20d15-0000-7000-8000-00000000000a", "01a20d15-0000-7100-8000-00000000000a"):
            store.create_run(RunRow(name, "", "created", 1.0, 0, "/nowhere", {}), [])
    shown = [line.split()[0] for line in call("list").lines[1:]]
    assert shown == ["01a20d15-0000-71", "01a20d15-0000-70"]
    assert call("status", shown[0]).code == 0


def test_list_fits_narrow_terminals(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.cells import cell_len

    plan = plan_with_one_task()
    plan.goal = "日本語の目標 " * 20
    make_run(plan)
    for width in (70, 90):
        monkeypatch.setenv("COLUMNS", str(width))
        lines = call("list").lines
        assert width - 2 <= max(map(cell_len, lines)) <= width
        assert lines[1].endswith("…")


def plan_with_one_task() -> Plan:
    plan = Plan("one")
    plan.add(max, id="a", args=[1, 2])
    return plan


# --- status -----------------------------------------------------------------------------------------------


def test_status_of_a_run_that_has_ended(call: Call, mixed: str) -> None:
    answer = call("status")
    assert (answer.code, answer.err) == (0, "")
    assert without_times(answer.out) == (
        f"run  {mixed}\n"
        "goal  Some of it works\n"
        "plan  plan.yaml\n"
        "status  completed\n"
        "started  TIME, SPAN, took SPAN\n"
        "tasks  2 of 4 completed, 1 failed, 1 skipped\n"
        "\n"
        "failed  broken  sh exited with code 3: … last line\n"
    )


def test_status_as_json_is_the_last_line_of_the_run_with_its_owner(call: Call, mixed: str) -> None:
    found = json.loads(call("status", mixed[:13], "--json").out)
    assert found["run"] == mixed
    assert (found["status"], found["owner"]) == ("completed", None)
    assert set(found["tasks"]) == {"first", "broken", "behind", "last"}
    broken = found["tasks"]["broken"]
    assert (broken["status"], broken["attempts"], broken["agent"]) == ("failed", 1, "command")
    assert broken["error"] == "sh exited with code 3:\nfirst line\nlast line"
    assert broken["started_at"] < broken["finished_at"]


def test_status_of_a_failed_run_says_how_to_go_on(call: Call) -> None:
    run = make_run(write_plan("tasks: [{id: a, run: 'false'}]")).id
    answer = call("status", "--store", str(STORE))
    assert "status   failed: task 'a' failed: false exited with code 1, without any output\n" in answer.out
    assert answer.lines[-1] == f"the run failed:  allready retry {short(run)} --store {STORE}"


# --- show -------------------------------------------------------------------------------------------------


def test_show_has_all_tasks_and_the_last_results(call: Call, mixed: str) -> None:
    answer = call("show")
    assert (answer.code, answer.err) == (0, "")
    assert without_times(answer.out).partition("\n\n")[2] == (
        "STATUS  TASK  TOOK\n"
        "completed  first  SPAN\n"
        "failed  broken  SPAN  sh exited with code 3: … last line\n"
        "skipped  behind  dependency 'broken' failed\n"
        "completed  last  SPAN\n"
        "\n"
        "last:\n"
        "  one\n"
        "  two\n"
    )


def test_show_as_json(call: Call, mixed: str) -> None:
    found = json.loads(call("show", "--json").out)
    assert found["goal"] == "Some of it works"
    assert found["tasks"]["broken"]["title"] == "Never works"
    assert found["tasks"]["last"]["depends_on"] == ["first"]


def test_show_of_a_task_has_everything(call: Call, mixed: str) -> None:
    answer = call("show", "latest", "broken")
    folder = STORE.parent.absolute() / "runs" / mixed / "tasks" / "broken" / "1"
    assert without_times(answer.out) == (
        "task  broken\n"
        "title  Never works\n"
        f"run  {mixed}  Some of it works\n"
        "status  failed, exit code 3\n"
        "attempts  1\n"
        "started  TIME, took SPAN\n"
        "agent  command\n"
        "command  sh -c 'echo partial; echo first line >&2; echo last line >&2; exit 3'\n"
        "waits for  first\n"
        "settings  failure strategy skip\n"
        f"output  {folder}/output.txt\n"
        f"stderr  {folder}/stderr.txt\n"
        "\n"
        "error:\n"
        "  sh exited with code 3:\n"
        "  first line\n"
        "  last line\n"
        "\n"
        "output:\n"
        "  partial\n"
        "\n"
        "events:\n"
        "  TIME  ready\n"
        "  TIME  started  command\n"
        "  TIME  failed  SPAN, sh exited with code 3: … last line\n"
    )


def test_show_of_a_task_as_json(call: Call, mixed: str) -> None:
    found = json.loads(call("show", "latest", "broken", "--json").out)
    assert (found["run"], found["task"], found["status"]) == (mixed, "broken", "failed")
    assert found["body"]["run"][0] == "sh"
    assert found["settings"]["failure_strategy"] == "skip"
    assert (found["exit_code"], found["output"], found["depends_on"]) == (3, "partial", ["first"])
    assert Path(found["files"]["stderr"]).read_text(encoding="utf-8") == "first line\nlast line\n"
    assert [event["type"] for event in found["events"]] == ["task.ready", "task.started", "task.failed"]


def test_show_of_a_skipped_task_says_why(call: Call, mixed: str) -> None:
    assert "\nreason:\n  dependency 'broken' failed\n" in call("show", "latest", "behind").out


def test_output_is_given_exactly() -> None:
    code = r"import sys; sys.stdout.buffer.write(b'\xff\x1b[31m\r\n' * 40_000 + b'end')"
    make_run(write_plan(f"tasks: [{{id: a, run: [python3, -c, {json.dumps(code)}]}}]"))
    whole = subprocess.run(
        [sys.executable, "-m", "allready", "show", "latest", "a", "--output"], capture_output=True, check=True
    )
    assert whole.stdout == b"\xff\x1b[31m\r\n" * 40_000 + b"end"


def test_output_of_small_size_keeps_its_last_newline() -> None:
    make_run(write_plan("tasks: [{id: a, run: echo small}]"))
    assert call_process("show", "latest", "a", "--output") == (0, "small\n", "")


def test_output_that_was_changed_afterwards_is_refused(call: Call) -> None:
    code = "print('x' * 200_000)"
    run = make_run(write_plan(f"tasks: [{{id: a, run: [python3, -c, {json.dumps(code)}]}}]")).id
    file = STORE.parent / "runs" / run / "tasks" / "a" / "1" / "output.txt"
    file.write_text("something else", encoding="utf-8")
    answer = call("show", "latest", "a", "--output")
    assert (answer.code, answer.out) == (2, "")
    assert "output.txt" in answer.err


def test_output_needs_a_task_and_nothing_else(call: Call, mixed: str) -> None:
    answer = call("show", "latest", "--output")
    assert answer == (
        2,
        "",
        "allready: --output is for one task: allready show latest TASK --output\n",
    )
    assert call("show", "latest", "first", "--output", "--json").code == 2


def test_long_outputs_are_cut_in_the_middle_with_a_hint(call: Call) -> None:
    run = make_run(write_plan("tasks: [{id: a, run: seq 1000}]")).id
    out = call("show", "latest", "a").out
    hint = f"  [… 960 lines left out; all of it: allready show {short(run)} a --output]\n"
    assert f"  30\n{hint}  991\n" in out


def test_functions_are_shown_with_what_they_were_given(call: Call) -> None:
    make_run(plan_with_one_task())
    out = call("show", "latest", "a").out
    assert "function   builtins:max\n" in out
    assert "args       [1, 2]\n" in out
    assert "output:\n  2\n" in out


def test_structured_output_and_artifacts_are_shown(call: Call) -> None:
    script = """echo '{"n": [1, 2]}' > $ALLREADY_OUTPUT; echo x > $ALLREADY_ARTIFACTS/x.txt"""
    make_run(write_plan(f"tasks: [{{id: a, shell: true, run: {json.dumps(script)}}}]"))
    out = call("show", "latest", "a").out
    assert 'data:\n  {\n    "n": [\n' in out
    assert re.search(r"^artifacts  /.*/artifacts$", out, re.MULTILINE)


@pytest.mark.slow
def test_runs_of_5_000_tasks_are_shown_in_a_screenful(call: Call) -> None:
    plan = Plan("Many")
    for number in range(5_000):
        plan.add(pow, id=f"t{number}", args=[2, 2 if number != 4_000 else "no"], failure_strategy="skip")
    run = make_run(plan, max_parallel=50).id
    answer = call("show")
    assert len(answer.lines) < 70
    assert "failed     t4000" in answer.out
    one, every = f"allready show {short(run)} TASK", f"allready show {short(run)} --json"
    assert f"… and 4,960 more; one of them: {one}; all: {every}" in answer.lines
    assert len(call("status").lines) < 15
    assert len(json.loads(call("show", "--json").out)["tasks"]) == 5_000


@pytest.mark.parametrize(
    "arguments",
    [["show"], ["show", "latest", "a"], ["status"], ["logs"], ["logs", "latest", "a"], ["why"], ["list"]],
)
def test_nothing_that_steers_a_terminal_gets_through(arguments: list[str], call: Call) -> None:
    script = 'printf "%s" "$T"; printf "%s" "$T" >&2; exit 1'
    task = {"id": "a", "title": HOSTILE, "run": ["sh", "-c", script], "env": {"T": HOSTILE}}
    plan = {"goal": HOSTILE, "tasks": [task]}
    make_run(write_plan(json.dumps(plan), "plan.json"))
    answer = call(*arguments)
    assert answer.code == 0
    for sign in ("\x1b", "\x07", "\u202e"):
        assert sign not in answer.out + answer.err


# --- logs -------------------------------------------------------------------------------------------------


def test_logs_are_the_events(call: Call, mixed: str) -> None:
    answer = call("logs", mixed)
    assert answer.err == ""
    lines = without_times(answer.out).splitlines()
    assert lines[:4] == [
        "TIME  created  run  Some of it works, 4 tasks",
        "TIME  started  run",
        "TIME  ready  first",
        "TIME  started  first  command",
    ]
    assert "TIME  failed  broken  SPAN, sh exited with code 3: … last line" in lines
    assert "TIME  skipped  behind  dependency 'broken' failed" in lines
    assert lines[-1] == "TIME  completed  run"


def test_logs_as_json_are_those_of_the_run(call: Call, mixed: str) -> None:
    events = [json.loads(line) for line in call("logs", "--json").lines]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert {event["run"] for event in events} == {mixed}
    assert events[-1]["type"] == "run.completed"
    of_task = [json.loads(line) for line in call("logs", "latest", "last", "--json").lines]
    assert [event["type"] for event in of_task] == ["task.ready", "task.started", "task.completed"]


def test_logs_of_a_task_are_what_it_wrote(call: Call, mixed: str) -> None:
    assert call("logs", "latest", "last") == (0, "one\ntwo\n", "")
    answer = call("logs", "latest", "broken")
    assert answer.out == "partial\nstderr| first line\nstderr| last line\n"
    assert answer.err == "broken failed: sh exited with code 3: … last line\n"


def test_logs_of_a_task_that_never_ran_say_so(call: Call, mixed: str) -> None:
    answer = call("logs", "latest", "behind", "-f")
    assert answer == (0, "", "behind has not run; it is skipped: dependency 'broken' failed\n")


def test_logs_of_a_function_are_its_value(call: Call) -> None:
    make_run(plan_with_one_task())
    assert call("logs", "latest", "a") == (0, "2\n", "")


def test_following_a_run_that_has_ended_ends_at_once(call: Call, mixed: str) -> None:
    assert call("logs", "-f").out == call("logs").out


# --- why --------------------------------------------------------------------------------------------------


def test_why_of_a_run_that_has_ended(call: Call, mixed: str) -> None:
    assert call("why") == (0, "the run has ended (completed)\n", "")
    assert call("why", "latest", "behind").lines == [
        "the run has ended (completed)",
        "behind has ended: skipped: dependency 'broken' failed",
    ]
    assert call("why", "--json") == (0, "", "")
    (line,) = call("why", "latest", "last", "--json").lines
    assert json.loads(line)["code"] == "ended"


def test_a_reader_who_has_had_enough_is_no_error(mixed: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "allready", "logs"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate()
    assert err == b""
