"""Whatever ends an attempt or a run, nothing of it goes on running, and its place is free again."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.acceptance.leaves import nothing_runs, of_run, wait_for_pids
from tests.acceptance.program import Running, allready, is_alive, wait_until

from allready.testing import Call, ScriptedServer

SAY = "echo $$ >> pids"
DEAF = f"trap '' TERM INT HUP; {SAY}; while :; do sleep 0.2; done"
LEAVES = {
    "deaf": (DEAF, 1),
    "child": (f"{SAY}; sh -c '{SAY}; sleep 300; :'; :", 2),
    "deaf child": ("sh deaf.sh; :", 1),
    "session": (f"setsid sh deaf.sh & {SAY}; wait", 2),
    "silent session": (f"setsid sh deaf.sh >/dev/null 2>&1 </dev/null & {SAY}; sleep 300; :", 2),
    "double fork": (f"(setsid sh -c 'sh deaf.sh & exit' &) ; {SAY}; sleep 300; :", 2),
    "nohup": (f"nohup sh deaf.sh >/dev/null 2>&1 & {SAY}; sleep 300; :", 2),
    "pipeline": ("sh deaf.sh | cat | (sh deaf.sh; cat) | cat", 2),
    "stopped": (f"{SAY}; kill -STOP $$", 1),
}
"""What a command leaves, and how many processes say that they are there."""
END = "  - {id: after, run: 'echo free', depends_on: [leaf], run_if: all_done}\n"


def write(folder: Path, tasks: str, *, head: str = "") -> None:
    (folder / "deaf.sh").write_text(DEAF + "\n")
    (folder / "plan.yaml").write_text(f"max_parallel: 1\n{head}tasks:\n{tasks}")


def command(folder: Path, kind: str, settings: str = "", *, after: str = "") -> int:
    script, count = LEAVES[kind]
    (folder / "leaf.sh").write_text(script + "\n")
    write(folder, f"  - {{id: leaf, run: [sh, leaf.sh]{settings}}}\n{after}")
    return count


@pytest.mark.parametrize("kind", LEAVES)
def test_cancel_reaches_the_leaves(tmp_path: Path, kind: str) -> None:
    count = command(tmp_path, kind)
    with Running("run", "plan.yaml", cwd=tmp_path) as run:
        run.wait_for("task.started", "leaf")
        pids = wait_for_pids(tmp_path, count)
        assert len(of_run(run.run_id)) >= count, "they are found at all"
        assert allready("cancel", "latest", cwd=tmp_path).returncode == 0
        assert run.end() == 4
        nothing_runs(run.run_id)
    assert not any(map(is_alive, pids))


@pytest.mark.parametrize("kind", ["deaf child", "silent session", "double fork"])
def test_a_timeout_reaches_the_leaves_and_frees_the_place(tmp_path: Path, kind: str) -> None:
    count = command(tmp_path, kind, ", timeout: 2, failure_strategy: skip", after=END)
    with Running("run", "plan.yaml", cwd=tmp_path) as run:
        pids = wait_for_pids(tmp_path, count)
        run.wait_for("task.started", "after")
        assert not any(map(is_alive, pids))
        assert run.end() == 0
        nothing_runs(run.run_id)


@pytest.mark.parametrize("kind", ["deaf child", "silent session"])
def test_an_abort_reaches_the_leaves(tmp_path: Path, kind: str) -> None:
    script, count = LEAVES[kind]
    (tmp_path / "leaf.sh").write_text(script + "\n")
    write(
        tmp_path,
        "  - {id: leaf, run: [sh, leaf.sh]}\n"
        f"  - {{id: bad, run: [sh, -c, 'until [ -e pids ] && [ $(wc -l < pids) -ge {count} ]; "
        "do sleep 0.05; done; exit 1']}\n",
    )
    with Running("run", "plan.yaml", "--max-parallel", "2", cwd=tmp_path) as run:
        assert run.end() == 1
        nothing_runs(run.run_id)
    assert not any(map(is_alive, wait_for_pids(tmp_path, count)))


def test_what_a_command_leaves_when_it_ends_well_is_ended_too(tmp_path: Path) -> None:
    (tmp_path / "leaf.sh").write_text(
        "setsid sh deaf.sh >/dev/null 2>&1 </dev/null &\nuntil test -s pids; do sleep 0.02; done\necho left\n"
    )
    write(tmp_path, "  - {id: leaf, run: [sh, leaf.sh]}\n" + END)
    with Running("run", "plan.yaml", cwd=tmp_path) as run:
        run.wait_for("task.started", "after")
        assert not any(map(is_alive, wait_for_pids(tmp_path, 1)))
        assert run.end() == 0
        nothing_runs(run.run_id)


# --- functions --------------------------------------------------------------------------------------------

FUNCTIONS = """\
import asyncio, os, subprocess, sys, threading, time
from pathlib import Path
from allready import Plan

