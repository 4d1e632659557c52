"""Children that functions fork: they hear their own signals, and end with the program or are found again."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.acceptance.leaves import nothing_runs, wait_for_pids
from tests.acceptance.program import Running, allready, environment, is_alive

from allready.agents.forks import NOTES_FILE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks are noted on Linux only")

HEAD = """\
import multiprocessing, os, signal, subprocess, sys, time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from allready import Plan, run_sync
plan = Plan("", max_parallel=2)
fork = multiprocessing.get_context("fork")

def say():
    with open("pids", "a") as file:
        file.write(f"{os.getpid()}\\n")

def wait(*_):
    say()
    time.sleep(300)
"""
KINDS = {
    "process": "p = fork.Process(target=wait); p.start(); p.join()",
    "deaf": "p = fork.Process(target=deaf); p.start(); p.join()",
    "pool": "fork.Pool(2).map(wait, range(2))",
    "executor": "list(ProcessPoolExecutor(2, fork).map(wait, range(2)))",
    "fork of a fork": "p = fork.Process(target=again); p.start(); p.join(); time.sleep(300)",
    "of an async function": "p = fork.Process(target=wait); p.start(); await asyncio.sleep(300)",
}
MORE = """
import asyncio

def deaf():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    wait()

def again():
    if os.fork() == 0:
        os.setsid()
        wait()
    os._exit(0)

"""


def write(folder: Path, kind: str) -> int:
    """Write a plan whose task forks; gives how many live then."""
    word = "async def" if "await" in KINDS[kind] else "def"
    (folder / "tasks.py").write_text(f"{HEAD}{MORE}@plan.task\n{word} work():\n    {KINDS[kind]}\n")
    return 2 if kind in {"pool", "executor"} else 1


def notes(folder: Path, run_id: str) -> Path:
    return folder / ".allready" / "runs" / run_id / NOTES_FILE


# --- signals ----------------------------------------------------------------------------------------------


def test_a_pool_of_processes_is_done_with(tmp_path: Path) -> None:
    """Its workers are ended by SIGTERM."""
    (tmp_path / "tasks.py").write_text(
        HEAD + "\n@plan.task\ndef work():\n    with fork.Pool(2) as pool:\n"
        "        return pool.map(abs, range(-3, 0))\n"
    )
    ended = allready("run", "tasks:plan", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "[3, 2, 1]" in ended.stdout


def test_signals_that_are_sent_to_a_fork_reach_it_however_early(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(
        HEAD + "\n@plan.task\ndef work():\n    codes = set()\n    for number in range(60):\n"
        "        p = fork.Process(target=time.sleep, args=[300])\n        p.start()\n"
        "        p.terminate()\n        p.join(20)\n        codes.add(p.exitcode)\n        p.kill()\n"
        "    return sorted(map(str, codes))\n"
    )
    ended = allready("run", "tasks:plan", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert '["-15"]' in ended.stdout


def test_signals_that_are_sent_to_a_fork_end_nothing_else(tmp_path: Path) -> None:
    """Two, as those that make the program kill all that it has started."""
    (tmp_path / "tasks.py").write_text(
        HEAD
        + MORE
        + "def other():\n    say()\n    while not Path('go').exists():\n        time.sleep(0.05)\n"
        "    return 'the other one'\n\n"
        "def stays():\n    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n    wait()\n\n"
        "@plan.task\ndef work():\n    p = fork.Process(target=stays)\n    p.start()\n"
        "    while not Path('pids').exists() or str(p.pid) not in Path('pids').read_text().split():\n"
        "        time.sleep(0.05)\n"
        "    for number in range(2):\n        p.terminate()\n        p.join(1.5)\n"
        "    p.kill()\n    p.join()\n    Path('go').touch()\n    return p.exitcode\n\n"
        "plan.add(other, id='other', isolate=True)\n"
    )
    ended = allready("run", "tasks:plan", cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "the other one" in allready("show", "latest", "other", cwd=tmp_path).stdout


# --- the end of the program -------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("kind", KINDS)
def test_forks_end_with_the_program(tmp_path: Path, kind: str, number: signal.Signals, code: int) -> None:
    count = write(tmp_path, kind)
    with Running("run", "tasks:plan", cwd=tmp_path) as run:
        run.wait_for("task.started", "work")
        pids = wait_for_pids(tmp_path, count)
        assert all(map(is_alive, pids))
        run.process.send_signal(number)
        assert run.end() == code
        # a pool makes new workers for those that ended: they are ended, too
        assert not any(map(is_alive, wait_for_pids(tmp_path, count)))
        nothing_runs(run.run_id)
    assert "Stopped" not in run.errors.read_text()
    assert "the run is paused" in allready("status", cwd=tmp_path).stdout


def test_forks_that_a_completed_task_left_end_with_the_program(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(
        HEAD + "pools = []\n\n@plan.task\ndef work():\n    pools.append(fork.Pool(2))\n"
        "    pools[0].map(abs, [1])\n"
        "    fork.Process(target=wait).start()\n    while not Path('pids').exists():\n"
        "        time.sleep(0.05)\n    return 'done'\n"
    )
    with Running("run", "tasks:plan", cwd=tmp_path) as run:
        assert run.end() == 0
        assert len(notes(tmp_path, run.run_id).read_text().splitlines()) >= 3
    assert not any(map(is_alive, wait_for_pids(tmp_path, 1)))
    for line in notes(tmp_path, run.run_id).read_text().splitlines():
        assert not is_alive(int(line.split()[1]))


def test_a_signal_at_the_very_end_ends_forks_too(tmp_path: Path) -> None:
    """While libraries wait for their processes, and a deaf one is given time."""
    (tmp_path / "tasks.py").write_text(
        HEAD + MORE + "@plan.task\ndef work():\n    fork.Process(target=deaf).start()\n"
        "    while not Path('pids').exists():\n        time.sleep(0.05)\n    return 'done'\n"
    )
    with Running("run", "tasks:plan", cwd=tmp_path) as run:
        run.wait_for("run.completed")
        pids = wait_for_pids(tmp_path, 1)
        run.process.stdout.read()  # type: ignore[union-attr]
        run.process.send_signal(signal.SIGTERM)
        assert run.process.wait(60) == 0
    assert not any(map(is_alive, pids))
    assert "Traceback" not in run.errors.read_text()


# --- kill -9 ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_forks_of_a_killed_program_are_ended_by_resume(tmp_path: Path, kind: str) -> None:
    count = write(tmp_path, kind)
    with Running("run", "tasks:plan", cwd=tmp_path) as run:
        run.wait_for("task.started", "work")
        pids = wait_for_pids(tmp_path, count)
        run.kill()
    assert all(map(is_alive, pids))
    with Running("resume", "latest", cwd=tmp_path) as again:
        again.wait_for("task.started", "work")
        assert not any(map(is_alive, pids))
        wait_for_pids(tmp_path, 2 * count)
        again.kill()
    assert allready("cancel", "latest", cwd=tmp_path).returncode == 0
    assert not any(map(is_alive, wait_for_pids(tmp_path, 2 * count)))
    assert not notes(tmp_path, run.run_id).exists(), "they are done with"


def test_strangers_that_got_the_number_of_a_fork_are_left_alone(tmp_path: Path) -> None:
    write(tmp_path, "process")
    with Running("run", "tasks:plan", cwd=tmp_path) as run:
        run.wait_for("task.started", "work")
        (pid,) = wait_for_pids(tmp_path, 1)
        run.kill()
    file = notes(tmp_path, run.run_id)
    boot, noted, started = file.read_text().split()
    assert int(noted) == pid
    with subprocess.Popen(["sleep", "300"]) as stranger:
        now = int(Path(f"/proc/{stranger.pid}/stat").read_text().rpartition(")")[2].split()[19])
        lines = [f"{boot} {stranger.pid} {started}", f"another-boot {stranger.pid} {now}", "cut", f"{boot} 1"]
        file.write_text("\n".join([*lines, f"{boot} {pid} {started}"]))
        assert allready("cancel", "latest", cwd=tmp_path).returncode == 0
        assert not is_alive(pid)
        assert stranger.poll() is None
        stranger.kill()


# --- from Python ------------------------------------------------------------------------------------------

SCRIPT = """
@plan.task
def work():
    program = subprocess.Popen(["sh", "-c", "echo $$ >> pids; sleep 300; :"])
    p = fork.Process(target=wait)
    p.start()
    p.join()

