"""Tools of MCP servers: a server's process lives as long as the attempt, and no longer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TextIO

import httpx2
from fastmcp.client.transports import ClientTransport, SSETransport, StdioTransport, StreamableHttpTransport
from pydantic_ai import RunContext
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.toolsets import AbstractToolset, PrefixedToolset, ToolsetTool, WrapperToolset

from allready.agents.base import Attempt
from allready.agents.command import task_environment
from allready.agents.leftovers import end_leftovers
from allready.agents.secrets import Redactor
from allready.agents.threads import in_thread
from allready.agents.tools.server_config import Server, tool_prefix
from allready.errors import PermanentError, TaskError, text_of

CONNECT_TIME = 60.0
"""Seconds until a server must have answered; `npx` and `uvx` may have to fetch it first."""
CALL_TIME = 300.0
"""Seconds that one call may take."""
QUOTED_LINES = 5
"""Last lines of what a server wrote to its standard error that an error message quotes."""
KEPT = 64 * 1024
"""Bytes of the end of a server's standard error that are kept in the attempt's folder."""
DRAINED = 16
"""Pieces that are read at once for its last words: more than a pipe holds, but no flood is followed."""


for _name in ("mcp", "fastmcp"):
    # else what they note about a server that prints odd lines would stand in the middle of the display
    logging.getLogger(_name).addHandler(logging.NullHandler())


def server_toolset(
    server: Server, only: Collection[str] | None, attempt: Attempt, redactor: Redactor
) -> AbstractToolset[Any]:
    """Give the tools of a server (only those of these names), called `mcp__SERVER__TOOL`.

    It is started when the toolset is entered, and has ended with all that it started when it is left.
    Entering raises `TaskError` with the server's last words if it can't be started or reached.
    """
    prefix = tool_prefix(server.name)
    life = _Life(f"{attempt.handle}.{prefix}", attempt, redactor, attempt.folder / f"{prefix}.txt")
    transport = _transport(server, life)
    toolset = MCPToolset[Any](
        transport,
        id=server.name,
        init_timeout=CONNECT_TIME,
        read_timeout=CALL_TIME,
    )
    return PrefixedToolset(_Served(toolset, server, only, life), prefix + "_")


def _transport(server: Server, life: _Life) -> ClientTransport:
    if server.command is not None:
        base = life.attempt.base_dir
        life.transport = StdioTransport(
            server.command,
            list(server.args),
            env=task_environment(life.attempt, server.env) | {"ALLREADY_ATTEMPT_ID": life.handle},
            cwd=str(base / server.cwd if server.cwd else base),
            keep_alive=False,
        )
        return life.transport
    assert server.url is not None
    kind = SSETransport if server.sse else StreamableHttpTransport
    return kind(server.url, headers=dict(server.headers), httpx_client_factory=life.http_client)


class _Tail:
    """The end of what is written to `file`, by whoever it was handed to: bounded, however much that is."""

    def __init__(self) -> None:
        self._source, sink = os.pipe()
        os.set_blocking(self._source, False)
        self.file: TextIO = os.fdopen(sink, "w", encoding="utf-8")
        self._kept = bytearray()
        self._dropped = False
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._source, self._read)

    def _read(self) -> bool:
        """Take what is there, a piece at a time; says whether there was any."""
        try:
            data = os.read(self._source, KEPT)
        except BlockingIOError:
            return False
        if not data:
            self._loop.remove_reader(self._source)
        self._kept += data
        if len(self._kept) > KEPT:
            self._dropped = True
            del self._kept[:-KEPT]
        return bool(data)

    def text(self) -> tuple[str, bool]:
        """Give the end of what was written until now, and whether that is all of it."""
        for _ in range(DRAINED):
            if not self._read():
                break
        return self._kept.decode("utf-8", "replace"), not self._dropped

    def close(self) -> None:
        self._loop.remove_reader(self._source)
        os.close(self._source)
        self.file.close()


@dataclass(slots=True)
class _Life:
    """A server's process, from its start to its end."""

    handle: str
    """In its environment: what it leaves behind is found by it, and nothing else is."""
    attempt: Attempt
    redactor: Redactor
    log: Path
    """Where the end of its standard error is kept."""
    transport: StdioTransport | None = None
    errors: _Tail | None = None
    refusal: str = ""
    """The last answer over HTTP that was an error, which the libraries keep to themselves."""

    def http_client(
        self,
        headers: dict[str, str] | None = None,
        timeout: httpx2.Timeout | None = None,
        auth: httpx2.Auth | None = None,
        **settings: Any,
    ) -> httpx2.AsyncClient:
        """Give a client that notes errors."""

        async def note(response: httpx2.Response) -> None:
            if response.is_error:
                self.refusal = f" (HTTP {response.status_code} {response.reason_phrase})"

        return httpx2.AsyncClient(
            headers=headers,
            timeout=timeout or httpx2.Timeout(CONNECT_TIME, read=CALL_TIME),
            auth=auth,
            event_hooks={"response": [note]},
            **settings,
        )

    def begin(self) -> None:
        if self.transport is not None:
            self.errors = _Tail()
            self.transport.log_file = self.errors.file

    def last_words(self) -> str:
        """Give the end of what it wrote to its standard error, secrets blanked."""
        if self.errors is None:
            return ""
        text, whole = self.errors.text()
        if not whole:
            text = text.partition("\n")[2]  # the rest of a secret's line would not be known as one
        return self.redactor.text(text).strip()

    async def end(self, *, forced: bool = False) -> None:
        """End its process and all that it started, if they are still there; keep its last words.

        If `forced`, the end is not waited for; the attempt's place is held until then.
        """
        if self.transport is None or self.errors is None:
            return
        words = self.last_words()
        self.errors.close()
        self.errors = None
        with contextlib.suppress(OSError):
            if words:
                self.log.write_text(words + "\n", encoding="utf-8")
        ended = in_thread(lambda: end_leftovers(self.attempt.run_id, {self.handle}, 0), "allready strays")
        try:
            if not forced:
                await asyncio.wait([ended])
        finally:
            if not ended.done() and self.attempt.hold_place is not None:
                self.attempt.hold_place(ended)