def say():
    with open("pids", "a") as file:
        file.write(f"{os.getpid()}\\n")

def thread():
    say()
    while not Path("go").exists():
        time.sleep(0.05)

def isolated():
    say()
    subprocess.run(["sh", "-c", "trap '' TERM; echo $$ >> pids; sleep 300; sleep 300"])

async def polite():
    say()
    await asyncio.sleep(300)

async def deaf():
    say()
    while True:
        try:
            await asyncio.sleep(300)
        except asyncio.CancelledError:
            pass

async def executor():
    say()
    await asyncio.to_thread(time.sleep, 300)

def starter():
    say()
    subprocess.run(["sh", "-c", "echo $$ >> pids; sleep 300; :"])

async def generator():
    async def numbers():
        while True:
            try:
                yield 1
            finally:
                while True:
                    try:
                        await asyncio.sleep(300)
                    except asyncio.CancelledError:
                        pass
    say()
    async for _ in numbers():
        await asyncio.sleep(300)

def after():
    return "free"

def plan_of(call, slots=1, **settings):
    plan = Plan("", max_parallel=slots)
    plan.add(call, id="leaf", **settings)
    plan.add(after, id="after", depends_on=["leaf"], run_if="all_done")
    return plan

thread_plan = plan_of(thread, timeout=1, failure_strategy="skip")
isolated_plan = plan_of(isolated, isolate=True, timeout=4, failure_strategy="skip")
polite_plan = plan_of(polite, timeout=1, failure_strategy="skip")
deaf_plan = plan_of(deaf, slots=2, timeout=1, failure_strategy="skip")
executor_plan = plan_of(executor, timeout=1, failure_strategy="skip")
starter_plan = plan_of(starter, slots=2, timeout=1, failure_strategy="skip")
generator_plan = plan_of(generator, slots=2, timeout=1, failure_strategy="skip")
slow = {name: plan_of(globals()[name], slots=2, isolate=name == "isolated") for name in (
    "isolated", "polite", "deaf", "executor", "starter")}
