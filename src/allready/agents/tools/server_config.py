"""Which MCP servers there are: the usual `mcpServers` JSON of `.mcp.json` and `.allready/mcp.json`.

Keys that we don't know are left alone: the files are shared with other programs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from allready.errors import PlanError, Problem
from allready.plan.document import Document
from allready.plan.json_positions import json_positions, parse_json

CONFIG_FILES = (".mcp.json", ".allready/mcp.json")
"""Below the project's folder, the first that has a server of a name comes first."""
MAX_CONFIG_BYTES = 1024 * 1024
"""Of one file; servers are named by the dozen at most."""

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(frozen=True, slots=True)
class Server:
    """One MCP server: a command that speaks over its standard input and output, or an address."""

    name: str
    file: str
    command: str | None = None
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    url: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    sse: bool = False
    """Whether it speaks the older HTTP transport with server-sent events."""

    def expanded(self, environ: Mapping[str, str] = os.environ) -> Server:
        """Give it with `${NAME}` and `${NAME:-default}` replaced.

        Raises `ValueError` that names a variable that is not set.
        """

        def fill(text: str) -> str:
            return _VARIABLE.sub(value, text)

        def value(found: re.Match[str]) -> str:
            name, default = found[1], found[2]
            if default is not None:
                return environ.get(name) or default
            if name not in environ:
                raise ValueError(f"{self.file} needs the variable {name}, which is not set")
            return environ[name]

        return Server(
            self.name,
            self.file,
            None if self.command is None else fill(self.command),
            tuple(map(fill, self.args)),
            {key: fill(item) for key, item in self.env.items()},
            None if self.cwd is None else fill(self.cwd),
            None if self.url is None else fill(self.url),
            {key: fill(item) for key, item in self.headers.items()},
            self.sse,
        )


def tool_prefix(server: str) -> str:
    """Give the beginning of the names of a server's tools, as models see them: `mcp__SERVER`."""
    return "mcp__" + _NOT_IN_A_NAME.sub("_", server)


def read_servers(base_dir: Path) -> dict[str, Server]:
    """Give the servers that are configured for the project, by name.

    Raises `PlanError` with file, line and column of what is wrong.
    """
    servers: dict[str, Server] = {}
    problems: list[Problem] = []
    for name in CONFIG_FILES:
        try:
            for server in _read_file(base_dir / name, name):
                servers.setdefault(server.name, server)
        except PlanError as error:
            problems.extend(error.problems)
    if problems:
        raise PlanError(problems)
    return servers


def _read_file(path: Path, shown: str) -> list[Server]:
    text = _read_text(path, shown)
    if text is None:
        return []
    document = Document(parse_json(text, file=shown), shown, lambda: json_positions(text))
    value = document.value
    if not isinstance(value, dict):
        raise PlanError([document.problem('must be an object: {"mcpServers": {…}}')])
    entries = value.get("mcpServers", {})
    if not isinstance(entries, dict):
        message = "mcpServers must be an object: name → how the server is started or reached"
        raise PlanError([document.problem(message, ("mcpServers",))])
    problems = [problem for name in entries for problem in _problems(document, name, entries[name])]
    if problems:
        raise PlanError(problems)
    return [_server(name, entry, shown) for name, entry in entries.items()]


def _read_text(path: Path, shown: str) -> str | None:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise PlanError([Problem(f"can't be read: {error.strerror}", shown)]) from None
    if len(data) > MAX_CONFIG_BYTES:
        raise PlanError([Problem(f"larger than {MAX_CONFIG_BYTES // 1024:,} KiB", shown)])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise PlanError([Problem("not text in UTF-8", shown, line, 1)]) from None


def _problems(document: Document, name: str, entry: Any) -> Iterator[Problem]:
    path = ("mcpServers", name)
    if not isinstance(entry, dict):
        yield document.problem(f"server {name!r} must be an object with command or url", path)
        return
    if not entry.get("command") and not entry.get("url"):
        yield document.problem(
            f"server {name!r} has neither a command (to start it) nor a url (to reach it)", path
        )
    for key in ("command", "cwd", "url"):
        if entry.get(key) is not None and not isinstance(entry[key], str):
            yield document.problem(f"{key} of server {name!r} must be text", (*path, key))
    args = entry.get("args")
    if args is not None and not (isinstance(args, list) and all(isinstance(item, str) for item in args)):
        yield document.problem(f"args of server {name!r} must be a list of texts", (*path, "args"))
    for key in ("env", "headers"):
        items = entry.get(key)
        if items is not None and not (
            isinstance(items, dict) and all(isinstance(item, str) for item in items.values())
        ):
            yield document.problem(f"{key} of server {name!r} must be an object of texts", (*path, key))
    url = entry.get("url")
    if isinstance(url, str) and url and not url.startswith(("http://", "https://", "${")):
        yield document.problem(f"url of server {name!r} must begin with http:// or https://", (*path, "url"))


def _server(name: str, entry: dict[str, Any], shown: str) -> Server:
    return Server(
        name,
        shown,
        command=entry.get("command") or None,
        args=tuple(entry.get("args") or ()),
        env=entry.get("env") or {},
        cwd=entry.get("cwd") or None,
        url=entry.get("url") or None,
        headers=entry.get("headers") or {},
        sse=entry.get("type") == "sse",
    )