@dataclass
class _Served(WrapperToolset[Any]):
    """The server's own toolset, with its end made sure of and its errors in our words."""

    server: Server
    only: Collection[str] | None
    life: _Life

    async def __aenter__(self) -> Self:
        self.life.begin()
        try:
            await self.wrapped.__aenter__()
        except BaseException as error:
            failure = self._failure("can't be started" if self.server.command else "can't be reached", error)
            await self.life.end()
            if isinstance(error, Exception):
                raise failure from error
            raise  # canceled
        try:
            await self._check_names()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *args: object) -> bool | None:
        try:
            with contextlib.suppress(Exception):  # what it says at its end is no failure of the task
                await self.wrapped.__aexit__(*args)
        except asyncio.CancelledError:
            await self.life.end(forced=True)
            raise
        await self.life.end()
        return None

    async def get_tools(self, ctx: RunContext[Any]) -> dict[str, ToolsetTool[Any]]:
        try:
            tools = await super().get_tools(ctx)
        except Exception as error:
            raise self._failure("can't say which tools it has", error) from error
        return {name: tool for name, tool in tools.items() if self.only is None or name in self.only}

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[Any], tool: ToolsetTool[Any]
    ) -> Any:
        try:
            return await super().call_tool(name, tool_args, ctx, tool)
        except Exception as error:
            if type(error).__module__.startswith("pydantic_ai") and self._lives():
                raise
            raise self._failure(f"failed in its tool {name}", error) from error

    def _lives(self) -> bool:
        assert isinstance(self.wrapped, MCPToolset)
        return self.life.transport is None or not self.life.transport._is_session_dead()

    async def _check_names(self) -> None:
        if self.only is None:
            return
        assert isinstance(self.wrapped, MCPToolset)
        there = [tool.name for tool in await self.wrapped.list_tools()]
        missing = sorted(set(self.only).difference(there))
        if missing:
            raise PermanentError(
                f"the MCP server {self.server.name!r} has no tool {missing[0]!r}; it has "
                f"{', '.join(sorted(there)) or 'none'}"
            )

    def _failure(self, what: str, error: BaseException) -> TaskError:
        how = self.server.command or self.server.url
        text = f"the MCP server {self.server.name!r} ({how}, {self.server.file}) {what}: {_reason(error)}"
        text += self.life.refusal
        words = self.life.last_words().splitlines()[-QUOTED_LINES:]
        if words:
            text = "\n".join([f"{text}; its last words:", *words])
        return TaskError(self.life.redactor.text(text))


def _reason(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return text_of(error) or type(error).__name__
