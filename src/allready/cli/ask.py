"""Questions to whoever sits in front of the terminal: approvals, and failures that need a decision."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

from allready.cli.progress import counts_text, shown
from allready.cli.text import clean_line
from allready.core.graph import TaskNode
from allready.core.states import AWAITING_APPROVAL
from allready.engine.session import Session
from allready.store.contract import JournalEvent

APPROVAL = {"a": "approve", "s": "skip", "l": "later"}
FAILURE = {"r": "retry", "s": "skip", "a": "abort", "l": "later"}
"""First letter of an answer → the command it stands for; `later` for none."""


class Question(NamedTuple):
    """Something a person has to decide."""

    task: str
    text: str
    answers: dict[str, str]


class Asker:
    """Asks one question after the other, while the run goes on.

    `hide` is called before the first, `show` after the last. A question that is decided elsewhere is
    withdrawn. When all have been answered and one with `later`, the run does not wait for a person any more.
    """

    def __init__(
        self, session: Session, console: Console, hide: Callable[[], None], show: Callable[[], None]
    ) -> None:
        self._session = session
        self._console = console
        self._hide = hide
        self._show = show
        self._questions: deque[Question] = deque()
        self._current: Question | None = None
        self._asking: asyncio.Task[None] | None = None
        self._lines: asyncio.Queue[str] = asyncio.Queue()
        self._reader: threading.Thread | None = None
        self._ended = False
        """Whether there is nothing more to read."""
        self._decided = asyncio.Event()
        """Set when the current question was decided elsewhere."""

    def begin(self) -> None:
        """Ask what is open already: the run may have been left with it."""
        for node in self._session.scheduler.graph:
            self._ask_about(node)

    def observe(self, events: Sequence[JournalEvent]) -> None:
        """Ask what came up, and withdraw what was decided."""
        graph = self._session.scheduler.graph
        for event in events:
            if event.task is not None and (
                event.type == "task.awaiting_approval" or (event.data or {}).get("asks")
            ):
                self._ask_about(graph[event.task])
        if self._current is not None and not self._is_open(self._current):
            self._decided.set()

    def close(self) -> None:
        """Ask no more: the run is over."""
        if self._asking is not None:
            self._asking.cancel()
        if self._current is not None:
            self._console.print()

    def _ask_about(self, node: TaskNode) -> None:
        title = clean_line(shown(self._session.plan.tasks[node.id].title or ""))
        named = f"{node.id} ({title})" if title else node.id
        if node.state is AWAITING_APPROVAL:
            self._questions.append(Question(node.id, f"{named} waits for approval", APPROVAL))
        elif node.asking:
            self._questions.append(Question(node.id, f"{named}: {clean_line(node.error or '')}", FAILURE))
        else:
            return
        if self._asking is None or self._asking.done():
            self._asking = asyncio.get_running_loop().create_task(self._ask_all())

    async def _ask_all(self) -> None:
        later = False
        self._session.wait_for_person(True)
        self._hide()
        self._console.print(Text(counts_text(self._session), "dim"))
        while self._questions:
            self._current = self._questions.popleft()
            later |= await self._ask(self._current) == "later"
            self._current = None
        self._show()
        if later:
            self._session.wait_for_person(False)

    async def _ask(self, question: Question) -> str | None:
        """Ask until there is an answer; gives it, or None if it was decided elsewhere."""
        self._decided.clear()
        if not self._is_open(question):
            return None
        self._console.print(Text(question.text, "bold"))
        choices = ", ".join(f"[{letter}]{word[1:]}" for letter, word in question.answers.items())
        answer = None
        while answer is None:
            self._console.print(Text(f"{choices}? "), end="")
            line = await self._read_line()
            if line is None:
                self._console.print(f"\n{question.task} needs no decision any more")
                return None
            answer = question.answers.get(line.strip().lower()[:1], None if line else "later")
        if answer != "later" and self._is_open(question):
            answered: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
            self._session.steer(answer, question.task, answered.set_result)
            refused = await answered
            if refused is not None:
                self._console.print(Text(refused, "red"))
        return answer

    def _is_open(self, question: Question) -> bool:
        node = self._session.scheduler.graph[question.task]
        return node.asking or node.state is AWAITING_APPROVAL

    async def _read_line(self) -> str | None:
        """Give a line that was typed, nothing at the end of the input, None for a question withdrawn."""
        if self._ended and self._lines.empty():
            return ""
        if self._reader is None:
            loop = asyncio.get_running_loop()
            self._reader = threading.Thread(
                target=self._read, args=[loop], name="allready input", daemon=True
            )
            self._reader.start()
        line = asyncio.ensure_future(self._lines.get())
        decided = asyncio.ensure_future(self._decided.wait())
        try:
            await asyncio.wait([line, decided], return_when=asyncio.FIRST_COMPLETED)
            return line.result() if line.done() else None
        finally:
            line.cancel()
            decided.cancel()

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        """Read lines for ever: a thread that reads can't be told to stop."""
        while not self._ended:
            line = sys.stdin.readline()
            self._ended = not line
            with contextlib.suppress(RuntimeError):  # the loop is closed: the run is over
                loop.call_soon_threadsafe(self._lines.put_nowait, line)
