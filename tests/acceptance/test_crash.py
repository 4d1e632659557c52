"""A run that is killed, or interrupted, goes on where it was."""

from __future__ import annotations

import shlex
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.acceptance.program import PROGRAM, Running, allready, has_text, is_alive, wait_until

# each task notes that it ran; `wait` lets its attempt go on only when the test says so
PLAN = """\
goal: Interrupted work
max_parallel: 3
tasks:
  - {id: first, run: [sh, -c, "echo first >> ran.txt; echo one"]}
  - {id: second, run: [sh, -c, "echo second >> ran.txt; echo two"], depends_on: [first]}
  - id: slow
    run: [sh, -c, "echo slow >> ran.txt; until test -e go; do sleep 0.05; done; echo three"]
    depends_on: [first]
  - id: stray
    run: [sh, -c, "setsid sleep 300 & echo $! > stray.pid; until test -e go; do sleep 0.05; done; echo four"]
    depends_on: [second]
  - id: end
    run: [echo, "{{ second.output }} {{ slow.output }} {{ stray.output }}"]
    depends_on: [slow, stray, second]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "plan.yaml").write_text(PLAN)
    return tmp_path


def ran(folder: Path) -> list[str]:
    return sorted((folder / "ran.txt").read_text().split())


def test_kill_9_then_resume(folder: Path) -> None:
    with Running("run", "plan.yaml", cwd=folder) as run:
        run.wait_for("task.started", "stray")
        wait_until(lambda: has_text(folder / "stray.pid"), "the stray process is there")
        run.kill()
    stray = int((folder / "stray.pid").read_text())
    assert is_alive(stray)
    assert "resume" in allready("status", cwd=folder).stdout

    (folder / "go").touch()
    with Running("resume", "latest", cwd=folder) as again:
        assert again.end() == 0
    assert not is_alive(stray), "what the dead process left behind was ended"
    assert ran(folder) == ["first", "second", "slow", "slow"], "only what was under way ran again"
    assert again.last["tasks"]["slow"]["attempts"] == 2
    assert again.last["tasks"]["first"]["attempts"] == 1
    assert allready("show", "latest", "end", "--output", cwd=folder).stdout == "two three four\n"
    seqs = [event["seq"] for event in [*run.events, *again.events]]
    assert seqs == sorted(seqs)


def test_killed_again_and_again(folder: Path) -> None:
    with Running("run", "plan.yaml", cwd=folder) as run:
        run.wait_for("task.completed", "first")
        run.kill()
    for _ in range(3):
        with Running("resume", "latest", cwd=folder) as run:
            run.wait_for("task.started", "slow")
            run.kill()
    (folder / "go").touch()
    with Running("resume", "latest", cwd=folder) as run:
        assert run.end() == 0
    assert ran(folder).count("first") == 1
    assert all(task["status"] == "completed" for task in run.last["tasks"].values())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_pauses_the_run(folder: Path, number: signal.Signals, code: int) -> None:
    with Running("run", "plan.yaml", cwd=folder) as run:
        run.wait_for("task.started", "slow")
        wait_until(lambda: "slow" in (folder / "ran.txt").read_text(), "slow has begun")
        run.process.send_signal(number)
        assert run.end() == code
        assert run.last["status"] == "paused"
        assert run.last["tasks"]["slow"]["status"] == "ready"
        assert f"go on with: allready resume {run.run_id[:13]}" in run.errors.read_text()
    (folder / "go").touch()
    with Running("resume", run.run_id, cwd=folder) as again:
        assert again.end() == 0
    assert ran(folder).count("first") == 1


def test_a_second_signal_kills_what_does_not_stop(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(
        "tasks:\n  - id: deaf\n"
        """    run: [sh, -c, "trap '' TERM; echo $$ > deaf.pid; while :; do sleep 0.1; done"]\n"""
    )
    with Running("run", "plan.yaml", cwd=tmp_path) as run:
        run.wait_for("task.started", "deaf")
        wait_until(
            lambda: (tmp_path / "deaf.pid").exists() and (tmp_path / "deaf.pid").read_text(), "it runs"
        )
        run.process.send_signal(signal.SIGINT)
        run.wait_for("task.canceling", "deaf")
        run.process.send_signal(signal.SIGINT)
        assert run.end() == 130
    assert not is_alive(int((tmp_path / "deaf.pid").read_text()))


def test_a_run_that_is_driven_elsewhere_can_not_be_resumed(folder: Path) -> None:
    with Running("run", "plan.yaml", cwd=folder) as run:
        run.wait_for("task.started", "slow")
        other = allready("resume", "latest", cwd=folder)
        assert other.returncode == 2
        assert str(run.process.pid) in other.stderr
        (folder / "go").touch()
        assert run.end() == 0
    ended = allready("resume", "latest", cwd=folder)
    assert ended.returncode == 2
    assert "has ended (completed)" in ended.stderr


def test_an_owner_that_lost_its_run_stops_its_sub_agents(folder: Path) -> None:
    with Running("run", "plan.yaml", cwd=folder) as run:
        run.wait_for("task.started", "stray")
        wait_until(lambda: has_text(folder / "stray.pid"), "the stray process is there")
        with closing(sqlite3.connect(folder / ".allready" / "runs.db")) as store, store:
            store.execute("UPDATE runs SET epoch = epoch + 1")  # as a process does that takes the run over
        assert run.end() == 5
        assert "took over run" in run.errors.read_text()
    assert not is_alive(int((folder / "stray.pid").read_text()))


def test_a_hang_up_under_nohup_is_ignored(folder: Path) -> None:
    with Running("run", "plan.yaml", cwd=folder, before=["nohup"]) as run:
        run.wait_for("task.started", "stray")
        run.process.send_signal(signal.SIGHUP)
        (folder / "go").touch()
        assert run.end() == 0


def test_what_a_run_inside_of_a_killed_run_left_behind_is_ended(tmp_path: Path) -> None:
    (tmp_path / "deaf.sh").write_text("trap '' TERM; echo $$ > deaf.pid; sleep 300; sleep 300\n")
    (tmp_path / "inner.yaml").write_text("tasks: [{id: deaf, run: [sh, deaf.sh]}]\n")
    inner = shlex.join([*PROGRAM, "run", "inner.yaml", "--store", "inner.db"])
    (tmp_path / "start.sh").write_text(f"test -e go || exec {inner}\n")
    (tmp_path / "plan.yaml").write_text("tasks: [{id: inner, run: [sh, start.sh]}]\n")
    with Running("run", "plan.yaml", cwd=tmp_path) as run:
        wait_until(lambda: has_text(tmp_path / "deaf.pid"), "the inner run's task runs")
        run.kill()
    (tmp_path / "go").touch()
    with Running("resume", "latest", cwd=tmp_path) as again:
        assert again.end() == 0
    assert not is_alive(int((tmp_path / "deaf.pid").read_text()))
