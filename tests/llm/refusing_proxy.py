"""A proxy that refuses the first requests with 429 and passes the others on: what a busy provider does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

SIZE = 64 * 1024
"""Bytes passed on at once."""


class RefusingProxy:
    """Refuses so many requests; counts them and those that it passed on."""

    def __init__(self, upstream: str, refuse: int, retry_after: int) -> None:
        self._upstream = urlsplit(upstream)
        self._left = refuse
        self._retry_after = retry_after
        self.refused = self.passed = 0
        self.address = ""

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Refuse, or connect the two ends until one of them closes."""
        try:
            await (self._refuse(reader, writer) if self._left else self._pass_on(reader, writer))
        except (OSError, asyncio.IncompleteReadError):
            pass  # one of the two has gone
        finally:
            await _close(writer)

    async def _refuse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        await reader.readexactly(int(lengths[0].partition(b":")[2]))
        self._left -= 1
        self.refused += 1
        body = b'{"error": {"message": "slow down", "type": "requests", "code": "rate_limit_exceeded"}}'
        answer = (
            "HTTP/1.1 429 Too Many Requests\r\n"
            f"Retry-After: {self._retry_after}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        writer.write(answer.encode() + body)
        await writer.drain()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.passed += 1
        there = self._upstream
        reader_there, writer_there = await asyncio.open_connection(there.hostname, there.port)
        ways = [
            asyncio.create_task(_copy(reader, writer_there)),
            asyncio.create_task(_copy(reader_there, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            await _close(writer_there)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(SIZE):
        writer.write(data)
        await writer.drain()


@asynccontextmanager
async def refusing_proxy(upstream: str, *, refuse: int, retry_after: int) -> AsyncIterator[RefusingProxy]:
    """Serve a proxy before `upstream` on loopback; its `address` has no path."""
    proxy = RefusingProxy(upstream, refuse, retry_after)
    connections: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(proxy.connection(reader, writer))
        connections.add(task)
        task.add_done_callback(connections.discard)
        task.add_done_callback(lambda _: writer.close())  # also when it was canceled before it began

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    proxy.address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
