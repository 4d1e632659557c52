"""Two processes and one run: only its owner writes, and only its owner starts things."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.acceptance.program import PATIENCE, PROGRAM, Running, allready, environment, has_text, wait_until
from tests.acceptance.suspended import POINTS
from tests.agents.attempts import is_alive
from tests.engine.replaying import assert_replays

from allready.store import open_store
from allready.store.contract import LEASE_SECONDS
from allready.store.sql import SqlStore

WRAPPED = [sys.executable, "-m", "tests.acceptance.suspended"]
ROOT = Path(__file__).parents[2]
CONTESTANTS = 4

# each task notes in one file that it was started; `slow` waits until the test lets it go
PLAN = """\
max_parallel: 3
tasks:
  - {id: a, run: [sh, -c, "echo a >> started.txt"]}
  - {id: b, run: [sh, -c, "echo b >> started.txt"], depends_on: [a]}
  - id: slow
    run: [sh, -c, "echo slow >> started.txt; echo $$ >> slow.pid; until test -e go; do sleep 0.02; done"]
    depends_on: [a]
  - {id: c, run: [sh, -c, "echo c >> started.txt"], depends_on: [b]}
  - {id: end, run: [sh, -c, "echo end >> started.txt"], depends_on: [c, slow]}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "plan.yaml").write_text(PLAN)
    yield tmp_path
    (tmp_path / "go").touch()  # also for what a failed test has left behind


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, folder: Path) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{folder / 'runs.db'}"


@pytest.fixture
def store(store_url: str) -> Iterator[SqlStore]:
    with closing(open_store(store_url)) as opened:
        yield opened


def started(folder: Path) -> list[str]:
    path = folder / "started.txt"
    return path.read_text().split() if path.exists() else []


