from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.agents.attempts import make_attempt

from allready.agents.base import Attempt, Dependency, TaskResult
from allready.agents.command import CommandAgent
from allready.errors import PermanentError, TaskError
from allready.plan.plan import Command


async def run(attempt: Attempt, *argv: str, **settings: Any) -> TaskResult:
    return await CommandAgent(Command(argv, **settings)).run(attempt)


async def shell(attempt: Attempt, text: str, **settings: Any) -> TaskResult:
    return await run(attempt, text, shell=True, **settings)


def dependency(name: str, result: TaskResult | None = None, **settings: Any) -> dict[str, Dependency]:
    status = "completed" if result else "failed"
    return {name: Dependency(name, status, result=result, **settings)}


async def test_the_output_is_without_its_last_newline(tmp_path: Path) -> None:
    attempt = make_attempt(tmp_path)
    result = await run(attempt, "printf", "a\n\n")
    assert result == TaskResult("a\n", output_file=attempt.folder / "output.txt", exit_code=0)


async def test_arguments_are_rendered_one_by_one_and_never_split(tmp_path: Path) -> None:
    attempt = make_attempt(
        tmp_path,
        variables={"name": "a b; $(touch x) {{ goal }}"},
        dependencies=dependency("lint", TaskResult("out *", exit_code=1)),
    )
    code = "import json, sys; print(json.dumps(sys.argv[1:]))"
    result = await run(
        attempt, sys.executable, "-c", code, "{{ name }}", "<{{ lint.output }}>", "{{ lint.exit_code }}"
    )
    assert json.loads(result.output) == ["a b; $(touch x) {{ goal }}", "<out *>", "1"]


async def test_no_shell_unless_asked_for(tmp_path: Path) -> None:
    assert (await run(make_attempt(tmp_path / "a"), "echo", "$HOME", "|", "cat")).output == "$HOME | cat"
    assert (await shell(make_attempt(tmp_path / "b"), "echo a | tr a b")).output == "b"


async def test_values_in_shell_commands_are_quoted(tmp_path: Path) -> None:
    attempt = make_attempt(tmp_path, variables={"name": "it's; touch x"})
    assert (await shell(attempt, "echo {{ name }}")).output == "it's; touch x"
    assert not (tmp_path / "x").exists()


async def test_a_name_that_is_missing_is_permanent(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="missing"):
        await run(make_attempt(tmp_path), "echo", "{{ missing }}")


