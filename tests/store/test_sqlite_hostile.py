"""SQLite where it hurts: full disks, missing rights, files that change under us, damage, locks.

What is wanted everywhere: a `StoreError` that says what is wrong and what to do, nothing made worse, and,
when the cause is gone, everything that was committed before.
"""

from __future__ import annotations

import ctypes
import os
import random
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
import sqlalchemy as sa
from tests.small_disk import SmallDisk, mounted

from allready.errors import AllreadyError, StoreBusy, StoreError, UserError
from allready.store import open_store, sqlite, upgrade
from allready.store.contract import Batch, Lease, Store
from allready.store.owners import this_process
from allready.store.sql import SqlStore
from allready.testing.store_contract import RUN, a_run, changes, moved, result, some_tasks

T = TypeVar("T")
NOBODY = 65_534
PATIENCE = 60.0


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def fill(store: SqlStore, events: int = 50) -> Lease:
    """Put a run into a store, with tasks, outputs and events, one commit for each event."""
    store.create_run(a_run(plan={"tasks": [{"id": "one", "run": "x"}]}), some_tasks("one", "two", "three"))
    lease = store.acquire(RUN, this_process())
    for number in range(events):
        batch = Batch(changes("task.ready", task="one"), [["tick", number]], tasks=[moved(0)])
        batch.results = [result(0, f"output {number} " * 100, data={"n": number}, has_data=True)]
        store.commit(RUN, lease.epoch, batch)
    return lease


def look(store: Store) -> list[object]:
    """Read everything there is of the run."""
    return [
        store.runs(),
        store.run(store.find_run(RUN)),
        store.plan_of_task(RUN, "one"),
        store.tasks(RUN, outputs=True),
        store.marks(RUN),
        store.task(RUN, "one"),
        store.events(RUN),
        store.inputs(RUN),
        store.pending_commands(RUN),
    ]


