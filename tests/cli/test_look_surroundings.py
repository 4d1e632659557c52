"""`agents` and `doctor`."""

from __future__ import annotations

import json
import time
from contextlib import closing
from pathlib import Path

import pytest
from tests.cli.conftest import STORE, Answer, Call, call_process, make_run, write_plan

from allready.cli import checks
from allready.store.contract import RunRow
from allready.store.open import open_store


def write_agent(name: str, text: str, folder: str | Path = ".allready/agents") -> Path:
    path = Path(folder, f"{name}.md")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


CAT = "---\nkind: command\nrun: cat\ndescription: Says it again\n---\n"


def found(answer: Answer, name: str) -> list[tuple[str, str]]:
    """Give what the doctor says about something, as (status, text)."""
    return [
        (check["status"], check["text"])
        for check in json.loads(answer.out)["checks"]
        if check["name"] == name
    ]


# --- agents -----------------------------------------------------------------------------------------------


def test_without_agents_it_is_said_where_they_are_looked_for(call: Call) -> None:
    assert call("agents") == (
        0,
        "no agents; they are looked for in these folders, as files NAME.md:\n"
        "  .allready/agents\n"
        "  .claude/agents\n"
        "  ~/.config/allready/agents\n"
        "  ~/.claude/agents\n",
        "",
    )


def test_agents_are_listed_with_where_they_are_from(call: Call) -> None:
    write_agent("echo", CAT)
    write_agent("echo", CAT, ".claude/agents")
    write_agent("thinker", "---\ndescription: Thinks\n---\nThink.\n", Path.home() / ".claude/agents")
    answer = call("agents")
    assert (answer.code, answer.err) == (0, "")
    assert [line.split(maxsplit=3) for line in answer.lines] == [
        ["AGENT", "KIND", "FROM", "DESCRIPTION"],
        ["echo", "command", ".allready/agents/echo.md", "Says it again"],
        ["thinker", "llm", "~/.claude/agents/thinker.md", answer.lines[2].split(maxsplit=3)[3]],
        ["echo", "command", ".claude/agents/echo.md", "shadowed: another of that name comes first"],
    ]


def test_what_is_wrong_with_agents_is_told_with_its_place(call: Call) -> None:
    write_agent("bad", "---\nkind: command\n---\n")
    write_agent("odd", "---\nkind: command\nrun: cat\ncolour: red\n---\n")
    lines = call("agents").lines
    assert "problem: .allready/agents/bad.md:2:1: an agent of kind command needs the key run" in lines
    assert lines[-1].startswith("warning: .allready/agents/odd.md:4:1: unknown key 'colour'")


def test_agents_as_json(call: Call) -> None:
    path = write_agent("echo", CAT).absolute()
    write_agent("bad", "---\nkind: command\n---\n")
    view = json.loads(call("agents", "--json").out)
    assert view["agents"] == [
        {
            "name": "echo",
            "kind": "command",
            "description": "Says it again",
            "source": str(path),
            "shadowed": False,
            "problem": None,
            "settings": {"kind": "command", "run": "cat", "description": "Says it again"},
        }
    ]
    assert [problem["line"] for problem in view["problems"]] == [2]


def test_one_agent_is_shown_with_all_it_says(call: Call) -> None:
    path = write_agent("echo", CAT + "\n".join(f"line {n}\x1b[2J" for n in range(30))).absolute()
    answer = call("agents", "echo")
    assert answer.lines[:7] == [
        "agent        echo",
        "kind         command",
        f"from         {path}",
        "run          cat",
        "description  Says it again",
        "",
        "instructions:",
    ]
    assert answer.lines[-1] == "  [… 10 more lines]"
    assert "\x1b" not in answer.out


def test_an_agent_whose_function_is_missing_says_so(call: Call) -> None:
    write_agent("broken", "---\nkind: python\nfunction: raises_here:f\n---\n")
    Path("raises_here.py").write_text("raise RuntimeError('not today')\n", encoding="utf-8")
    assert "RuntimeError: not today" in call("agents", "broken").out
    assert "RuntimeError: not today" in call("agents").out


def test_tools_of_an_agent_and_what_is_missing_are_shown(call: Call) -> None:
    write_agent("ours", "---\nkind: llm\ntools: read_file, Bash(git log:*), mcp__db\n---\n")
    write_agent("theirs", "---\nmodel: sonnet\ntools: Read, Task\n---\n", ".claude/agents")
    write_agent("all", "---\ndescription: x\n---\n", ".claude/agents")
    lines = call("agents", "ours").lines
    assert "tools        read_file, run(git log …)" in lines
    assert "not here     mcp__db (no MCP server 'db' in .mcp.json or .allready/mcp.json)" in lines
    lines = call("agents", "theirs").lines
    assert "tools        read_file" in lines
    assert "not here     Task" in lines
    assert "note         model sonnet: here the run's own" in lines
    answer = call("agents", "all")
    assert "tools        read_file, list_files, search_files" in answer.lines
    assert "its file allows all of Claude's tools; here it may only read" in answer.out
    assert answer.err == ""
    view = json.loads(call("agents", "theirs", "--json").out)
    assert (view["tools"], view["missing"]) == (["read_file"], ["Task"])
    assert "warning: .claude/agents/theirs.md:3:8: theirs: not here: Task" in call("agents").lines


def test_unknown_agents_are_told_with_similar_ones(call: Call) -> None:
    write_agent("reviewer", CAT)
    assert call("agents", "reviwer") == (
        2,
        "",
        "allready: there is no agent 'reviwer'; did you mean reviewer?\n",
    )
    assert call("agents", "x").code == 2


