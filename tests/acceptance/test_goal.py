"""Goals and models through the real program and real HTTP: killed, limited, refused, interrupted."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.acceptance.program import Running, allready, wait_until

from allready.testing import Refused, ScriptedServer, rate_limited

GOAL = "Compare A and B"
MODEL = "openai-chat:any"
PLAN = [
    {"id": "a", "prompt": "Look at A"},
    {"id": "b", "prompt": "Look at B", "depends_on": ["a"]},
    {"id": "far", "prompt": "Look at all of it: " + "word " * 400},
]
RULES = {"Look at A": "A is small.", "Look at B": "B is fast.", "Look at all": "All.", "Answer": "Take A."}


@pytest.fixture
def slow() -> Iterator[ScriptedServer]:
    """Serve a model that writes its plan for some seconds."""
    with ScriptedServer(RULES, plan=[PLAN, [PLAN[1]]], pause=0.02) as server:
        yield server


def asked(server: ScriptedServer, prompt: str) -> int:
    return sum(prompt in request.prompt and not request.for_a_plan for request in server.requests)


def test_a_run_that_is_killed_while_it_is_planned_goes_on(slow: ScriptedServer, tmp_path: Path) -> None:
    with Running("do", GOAL, "--yes", "--model", MODEL, cwd=tmp_path, **slow.environment) as run:
        run.wait_for("task.completed", "a")
        assert "plan.closed" not in {event["type"] for event in run.events}
        run.kill()
    known = allready("status", "latest", cwd=tmp_path)
    assert "resume" in known.stdout
    with Running("resume", "latest", cwd=tmp_path, **slow.environment) as again:
        assert again.end() == 0
    assert again.last["answer"] == "Take A."
    assert set(again.last["tasks"]) == {"a", "b", "answer"}, "the rest was planned anew"
    assert asked(slow, "Look at A") == 1, "what was completed is not done again"
    seqs = [event["seq"] for event in [*run.events, *again.events]]
    assert seqs == sorted(set(seqs))


def test_ctrl_c_in_the_middle_of_an_answer_closes_its_connection(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text("tasks: [{id: talk, prompt: Talk}]")
    with ScriptedServer({"Talk": "word " * 3_000}, pause=0.02) as server:
        with Running("run", "plan.yaml", "--model", MODEL, cwd=tmp_path, **server.environment) as run:
            wait_until(lambda: server.requests, "the model is asked")
            run.process.send_signal(signal.SIGINT)
            assert run.end() == 130
        wait_until(lambda: server.requests[0].outcome == "gone", "the server notices that nobody listens")
    assert run.last["tasks"]["talk"]["status"] == "ready"


def test_a_limit_ends_with_code_3_and_says_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(
        "tasks: [{id: a, prompt: Look at A}, {id: b, prompt: Look at B}, {id: c, run: echo done}]"
    )
    with ScriptedServer(RULES) as server:
        options = {"cwd": tmp_path, "ALLREADY_MODEL": MODEL, **server.environment}
        done = allready("run", "plan.yaml", "--max-requests", "1", **options)  # type: ignore[arg-type]
        assert done.returncode == 3, done.stderr
        assert "max_requests: 1 request of 1 request used" in done.stderr
        assert "--max-requests 2" in done.stderr
        assert "completed  c" in done.stdout, "what needs no model goes on"
        told = allready("status", "latest", cwd=tmp_path).stdout
        assert "--max-requests 2" in told
        again = allready("resume", "latest", "--max-requests", "2", **options)  # type: ignore[arg-type]
        assert again.returncode == 0, again.stderr
        assert len(server.requests) == 2


def test_refusals_put_tasks_back_and_nothing_fails(tmp_path: Path) -> None:
    numbers = range(10, 30)
    tasks = ", ".join(f"{{id: t{number}, prompt: Look at {number}}}" for number in numbers)
    (tmp_path / "plan.yaml").write_text(f"max_parallel: 10\ntasks: [{tasks}]")
    rules = {f"Look at {number}": [rate_limited(0.1), Refused(503, "busy"), "Fine."] for number in numbers}
    with (
        ScriptedServer(rules) as server,
        Running("run", "plan.yaml", "--model", MODEL, cwd=tmp_path, **server.environment) as run,
    ):
        assert run.end() == 0
        assert len(server.requests) == 60, "the library asks once and leaves the rest to us"
    types = [event["type"] for event in run.events]
    assert "task.retrying" not in types
    assert "task.failed" not in types
    put_back = [event for event in run.events if event["type"] == "task.deferred" and "delay" in event]
    assert len(put_back) == 40
    assert {task["status"] for task in run.last["tasks"].values()} == {"completed"}


def test_a_wrong_key_ends_the_run_early_with_advice(tmp_path: Path) -> None:
    tasks = ", ".join(f"{{id: t{number}, prompt: Look at A, max_retries: 5}}" for number in range(10))
    (tmp_path / "plan.yaml").write_text(f"max_parallel: 1\ntasks: [{tasks}]")
    with ScriptedServer(RULES) as server:
        url = server.environment["OPENAI_BASE_URL"]
        done = allready(
            *("run", "plan.yaml", "--model", MODEL),
            cwd=tmp_path,
            OPENAI_BASE_URL=url,
            OPENAI_API_KEY="sk-wrong-key",
        )
        assert done.returncode == 1
        assert len(server.requests) <= 1
    assert "OPENAI_API_KEY" in done.stdout + done.stderr
    assert "sk-wrong-key" not in done.stdout + done.stderr