def error_of(call: Callable[[], object]) -> str | None:
    """Give what a store says when it fails; None if it does not. Any other error is one of the test."""
    try:
        call()
    except (StoreError, UserError) as error:
        return str(error)
    return None


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give a closed store with a run in it."""
    path = tmp_path / "runs.db"
    with closing(open_store(path)) as store:
        store.release(RUN, fill(store).epoch)
    return path


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """Give a file system of a megabyte."""
    with mounted(tmp_path / "small disk", 1024) as disk:
        yield disk


# --- how connections are set ------------------------------------------------------------------------------


def test_every_connection_syncs_fully_waits_and_minds_references(path: Path) -> None:
    with closing(open_store(path)) as store:
        database = store._database
        store.changed("test")
        for engine in (database.engine, database.writer):
            # more than the pool keeps: also those that are made under load
            connections = [engine.connect() for _ in range(8)]
            for connection in connections:
                found = [
                    connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                    for name in ("journal_mode", "synchronous", "busy_timeout", "foreign_keys")
                ]
                assert found == ["wal", 2, sqlite.BUSY_SECONDS * 1000, 1]
                connection.close()


def test_the_log_stays_small_while_others_read_all_the_time(path: Path) -> None:
    """As long as readers come and go, the log begins anew now and then."""
    stop = threading.Event()

    def read() -> int:
        count = 0
        with closing(open_store(path)) as store:
            while not stop.is_set():
                store.events(RUN)
                count += 1
        return count

    log = path.with_name("runs.db-wal")
    sizes = []
    with closing(open_store(path)) as store, ThreadPoolExecutor(2) as pool:
        lease = store.acquire(RUN, this_process())
        readers = [pool.submit(read) for _ in range(2)]
        try:
            for number in range(600):
                batch = Batch(changes("a"), [["tick", number]], results=[result(0, "x" * 100_000)])
                store.commit(RUN, lease.epoch, batch)
                sizes.append(log.stat().st_size)
        finally:
            stop.set()
        assert all(reader.result(PATIENCE) for reader in readers)
    assert max(sizes) < 2 * sqlite.LOG_BYTES  # some 60 MB were written, and pages beside


def test_a_large_log_is_cut_down_again(path: Path) -> None:
    log = path.with_name("runs.db-wal")
    with closing(open_store(path)) as store:
        lease = store.acquire(RUN, this_process())
        store.commit(RUN, lease.epoch, Batch(results=[result(0, "x" * 40_000_000)]))
        assert log.stat().st_size > 40_000_000
        for _ in range(20):
            store.commit(RUN, lease.epoch, Batch(changes("a"), results=[result(0, "y" * 1_000_000)]))
        assert log.stat().st_size <= sqlite.LOG_BYTES


# --- a full disk ------------------------------------------------------------------------------------------


def test_a_disk_that_is_full_when_a_store_is_made(small_disk: SmallDisk) -> None:
    """Whatever the room is, a store is made, or it is said that the disk is full; with room it is made."""
    refused = 0
    for kib in (0, 4, 8, 16, 40, 80, 120, 160, 240):
        path = small_disk.path / str(kib) / "runs.db"
        path.parent.mkdir()
        small_disk.leave(kib)
        told = error_of(partial(open_store, path))
        if told is not None:
            assert "disk" in told
            assert "full" in told
            refused += 1
        small_disk.free()
        with closing(open_store(path)) as store:
            assert store.runs() == []
    assert refused >= 3


@pytest.mark.parametrize("kib", [0, 4, 12, 40, 100])
def test_a_disk_that_becomes_full_in_the_middle(small_disk: SmallDisk, kib: int) -> None:
    """What was committed stays; with room again the same batch goes on, and so does another process."""
    path = small_disk.path / "runs.db"
    with closing(open_store(path)) as store:
        lease = fill(store, 3)
        small_disk.leave(kib)
        committed = 0
        batches = map(big_batch, range(1, 1000))
        told = None
        while told is None:
            batch = next(batches)
            told = error_of(partial(store.commit, RUN, lease.epoch, batch))
            committed += told is None
        assert "disk" in told
        assert len(store.events(RUN)) == 3 + committed
        for refused in (
            lambda: store.create_run(a_run(RUN.replace("a1", "a9"), goal="g" * 100_000), []),
            lambda: store.commit(RUN, lease.epoch, big_batch(committed + 1)),
        ):
            with pytest.raises(StoreError, match="disk"):
                refused()
        small_disk.free()
        store.commit(RUN, lease.epoch, big_batch(committed + 1))
        store.release(RUN, lease.epoch)
    with closing(open_store(path)) as store:
        assert [event.seq for event in store.events(RUN)] == [*range(1, 5 + committed)]
        assert store.tasks(RUN, outputs=True)[0].output == f"{committed + 1} " * 10_000


def big_batch(number: int) -> Batch:
    return Batch(changes("a"), [["tick", number]], results=[result(0, f"{number} " * 10_000)], number=number)


def test_a_disk_that_is_full_when_a_store_is_closed(small_disk: SmallDisk) -> None:
    """The log can't be brought into the file then: it stays, and nothing is lost."""
    path = small_disk.path / "runs.db"
    store = open_store(path)
    lease = fill(store, 20)
    before = look(store)
    small_disk.leave(0)
    store.close()
    assert small_disk.path.joinpath("runs.db-wal").exists()
    small_disk.free()
    with closing(open_store(path)) as again:
        assert look(again) == before
        again.commit(RUN, lease.epoch, Batch(changes("a")))


