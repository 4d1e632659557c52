"""`validate`, `graph` and `schema`."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import STORE, Call, call_process, make_run, stored, write_plan

WRONG = Path(__file__).parents[1] / "plan" / "wrong"
LIMITED = {"too_many_tasks.yaml"}
"""Wrong only with a limit that the command line does not have."""
PLANS = sorted(path for path in WRONG.iterdir() if path.suffix != ".expect" and path.name not in LIMITED)
NEEDS_AGENTS = {"run_and_prompt.yaml": "writer"}
"""Plans that name an agent which is not what is wrong with them."""
GOOD = """\
goal: Something good
max_parallel: 3
vars: {name: world}
tasks:
  - {id: first, run: "echo {{ name }}"}
  - {id: second, title: "The second\\e[31m one", run: echo 2, depends_on: [first]}
  - {id: third, run: echo 3, depends_on: [first], approval: true}
"""


def options(path: Path) -> list[str]:
    """Give the options that a wrong plan names in its first line; agents that it needs are made."""
    first = path.read_bytes().split(b"\n", 1)[0].decode("utf-8", "replace")
    name, _, value = first.removeprefix("# ").partition(": ")
    if path.name in NEEDS_AGENTS:
        name, value = "agents", NEEDS_AGENTS[path.name]
    if name == "set":
        return [part for pair in value.split() for part in ("--set", pair)]
    if name == "agents":
        folder = Path(".allready/agents")
        folder.mkdir(parents=True)
        for agent in value.split():
            (folder / f"{agent}.md").write_text("---\nkind: command\nrun: cat\n---\n", encoding="utf-8")
    return []


# --- validate ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.name)
def test_wrong_plans_are_told_with_all_problems_and_places(path: Path, call: Call) -> None:
    expected = path.with_name(f"{path.name}.expect").read_text(encoding="utf-8").splitlines()
    answer = call("validate", str(path), *options(path))
    assert (answer.code, answer.out) == (2, "")
    *problems, last = answer.err.splitlines()
    assert "Traceback" not in answer.err
    assert "\x1b" not in answer.err
    starts = [f"{path}{':' if line[0].isdigit() else ': '}{line}" for line in expected]
    assert len(problems) >= len(starts)
    rest = iter(problems)
    for beginning in starts:  # a message may have lines of its own in between
        assert any(line.startswith(beginning) for line in rest), answer.err
    assert last == f"allready: {len(starts)} problem{'s' * (len(starts) != 1)}; nothing was run"
    assert not STORE.exists()


def test_wrong_plans_as_a_process() -> None:
    answer = call_process("validate", str(WRONG / "cycles.yaml"))
    assert answer == (
        2,
        "",
        f"{WRONG}/cycles.yaml:2:37: tasks depend on each other in a cycle: a → b → c → a\n"
        f"{WRONG}/cycles.yaml:6:37: tasks depend on each other in a cycle: x → y → x\n"
        "allready: 2 problems; nothing was run\n",
    )


def test_wrong_plan_as_json(call: Call) -> None:
    path = str(WRONG / "cycles.yaml")
    answer = call("validate", path, "--json")
    assert (answer.code, answer.err) == (2, "")
    found = json.loads(answer.out)
    assert found["valid"] is False
    assert [(problem["file"], problem["line"], problem["column"]) for problem in found["problems"]] == [
        (path, 2, 37),
        (path, 6, 37),
    ]


def test_good_plan_in_a_line(call: Call) -> None:
    write_plan(GOOD)
    summary = "ok: 3 tasks, 3 slots, longest chain 2, agent command (3), 1 task to approve\n"
    assert call("validate", "plan.yaml") == (0, summary, "")
    assert call("validate", "plan.yaml", "--quiet") == (0, "", "")
    Path("allready.toml").write_text("quiet = true", encoding="utf-8")
    assert call("validate", "plan.yaml") == (0, "", "")
    assert not STORE.exists()


def test_good_plan_as_json(call: Call) -> None:
    write_plan(GOOD)
    assert json.loads(call("validate", "plan.yaml", "--json").out) == {
        "valid": True,
        "problems": [],
        "notes": [],
        "goal": "Something good",
        "tasks": 3,
        "max_parallel": 3,
        "longest_chain": 2,
        "agents": {"command": 3},
        "approvals": 1,
    }


def test_plan_from_standard_input() -> None:
    assert call_process("validate", "-", stdin=GOOD).code == 0
    answer = call_process("validate", "-", stdin="tasks: [\n")
    assert answer.code == 2
    assert answer.err.startswith("<stdin>:2:1: ")


def test_variables_are_checked(call: Call) -> None:
    write_plan("vars: {path: }\ntasks: [{id: a, run: 'ls {{ path }}'}]")
    assert call("validate", "plan.yaml").code == 2
    assert call("validate", "plan.yaml", "--set", "path=.").code == 0
    answer = call("validate", "plan.yaml", "--set", "path")
    assert answer == (2, "", "allready: --set path: write --set NAME=VALUE\n")


def test_plan_from_python(call: Call) -> None:
    Path("made_here.py").write_text(
        "from allready import Plan\nplan = Plan('Python')\n@plan.task\ndef one() -> int: return 1\n",
        encoding="utf-8",
    )
    answer = call("validate", "made_here:plan")
    assert answer == (0, "ok: 1 task, 5 slots, longest chain 1, agent python (1)\n", "")
    answer = call("validate", "made_here:nothing")
    assert answer.code == 2
    assert answer.err.startswith("made_here:nothing: can't be imported")


def test_that_no_model_can_be_used_here_is_no_fault_of_a_plan(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GOOGLE_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    write_plan("tasks: [{id: a, prompt: Think}]")
    answer = call("validate", "plan.yaml")
    assert answer.code == 0
    assert "note: to run it here, agent assistant: no model is chosen" in answer.err
    assert call("run", "plan.yaml").code == 2
    monkeypatch.setenv("ALLREADY_MODEL", "ollama:anything")
    assert call("validate", "plan.yaml").err == ""


def write_project(name: str) -> None:
    """Make a module, and agents and a plan that name what is in it."""
    Path(f"{name}.py").write_text(
        "from allready.testing import Call, ScriptedModel\n"
        "def look(place: str) -> str:\n    return f'saw {place}'\n"
        "def shout(prompt: str) -> str:\n    return prompt.upper()\n"
        "model = ScriptedModel({'Look': [Call('look', {'place': 'here'}), 'done']})\n",
        encoding="utf-8",
    )
    folder = Path(".allready/agents")
    folder.mkdir(parents=True)
    (folder / "loud.md").write_text(f"---\nkind: python\nfunction: {name}:shout\n---\n", encoding="utf-8")
    looks = f"---\ndescription: Looks\nmodel: python:{name}:model\ntools: ['{name}:look']\n---\nLook.\n"
    (folder / "looker.md").write_text(looks, encoding="utf-8")
    write_plan("tasks: [{id: a, agent: loud, prompt: hi}, {id: b, agent: looker, prompt: Look}]")


@pytest.mark.parametrize("command", ["validate", "run", "agents"])
def test_functions_and_models_of_the_project_are_found(command: str, call: Call) -> None:
    name = f"project_of_{command}"
    write_project(name)
    assert str(Path.cwd()) not in sys.path
    answer = call(command, *(["plan.yaml"] if command != "agents" else []))
    assert (answer.code, answer.err) == (0, "")
    assert "import" not in answer.out
    if command == "run":
        assert stored(lambda store, run: [store.task(run, task).output for task in "ab"]) == ["HI", "done"]


def test_a_model_of_the_project_can_be_the_runs_own(call: Call) -> None:
    write_project("project_with_model")
    shutil.rmtree(".allready/agents")  # so that it is the run's own model that is asked
    write_plan("tasks: [{id: a, prompt: Think}]")
    assert call("run", "plan.yaml", "--model", "python:project_with_model:model").code == 0
    answer = call("run", "plan.yaml", "--model", "python:project_with_model:modell")
    assert answer.code == 2
    assert "has no attribute 'modell'" in answer.err
    assert len(stored(lambda store, _: store.runs())) == 1, "nothing of it was run"


@pytest.mark.parametrize("error", ["RuntimeError('not today')", "SystemExit('not today')"])
def test_a_function_whose_module_fails_is_bad_input(error: str, call: Call) -> None:
    Path(f"failing_{error[:4].lower()}.py").write_text(f"raise {error}\n", encoding="utf-8")
    function = f"failing_{error[:4].lower()}:shout"
    write_plan(f"agents: {{a: {{kind: python, function: '{function}'}}}}\ntasks: [{{id: a, prompt: hi}}]")
    kind = error.partition("(")[0]
    for command in ("validate", "run"):
        answer = call(command, "plan.yaml")
        assert (answer.code, answer.out) == (2, "")
        assert f"its function {function} can't be imported: {kind}: not today" in answer.err
    assert call("validate", function).err.startswith(f"{function}: can't be imported: {kind}: not today")


def test_missing_file_is_told(call: Call) -> None:
    answer = call("validate", "nowhere.yaml")
    assert answer.code == 2
    assert answer.err.splitlines()[0] == "nowhere.yaml: can't be read: No such file or directory"


# --- graph ------------------------------------------------------------------------------------------------


def test_graph_as_text(call: Call) -> None:
    write_plan(GOOD)
    answer = call("graph", "plan.yaml")
    assert (answer.code, answer.err) == (0, "")
    assert "\x1b" not in answer.out
    assert answer.lines[0] == "1 ─ first"
    assert answer.lines[1].startswith("2 ┬ second")
    assert answer.lines[-1] == "3 tasks, 2 levels"


def test_graph_in_other_languages(call: Call) -> None:
    write_plan(GOOD)
    assert call("graph", "plan.yaml", "--format", "mermaid").out.startswith("flowchart TD\n")
    assert call("graph", "plan.yaml", "-f", "dot").out.startswith("digraph plan {\n")
    assert call("graph", "plan.yaml", "-f", "png").code == 2


def test_graph_into_a_file(call: Call) -> None:
    write_plan(GOOD)
    assert call("graph", "plan.yaml", "-f", "dot", "-o", "plan.dot") == (0, "", "")
    assert Path("plan.dot").read_text(encoding="utf-8").startswith("digraph plan {\n")
    answer = call("graph", "plan.yaml", "-o", "no/such/folder")
    assert answer == (2, "", "allready: no/such/folder: can't be written: No such file or directory\n")


def test_graph_where_only_ascii_is_understood() -> None:
    write_plan(GOOD)
    answer = call_process("graph", "plan.yaml", env={"PYTHONIOENCODING": "ascii"})
    assert answer.code == 0
    assert answer.out.isascii()


def test_graph_of_a_run_has_states(call: Call) -> None:
    make_run(write_plan("tasks: [{id: a, run: echo}, {id: b, run: 'false', depends_on: [a]}]"))
    answer = call("graph", "--run", "latest")
    assert answer == (
        0,
        "1 ─ ✔ a\n2 ─ ✖ b  ← a\n\n2 tasks, 2 levels\n✔ completed   ✖ failed\n",
        "",
    )


@pytest.mark.parametrize("arguments", [[], ["plan.yaml", "--run", "latest"]])
def test_graph_of_either_a_plan_or_a_run(arguments: list[str], call: Call) -> None:
    answer = call("graph", *arguments)
    assert answer.code == 2
    assert "allready graph PLAN, or allready graph --run RUN" in answer.err


def test_graph_of_a_wrong_plan(call: Call) -> None:
    answer = call("graph", str(WRONG / "cycles.yaml"))
    assert (answer.code, answer.out) == (2, "")


# --- schema -----------------------------------------------------------------------------------------------


def test_schema_of_plans(call: Call) -> None:
    schema = json.loads(call("schema").out)
    assert schema == json.loads(call("schema", "plan").out)
    assert schema["title"] == "allready plan"
    assert "tasks" in schema["required"]


def test_schema_of_agents_stands_by_itself(call: Call) -> None:
    text = call("schema", "agent").out
    schema = json.loads(text)
    assert schema["title"] == "allready agent"
    assert "instructions" in schema["properties"]
    for part in text.split('"$ref": "#/$defs/')[1:]:
        assert part.split('"')[0] in schema["$defs"]


def test_schema_of_something_else(call: Call) -> None:
    assert call("schema", "house").code == 2
