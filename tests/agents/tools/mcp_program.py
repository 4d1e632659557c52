"""A real MCP server for tests, over standard input and output; `make()` gives it for HTTP, too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

from mcp.server.mcpserver import Image, MCPServer


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def environment(name: str) -> str:
    """Give a variable of the server's environment."""
    return os.environ.get(name, "not set")


def place() -> str:
    """Give the working directory and the process."""
    return f"{Path.cwd()} {os.getpid()}"


def fail() -> str:
    """Fail."""
    raise ValueError("it went wrong")


def picture() -> Image:
    """Give a picture."""
    return Image(data=b"\x89PNG", format="png")


def leave_something_running() -> int:
    """Start a process that outlives the server."""
    return subprocess.Popen(["sleep", "600"], start_new_session=True).pid


def die() -> str:
    """End the server in the middle of a call."""
    print("something broke with", os.environ.get("DB_TOKEN"), file=sys.stderr, flush=True)
    os._exit(7)


class Lost(MCPServer[None]):
    """Ends when it is asked for its tools."""

    async def list_tools(self) -> NoReturn:
        """Give no answer."""
        print("x" * 100_000, "\nlost my list", file=sys.stderr, flush=True)
        os._exit(4)


def make() -> MCPServer[None]:
    """Give a server with these tools."""
    server = Lost("test") if os.environ.get("LOSE_TOOLS") else MCPServer("test")
    for tool in (add, environment, place, fail, picture, leave_something_running, die):
        server.add_tool(tool)
    return server


if __name__ == "__main__":
    if os.environ.get("REFUSE"):
        print("no database here,", os.environ.get("DB_TOKEN"), file=sys.stderr)
        sys.exit(3)
    if os.environ.get("HANG"):
        print("starting", flush=True, file=sys.stderr)
        sys.stdin.read()
    make().run("stdio")