async def test_directory_and_environment(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    attempt = make_attempt(tmp_path, number=3, variables={"where": "sub"})
    names = (
        "OWN ALLREADY_RUN_ID ALLREADY_TASK_ID ALLREADY_ATTEMPT_ID ALLREADY_ATTEMPT ALLREADY_IDEMPOTENCY_KEY"
    )
    code = f"import os; print(os.getcwd(), *(os.environ[n] for n in '{names}'.split()), sep='\\n')"
    result = await run(attempt, sys.executable, "-c", code, cwd="{{ where }}", env={"OWN": "<{{ where }}>"})
    assert result.output.splitlines() == [
        str(tmp_path / "sub"),
        "<sub>",
        attempt.run_id,
        "task",
        attempt.handle,
        "3",
        f"{attempt.run_id}:task",
    ]


async def test_the_places_of_an_outer_task_are_not_handed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALLREADY_DEPS", "/outer")
    monkeypatch.setenv("ALLREADY_OUTPUT", "/outer")
    result = await shell(make_attempt(tmp_path), "echo ${ALLREADY_DEPS-none} $ALLREADY_OUTPUT")
    assert result.output == f"none {tmp_path}/attempt/data.json"


async def test_standard_input_is_empty(tmp_path: Path) -> None:
    assert (await run(make_attempt(tmp_path), "cat")).output == ""


# --- ends -------------------------------------------------------------------------------------------------


LAST_TEN = "\n".join(map(str, range(11, 21)))


async def test_other_codes_of_success(tmp_path: Path) -> None:
    result = await shell(make_attempt(tmp_path), "echo found; exit 1", success_codes=(0, 1))
    assert (result.output, result.exit_code) == ("found", 1)


@pytest.mark.parametrize(
    ("code", "exit_code", "message"),
    [
        (
            "echo out; seq 1 20 >&2; exit 3",
            3,
            "/bin/sh exited with code 3:\n" + "\n".join(map(str, range(11, 21))),
        ),
        ("echo out; exit 3", 3, "/bin/sh exited with code 3:\nout"),
        ("exit 3", 3, "/bin/sh exited with code 3, without any output"),
        ("kill -TERM $$", -15, "/bin/sh was ended by SIGTERM, without any output"),
        ("kill -KILL $$", -9, "/bin/sh was ended by SIGKILL (perhaps the system ran out of memory), without"),
        ("kill -40 $$", -40, "/bin/sh was ended by signal 40, without any output"),
    ],
)
async def test_failures_say_how_it_ended(tmp_path: Path, code: str, exit_code: int, message: str) -> None:
    with pytest.raises(TaskError) as caught:
        await shell(make_attempt(tmp_path), code)
    assert type(caught.value) is TaskError
    assert str(caught.value).startswith(message)
    assert isinstance(caught.value.result, TaskResult)
    assert caught.value.result.exit_code == exit_code
    assert caught.value.result.output == ("out" if "echo" in code else "")


async def test_secrets_of_the_environment_and_of_the_plan_are_blanked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_API_KEY", "hunter22")
    attempt = make_attempt(tmp_path)
    code = 'echo "{\\"a\\": \\"$SOME_API_KEY\\"}" > $ALLREADY_OUTPUT; echo $SOME_API_KEY $OWN_TOKEN; exit 1'
    env = {"OWN_TOKEN": "tok-{{ goal }}-12345"}
    result = await shell(attempt, code, env=env, success_codes=(1,))
    assert result.output == "[secret] [secret]"
    assert result.data == {"a": "[secret]"}
    assert "hunter22" not in (attempt.folder / "data.json").read_text()
    with pytest.raises(TaskError, match=r"code 1:\n\[secret\] \[secret\]"):
        await shell(attempt, code, env=env)


async def test_it_is_stopped(tmp_path: Path) -> None:
    ready = asyncio.Event()
    attempt = make_attempt(tmp_path, on_output=lambda _: ready.set(), grace=60)
    task = asyncio.create_task(shell(attempt, "echo ready; while :; do :; done"))
    await ready.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# --- files ------------------------------------------------------------------------------------------------


async def test_dependencies_are_found_as_files(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    (files / "chart").write_text("chart")
    whole = tmp_path / "whole.txt"
    whole.write_text("the whole output\n")
    dependencies = (
        dependency("a.1", TaskResult("short", {"n": 1}, whole, artifacts=files))
        | dependency("b", TaskResult("text"))
        | dependency("c", TaskResult("x", object()))
        | dependency("failed")
        | dependency("far", TaskResult("far"), direct=False)
    )
    attempt = make_attempt(tmp_path, dependencies=dependencies)
    result = await shell(
        attempt,
        "cd $ALLREADY_DEPS; ls; cat a.1/output.txt a.1/data.json a.1/artifacts/chart b/output.txt;"
        "ls b c failed",
    )
    assert result.output.split("\n") == [
        "a.1", "b", "c", "failed", "the whole output", '{', ' "n": 1', '}charttextb:', "output.txt",
        "task.json", "", "c:", "output.txt", "task.json", "", "failed:", "task.json",
    ]  # fmt: skip
    about = json.loads((attempt.folder / "deps" / "b" / "task.json").read_text())
    assert (about["id"], about["status"], about["error"]) == ("b", "completed", None)


async def test_data_comes_back(tmp_path: Path) -> None:
    result = await shell(make_attempt(tmp_path), """echo '{"a": [1, 2.5, null, "ä"]}' > $ALLREADY_OUTPUT""")
    assert result.data == {"a": [1, 2.5, None, "ä"]}


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("echo '{' > $ALLREADY_OUTPUT", "is not valid JSON: Expecting property name"),
        (": > $ALLREADY_OUTPUT", "is empty"),
        ("echo '[NaN]' > $ALLREADY_OUTPUT", "NaN is not a JSON number"),
        ("echo '[-Infinity]' > $ALLREADY_OUTPUT", "-Infinity is not a JSON number"),
        ("echo '[1e999]' > $ALLREADY_OUTPUT", "1e999 is too large a number"),
        (r"""printf '{"a": "\\ud800"}' > $ALLREADY_OUTPUT""", "holds half of a character"),
        (r"printf '\377' > $ALLREADY_OUTPUT", "is not text in UTF-8: byte 1 is 0xff"),
        (r"""printf '["a\0"]' > $ALLREADY_OUTPUT""", "holds a NUL character at byte 4"),
        ("head -c 1048577 /dev/zero > $ALLREADY_OUTPUT", "is larger than 1048576 bytes"),
        ("yes [ | head -100000 > $ALLREADY_OUTPUT", "is nested deeper than 100 levels"),
        ("(yes [ | head -101; yes ] | head -101) > $ALLREADY_OUTPUT", "is nested deeper than 100 levels"),
        ("ln -s /etc/hostname $ALLREADY_OUTPUT", "can't be read"),
        ("mkfifo $ALLREADY_OUTPUT", "can't be read: it is not a plain file"),
        ("mkdir $ALLREADY_OUTPUT", "can't be read"),
    ],
)
async def test_bad_data_is_a_failure_that_says_so(tmp_path: Path, code: str, message: str) -> None:
    with pytest.raises(TaskError) as caught:
        await shell(make_attempt(tmp_path), f"echo out; {code}")
    assert str(caught.value).startswith("what the command wrote to $ALLREADY_OUTPUT")
    assert message in str(caught.value)
    assert isinstance(caught.value.result, TaskResult)
    assert caught.value.result.output == "out"


