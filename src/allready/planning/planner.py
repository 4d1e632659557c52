"""`LlmPlanner`: from a goal to tasks, each given while the model still writes the next ones."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from allready.agents.definitions import AgentDefinition
from allready.agents.secrets import Redactor, secret_values
from allready.agents.usage import Usage, limit_reached
from allready.core.policy import defer_delay
from allready.errors import OutsideError, PermanentError, TaskError, TransientError, Unreachable
from allready.plan.plan import Limits
from allready.planning.draft import DraftTask
from allready.planning.draft_check import DraftCheck
from allready.planning.events import Again, Noted, PlannerEvent, PlanningFailed, Waiting, Written, blanked
from allready.planning.json_stream import Item, ItemReader
from allready.planning.prompts import plan_schema, planner_instructions, planner_prompt
from allready.planning.requests import CUT_OFF, Request

if TYPE_CHECKING:
    from pydantic_ai.models import Model, ModelRequestParameters
    from pydantic_ai.output import OutputMode

MAX_TASKS = 20
"""Tasks of one plan, unless the user wants more: models write few well, and many alike."""
PATIENCE = 600.0
"""Seconds without a new task in which nothing came, between requests and within them, until planning is given
up. The time in which the model writes is not among them."""
SILENCE = 180.0
"""Seconds without a piece until a request is given up: models that think without telling what, and small
machines that read a long prompt, may take two minutes."""
TOOL = "write_plan"
"""Name of the tool for models that answer with JSON only by calling one."""
_NO_SCHEMA = re.compile(r"response_?format|json.?schema|structured.?output|grammar", re.IGNORECASE)
"""What servers speak of that refuse to be told the shape of the answer."""
_PURPOSE = "The plan: the tasks that lead to the goal."


class LlmPlanner:
    """Writes plans with a model. Stateless but for what it has used up: can be asked again.

    `on_usage` is called after each request. `allowance` is what all requests together may use up: when it is
    reached no further one is made. `seed` decides the jitter of waiting; None: chance does. `redactor` blanks
    secrets in all that is told; None: those of this process' environment.
    """

    def __init__(
        self,
        model: Model,
        agents: Sequence[AgentDefinition],
        *,
        max_tasks: int = MAX_TASKS,
        on_usage: Callable[[Usage], None] | None = None,
        allowance: Limits = Limits(),  # noqa: B008 - frozen
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        seed: int | None = None,
        redactor: Redactor | None = None,
        name: str | None = None,
    ) -> None:
        self._model = model
        self.name = name or model.model_id
        """The model's, as messages have it: as the user wrote it."""
        self._agents = tuple(agents)
        self._names = [agent.name for agent in agents]
        self.max_tasks = max_tasks
        self.on_usage = on_usage
        self.allowance = allowance
        self._sleep = sleep
        self._seed = secrets.randbits(64) if seed is None else seed
        self._in_words = False
        """Whether the shape of a plan is only told in words."""
        self.redactor = Redactor(secret_values(os.environ)) if redactor is None else redactor
        self.allow: Callable[[], None] | None = None
        """Called before each request; raises `TransientError` if a run's limits leave no room for it."""
        self.used = Usage()
        """By all requests so far."""

    async def write(
        self, goal: str, *, taken: Sequence[DraftTask] = (), keep: bool = False
    ) -> AsyncGenerator[PlannerEvent]:
        """Write a plan for `goal`; when it ends, all tasks written are together a valid one.

        `taken` are tasks that are there already and stay. If the plan is not valid, or the stream broke off,
        it is asked for `Again`: with `keep` what was written stays, too, and only the rest is asked for; else
        it is void. An invalid plan is corrected once. A request that is silent for `SILENCE` seconds, by the
        event loop's clock, is ended and counts as refused for now; one that writes on when the plan is
        complete, or can't be one any more, is ended too. Close the generator to stop the request.

        Raises `PlanningFailed` (no valid plan, or `allowance` reached), `OutsideError` (the provider refused
        or was silent for longer than `PATIENCE`, or nobody listens there at all), `PermanentError` (it will
        refuse again) and `TaskError` (anything else that went wrong there).
        """
        async with aclosing(self._rounds(goal, taken, keep=keep)) as events:
            async for event in events:
                yield blanked(event, self.redactor)

    async def _rounds(
        self, goal: str, taken: Sequence[DraftTask], *, keep: bool
    ) -> AsyncGenerator[PlannerEvent]:
        check = self._check(taken)
        problems: list[str] = []
        earlier, rounds, waits = "", list[str](), _Waits(self._seed)
        while len(check.fixed) < self.max_tasks:
            self._check_allowance(problems, rounds)
            attempt = self._attempt(goal, check, problems, earlier)
            async with aclosing(attempt.events()) as events:
                async for event in events:
                    yield event
            if attempt.text:
                rounds.append(attempt.text)
            if attempt.no_schema:
                self._in_words = True
                yield Noted("the server refuses JSON schemas: the model is told the plan's shape in words")
                continue
            waits.heard(len(check.tasks))
            if attempt.refusal is not None:
                if isinstance(attempt.refusal, Unreachable) and not self.used and not check.fixed:
                    # it never was there, and nothing is lost
                    raise OutsideError(self.redactor.text(str(attempt.refusal)))
                if attempt.text:
                    check = self._check(check.tasks if keep else taken)
                    yield Again(str(attempt.refusal))
                delay = waits.next(attempt.refusal, attempt.silent, self.redactor)
                yield Waiting(str(attempt.refusal), delay)
                await self._sleep(delay)
                continue
            found = attempt.problems()
            if not found:
                return
            if keep and len(check.tasks) >= self.max_tasks:  # no room for a correction, and nothing is wrong
                yield Noted(f"the plan has more than {self.max_tasks} tasks: the rest is left out")
                return
            if problems:
                raise self._failure(_given_up(self.name, found), found, rounds)
            problems, earlier = found, attempt.text
            check = self._check(check.tasks if keep else taken)
            yield Again("the plan is not valid", tuple(problems))

    def _check(self, fixed: Sequence[DraftTask]) -> DraftCheck:
        return DraftCheck(fixed, self._names, self.max_tasks)

    def _attempt(self, goal: str, check: DraftCheck, problems: Sequence[str], earlier: str) -> _Attempt:
        fixed = list(check.fixed.values())
        room = self.max_tasks - len(fixed)
        prompt = planner_prompt(goal, self._agents, room, fixed=fixed, problems=problems, earlier=earlier)
        schema = plan_schema(self._names, self.max_tasks, len(fixed))
        request = Request(
            self._model,
            planner_instructions(self._agents, self.max_tasks),
            prompt,
            None if self._in_words else plan_output(self._model, schema),
            self._count,
            silence=SILENCE,
            name=self.name,
        )
        return _Attempt(request, check, self.redactor, in_words=self._in_words)

    def _count(self, usage: Usage) -> None:
        self.used += usage
        if self.on_usage is not None:
            self.on_usage(usage)

    def _check_allowance(self, problems: Sequence[str], rounds: Sequence[str]) -> None:
        limit = limit_reached(self.used, self.allowance)
        if limit is not None:
            message = f"planning has reached the limit of {limit} before there was a valid plan: raise it"
            raise self._failure(message, problems, rounds, at_limit=True)
        if self.allow is not None:
            try:
                self.allow()
            except TransientError as error:
                raise self._failure(str(error), problems, rounds, at_limit=True) from error

    def _failure(
        self, message: str, problems: Sequence[str], rounds: Sequence[str], *, at_limit: bool = False
    ) -> PlanningFailed:
        blank = self.redactor.text
        return PlanningFailed(
            blank(message), list(map(blank, problems)), blank(_raw(rounds)), at_limit=at_limit
        )


