"""`allready prune`: what it shows, asks, removes and says."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tests.cli.conftest import DEADLINE, STORE, Call, Child, call_process, make_run, write_plan
from tests.small_disk import SmallDisk, mounted

from allready import Plan
from allready.store.contract import RunRow
from allready.store.open import open_store
from allready.store.sql import SqlStore

DAY = 86_400.0


@pytest.fixture
def runs() -> list[str]:
    """Give the ids of four runs: 50, 40 and 35 days old, and of now; the third is paused."""
    ids = []
    STORE.parent.mkdir()
    with closing(open_store(STORE)) as store:
        for number, (days, status) in enumerate(
            [(50, "completed"), (40, "failed"), (35, "paused"), (0, "completed")]
        ):
            ids.append(add(store, number, days, status))
    return ids


def add(store: SqlStore, number: int, days: float, status: str) -> str:
    at = time.time() - days * DAY
    run_id = f"{number:08x}-0000-7000-8000-000000000000"
    folder = (STORE.parent / "runs" / run_id).absolute()
    folder.mkdir(parents=True)
    (folder / "output.txt").write_text("x" * 2048)
    row = RunRow(run_id, f"goal {number}", status, at, 0, str(folder), {"tasks": []}, finished_at=at)
    store.create_run(row, [])
    return run_id


def left() -> list[str]:
    with closing(open_store(STORE)) as store:
        rows = {row.id for row in store.runs()}
    assert rows == {folder.name for folder in (STORE.parent / "runs").iterdir()}
    return sorted(rows)


def test_old_runs_that_have_ended_go(call: Call, runs: list[str]) -> None:
    answer = call("prune", "--yes")
    assert (answer.code, answer.err) == (0, "")
    assert answer.lines == ["2 runs removed; 4.0 KiB freed"]
    assert left() == runs[2:]
    assert call("prune", "--yes").lines == ["nothing to remove"]


def test_a_dry_run_shows_what_would_go(call: Call, runs: list[str]) -> None:
    answer = call("prune", "--dry-run")
    assert answer.code == 0
    assert "50 d ago" in answer.out
    assert "goal 1" in answer.out
    assert answer.lines[-2:] == ["2 runs to remove", "4.0 KiB of files"]
    *_, sums = (json.loads(line) for line in call("prune", "--dry-run", "--json").lines)
    assert sums == {"runs": 2, "folders": 0, "freed": 4096, "problems": 0, "dry_run": True}
    assert left() == runs


def test_options_choose(call: Call, runs: list[str]) -> None:
    def chosen(*options: str) -> list[str]:
        lines = [json.loads(line) for line in call("prune", "--dry-run", "--json", *options).lines]
        assert lines[-1]["dry_run"] is True
        return [line["run"] for line in lines[:-1]]

    assert chosen("--older-than", "45d") == [runs[0]]
    assert chosen("--older-than", "0s") == [runs[3], runs[1], runs[0]]
    assert chosen("--keep", "1") == [runs[1], runs[0]]
    assert chosen("--keep", "3", "--older-than", "1d") == [runs[0]]
    assert chosen("--status", "failed") == [runs[1]]
    assert chosen("--unfinished") == [runs[2], runs[1], runs[0]]
    assert chosen("--unfinished", "--status", "paused") == [runs[2]]
    assert chosen(runs[3]) == [runs[3]]
    assert chosen("--keep", "9") == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--older-than", "soon"], "--older-than"),
        (["--older-than", "-1d"], "must not be negative"),
        (["--status", "lost"], "there is no status 'lost'"),
        (["--status", "paused"], "add --unfinished"),
        (["--keep", "1", "latest"], "leave out the other options"),
        (["nothing"], "no run 'nothing'"),
        (["00000002"], "has not ended (paused)"),
    ],
)
@pytest.mark.usefixtures("runs")
def test_what_makes_no_sense_is_refused(call: Call, options: list[str], message: str) -> None:
    answer = call("prune", "--yes", *options)
    assert answer.code == 2
    assert message in answer.err
    assert len(left()) == 4


def test_named_runs_go_whatever_their_age(call: Call, runs: list[str]) -> None:
    answer = call("prune", "--json", "--yes", "--unfinished", runs[3], runs[2])
    removed, other, sums = (json.loads(line) for line in answer.lines)
    assert (removed["run"], removed["removed"], removed["bytes"]) == (runs[3], True, 2048)
    assert (other["run"], other["status"], other["problem"]) == (runs[2], "paused", None)
    assert sums == {"runs": 2, "folders": 0, "freed": 4096, "problems": 0, "dry_run": False}
    assert left() == runs[:2]


def test_without_a_terminal_it_must_be_said_that_nothing_is_asked(call: Call, runs: list[str]) -> None:
    answer = call("prune")
    assert answer.code == 2
    assert "--yes" in answer.err
    assert "--dry-run" in answer.err
    assert call("prune", "--json").code == 2
    assert "no run 'nothing'" in call("prune", "nothing").err, "that would be refused on a terminal, too"
    assert "there is no status 'lost'; there are created, running" in call("prune", "--status", "lost").err
    assert left() == runs


@pytest.mark.parametrize(("typed", "code", "number"), [("y\n", 0, 2), ("n\n", 4, 4), ("\x04", 4, 4)])
@pytest.mark.usefixtures("runs")
def test_on_a_terminal_it_is_asked(typed: str, code: int, number: int) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "allready", "prune"]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True) as process:
        os.close(theirs)
        shown = b""
        while b"]o? " not in shown:
            shown += os.read(ours, 4096)
        os.write(ours, typed.encode())
        assert process.wait(DEADLINE) == code
    os.close(ours)
    assert b"goal 1" in shown
    assert b"can't be brought back" in shown
    assert len(left()) == number


def test_what_can_not_be_removed_is_told_and_the_rest_goes(call: Call, runs: list[str]) -> None:
    folder = STORE.parent / "runs" / runs[0]
    (folder / "output.txt").unlink()
    (folder / ".pruned").mkdir()  # where the mark has to be
    answer = call("prune", "--yes")
    assert answer.code == 1
    assert answer.lines == ["1 run removed; 2.0 KiB freed"]
    assert "can't be removed: Is a directory" in answer.err
    assert left() == [runs[0], *runs[2:]]


def test_folders_that_were_left_go_too(call: Call, runs: list[str]) -> None:
    place = STORE.parent / "runs"
    (place / "00000009-0000-7000-8000-000000000000.pruned").mkdir()
    (place / "00000008-0000-7000-8000-000000000000").mkdir()
    assert call("prune", "--dry-run").lines[-2] == "2 runs to remove, and 1 folder without a run"
    assert call("prune", "--yes").lines == ["2 runs removed, 1 folder without a run; 4.0 KiB freed"]
    assert (
        call("prune", "--yes", "--strangers").lines[-1].startswith("0 runs removed, 1 folder without a run")
    )
    assert left() == runs[2:]


def on_a_small_disk(disk: SmallDisk, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Give the folders of two runs of 2 and 4 KiB in a store on the disk, where we are now."""
    monkeypatch.chdir(disk.path)
    STORE.parent.mkdir()
    with closing(open_store(STORE)) as store:
        ids = [add(store, number, 50, "completed") for number in range(2)]
    folders = [(STORE.parent / "runs" / run).absolute() for run in ids]
    (folders[1] / "more.txt").write_text("x" * 2048)
    return folders


