"""Steering a run in progress from a second terminal."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.acceptance.program import Running, allready, has_text, is_alive, wait_until

WAIT = "until test -e go; do sleep 0.05; done"


def write(folder: Path, tasks: str) -> Path:
    (folder / "plan.yaml").write_text(f"goal: Steered\nmax_parallel: 2\ntasks:\n{tasks}")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(
        tmp_path,
        f'  - {{id: a, run: [sh, -c, "{WAIT}"]}}\n'
        "  - {id: b, run: [echo, done], depends_on: [a]}\n"
        "  - {id: c, run: [echo, done], approval: true}\n"
        "  - {id: d, run: [echo, done], approval: true}\n",
    )


def test_pause_and_resume(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        f'  - {{id: a, run: [sh, -c, "{WAIT}"]}}\n'
        "  - {id: b, run: [echo, done], depends_on: [a]}\n"
        '  - {id: long, run: [sh, -c, "until test -e end; do sleep 0.05; done"]}\n',
    )
    with Running("run", "plan.yaml", cwd=folder) as run:
        run.wait_for("task.started", "a")
        paused = allready("pause", "latest", cwd=folder)
        assert paused.returncode == 0, paused.stderr
        run.wait_for("run.paused")
        (folder / "go").touch()
        run.wait_for("task.ready", "b")
        assert "paused" in allready("why", "latest", "b", cwd=folder).stdout
        again = allready("resume", "latest", cwd=folder)
        assert again.returncode == 0
        assert str(run.process.pid) in again.stdout
        run.wait_for("task.completed", "b")
        (folder / "end").touch()
        assert run.end() == 0


def test_resume_drives_a_run_whose_process_went_on_and_ended(folder: Path) -> None:
    with Running("run", "plan.yaml", cwd=folder) as run:
        run.wait_for("task.started", "a")
        assert allready("pause", "latest", cwd=folder).returncode == 0
        run.wait_for("run.paused")
        (folder / "go").touch()
        run.wait_for("task.ready", "b")
        again = allready("resume", "latest", cwd=folder)
        if again.returncode == 0:  # told its process before that ended, as nobody approves c and d
            assert str(run.process.pid) in again.stdout
        else:
            assert again.returncode == 3, again.stderr
            assert "the run waits for approval of c, d" in again.stderr
        assert run.end() == 3


def test_decisions_are_carried_out_at_once_and_once(folder: Path) -> None:
    with Running("run", "plan.yaml", cwd=folder) as run:
        run.wait_for("task.awaiting_approval", "d")
        assert allready("approve", "latest", "c", cwd=folder).returncode == 0
        run.wait_for("task.started", "c")
        twice = allready("approve", "latest", "c", cwd=folder)
        assert twice.returncode == 2
        assert "does not wait for approval" in twice.stderr
        assert allready("skip", "latest", "d", cwd=folder).returncode == 0
        run.wait_for("task.skipped", "d")
        (folder / "go").touch()
        assert run.end() == 0
    assert [e["type"] for e in run.events if e.get("task") == "c"].count("task.started") == 1


def test_without_anybody_to_decide_the_rest_is_finished_first(folder: Path) -> None:
    (folder / "go").touch()
    done = allready("run", "plan.yaml", cwd=folder)
    assert done.returncode == 3
    assert "completed  b" in done.stdout
    assert "the run waits for approval of c, d\n  c waits for approval: allready approve " in done.stderr
    approved = allready("approve", "latest", "c", cwd=folder)
    assert approved.returncode == 0
    assert "allready resume" in approved.stdout
    assert allready("skip", "latest", "d", cwd=folder).returncode == 0
    with Running("resume", "latest", cwd=folder) as run:
        assert run.end() == 0
    assert {task: view["status"] for task, view in run.last["tasks"].items()} == {
        "a": "completed",
        "b": "completed",
        "c": "completed",
        "d": "skipped",
    }


def test_cancel_reaches_the_leaves(tmp_path: Path) -> None:
    (tmp_path / "leaf.sh").write_text("trap '' TERM; echo $$ > leaf; sleep 300; sleep 300\n")
    (tmp_path / "deaf.sh").write_text("trap '' TERM; sh leaf.sh; sleep 300\n")
    write(
        tmp_path,
        "  - {id: deaf, run: [sh, deaf.sh]}\n  - {id: next, run: [echo, never], depends_on: [deaf]}\n",
    )
    with Running("run", "plan.yaml", cwd=tmp_path) as run:
        run.wait_for("task.started", "deaf")
        wait_until(lambda: has_text(tmp_path / "leaf"), "the leaf runs")
        canceled = allready("cancel", "latest", cwd=tmp_path)
        assert canceled.returncode == 0, canceled.stderr
        assert run.end() == 4
    assert run.last["status"] == "canceled"
    assert not is_alive(int((tmp_path / "leaf").read_text()))


def test_retry_of_a_failed_run(tmp_path: Path) -> None:
    write(
        tmp_path,
        '  - {id: a, run: [sh, -c, "echo a >> ran.txt"]}\n'
        '  - {id: b, run: [sh, -c, "test -e go"], depends_on: [a]}\n'
        "  - {id: c, run: [echo, done], depends_on: [b]}\n",
    )
    assert allready("run", "plan.yaml", "-q", cwd=tmp_path).returncode == 1
    retried = allready("retry", "latest", cwd=tmp_path)
    assert retried.returncode == 0, retried.stderr
    assert "allready resume" in retried.stdout
    (tmp_path / "go").touch()
    assert allready("resume", "latest", "-q", cwd=tmp_path).returncode == 0
    assert (tmp_path / "ran.txt").read_text() == "a\n"


def test_a_failure_that_asks(tmp_path: Path) -> None:
    write(
        tmp_path,
        '  - {id: a, run: [sh, -c, "test -e go"], failure_strategy: ask}\n'
        "  - {id: b, run: [echo, done], depends_on: [a]}\n"
        '  - {id: long, run: [sh, -c, "until test -e end; do sleep 0.05; done"]}\n',
    )
    with Running("run", "plan.yaml", cwd=tmp_path) as run:
        asked = run.wait_for("task.failed", "a")
        assert asked["asks"] is True
        (tmp_path / "go").touch()
        assert allready("retry", "latest", "a", cwd=tmp_path).returncode == 0
        run.wait_for("task.completed", "b")
        (tmp_path / "end").touch()
        assert run.end() == 0
    assert run.last["tasks"]["a"]["attempts"] == 2