class _Attempt:
    """One request for a plan, or for the rest of one."""

    def __init__(self, request: Request, check: DraftCheck, redactor: Redactor, *, in_words: bool) -> None:
        self._request = request
        self._redactor = redactor
        self._in_words = in_words
        self._check = check
        self._reader = ItemReader("tasks")
        self.text = ""
        """All that the model wrote."""
        self.refusal: TransientError | None = None
        """Why the provider did not answer, or not to the end of the plan."""
        self.no_schema = False
        """Whether it did not answer because it was given a JSON schema."""

    @property
    def silent(self) -> float:
        """For how many seconds nothing had come when the request ended."""
        return self._request.silent

    async def events(self) -> AsyncGenerator[Written | Noted]:
        """Give the tasks as they come, and what was put right in them."""
        pieces: list[str] = []
        try:
            async with aclosing(self._request.pieces()) as stream:
                async for piece in stream:
                    pieces.append(piece)
                    for item in self._reader.feed(piece):
                        for event in self._check.take(_blanked(item, self._redactor)):
                            yield event
                    if self._reader.closed:
                        self._request.wind_up()
                    elif self._reader.ended or self._check.too_many:
                        break  # whatever is still written, and paid, is of no use
        except TaskError as error:
            # a plan that has come to its end is one, whatever became of the request then
            if not self._reader.closed and not self._is_refusal(error, begun=bool(pieces)):
                raise
        self.text = self._redactor.text("".join(pieces))

    def _is_refusal(self, error: TaskError, *, begun: bool) -> bool:
        """Keep an error that another request can mend; False: it is none."""
        if isinstance(error, TransientError):
            self.refusal = error
            return True
        if isinstance(error, PermanentError) and not begun and not self._in_words:
            self.no_schema = bool(_NO_SCHEMA.search(str(error)))
        return self.no_schema

    def problems(self) -> list[str]:
        """Give all that is wrong with the plan that was written."""
        incomplete = None
        if self._reader.closed:
            pass
        elif self._request.finish_reason == CUT_OFF:
            incomplete = "the plan breaks off, as it was longer than the model may write: write a shorter one"
        elif not self._reader.found:
            incomplete = 'there is no JSON object {"tasks": […]} in the answer'
        else:
            incomplete = "the list of tasks breaks off before its end"
        return self._check.finish(incomplete)


