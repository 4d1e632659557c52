"""The live view, on a real (pseudo) terminal."""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path
from typing import Self

import pytest
from tests.acceptance.program import PATIENCE, PROGRAM, allready, environment, wait_until

CODE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[@-_]")


class Terminal:
    """`allready` on a terminal of its own; a context manager that leaves no process behind."""

    def __init__(self, *arguments: str, cwd: Path, columns: int = 100, **env: str) -> None:
        self._terminal, inside = os.openpty()
        fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        variables = environment(**env)
        del variables["COLUMNS"]
        self.process = subprocess.Popen(
            [*PROGRAM, *arguments],
            cwd=cwd,
            env=variables,
            stdin=inside,
            stdout=inside,
            stderr=inside,
            start_new_session=True,
        )
        os.close(inside)
        self.raw = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._terminal)

    @property
    def text(self) -> str:
        """All that was ever shown, without what steers the terminal."""
        return CODE.sub("", self.raw.decode()).replace("\r", "")

    def read(self) -> bool:
        """Take what is there; says whether the program may still write."""
        if not select.select([self._terminal], [], [], 0.1)[0]:
            return self.process.poll() is None
        try:
            self.raw += os.read(self._terminal, 65536)
        except OSError:  # nobody has the other side open any more
            return False
        return True

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while text not in self.text:
            assert self.read(), f"the program ended without {text!r}:\n{self.text}"
            assert time.monotonic() < deadline, f"waited in vain for {text!r}:\n{self.text}"

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def end(self) -> int:
        while self.read():
            pass
        return self.process.wait(PATIENCE)


