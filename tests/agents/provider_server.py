"""A server on loopback that refuses, breaks off and hangs as providers do, in their wire formats."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """A whole answer."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = {}


class Drop(NamedTuple):
    """Nothing: the connection is closed when the request was read."""


class Hang(NamedTuple):
    """Some events, then nothing, until the other side goes away."""

    events: Sequence[str] = ()
    headers_first: bool = False
    """Whether the head of the answer is sent even without events."""


class Stream(NamedTuple):
    """Events of a stream, as they stand on the wire."""

    events: Sequence[str]
    complete: bool = True
    """False: the connection breaks off after the events."""


Reply = Answer | Drop | Hang | Stream


@dataclass
class ProviderServer:
    """Gives the replies one after the other, the last one again and again."""

    replies: list[Reply]
    url: str = ""
    requests: list[tuple[str, Any]] = field(default_factory=list)
    """Path and JSON body of each request."""
    headers: list[dict[str, str]] = field(default_factory=list)
    hanging: asyncio.Event = field(default_factory=asyncio.Event)
    """A request hangs by now."""
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """The other side closed the connection of a request that hung."""

    _open: dict[asyncio.Task[None], asyncio.StreamWriter] = field(default_factory=dict)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._open[task] = writer
        task.add_done_callback(lambda _: writer.close())  # also when it was canceled before it began

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while await self._one(reader, writer):
                pass

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve one request; say whether the connection stays open."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])
        }
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        reply = self.replies[min(len(self.requests), len(self.replies) - 1)]
        self.requests.append((head[0].split()[1], json.loads(body or b"null")))
        self.headers.append(headers)
        match reply:
            case Answer():
                text = reply.body if isinstance(reply.body, str) else json.dumps(reply.body)
                kind = "text/html" if isinstance(reply.body, str) else "application/json"
                _head(writer, reply.status, {"content-type": kind, **reply.headers}, len(text.encode()))
                writer.write(text.encode())
            case Drop():
                return False
            case Hang():
                if reply.events or reply.headers_first:
                    _head(writer, 200, {"content-type": "text/event-stream"})
                    _chunks(writer, reply.events)
                self.hanging.set()
                with contextlib.suppress(ConnectionError):
                    await reader.read()
                self.gone.set()
                return False
            case Stream():
                _head(writer, 200, {"content-type": "text/event-stream"})
                _chunks(writer, reply.events)
                if not reply.complete:
                    await writer.drain()
                    return False
                writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True


def _head(
    writer: asyncio.StreamWriter, status: int, headers: Mapping[str, str], length: int | None = None
) -> None:
    size = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    lines = [f"HTTP/1.1 {status} X", size, *(f"{name}: {value}" for name, value in headers.items())]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))


def _chunks(writer: asyncio.StreamWriter, events: Sequence[str]) -> None:
    for event in events:
        data = event.encode()
        writer.write(b"%x\r\n%b\r\n" % (len(data), data))


