import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allready.agents.definitions import (
    MAX_FILE_BYTES,
    MAX_FILES,
    AgentDefinition,
    AgentLibrary,
    _NotAnAgent,
    agent_folders,
    load_agents,
    parse_agent,
)
from allready.errors import PlanError, Problem
from allready.plan.plan import Limits

REVIEWER = """---
name: reviewer
description: Reviews changes
tools: Read, Grep
model: openai:gpt-5
max_concurrent: 2
resources: {browser: 1}
idempotent: false
timeout: 5m
limits: {max_tokens: 1000}
---

You review code.

---
Be brief.
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


def put(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def agent(name: str, description: str = "Does things") -> str:
    return f"---\nname: {name}\ndescription: {description}\n---\nBody of {name}\n"


def problems_of(text: str, *, ours: bool = True) -> list[str]:
    with pytest.raises(PlanError) as caught:
        parse_agent(text, file="x.md", stem="x", ours=ours)
    return [str(problem) for problem in caught.value.problems]


def empty(library: AgentLibrary) -> bool:
    return not (library.agents or library.problems or library.warnings or library.shadowed)


# --- one file ---------------------------------------------------------------------------------------------


def test_all_keys() -> None:
    definition, warnings = parse_agent(REVIEWER)
    assert warnings == []
    assert definition == AgentDefinition(
        name="reviewer",
        description="Reviews changes",
        tools=("Read", "Grep"),
        model="openai:gpt-5",
        max_concurrent=2,
        resources={"browser": 1},
        idempotent=False,
        timeout=300.0,
        limits=Limits(max_tokens=1000),
        instructions="You review code.\n\n---\nBe brief.",
        settings=definition.settings,
    )


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("kind: command\nrun: claude -p {{ prompt }}", {"argv": ("claude", "-p", "{{ prompt }}")}),
        ("kind: command\nrun: [sh, -c, 'echo \"$1\"', 1.50]", {"argv": ("sh", "-c", 'echo "$1"', "1.50")}),
        ("kind: command\nshell: true\nrun: cat {{ prompt }} | wc", {"argv": ("cat {{ prompt }} | wc",)}),
        ("kind: command\nrun: x\nsuccess_codes: [0, 3]", {"success_codes": (0, 3)}),
        ("kind: python\nfunction: package.module:answer", {"function": "package.module:answer"}),
        ("kind: a2a\nurl: https://example.com/a", {"url": "https://example.com/a"}),
        ("tools: [Read, 'Bash(git log:*)']", {"tools": ("Read", "Bash(git log:*)")}),
        ("tools: []", {"tools": ()}),
        ("description:", {"description": "", "tools": None}),
    ],
)
def test_kinds_and_tools(keys: str, expected: dict[str, object]) -> None:
    definition, _ = parse_agent(f"---\n{keys}\n---\n", stem="x")
    assert {key: getattr(definition, key) for key in expected} == expected


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_newlines_of_all_systems_and_a_byte_order_mark(newline: str) -> None:
    definition, _ = parse_agent("\ufeff" + REVIEWER.replace("\n", newline))
    assert definition.instructions == "You review code.\n\n---\nBe brief."
    assert definition.timeout == 300


def test_settings_make_the_same_agent_again() -> None:
    definition, _ = parse_agent(REVIEWER)
    assert AgentDefinition.from_settings("reviewer", definition.settings) == definition


def test_without_a_name_the_file_gives_it() -> None:
    assert parse_agent("---\ndescription: x\n---\n", stem="helper")[0].name == "helper"
    assert parse_agent("---\n---\nJust do it.", stem="helper")[0].instructions == "Just do it."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("---\nname: a b\n---\n", "x.md:2:7: name must be made of letters, digits, _, - and ."),
        ("---\nname: 7\n---\n", "x.md:2:7: name must be text, not 7: write it in quotes"),
        ("---\nname: x\ntimeout: -5\n---\n", "x.md:3:10: timeout must not be negative"),
        ("---\nkind: llmm\n---\n", "x.md:2:7: kind must be one of"),
        ("---\nkind: command\n---\n", "x.md:2:1: an agent of kind command needs the key run"),
        ("---\n\nkind: llm\nurl: https://x.y\n---\n", "x.md:3:1: the key url needs kind: a2a"),
        (
            "---\nkind: command\nrun: echo 'open\n---\n",
            "x.md:3:6: the command has a quote that is not closed",
        ),
        ("---\nkind: command\nrun: echo {{ prompt\n---\n", "x.md:3:6: {{ is not closed with }}"),
        ("---\nkind: command\nrun: ''\n---\n", "x.md:3:6: run must not be empty"),
        ("---\nkind: command\nrun: '  '\n---\n", "x.md:3:6: run names no program"),
        ("---\nkind: command\nshell: true\nrun: [a]\n---\n", "x.md:4:6: run must be one text with shell"),
        (
            "---\nkind: command\nshell: true\nrun: x '{{ prompt }}'\n---\n",
            "x.md:4:6: {{ prompt }} is not safe",
        ),
        ("---\nname: x\nname: y\n---\n", "x.md:3:1: the key 'name' is there twice"),
        ("---\nname: [x\n---\n", "x.md:3:"),
        ("---\n- a\n---\n", "x.md:2:1: the front matter must be a mapping"),
        ("---\nname: x\n", "x.md:1:1: the front matter is not closed"),
        ("---", "x.md:1:1: the front matter is not closed"),
        ("---\ninstructions: a\n---\nb", "x.md:2:1: the instructions are here and below"),
        ("---\nrun: &a [*a]\n---\n", "x.md:2:10: the alias *a contains itself"),
    ],
)
def test_mistakes_are_shown_where_they_are(text: str, expected: str) -> None:
    problem, *_ = problems_of(text)
    assert problem.startswith(expected)
    crlf, *_ = problems_of(text.replace("\n", "\r\n"))
    assert crlf == problem


def test_all_mistakes_of_a_file_are_reported() -> None:
    problems = problems_of("---\nname: a b\ntimeout: soon\nmax_concurrent: 0\n---\n")
    assert [problem.split(":")[1] for problem in problems] == ["2", "3", "4"]


def test_unknown_keys_are_kept_and_in_our_files_warned_about() -> None:
    text = "---\nname: x\ncolor: red\ntimout: 5m\n---\n"
    definition, warnings = parse_agent(text, file="x.md")
    assert definition.notes == {"color": "red", "timout": "5m"}
    assert [str(warning) for warning in warnings] == [
        "x.md:3:1: unknown key 'color'; it is ignored",
        "x.md:4:1: unknown key 'timout'; did you mean 'timeout'?; it is ignored",
    ]
    definition, warnings = parse_agent(text, ours=False)
    assert definition.notes == {"color": "red", "timout": "5m", "tools": ["*"]}
    assert warnings == []


def test_files_of_other_tools_need_no_quotes() -> None:
    text = (
        "---\n"
        "name: reviewer\n"
        "description: Use it: often. Examples:\\n\\n<example> it's # 1 </example>\n"
        "tools: *\n"
        "max_concurrent: 2\n"
        "---\nBody"
    )
    definition, _ = parse_agent(text, ours=False)
    assert definition.description == "Use it: often. Examples:\\n\\n<example> it's # 1 </example>"
    assert definition.notes["tools"] == ["*"]
    assert definition.max_concurrent == 2
    assert problems_of(text)[0].startswith("x.md:3:")


CLAUDE = """---
name: reviewer
description: Reviews
tools: Read, WebSearch, Bash(git log:*), Bash, Task, mcp__db
model: sonnet
color: red
---
You review."""


def test_what_claude_code_alone_has_is_set_aside(tmp_path: Path) -> None:
    definition, warnings = parse_agent(CLAUDE, file="x.md", ours=False, base_dir=tmp_path)
    assert definition.tools == ("Read", "Bash(git log:*)")
    assert definition.model is None
    assert definition.notes == {
        "color": "red",
        "model": "sonnet",
        "tools": ["WebSearch", "Bash", "Task", "mcp__db"],
    }
    assert [str(warning) for warning in warnings] == [
        "x.md:4:8: reviewer: not here: WebSearch, Bash (it names no command: write Bash(git log:*) for git "
        "log with any arguments, or Bash(git status)), Task, mcp__db (no MCP server 'db' in .mcp.json or "
        ".allready/mcp.json)"
    ]


def test_an_agent_of_claude_code_is_made_again_from_its_settings(tmp_path: Path) -> None:
    definition, _ = parse_agent(CLAUDE, ours=False, base_dir=tmp_path)
    again = AgentDefinition.from_settings("reviewer", definition.settings)
    assert (again.tools, again.model, again.instructions) == (definition.tools, None, "You review.")
    assert again.settings == definition.settings


@pytest.mark.parametrize("line", ["color: red", "tools: '*'", "tools:"])
def test_all_tools_of_claude_code_are_those_that_only_read(line: str) -> None:
    definition, warnings = parse_agent(f"---\nname: x\n{line}\n---\n", ours=False)
    assert definition.tools == ("read_file", "list_files", "search_files")
    assert AgentDefinition.from_settings("x", definition.settings).tools == definition.tools
    assert warnings == []


@pytest.mark.parametrize("model", ["sonnet", "opus", "haiku", "inherit", "default", "claude-sonnet-5"])
def test_short_names_of_models_mean_the_runs_own(model: str) -> None:
    text = f"---\nname: x\nmodel: {model}\n---\n"
    assert parse_agent(text, ours=False)[0].model == (model if model.startswith("claude") else None)
    assert parse_agent(text)[0].model == model


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module that must not be imported: its name."""
    name = f"code_{tmp_path.name}"
    put(tmp_path, f"{name}.py", "def f(text: str) -> str:\n    return text\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    assert name not in sys.modules


def test_python_tools_are_taken_from_our_files_only(project: Path, home: Path, code: str) -> None:
    text = f"---\nname: NAME\ntools: Read, {code}:f\n---\n"
    put(project, ".claude/agents/theirs.md", text.replace("NAME", "theirs"))
    put(project, ".allready/agents/ours.md", text.replace("NAME", "ours"))
    library = load_agents(project, home)
    assert library.agents["theirs"].tools == ("Read",)
    assert library.agents["theirs"].notes["tools"] == [f"{code}:f"]
    assert library.agents["ours"].tools == ("Read", f"{code}:f")
    assert [str(warning) for warning in library.warnings] == [
        f".claude/agents/theirs.md:3:8: theirs: not here: {code}:f (Python code is taken from agents of "
        ".allready/agents and of plans only)"
    ]


@pytest.mark.parametrize("lines", ["kind: python\nfunction: CODE:f", "model: python:CODE:f"])
def test_agents_that_are_python_code_are_taken_from_our_files_only(
    lines: str, project: Path, home: Path, code: str
) -> None:
    text = f"---\nname: x\n{lines.replace('CODE', code)}\n---\n"
    put(project, ".claude/agents/x.md", text)
    library = load_agents(project, home)
    assert library.agents == {}
    (problem,) = library.problems
    assert problem.message.endswith(
        f"{code}:f: Python code is taken from agents of .allready/agents and of plans only"
    )
    assert (problem.file, problem.line) == (".claude/agents/x.md", lines.count("\n") + 3)
    put(project, ".allready/agents/x.md", text)
    assert list(load_agents(project, home).agents) == ["x"]


def test_no_tools_are_no_tools() -> None:
    assert parse_agent("---\nname: x\ntools: []\n---\n", ours=False)[0].tools == ()
    assert parse_agent("---\nname: x\n---\n")[0].tools is None


def test_tools_of_servers_that_are_configured_stay(project: Path, home: Path) -> None:
    put(project, ".mcp.json", '{"mcpServers": {"db": {"command": "db-server"}}}')
    put(project, ".claude/agents/x.md", "---\nname: x\ntools: mcp__db__query\n---\n")
    library = load_agents(project, home)
    assert library.agents["x"].tools == ("mcp__db__query",)
    assert library.warnings == []


def test_what_quotes_do_not_mend_is_still_reported_as_it_was() -> None:
    text = "---\ndescription: a: b\ntools: [x\n---\n"
    assert problems_of(text, ours=False) == problems_of(text)


def test_mistakes_in_a_plan_name_the_agent() -> None:
    with pytest.raises(PlanError, match="agent 'x': the key url needs kind: a2a"):
        AgentDefinition.from_settings("x", {"url": "https://x.y"})
    with pytest.raises(PlanError, match="agent 'x': unknown key 'modell'; did you mean 'model'"):
        AgentDefinition.from_settings("x", {"modell": "y"})


@given(
    st.text(max_size=300) | st.text(max_size=300).map(lambda text: f"---\n{text}\n---\nbody"), st.booleans()
)
def test_any_text_is_an_agent_or_a_clean_mistake(text: str, ours: bool) -> None:
    problems: list[Problem] = []
    definition = None
    try:
        definition, _ = parse_agent(text, file="x.md", stem="x", ours=ours)
    except _NotAnAgent:
        assert not text.removeprefix("\ufeff").startswith("---\n")
        return
    except PlanError as error:
        problems = list(error.problems)
    assert problems if definition is None else definition.name
    assert all(problem.file == "x.md" and problem.line for problem in problems)


# --- the folders ------------------------------------------------------------------------------------------


def test_no_folders_no_agents(project: Path, home: Path) -> None:
    assert empty(load_agents(project, home))


def test_the_first_of_a_name_is_taken(project: Path, home: Path) -> None:
    folders = [folder.path for folder in agent_folders(project, home)]
    assert folders == [
        project / ".allready/agents",
        project / ".claude/agents",
        home / ".config/allready/agents",
        home / ".claude/agents",
    ]
    for number, folder in enumerate(folders):
        for other in range(number + 1):
            put(folder, f"deep/er/{other}.md", agent(f"a{other}", f"from {number}"))
    library = load_agents(project, home)
    assert {name: found.description for name, found in library.agents.items()} == {
        f"a{number}": f"from {number}" for number in range(4)
    }
    assert [found.description for found in library.shadowed] == ["from 1", "from 2", "from 2"] + [
        "from 3"
    ] * 3
    assert library.agents["a0"].source == folders[0] / "deep/er/0.md"
    assert library.problems == library.warnings == []


def test_the_users_configuration_folder_may_be_elsewhere(
    project: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    put(tmp_path, "config/allready/agents/x.md", agent("x"))
    put(home, ".claude/agents/y.md", agent("y"))
    assert list(load_agents(project).agents) == ["x", "y"]
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    assert list(load_agents(project).agents) == ["y"]


def test_a_project_in_the_home_folder_is_read_once(home: Path) -> None:
    put(home, ".claude/agents/y.md", agent("y"))
    library = load_agents(home, home)
    assert list(library.agents) == ["y"]
    assert library.shadowed == []


def test_two_of_a_name_in_one_folder_are_warned_about(project: Path, home: Path) -> None:
    put(project, ".claude/agents/a.md", agent("same", "first"))
    put(project, ".claude/agents/b.md", agent("same", "second"))
    library = load_agents(project, home)
    assert library.agents["same"].description == "first"
    assert [found.description for found in library.shadowed] == ["second"]
    (warning,) = library.warnings
    assert warning.file == ".claude/agents/b.md"
    assert "a.md, which is taken: rename one" in warning.message


def test_a_broken_file_does_not_hide_the_others(project: Path, home: Path) -> None:
    ours, others = project / ".allready/agents", project / ".claude/agents"
    put(ours, "good.md", agent("good"))
    put(ours, "bad name.md", "---\ndescription: x\n---\n")
    put(ours, "binary.md", b"---\nname: \xff\n---\n")
    put(ours, "null.md", b"---\nname: x\n---\na\0b")
    put(ours, "huge.md", agent("huge") + "x" * MAX_FILE_BYTES)
    put(ours, "plain.md", "Just text")
    put(ours, "open.md", "---\nname: open\n")
    put(ours, "notes.txt", "not looked at")
    put(ours, ".hidden.md", "not looked at")
    put(ours, ".git/x.md", "not looked at")
    put(others, "README.md", "# About these agents")
    put(others, "also.MD", agent("also"))
    library = load_agents(project, home)
    assert list(library.agents) == ["good", "also"]
    found = {Path(str(problem.file)).name: problem for problem in library.problems}
    assert found["bad name.md"].message.startswith("the file's name, 'bad name', can't be")
    assert found["binary.md"] == Problem("not text in UTF-8", ".allready/agents/binary.md", 2, 7)
    assert found["null.md"] == Problem("not text in UTF-8", ".allready/agents/null.md", 4, 2)
    assert found["huge.md"].message == "larger than 1,024 KiB"
    assert found["plain.md"].message.startswith("no agent: it has no front matter")
    assert (found["open.md"].line, len(found)) == (1, 6)
    assert [warning.file for warning in library.warnings] == [".claude/agents/README.md"]


def test_links(project: Path, home: Path) -> None:
    ours = project / ".allready/agents"
    real = put(project, "elsewhere/real.md", agent("real"))
    put(ours, "deep/x.md", agent("x"))
    (ours / "link.md").symlink_to(real)
    (ours / "deep/loop").symlink_to(ours)
    (ours / "a.md").symlink_to(ours / "b.md")
    (ours / "b.md").symlink_to(ours / "a.md")
    (ours / "nowhere.md").symlink_to(ours / "gone")
    (project / ".claude").mkdir()
    (project / ".claude/agents").symlink_to(project / "elsewhere")
    library = load_agents(project, home)
    assert list(library.agents) == ["real", "x"]
    assert [Path(str(problem.file)).name for problem in library.problems] == ["a.md", "b.md", "nowhere.md"]


def test_what_is_no_file_is_not_waited_for(project: Path, home: Path) -> None:
    ours = project / ".allready/agents"
    ours.mkdir(parents=True)
    os.mkfifo(ours / "pipe.md")
    (ours / "folder.md").mkdir()
    library = load_agents(project, home)
    assert [problem.message for problem in library.problems] == [
        "not a regular file (a link that leads nowhere?)"
    ]


def test_a_file_in_the_place_of_the_folder_is_no_folder(project: Path, home: Path) -> None:
    put(project, ".allready/agents", "a file")
    assert empty(load_agents(project, home))


def test_far_too_many_files(project: Path, home: Path) -> None:
    for number in range(MAX_FILES + 1):
        put(project, f".claude/agents/{number:05}.md", "---\n---\n")
    library = load_agents(project, home)
    assert len(library.agents) == MAX_FILES
    assert [problem.message for problem in library.problems] == [
        "more than 2,000 agent files: the rest is left out"
    ]


def test_names_that_are_not_text_do_not_hurt(project: Path, home: Path) -> None:
    ours = project / ".allready/agents"
    ours.mkdir(parents=True)
    name = os.fsencode(ours) + b"/\xff.md"
    try:
        Path(os.fsdecode(name)).write_text("---\n---\n")
    except OSError:
        pytest.skip("this file system takes only names in UTF-8")
    (problem,) = load_agents(project, home).problems
    assert problem.message.startswith("the file's name, '\ufffd', can't be the name of an agent")
    assert problem.file == ".allready/agents/\ufffd.md"


def test_reading_agents_needs_no_model_library() -> None:
    code = (
        "import sys, allready.agents.definitions, allready.agents.router, allready.agents.context;"
        "print([name for name in ('pydantic_ai', 'openai', 'sqlalchemy', 'jinja2') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
