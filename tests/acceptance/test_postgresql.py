"""The real program with its runs on a real PostgreSQL server, which is stopped, killed and cut off."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.leaves import nothing_runs
from tests.acceptance.many_runs import CHAIN
from tests.acceptance.program import (
    PATIENCE,
    PROGRAM,
    Running,
    allready,
    environment,
    has_text,
    is_alive,
    lines_of,
    wait_until,
)
from tests.engine.replaying import assert_replays
from tests.postgres import Lose, PostgresServer, kill_and_start, stop_and_start

from allready.core.states import RUN_ENDED
from allready.store import open_store
from allready.store.contract import LEASE_SECONDS, JournalEvent
from allready.store.sql import SqlStore

ROOT = Path(__file__).parents[2]
LENGTH = 12
"""Tasks of each chain."""


@pytest.fixture
def store(postgres_url: str) -> Iterator[SqlStore]:
    with closing(open_store(postgres_url)) as opened:
        yield opened


def write_chains(folder: Path) -> None:
    """Write a plan of two chains whose tasks leave a line each time they run."""
    lines = ["goal: Two chains", "max_parallel: 4", "tasks:"]
    for chain in "ab":
        for number in range(LENGTH):
            after = f", depends_on: [{chain}{number - 1}]" if number else ""
            command = f"echo {chain}{number} >> ran.txt; sleep 0.1"
            lines.append(f'  - {{id: {chain}{number}, run: [sh, -c, "{command}"]{after}}}')
    (folder / "plan.yaml").write_text("\n".join(lines) + "\n")


def journal_of(store: SqlStore, run_id: str) -> list[JournalEvent]:
    """Give the whole journal, which has no gap and nothing twice."""
    events = store.events(run_id, limit=100_000)
    assert [event.seq for event in events] == list(range(1, store.run(run_id).last_seq + 1))
    told = Counter((event.type, event.task) for event in events if event.type in ONCE)
    assert set(told.values()) <= {1}, told
    return events


ONCE = {"task.started", "task.completed", "run.completed"}
"""Events that come once for each task in a run where nothing fails."""


# --- a server that goes away ------------------------------------------------------------------------------


def cut(server: PostgresServer, url: str) -> None:
    assert server.cut_connections(url) > 0


def away_for(seconds: float) -> Lose:
    def lose(server: PostgresServer, _: str) -> None:
        server.stop("immediate")
        time.sleep(seconds)  # the length of the outage, not a wait for something
        server.start()

    return lose


@pytest.mark.slow
@pytest.mark.parametrize(
    "lose",
    [
        pytest.param(stop_and_start("fast"), id="fast"),
        pytest.param(stop_and_start("immediate"), id="immediate"),
        pytest.param(kill_and_start, id="kill"),
        pytest.param(cut, id="cut"),
        pytest.param(away_for(2), id="2s"),
        pytest.param(away_for(LEASE_SECONDS + 2), id="longer than the lease"),
    ],
)
def test_a_run_outlives_what_happens_to_the_server(
    tmp_path: Path, postgres: PostgresServer, postgres_url: str, store: SqlStore, lose: Lose
) -> None:
    write_chains(tmp_path)
    with Running("run", "plan.yaml", "--store", postgres_url, cwd=tmp_path) as run:
        run.wait_for("task.completed", "a1")
        lose(postgres, postgres_url)
        run.wait_for("task.completed", "a5")
        lose(postgres, postgres_url)
        assert run.end() == 0, run.errors.read_text()
    assert {view["attempts"] for view in run.last["tasks"].values()} == {1}
    ran = (tmp_path / "ran.txt").read_text().split()
    assert sorted(ran) == sorted(f"{chain}{number}" for chain in "ab" for number in range(LENGTH))
    events = journal_of(store, run.run_id)
    assert events[-1].type == "run.completed"
    assert [event["seq"] for event in run.events] == [event.seq for event in events]
    assert store.run(run.run_id).owner is None


@pytest.mark.slow
def test_an_outage_is_told_while_it_lasts_and_others_are_told_what_is_wrong(
    tmp_path: Path, postgres: PostgresServer, postgres_url: str, store: SqlStore
) -> None:
    write_chains(tmp_path)
    with Running("run", "plan.yaml", "--store", postgres_url, cwd=tmp_path) as run:
        run.wait_for("task.completed", "a1")
        postgres.stop()
        waiting = "waiting for the store (up to 10 minutes;"
        wait_until(lambda: waiting in run.errors.read_text(), "the outage is told")
        ran = (tmp_path / "ran.txt").read_text()
        told = allready("pause", "latest", "--store", postgres_url, cwd=tmp_path)
        assert told.returncode == 2
        assert "no PostgreSQL server answers at 127.0.0.1 port" in told.stderr
        assert "Traceback" not in told.stderr
        assert (tmp_path / "ran.txt").read_text() == ran, "nothing new starts"
        postgres.start()
        wait_until(lambda: "the store answers again" in run.errors.read_text(), "the end of it is told")
        assert run.end() == 0
    journal_of(store, run.run_id)


HELD = """\
import os, subprocess, time
from allready import Plan

