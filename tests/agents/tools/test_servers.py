"""Tools of real MCP servers: processes that live as long as the attempt, and servers over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvicorn
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models.function import AgentInfo, FunctionModel
from tests.agents.attempts import children, is_alive, make_attempt, open_files
from tests.agents.tools.mcp_program import make
from tests.agents.tools.using import Use, put

from allready.agents.leftovers import end_leftovers
from allready.agents.tools import servers, toolsets_for
from allready.errors import PermanentError, TaskError

PROGRAM = str(Path(__file__).with_name("mcp_program.py"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "project"
    place.mkdir()
    return place


def configure(folder: Path, name: str = "test", **settings: Any) -> None:
    """Say in .mcp.json how the server is started."""
    entry = settings if "url" in settings else {"command": sys.executable, "args": [PROGRAM], **settings}
    put(folder, ".mcp.json", json.dumps({"mcpServers": {name: entry}}))


def using(tmp_path: Path, *tools: str) -> Use:
    return Use(make_attempt(tmp_path, base_dir=tmp_path / "project"), *tools)


def processes(use: Use) -> list[int]:
    """Processes that carry the run's id."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("ALLREADY_RUN_ID") == use.attempt.run_id:
                found.append(process.pid)
        except psutil.Error:
            continue
    return [pid for pid in found if is_alive(pid)]


@pytest.fixture
async def nothing_leaks() -> AsyncIterator[None]:
    """No child is left, no zombie neither, and no file is open that was not before."""
    before, others = open_files(), children()  # a server that tests share may be there
    yield
    assert children() <= others
    assert open_files() == before


async def test_tools_of_a_server_are_used(folder: Path, tmp_path: Path, nothing_leaks: None) -> None:
    configure(folder, env={"GREETING": "${NOBODY_SETS_THIS:-hello}"})
    use = using(tmp_path, "mcp__test")
    total, greeting, run_id, place = await use.calls(
        ("mcp__test__add", {"a": 2, "b": 3}),
        ("mcp__test__environment", {"name": "GREETING"}),
        ("mcp__test__environment", {"name": "ALLREADY_RUN_ID"}),
        ("mcp__test__place", {}),
    )
    assert (total.text, greeting.text, run_id.text) == ("5", "hello", use.attempt.run_id)
    cwd, pid = place.text.split()
    assert cwd == str(folder)
    assert not is_alive(int(pid))
    assert processes(use) == []
    assert "mcp__test__fail" in use.seen
    assert use.seen["mcp__test__add"].description == "Add two numbers."


async def test_all_calls_of_an_attempt_meet_the_same_process(folder: Path, tmp_path: Path) -> None:
    configure(folder, cwd="sub")
    (folder / "sub").mkdir()
    answers = await using(tmp_path, "mcp__test__place").calls(*[("mcp__test__place", {})] * 3)
    assert len({answer.text for answer in answers}) == 1
    assert answers[0].text.split()[0] == str(folder / "sub")


async def test_only_the_tools_that_are_named(folder: Path, tmp_path: Path) -> None:
    configure(folder)
    use = using(tmp_path, "mcp__test__add", "mcp__test__place")
    await use("mcp__test__add", a=1, b=1)
    assert sorted(use.seen) == ["mcp__test__add", "mcp__test__place"]


async def test_a_tool_that_the_server_lacks_is_told(folder: Path, tmp_path: Path) -> None:
    configure(folder)
    use = using(tmp_path, "mcp__test__ad")
    with pytest.raises(PermanentError, match="MCP server 'test' has no tool 'ad'; it has add, die, env"):
        await use("mcp__test__ad")
    assert processes(use) == []


async def test_failures_of_a_tool_go_back_to_the_model(folder: Path, tmp_path: Path) -> None:
    configure(folder)
    use = using(tmp_path, "mcp__test")
    failed, wrong, picture = await use.calls(
        ("mcp__test__fail", {}), ("mcp__test__add", {"a": "x"}), ("mcp__test__picture", {})
    )
    assert failed.refused
    assert wrong.refused
    assert "b" in wrong.text
    assert "[image/png, 4 bytes, left out]" in picture.text


