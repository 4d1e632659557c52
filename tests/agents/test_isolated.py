from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.agents import isolated_functions as functions
from tests.agents.attempts import is_alive, make_attempt

from allready.agents.isolated import IsolatedAgent, locate
from allready.errors import PermanentError, TaskError, TransientError


@pytest.fixture(autouse=True)
def tests_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pytest imports the tests without `sys.path`; other processes can't."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2])


async def test_a_function_runs_in_a_process_of_its_own(tmp_path: Path) -> None:
    attempt = make_attempt(tmp_path)
    result = await IsolatedAgent(functions.add, {"b": 2}, [1]).run(attempt)
    assert result.data["sum"] == 3
    assert result.data["pid"] != os.getpid()
    assert result.data["attempt"] == attempt.handle
    assert result.output.startswith('{"sum": 3, ')
    assert result.exit_code == 0
    assert (attempt.folder / "stdout.txt").read_text() == "printed\n"
    assert (attempt.folder / "stderr.txt").read_text() == ""
    assert sorted(path.name for path in attempt.folder.iterdir()) == ["stderr.txt", "stdout.txt"]


async def test_async_functions_and_methods(tmp_path: Path) -> None:
    attempt = make_attempt(tmp_path)
    assert await IsolatedAgent(functions.later, args=["text"]).call(attempt) == "TEXT"
    assert await IsolatedAgent(functions.Holder.method).call(attempt) == "method"


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("permanent", PermanentError, "never"),
        ("transient", TransientError, "later"),
        ("task", TaskError, "failed"),
        ("value", TaskError, "ValueError: bad value"),
        ("exit", TaskError, "SystemExit: 0"),
        ("die", TaskError, "no result: the function's process exited with code 9:\nbefore the end"),
        ("crash", TaskError, "no result: the function's process was ended by SIGSEGV"),
    ],
)
async def test_exceptions_come_back(
    tmp_path: Path, kind: str, error: type[TaskError], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    with pytest.raises(error) as caught:
        await IsolatedAgent(functions.fail, args=[kind]).run(make_attempt(tmp_path))
    assert type(caught.value) is error
    assert str(caught.value).startswith(message)
    if isinstance(caught.value, TransientError):
        assert caught.value.retry_after == 2.5
    else:
        assert caught.value.result.output == "before the end"  # type: ignore[attr-defined]
    if kind not in ("die", "crash"):
        assert "Traceback" in (tmp_path / "attempt" / "stderr.txt").read_text()


async def test_values_that_json_can_not_carry(tmp_path: Path) -> None:
    attempt = make_attempt(tmp_path)
    with pytest.raises(PermanentError, match="can't be carried as JSON"):
        await IsolatedAgent(functions.give_set).run(attempt)
    with pytest.raises(PermanentError, match="can't be carried as JSON"):
        await IsolatedAgent(functions.add, args=[{1}]).run(attempt)


async def test_secrets_are_blanked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_TOKEN", "hunter22")
    attempt = make_attempt(tmp_path)
    with pytest.raises(TaskError, match=r"ValueError: \[secret\]"):
        await IsolatedAgent(functions.leak).run(attempt)
    assert not any("hunter22" in path.read_text() for path in attempt.folder.iterdir())


async def test_it_is_killed(tmp_path: Path) -> None:
    ready = asyncio.Event()
    attempt = make_attempt(tmp_path, grace=0.05, on_output=lambda _: ready.set())
    task = asyncio.create_task(IsolatedAgent(functions.hang, args=[str(tmp_path / "pid")]).run(attempt))
    await ready.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not is_alive(int((tmp_path / "pid").read_text()))


def test_what_can_not_be_found_by_its_name() -> None:
    def inner() -> None: ...

    with pytest.raises(PermanentError, match="define it at the top of a module"):
        locate(inner)
    with pytest.raises(PermanentError, match="define it at the top of a module"):
        locate(lambda: None)

    def renamed() -> None: ...

    renamed.__qualname__ = "add"
    renamed.__module__ = functions.__name__
    with pytest.raises(PermanentError, match="is another function by now"):
        locate(renamed)
    renamed.__qualname__ = "gone"
    with pytest.raises(PermanentError, match="has no gone"):
        locate(renamed)


SCRIPT = """
import asyncio, dataclasses, os, sys
from pathlib import Path
from allready.agents.base import Attempt
from allready.agents.isolated import IsolatedAgent

@dataclasses.dataclass
class Answer:
    name: str

def work(a):
    return [__name__, Answer(a)]

async def main():
    place = Path(sys.argv[1])
    attempt = Attempt(f"run {os.getpid()}", "task", "handle", 1, place, place)
    print((await IsolatedAgent(work, args=["x"]).run(attempt)).output)

if __name__ == "__main__":
    asyncio.run(main())
"""


@pytest.mark.parametrize("way", [["script"], ["-m", "module"]])
def test_functions_of_scripts(tmp_path: Path, way: list[str]) -> None:
    (tmp_path / "script").write_text(SCRIPT)
    (tmp_path / "module.py").write_text(SCRIPT)
    place = tmp_path / "place"
    place.mkdir()
    done: Any = subprocess.run(
        [sys.executable, "-W", "error", *way, str(place)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    name = "module" if "-m" in way else "__allready_script__"
    assert (done.stdout, done.stderr) == (f'["{name}", {{"name": "x"}}]\n', "")


def test_a_script_that_starts_its_run_unguarded_is_told(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "from allready import Plan, run_sync\n"
        "plan = Plan()\n"
        "@plan.task(isolate=True)\n"
        "def one() -> int:\n"
        "    return 1\n"
        "print(run_sync(plan).error)\n"
    )
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert 'put that under `if __name__ == "__main__":`' in done.stdout
    assert done.stdout.count("task 'one' failed") == 1