plan = Plan("Held")
HALT = f"trap 'kill -STOP {os.getpid()}; echo > halted; exit' TERM; "
WAIT = "echo > ready; while :; do sleep 0.02; done"

@plan.task
def leaves() -> str:
    with open("ran.txt", "a") as ran:
        ran.write("leaves\\n")
    subprocess.Popen(["sh", "-c", HALT + WAIT], start_new_session=True)
    while not os.path.exists("ready"):
        time.sleep(0.02)
    return "what it gave"
"""
"""What the task leaves behind ends with the run, and halts the program then: before it tells of the end."""
GATED = """
@plan.task(approval=True)
def gated(leaves):
    pass
"""


@pytest.mark.parametrize(("more", "status", "code"), [("", "completed", 1), (GATED, "paused", 3)])
def test_a_server_that_is_gone_when_the_end_is_to_be_told(
    more: str, status: str, code: int, tmp_path: Path, postgres: PostgresServer, postgres_url: str
) -> None:
    """Something was run, so the exit code is not 2: that would say that it was not."""
    (tmp_path / "tasks.py").write_text(HELD + more)
    options = ("--store", postgres_url)
    process = subprocess.Popen(
        [*PROGRAM, "run", "tasks:plan", *options],
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: has_text(tmp_path / "halted") or process.poll() is not None, "it is halted")
        postgres.stop("immediate")
        process.send_signal(signal.SIGCONT)
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == code, err
    assert f"\n{status}" in out, "what is known is told"
    assert "no PostgreSQL server answers" in err
    assert f"the run is {status}; when the store works again: allready " in err
    assert "nothing was run" not in out + err
    assert "Traceback" not in err
    postgres.start()
    command = shlex.split(err.rpartition("works again: allready ")[2])
    if more:
        assert allready("approve", "latest", "gated", *options, cwd=tmp_path).returncode == 0
    (tmp_path / "ready").unlink()
    last = allready(*command, cwd=tmp_path)
    assert last.returncode == 0, last.stderr
    assert "completed" in last.stdout
    assert (tmp_path / "ran.txt").read_text() == "leaves\n"


HUNG = """
max_parallel: 3
tasks:
  - {id: first, run: [sh, -c, "echo x >> first"]}
  - {id: gate, run: [sh, -c, "until test -e go; do sleep 0.05; done"], depends_on: [first]}
  - id: long
    shell: true
    run: trap 'echo asked >> long; exit 1' TERM; echo runs >> long; until test -e go2; do sleep 0.05; done
    depends_on: [first]
  - {id: last, run: [sh, -c, "echo x >> last"], depends_on: [gate, long]}
