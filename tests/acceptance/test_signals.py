"""Signals at any moment of the program's life: a run can be resumed, and nothing of it goes on running."""

from __future__ import annotations

import os
import pty
import shlex
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from tests.acceptance.leaves import nothing_runs, wait_for_pids
from tests.acceptance.program import PROGRAM, Running, allready, environment, is_alive, wait_until

from allready.testing import ScriptedServer

STOPS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
WAIT = "echo $$ >> pids; until test -e go; do sleep 0.05; done"
PLAN = f'max_parallel: 2\ntasks:\n  - {{id: long, run: [sh, -c, "{WAIT}"]}}\n'


def status(folder: Path) -> str:
    return allready("status", cwd=folder).stdout


@pytest.mark.parametrize(("number", "code"), STOPS)
@pytest.mark.parametrize("after", [0.0, 0.1, 0.2, 0.3, 0.5])
def test_at_any_moment_of_the_start(tmp_path: Path, number: signal.Signals, code: int, after: float) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN)
    process = subprocess.Popen(
        [*PROGRAM, "run", "plan.yaml"],
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    time.sleep(after)  # not to wait for something: to meet another moment
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    # before Python has come to our first line, the system's default ends it, or Python's own start fails
    ended = {code, -number} if "Fatal Python error: init_" not in err else {1}
    assert process.returncode in ended, (out, err)
    if process.returncode != code:
        return
    assert "Traceback" not in err or "KeyboardInterrupt" in err
    (tmp_path / "go").touch()
    if (tmp_path / ".allready" / "runs.db").exists() and "latest" in allready(
        "list", "--json", cwd=tmp_path
    ).stdout:
        assert allready("resume", "latest", "-q", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(("number", "code"), STOPS)
def test_before_anybody_listens_and_where_python_ignores_what_is_raised(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    (tmp_path / "tasks.py").write_text(
        "import os\nfrom allready import Plan\n\n"
        "class Swallows:\n    def __del__(self):\n"
        f"        if not os.path.exists('came'):\n            open('came', 'w').close()\n"
        f"            os.kill(os.getpid(), {int(number)})\n\n"
        "Swallows()\nplan = Plan('')\n\n"
        "@plan.task\ndef given():\n    return 'what it gave'\n"
    )
    stopped = allready("run", "tasks:plan", cwd=tmp_path)
    assert (tmp_path / "came").exists()
    assert stopped.returncode == code, stopped.stderr
    assert "Exception ignored in" in stopped.stderr, "nobody but Python saw it"
    assert "go on with: allready resume" in stopped.stderr
    resumed = allready("resume", "latest", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert "what it gave" in resumed.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("where", ["_leave", "the exit of Python"])
def test_in_its_last_moments(tmp_path: Path, number: signal.Signals, where: str) -> None:
    """All is recorded and told by then: it leaves at once, with the exit code that it would have had."""
    begin = {
        "_leave": "threading.Thread(target=wait, daemon=False).start()",
        "the exit of Python": "atexit.register(come)",
    }
    (tmp_path / "tasks.py").write_text(
        "import atexit, os, sys, threading, time\nfrom allready import Plan\nplan = Plan('')\n\n"
        "def come():\n    open('came', 'w').close()\n"
        f"    os.kill(os.getpid(), {int(number)})\n    time.sleep(300)\n\n"
        "def leaves():\n    frame = sys._current_frames()[threading.main_thread().ident]\n"
        "    while frame is not None and frame.f_code.co_name != '_leave':\n        frame = frame.f_back\n"
        "    return frame is not None\n\n"
        "def wait():\n    while not leaves():\n        time.sleep(0.001)\n    come()\n\n"
        f"@plan.task\ndef given():\n    {begin[where]}\n    return 'what it gave'\n"
    )
    ended = allready("run", "tasks:plan", cwd=tmp_path)
    assert (tmp_path / "came").exists()
    assert ended.returncode == 0, ended.stderr
    assert "what it gave" in ended.stdout
    assert ended.stderr == ""
    assert "status   completed" in status(tmp_path)


@pytest.mark.parametrize(("number", "code"), STOPS)
def test_while_a_person_is_waited_for(tmp_path: Path, number: signal.Signals, code: int) -> None:
    (tmp_path / "plan.yaml").write_text("tasks: [{id: gate, run: echo through, approval: true}]")
    process, terminal = on_a_terminal(tmp_path, session=True)
    seen = b""
    while b"[a]pprove" not in seen:
        seen += os.read(terminal, 65536)
    process.send_signal(number)
    seen += read_all(terminal)
    assert process.wait(60) == code, seen.decode()
    assert b"go on with: allready resume" in seen
    assert allready("approve", "latest", "gate", cwd=tmp_path).returncode == 0
    assert allready("resume", "latest", cwd=tmp_path).stdout.count("through") == 1


def on_a_terminal(folder: Path, *before: str, session: bool = False) -> tuple[subprocess.Popen[bytes], int]:
    """Run the plan of the folder on a terminal of its own; gives the terminal's other side, too."""
    terminal, other = pty.openpty()
    process = subprocess.Popen(
        [*before, *PROGRAM, "run", "plan.yaml"],
        cwd=folder,
        env=environment(),
        stdin=other,
        stdout=other,
        stderr=other,
        start_new_session=session,
    )
    os.close(other)
    return process, terminal


def read_all(terminal: int) -> bytes:
    seen = b""
    try:
        while data := os.read(terminal, 65536):
            seen += data
    except OSError:  # the other side is closed
        pass
    return seen


def test_a_closed_terminal_leaves_a_run_that_can_be_resumed(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN)
    process, terminal = on_a_terminal(tmp_path, "setsid", "-c")
    pids = wait_for_pids(tmp_path, 1)
    os.close(terminal)  # the kernel sends SIGHUP, and nothing can be written any more
    assert process.wait(60) in {129, 3}
    assert not any(map(is_alive, pids))
    assert "the run is paused" in status(tmp_path)


def test_a_terminal_that_is_halted_halts_only_itself(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN)
    process, terminal = on_a_terminal(tmp_path, "setsid", "-c")
    wait_for_pids(tmp_path, 1)
    while b"long" not in os.read(terminal, 65536):
        pass
    os.write(terminal, b"\x13")  # Ctrl-S; nobody reads from here on, either
    canceled = allready("cancel", "latest", "--json", cwd=tmp_path)
    assert '"done":true' in canceled.stdout
    assert '"status":"canceled"' in canceled.stdout
    os.write(terminal, b"\x11")  # Ctrl-Q
    read_all(terminal)
    assert process.wait(60) == 4


def test_while_it_is_planned(tmp_path: Path) -> None:
    tasks = [{"id": f"t{number}", "prompt": "word " * 200} for number in range(20)]
    with ScriptedServer({}, plan=tasks, pause=0.05) as server:
        process = subprocess.Popen(
            [*PROGRAM, "do", "Compare", "--plan-only", "--model", "openai-chat:any"],
            cwd=tmp_path,
            env=environment(**server.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_until(lambda: server.requests, "the model is asked")
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 143, err
        assert "stopped while planning; nothing was run" in err
        wait_until(lambda: server.requests[0].outcome == "gone", "the request is closed")


def test_when_the_run_has_ended_and_nobody_reads_how(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(
        "tasks:\n" + "".join(f"  - {{id: {'t' * 60}{n}, run: 'true'}}\n" for n in range(400))
    )
    with Running("run", "plan.yaml", "--max-parallel", "8", cwd=tmp_path) as run:
        wait_until(lambda: "status   completed" in status(tmp_path), "the run has completed, unread")
        assert run.process.poll() is None, "the rest of its output still waits for a reader"
        run.process.send_signal(signal.SIGTERM)
        assert run.process.wait(60) == 0, "it tells how the run has ended"


# --- code that holds up everything ------------------------------------------------------------------------


def test_twice_ends_it_even_if_a_task_holds_up_the_event_loop(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(
        "import os, subprocess, time\nfrom allready import Plan\nplan = Plan('')\n\n"
        "@plan.task\nasync def rude():\n"
        "    subprocess.Popen(['sh', '-c', 'echo $$ >> pids; sleep 300; :'])\n    time.sleep(300)\n"
    )
    with Running("run", "tasks:plan", cwd=tmp_path) as run:
        pids = wait_for_pids(tmp_path, 1)
        run.process.send_signal(signal.SIGINT)
        time.sleep(0.1)  # two signals at once would be one
        run.process.send_signal(signal.SIGINT)
        assert run.end() == 130
        assert "holds up everything else: killed; go on with: allready resume" in run.errors.read_text()
        nothing_runs(run.run_id)
    assert not any(map(is_alive, pids))
    assert "allready resume" in status(tmp_path)


# --- in a container ---------------------------------------------------------------------------------------

NAMESPACE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
can_unshare = subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode == 0
ORPHANS = (
    "for n in 1 2 3; do (setsid sh -c 'sleep 0.1' &); done; sleep 1; ps -o stat= -e | grep -c Z; " + WAIT
)


def children(pid: int) -> list[int]:
    return [process.pid for process in psutil.Process(pid).children()]


@pytest.mark.skipif(not can_unshare, reason="this system makes no namespaces for processes")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_as_the_first_process_of_a_container(tmp_path: Path, number: signal.Signals, code: int) -> None:
    (tmp_path / "plan.yaml").write_text(
        f'max_parallel: 2\ntasks:\n  - {{id: long, run: [sh, -c, "{ORPHANS}"]}}\n'
    )
    with Running("run", "plan.yaml", cwd=tmp_path, before=NAMESPACE) as run:
        run.wait_for("task.started", "long")
        wait_for_pids(tmp_path, 1)
        os.kill(children(run.process.pid)[0], number)
        assert run.end() == code
        nothing_runs(run.run_id)
    shown = allready("logs", "latest", "long", cwd=tmp_path).stdout
    assert shown.splitlines()[0] == "0", "no zombies are left to whoever is the first process"
    assert "the run is paused" in status(tmp_path)
    (tmp_path / "go").touch()
    assert allready("resume", "latest", "-q", cwd=tmp_path).returncode == 0


@pytest.mark.skipif(not can_unshare, reason="this system makes no namespaces for processes")
def test_a_stop_is_heard_while_the_first_process_starts(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN)
    script = f"exec {shlex.join(PROGRAM)} run plan.yaml --json"
    with subprocess.Popen(
        [*NAMESPACE, "sh", "-c", script], cwd=tmp_path, env=environment(), stdout=subprocess.PIPE
    ) as outer:

        def stepped_aside() -> bool:
            first = children(outer.pid)
            return bool(first) and bool(children(first[0]))

        wait_until(stepped_aside, "the first process has made its child")
        os.kill(children(outer.pid)[0], signal.SIGTERM)
        assert outer.wait(60) == 143
