"""Commands, Python functions and web pages as tools, and what holds for the results of all tools."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, DeltaToolCalls, FunctionModel
from tests.agents.attempts import is_alive, make_attempt
from tests.agents.tools import tool_functions
from tests.agents.tools.using import Use, put

from allready.agents.definitions import AgentDefinition
from allready.agents.llm import TOOL_RETRIES, LlmAgent
from allready.agents.models import Models
from allready.agents.secrets import Redactor
from allready.agents.tools import command_tool, programs, toolsets_for
from allready.errors import PermanentError, TaskError, TransientError

HERE = "tests.agents.tools.tool_functions"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "project"
    place.mkdir()
    return place


def using(tmp_path: Path, *tools: str, **settings: object) -> Use:
    return Use(make_attempt(tmp_path, base_dir=tmp_path / "project", **settings), *tools)


def script(folder: Path, name: str, code: str) -> str:
    """Put a program into the folder; give how it is called."""
    program = put(folder.parent, f"{name}.py", code)
    put(folder, name, f"#!/bin/sh\nexec '{sys.executable}' '{program}' \"$@\"\n").chmod(0o755)
    return f"./{name}"


# --- commands


async def test_an_allowed_command_runs_in_the_folder(folder: Path, tmp_path: Path) -> None:
    shutil.which("git") or pytest.fail("git is needed")
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    use = using(tmp_path, "Bash(git status:*)", "run(git --version)")
    answer = await use("run", command="git status --short --branch")
    assert answer.text.startswith("## No commits yet on ")
    assert answer.text.endswith("\n[exit code 0]")
    assert "git status …; git --version" in use.seen["run"].description
    assert (await use("run", command="git --version")).text.startswith("git version")


@pytest.mark.parametrize(
    "command",
    [
        "git log; rm -rf x",
        "git -c core.pager=touch\\ evil log",
        "git logs",
        "git",
        "rm git log",
        "/tmp/git log",
        "git --version --help",
        "git 'log '",
        "$(git log)",
        "",
    ],
)
async def test_only_allowed_words_run(folder: Path, tmp_path: Path, command: str) -> None:
    use = using(tmp_path, "Bash(git log:*)", "Bash(git --version)")
    answer = await use("run", command=command)
    assert answer == ("this command is not allowed; allowed are: git log …; git --version", True)
    assert not (use.attempt.folder / "tools").exists()


async def test_signs_of_a_shell_are_just_arguments(folder: Path, tmp_path: Path) -> None:
    program = script(folder, "show", "import sys; print(sys.argv[1:])")
    use = using(tmp_path, f"run({program}:*)")
    answer = await use("run", command=f"{program} a; touch evil | x > y $HOME `id` * 'a b' \"$(id)\" && z")
    assert answer.text == (
        "['a;', 'touch', 'evil', '|', 'x', '>', 'y', '$HOME', '`id`', '*', 'a b', '$(id)', '&&', 'z']\n"
        "[exit code 0]"
    )
    assert sorted(item.name for item in folder.iterdir()) == ["show"]


async def test_what_a_command_does_is_told(folder: Path, tmp_path: Path) -> None:
    program = script(
        folder, "fail", "import sys, os; print('out', flush=True); print('err', file=sys.stderr); sys.exit(3)"
    )
    use = using(tmp_path, "run(./fail)", "run(./gone)", "run(true)")
    text = (await use("run", command=program)).text
    assert sorted(text.splitlines()) == ["[exit code 3]", "err", "out"]
    assert (await use("run", command="true")).text == "[exit code 0]"
    answer = await use("run", command="./gone")
    assert answer.refused
    assert answer.text.startswith("there is no program")
    assert (await use("run", command="true 'open")).text.startswith("the command can't be split into words")
    assert (await use("run", command="true", seconds=0)).text == "seconds must be from 1 to 600"


async def test_a_command_has_the_marks_of_its_run_and_an_id_of_its_own(folder: Path, tmp_path: Path) -> None:
    code = "import os; print(os.environ['ALLREADY_RUN_ID'], os.environ['ALLREADY_ATTEMPT_ID'])"
    use = using(tmp_path, f"run({script(folder, 'ids', code)})")
    run_id, handle = use.attempt.run_id, use.attempt.handle
    answers = await use.calls(("run", {"command": "./ids"}), ("run", {"command": "./ids"}))
    assert {answer.text.splitlines()[0] for answer in answers} == {
        f"{run_id} {handle}.1",
        f"{run_id} {handle}.2",
    }


SLEEPER = """#!/bin/sh
echo $$
setsid sh -c 'echo $$; exec sleep 600' &
wait
"""
"""In the shell: it has written within milliseconds, also on a machine that is busy."""


def sleeper(folder: Path) -> str:
    """Put a program there that starts another one, in a session of its own; both say their ids."""
    put(folder, "sleeper", SLEEPER).chmod(0o755)
    return "./sleeper"


async def test_a_command_that_takes_too_long_is_ended_with_all_it_started(
    folder: Path, tmp_path: Path
) -> None:
    use = using(tmp_path, f"run({sleeper(folder)})", grace=0.5)
    lines = (await use("run", command="./sleeper", seconds=3)).text.splitlines()
    assert lines[-1] == "[ended after 3 seconds]"
    assert len(lines) == 3
    assert not any(is_alive(int(pid)) for pid in lines[:2])


async def test_a_command_ends_with_its_attempt(folder: Path, tmp_path: Path) -> None:
    use = using(tmp_path, f"run({sleeper(folder)})", grace=0.5)
    work = asyncio.create_task(use("run", command="./sleeper"))
    output = use.attempt.folder / "tools/001-run/output.txt"
    while not output.exists() or output.read_text().count("\n") < 2:
        await asyncio.sleep(0.01)
    pids = list(map(int, output.read_text().split()))
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert not any(map(is_alive, pids))


async def test_a_flood_is_ended(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "MAX_OUTPUT", 1024 * 1024)
    monkeypatch.setattr(command_tool, "MAX_OUTPUT", 1024 * 1024)
    use = using(tmp_path, "run(yes)", grace=0.5)
    text = (await use("run", command="yes")).text
    assert text.endswith("[ended: it wrote more than 1 MiB]")
    assert text.startswith("y\ny\n")
    assert len(text) < 40_000


async def test_a_folder_that_can_not_be_made_fails_the_attempt(folder: Path, tmp_path: Path) -> None:
    use = using(tmp_path, "run(true)")
    put(use.attempt.folder, "tools", "in the way")
    with pytest.raises(TaskError, match="the attempt's files can't be written"):
        await use("run", command="true")


async def test_secrets_are_blanked_whatever_the_tool(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_API_KEY", "sk-very-secret-value")
    put(folder, ".env", "TEST_API_KEY=sk-very-secret-value\nOTHER=known-by-the-run\n")
    script(folder, "leak", "import os; print(os.environ['TEST_API_KEY'])")
    use = using(
        tmp_path,
        *("read_file", "search_files", "run(./leak)", f"{HERE}:leak"),
        redactor=Redactor(["known-by-the-run"]),
    )
    answers = await use.calls(
        ("read_file", {"path": ".env"}),
        ("search_files", {"pattern": "KEY|OTHER", "path": ".env"}),
        ("run", {"command": "./leak"}),
        ("leak", {}),
        ("read_file", {"path": "sk-very-secret-value"}),
    )
    assert [answer.text for answer in answers] == [
        "TEST_API_KEY=[secret]\nOTHER=[secret]\n",
        ".env:1: TEST_API_KEY=[secret]\n.env:2: OTHER=[secret]",
        "[secret]\n[exit code 0]",
        '["the key is [secret]"]',
        "there is no file [secret]; list_files shows what there is",
    ]
    kept = [file.read_text() for file in use.attempt.folder.rglob("*.txt")]
    assert not any("sk-very" in text for text in kept)


# --- Python functions


async def test_a_function_is_a_tool_with_its_types_and_words(folder: Path, tmp_path: Path) -> None:
    use = using(tmp_path, f"{HERE}:weather", f"{HERE}:shout")
    answer = await use("weather", place={"name": "Rome", "east": 12.5}, days=2)
    assert answer.data == {"place": "Rome", "days": 2, "thread": "allready task task"}
    assert (await use("shout", text="hey")).text == "HEY"
    schema = use.seen["weather"].parameters_json_schema
    assert use.seen["weather"].description == "Tell the weather."
    assert schema["properties"]["days"] == {
        "default": 1,
        "description": "How many days ahead.",
        "type": "integer",
    }
    assert schema["$defs"]["Place"]["required"] == ["name", "east"]
    answer = await use("weather", place="Rome")
    assert answer.refused


async def test_what_a_function_raises_is_told_to_the_model(folder: Path, tmp_path: Path) -> None:
    use = using(tmp_path, f"{HERE}:fail")
    assert await use("fail", how="badly") == ("fail failed: ValueError: badly", True)
    assert await use("fail", how="retry") == ("ask for something else", True)
    with pytest.raises(TransientError, match="the service is busy") as caught:
        await use("fail", how="transient")
    assert caught.value.retry_after == 7
    with pytest.raises(Exception, match="SystemExit: bye"):
        await use("fail", how="exit")


async def test_results_of_any_kind_are_bounded_text_or_json(folder: Path, tmp_path: Path) -> None:
    names = ("long_text", "long_list", "opaque", "with_extras")
    use = using(tmp_path, *(f"{HERE}:{name}" for name in names))
    text, numbers, opaque, extras = await use.calls(
        ("long_text", {}), ("long_list", {}), ("opaque", {}), ("with_extras", {})
    )
    assert extras.text == "for the model"
    assert len(text.text) < 66_000
    assert "bytes left out" in text.text
    assert numbers.text.startswith("[0, 1, 2")
    assert "bytes left out" in numbers.text
    assert opaque.text == "{1, 2, 3}"


async def test_a_plain_function_is_asked_to_stop(folder: Path, tmp_path: Path) -> None:
    tool_functions.started.clear()
    work = asyncio.create_task(using(tmp_path, f"{HERE}:wait")("wait"))
    await asyncio.to_thread(tool_functions.started.wait)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    for thread in threading.enumerate():
        if thread.name == "allready task task":
            thread.join(10)  # it was asked, so it comes to its end
            assert not thread.is_alive()


def test_types_that_json_lacks_are_told(tmp_path: Path) -> None:
    definition = AgentDefinition("x", tools=(f"{HERE}:untyped",))
    with pytest.raises(PermanentError, match="the tool untyped can't be given to a model"):
        toolsets_for(definition, make_attempt(tmp_path))


def test_missing_tools_stop_the_attempt(tmp_path: Path) -> None:
    definition = AgentDefinition("x", tools=("Bash", "read_file"))
    with pytest.raises(PermanentError, match="agent 'x': tools that are not here: Bash"):
        toolsets_for(definition, make_attempt(tmp_path))


def test_without_tools_there_are_no_toolsets(tmp_path: Path) -> None:
    assert toolsets_for(AgentDefinition("x"), make_attempt(tmp_path)) == []


async def test_an_llm_agent_uses_its_tools(folder: Path, tmp_path: Path) -> None:
    put(folder, "a.txt", "the text")
    seen: list[str] = []

    async def model(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str | DeltaToolCalls]:
        if len(messages) == 1:
            yield {0: DeltaToolCall("read_file", '{"path": "a.txt"}')}
        else:
            seen.append(str(messages[-1].parts[0].content))  # type: ignore[union-attr]
            yield "done"

    attempt = make_attempt(tmp_path, base_dir=folder, prompt="go", on_output=seen.append)
    agent = LlmAgent(AgentDefinition("x", tools=("Read",)), Models(FunctionModel(stream_function=model)))
    assert (await agent.run(attempt)).output == "done"
    assert seen == ['[read_file {"path":"a.txt"}]\n', "the text", "done"]


async def test_a_model_that_goes_on_asking_wrongly_is_given_up(folder: Path, tmp_path: Path) -> None:
    asked = 0

    async def model(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[DeltaToolCalls]:
        nonlocal asked
        asked += 1
        yield {0: DeltaToolCall("read_file", '{"path": "gone"}')}

    attempt = make_attempt(tmp_path, base_dir=folder, prompt="go")
    agent = LlmAgent(AgentDefinition("x", tools=("Read",)), Models(FunctionModel(stream_function=model)))
    with pytest.raises(TaskError, match="read_file"):
        await agent.run(attempt)
    assert asked == TOOL_RETRIES + 1


def test_nothing_of_this_needs_a_model_library_to_be_imported() -> None:
    code = (
        "import sys, allready.agents.tools, allready.agents.tools.names;"
        "print([name for name in ('pydantic_ai', 'fastmcp', 'httpx2', 'mcp') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
