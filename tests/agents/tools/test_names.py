"""What the names in an agent's `tools` mean, and what is said about those that mean nothing here."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_ai.messages import ModelResponse
from pydantic_ai.models.function import FunctionModel
from tests.agents.tools.using import put

from allready.agents.definitions import AgentDefinition, parse_agent
from allready.agents.kinds import problem_of
from allready.agents.models import Models
from allready.agents.tools.addresses import address_rule
from allready.agents.tools.commands_allowed import command_rule
from allready.agents.tools.names import CLAUDE_NAMES, FILE_TOOLS, ToolChoice, resolve_tools, tools_problem
from allready.agents.tools.server_config import MAX_CONFIG_BYTES, Server, read_servers
from allready.engine.compile import compile_plan
from allready.errors import PlanError
from allready.plan.load import plan_from_document

HERE = "tests.agents.tools.tool_functions"


def choose(folder: Path, *tools: str) -> ToolChoice:
    return resolve_tools(AgentDefinition("x", tools=tools), folder)


def problem(folder: Path, *tools: str) -> str | None:
    return tools_problem(AgentDefinition("x", tools=tools), folder)


def configure(folder: Path, servers: dict[str, Any], name: str = ".mcp.json") -> None:
    put(folder, name, json.dumps({"mcpServers": servers}))


# --- names


def test_ours_and_claudes_names(tmp_path: Path) -> None:
    ours = choose(tmp_path, *FILE_TOOLS, "fetch_url", "run(git log:*)", "run(make)")
    claudes = choose(
        tmp_path, "Read", "LS", "Glob", "Grep", "Write", "Edit", "MultiEdit", "WebFetch", "Bash(git log:*)"
    )
    assert ours.missing == claudes.missing == []
    assert ours.files == claudes.files == list(FILE_TOOLS)
    assert ours.fetch_public
    assert claudes.fetch_public
    assert list(map(str, ours.commands)) == ["git log …", "make"]
    assert ours.commands[:1] == claudes.commands
    assert claudes.available == [*list(CLAUDE_NAMES)[:8], "Bash(git log:*)"]
    assert ours.names == [*FILE_TOOLS, "run(git log …)", "run(make)", "fetch_url"]


def test_nothing_said_is_nothing_allowed(tmp_path: Path) -> None:
    assert resolve_tools(AgentDefinition("x"), tmp_path) == ToolChoice()
    assert problem(tmp_path) is None


def test_tools_of_other_kinds_of_agents_are_their_own_affair(tmp_path: Path) -> None:
    definition = AgentDefinition("x", kind="command", tools=("Task",))
    assert tools_problem(definition, tmp_path) is None


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("read_fiel", "there is no tool 'read_fiel'; did you mean 'read_file'?"),
        ("WebSearch", "there is no tool 'WebSearch': it is one of Claude Code's own"),
        ("browse", "there is no tool 'browse'; there are read_file, list_files, "),
        ("Bash", "its tool 'Bash': it names no command: write Bash(git log:*) for git log with any "),
        ("run", "its tool 'run': it names no command: write run(git log:*)"),
        ("Bash(*)", "its tool 'Bash(*)': it names no command"),
        ("Bash(:*)", "its tool 'Bash(:*)': it names no command"),
        ("run()", "its tool 'run()': it names no command"),
        ("run(echo 'x)", "its tool \"run(echo 'x)\": the command can't be split into words: no closing"),
        ("Read(src/**)", "its tool 'Read(src/**)': read_file takes no pattern: write Read; it stays below"),
        ("fetch_url(nowhere)", "its tool 'fetch_url(nowhere)': it is not an address: write https://"),
        ("WebFetch(domain:)", "its tool 'WebFetch(domain:)': it names no host"),
        ("WebFetch(domain:*.x.org)", "its tool 'WebFetch(domain:*.x.org)': it names no host"),
        ("fetch_url(http://x:99999999)", "its tool 'fetch_url(http://x:99999999)': it is not an address"),
        ("*", "its tool '*': name the tools it may use, such as read_file, list_files, search_files"),
        ("mcp__db", "its tool 'mcp__db': no MCP server 'db' in .mcp.json or .allready/mcp.json"),
        ("no.such:function", "its tool 'no.such:function': it can't be imported: ModuleNotFoundError: No "),
        (f"{HERE}:gone", "can't be imported: AttributeError: module"),
        (f"{HERE}:NOT_A_FUNCTION", "it is no function"),
        (f"{HERE}:read_file", "another tool is called read_file: give the function another name"),
    ],
)
def test_what_is_not_here_is_told(tmp_path: Path, name: str, told: str) -> None:
    said = problem(tmp_path, "Read", name)
    assert said is not None
    assert told in said
    assert choose(tmp_path, "Read", name).available == ["Read"]


def test_all_that_is_missing_is_told_at_once(tmp_path: Path) -> None:
    said = problem(tmp_path, "Task", "Bash", "Read") or ""
    assert "'Task'" in said
    assert "'Bash'" in said


def test_two_functions_of_one_name(tmp_path: Path) -> None:
    said = problem(tmp_path, f"{HERE}:shout", f"{HERE}:shout", f"{HERE}:Other.shout") or ""
    assert said.count("another tool is called shout") == 1


def test_modules_that_fail_or_end_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    put(tmp_path, "tool_that_exits.py", "raise SystemExit(3)")
    put(tmp_path, "tool_that_fails.py", "1 / 0")
    assert "SystemExit: 3" in (problem(tmp_path, "tool_that_exits:f") or "")
    assert "ZeroDivisionError" in (problem(tmp_path, "tool_that_fails:f") or "")


@given(st.text(max_size=60))
def test_any_name_is_a_tool_or_a_clean_reason(name: str) -> None:
    choice = choose(Path("/nonexistent"), name)
    assert bool(choice.missing) != bool(choice.available)


def test_a_tool_that_is_missing_stops_a_plan_before_anything_runs(tmp_path: Path) -> None:
    models = Models(FunctionModel(lambda messages, info: ModelResponse(parts=[])))
    agents = {"helper": {"tools": ["read_file", "read_fiel"]}}
    document = {"tasks": [{"id": "a", "prompt": "x", "agent": "helper"}], "agents": agents}
    with pytest.raises(PlanError, match="agent 'helper': there is no tool 'read_fiel'; did you mean"):
        compile_plan(plan_from_document(document, base_dir=tmp_path), models=models)
    helper = AgentDefinition("helper", tools=("mcp__db",))
    assert "no MCP server 'db'" in (problem_of(helper, models, tmp_path) or "")
    configure(tmp_path, {"db": {"command": "x"}})
    assert problem_of(helper, models, tmp_path) is None


# --- commands


@pytest.mark.parametrize(
    ("rule", "yes", "no"),
    [
        ("git log:*", ["git log", "git log -p x"], ["git", "git logs", "git -c x log", "git status"]),
        ("git log *", ["git log", "git log -p"], ["git logs"]),
        ("make", ["make"], ["make all", "makefile"]),
        ("'a b' c:*", ["'a b' c", "a\\ b c d"], ["a b c"]),
        ("npm run test:unit", ["npm run test:unit"], ["npm run test"]),
    ],
)
def test_rules_for_commands(rule: str, yes: list[str], no: list[str]) -> None:
    from allready.agents.tools.commands_allowed import split_words

    allowed = command_rule(rule)
    assert [command for command in [*yes, *no] if allowed.allows(split_words(command))] == yes


@given(st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=4), st.lists(st.text(), max_size=3))
def test_a_rule_allows_what_begins_with_its_words_and_nothing_else(words: list[str], more: list[str]) -> None:
    import shlex

    if words[-1].endswith(":*"):
        return
    exact, prefix = command_rule(shlex.join(words)), command_rule(shlex.join(words) + ":*")
    assert exact.allows(words)
    assert exact.allows([*words, *more]) == (not more)
    assert prefix.allows([*words, *more])
    assert not prefix.allows([*words[:-1], words[-1] + "x", *more])
    assert not prefix.allows(["env", *words])


# --- addresses


@pytest.mark.parametrize(
    ("rule", "yes", "no"),
    [
        (
            "http://127.0.0.1:8000",
            ["http://127.0.0.1:8000", "http://127.0.0.1:8000/x?y"],
            [
                "https://127.0.0.1:8000/",
                "http://127.0.0.1:80010/",
                "http://127.0.0.1/",
                "http://localhost:8000",
            ],
        ),
        (
            "https://Example.com/docs/",
            ["https://example.com/docs/a", "https://EXAMPLE.com:443/docs/"],
            [
                "https://example.com/doc",
                "https://example.com/docs/../x",
                "https://example.com/docs/%2e%2e/x",
                "https://example.com/docs/%252e%252e/x",
                "https://example.com/docs/..\\x",
                "https://user@example.com/docs/",
                "https://example.com.evil.org/docs/",
                "https://evil.org/https://example.com/docs/",
                "https://example.com@evil.org/docs/",
            ],
        ),
        (
            "domain:example.com",
            ["http://example.com/x", "https://example.com:8443"],
            ["http://a.example.com"],
        ),
        ("http://[::1]:80/", ["http://[::1]/x"], ["http://[::2]/", "http://[::1"]),
    ],
)
def test_rules_for_addresses(rule: str, yes: list[str], no: list[str]) -> None:
    allowed = address_rule(rule)
    assert [url for url in [*yes, *no] if allowed.allows(url)] == yes
    assert address_rule(str(allowed)) == allowed


# --- servers


def test_the_first_of_two_servers_of_a_name_counts(tmp_path: Path) -> None:
    configure(tmp_path, {"db": {"command": "first"}, "web": {"type": "sse", "url": "https://x.y/sse"}})
    configure(tmp_path, {"db": {"command": "second"}, "more": {"command": "m"}}, ".allready/mcp.json")
    found = read_servers(tmp_path)
    assert list(found) == ["db", "web", "more"]
    assert (found["db"].command, found["db"].file) == ("first", ".mcp.json")
    assert found["web"].sse
    assert found["more"].file == ".allready/mcp.json"
    assert read_servers(tmp_path / "nowhere") == {}


def test_tools_of_servers(tmp_path: Path) -> None:
    configure(tmp_path, {"db": {"command": "x"}, "db__x": {"command": "x"}, "my server": {"command": "x"}})
    choice = choose(tmp_path, "mcp__db__query", "mcp__db__list", "mcp__db__x__go", "mcp__my_server")
    assert choice.missing == []
    assert choice.servers == {"db": {"query", "list"}, "db__x": {"go"}, "my server": None}
    assert choice.names == ["mcp__db__list", "mcp__db__query", "mcp__db__x__go", "mcp__my_server__*"]
    assert choose(tmp_path, "mcp__db__query", "mcp__db__*", "mcp__db__list").servers == {"db": None}
    assert "did you mean 'my server'?" in (problem(tmp_path, "mcp__my_sever__x") or "")
    assert "there are db, db__x, my server" in (problem(tmp_path, "mcp__weather") or "")


def test_variables_are_filled_in_when_a_server_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HERE", "there")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("NOT_SET", raising=False)
    configure(
        tmp_path,
        {
            "a": {
                "command": "${HERE}/x",
                "args": ["${NOT_SET:-a b}", "${EMPTY:-c}", "$HERE", "${HERE}${EMPTY}"],
                "env": {"KEY": "${HERE}"},
                "cwd": "${HERE}",
            },
            "b": {"url": "${NOT_SET}", "headers": {"X": "${HERE}"}},
        },
    )
    assert choose(tmp_path, "mcp__a").configured["a"] == Server(
        "a", ".mcp.json", "there/x", ("a b", "c", "$HERE", "there"), {"KEY": "there"}, "there"
    )
    assert problem(tmp_path, "mcp__b") == (
        "its tool 'mcp__b': .mcp.json needs the variable NOT_SET, which is not set"
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", ".mcp.json:1:2: not valid JSON"),
        ("[]", ".mcp.json:1:1: must be an object"),
        ('{\n"mcpServers": []}', ".mcp.json:2:15: mcpServers must be an object"),
        ('{"mcpServers": {"a": 1}}', ".mcp.json:1:22: server 'a' must be an object"),
        ('{"mcpServers": {"a": {}}}', ".mcp.json:1:22: server 'a' has neither a command"),
        (
            '{"mcpServers": {"a": {"command": "x", "args": "y"}}}',
            "1:47: args of server 'a' must be",
        ),
        (
            '{"mcpServers": {"a": {"command": "x", "args": [1]}}}',
            "1:47: args of server 'a' must be",
        ),
        ('{"mcpServers": {"a": {"command": "x", "env": {"A": 1}}}}', "1:46: env of server 'a' must be"),
        ('{"mcpServers": {"a": {"url": "ftp://x"}}}', "1:30: url of server 'a' must begin with http"),
        ('{"mcpServers": {"a": {"url": 7}}}', ".mcp.json:1:30: url of server 'a' must be text"),
        ('{"mcpServers": {}, "mcpServers": {}}', "1:20: the key 'mcpServers' is there twice"),
        ("\n\xff", ".mcp.json:2:1: not text in UTF-8"),
        ("x" * (MAX_CONFIG_BYTES + 1), ".mcp.json: larger than 1,024 KiB"),
    ],
)
def test_mistakes_in_the_configuration_have_a_place(tmp_path: Path, text: str, told: str) -> None:
    put(tmp_path, ".mcp.json", text.encode("latin-1"))
    with pytest.raises(PlanError) as caught:
        read_servers(tmp_path)
    assert told in str(caught.value)
    said = problem(tmp_path, "mcp__a") or ""
    assert told in said
    assert said.startswith("its tool 'mcp__a': the MCP servers can't be read: ")
    assert problem(tmp_path, "Read") is None  # who uses none is not held up


def test_unknown_keys_are_other_programs_business(tmp_path: Path) -> None:
    put(
        tmp_path,
        ".mcp.json",
        '{"x": 1, "mcpServers": {"a": {"command": "x", "alwaysAllow": [], "env": null}}}',
    )
    assert read_servers(tmp_path)["a"].env == {}
    (tmp_path / ".mcp.json").unlink()
    (tmp_path / ".mcp.json").mkdir()
    with pytest.raises(PlanError, match="can't be read: Is a directory"):
        read_servers(tmp_path)


def test_what_the_document_shows_is_true(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "docs/agents.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (config,) = [block for kind, block in blocks if kind == "json"]
    environ = {"LIBRARY_TOKEN": "a", "TICKETS_TOKEN": "b"}
    put(tmp_path, ".mcp.json", config)
    tokens = {name: server.expanded(environ) for name, server in read_servers(tmp_path).items()}
    assert tokens["library"].env == {"TOKEN": "a"}
    assert tokens["tickets"].headers == {"Authorization": "Bearer b"}
    put(tmp_path, ".mcp.json", config.replace("${LIBRARY_TOKEN}", "a"))
    agents = [parse_agent(block)[0] for kind, block in blocks if kind == "markdown"]
    assert len(agents) == 2
    assert [tools_problem(agent, tmp_path) for agent in agents] == [None, None]
    table = text.partition("## Tools")[2].partition("## What a prompt")[0]
    assert [name for name in (*FILE_TOOLS, *CLAUDE_NAMES) if f"`{name}" not in table] == []
