"""Old runs go with rows and folders, whole or not at all, whatever happens under way."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from allready.engine import prune
from allready.engine.prune import (
    MARK,
    Choice,
    choose,
    choose_named,
    folder_of,
    give_back_space,
    leftovers,
    remove_leftover,
    remove_run,
)
from allready.errors import RunNotFound, RunOwned, StoreUnavailable, UserError
from allready.store.contract import Batch, Owner, RunRow, TaskRow
from allready.store.open import open_store
from allready.store.owners import host_name, this_process
from allready.store.sql import SqlStore
from allready.testing.store_contract import changes

NOW = 1_700_000_000.0
DAY = 86_400.0
ROOT = Path(__file__).parents[2]


def run_id(number: int) -> str:
    return f"0193a5b0-0000-7000-8000-{number:012x}"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    store = open_store(tmp_path / "runs.db")
    yield store
    store.close()


def add(store: SqlStore, number: int, status: str = "completed", days_ago: float = 0.0) -> RunRow:
    """Record a run that ended so many days before `NOW`, with a folder."""
    at = NOW - days_ago * DAY
    assert store.path is not None
    folder = store.path.parent / "runs" / run_id(number)
    (folder / "tasks" / "a" / "1").mkdir(parents=True)
    (folder / "tasks" / "a" / "1" / "output.txt").write_text("x" * 1000)
    row = RunRow(run_id(number), f"goal {number}", status, at - 1, 0, str(folder), {"tasks": []})
    row.started_at, row.finished_at = at - 1, at
    store.create_run(row, [TaskRow(0, "a", {"id": "a"})])
    return store.run(row.id, plan=False)


def numbers(rows: list[RunRow]) -> list[int]:
    return [int(row.id[-12:], 16) for row in rows]


# --- which ------------------------------------------------------------------------------------------------


def test_runs_are_chosen_by_age_number_and_status(store: SqlStore) -> None:
    for number, (status, days) in enumerate(
        [
            ("failed", 50),
            ("completed", 40),
            ("paused", 35),
            ("canceled", 20),
            ("completed", 1),
            ("created", 0),
        ]
    ):
        add(store, number, status, days)
    assert numbers(choose(store, Choice(30 * DAY), NOW)) == [1, 0]
    assert numbers(choose(store, Choice(), NOW)) == [4, 3, 1, 0]
    assert numbers(choose(store, Choice(keep=2), NOW)) == [3, 1, 0]
    assert numbers(choose(store, Choice(10 * DAY, keep=5), NOW)) == [0]
    assert numbers(choose(store, Choice(0.0, statuses={"paused", "created"}), NOW)) == [5, 2]
    assert numbers(choose(store, Choice(60 * DAY), NOW)) == []


def test_runs_of_many_pages(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prune, "PAGE", 3)
    for number in range(10):
        add(store, number, days_ago=100)
    assert numbers(choose(store, Choice(keep=4), NOW)) == [5, 4, 3, 2, 1, 0]


def test_a_run_that_a_process_drives_is_never_chosen(store: SqlStore) -> None:
    driven, left = add(store, 1, "running", 90), add(store, 2, "running", 90)
    store.acquire(driven.id, this_process())
    store.acquire(left.id, Owner(host_name(), "an earlier boot", 1, 0.0))
    everything = Choice(statuses={"running"})
    assert numbers(choose(store, everything, NOW)) == [2]
    with pytest.raises(RunOwned, match="cancel it first"):
        choose_named(store, [driven.id], unfinished=True)
    gone = remove_run(store, driven)
    assert gone.problem is None or "owned" in gone.problem  # this process may take what it has


def test_named_runs_are_each_chosen_once_and_must_have_ended(store: SqlStore) -> None:
    add(store, 1)
    paused = add(store, 2, "paused")
    assert numbers(choose_named(store, [run_id(1), run_id(1)], unfinished=False)) == [1]
    with pytest.raises(UserError, match=r"has not ended \(paused\).*--unfinished"):
        choose_named(store, [run_id(1), paused.id], unfinished=False)
    assert numbers(choose_named(store, ["latest"], unfinished=True)) == [2]
    with pytest.raises(RunNotFound):
        choose_named(store, ["nothing"], unfinished=True)


# --- removing ---------------------------------------------------------------------------------------------


def test_rows_and_folder_go_and_other_runs_stay(store: SqlStore) -> None:
    row, other = add(store, 1), add(store, 2)
    gone = remove_run(store, row)
    assert (gone.problem, gone.size) == (None, 1000)
    assert not Path(row.folder).exists()
    with pytest.raises(RunNotFound):
        store.run(row.id)
    assert (store.tasks(row.id), store.events(row.id)) == ([], [])
    assert Path(other.folder, "tasks/a/1/output.txt").read_text() == "x" * 1000
    assert store.run(other.id, plan=False) == other
    again = remove_run(store, row)  # by another prune at the same time
    assert again.problem is None


def test_a_run_whose_folder_is_gone_goes_all_the_same(store: SqlStore) -> None:
    row = add(store, 1)
    shutil.rmtree(row.folder)
    assert remove_run(store, row).problem is None
    assert store.runs() == []


def test_a_run_that_was_taken_up_since_it_was_chosen_stays(store: SqlStore) -> None:
    row = add(store, 1, "failed")
    lease = store.acquire(row.id, this_process())
    store.commit(row.id, lease.epoch, Batch(changes("task.ready"), run={"status": "running"}))
    store.release(row.id, lease.epoch)
    gone = remove_run(store, row)
    assert gone.problem is not None
    assert "taken up again" in gone.problem
    assert store.run(row.id).owner is None
    assert Path(row.folder, "tasks/a/1/output.txt").exists()
    assert not Path(row.folder, MARK).exists()


@pytest.mark.parametrize("written", [False, True], ids=["before", "after"])
def test_a_store_that_goes_away_leaves_a_mark_only_if_the_run_is_gone(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    """Rows may be gone although the store could not say so any more."""
    row = add(store, 1)
    delete = SqlStore.delete_run

    def lose(self: SqlStore, name: str, epoch: int | None = None) -> None:
        assert Path(row.folder, MARK).exists()
        if written:
            delete(self, name, epoch)
        raise StoreUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(SqlStore, "delete_run", lose)
        assert remove_run(store, row).problem == "away"
    assert Path(row.folder, MARK).exists() == written
    assert leftovers(store) == ([Path(row.folder)] if written else [])
    if not written:
        assert store.run(row.id, plan=False).owner is None
        assert remove_run(store, row).problem is None


def test_what_a_dead_process_of_an_unfinished_run_left_running_is_ended(store: SqlStore) -> None:
    row, other = add(store, 1, "running"), add(store, 2, "running")
    store.acquire(row.id, Owner(host_name(), "an earlier boot", 1, 0.0))
    with closing_processes([row.id, other.id]) as (left, others):
        assert remove_run(store, row).problem is None
        assert left.wait(60) == -signal.SIGTERM
        assert others.poll() is None


@contextmanager
def closing_processes(runs: list[str]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Give a process of each run that does nothing."""
    started = [
        subprocess.Popen(["sleep", "600"], env=os.environ | {"ALLREADY_RUN_ID": run}, start_new_session=True)
        for run in runs
    ]
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait()