async def test_a_server_that_dies_says_its_last_words(
    folder: Path, tmp_path: Path, nothing_leaks: None
) -> None:
    configure(folder, env={"DB_TOKEN": "very-secret-token"})
    use = using(tmp_path, "mcp__test")
    with pytest.raises(TaskError, match=r"the MCP server 'test' .* failed in its tool die") as caught:
        await use("mcp__test__die")
    assert str(caught.value).endswith("its last words:\nsomething broke with [secret]")
    log = use.attempt.folder / "mcp__test.txt"
    assert log.read_text() == "something broke with [secret]\n"


async def test_a_server_that_can_not_be_started(folder: Path, tmp_path: Path, nothing_leaks: None) -> None:
    configure(folder, env={"REFUSE": "1", "DB_TOKEN": "very-secret-token"})
    use = using(tmp_path, "mcp__test")
    with pytest.raises(
        TaskError, match=r"the MCP server 'test' \(.*python.*, .mcp.json\) can't be"
    ) as caught:
        await use("mcp__test__add", a=1, b=1)
    assert str(caught.value).endswith("its last words:\nno database here, [secret]")
    assert processes(use) == []


async def test_a_server_that_can_not_say_its_tools(folder: Path, tmp_path: Path, nothing_leaks: None) -> None:
    configure(folder, env={"LOSE_TOOLS": "1"})
    with pytest.raises(TaskError, match=r"'test' .* can't say which tools it has") as caught:
        await using(tmp_path, "mcp__test")("mcp__test__add")
    assert str(caught.value).endswith("its last words:\nlost my list")


async def test_of_a_server_that_writes_on_and_on_only_the_end_is_kept(
    folder: Path, tmp_path: Path, nothing_leaks: None
) -> None:
    flood = "head -c 5000000 /dev/zero | tr '\\0' x >&2; echo >&2; echo that is all >&2; exit 1"
    configure(folder, command="sh", args=["-c", flood])
    use = using(tmp_path, "mcp__test")
    with pytest.raises(TaskError) as caught:
        await use("mcp__test__add")
    assert str(caught.value).endswith("its last words:\nthat is all")
    assert (use.attempt.folder / "mcp__test.txt").stat().st_size <= servers.KEPT


async def test_a_program_that_is_not_there(folder: Path, tmp_path: Path, nothing_leaks: None) -> None:
    configure(folder, command="no-such-program-here")
    with pytest.raises(TaskError, match=r"'test' .* can't be started: .*No such file"):
        await using(tmp_path, "mcp__test")("mcp__test__add")


async def test_a_server_that_never_answers(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nothing_leaks: None
) -> None:
    monkeypatch.setattr(servers, "CONNECT_TIME", 1.0)
    configure(folder, env={"HANG": "1"})
    use = using(tmp_path, "mcp__test")
    with pytest.raises(TaskError, match=r"'test' .* can't be started") as caught:
        await use("mcp__test__add")
    assert str(caught.value).endswith("its last words:\nstarting")
    assert processes(use) == []


async def test_what_a_server_leaves_running_ends_with_it(
    folder: Path, tmp_path: Path, nothing_leaks: None
) -> None:
    configure(folder)
    use = using(tmp_path, "mcp__test")
    answer = await use("mcp__test__leave_something_running")
    assert not is_alive(int(answer.text))
    assert processes(use) == []


async def test_odd_lines_of_a_server_disturb_nothing(folder: Path, tmp_path: Path) -> None:
    configure(folder, command="/bin/sh", args=["-c", f"echo hello; exec '{sys.executable}' '{PROGRAM}'"])
    code = (
        "import asyncio, pathlib\n"
        "from tests.agents.tools.using import Use\n"
        "from tests.agents.attempts import make_attempt\n"
        f"attempt = make_attempt(pathlib.Path({str(tmp_path)!r}), base_dir=pathlib.Path({str(folder)!r}))\n"
        "print(asyncio.run(Use(attempt, 'mcp__test')('mcp__test__add', a=1, b=2)).text)\n"
    )
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False
    )
    assert (done.stdout, done.stderr) == ("3\n", "")


