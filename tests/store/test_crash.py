"""Real processes that are really killed, and a disk that is really full."""

import random
import re
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from allready.core.events import Change
from allready.store import open_store
from allready.store.contract import Batch, TaskRow
from allready.store.owners import this_process
from allready.testing.store_contract import RUN, a_run, moved, result

TASKS = 20
WRITER = """
import sys
from allready.core.events import Change
from allready.errors import StoreError
from allready.store import open_store
from allready.store.contract import Batch
from allready.store.owners import this_process
from allready.testing.store_contract import RUN, moved, result

store = open_store(sys.argv[1])
lease = store.acquire(RUN, this_process())
number = store.run(RUN).last_seq // 2
print("begin", number, lease.previous.pid if lease.previous else None, flush=True)
while True:
    number += 1
    batch = Batch(
        [Change(0.0, "a", str(number)), Change(0.0, "b", str(number))],
        [["n", number]],
        tasks=[moved(index, attempts=number) for index in range(20)],
        results=[result(index, f"{number} " * 100) for index in range(20)],
        run={"counts": {"n": number}},
    )
    try:
        store.commit(RUN, lease.epoch, batch)
    except StoreError as error:
        print("refused", error, flush=True)
        break
    print(number, flush=True)
for _ in range(2):
    try:
        store.commit(RUN, lease.epoch, batch)
        print("written after all")
    except StoreError:
        pass
print("read", store.run(RUN).counts["n"], len(store.events(RUN, limit=10**6)), flush=True)
store.close()
"""


def start_writer(place: str | Path, before: Callable[[], None] | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(place)], stdout=subprocess.PIPE, text=True, preexec_fn=before
    )


def lines_of(process: subprocess.Popen[str]) -> list[str]:
    return process.communicate(timeout=60)[0].split("\n")


def check_whole(place: str | Path) -> int:
    """Give the number of the last commit; all of it, and all of those before, must be there."""
    store = open_store(place)
    run = store.run(RUN)
    last = run.counts.get("n", 0)
    assert run.last_seq == 2 * last
    events = store.events(RUN, limit=10**6)
    assert [event.task for event in events] == [str(n) for n in range(1, last + 1) for _ in "ab"]
    assert [event.seq for event in events] == list(range(1, 2 * last + 1))
    assert [row.data for row in store.inputs(RUN, limit=10**6)] == [[["n", n]] for n in range(1, last + 1)]
    for task in store.tasks(RUN, outputs=True):
        assert (task.attempts, task.output) == ((last, f"{last} " * 100) if last else (0, None))
    path = store.path
    store.close()
    if path is not None:
        connection = sqlite3.connect(path)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.close()
    return last


def make_run(place: str | Path) -> None:
    store = open_store(place)
    store.create_run(a_run(), [TaskRow(index, f"t{index}", {}) for index in range(TASKS)])
    store.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "runs.db"
    make_run(path)
    return path


def test_a_writer_that_is_killed_loses_nothing_and_leaves_nothing_half(store_url: str) -> None:
    make_run(store_url)
    chance = random.Random(7)
    known, killed = 0, None
    for _ in range(5):
        writer = start_writer(store_url)
        assert writer.stdout is not None
        begun = writer.stdout.readline()  # at once: the owner before is dead
        # what it had sent may have reached a server, and been written, a moment after its death
        late = (0, 1) if store_url.startswith("postgresql") else (0,)
        assert begun in {f"begin {known + more} {killed}\n" for more in late}
        for _ in range(chance.randrange(1, 40)):
            writer.stdout.readline()
        writer.kill()
        told = [int(line) for line in lines_of(writer)[:-1]]
        assert writer.returncode == -signal.SIGKILL
        last = check_whole(store_url)
        assert last > known
        assert not told or last - told[-1] in (0, 1)  # it may have been killed before it could tell
        known, killed = last, writer.pid


def test_a_full_disk_stops_the_writer_and_nothing_is_half_written(path: Path) -> None:
    limit = path.stat().st_size + 400_000
    writer = start_writer(path, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    told = lines_of(writer)
    assert writer.returncode == 0, told
    refused = next(line for line in told if line.startswith("refused"))
    assert "is it full" in refused or "the disk is full" in refused
    assert re.search(r"then (resume|try)", refused, re.IGNORECASE), "says what to do"
    committed = int(told[told.index(refused) - 1])
    assert told[-2] == f"read {committed} {2 * committed}"
    assert check_whole(path) == committed


def test_a_run_goes_on_after_the_disk_has_space_again(path: Path) -> None:
    limit = path.stat().st_size + 400_000
    lines_of(start_writer(path, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))))
    last = check_whole(path)
    store = open_store(path)
    lease = store.acquire(RUN, this_process())
    more = last + 1
    batch = Batch(
        [Change(0.0, "a", str(more)), Change(0.0, "b", str(more))],
        [["n", more]],
        tasks=[moved(index, attempts=more) for index in range(TASKS)],
        results=[result(index, f"{more} " * 100) for index in range(TASKS)],
        run={"counts": {"n": more}},
    )
    assert store.commit(RUN, lease.epoch, batch) == 2 * more
    store.close()
    assert check_whole(path) == more