def test_a_file_size_limit_is_told_as_a_disk_that_does_not_take_it(path: Path, tmp_path: Path) -> None:
    """`ulimit -f`: writing fails with EFBIG, in a process of its own."""
    code = (
        "import resource, sys\n"
        "from allready.store import open_store\n"
        "from allready.errors import StoreError\n"
        "from tests.store.test_sqlite_hostile import big_batch, RUN, this_process\n"
        "store = open_store(sys.argv[1])\n"
        "lease = store.acquire(RUN, this_process())\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "number = 0\n"
        "try:\n"
        "    while number < 100:\n"
        "        store.commit(RUN, lease.epoch, big_batch(number + 1))\n"
        "        number += 1\n"
        "except StoreError as error:\n"
        "    print(number, error)\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], cwd=root, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    number, _, message = done.stdout.partition(" ")
    assert "quota" in message or "disk is full" in message
    with closing(open_store(path)) as store:
        assert len(store.events(RUN)) == 50 + int(number)


# --- rights -----------------------------------------------------------------------------------------------


def as_nobody(call: Callable[[], T]) -> T:
    """Call with the rights of somebody who owns nothing: a thread can give up its own (setfsuid(2))."""
    if os.geteuid() != 0:
        return call()
    libc = ctypes.CDLL(None)

    def work() -> T:
        libc.setfsuid(NOBODY)
        return call()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result(PATIENCE)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Give a folder that everybody may look into."""
    folder = Path(tempfile.mkdtemp(prefix="allready-rights-"))
    folder.chmod(0o755)
    yield folder
    for place, names, _ in os.walk(folder):
        for name in names:
            Path(place, name).chmod(0o755)
    shutil.rmtree(folder)


def test_without_rights_it_is_said_which_are_missing_and_nothing_is_written(open_folder: Path) -> None:
    folder = open_folder / "store"
    folder.mkdir()
    with closing(open_store(folder / "runs.db")) as store:
        fill(store)
    (folder / "runs.db").chmod(0o444)
    folder.chmod(0o555)
    (folder / "empty").touch()
    (folder / "empty").chmod(0o444)
    before = contents(open_folder)
    for ask in (
        lambda: open_store(folder / "runs.db", create=False),
        lambda: open_store(folder / "runs.db"),
        lambda: upgrade(folder / "runs.db"),
        lambda: open_store(folder / "new.db"),
        lambda: open_store(folder / "new" / "new.db"),
        lambda: open_store(folder / "empty"),
    ):
        with pytest.raises(StoreError, match=r"rights|Permission denied") as told:
            as_nobody(ask)
        assert str(folder) in str(told.value)
    (folder / "runs.db").chmod(0o000)
    with pytest.raises(StoreError, match="rights"):
        as_nobody(lambda: open_store(folder / "runs.db"))
    folder.chmod(0o000)
    with pytest.raises(StoreError, match=r"can't be looked at|rights"):
        as_nobody(lambda: open_store(folder / "runs.db"))
    folder.chmod(0o755)
    (folder / "runs.db").chmod(0o644)
    assert contents(open_folder) == before


def test_a_read_only_file_system_is_told_as_such(small_disk: SmallDisk) -> None:
    path = small_disk.path / "runs.db"
    with closing(open_store(path)) as store:
        fill(store)
    before = contents(small_disk.path)
    small_disk.read_only()
    asks: list[Callable[[], object]] = [
        lambda: open_store(path, create=False),
        lambda: open_store(path),
        lambda: open_store(small_disk.path / "new.db"),
    ]
    for ask in asks:
        with pytest.raises(StoreError, match="read-only"):
            ask()
    with pytest.raises(StoreError, match="Read-only"):
        open_store(small_disk.path / "new" / "new.db")
    assert contents(small_disk.path) == before


def test_rights_that_go_under_way(path: Path) -> None:
    """A file system that is set read-only after an error refuses to write just like this."""
    with closing(open_store(path)) as store:
        lease = store.acquire(RUN, this_process())
        before = look(store)

        def refuse(connection: sqlite3.Connection, *_: object) -> None:
            connection.execute("PRAGMA query_only = 1")

        sa.event.listen(store._database.engine, "checkout", refuse)
        with pytest.raises(StoreError, match="the store can't be written"):
            store.commit(RUN, lease.epoch, Batch(changes("a")))
        assert look(store) == before


# --- other things in the file's place ---------------------------------------------------------------------


def test_what_is_no_file_is_told_at_once(tmp_path: Path) -> None:
    """A FIFO would be waited for for ever, if it were opened."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "to-folder").symlink_to("folder")
    with closing(socket.socket(socket.AF_UNIX)) as bound:
        bound.bind(str(tmp_path / "socket"))
        for name in ("fifo", "folder", "socket", "to-folder", "loop"):
            for ask in (open_store, lambda path: open_store(path, create=False), upgrade):
                with pytest.raises(AllreadyError) as told:
                    ask(tmp_path / name)
                assert str(tmp_path / name) in str(told.value)
                assert isinstance(told.value, StoreError | UserError)


def test_a_symlink_to_a_store_is_that_store(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "elsewhere" / "link.db"
    link.parent.mkdir()
    link.symlink_to(path)
    with closing(open_store(link)) as one, closing(open_store(path)) as other:
        one.add_command(RUN, "pause")
        assert [command.kind for command in other.pending_commands(RUN)] == ["pause"]


# --- files that change under us ---------------------------------------------------------------------------


def remove_file(path: Path) -> None:
    path.unlink()


def remove_log(path: Path) -> None:
    path.with_name("runs.db-wal").unlink()


def remove_index(path: Path) -> None:
    path.with_name("runs.db-shm").unlink()


def remove_folder(path: Path) -> None:
    shutil.rmtree(path.parent)


def rename_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("moved"))


def replace_file(path: Path) -> None:
    copy = path.with_name("copy")
    shutil.copyfile(path, copy)
    copy.replace(path)


def put_text_there(path: Path) -> None:
    path.unlink()
    path.write_text("something else")


@pytest.mark.parametrize(
    "hurt",
    [remove_file, remove_log, remove_index, remove_folder, rename_folder, replace_file, put_text_there],
)
def test_files_that_go_while_they_are_used_are_noticed(tmp_path: Path, hurt: Callable[[Path], None]) -> None:
    """Otherwise all would go well, in a file without a name that nobody can ever read."""
    path = tmp_path / "store" / "runs.db"
    with closing(open_store(path)) as store:
        lease = fill(store)
        hurt(path)
        for write in (
            lambda: store.commit(RUN, lease.epoch, Batch(changes("a"))),
            lambda: store.renew(RUN, lease.epoch),
            lambda: store.add_command(RUN, "pause"),
        ):
            with pytest.raises(StoreError, match=r"(removed|replaced by another file) while it was in use"):
                write()
        left = contents(tmp_path)
    assert {name: data for name, data in contents(tmp_path).items() if "text" in name} == {
        name: data for name, data in left.items() if "text" in name
    }


def test_a_folder_that_is_put_back_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "store" / "runs.db"
    with closing(open_store(path)) as store:
        lease = fill(store)
        rename_folder(path)
        with pytest.raises(StoreError, match=r"put it back \(runs\.db, …-wal and …-shm belong"):
            store.commit(RUN, lease.epoch, Batch(changes("a")))
        (tmp_path / "moved").rename(path.parent)
        store.commit(RUN, lease.epoch, Batch(changes("a")))
        assert len(store.events(RUN)) == 51


# --- damage -----------------------------------------------------------------------------------------------


def test_a_file_that_was_cut_to_nothing_beside_a_log_is_not_taken_for_a_new_one(path: Path) -> None:
    with closing(open_store(path)) as store:
        lease = store.acquire(RUN, this_process())
        store.commit(RUN, lease.epoch, Batch(changes("a")))
        saved = contents(path.parent)
    for name, data in saved.items():
        (path.parent / name).write_bytes(data if name != "runs.db" else b"")
    before = contents(path.parent)
    assert before["runs.db-wal"]
    for create in (True, False):
        with pytest.raises(StoreError, match="it was cut off"):
            open_store(path, create=create)
    assert contents(path.parent) == before


def random_bytes(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice([1, 5, 50])):
        start = chance.randrange(len(data))
        data[start : start + chance.choice([1, 8, 200])] = chance.randbytes(8)


def zero_pages(data: bytearray, chance: random.Random) -> None:
    page = chance.randrange(len(data) // 4096) * 4096
    data[page : page + 4096] = bytes(4096)


def cut(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(600, len(data)) :]


def zero_header(data: bytearray, chance: random.Random) -> None:
    data[: chance.choice([16, 100, 4096])] = bytes(100)


def mix_pages(data: bytearray, chance: random.Random) -> None:
    one, other = (chance.randrange(len(data) // 4096) * 4096 for _ in range(2))
    data[one : one + 4096], data[other : other + 4096] = data[other : other + 4096], data[one : one + 4096]


def wrong_text(data: bytearray, chance: random.Random) -> None:
    """What only we can notice: values that are no JSON, no numbers, no UTF-8."""
    for before, after in ((b'{"n":', b"{{{n:"), (b"[[", b"\xff\xfe"), (b'{"id":', b'["id",')):
        place = data.rfind(before)
        if place >= 0 and chance.random() < 0.7:
            data[place : place + len(before)] = after


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("hurt", [random_bytes, zero_pages, cut, zero_header, mix_pages, wrong_text])
def test_damage_is_told_and_never_raises_anything_else(
    path: Path, hurt: Callable[[bytearray, random.Random], None], seed: int
) -> None:
    data = bytearray(path.read_bytes())
    hurt(data, random.Random(seed))
    path.write_bytes(data)
    before = contents(path.parent)
    told = error_of(lambda: open_store(path, create=False).close())
    if told is not None:
        assert str(path) in told
        assert contents(path.parent) == before
        return
    with closing(open_store(path, create=False)) as store:
        for read in (
            lambda: store.runs(),
            lambda: store.find_run(RUN),
            lambda: store.run(RUN),
            lambda: store.plan_of_task(RUN, "one"),
            lambda: store.tasks(RUN, outputs=True),
            lambda: store.marks(RUN),
            lambda: store.task(RUN, "one"),
            lambda: store.events(RUN),
            lambda: store.inputs(RUN),
        ):
            error_of(read)  # also of a run that is not found
    after = contents(path.parent)
    assert after["runs.db"] == before["runs.db"]


@pytest.mark.parametrize("seed", range(10))
def test_a_log_with_damage_gives_a_state_that_was_committed(path: Path, seed: int) -> None:
    """SQLite takes what is whole of it: the run is as it was after some commit."""
    chance = random.Random(seed)
    with closing(open_store(path)) as store:
        lease = store.acquire(RUN, this_process())
        for number in range(30):
            store.commit(RUN, lease.epoch, Batch(changes("a"), [["tick", number]]))
        saved = contents(path.parent)
    log = bytearray(saved["runs.db-wal"])
    chance.choice([random_bytes, cut])(log, chance)
    saved["runs.db-wal"] = bytes(log)
    if chance.random() < 0.5:
        del saved["runs.db-shm"]
    for name, data in saved.items():
        (path.parent / name).write_bytes(data)
    with closing(open_store(path)) as store:
        events = store.events(RUN)
        assert [event.seq for event in events] == [*range(1, store.run(RUN).last_seq + 1)]
        assert 50 <= len(events) <= 80
        assert len(store.inputs(RUN)) == len(events)


def test_a_missing_or_broken_index_is_made_anew(path: Path) -> None:
    with closing(open_store(path)) as store:
        store.add_command(RUN, "pause")
        expected = look(store)
        saved = contents(path.parent)
    for index in (None, b"", b"garbage" * 5000):
        for name, data in saved.items():
            (path.parent / name).write_bytes(data)
        if index is None:
            (path.parent / "runs.db-shm").unlink()
        else:
            (path.parent / "runs.db-shm").write_bytes(index)
        with closing(open_store(path)) as store:
            assert look(store) == expected


def test_a_journal_of_another_program_beside_the_file_changes_nothing(path: Path) -> None:
    with closing(open_store(path)) as store:
        expected = look(store)
    for garbage in (b"a diary", b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + bytes(600)):
        (path.parent / "runs.db-journal").write_bytes(garbage)
        with closing(open_store(path)) as store:
            assert look(store) == expected


# --- locks ------------------------------------------------------------------------------------------------


def test_a_file_that_another_process_keeps_locked_is_busy_and_readable(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.1)
    code = (
        "import sqlite3, sys\n"
        "connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "connection.execute('BEGIN IMMEDIATE')\n"
        "print('locked', flush=True)\n"
        "sys.stdin.readline()\n"
        "connection.execute('COMMIT')\n"
    )
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        with closing(open_store(path)) as store:
            look(store)
            with pytest.raises(StoreBusy, match="another process keeps the store locked"):
                store.add_command(RUN, "pause")
            os.kill(other.pid, signal.SIGKILL)  # its lock goes with it
            other.wait(PATIENCE)
            store.add_command(RUN, "pause")


def test_a_file_that_is_locked_whole_can_not_even_be_opened(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a program that does not use the log: then nobody can read."""
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.1)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        other.execute("CREATE TABLE theirs (a)")
        with pytest.raises(StoreError, match="another process keeps the store locked"):
            open_store(path)
        other.execute("ROLLBACK")


def test_limits_of_this_process_are_as_they_were() -> None:
    """So that no test here leaves others with less."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