if __name__ == "__main__":
    before = dict(os.environ)
    try:
        run_sync(plan, store="runs.db", **dict(argument.split("=") for argument in sys.argv[1:]))
    finally:
        assert dict(os.environ) == before
"""


def test_what_functions_started_in_a_script_that_was_killed_is_ended_by_resume(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(HEAD + SCRIPT)

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "tasks.py", *arguments], cwd=tmp_path, env=environment(), start_new_session=True
        )

    with start() as first:
        pids = wait_for_pids(tmp_path, 2)
        first.kill()
    assert all(map(is_alive, pids))
    with start("resume=latest") as second:
        more = wait_for_pids(tmp_path, 4)[2:]
        assert not any(map(is_alive, pids))
        second.kill()
    assert allready("cancel", "latest", "--store", "runs.db", cwd=tmp_path).returncode == 0
    assert not any(map(is_alive, more))


def test_a_program_that_runs_nothing_pays_for_no_forks(tmp_path: Path) -> None:
    script = (
        "import os\ncalls = []\nos.register_at_fork = lambda **hooks: calls.extend(hooks.values())\n"
        "import allready, allready.cli.main, allready.engine.run\n"
        "print([call for call in calls if str(call.__module__).startswith('allready')])\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    assert out.strip() == "[]"


def test_programs_that_tasks_start_are_no_forks(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(
        HEAD
        + "\n@plan.task\ndef work():\n    return subprocess.check_output(['echo', 'said'], text=True)\n\n"
        "def apart():\n    return 'apart'\n\nplan.add(apart, id='apart', isolate=True)\n"
    )
    with Running("run", "tasks:plan", cwd=tmp_path) as run:
        assert run.end() == 0
        assert not notes(tmp_path, run.run_id).exists()