def slow_pids(folder: Path) -> list[int]:
    """Give the processes of `slow`, oldest first; 0 (no process) before there is one."""
    path = folder / "slow.pid"
    return [int(pid) for pid in path.read_text().split()] if has_text(path) else [0]


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def wrapped(*arguments: str, cwd: Path, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*WRAPPED, *arguments],
        cwd=cwd,
        env=environment(PYTHONPATH=str(ROOT), **env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize("occurrence", [1, 3])
@pytest.mark.parametrize("point", POINTS)
def test_an_owner_that_was_suspended_does_no_more(
    point: str, occurrence: int, folder: Path, store_url: str, store: SqlStore
) -> None:
    options = ("--store", store_url, "--quiet")
    first = wrapped("run", "plan.yaml", *options, cwd=folder, SUSPEND_AT=f"{point}#{occurrence}")
    try:
        wait_until(lambda: is_stopped(first.pid) or first.poll() is not None, "it has stopped itself")
        assert first.poll() is None, first.communicate()
        seq = store.run(run(store)).last_seq
        # to the second the lease has run out: its clock is ahead
        second = wrapped("resume", "latest", *options, cwd=folder, AHEAD="15")
        try:
            wait_until(lambda: waits_for_slow(store, seq) or second.poll() is not None, "it waits for slow")
            assert second.poll() is None, second.communicate()
            wait_until(lambda: is_alive(slow_pids(folder)[-1]), "slow runs")
            before, events = started(folder), store.run(run(store)).last_seq
            first.send_signal(signal.SIGCONT)
            out, err = first.communicate(timeout=PATIENCE)
            assert first.returncode == 5, (out, err)
            assert "took over run" in err
            assert "what this process had started for the run was stopped" in err
            assert store.run(run(store)).last_seq == events, "it wrote nothing"
            more = len(started(folder)) - len(before)
            assert more <= (1 if point == "begin.after" else 0), "only from its last look on"
            (folder / "go").touch()
            assert second.wait(PATIENCE) == 0, second.communicate()
        finally:
            end(second)
    finally:
        end(first)
    rows = store.tasks(run(store))
    assert {row.state for row in rows} == {"completed"}
    assert all(row.attempts <= 2 for row in rows)
    assert_replays(store, run(store))
    assert not any(map(is_alive, slow_pids(folder)))


def run(store: SqlStore) -> str:
    return store.find_run("latest")


def waits_for_slow(store: SqlStore, seq: int) -> bool:
    """Whether only `slow` is under way, started after the event `seq`, as far as the store knows."""
    states = [row.state for row in store.tasks(run(store))]
    again = any(event.type == "task.started" for event in store.events(run(store), seq, task="slow"))
    return again and states == ["completed", "completed", "running", "completed", "pending"]


def end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.kill()
        process.send_signal(signal.SIGCONT)
    process.communicate()


def test_an_owner_that_slept_through_its_lease(folder: Path, store_url: str, store: SqlStore) -> None:
    """The same by the clock on the wall."""
    with Running("run", "plan.yaml", "--store", store_url, cwd=folder) as first:
        first.wait_for("task.completed", "c")
        wait_until(lambda: has_text(folder / "slow.pid"), "slow runs")
        first.process.send_signal(signal.SIGSTOP)
        early = allready("resume", "latest", "--store", store_url, cwd=folder)
        assert early.returncode == 2
        assert f"is owned by process {first.process.pid}" in early.stderr
        until = store.run(run(store)).lease_until
        assert until is not None
        wait_until(lambda: store_time(store) > until, "its lease has run out")
        with Running("resume", "latest", "--store", store_url, cwd=folder) as second:
            second.wait_for("task.started", "slow")
            wait_until(lambda: len(slow_pids(folder)) == 2, "slow runs again")
            pids = slow_pids(folder)
            assert not is_alive(pids[0]), "what the one before had started was ended first"
            first.process.send_signal(signal.SIGCONT)
            assert first.end() == 5
            assert f"process {second.process.pid}" in first.errors.read_text()
            assert is_alive(pids[1]), "that of the new owner goes on"
            (folder / "go").touch()
            assert second.end() == 0
    assert started(folder).count("slow") == 2
    assert [started(folder).count(task) for task in "abc"] == [1, 1, 1]


def store_time(store: SqlStore) -> float:
    with store._reading() as connection:
        return store._now(connection)


def test_one_that_slept_and_was_not_replaced_goes_on(folder: Path, store_url: str) -> None:
    with Running("run", "plan.yaml", "--store", store_url, cwd=folder) as first:
        first.wait_for("task.started", "slow")
        first.process.send_signal(signal.SIGSTOP)
        (folder / "go").touch()
        time.sleep(LEASE_SECONDS + 1)  # by its own clock the lease is over
        first.process.send_signal(signal.SIGCONT)
        assert first.end() == 0
    assert sorted(started(folder)) == ["a", "b", "c", "end", "slow"]


def test_several_that_resume_at_the_same_instant(folder: Path, store_url: str, store: SqlStore) -> None:
    with Running("run", "plan.yaml", "--store", store_url, cwd=folder) as first:
        first.wait_for("task.started", "slow")
        wait_until(lambda: "slow" in started(folder), "slow runs")
        first.kill()
    under_way = [row.id for row in store.tasks(run(store)) if row.state == "running"]
    before = started(folder)
    command = [*PROGRAM, "resume", "latest", "--store", store_url, "--quiet"]
    script = "read line; exec " + " ".join(f"'{part}'" for part in command)
    contestants = [
        subprocess.Popen(
            ["sh", "-c", script],
            cwd=folder,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(CONTESTANTS)
    ]
    for contestant in contestants:
        assert contestant.stdin is not None
        contestant.stdin.write("go\n")
        contestant.stdin.flush()
    try:
        wait_until(lambda: sum(each.poll() is None for each in contestants) == 1, "one is left")
        (folder / "go").touch()
        told = [each.communicate(timeout=PATIENCE) for each in contestants]
    finally:
        for each in contestants:
            end(each)
    assert sorted(each.returncode for each in contestants) == [0, *[2] * (CONTESTANTS - 1)]
    assert sum("is owned by process" in error for _, error in told) == CONTESTANTS - 1
    assert store.run(run(store)).epoch == 2
    after = Counter(started(folder)) - Counter(before)
    # what the dead one had started may have written its line after we looked
    assert all(count == 1 or (count == 2 and task in under_way) for task, count in after.items()), after
    assert set(after) <= {"b", "c", "end", *under_way}
    assert_replays(store, run(store))