PLAN = """\
goal: Seen live
max_parallel: 2
defaults: {failure_strategy: skip}
tasks:
  - {id: talk, run: [sh, -c, "echo working on it; touch talked; until test -e go; do sleep 0.05; done"]}
  - {id: bad, run: [sh, -c, "echo it broke >&2; exit 3"]}
  - {id: end, run: [echo, all done], depends_on: [talk]}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "plan.yaml").write_text(PLAN)
    return tmp_path


@pytest.mark.parametrize("columns", [100, 30])
def test_progress_and_summary(folder: Path, columns: int) -> None:
    with Terminal("run", "plan.yaml", cwd=folder, columns=columns) as terminal:
        terminal.wait_for("▶ talk")
        terminal.wait_for("✖ bad: sh exited")
        if columns == 100:
            terminal.wait_for("working on it")
            terminal.wait_for("1/2 slots")
        (folder / "go").touch()
        assert terminal.end() == 0
        assert "2 of 3 tasks completed" in terminal.text
        assert "all done" in terminal.text
        assert "failed    bad: sh exited with code 3: it broke" in terminal.text.replace("\n", " ")
        assert "Traceback" not in terminal.text


def test_no_colour_where_none_is_wanted(folder: Path) -> None:
    (folder / "go").touch()
    with Terminal("run", "plan.yaml", cwd=folder, NO_COLOR="1") as terminal:
        assert terminal.end() == 0
        assert not re.search(rb"\x1b\[[0-9;]*3[0-7]m", terminal.raw)


def test_a_dumb_terminal_gets_plain_lines(folder: Path) -> None:
    (folder / "go").touch()
    with Terminal("run", "plan.yaml", cwd=folder, TERM="dumb") as terminal:
        assert terminal.end() == 0
        assert b"\x1b" not in terminal.raw
        assert "completed  talk" in terminal.text


def test_a_person_is_asked_at_once(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(
        "tasks:\n"
        "  - {id: agree, run: [echo, agreed], title: Shall we?, approval: true}\n"
        '  - {id: moody, run: [sh, -c, "test -e good"], failure_strategy: ask, depends_on: [agree]}\n'
        "  - {id: end, run: [echo, the end], depends_on: [moody]}\n"
    )
    with Terminal("run", "plan.yaml", cwd=tmp_path) as terminal:
        terminal.wait_for("agree (Shall we?) waits for approval\n[a]pprove, [s]kip, [l]ater? ")
        terminal.type("x\n")
        terminal.wait_for("[l]ater? x\n[a]pprove")
        terminal.type("a\n")
        terminal.wait_for("moody: sh exited with code 1")
        terminal.wait_for("[r]etry, [s]kip, [a]bort, [l]ater?")
        (tmp_path / "good").touch()
        terminal.type("r\n")
        assert terminal.end() == 0
        assert "the end" in terminal.text


def test_later_leaves_the_decision_open(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text("tasks: [{id: agree, run: [echo, agreed], approval: true}]\n")
    with Terminal("run", "plan.yaml", cwd=tmp_path) as terminal:
        terminal.wait_for("[l]ater?")
        terminal.type("l\n")
        assert terminal.end() == 3
        assert "allready approve" in terminal.text
    assert allready("approve", "latest", "agree", cwd=tmp_path).returncode == 0
    with Terminal("resume", "latest", cwd=tmp_path) as terminal:
        assert terminal.end() == 0


def test_a_resumed_run_asks_what_was_left_open(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(
        "tasks:\n"
        "  - {id: agree, run: [echo, agreed], approval: true}\n"
        '  - {id: moody, run: [sh, -c, "test -e good"], failure_strategy: ask}\n'
    )
    assert allready("run", "plan.yaml", cwd=tmp_path).returncode == 3
    (tmp_path / "good").touch()
    with Terminal("resume", "latest", cwd=tmp_path) as terminal:
        terminal.wait_for("agree waits for approval\n[a]pprove, [s]kip, [l]ater? ")
        terminal.type("a\n")
        terminal.wait_for("[r]etry, [s]kip, [a]bort, [l]ater? ")
        terminal.type("r\n")
        assert terminal.end() == 0


def test_every_question_is_asked_before_later_ends_the_run(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(
        "tasks: [{id: a, run: 'true', approval: true}, {id: b, run: 'true', approval: true}]\n"
    )
    with Terminal("run", "plan.yaml", cwd=tmp_path) as terminal:
        terminal.wait_for("a waits for approval\n[a]pprove, [s]kip, [l]ater? ")
        terminal.type("l\n")
        terminal.wait_for("b waits for approval\n[a]pprove, [s]kip, [l]ater? ")
        terminal.type("a\n")
        assert terminal.end() == 3
        assert "1 of 2 tasks completed" in terminal.text


def test_a_question_that_is_decided_elsewhere_is_withdrawn(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text("tasks: [{id: a, run: 'true', approval: true}]\n")
    with Terminal("run", "plan.yaml", cwd=tmp_path) as terminal:
        terminal.wait_for("[l]ater? ")
        assert allready("approve", "latest", "a", cwd=tmp_path).returncode == 0
        assert terminal.end() == 0
        assert "a needs no decision any more" in terminal.text


def test_a_run_that_ends_while_a_question_is_open_ends_with_its_summary(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(
        "tasks:\n"
        "  - {id: a, run: 'true', approval: true}\n"
        '  - {id: b, run: [sh, -c, "until test -e go; do sleep 0.05; done; exit 3"]}\n'
    )
    with Terminal("run", "plan.yaml", cwd=tmp_path) as terminal:
        terminal.wait_for("[l]ater? ")
        (tmp_path / "go").touch()
        assert terminal.end() == 1
        end = terminal.text.partition("[l]ater? ")[2]
        assert end.startswith("\n")
        assert "failed in " in end
        assert "slots" not in end.partition("failed in ")[2]


def test_ctrl_c_pauses(folder: Path) -> None:
    with Terminal("run", "plan.yaml", cwd=folder) as terminal:
        wait_until(lambda: (folder / "talked").exists(), "the task runs")
        terminal.wait_for("▶ talk")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.end() == 130
        assert "go on with: allready resume" in terminal.text
    (folder / "go").touch()
    assert allready("resume", "latest", "-q", cwd=folder).returncode == 0


def test_what_tasks_say_can_not_steer_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(
        'tasks: [{id: evil, run: [printf, "\\\\033[2J\\\\033]0;owned\\\\007plain\\n"]}]\n'
    )
    with Terminal("run", "plan.yaml", cwd=tmp_path) as terminal:
        assert terminal.end() == 0
        assert b"\x1b[2J" not in terminal.raw
        assert b"owned" not in terminal.raw
        assert "plain" in terminal.text