@contextlib.asynccontextmanager
async def provider_server(*replies: Reply) -> AsyncIterator[ProviderServer]:
    """Start a server with these replies on a free port of loopback."""
    server = ProviderServer(list(replies))
    listening = await asyncio.start_server(server._accept, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listening.close()
        for writer in server._open.values():
            writer.close()
        await asyncio.gather(*server._open)
        await listening.wait_closed()


# --- wire formats -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wire:
    """How one provider's library is led to the server, and what the provider's answers look like."""

    model: str
    key: str
    """The variable with the key."""
    base: str
    """The variable with the address."""
    path: str
    """What stands behind the server's address in it."""

    def environment(self, url: str) -> dict[str, str]:
        """Give the variables that lead the library to a server."""
        return {self.key: "sk-test-0123456789", self.base: f"{url}{self.path}"}

    def error(self, status: int, message: str, kind: str = "some_error", code: str | None = None) -> Any:
        """Give the body of an error."""
        if self.key == "ANTHROPIC_API_KEY":
            return {"type": "error", "error": {"type": kind, "message": message}}
        if self.key == "GOOGLE_API_KEY":
            return {"error": {"code": status, "message": message, "status": kind}}
        return {"error": {"message": message, "type": kind, "param": None, "code": code}}

    def events(self, *pieces: str, usage: tuple[int, int] = (11, 7)) -> list[str]:
        """Give the events of a stream with these pieces of text, to its end."""
        return _WRITERS[self.model.partition(":")[0]](pieces, usage)


def _data(value: Any, event: str | None = None) -> str:
    return (f"event: {event}\n" if event else "") + f"data: {json.dumps(value)}\n\n"


def _chat(pieces: Sequence[str], usage: tuple[int, int]) -> list[str]:
    head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}

    def chunk(delta: dict[str, Any], reason: str | None = None) -> str:
        return _data({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})

    counted = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    return [
        *(chunk({"role": "assistant", "content": piece}) for piece in pieces),
        chunk({}, "stop"),
        _data({**head, "choices": [], "usage": counted}),
        "data: [DONE]\n\n",
    ]


def _responses(pieces: Sequence[str], usage: tuple[int, int]) -> list[str]:
    response: dict[str, Any] = {
        "id": "r1",
        "object": "response",
        "created_at": 1,
        "model": "m",
        "status": "in_progress",
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }
    message: dict[str, Any] = {
        "id": "m1",
        "type": "message",
        "role": "assistant",
        "status": "in_progress",
        "content": [],
    }
    where = {"item_id": "m1", "output_index": 0, "content_index": 0}
    text = "".join(pieces)
    part = {"type": "output_text", "text": text, "annotations": []}
    done = {**message, "status": "completed", "content": [part]}
    counted = {
        "input_tokens": usage[0],
        "output_tokens": usage[1],
        "total_tokens": sum(usage),
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": response},
        {"type": "response.output_item.added", "output_index": 0, "item": message},
        {"type": "response.content_part.added", **where, "part": {**part, "text": ""}},
        *(
            {"type": "response.output_text.delta", **where, "delta": piece, "logprobs": []}
            for piece in pieces
        ),
        {"type": "response.output_text.done", **where, "text": text, "logprobs": []},
        {"type": "response.output_item.done", "output_index": 0, "item": done},
        {
            "type": "response.completed",
            "response": {**response, "status": "completed", "output": [done], "usage": counted},
        },
    ]
    return [_data({**event, "sequence_number": n}, str(event["type"])) for n, event in enumerate(events)]


def _anthropic(pieces: Sequence[str], usage: tuple[int, int]) -> list[str]:
    message: dict[str, Any] = {
        "id": "m1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": usage[0], "output_tokens": 1},
    }
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}
            for piece in pieces
        ),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": usage[1]},
        },
        {"type": "message_stop"},
    ]
    return [_data(event, event["type"]) for event in events]


def _google(pieces: Sequence[str], usage: tuple[int, int]) -> list[str]:
    def chunk(piece: str, **more: Any) -> str:
        candidate = {"content": {"role": "model", "parts": [{"text": piece}]}, "index": 0, **more}
        counted = {"promptTokenCount": usage[0], "candidatesTokenCount": usage[1]}
        return _data({"candidates": [candidate], "usageMetadata": counted, "modelVersion": "m"})

    return [*map(chunk, pieces[:-1]), chunk(pieces[-1], finishReason="STOP")]


_WRITERS = {"openai": _responses, "openai-chat": _chat, "anthropic": _anthropic, "google": _google}

WIRES = (
    Wire("openai:gpt-6.1-terra", "OPENAI_API_KEY", "OPENAI_BASE_URL", "/v1"),
    Wire("openai-chat:some-model", "OPENAI_API_KEY", "OPENAI_BASE_URL", "/v1"),
    Wire("anthropic:claude-sonnet-5-5", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", ""),
    Wire("google:gemini-3.8-flash", "GOOGLE_API_KEY", "GOOGLE_GEMINI_BASE_URL", ""),
)