# --- doctor -----------------------------------------------------------------------------------------------


def test_a_healthy_place_is_usable(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    answer = call("doctor")
    assert (answer.code, answer.err) == (0, "")
    told = {line.split()[1] for line in answer.lines if line.startswith("ok ")}
    assert told >= {"allready", "python", "libraries", "platform", "host", "clock", "configuration", "disk"}
    assert answer.out.count("the first run makes it") == 1
    assert not STORE.exists()


def test_doctor_as_a_process() -> None:
    answer = call_process("doctor", "--json", env={"PYTHONDONTWRITEBYTECODE": "1"})
    assert (answer.code, answer.err) == (0, "")
    assert json.loads(answer.out)["usable"] is True
    assert any("PYTHONDONTWRITEBYTECODE" in text for _, text in found(answer, "environment"))


def test_configuration_is_told_with_where_it_comes_from(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("pyproject.toml").write_text("[tool.allready]\nmax_parallel = 3\nquiet = true\n", encoding="utf-8")
    Path("allready.toml").write_text("max_parallel = 4\n", encoding="utf-8")
    monkeypatch.setenv("ALLREADY_STORE", "here.db")
    answer = call("doctor", "--json")
    assert [text for _, text in found(answer, "configuration")] == [
        "store = here.db (ALLREADY_STORE)",
        "max_parallel = 4 (allready.toml)",
        "quiet = true (pyproject.toml)",
    ]
    answer = call("doctor", "--json", "--store", "there.db")
    assert found(answer, "configuration")[0] == ("ok", "store = there.db (--store)")


def test_wrong_configuration_is_a_problem(call: Call) -> None:
    Path("allready.toml").write_text("max_parallel = 0\ncolour = 'red'\n", encoding="utf-8")
    answer = call("doctor", "--json")
    assert answer.code == 2
    assert [status for status, _ in found(answer, "configuration")] == ["problem", "problem"]


def test_variables_that_mean_nothing_are_told(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLREADY_STOER", "x")
    monkeypatch.setenv("ALLREADY_TASK_ID", "outer")
    answer = call("doctor", "--json")
    texts = [text for _, text in found(answer, "environment")]
    assert "ALLREADY_STOER means nothing to allready" in texts
    assert "inside of task outer of another run" in texts
    assert "did you mean ALLREADY_STORE?" in answer.out


def test_the_store_is_told_with_its_runs(call: Call) -> None:
    make_run(write_plan("tasks: [{id: a, run: 'true'}]"))
    ((status, text),) = found(call("doctor", "--json"), "store")
    assert status == "ok"
    assert text.startswith(f"{STORE.absolute()}: ")
    assert text.endswith(", 1 run")


def test_a_store_that_does_not_work_is_a_problem(call: Call) -> None:
    Path("other.db").write_text("this is no database, but a text of some length", encoding="utf-8")
    answer = call("doctor", "--store", "other.db")
    assert answer.code == 2
    assert "problem  store" in answer.out
    assert answer.lines[-1].endswith(": mend the problems first")
    assert call("doctor", "--store", "mysql://x").code == 2


def test_a_folder_that_can_not_be_written_is_a_problem(call: Call) -> None:
    assert call("doctor", "--store", "/proc/runs.db").code == 2  # not even by root


def test_abandoned_runs_are_named_and_counted(call: Call) -> None:
    STORE.parent.mkdir()
    with closing(open_store(STORE)) as store:
        for number in range(8):
            name = f"01a20d15-{number:04x}-7000-8000-{number:012x}"
            state = "paused" if number == 7 else "running"
            store.create_run(RunRow(name, "a goal", state, time.time(), 0, "/nowhere", {}), [])
    told = found(call("doctor", "--json"), "run")
    assert told[0] == ("ok", "01a20d15-0007 (a goal) is paused")
    assert told[1] == ("warning", "01a20d15-0006 (a goal) is running, but no process drives it")
    assert told[5] == ("warning", "3 more wait to be resumed")


def test_scarce_space_is_told(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "SCARCE_DISK", 2**60)
    assert found(call("doctor", "--json"), "disk")[0][0] == "warning"
    monkeypatch.setattr(checks, "FULL_DISK", 2**60)
    assert call("doctor").code == 2


def test_a_clock_that_was_set_back_is_told(call: Call) -> None:
    STORE.parent.mkdir()
    name = "01a20d15-0000-7000-8000-000000000000"
    with closing(open_store(STORE)) as store:
        store.create_run(RunRow(name, "", "completed", time.time() + 9_000, 0, "/nowhere", {}), [])
    assert ("warning", "the newest run is from the future: the clock was set back") in found(
        call("doctor", "--json"), "clock"
    )


def test_agents_and_tools_are_told(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    write_agent("bad", "---\nkind: command\n---\n")
    write_agent("remote", "---\nkind: a2a\nurl: http://127.0.0.1:9\n---\n")
    monkeypatch.setenv("PATH", "/nowhere")
    answer = call("doctor", "--json")
    assert answer.code == 0
    told = found(answer, "agents")
    assert told[0] == ("ok", "1 found in files")
    assert told[1] == ("warning", ".allready/agents/bad.md:2:1: an agent of kind command needs the key run")
    assert told[2][1].startswith("remote: agents of kind a2a can't run in this version")
    assert found(answer, "git") == [("warning", "not found: plans about repositories need it")]
