"""Whole runs of the real program on disks that are full, in folders that vanish, beside a locked file.

The program says what is wrong, ends with the right code, and when the cause is gone `resume` goes on with
nothing lost and nothing done twice.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.acceptance.program import PATIENCE, PROGRAM, Running, allready, environment, has_text, wait_until
from tests.small_disk import SmallDisk, mounted

from allready.store.open import open_store

PLAN = """
goal: hostile
max_parallel: 2
tasks:
  - {id: first, run: "sh -c 'echo x >> $ROOT/first; echo done'"}
  - {id: gate, run: "sh -c 'while [ ! -e $ROOT/go ]; do sleep 0.05; done; echo open'", depends_on: [first]}
"""
MANY = "\n".join(
    f"  - {{id: t{number}, run: \"sh -c 'echo x >> $ROOT/t{number}; printf %30000s x'\", depends_on: [gate]}}"
    for number in range(8)
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Give a folder with a plan, on an ordinary disk; the plan's commands leave marks there."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "plan.yaml").write_text((PLAN + MANY).replace("$ROOT", str(root)))
    return root


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with mounted(tmp_path / "small", 4096) as disk:
        yield disk


def done_once(root: Path, *names: str) -> None:
    for name in names:
        assert (root / name).read_text() == "x\n", f"{name} did not run exactly once"


def test_a_disk_that_is_full_from_the_start(root: Path, small_disk: SmallDisk) -> None:
    small_disk.leave(0)
    store = str(small_disk.path / "runs.db")
    done = allready("run", "plan.yaml", "--store", store, cwd=root)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "full" in done.stderr
    assert not (root / "first").exists()
    small_disk.free()
    (root / "go").touch()
    assert allready("run", "plan.yaml", "--store", store, cwd=root).returncode == 0
    done_once(root, "first")


def test_a_disk_that_fills_up_in_the_middle_of_a_run(root: Path, small_disk: SmallDisk) -> None:
    store = str(small_disk.path / "runs.db")
    with Running("run", "plan.yaml", "--store", store, cwd=root) as running:
        running.wait_for("task.completed", "first")
        running.wait_for("task.started", "gate")
        small_disk.leave(0)
        (root / "go").touch()
        assert running.end() == 1
        told = running.errors.read_text()
        assert [line.startswith("allready: ") for line in told.splitlines()] == [True, True], told
        assert "full" in told
        assert "allready resume" in told
        assert "Traceback" not in told
    looked = allready("status", "--store", store, "--json", cwd=root)
    if looked.returncode == 0:  # reading needs no room, as long as the log is there
        assert json.loads(looked.stdout)["tasks"]["first"]["status"] == "completed"
    small_disk.free()
    resumed = allready("resume", "latest", "--store", store, "--json", cwd=root)
    assert resumed.returncode == 0, resumed.stderr
    last = json.loads(resumed.stdout.splitlines()[-1])
    assert {task["status"] for task in last["tasks"].values()} == {"completed"}
    done_once(root, "first")


CAPABILITIES = (1, 2)
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH (capabilities(7)): why rights mean nothing to root."""
PR_CAPBSET_DROP = 24
NOBODY = 65_534


