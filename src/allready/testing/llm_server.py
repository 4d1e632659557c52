"""`ScriptedServer`: an OpenAI-compatible server on loopback that answers by rules, for tests of programs."""

from __future__ import annotations

import asyncio
import json
import math
import secrets
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from types import TracebackType
from typing import Any, NamedTuple, Self

from allready.errors import text_of
from allready.testing.script import (
    Piece,
    PlanRule,
    Refused,
    Request,
    Rule,
    Rules,
    Said,
    Script,
    rate_limited,
)

HOST = "127.0.0.1"
START_PATIENCE = 10.0
"""Seconds until a server that does not listen yet is given up."""
MAX_BODY = 64 * 1024 * 1024
"""Bytes of a request; more is a mistake."""
CHARACTERS_A_TOKEN = 4
"""Rule of thumb for English, for the usage that answers tell."""
PHRASES = {status.value: status.phrase for status in HTTPStatus}
STRUCTURED = "final_result"
"""How pydantic-ai calls the tool that takes structured output."""


class ScriptedServer:
    """A server of models that speaks the chat-completions API and answers by the rules of `ScriptedModel`.

        with ScriptedServer({"Compare": "They are alike."}, plan=[{"id": "a", "prompt": "Compare"}]) as s:
            subprocess.run(
                ["allready", "do", "--model", "openai-chat:scripted", "--yes", "Compare these"],
                env=os.environ | s.environment,
            )
        assert s.requests[-1].outcome == "answered"

    It runs in a thread of this process and listens on the loopback address, on a free port. Every request
    needs its key (`api_key`; by default one is made up): others get 401. `refuse_first` requests are answered
    with 429, and so is what comes over `rate_limit`, `(requests, seconds)`; both name a time to come back:
    `retry_after` in seconds, or when the window of `rate_limit` has room again. Functions among the rules are
    called in threads, or if they are async, in the server's own event loop.

    Token counts in its answers are made up (a quarter of the characters), or `tokens`, `(read, written)`.
    """

    def __init__(
        self,
        rules: Rules | None = None,
        *,
        plan: PlanRule | None = None,
        answer: Rule | None = None,
        default: Rule | None = "ok",
        delay: float = 0.0,
        pause: float = 0.0,
        chunk: int | None = None,
        api_key: str | None = None,
        models: tuple[str, ...] = ("scripted",),
        refuse_first: int = 0,
        rate_limit: tuple[int, float] | None = None,
        retry_after: float = 1.0,
        tokens: tuple[int, int] | None = None,
    ) -> None:
        self.script = Script(
            rules, plan=plan, answer=answer, default=default, delay=delay, pause=pause, chunk=chunk
        )
        self.api_key = api_key or f"sk-scripted-{secrets.token_hex(8)}"
        self.refused = 0
        """How many requests were turned away before the rules were asked."""
        self.url = ""
        """The base URL, with `/v1`; empty before it is started."""
        self._models = models
        self._refuse_first = refuse_first
        self._rate_limit = rate_limit
        self._retry_after = retry_after
        self._tokens = tokens
        self._admitted: deque[float] = deque()
        self._began = time.monotonic()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scripted-server", daemon=True)

    @property
    def requests(self) -> list[Request]:
        """The requests for answers that were let in, in order; their times are seconds since the start."""
        return self.script.requests

    @property
    def most_at_once(self) -> int:
        """The largest number of requests that were answered at the same time."""
        return self.script.most_at_once

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables that send OpenAI's library, and programs that use it, to this server."""
        return {"OPENAI_BASE_URL": self.url, "OPENAI_API_KEY": self.api_key, "NO_PROXY": HOST}

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._listening.wait(START_PATIENCE) or not self.url:
            raise OSError(f"the scripted server can't listen on {HOST}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._loop is not None
        assert self._stopping is not None
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    # --- the thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        finally:
            self._listening.set()

    async def _serve(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        busy: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._connection(reader, writer))
            busy.add(task)
            task.add_done_callback(busy.discard)
            task.add_done_callback(lambda _: writer.close())  # also when it was canceled before it began

        server = await asyncio.start_server(accept, HOST, 0)
        port = server.sockets[0].getsockname()[1]
        self.url = f"http://{HOST}:{port}/v1"
        self._listening.set()
        await self._stopping.wait()
        server.close()
        for task in busy:
            task.cancel()
        await asyncio.gather(*busy, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request; the connection ends with it, or when the client has gone."""
        try:
            call = await _read(reader)
            answering = asyncio.create_task(self._answer(call, writer))
            listening = asyncio.create_task(reader.read(1))  # ends, with nothing, when the client has gone
            try:
                await asyncio.wait({answering, listening}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                answering.cancel()
                listening.cancel()
                await asyncio.gather(answering, listening, return_exceptions=True)
        except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # it was no request, or not the whole of one
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    # --- answers ------------------------------------------------------------------------------------------

    async def _answer(self, call: _Call, writer: asyncio.StreamWriter) -> None:
        out = _Response(writer)
        if call.headers.get("authorization") != f"Bearer {self.api_key}":
            return await out.refuse(Refused(401, "Incorrect API key provided", code="invalid_api_key"))
        if (call.method, call.path) == ("GET", "/v1/models"):
            listed = [{"id": name, "object": "model", "owned_by": "script"} for name in self._models]
            return await out.whole(200, {"object": "list", "data": listed})
        if (call.method, call.path) != ("POST", "/v1/chat/completions"):
            message = f"{call.method} {call.path}: chat completions only here; name the model openai-chat:…"
            return await out.refuse(Refused(404, message, code="not_found"))
        wait = self._must_wait()
        if wait is not None:
            self.refused += 1
            return await out.refuse(rate_limited(wait))
        try:
            asked = json.loads(call.body)
            request = _request(asked)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            return await out.refuse(Refused(400, f"this is no request for a chat completion: {error!r}"))
        with self.script.record(request, lambda: time.monotonic() - self._began):
            await self._say(request, asked, out)
        return None

    def _must_wait(self) -> float | None:
        """Give the seconds that this request must wait; None: it is let in."""
        if self.refused < self._refuse_first:
            return self._retry_after
        if self._rate_limit is None:
            return None
        most, window = self._rate_limit
        now = time.monotonic()
        while self._admitted and self._admitted[0] <= now - window:
            self._admitted.popleft()
        if len(self._admitted) >= most:
            return self._admitted[0] + window - now
        self._admitted.append(now)
        return None

    async def _say(self, request: Request, asked: Mapping[str, Any], out: _Response) -> None:
        """Answer by the script, with its pauses."""
        script = self.script
        try:
            said = await script.answer(request, in_thread=True)
        except Exception as error:  # whatever functions of the script raise: the client is told
            request.outcome = "failed"
            return await out.refuse(Refused(500, f"{type(error).__name__}: {text_of(error)}"))
        await asyncio.sleep(script.delay)
        if isinstance(said, Refused):
            request.outcome = "refused"
            return await out.refuse(said)
        pieces = script.pieces(said)
        usage = self._usage(request, pieces)
        form = _Form(request.model)
        if not request.streamed:
            await asyncio.sleep(script.pause * (len(pieces) - 1))
            if not said.breaks:
                return await out.whole(200, form.whole(said, usage))
        await out.begin_stream()
        for number, piece in enumerate(pieces):
            if number and script.pause and request.streamed:
                await asyncio.sleep(script.pause)
            await out.event(form.piece(piece, first=number == 0))
        if said.breaks:
            request.outcome = "dropped"
            return out.drop()
        await out.event(form.end("tool_calls" if said.calls else "stop"))
        if (asked.get("stream_options") or {}).get("include_usage"):
            await out.event(form.usage(usage))
        return await out.end_stream()

    def _usage(self, request: Request, pieces: list[Piece]) -> dict[str, int]:
        read = sum(map(len, (request.instructions, *request.prompts, *request.results)))
        written = sum(len(piece.text) for piece in pieces)
        counts = self._tokens or (-(-read // CHARACTERS_A_TOKEN), -(-written // CHARACTERS_A_TOKEN))
        return {
            "prompt_tokens": counts[0],
            "completion_tokens": counts[1],
            "total_tokens": sum(counts),
        }


# --- the chat-completions API -----------------------------------------------------------------------------


def _request(asked: Mapping[str, Any]) -> Request:
    """Read what is asked. Raises `KeyError`, `TypeError`, `AttributeError` if it is no chat completion."""
    messages = asked["messages"]
    tools = {tool["function"]["name"]: tool["function"] for tool in asked.get("tools") or ()}
    for_output = [name for name, tool in tools.items() if name.startswith(STRUCTURED) or _has_tasks(tool)]
    output_tool = for_output[0] if for_output else None
    schema = (asked.get("response_format") or {}).get("json_schema", {}).get("schema")
    last_answer = max((n for n, message in enumerate(messages) if message["role"] == "assistant"), default=-1)
    texts = [(message["role"], _text(message.get("content"))) for message in messages]
    return Request(
        prompts=tuple(text for role, text in reversed(texts) if role == "user"),
        instructions="\n\n".join(text for role, text in texts if role in ("system", "developer")),
        tools=tuple(name for name in tools if name not in for_output),
        results=tuple(text for role, text in texts[last_answer + 1 :] if role == "tool"),
        schema=tools[output_tool].get("parameters") if output_tool else schema,
        output_tool=output_tool,
        model=asked.get("model", ""),
        streamed=bool(asked.get("stream")),
    )


def _has_tasks(tool: Mapping[str, Any]) -> bool:
    return "tasks" in (tool.get("parameters") or {}).get("properties", {})


def _text(content: str | list[Mapping[str, Any]] | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(part.get("text", "") for part in content)


class _Form:
    """The objects in which an answer is told."""

    def __init__(self, model: str) -> None:
        self._head = {"id": f"chatcmpl-{secrets.token_hex(6)}", "created": int(time.time()), "model": model}

    def whole(self, said: Said, usage: Mapping[str, int]) -> dict[str, Any]:
        calls = [
            {
                "id": self._call_id(index),
                "type": "function",
                "function": {"name": call.tool, "arguments": json.dumps(dict(call.arguments))},
            }
            for index, call in enumerate(said.calls)
        ]
        message = {"role": "assistant", "content": None if calls else said.text}
        choice = {
            "index": 0,
            "message": {**message, "tool_calls": calls} if calls else message,
            "finish_reason": "tool_calls" if calls else "stop",
        }
        return {**self._head, "object": "chat.completion", "choices": [choice], "usage": usage}

    def piece(self, piece: Piece, *, first: bool) -> dict[str, Any]:
        role = {"role": "assistant"} if first else {}
        if piece.call is None:
            return self._chunk({**role, "content": piece.text})
        function = {"arguments": piece.text}
        call: dict[str, Any] = {"index": piece.call, "function": function}
        if piece.tool is not None:
            function["name"] = piece.tool
            call |= {"id": self._call_id(piece.call), "type": "function"}
        return self._chunk({**role, "tool_calls": [call]})

    def end(self, reason: str) -> dict[str, Any]:
        return self._chunk({}, reason)

    def usage(self, usage: Mapping[str, int]) -> dict[str, Any]:
        return {**self._head, "object": "chat.completion.chunk", "choices": [], "usage": usage}

    def _chunk(self, delta: Mapping[str, Any], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return {**self._head, "object": "chat.completion.chunk", "choices": [choice]}

    def _call_id(self, index: int) -> str:
        return f"call-{self._head['id']}-{index}"


# --- HTTP -------------------------------------------------------------------------------------------------


class _Call(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


async def _read(reader: asyncio.StreamReader) -> _Call:
    """Read one request. Raises `ValueError` if it is none, `IncompleteReadError` if it breaks off."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ")
    pairs = (line.split(":", 1) for line in head[1:] if line)
    headers = {name.strip().lower(): value.strip() for name, value in pairs}
    length = int(headers.get("content-length", 0))
    if not 0 <= length <= MAX_BODY:
        raise ValueError(f"a request of {length} bytes")
    return _Call(method, path.partition("?")[0], headers, await reader.readexactly(length))


class _Response:
    """What goes back to the client."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    async def whole(self, status: int, body: Mapping[str, Any], **headers: str) -> None:
        data = json.dumps(body, ensure_ascii=False).encode()
        self._head(status, {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers})
        await self._write(data)

    async def refuse(self, refused: Refused) -> None:
        headers = {}
        if refused.retry_after is not None:
            headers = {
                "Retry-After": str(math.ceil(refused.retry_after)),
                "Retry-After-Ms": f"{refused.retry_after * 1000:.0f}",  # OpenAI's, for parts of a second
            }
        error = {"message": refused.message, "type": refused.code or "error", "code": refused.code}
        await self.whole(refused.status, {"error": error}, **headers)

    async def begin_stream(self) -> None:
        self._head(200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"})
        await self._writer.drain()

    async def event(self, data: Mapping[str, Any]) -> None:
        await self._chunk(f"data: {json.dumps(data, ensure_ascii=False)}\n\n".encode())

    async def end_stream(self) -> None:
        await self._chunk(b"data: [DONE]\n\n")
        await self._write(b"0\r\n\r\n")

    def drop(self) -> None:
        self._writer.close()

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        reason = PHRASES.get(status, "Refused")
        lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers.items())]
        self._writer.write("\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1"))

    async def _chunk(self, data: bytes) -> None:
        await self._write(b"%x\r\n%b\r\n" % (len(data), data))

    async def _write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()