@pytest.mark.parametrize("kib", [0, 40])
def test_on_a_full_disk_it_says_what_may_go_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kib: int
) -> None:
    """With no room at all the store can't even be read, with a little it can't be written."""
    with mounted(tmp_path / "disk", 8192) as disk:
        small, large = on_a_small_disk(disk, monkeypatch)
        disk.leave(kib)
        answer = call_process("prune", "--yes")
        assert answer.code == (2 if kib == 0 else 1)
        assert "make 1.0 MiB of room on it, then prune again" in answer.err
        assert answer.err.splitlines()[-2:] == [f"    4.0 KiB  {large}", f"    2.0 KiB  {small}"]
        shutil.rmtree(large)
        disk.free()
        assert call_process("prune", "--yes").lines == ["2 runs removed; 2.0 KiB freed"]
        assert left() == []
        monkeypatch.chdir(tmp_path)


def test_on_a_full_disk_what_needs_no_store_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    with mounted(tmp_path / "disk", 8192) as disk:
        on_a_small_disk(disk, monkeypatch)
        rest = STORE.parent / "runs" / "00000009-0000-7000-8000-000000000000.pruned"
        rest.mkdir()
        (rest / "output.txt").write_bytes(bytes(1024 * 1024))
        disk.leave(40)
        assert call("prune", "--yes").lines == ["2 runs removed, 1 folder without a run; 1.0 MiB freed"]
        assert left() == []
        monkeypatch.chdir(tmp_path)


def test_a_run_that_a_process_drives_stays(call: Call, start: Callable[..., Child]) -> None:
    write_plan("tasks: [{id: a, run: \"sh -c 'while [ ! -e go ]; do sleep 0.02; done'\"}]")
    child = start("run", "plan.yaml", "--json")
    while '"task.started"' not in child.line():
        pass
    answer = call("prune", "--yes", "--unfinished", "--keep", "0")
    assert answer.lines == ["nothing to remove"]
    named = call("prune", "--yes", "--unfinished", "latest")
    assert named.code == 2
    assert "cancel it first" in named.err
    Path("go").touch()
    assert child.end().code == 0
    assert call("prune", "--yes", "--keep", "0").lines[0].startswith("1 run removed")
    assert call("list").lines == ["no runs yet: allready run PLAN"]


def test_runs_of_the_program_go_as_a_whole() -> None:
    plan = Plan("x")
    plan.add(len, id="a", args=["x" * 100_000])
    make_run(plan)
    make_run(plan)
    done = call_process("prune", "--yes", "--keep", "1", "--quiet")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert len(left()) == 1
    assert call_process("show").code == 0


def test_without_a_store_there_is_nothing_to_remove(call: Call) -> None:
    answer = call("prune", "--yes")
    assert answer.code == 2
    assert "no store" in answer.err