@pytest.mark.parametrize("name", ["a?b #%41.db", "sqlite:runs.db", "two words.db"])
def test_folders_are_beside_the_file_whatever_its_name(tmp_path: Path, name: str) -> None:
    place = tmp_path / "a?b"
    with closing(open_store(place / name)) as store:
        row = add(store, 1)
        assert folder_of(store, row) == place / "runs" / row.id


def test_the_folder_of_a_copied_project_is_not_that_of_the_original(store: SqlStore, tmp_path: Path) -> None:
    row = add(store, 1)
    copy = tmp_path / "copy"
    copy.mkdir()
    store.release(row.id, 0)
    store.close()
    shutil.copyfile(tmp_path / "runs.db", copy / "runs.db")
    with closing(open_store(copy / "runs.db")) as copied:
        assert folder_of(copied, row) is None
        assert remove_run(copied, row).problem is None
    assert Path(row.folder, "tasks/a/1/output.txt").exists()


def test_links_are_not_followed_and_read_only_folders_go(store: SqlStore, tmp_path: Path) -> None:
    row = add(store, 1)
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("mine")
    folder = Path(row.folder)
    (folder / "link").symlink_to(precious)
    (folder / "tasks" / "link").symlink_to(precious / "file")
    locked = folder / "tasks" / "locked" / "deeper"
    locked.mkdir(parents=True)
    (locked / "file").write_text("x")
    locked.chmod(0o500)
    locked.parent.chmod(0o500)
    assert remove_run(store, row).problem is None
    assert not folder.exists()
    assert (precious / "file").read_text() == "mine"


def test_a_folder_that_is_a_link_stays(store: SqlStore, tmp_path: Path) -> None:
    row = add(store, 1)
    elsewhere = tmp_path / "elsewhere"
    Path(row.folder).rename(elsewhere)
    Path(row.folder).symlink_to(elsewhere)
    assert remove_run(store, row).problem is None
    assert (elsewhere / "tasks/a/1/output.txt").exists()


# --- what was cut off -------------------------------------------------------------------------------------

