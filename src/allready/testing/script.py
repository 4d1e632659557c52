"""What `ScriptedModel` and `ScriptedServer` have in common: rules, and a record of what was asked."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from allready.planning.prompts import AGGREGATOR

PIECE = re.compile(r"\S+\s*|\s+")
"""A word with the blanks after it: about what one token is."""
CONTEXT_BLOCK = re.compile(r"<completed-dependencies>.*</completed-dependencies>", re.DOTALL)
"""Outputs of other tasks in a prompt: rules don't look at them, so that an answer can't set off a rule."""
SHOWN = 200
"""Characters of a prompt that an error message shows."""


# --- answers ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Call:
    """The answer that calls a tool."""

    tool: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Refused:
    """The answer of a provider that does not do it: an HTTP status of 400 or more."""

    status: int
    message: str = "refused by the script"
    retry_after: float | None = None
    """Seconds after which the provider wants to be asked again."""
    code: str | None = None
    """The provider's own name for it, such as `insufficient_quota`."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """The connection breaks after this much of the answer."""

    after: str = ""


def rate_limited(retry_after: float | None = None) -> Refused:
    """Give the answer 429: too many requests; ask again after `retry_after` seconds."""
    return Refused(429, "Rate limit reached for requests", retry_after, "rate_limit_exceeded")


def overloaded(retry_after: float | None = None) -> Refused:
    """Give the answer 503: the provider is overloaded."""
    return Refused(503, "The server is overloaded", retry_after, "overloaded_error")


Answer: TypeAlias = str | Mapping[str, Any] | Call | tuple[Call, ...] | Refused | Dropped | Exception
"""Text, structured output (a mapping), one or several calls of tools, or something that goes wrong."""
Rule: TypeAlias = Answer | list[Any] | Callable[[str], Answer | Awaitable[Answer]]
"""An answer; a list of rules, one after the other (the last stays); or what makes it from the prompt."""
Rules: TypeAlias = Mapping[Any, Rule]
"""Words that a prompt has in it, or a pattern (`re.compile`) that is found in it → what answers it."""
PlanRule: TypeAlias = Sequence[Any] | Mapping[str, Any] | Refused | Dropped | Exception
"""A plan's tasks, or a list of such (and of other answers) for one request after the other."""


# --- requests ---------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Request:
    """What was asked of a scripted model, and how it ended."""

    prompts: tuple[str, ...] = ()
    """What the user's side said in this conversation, the newest first."""
    instructions: str = ""
    """The system prompt."""
    tools: tuple[str, ...] = ()
    """Names of the tools that may be called."""
    results: tuple[str, ...] = ()
    """What tools gave back since the last answer."""
    schema: Mapping[str, Any] | None = None
    """JSON Schema of the structured output that is asked for."""
    output_tool: str | None = None
    """The tool that takes the structured output; None: it is asked for as text."""
    model: str = ""
    streamed: bool = False
    began: float = 0.0
    """Seconds on the clock of the event loop (the model) or since the server was started."""
    ended: float | None = None
    """None: it is being answered."""
    outcome: str = "running"
    """`running`, `answered`, `refused`, `dropped`, `failed` (the script itself), `gone` (nobody listened)."""

    @property
    def prompt(self) -> str:
        """The newest prompt."""
        return self.prompts[0] if self.prompts else ""

    @property
    def for_a_plan(self) -> bool:
        """Whether this is a planner that wants tasks."""
        return "tasks" in (self.schema or {}).get("properties", {})

    @property
    def for_an_answer(self) -> bool:
        """Whether this is an aggregator that wants the answer to a run's goal."""
        return AGGREGATOR in self.instructions


class Piece(NamedTuple):
    """What is streamed at once: of the text, or of a call's arguments in JSON."""

    text: str
    call: int | None = None
    """Which of the answer's calls it belongs to, from 0; None: it is of the text."""
    tool: str | None = None
    """The tool, in the first piece of its call."""


class Said(NamedTuple):
    """An answer in the form in which it goes out: text, or calls of tools."""

    text: str = ""
    calls: tuple[Call, ...] = ()
    breaks: bool = False
    """Whether the connection breaks at its end."""


