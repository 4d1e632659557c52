"""`pause`, `cancel`, `retry`, `approve`, `skip`: of runs in progress in another process, and of others."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
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
    write_plan,
)

Start = Callable[..., Child]
LIVE = f"""\
tasks:
  - {{id: long, shell: true, run: "{WAIT_FOR_GO}"}}
  - {{id: gate, run: echo gate, approval: true}}
  - {{id: bad, run: 'false', failure_strategy: ask}}
  - {{id: report, run: echo report, depends_on: [long, gate]}}
"""
COMMANDS = [["pause"], ["cancel"], ["retry"], ["approve", "gate"], ["skip", "gate"]]


def begin(start: Start) -> Child:
    child = start("run", str(write_plan(LIVE)))
    wait_for_states(long="running", gate="awaiting_approval", bad="failed")
    return child


def steer(call: Call, command: list[str], run: str = "latest") -> tuple[int, str, str]:
    return call(command[0], run, *command[1:])


def short() -> str:
    return str(stored(lambda store, run: run))[:13]


# --- a run in progress ------------------------------------------------------------------------------------


def test_a_task_is_approved_in_the_process_that_drives_the_run(start: Start, call: Call) -> None:
    child = begin(start)
    assert call("approve", "latest", "gate") == (0, f"gate approved in run {short()}\n", "")
    wait_for_states(gate="completed")
    assert child.process.poll() is None


def test_what_was_approved_is_not_approved_again(start: Start, call: Call) -> None:
    begin(start)
    call("approve", "latest", "gate")
    wait_for_states(gate="completed")
    answer = call("approve", "latest", "gate")
    assert answer == (2, "", "allready: task 'gate' does not wait for approval: it is completed\n")


def test_a_task_is_skipped(start: Start, call: Call) -> None:
    begin(start)
    assert call("skip", "latest", "gate") == (0, f"gate skipped in run {short()}\n", "")
    wait_for_states(gate="skipped", report="skipped")


def test_what_runs_is_not_skipped(start: Start, call: Call) -> None:
    begin(start)
    answer = call("skip", "latest", "long")
    assert answer.code == 2
    assert answer.err == "allready: task 'long' is running; only what has not begun can be skipped\n"


def test_a_failed_task_is_tried_again(start: Start, call: Call) -> None:
    begin(start)
    answer = call("retry", "latest", "bad")
    assert answer == (0, f"bad will be tried again in run {short()}\n", "")
    until(lambda: stored(lambda store, run: store.task(run, "bad").attempts == 2))


def test_a_run_is_paused_and_says_what_may_end(start: Start, call: Call) -> None:
    begin(start)
    assert call("pause", "latest") == (
        0,
        f"run {short()} paused; 1 running task may end\ngo on with: allready resume {short()}\n",
        "",
    )
    assert call("status").lines[-1].split() == ["the", "run", "is", "paused:", "allready", "resume", short()]
    answer = call("pause", "latest")
    assert answer == (2, "", "allready: the run is paused already\n")


def test_a_canceled_run_has_ended_when_the_command_returns(start: Start, call: Call) -> None:
    child = begin(start)
    assert call("cancel", "latest") == (0, f"run {short()} canceled\n", "")
    assert stored(lambda store, run: store.run(run).status) == "canceled"
    assert child.end().code == 4


def test_a_wish_as_json_from_a_process(start: Start) -> None:
    child = begin(start)
    answer = call_process("approve", "latest", "gate", "--json")
    found = json.loads(answer.out)
    assert answer.code == 0
    assert found["owner"]["pid"] == child.pid
    assert {**found, "owner": None} == {
        "run": stored(lambda store, run: run),
        "command": "approve",
        "task": "gate",
        "done": True,
        "refused": None,
        "owner": None,
        "status": "running",
    }


def test_a_refused_wish_as_json(start: Start, call: Call) -> None:
    begin(start)
    answer = call("approve", "latest", "long", "--json")
    assert (answer.code, answer.err) == (2, "")
    found = json.loads(answer.out)
    assert found["refused"] == "task 'long' needs no approval"


def test_quiet_says_nothing(start: Start, call: Call) -> None:
    begin(start)
    assert call("approve", "latest", "gate", "--quiet") == (0, "", "")


def test_an_owner_that_does_not_answer_is_named(
    start: Start, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    import signal

    import allready.engine.steer as engine

    child = begin(start)
    child.process.send_signal(signal.SIGSTOP)
    monkeypatch.setattr(engine.steer, "__kwdefaults__", {"wait": 0.3})
    answer = call("approve", "latest", "gate")
    assert answer.code == 0
    told, follow = answer.lines
    who = rf"process {child.pid} on .*, which drives run {short()}"
    assert re.fullmatch(rf"recorded: approve gate; {who}, has not answered yet", told)
    assert follow == f"see what becomes of it: allready status {short()}"
    child.process.send_signal(signal.SIGCONT)
    wait_for_states(gate="completed")


# --- a run that nobody drives -----------------------------------------------------------------------------


def test_a_wish_for_a_run_without_a_process_is_recorded_and_says_how_to_go_on(
    start: Start, call: Call
) -> None:
    begin(start).kill()
    resume = f"no process drives the run; go on with: allready resume {short()}\n"
    assert call("approve", "latest", "gate") == (0, f"gate approved in run {short()}\n{resume}", "")
    assert stored(lambda store, run: store.task(run, "gate").state) == "ready"
    assert call("skip", "latest", "bad") == (0, f"bad skipped in run {short()}\n{resume}", "")


def test_the_hint_names_the_store(start: Start, call: Call) -> None:
    begin(start).kill()
    answer = call("approve", "latest", "gate", "--store", str(STORE))
    assert answer.out.endswith(f"go on with: allready resume {short()} --store {STORE}\n")


def test_a_run_without_a_process_is_canceled_at_once(start: Start, call: Call) -> None:
    begin(start).kill()
    assert call("cancel", "latest") == (0, f"run {short()} canceled\n", "")


def test_a_failed_run_is_retried_with_resume(call: Call) -> None:
    make_run(write_plan("tasks: [{id: a, run: test -e good}]"))
    assert call("retry", "latest") == (
        0,
        f"what failed will be tried again in run {short()}\n"
        f"no process drives the run; go on with: allready resume {short()}\n",
        "",
    )
    write_plan("", "good")
    assert call_process("resume", "latest").code == 0
    assert stored(lambda store, run: store.run(run).status) == "completed"


# --- refusals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (["pause"], "can't pause: the run has ended (completed)"),
        (["cancel"], "can't cancel: the run has ended (completed)"),
        (["retry"], "the run has completed; start it anew to repeat it"),
        (["retry", "gate"], "the run has completed; start it anew to repeat it"),
        (["approve", "gate"], "task 'gate' needs no approval"),
        (["skip", "gate"], "can't skip task 'gate': the run has ended (completed)"),
    ],
    ids=" ".join,
)
def test_a_run_that_has_completed_is_not_steered(command: list[str], reason: str, call: Call) -> None:
    make_run(write_plan("tasks: [{id: gate, run: 'true'}]"))
    assert steer(call, command) == (2, "", f"allready: {reason}\n")
    assert stored(lambda store, run: store.run(run).status) == "completed"
    assert stored(lambda store, run: store.run(run).owner) is None


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_there_is_nothing_to_steer_without_a_store(command: list[str], call: Call) -> None:
    code, out, err = steer(call, command)
    assert (code, out) == (2, "")
    assert "no run was started here yet" in err
    assert not STORE.exists()


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_unknown_runs_are_not_steered(command: list[str], call: Call) -> None:
    make_run(write_plan("tasks: [{id: gate, run: 'true'}]"))
    code, out, err = steer(call, command, "ffffffff")
    assert (code, out) == (2, "")
    assert err.startswith("allready: no run 'ffffffff' in ")


@pytest.mark.parametrize("command", ["retry", "approve", "skip"])
def test_unknown_tasks_are_told_with_similar_ones(command: str, call: Call) -> None:
    run = make_run(write_plan("tasks: [{id: gate, run: 'true'}]")).id
    answer = call(command, "latest", "gaet")
    assert answer == (2, "", f"allready: run {run} has no task 'gaet'; did you mean gate?\n")
    assert stored(lambda store, run: store.pending_commands(run)) == []


@pytest.mark.parametrize("command", ["pause", "cancel", "retry", "approve", "skip"])
def test_what_is_missing_on_the_command_line_is_told(command: str, call: Call) -> None:
    answer = call(command)
    assert answer.code == 2
    assert "Missing argument 'RUN'" in answer.err


def test_what_is_named_as_the_next_step_is_for_the_same_store(call: Call) -> None:
    write_plan("tasks: [{id: good, run: 'true'}]", "good.yaml")
    tasks = ", ".join(f"{{id: bad{number}, run: 'false', failure_strategy: skip}}" for number in range(30))
    write_plan(f"tasks: [{tasks}, {{id: last, run: 'false'}}]")
    failed = call("run", "plan.yaml", "--store", "other.db")
    assert failed.code == 1
    listed = call("list", "--store", "other.db", "--json")
    run = json.loads(listed.out)["run"]
    assert f"more: allready status {run[:13]} --store other.db" in failed.out
    refused = call("resume", "latest", "--store", "other.db")
    assert (refused.code, refused.err) == (
        2,
        f"allready: run {run} has ended (failed); try again what failed: "
        f"allready retry {run[:13]} --store other.db\n",
    )
    assert call("show", run, "--output", "--store", "other.db").err.endswith("--output --store other.db\n")
    assert call("run", "good.yaml", "--store", "other.db").code == 0
    assert call("resume", "latest", "--store", "other.db").err.endswith(" has ended (completed)\n")