PRUNE_AND_DIE = """
import os, signal, sys
from pathlib import Path
from allready.engine import prune
from allready.store.open import open_store
from allready.store.sql import SqlStore

path, name, when, number = sys.argv[1:]
calls = 0

def dying(call):
    def work(*args, **kwargs):
        global calls
        calls += 1
        if when == "before" and calls == int(number):
            os.kill(os.getpid(), signal.SIGKILL)
        found = call(*args, **kwargs)
        if when == "after" and calls == int(number):
            os.kill(os.getpid(), signal.SIGKILL)
        return found
    return work

owner = {"_set_mark": prune, "delete_run": SqlStore, "acquire": SqlStore, "rename": Path, "rmdir": os,
         "unlink": os}[name]
setattr(owner, name, dying(getattr(owner, name)))
store = open_store(path)
for row in prune.choose(store, prune.Choice()):
    prune.remove_run(store, row)
"""
POINTS = [
    (name, when, number)
    for name in ("_set_mark", "acquire", "delete_run", "rename", "unlink", "rmdir")
    for when in ("before", "after")
    for number in ((1, 3) if name in {"rename", "rmdir"} else (1,))
]


@pytest.mark.parametrize(("name", "when", "number"), POINTS)
def test_a_prune_that_is_killed_leaves_nothing_that_the_next_does_not_remove(
    store: SqlStore, name: str, when: str, number: int
) -> None:
    """And until then each run is there as a whole, or not at all."""
    rows = [add(store, place) for place in range(3)]
    command = [sys.executable, "-c", PRUNE_AND_DIE, str(store.path), name, when, str(number)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    left = {row.id for row in store.runs()}
    for row in rows:
        if row.id in left:
            assert Path(row.folder, "tasks/a/1/output.txt").read_text() == "x" * 1000
    for row in choose(store, Choice()):
        assert remove_run(store, row).problem is None
    for folder in leftovers(store):
        assert remove_leftover(folder).problem is None
    assert store.runs() == []
    assert list(Path(rows[0].folder).parent.iterdir()) == []


@pytest.mark.parametrize(("name", "when"), [("_set_mark", "after"), ("delete_run", "before")])
def test_a_mark_of_another_store_is_not_believed(store: SqlStore, name: str, when: str) -> None:
    """Several stores may keep their folders in the same place."""
    row = add(store, 1)
    command = [sys.executable, "-c", PRUNE_AND_DIE, str(store.path), name, when, "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert Path(row.folder, MARK).exists()
    assert store.path is not None
    with closing(open_store(store.path.with_name("other.db"))) as other:
        mine = add(other, 2)
        assert leftovers(other) == []
        assert remove_run(other, mine).problem is None
    assert Path(row.folder, "tasks/a/1/output.txt").read_text() == "x" * 1000
    assert leftovers(store) == [], "the run is there"


def test_only_marked_folders_are_leftovers_unless_strangers_are_wanted(store: SqlStore) -> None:
    kept = add(store, 1)
    place = Path(kept.folder).parent
    young = f"{int(time.time() * 1000):012x}"
    (place / run_id(2)).mkdir()  # of another store, or recorded in a moment
    (place / run_id(3)).mkdir()
    prune._set_mark(store, place / run_id(3))
    (place / f"{run_id(4)}{MARK}").mkdir()
    (place / f"{young[:8]}-{young[8:]}-7000-8000-000000000000").mkdir()
    (place / "notes").mkdir()
    (place / "file").touch()
    prune._set_mark(store, Path(kept.folder))  # its removal was cut off before the run was touched
    assert [folder.name for folder in leftovers(store)] == [run_id(3), f"{run_id(4)}{MARK}"]
    wanted = leftovers(store, strangers=True)
    assert [folder.name for folder in wanted] == [run_id(2), run_id(3), f"{run_id(4)}{MARK}"]


# --- space ------------------------------------------------------------------------------------------------


def test_the_space_of_what_is_gone_is_given_back(store: SqlStore) -> None:
    assert store.path is not None
    row, other = add(store, 1), add(store, 2)
    lease = store.acquire(row.id, this_process())
    for _ in range(20):
        store.commit(row.id, lease.epoch, Batch(changes(*["a" * 100] * 1000)))
    store.release(row.id, lease.epoch)
    assert give_back_space(store) == 0, "nothing was removed yet"
    assert remove_run(store, store.run(row.id, plan=False)).problem is None
    driving = store.acquire(other.id, this_process())
    assert give_back_space(store) == 0, "a run that is driven is not made to wait"
    store.release(other.id, driving.epoch)
    freed = give_back_space(store)
    assert freed > 2_000_000
    assert store.path.stat().st_size < 500_000
    assert store.run(other.id, plan=False).goal == "goal 2"
    store.create_run(RunRow(run_id(9), "g", "created", NOW, 0, "", {}), [])