class Script:
    """Rules, and the record of the requests; `ScriptedModel` says how rules look."""

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
    ) -> None:
        if chunk is not None and chunk < 1:
            raise ValueError(f"chunk is {chunk}: give 1 character or more, or None for whole words")
        self._rules: list[tuple[str | re.Pattern[str], Rule]] = list((rules or {}).items())
        self._plan: Rule | None = None if plan is None else _plan_rule(plan)
        self._answer = answer
        self._default = default
        self._turns: dict[int, int] = {}
        self.delay, self.pause, self.chunk = delay, pause, chunk
        self.requests: list[Request] = []
        self.most_at_once = 0
        self._at_once = 0

    @contextmanager
    def record(self, request: Request, now: Callable[[], float]) -> Iterator[None]:
        """Keep `request` on record, and how it ended."""
        request.began = now()
        self.requests.append(request)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            yield
        except Exception:
            if request.outcome == "running":
                request.outcome = "failed"
            raise
        except BaseException:  # canceled, or the generator was closed
            request.outcome = "gone"
            raise
        else:
            if request.outcome == "running":
                request.outcome = "answered"
        finally:
            self._at_once -= 1
            request.ended = now()

    def rule_for(self, request: Request) -> Rule:
        """Choose what answers a request. Raises `LookupError` if nothing fits and there is no default."""
        if request.for_a_plan and self._plan is not None:
            return self._in_turn(self._plan)
        if request.for_an_answer and self._answer is not None:
            return self._in_turn(self._answer)
        for prompt in request.prompts:
            said = CONTEXT_BLOCK.sub("", prompt)
            for pattern, rule in self._rules:
                if pattern in said if isinstance(pattern, str) else pattern.search(said):
                    return self._in_turn(rule)
        if request.for_a_plan:
            raise LookupError(
                "the script was asked for a plan and has none: give plan=[{'id': …, 'prompt': …}, …]"
            )
        if self._default is None:
            patterns = [
                pattern if isinstance(pattern, str) else pattern.pattern for pattern, _ in self._rules
            ]
            raise LookupError(
                f"no rule of the script fits the prompt {request.prompt[:SHOWN]!r}; "
                f"add one or a default to {patterns}"
            )
        return self._in_turn(self._default)

    def _in_turn(self, rule: Rule) -> Rule:
        if not isinstance(rule, list):
            return rule
        if not rule:
            raise LookupError("a list of answers in the script is empty")
        turn = self._turns.get(id(rule), 0)
        self._turns[id(rule)] = turn + 1
        chosen: Rule = rule[min(turn, len(rule) - 1)]
        return self._in_turn(chosen)

    async def answer(self, request: Request, *, in_thread: bool = False) -> Said | Refused:
        """Give what answers a request; functions are called, `in_thread` if they may block.

        Raises `LookupError` if nothing fits, and the exceptions that stand for answers.
        """
        answer = self.rule_for(request)
        while callable(answer):
            made = await asyncio.to_thread(answer, request.prompt) if in_thread else answer(request.prompt)
            answer = await made if inspect.isawaitable(made) else made
        match answer:
            case Exception():
                raise answer
            case Refused():
                return answer
            case Dropped():
                return Said(text=answer.after, breaks=True)
            case str():
                return Said(text=answer)
            case Call():
                return Said(calls=(answer,))
            case tuple():
                return Said(calls=answer)
            case Mapping() if request.output_tool is not None:
                return Said(calls=(Call(request.output_tool, answer),))
            case Mapping():
                return Said(text=json.dumps(answer, ensure_ascii=False))
        raise TypeError(f"a script can't answer with {answer!r}: see allready.testing.script.Answer")

    def pieces(self, said: Said) -> list[Piece]:
        """Cut an answer into what is streamed at once; at least one piece."""
        if not said.calls:
            return [Piece(text) for text in self._cut(said.text)]
        return [
            Piece(text, index, None if number else call.tool)
            for index, call in enumerate(said.calls)
            for number, text in enumerate(self._cut(json.dumps(dict(call.arguments), ensure_ascii=False)))
        ]

    def _cut(self, text: str) -> list[str]:
        if self.chunk is None:
            return PIECE.findall(text) or [""]
        return [text[start : start + self.chunk] for start in range(0, len(text), self.chunk)] or [""]


def _plan_rule(plan: PlanRule) -> Rule:
    if isinstance(plan, (str, Mapping, Refused, Dropped, Exception)):
        return plan
    if all(isinstance(task, Mapping) for task in plan):
        return {"tasks": [_task(task) for task in plan]}
    return [_plan_rule(one) for one in plan]


def _task(task: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in what a planner's answer has and a test need not say."""
    identity = task.get("id", "")
    return {"title": identity, "prompt": identity, "agent": None, "depends_on": [], **task}
