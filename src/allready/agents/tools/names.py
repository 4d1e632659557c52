"""What the names in an agent's `tools` mean, ours and Claude's. Light: no model library is imported.

| name | tool |
| --- | --- |
| `read_file`, `list_files`, `search_files`, `write_file`, `edit_file` | files below the working folder |
| `fetch_url`, `fetch_url(domain:HOST)`, `fetch_url(http://127.0.0.1:8000/docs)` | web pages |
| `run(git log:*)`, `run(git status)` | a command; with `:*` any arguments may follow |
| `package.module:function` | a Python function |
| `mcp__SERVER`, `mcp__SERVER__TOOL` | all tools of an MCP server, or one of them |
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from allready.agents.tools.addresses import AddressRule, address_rule
from allready.agents.tools.commands_allowed import CommandRule, command_rule
from allready.agents.tools.server_config import Server, read_servers, tool_prefix
from allready.errors import PlanError, text_of
from allready.plan.imports import import_object
from allready.plan.problems import did_you_mean

if TYPE_CHECKING:
    from allready.agents.definitions import AgentDefinition

FILE_TOOLS = ("read_file", "list_files", "search_files", "write_file", "edit_file")
READ_ONLY = FILE_TOOLS[:3]
"""What an agent of `.claude/agents/` gets that names no tools, which there means all of Claude's."""
FETCH = "fetch_url"
RUN = "run"
CLAUDE_NAMES: Mapping[str, str] = {
    "Read": "read_file",
    "LS": "list_files",
    "Glob": "list_files",
    "Grep": "search_files",
    "Write": "write_file",
    "Edit": "edit_file",
    "MultiEdit": "edit_file",
    "WebFetch": FETCH,
    "Bash": RUN,
}
"""Claude's names for what is here under another one."""

CLAUDE_ONLY = frozenset(
    {
        *("Agent", "AskUserQuestion", "BashOutput", "ExitPlanMode", "KillShell", "NotebookEdit"),
        *("NotebookRead", "Skill", "SlashCommand", "Task", "TodoWrite", "WebSearch"),
    }
)
"""Tools of Claude Code that are not here; something similar by its letters would do something else."""

OURS_ONLY = "Python code is taken from agents of .allready/agents and of plans only"
"""Why it is left out elsewhere: who has a project with files for another program expects no code in them."""

_WITH_ARGUMENT = re.compile(r"([A-Za-z_]\w*)\s*\((.*)\)", re.DOTALL)
_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_MCP = "mcp__"


class Missing(NamedTuple):
    """A tool that is not here."""

    name: str
    reason: str | None
    """What to do about it; None: there is simply no such tool."""

    def __str__(self) -> str:
        """The name, and the reason in brackets."""
        return self.name if self.reason is None else f"{self.name} ({self.reason})"


@dataclass(slots=True)
class ToolChoice:
    """What an agent may use, and what of its wishes is not here."""

    files: list[str] = field(default_factory=list)
    """Of `FILE_TOOLS`."""
    commands: list[CommandRule] = field(default_factory=list)
    fetch_public: bool = False
    """Whether any public address may be fetched."""
    addresses: list[AddressRule] = field(default_factory=list)
    functions: dict[str, Callable[..., Any]] = field(default_factory=dict)
    """By the name that the model calls them by."""
    servers: dict[str, set[str] | None] = field(default_factory=dict)
    """Names of MCP servers → the tools of theirs that may be used, None: all."""
    configured: dict[str, Server] = field(default_factory=dict)
    """These servers, variables filled in."""
    missing: list[Missing] = field(default_factory=list)
    available: list[str] = field(default_factory=list)
    """The names, as they were written, of all that is here."""

    @property
    def names(self) -> list[str]:
        """What is here, one name a tool, for people."""
        fetched = [FETCH] if self.fetch_public else []
        return [
            *self.files,
            *(f"{RUN}({rule})" for rule in self.commands),
            *fetched,
            *(f"{FETCH}({rule})" for rule in self.addresses),
            *self.functions,
            *(
                name
                for server, tools in self.servers.items()
                for name in (
                    [f"{tool_prefix(server)}__*"]
                    if tools is None
                    else [f"{tool_prefix(server)}__{tool}" for tool in sorted(tools)]
                )
            ),
        ]


class _NotHere(Exception):
    """A name stands for nothing here; its text says why, and what to do."""


def resolve_tools(definition: AgentDefinition, base_dir: Path, *, functions: bool = True) -> ToolChoice:
    """Say what the names in the agent's `tools` stand for in the project at `base_dir`.

    Python functions are imported, unless they are not to be had: without `functions` they are missing. MCP
    servers are looked up in the configuration, but not started.
    """
    choice = ToolChoice()
    if definition.kind == "llm":
        servers = _Servers(base_dir)
        for name in dict.fromkeys(definition.tools or ()):
            try:
                if not functions and _FUNCTION.fullmatch(name.strip()):
                    raise _NotHere(OURS_ONLY)
                _add(choice, name.strip(), servers)
            except _NotHere as error:
                choice.missing.append(Missing(name, text_of(error) or None))
            else:
                choice.available.append(name)
    return choice