async def test_artifacts_stay_within_their_folder(tmp_path: Path) -> None:
    attempt = make_attempt(tmp_path)
    result = await shell(
        attempt,
        "cd $ALLREADY_ARTIFACTS; mkdir d; echo x > d/file; ln -s d/file inner; ln -s $PWD/d absolute;"
        "ln -s /etc outer; ln -s ../.. d/up; ln -s loop loop; mkfifo fifo; ln -s outer chain",
    )
    assert result.artifacts == attempt.folder / "artifacts"
    found = sorted(str(path.relative_to(result.artifacts)) for path in result.artifacts.rglob("*"))
    assert found == ["absolute", "d", "d/file", "inner"]


@pytest.mark.parametrize(
    "code",
    ["true", "rmdir $ALLREADY_ARTIFACTS", "rmdir $ALLREADY_ARTIFACTS; ln -s /etc $ALLREADY_ARTIFACTS",
     "rmdir $ALLREADY_ARTIFACTS; echo x > $ALLREADY_ARTIFACTS", "ln -s /etc $ALLREADY_ARTIFACTS/x"],
)  # fmt: skip
async def test_no_artifacts(tmp_path: Path, code: str) -> None:
    attempt = make_attempt(tmp_path)
    assert (await shell(attempt, code)).artifacts is None
    assert not (attempt.folder / "artifacts").is_symlink()


# --- prompts ----------------------------------------------------------------------------------------------


async def test_a_prompt_goes_where_an_argument_asks_for_it(tmp_path: Path) -> None:
    attempt = make_attempt(tmp_path, prompt="what; is {{ this }}?")
    code = "import sys; print(sys.argv[1], repr(sys.stdin.read()))"
    result = await run(attempt, sys.executable, "-c", code, "<{{ prompt }}>")
    assert result.output == "<what; is {{ this }}?> ''"


async def test_a_prompt_goes_to_standard_input_else(tmp_path: Path) -> None:
    attempt = make_attempt(tmp_path, prompt="what is thïs?" * 20_000)
    await run(attempt, "cat")
    assert (attempt.folder / "output.txt").read_text() == attempt.prompt
