"""A real MCP server for tests: over standard input and output, or with a port number over HTTP."""

from __future__ import annotations

import os
import subprocess
import sys

from mcp.server.mcpserver import Image, MCPServer

server = MCPServer("test")


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool()
def environment(name: str) -> str:
    """Give a variable of the server's environment."""
    return os.environ.get(name, "not set")


@server.tool()
def place() -> str:
    """Give the working directory and the process."""
    return f"{os.getcwd()} {os.getpid()}"


@server.tool()
def fail() -> str:
    """Fail."""
    raise ValueError("it went wrong")


@server.tool()
def picture() -> Image:
    """Give a picture."""
    return Image(data=b"\x89PNG", format="png")


@server.tool()
def leave_something_running() -> int:
    """Start a process that outlives the server."""
    return subprocess.Popen(["sleep", "600"], start_new_session=True).pid


@server.tool()
def die() -> str:
    """End the server in the middle of a call."""
    print("something broke with", os.environ.get("DB_TOKEN"), file=sys.stderr, flush=True)
    os._exit(7)


if __name__ == "__main__":
    if os.environ.get("REFUSE"):
        print("no database here,", os.environ.get("DB_TOKEN"), file=sys.stderr)
        sys.exit(3)
    server.run("stdio")