class _Waits:
    """How long to wait for a provider that refuses, and for how long in all."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._refusals = 0
        self._waited = 0.0
        self._most = 0
        """Tasks that there were at any time."""

    def heard(self, tasks: int) -> None:
        """Begin anew if the plan has never had so many tasks: only that is progress.

        Else a connection that breaks off after the first word would be tried again for ever.
        """
        if tasks > self._most:
            self._most, self._refusals, self._waited = tasks, 0, 0.0

    def next(self, refusal: TransientError, silent: float, redactor: Redactor) -> float:
        """Give seconds until it may be asked again, after a request that was silent for so many at its end.

        Raises `OutsideError` when patience is at its end.
        """
        self._refusals += 1
        delay = defer_delay(self._refusals, refusal.retry_after, self._seed, 0)
        self._waited += silent + delay
        if self._waited > PATIENCE:
            raise OutsideError(
                f"{redactor.text(str(refusal))}. "
                f"Waiting for it would take more than {PATIENCE / 60:.0f} minutes: try again later"
            ) from refusal
        return delay


def _blanked(item: Item, redactor: Redactor) -> Item:
    """Blank the secrets in an entry: what ids are made of, too, so that those that name others still do."""
    try:
        return Item(redactor.json(item.value), item.problem)
    except RecursionError:
        return Item(None, "it is nested too deeply")


def plan_output(model: Model, schema: dict[str, Any]) -> ModelRequestParameters:
    """Have the model answer with values of `schema`, in the strictest way that it supports."""
    from pydantic_ai.models import ModelRequestParameters
    from pydantic_ai.output import OutputObjectDefinition
    from pydantic_ai.tools import ToolDefinition

    mode = _output_mode(model)
    return ModelRequestParameters(
        output_mode=mode,
        output_object=OutputObjectDefinition(json_schema=schema, name="plan", description=_PURPOSE),
        output_tools=[
            ToolDefinition(name=TOOL, description=_PURPOSE, parameters_json_schema=schema, kind="output")
        ],
        allow_text_output=mode in ("native", "prompted"),
    )


def _output_mode(model: Model) -> OutputMode:
    try:
        profile = model.profile
    except NotImplementedError:
        return "auto"  # a chain of models: each takes the way that pydantic-ai prefers for it
    if profile.get("supports_json_schema_output", False):
        return "native"
    return "tool" if profile.get("supports_tools", True) else "prompted"


def _given_up(model: str, problems: Sequence[str]) -> str:
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return (
        f"{model} gave no valid plan, nor a valid correction of it: {problems[0]}{more}. "
        "Say the goal in other words, or use another model"
    )


def _raw(rounds: Sequence[str]) -> str:
    return "\n\n".join(f"--- {number} ---\n{text}" for number, text in enumerate(rounds, 1))
