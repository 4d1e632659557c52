"""The command under test: in this process for what is quick, as a real process for what matters there."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import IO, Any, NamedTuple

import pytest

from allready import Plan, run_sync
from allready.cli import main
from allready.engine.outcome import RunResult
from allready.store.open import open_store
from allready.store.sql import SqlStore

STORE = Path(".allready/runs.db")
OF_MODELS = (
    *("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GOOGLE_API_KEY", "GEMINI_API_KEY"),
    *("OPENAI_BASE_URL", "OLLAMA_BASE_URL"),
)
"""Variables that would choose a model, so that a test asked a real provider."""
DEADLINE = 30.0
"""Seconds for what other processes do; they take milliseconds."""
WAIT_FOR_GO = "while [ ! -e go ]; do sleep 0.02; done"
"""A command that ends as soon as the test makes the file `go`."""


class Answer(NamedTuple):
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


Call = Callable[..., Answer]


def make_run(plan: Plan | str | Path, **options: Any) -> RunResult:
    """Run a plan to its end, in the store of the current folder."""
    STORE.parent.mkdir(exist_ok=True)
    return run_sync(plan, store=STORE, **options)


def write_plan(text: str, name: str = "plan.yaml") -> Path:
    path = Path(name)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty folder to work in, without any configuration from outside of it."""
    home, folder = tmp_path / "home", tmp_path / "project"
    home.mkdir()
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in [name for name in os.environ if name.startswith("ALLREADY_")]:
        monkeypatch.delenv(name)
    for name in ("COLUMNS", "NO_COLOR", "XDG_CONFIG_HOME", *OF_MODELS):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Give a function that runs a command in this process."""

    def run(*arguments: str) -> Answer:
        capsys.readouterr()
        code = main.run([str(argument) for argument in arguments])
        return Answer(code, *capsys.readouterr())

    return run


def call_process(*arguments: str, env: Mapping[str, str] | None = None, stdin: str = "") -> Answer:
    """Run a command as a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "allready", *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        input=stdin,
        env={**os.environ, **(env or {})},
        timeout=DEADLINE,
        check=False,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def until(check: Callable[[], Any]) -> Any:
    """Wait until `check` gives something true, and give that."""
    deadline = time.monotonic() + DEADLINE
    while not (found := check()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
    return found


class Child:
    """A command that goes on in a process of its own."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "allready", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,  # or `line()` would take more than a line, which `end()` would miss
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def line(self) -> str:
        """Give the next line of its output."""
        assert self.process.stdout is not None
        return bytes(self.process.stdout.readline()).decode().rstrip("\n")

    def end(self) -> Answer:
        """Wait for its end."""
        out, err = self.process.communicate(timeout=DEADLINE)
        return Answer(self.process.returncode, out.decode(), err.decode())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(DEADLINE)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(DEADLINE)
        pipes: tuple[IO[bytes] | None, ...] = (self.process.stdout, self.process.stderr)
        for pipe in pipes:
            if pipe is not None:
                pipe.close()


@pytest.fixture
def start(project: Path) -> Iterator[Callable[..., Child]]:
    """Give a function that starts a command in the background."""
    children: list[Child] = []

    def begin(*arguments: str) -> Child:
        children.append(Child(*arguments))
        return children[-1]

    yield begin
    Path(project, "go").touch()
    for child in children:
        child.close()


def stored(look: Callable[[SqlStore, str], Any]) -> Any:
    """Look into the store of the current folder, at its newest run."""
    with closing(open_store(STORE, create=False)) as store:
        return look(store, store.find_run("latest"))


def wait_for_states(**states: str) -> None:
    """Wait until tasks of the newest run are in these states."""

    def check() -> bool:
        if not STORE.exists():
            return False
        try:
            found = stored(lambda store, run: {task.id: task.state for task in store.tasks(run)})
        except Exception:  # the store is being made
            return False
        return all(found.get(name) == state for name, state in states.items())

    until(check)


def wait_for_status(status: str) -> None:
    until(lambda: stored(lambda store, run: store.run(run).status == status))
