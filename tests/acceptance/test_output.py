"""An output that takes no more, and a folder that is gone: the program says so in a line."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest
from tests.acceptance.program import PROGRAM, allready, environment

PRINTING = [
    *("--version", "--help", "list", "list --help", "list --json", "status", "show latest", "why latest"),
    *("show latest long --output", "logs latest", "prune --dry-run", "replay latest", "validate plan.yaml"),
    *("graph plan.yaml", "simulate plan.yaml --slots 1", "schema plan", "agents", "doctor", "db upgrade"),
]
"""`schema` and the task's output are longer than any buffer."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("output")
    (folder / "plan.yaml").write_text("tasks: [{id: long, run: [seq, '100000']}]")
    assert allready("run", "plan.yaml", "-q", cwd=folder).returncode == 0
    return folder


def shell(script: str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a script; `allready` in it is the program."""
    script = f'allready() {{ {shlex.join(PROGRAM)} "$@"; }}\n{script}'
    return subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=environment(**env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("command", "unbuffered"), [*((command, "") for command in PRINTING), ("list", "1"), ("schema", "1")]
)
def test_a_full_disk_behind_the_output(project: Path, command: str, unbuffered: str) -> None:
    done = shell(f"allready {command} > /dev/full", project, PYTHONUNBUFFERED=unbuffered)
    assert done.stderr == "allready: can't write to the output: No space left on device\n"
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("command", "unbuffered"),
    [
        *((command, "") for command in ("--version", "list", "show latest long --output")),
        ("schema plan", "1"),
    ],
)
def test_a_reader_that_has_had_enough(project: Path, command: str, unbuffered: str) -> None:
    """The pipe has no reader from the start: what is not longer than a pipe would fit into it otherwise."""
    script = f"""
        mkfifo pipe
        exec 3<>pipe 4>pipe 3<&-  # open to be written, and nobody is there to read
        rm pipe
        allready {command} >&4
    """
    done = shell(script, project, PYTHONUNBUFFERED=unbuffered)
    assert (done.returncode, done.stderr) == (141, "")


def test_nobody_reads_what_is_wrong(project: Path) -> None:
    for code, command in ((2, "no-such-command"), (2, "show no-such-run"), (0, "list")):
        assert shell(f"allready {command} 2> /dev/full", project).returncode == code


def test_a_working_directory_that_is_gone(project: Path) -> None:
    def called(command: str) -> tuple[int, str]:
        done = shell(f"mkdir gone; cd gone; rmdir ../gone; allready {command}", project)
        return done.returncode, done.stderr

    plan, store = project / "plan.yaml", project / ".allready/runs.db"
    said = "allready: the working directory is gone: change into one that exists\n"
    for command in ("list", "doctor", "agents", f"validate {plan}", f"run {plan}", "validate plan.yaml"):
        assert called(command) == (2, said)
    for command in ("--version", "--help", "schema plan", f"list --store {store}", f"status --store {store}"):
        assert called(command) == (0, "")