def tools_problem(definition: AgentDefinition, base_dir: Path) -> str | None:
    """Say which of the agent's tools are not here, and what to do about it; None if all are."""
    missing = resolve_tools(definition, base_dir).missing
    if not missing:
        return None
    return "; ".join(
        f"its tool {name!r}: {reason}" if reason else f"there is no tool {name!r}{_hint(name)}"
        for name, reason in missing
    )


def _hint(name: str) -> str:
    if name in CLAUDE_ONLY:
        return ": it is one of Claude Code's own"
    similar = did_you_mean(name, [*FILE_TOOLS, FETCH, RUN, *CLAUDE_NAMES])
    return similar or f"; there are {', '.join((*FILE_TOOLS, FETCH, RUN))} and more: see docs/agents.md"


def _add(choice: ToolChoice, name: str, servers: _Servers) -> None:
    found = _WITH_ARGUMENT.fullmatch(name)
    plain, argument = (found[1], found[2]) if found else (name, None)
    tool = CLAUDE_NAMES.get(plain, plain)
    if tool == RUN:
        _add_command(choice, plain, argument)
    elif tool == FETCH:
        _add_address(choice, argument)
    elif tool in FILE_TOOLS:
        if argument is not None:
            raise _NotHere(f"{tool} takes no pattern: write {plain}; it stays below the working folder")
        if tool not in choice.files:
            choice.files.append(tool)
    elif name.startswith(_MCP):
        servers.add(choice, name)
    elif _FUNCTION.fullmatch(name):
        _add_function(choice, name)
    elif name == "*":
        raise _NotHere(f"name the tools it may use, such as {', '.join(READ_ONLY)}")
    else:
        raise _NotHere


def _add_command(choice: ToolChoice, plain: str, argument: str | None) -> None:
    try:
        rule = command_rule(argument or "")
    except ValueError as error:
        raise _NotHere(
            f"{error}: write {plain}(git log:*) for git log with any arguments, or {plain}(git status)"
        ) from None
    if rule not in choice.commands:
        choice.commands.append(rule)


def _add_address(choice: ToolChoice, argument: str | None) -> None:
    if argument is None:
        choice.fetch_public = True
        return
    try:
        rule = address_rule(argument)
    except ValueError as error:
        raise _NotHere(str(error)) from None
    if rule not in choice.addresses:
        choice.addresses.append(rule)


def _add_function(choice: ToolChoice, name: str) -> None:
    try:
        function = import_object(name)
    except (Exception, SystemExit) as error:  # whatever its module does when it is imported
        raise _NotHere(f"it can't be imported: {type(error).__name__}: {text_of(error)}") from error
    if not inspect.isroutine(function):
        raise _NotHere("it is no function")
    called = name.partition(":")[2].rpartition(".")[2]
    taken = {*FILE_TOOLS, FETCH, RUN}
    if called in taken or choice.functions.get(called, function) is not function:
        raise _NotHere(f"another tool is called {called}: give the function another name")
    choice.functions[called] = function


class _Servers:
    """The MCP servers of a project; its files are read when the first tool asks for one."""

    def __init__(self, base_dir: Path) -> None:
        self._base_dir = base_dir
        self._servers: dict[str, Server] | None = None

    def add(self, choice: ToolChoice, name: str) -> None:
        try:
            if self._servers is None:
                self._servers = read_servers(self._base_dir)
        except PlanError as error:
            raise _NotHere(f"the MCP servers can't be read: {error}") from None
        server, tool = self._find(name)
        try:
            choice.configured[server] = self._servers[server].expanded()
        except ValueError as error:
            raise _NotHere(str(error)) from None
        known = choice.servers.setdefault(server, set())
        if tool is None:
            choice.servers[server] = None
        elif known is not None:
            known.add(tool)

    def _find(self, name: str) -> tuple[str, str | None]:
        """Give the server, and the tool that is meant, None for all; the longest server's name counts."""
        servers: Sequence[str] = sorted(self._servers or (), key=len, reverse=True)
        for server in servers:
            for prefix in (tool_prefix(server), _MCP + server):
                if name == prefix:
                    return server, None
                if name.startswith(f"{prefix}__"):
                    tool = name.removeprefix(f"{prefix}__")
                    return server, None if tool in ("", "*") else tool
        wanted = name.removeprefix(_MCP).partition("__")[0]
        there = f"; there are {', '.join(sorted(servers))}" if servers else ""
        hint = did_you_mean(wanted, servers) or there
        raise _NotHere(f"no MCP server {wanted!r} in .mcp.json or .allready/mcp.json{hint}")