"""


@pytest.mark.parametrize("interrupts", [1, 2])
def test_a_server_that_hangs_is_told_and_keeps_nobody_from_leaving(
    interrupts: int, tmp_path: Path, postgres: PostgresServer, postgres_url: str, store: SqlStore
) -> None:
    """Its answer is waited for two minutes otherwise: longer than this test has patience."""
    (tmp_path / "plan.yaml").write_text(HUNG)
    options = ("--store", postgres_url)
    with Running("run", "plan.yaml", *options, cwd=tmp_path) as run:
        run.wait_for("task.started", "long")
        wait_until(lambda: has_text(tmp_path / "long"), "long runs")
        postgres.suspend()
        try:
            (tmp_path / "go").touch()
            told = "has not answered for 5 s"
            wait_until(lambda: told in run.errors.read_text() or run.process.poll() is not None, "it is told")
            assert is_alive(run.process.pid), run.errors.read_text()
            assert (tmp_path / "long").read_text() == "runs\n", "what runs goes on"
            for _ in range(interrupts):
                run.process.send_signal(signal.SIGINT)
                time.sleep(0.1)  # two signals at once would be one
            assert run.end() == 130, run.errors.read_text()
            errors = run.errors.read_text()
            assert "does not answer" in errors
            assert "the run was stopped; when the store works again: allready resume" in errors
            assert "Traceback" not in errors
            nothing_runs(run.run_id)
            if interrupts == 1:
                assert (tmp_path / "long").read_text() == "runs\nasked\n", "it is stopped politely"
        finally:
            postgres.go_on()
    (tmp_path / "go2").touch()
    resumed = allready("resume", "latest", *options, cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert {row.state for row in store.tasks(run.run_id)} == {"completed"}
    for name in ("first", "last"):
        assert (tmp_path / name).read_text() == "x\n"
    journal = [event.type for event in store.events(run.run_id, task="first")]
    assert journal.count("task.started") == 1
    assert_replays(store, run.run_id)


@pytest.mark.slow
@pytest.mark.parametrize("lose", [stop_and_start("immediate"), cut], ids=["immediate", "cut"])
def test_a_command_that_waits_is_carried_out_once(
    tmp_path: Path, postgres: PostgresServer, postgres_url: str, store: SqlStore, lose: Lose
) -> None:
    """The owner is suspended while the command is recorded, and the server is lost before it wakes up."""
    (tmp_path / "plan.yaml").write_text(
        "goal: Steered\ntasks:\n"
        '  - {id: long, run: [sh, -c, "echo runs > long; until test -e go; do sleep 0.05; done"]}\n'
        '  - {id: gated, run: [sh, -c, "echo gated >> ran.txt"], approval: true}\n'
    )
    options = ("--store", postgres_url)
    with Running("run", "plan.yaml", *options, cwd=tmp_path) as run:
        run.wait_for("task.awaiting_approval", "gated")
        wait_until(lambda: has_text(tmp_path / "long"), "long runs")
        run.process.send_signal(signal.SIGSTOP)
        approved = allready("approve", "latest", "gated", *options, cwd=tmp_path)
        assert approved.returncode == 0, approved.stderr
        assert "has not answered yet" in approved.stdout
        lose(postgres, postgres_url)
        assert [command.kind for command in store.pending_commands(run.run_id)] == ["approve"]
        run.process.send_signal(signal.SIGCONT)
        run.wait_for("task.completed", "gated")
        (tmp_path / "go").touch()
        assert run.end() == 0, run.errors.read_text()
    assert (tmp_path / "ran.txt").read_text() == "gated\n"
    assert store.pending_commands(run.run_id) == []
    journal_of(store, run.run_id)


def test_a_run_that_was_killed_goes_on_from_another_folder(
    tmp_path: Path, postgres_url: str, store: SqlStore
) -> None:
    """Its files are in the first folder; whoever resumes it may be anywhere on the host."""
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    (tmp_path / "here/plan.yaml").write_text(
        "goal: Moved\ntasks:\n"
        '  - {id: a, run: [sh, -c, "echo a >> ran.txt"]}\n'
        '  - {id: b, run: [sh, -c, "echo b >> ran.txt; until test -e go; do sleep 0.05; done"], '
        "depends_on: [a]}\n"
    )
    options = ("--store", postgres_url)
    with Running("run", "plan.yaml", *options, cwd=tmp_path / "here") as run:
        run.wait_for("task.started", "b")
        wait_until(lambda: "b\n" in (tmp_path / "here/ran.txt").read_text(), "b runs")
        run.kill()
    (tmp_path / "here/go").touch()
    resumed = allready("resume", run.run_id, *options, cwd=tmp_path / "there")
    assert resumed.returncode == 0, resumed.stderr
    assert (tmp_path / "here/ran.txt").read_text() == "a\nb\nb\n"
    assert not (tmp_path / "there/ran.txt").exists()
    assert store.run(run.run_id).folder == str(tmp_path / "here/.allready/runs" / run.run_id)
    ignored = (tmp_path / "here/.allready/.gitignore").read_text()
    assert "/runs/" in ignored


# --- looking and steering ---------------------------------------------------------------------------------


def test_followers_see_events_and_the_end(tmp_path: Path, postgres_url: str) -> None:
    (tmp_path / "plan.yaml").write_text(
        "goal: Followed\ntasks:\n"
        '  - {id: a, run: [sh, -c, "until test -e go; do sleep 0.05; done"]}\n'
        "  - {id: b, run: [echo, done], depends_on: [a]}\n"
    )
    options = ("--store", postgres_url)
    with Running("run", "plan.yaml", *options, cwd=tmp_path) as run:
        run.wait_for("task.started", "a")
        with Running("logs", "latest", "-f", *options, cwd=tmp_path) as follower:
            follower.wait_for("task.started", "a")
            (tmp_path / "go").touch()
            follower.wait_for("run.completed")
            assert follower.end() == 0
        assert run.end() == 0


def test_cancel_waits_for_the_end(tmp_path: Path, postgres_url: str) -> None:
    (tmp_path / "plan.yaml").write_text("goal: Canceled\ntasks:\n  - {id: a, run: [sleep, '300']}\n")
    options = ("--store", postgres_url)
    with Running("run", "plan.yaml", *options, cwd=tmp_path) as run:
        run.wait_for("task.started", "a")
        canceled = allready("cancel", "latest", *options, cwd=tmp_path)
        assert canceled.returncode == 0, canceled.stderr
        assert f"run {run.run_id[:13]} canceled" in canceled.stdout
        assert run.end() == 4


def test_doctor_looks_at_the_server(tmp_path: Path, postgres: PostgresServer, postgres_url: str) -> None:
    def checks(url: str) -> dict[str, list[dict[str, Any]]]:
        told = allready("doctor", "--json", "--store", url, cwd=tmp_path)
        found: dict[str, list[dict[str, Any]]] = {}
        for check in lines_of(told.stdout)[0]["checks"]:
            found.setdefault(check["name"], []).append(check)
        return found

    secret = postgres_url.replace("postgres@", "postgres:s3cret@")
    (none,) = checks(secret)["store"]
    assert (
        none["text"]
        == f"none yet at {postgres_url.replace('postgres@', 'postgres:***@')}: the first run makes it"
    )
    open_store(postgres_url).close()
    found = checks(secret)
    assert "s3cret" not in str(found)
    assert "PostgreSQL" in found["store"][0]["text"]
    assert "connections in use" in found["server"][0]["text"]
    assert found["server"][0]["status"] == "ok"
    name = postgres_url.rpartition("/")[2]
    for statement in ("USAGE ON SCHEMA allready", "SELECT ON ALL TABLES IN SCHEMA allready"):
        postgres.execute(f"GRANT {statement} TO PUBLIC", name)
    postgres.execute("CREATE ROLE reader LOGIN")
    try:
        only, _ = checks(postgres.url(name, "reader"))["server"]
    finally:
        postgres.execute("DROP ROLE reader")
    assert (only["status"], only["text"][-33:]) == ("warning", "runs can be looked at, not driven")
    assert "TO reader" in only["hint"]
    postgres.restart(fsync="off")
    try:
        warned = checks(postgres_url)["server"]
        assert (warned[0]["status"], warned[0]["text"][:12]) == ("warning", "fsync is off")
    finally:
        postgres.restart()
    (wrong,) = checks("postgresql://127.0.0.1:1/x")["store"]
    assert wrong["status"] == "problem"
    assert "start it, or check host and port" in wrong["text"]


def test_a_password_is_not_shown(tmp_path: Path, postgres_url: str) -> None:
    (tmp_path / "plan.yaml").write_text('goal: x\ntasks:\n  - {id: a, run: [sh, -c, "exit 1"]}\n')
    secret = postgres_url.replace("postgres@", "postgres:s3cret@")
    for command in (["run", "plan.yaml"], ["retry", "latest"]):
        told = allready(*command, "--store", secret, cwd=tmp_path)
        assert "s3cret" not in told.stdout + told.stderr
        assert "Traceback" not in told.stderr
    hidden = [path for path in tmp_path.rglob("*") if path.is_file() and b"s3cret" in path.read_bytes()]
    assert hidden == []


# --- many at once -----------------------------------------------------------------------------------------

PROCESSES = 5
RUNS = 10
"""Runs of each process."""


@pytest.mark.slow
@pytest.mark.parametrize("lose", [None, stop_and_start("immediate")], ids=["undisturbed", "restarted"])
def test_many_runs_of_several_processes(
    tmp_path: Path, postgres: PostgresServer, postgres_url: str, store: SqlStore, lose: Lose | None
) -> None:
    command = [sys.executable, "-m", "tests.acceptance.many_runs", postgres_url, str(RUNS)]
    env = environment(PYTHONPATH=os.pathsep.join([str(ROOT), str(ROOT / "src")]))
    processes = [
        subprocess.Popen(
            command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(PROCESSES)
    ]
    try:
        wait_until(lambda: _waiting(store) == PROCESSES * RUNS, "all runs have come to their gates")
        assert postgres.connections(postgres_url) <= PROCESSES * 5 + 2
        runs = [row.id for row in store.runs(1000)]
        commands = {run: store.add_command(run, "approve", "gate") for run in runs}
        if lose is not None:
            lose(postgres, postgres_url)
        wait_until(
            lambda: all(store.task(run, "gate").state == "completed" for run in runs), "all are approved"
        )
        (tmp_path / "go").touch()
        for process in processes:
            out, errors = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0, errors
            assert out.split() == ["completed"] * RUNS
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    for run in runs:
        assert {task.attempts for task in store.tasks(run)} == {1}
        assert store.command(commands[run]).refused is None
        events = journal_of(store, run)
        assert sum(event.type == "task.completed" for event in events) == CHAIN + 2


def _waiting(store: SqlStore) -> int:
    """Count the runs that are as far as they come by themselves."""
    rows = store.runs(1000)
    assert not any(row.status in RUN_ENDED for row in rows)
    return sum(row.counts.get("running") == 1 and row.counts.get("awaiting_approval") == 1 for row in rows)