def give_up_rights() -> None:
    """Have rights mean something also if we are root, from the next exec on."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None)
        for capability in CAPABILITIES:
            assert libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0


def test_rights_that_are_missing(root: Path, tmp_path: Path) -> None:
    """In a folder of somebody else: looking is refused, too, and nothing is changed."""
    place = tmp_path / "place"
    place.mkdir()
    (root / "go").touch()
    assert allready("run", "plan.yaml", "--store", str(place / "runs.db"), cwd=root).returncode == 0
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    for path in (place, *place.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
        if os.geteuid() == 0:
            os.chown(path, NOBODY, NOBODY)
    for words in (
        ("list",),
        ("status",),
        ("run", "plan.yaml"),
        ("prune", "--yes", "--keep", "0"),
        ("resume", "latest"),
        ("db", "upgrade"),
    ):
        done = subprocess.run(
            [*PROGRAM, *words, "--store", str(place / "runs.db")],
            cwd=root,
            env=environment(),
            preexec_fn=give_up_rights,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 2, (words, done)
        assert "change its rights" in done.stderr, words
        assert "Traceback" not in done.stderr
    for path in (place, *place.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_store_that_is_moved_away_in_the_middle_and_put_back(root: Path, tmp_path: Path, what: str) -> None:
    place = tmp_path / "place"
    place.mkdir()
    store = place / "runs.db"
    moved = [store, Path(f"{store}-wal"), Path(f"{store}-shm")]
    with Running("run", "plan.yaml", "--store", str(store), cwd=root) as running:
        running.wait_for("task.started", "gate")
        if what == "file":
            for path in moved:
                path.rename(tmp_path / path.name)
        else:
            place.rename(tmp_path / "elsewhere")
        (root / "go").touch()
        assert running.end() == 1
        told = running.errors.read_text()
        assert "was removed while it was in use" in told
        assert "allready resume" in told
        assert "Traceback" not in told
    if what == "file":
        for path in moved:
            if (tmp_path / path.name).exists():
                (tmp_path / path.name).rename(path)
    else:
        shutil.rmtree(place, ignore_errors=True)  # what a task may have made anew
        (tmp_path / "elsewhere").rename(place)
    resumed = allready("resume", "latest", "--store", str(store), cwd=root)
    assert resumed.returncode == 0, resumed.stderr
    done_once(root, "first")


def rename(store: Path, table: str, name: str) -> None:
    with closing(sqlite3.connect(store, timeout=PATIENCE)) as connection:
        connection.execute(f"ALTER TABLE {table} RENAME TO {name}")


def test_all_that_was_to_be_told_is_read_before_a_broken_store_ends_the_program(root: Path) -> None:
    """Its reader is slow: what waits for it is not dropped, and how to go on is told after that."""
    store = root / "runs.db"
    told = [f"told{number}" for number in range(30)]
    stopped = f"trap 'echo stopped >> {root}/long; exit 1' TERM; echo x >> {root}/long"
    lines = [
        "goal: much is told\nmax_parallel: 4\ntasks:",
        f"  - {{id: first, run: \"sh -c 'echo x >> {root}/first'\"}}",
        *(f"  - {{id: {name}, run: 'true', depends_on: [first]}}" for name in told),
        f"  - {{id: ready, run: touch {root}/ready, depends_on: [{', '.join(told)}]}}",
        "  - id: long",
        f'    run: [sh, -c, "{stopped}; until test -e {root}/again; do sleep 0.05; done"]',
        f'  - {{id: gate, run: [sh, -c, "until test -e {root}/go; do sleep 0.05; done"]}}',
    ]
    (root / "plan.yaml").write_text("\n".join(lines) + "\n")
    with Running("run", "plan.yaml", "--store", str(store), cwd=root) as running:
        assert running.process.stdout is not None
        fcntl.fcntl(running.process.stdout, fcntl.F_SETPIPE_SZ, 4096)
        wait_until(lambda: has_text(root / "long") and (root / "ready").exists(), "all but the gate is done")
        rename(store, "events", "elsewhere")
        (root / "go").touch()
        wait_until(lambda: "stopped" in (root / "long").read_text(), "what runs is stopped")
        with pytest.raises(subprocess.TimeoutExpired):
            running.process.wait(2)  # it waits for its reader
        assert "resume" not in running.errors.read_text()
        assert running.end() == 1
        errors = running.errors.read_text()
        assert "no such table" in errors
        assert "the run was stopped; when the store works again: allready resume" in errors
        assert "Traceback" not in errors
    rename(store, "elsewhere", "events")
    with closing(open_store(store)) as opened:
        recorded = opened.events(running.run_id)
        assert [event["seq"] for event in running.events] == [event.seq for event in recorded]
    (root / "again").touch()
    resumed = allready("resume", "latest", "--store", str(store), cwd=root)
    assert resumed.returncode == 0, resumed.stderr
    done_once(root, "first")


LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.readline()
connection.execute("COMMIT")
"""


def test_a_store_that_another_program_keeps_locked_is_waited_for(root: Path) -> None:
    """Longer than the busy time-out: it is told, and when the lock is gone the run goes on."""
    store = root / "runs.db"
    command = [sys.executable, "-c", LOCK, str(store)]
    with Running("run", "plan.yaml", "--store", str(store), cwd=root) as running:
        running.wait_for("task.started", "gate")
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout is not None
            assert other.stdin is not None
            assert other.stdout.readline() == "locked\n"
            (root / "go").touch()
            wait_until(lambda: "locked" in running.errors.read_text(), "the lock is told")
            other.stdin.write("\n")
            other.stdin.close()
            other.wait(PATIENCE)
        assert running.end() == 0
        assert "Traceback" not in running.errors.read_text()
    done_once(root, "first", *(f"t{number}" for number in range(8)))


def test_damage_is_told_by_every_command(root: Path) -> None:
    (root / "go").touch()
    assert allready("run", "plan.yaml", "--store", "runs.db", cwd=root).returncode == 0
    data = bytearray((root / "runs.db").read_bytes())
    data[4096 * 2 :] = b"\xaa" * (len(data) - 4096 * 2)
    (root / "runs.db").write_bytes(data)
    before = bytes(data)
    for words in (
        ("list",),
        ("status",),
        ("show",),
        ("why",),
        ("logs",),
        ("run", "plan.yaml"),
        ("resume", "latest"),
        ("cancel", "latest"),
        ("prune", "--yes", "--keep", "0"),
    ):
        done = allready(*words, "--store", "runs.db", cwd=root)
        assert done.returncode == 2, (words, done)
        assert "damaged" in done.stderr, (words, done.stderr)
        assert "Traceback" not in done.stderr
    assert (root / "runs.db").read_bytes() == before


def test_a_run_with_a_file_size_limit_stops_and_goes_on_without(root: Path) -> None:
    """`ulimit -f` (in blocks of 1,024 bytes)."""
    store = str(root / "runs.db")
    limited = ("sh", "-c", 'ulimit -f 330; exec "$@"', "sh")
    with Running("run", "plan.yaml", "--store", store, cwd=root, before=limited) as running:
        running.wait_for("task.started", "gate")
        with closing(open_store(store)) as other:
            run_id = other.find_run("latest")
            for _ in range(40):  # the log of the store grows up to the limit
                other.add_command(run_id, "x" * 5_000)
        (root / "go").touch()
        code = running.end()
        told = running.errors.read_text()
        assert "Traceback" not in told
        assert code in {0, 1}, told
    if code == 1:
        assert allready("resume", "latest", "--store", store, cwd=root).returncode == 0
    done_once(root, "first")