"""


@pytest.mark.parametrize("kind", ["isolated", "polite", "deaf", "executor", "starter", "generator"])
def test_functions_that_time_out_hold_up_neither_the_run_nor_the_end_of_the_program(
    tmp_path: Path, kind: str
) -> None:
    (tmp_path / "tasks.py").write_text(FUNCTIONS)
    with Running("run", f"tasks:{kind}_plan", cwd=tmp_path) as run:
        assert run.end() == 0
        nothing_runs(run.run_id)
    assert run.last["tasks"]["leaf"]["error"].startswith("timed out")
    assert run.last["tasks"]["after"]["status"] == "completed"
    assert not any(map(is_alive, wait_for_pids(tmp_path, 1)))


@pytest.mark.parametrize("kind", ["isolated", "polite", "deaf", "executor", "starter"])
def test_functions_are_canceled(tmp_path: Path, kind: str) -> None:
    (tmp_path / "tasks.py").write_text(FUNCTIONS + f"plan = slow[{kind!r}]\n")
    with Running("run", "tasks:plan", cwd=tmp_path) as run:
        pids = wait_for_pids(tmp_path, 2 if kind in {"isolated", "starter"} else 1)
        assert allready("cancel", "latest", cwd=tmp_path).returncode == 0
        assert run.end() == 4
        nothing_runs(run.run_id)
    assert not any(map(is_alive, pids))


def test_the_place_of_a_thread_stays_taken_until_the_thread_ends(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(FUNCTIONS)
    with Running("run", "tasks:thread_plan", cwd=tmp_path) as run:
        run.wait_for("task.failed", "leaf")
        deferred = run.wait_for("task.deferred", "after")
        assert deferred["scope"] == "pool"
        (tmp_path / "go").touch()
        run.wait_for("task.started", "after")
        assert run.end() == 0


def test_what_a_function_started_in_a_process_that_was_killed_is_ended_by_resume(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(FUNCTIONS + "plan = slow['starter']\n")
    with Running("run", "tasks:plan", cwd=tmp_path) as run:
        pids = wait_for_pids(tmp_path, 2)[1:]
        run.kill()
    assert all(map(is_alive, pids))
    with Running("resume", "latest", cwd=tmp_path) as again:
        again.wait_for("task.started", "leaf")
        assert not any(map(is_alive, pids))
        wait_for_pids(tmp_path, 4)
        again.kill()
    assert allready("cancel", "latest", cwd=tmp_path).returncode == 0
    nothing_runs(again.run_id)


# --- models -----------------------------------------------------------------------------------------------


def by_cancel(run: Running) -> int:
    assert allready("cancel", "latest", cwd=run.cwd).returncode == 0
    return 4


def by_timeout(run: Running) -> int:
    return 1


@pytest.mark.parametrize("how", [by_cancel, by_timeout])
def test_a_request_in_flight_is_closed(tmp_path: Path, how: Callable[[Running], int]) -> None:
    timeout = ", timeout: 3" if how is by_timeout else ""
    (tmp_path / "plan.yaml").write_text(f"tasks: [{{id: talk, prompt: Talk{timeout}}}]")
    with (
        ScriptedServer({"Talk": "word " * 20_000}, pause=0.02) as server,
        Running("run", "plan.yaml", "--model", "openai-chat:any", cwd=tmp_path, **server.environment) as run,
    ):
        wait_until(lambda: server.requests, "the model is asked")
        code = how(run)
        assert run.end() == code
        wait_until(lambda: server.requests[0].outcome == "gone", "the server notices that nobody listens")
        nothing_runs(run.run_id)


MCP_SERVER = """\
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with open("pids", "a") as file:
    file.write(f"{os.getpid()}\\n")
subprocess.Popen(["setsid", "sh", "deaf.sh"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
from mcp.server.mcpserver import MCPServer
server = MCPServer("slow")

@server.tool()
def nap() -> str:
    open("napping", "w").close()
    time.sleep(300)
    return "slept"

server.run("stdio")
"""


def test_servers_of_tools_end_with_their_attempt(tmp_path: Path) -> None:
    write(tmp_path, "  - {id: leaf, agent: sleeper, prompt: Sleep}\n")
    (tmp_path / "server.py").write_text(MCP_SERVER)
    (tmp_path / ".mcp.json").write_text(
        f'{{"mcpServers": {{"slow": {{"command": "{sys.executable}", "args": ["server.py"]}}}}}}'
    )
    agents = tmp_path / ".allready" / "agents"
    agents.mkdir(parents=True)
    (agents / "sleeper.md").write_text(
        "---\nname: sleeper\ndescription: sleeps\ntools: mcp__slow\n---\nSleep.\n"
    )
    with (
        ScriptedServer({"Sleep": Call("mcp__slow__nap", {})}) as server,
        Running("run", "plan.yaml", "--model", "openai-chat:any", cwd=tmp_path, **server.environment) as run,
    ):
        pids = wait_for_pids(tmp_path, 2)
        wait_until(lambda: (tmp_path / "napping").exists(), "the tool runs")
        assert allready("cancel", "latest", cwd=tmp_path).returncode == 0
        assert run.end() == 4
        nothing_runs(run.run_id)
    assert not any(map(is_alive, pids))