async def started(use: Use) -> tuple[asyncio.Task[Any], list[int]]:
    """Begin a run whose model never answers; give it with the server's processes."""
    asked = asyncio.Event()

    async def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    agent = Agent(FunctionModel(model), toolsets=toolsets_for(use.definition, use.attempt))
    work = asyncio.create_task(agent.run("go"))
    await asked.wait()
    return work, processes(use)


async def test_a_server_ends_with_a_canceled_attempt(
    folder: Path, tmp_path: Path, nothing_leaks: None
) -> None:
    configure(folder)
    use = using(tmp_path, "mcp__test")
    work, pids = await started(use)
    assert len(pids) == 1
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert not any(map(is_alive, pids))


async def test_a_server_that_will_not_end_is_ended_when_forced(folder: Path, tmp_path: Path) -> None:
    put(
        folder,
        "stubborn.py",
        f"""
import signal, sys, threading
signal.signal(signal.SIGTERM, signal.SIG_IGN)
sys.argv = [{PROGRAM!r}]
import runpy, time
try:
    runpy.run_path({PROGRAM!r}, run_name="__main__")
finally:
    time.sleep(600)
""",
    )
    configure(folder, args=[str(folder / "stubborn.py")])
    use = using(tmp_path, "mcp__test")
    held: list[Any] = []
    use.attempt.hold_place = held.append
    work, pids = await started(use)
    work.cancel()
    done, _ = await asyncio.wait([work], timeout=0.3)
    assert not done  # it is being asked
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert len(held) == 1
    assert await held[0] == 1
    while any(map(is_alive, pids)):
        await asyncio.sleep(0.01)


async def test_a_server_is_found_by_the_runs_id_after_a_crash(folder: Path, tmp_path: Path) -> None:
    configure(folder)
    use = using(tmp_path, "mcp__test")
    work, pids = await started(use)
    assert await asyncio.to_thread(end_leftovers, use.attempt.run_id, None, 0) == len(pids) == 1
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work


async def test_canceled_while_it_starts(folder: Path, tmp_path: Path, nothing_leaks: None) -> None:
    configure(folder, env={"HANG": "1"})
    use = using(tmp_path, "mcp__test")
    work = asyncio.create_task(use("mcp__test__add"))
    while not processes(use):
        await asyncio.sleep(0.01)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert processes(use) == []


# --- over HTTP


class Guard:
    """Lets in only who knows the word."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and (b"authorization", b"Bearer open-sesame") not in scope["headers"]:
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": b"who are you?"})
            return
        await self._app(scope, receive, send)


@pytest.fixture
def address() -> Iterator[str]:
    listening = socket.create_server(("127.0.0.1", 0))
    app = Guard(make().streamable_http_app())
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/mcp"
    server.should_exit = True
    thread.join()


async def test_a_server_over_http(
    folder: Path, tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SESAME", "open-sesame")
    configure(folder, url=address, headers={"Authorization": "Bearer ${SESAME}"})
    answers = await using(tmp_path, "mcp__test").calls(
        ("mcp__test__add", {"a": 1, "b": 1}), ("mcp__test__fail", {})
    )
    assert answers[0].text == "2"
    assert answers[1].refused


async def test_a_server_that_lets_nobody_in(folder: Path, tmp_path: Path, address: str) -> None:
    configure(folder, url=address, headers={"Authorization": "Bearer wrong-token-here"})
    with pytest.raises(TaskError, match=r"'test' \(http://127.0.0.1.*\) can't be reached") as caught:
        await using(tmp_path, "mcp__test")("mcp__test__add")
    assert "HTTP 401 Unauthorized" in str(caught.value)
    assert "wrong-token" not in str(caught.value)


async def test_a_server_that_is_not_there(folder: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    configure(folder, url=f"http://127.0.0.1:{port}/mcp")
    with pytest.raises(TaskError, match=r"'test' .* can't be reached"):
        await using(tmp_path, "mcp__test")("mcp__test__add")


# --- the configuration


async def test_a_broken_configuration_stops_the_attempt(folder: Path, tmp_path: Path) -> None:
    put(folder, ".mcp.json", '{\n "mcpServers": {"test": {"command": 7}}}')
    with pytest.raises(PermanentError, match=r"\.mcp\.json:2:37: command of server 'test' must be text"):
        await using(tmp_path, "mcp__test")("mcp__test__add")
