"""Looking at a run from another process while it goes on, and after its process was killed."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.cli.conftest import (
    STORE,
    WAIT_FOR_GO,
    Call,
    Child,
    call_process,
    make_run,
    stored,
    until,
    wait_for_states,
    wait_for_status,
    write_plan,
)

Start = Callable[..., Child]
LIVE = f"""\
goal: Goes on
max_parallel: 1
tasks:
  - {{id: long, shell: true, run: "echo begun; {WAIT_FOR_GO}; echo done"}}
  - {{id: gate, run: echo gate, approval: true}}
  - {{id: second, run: echo second}}
  - {{id: report, run: echo report, depends_on: [long, gate]}}
"""


def begin(start: Start, text: str = LIVE, **states: str) -> Child:
    """Start a run and wait until tasks are in these states."""
    child = start("run", str(write_plan(text)))
    wait_for_states(**(states or {"long": "running", "gate": "awaiting_approval"}))
    return child


def killed(start: Start) -> Child:
    """Start a run and kill its process in the middle."""
    child = begin(start)
    child.kill()
    return child


def short() -> str:
    return str(stored(lambda store, run: run))[:13]


# --- in progress ------------------------------------------------------------------------------------------


def test_status_names_what_runs_what_waits_and_for_whom(start: Start, call: Call) -> None:
    child = begin(start)
    answer = call("status")
    assert re.search(rf"^status   running in process {child.pid} on ", answer.out, re.MULTILINE)
    assert "tasks    0 of 4 completed, 1 pending, 1 awaiting approval, 1 ready, 1 running\n" in answer.out
    assert re.search(r"^running  long  .* m?s$", answer.out, re.MULTILINE)
    assert "waits  gate  for approval\n" in answer.out
    assert answer.lines[-1] == f"gate waits for approval:  allready approve {short()} gate"


def test_status_as_json_names_the_living_owner(start: Start, call: Call) -> None:
    child = begin(start)
    owner = json.loads(call("status", "--json").out)["owner"]
    assert (owner["pid"], owner["alive"]) == (child.pid, True)


def test_list_counts_the_time_of_a_run_in_progress(start: Start, call: Call) -> None:
    begin(start)
    assert re.fullmatch(rf"{short()}  running  0/4 .* m?s  Goes on", call("list").lines[1])


def test_show_of_a_running_task_has_its_output_so_far(start: Start, call: Call) -> None:
    begin(start)
    out = until(lambda: "begun" in (text := call("show", "latest", "long").out) and text)
    assert "\noutput so far:\n  begun\n" in out
    assert call_process("show", "latest", "long", "--output").out == "begun\n"


def test_why_gives_a_sentence_for_each_task(start: Start, call: Call) -> None:
    begin(start)
    answer = call("why")
    assert re.fullmatch(r"long has been running for [\d.]+ s", answer.lines[0])
    assert "gate waits for a person's approval" in answer.lines
    assert "report waits for long (running), gate (awaiting_approval)" in answer.lines
    assert re.search(
        r"^a place for second is refused since .*pool: 1 of 1 in use\)$", answer.out, re.MULTILINE
    )
    assert answer.lines[-1] == f"gate waits for approval:  allready approve {short()} gate"


def test_why_of_one_task_as_json(start: Start, call: Call) -> None:
    begin(start)
    (line,) = call("why", "latest", "report", "--json").lines
    found = json.loads(line)
    assert (found["task"], found["code"]) == ("report", "dependencies")
    assert found["data"] == {"waits_for": {"long": "running", "gate": "awaiting_approval"}}


def test_why_of_thousands_of_tasks_is_bounded(start: Start, call: Call) -> None:
    tasks = [{"id": "long", "shell": True, "run": WAIT_FOR_GO}]
    tasks += [{"id": f"t{number}", "run": "true", "depends_on": ["long"]} for number in range(2_000)]
    begin(start, json.dumps({"tasks": tasks}), long="running")
    answer = call("why")
    assert len(answer.lines) == 1 + 20 + 1
    assert answer.lines[-1] == "… and 1,980 more that are waiting for others"


# --- following --------------------------------------------------------------------------------------------


def test_following_ends_with_the_run(start: Start, call: Call) -> None:
    begin(start, LIVE.replace(", approval: true", ""), long="running")
    follower = start("logs", "latest", "-f")
    assert follower.line().endswith("Goes on, 4 tasks")
    Path("go").touch()
    answer = follower.end()
    assert (answer.code, answer.err) == (0, "")
    assert answer.lines[-1].endswith("completed   run")
    assert answer.out.count("completed   report") == 1


def test_following_as_json_has_each_event_once(start: Start, call: Call) -> None:
    begin(start, LIVE.replace(", approval: true", ""), long="running")
    follower = start("logs", "-f", "--json")
    first = json.loads(follower.line())
    Path("go").touch()
    events = [first, *(json.loads(line) for line in follower.end().lines)]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["type"] == "run.completed"


def test_following_a_task_shows_what_it_writes(start: Start) -> None:
    begin(start)
    follower = start("logs", "latest", "long", "-f")
    assert follower.line() == "begun"
    Path("go").touch()
    assert follower.end() == (0, "done\n", "")


def test_following_a_task_goes_on_with_its_next_attempt(start: Start) -> None:
    script = f"echo try $ALLREADY_ATTEMPT; {WAIT_FOR_GO}; [ $ALLREADY_ATTEMPT = 2 ]"
    plan = {"tasks": [{"id": "long", "shell": True, "run": script, "max_retries": 1}]}
    begin(start, json.dumps(plan), long="running")
    follower = start("logs", "latest", "long", "-f")
    assert follower.line() == "try 1"
    Path("go").touch()
    assert follower.end() == (0, "--- attempt 2 ---\ntry 2\n", "")


def test_ctrl_c_ends_following_and_not_the_run(start: Start, call: Call) -> None:
    child = begin(start)
    follower = start("logs", "-f")
    follower.line()
    follower.process.send_signal(signal.SIGINT)
    assert follower.end().code == 0
    assert child.process.poll() is None


def test_following_ends_with_a_note_when_the_process_is_killed(start: Start) -> None:
    child = begin(start)
    follower = start("logs", "-f")
    follower.line()
    child.kill()
    answer = follower.end()
    assert answer.code == 0
    assert answer.err == f"no process drives the run any more; go on with: allready resume {short()}\n"


# --- left behind ------------------------------------------------------------------------------------------


def test_a_killed_run_is_seen_as_such(start: Start, call: Call) -> None:
    child = killed(start)
    run = short()
    assert f"{run}  running (no process)" in call("list").out
    answer = call("status")
    assert "status   running (no process)\n" in answer.out
    assert "was running  long\n" in answer.out
    assert answer.lines[-1] == f"no process drives the run:  allready resume {run}"
    owner = json.loads(call("status", "--json").out)["owner"]
    assert (owner["pid"], owner["alive"]) == (child.pid, False)
    assert "status     running (no process)\n" in call("show", "latest", "long").out


def test_why_says_first_that_a_run_has_no_process(start: Start, call: Call) -> None:
    killed(start)
    lines = call("why").lines
    assert lines[0] == f"no process drives the run; go on with: allready resume {short()}"
    assert lines[1] == "long was under way when the run's process ended; it is made again on resume"
    assert "second is ready and will be offered on resume" in lines


def test_why_of_a_run_that_stopped_for_a_person_has_the_commands(start: Start, call: Call) -> None:
    Path("go").touch()
    assert start("run", str(write_plan(LIVE))).end().code == 3
    assert call("why").lines == [
        f"the run is paused; go on with: allready resume {short()}",
        "gate waits for a person's approval",
        "report waits for gate (awaiting_approval); the run is paused",
        f"gate waits for approval:  allready approve {short()} gate",
    ]


def test_doctor_names_a_killed_run(start: Start, call: Call) -> None:
    killed(start)
    answer = call("doctor")
    assert answer.code == 0
    assert f"{short()} (Goes on) is running, but no process drives it\n" in answer.out
    assert f"→ go on with: allready resume {short()}\n" in answer.out


def test_following_a_paused_run_that_nobody_drives_ends_with_a_note(start: Start, call: Call) -> None:
    child = begin(start)
    child.process.send_signal(signal.SIGINT)
    child.end()
    wait_for_status("paused")
    answer = call("logs", "-f")
    assert answer.code == 0
    assert answer.err == f"the run is paused; go on with: allready resume {short()}\n"


# --- on a terminal ----------------------------------------------------------------------------------------


def on_terminal(*arguments: str, **env: str) -> str:
    """Give what a command writes to a terminal."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "allready", *arguments],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env={**os.environ, "TERM": "xterm", **env},
    )
    os.close(follower)
    parts = []
    try:
        while part := os.read(leader, 65536):
            parts.append(part)
    except OSError:  # the other end was closed
        pass
    finally:
        os.close(leader)
        process.wait()
    return b"".join(parts).decode().replace("\r\n", "\n")


def test_colours_only_where_they_are_wanted(call: Call) -> None:
    make_run(write_plan("tasks: [{id: a, run: 'true'}]"))
    assert "\x1b[32mcompleted\x1b[0m" in on_terminal("show", COLUMNS="80")
    assert "\x1b" not in on_terminal("show", COLUMNS="80", NO_COLOR="1")
    assert "\x1b" not in on_terminal("show", COLUMNS="80", TERM="dumb")
    assert "\x1b" not in call("show").out


def test_whole_outputs_are_cleaned_for_a_terminal() -> None:
    make_run(write_plan(json.dumps({"tasks": [{"id": "a", "run": ["printf", "\\033[31mred\\n"]}]}), "p.json"))
    assert on_terminal("show", "latest", "a", "--output") == "red\n"
    assert call_process("show", "latest", "a", "--output").out == "\x1b[31mred\n"
    assert STORE.exists()
