"""`Worker`: does one attempt of a task, from the rendered prompt to the result."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from allready.agents.base import Agent, Attempt, Dependency, TaskResult
from allready.agents.command import CommandAgent, fill_templates
from allready.agents.context import completed_dependencies
from allready.agents.function import FunctionAgent
from allready.agents.isolated import IsolatedAgent
from allready.agents.kinds import make_agent
from allready.agents.output import cut_middle, without_last_newline
from allready.agents.secrets import Redactor
from allready.agents.spoken import Spoken
from allready.agents.threads import in_thread
from allready.agents.usage import Usage
from allready.core.graph import TaskGraph, TaskNode
from allready.core.states import COMPLETED
from allready.engine.answer import as_dependency, missing, sources
from allready.engine.budget import Budget
from allready.engine.compile import Compiled, needed_results
from allready.engine.results import (
    Results,
    as_result,
    attempt_folder,
    durable_result,
    is_long,
    sync_output,
    value_of,
)
from allready.errors import TaskError
from allready.plan.imports import import_object
from allready.plan.plan import Answer, Command, Function, Prompt, Task, tasks_of
from allready.plan.template import render
from allready.pool.manager import INLINE_SCOPE, SubAgent


class _Current:
    """The attempt that a context belongs to, until it ends; timers keep contexts alive for much longer."""

    __slots__ = ("loop", "sub_agent")

    def __init__(self, sub_agent: SubAgent) -> None:
        self.sub_agent: SubAgent | None = sub_agent
        self.loop = asyncio.get_running_loop()


_current: contextvars.ContextVar[_Current | None] = contextvars.ContextVar("allready_sub_agent", default=None)


def current_sub_agent() -> SubAgent | None:
    """Give the attempt whose work is running in this event loop: a run that it starts shares its pool.

    None for one that runs inline: the pool beside the loop is for single tasks.
    """
    current = _current.get()
    if current is None or current.loop is not asyncio.get_running_loop():  # a thread of it, with its own loop
        return None
    sub_agent = current.sub_agent
    return sub_agent if sub_agent is not None and sub_agent.pool.scope != INLINE_SCOPE else None


class Worker:
    """Makes and runs attempts for the tasks of one run; called by the pool at each launch."""

    def __init__(
        self,
        compiled: Compiled,
        graph: TaskGraph,
        results: Results,
        *,
        run_id: str,
        folder: Callable[[], Path],
        durable: bool,
        redactor: Redactor,
        on_output: Callable[[str, str, str], None] | None = None,
        budget: Budget,
        check_lease: Callable[[], None],
    ) -> None:
        self._compiled = compiled
        self._plan = compiled.plan
        self._plan_folder = compiled.plan.folder.absolute()
        self._graph = graph
        self._results = results
        self._run_id = run_id
        self._folder = folder
        self._durable = durable
        self._redactor = redactor
        self._on_output = on_output
        self._budget = budget
        self._check_lease = check_lease
        self._agents: dict[str, Agent] = {}
        self._needs: dict[str, set[str]] = {}
        self._told: dict[str, tuple[Any, TaskResult]] = {}
        """In a run without a store: what functions gave, as commands and prompts see it."""

    async def __call__(self, sub_agent: SubAgent) -> Any:
        """Do one attempt; gives a `TaskResult`, or for a function in a run without a store its value."""
        current = _Current(sub_agent)
        _current.set(current)
        task = self._plan.tasks[sub_agent.request.task]
        try:
            if isinstance(task.body, Function):
                value = await self._call(task, task.body, sub_agent)
            elif isinstance(task.body, Answer):
                value = await self._answer(task, sub_agent)
            else:
                value = await self._ask(task, sub_agent)
            if self._durable and value.output_file is not None and is_long(value.output_file):
                await in_thread(lambda: sync_output(value, self._folder()), "allready sync", timeless=True)
            return value
        finally:
            current.sub_agent = None

    # --- functions ------------------------------------------------------------------------------------

    async def _call(self, task: Task, body: Function, sub_agent: SubAgent) -> Any:
        kwargs: Mapping[str, Any] = body.kwargs
        if body.inputs:
            kwargs = {**body.kwargs, **await self._values(body.inputs)}
        try:
            if not body.isolate and inspect.iscoroutinefunction(body.call):
                # without an `Attempt`, whose `begin()` would look: it takes a tenth of what such a task costs
                self._check_lease()
                value = await body.call(*body.args, **kwargs)
            else:
                attempt = self._attempt(task, sub_agent)
                kind = IsolatedAgent if body.isolate else FunctionAgent
                value = await kind(body.call, kwargs, body.args).call(attempt)
        except TaskError as error:
            error.result = self._kept(error.result, task, sub_agent)
            raise
        if not self._durable:
            return value
        return durable_result(value, self._attempt_folder(task, sub_agent), self._redactor)

    def _kept(self, left: object, task: Task, sub_agent: SubAgent) -> TaskResult | None:
        """Give what a failed attempt left behind, if the store can keep it."""
        if not isinstance(left, TaskResult):
            return None
        try:
            return durable_result(left, self._attempt_folder(task, sub_agent), self._redactor)
        except TaskError:
            return None

    async def _values(self, inputs: Mapping[str, str | tuple[str, ...]]) -> dict[str, Any]:
        """Give the results of completed dependencies; None stands for one that did not complete."""
        completed = [name for name in tasks_of(inputs) if self._graph[name].state is COMPLETED]
        found = await self._results.get(completed)
        values = {name: value_of(result, self._plan.tasks[name]) for name, result in found.items()}
        return {
            parameter: values.get(tasks) if isinstance(tasks, str) else [values.get(task) for task in tasks]
            for parameter, tasks in inputs.items()
        }

    # --- commands and prompts -------------------------------------------------------------------------

    async def _ask(self, task: Task, sub_agent: SubAgent) -> Any:
        agent = self._agent(task)
        attempt = self._attempt(task, sub_agent)
        attempt.dependencies = await self._dependencies(task)
        if isinstance(task.body, Prompt):
            attempt.prompt = await self._prompt(task.body, attempt)
        if isinstance(agent, CommandAgent):
            return await agent.run(attempt)
        try:
            return as_result(await agent.run(attempt), attempt.folder, self._redactor, durable=self._durable)
        except TaskError as error:
            error.result = self._kept(error.result, task, sub_agent)
            raise

    def _agent(self, task: Task) -> Agent:
        models = self._compiled.models
        if isinstance(task.body, Command):
            return CommandAgent(task.body)
        if isinstance(task.body, Prompt) and task.body.by is not None:
            from allready.agents.llm import ObjectAgent

            by = task.body.by
            return ObjectAgent(import_object(by) if isinstance(by, str) else by, models)
        name = self._graph[task.id].agent
        assert name is not None
        if name not in self._agents:
            self._agents[name] = make_agent(self._compiled.definitions[name], models)
        return self._agents[name]

    async def _answer(self, task: Task, sub_agent: SubAgent) -> Any:
        """Put the answer to the goal together from what the tasks gave."""
        from allready.planning.aggregator import LlmAggregator

        attempt = self._attempt(task, sub_agent)
        nodes = sources(self._graph)
        results = await self._results.get([node.id for node in nodes])
        plan = self._plan
        outputs = [as_dependency(node, plan, self._as_result(node, results[node.id])) for node in nodes]
        models = self._compiled.models
        has_model = models.default_name is not None
        with Spoken(attempt) as spoken:
            aggregator = LlmAggregator(  # the first model that is made imports its library, for a second
                await in_thread(models.get, "allready model", timeless=True) if has_model else None,
                on_text=spoken.text,
                on_usage=attempt.on_usage,
                allow=attempt.allow,
                name=models.default_name,
            )
            text = spoken.finish(await aggregator.answer(plan.goal, outputs, missing(self._graph, plan)))
        return TaskResult(cut_middle(without_last_newline(text)), output_file=spoken.file)

    async def _prompt(self, body: Prompt, attempt: Attempt) -> str:
        text = await fill_templates([body.text], lambda: render(body.text, attempt.scope()), attempt)
        context = completed_dependencies([d for d in attempt.dependencies.values() if d.direct])
        return f"{text}\n\n{context}" if context else text

    async def _dependencies(self, task: Task) -> dict[str, Dependency]:
        needs = self._needs.get(task.id)
        if needs is None:
            definition = self._compiled.definitions.get(self._graph[task.id].agent or "")
            needs = self._needs[task.id] = needed_results(self._plan, task, definition)
        nodes = sorted((self._graph[name] for name in needs), key=lambda node: node.index)
        results = await self._results.get([node.id for node in nodes if node.state is COMPLETED])
        return {
            node.id: as_dependency(
                node,
                self._plan,
                self._as_result(node, results[node.id]) if node.id in results else None,
                direct=node.id in task.depends_on,
            )
            for node in nodes
        }

    def _as_result(self, node: TaskNode, value: Any) -> TaskResult:
        if self._durable or not isinstance(self._plan.tasks[node.id].body, Function):
            assert isinstance(value, TaskResult)
            return value
        told = self._told.get(node.id)
        if told is None or told[0] is not value:  # once: its files may be in use by other dependents
            folder = attempt_folder(self._folder(), node.id, node.attempts)
            told = self._told[node.id] = (value, as_result(value, folder, self._redactor))
        return told[1]

    def _attempt(self, task: Task, sub_agent: SubAgent) -> Attempt:
        on_output = self._on_output
        told = None
        if on_output is not None:
            handle = sub_agent.handle

            def told(text: str) -> None:
                on_output(task.id, handle, text)

        if isinstance(task.body, Function) and not task.body.isolate:
            run_folder = folder = Path()  # called here, it needs none; a run in memory then makes none
        else:
            run_folder = self._folder()
            folder = attempt_folder(run_folder, task.id, sub_agent.request.number)
            folder.mkdir(parents=True, exist_ok=True)
        return Attempt(
            run_id=self._run_id,
            task_id=task.id,
            handle=sub_agent.handle,
            number=sub_agent.request.number,
            folder=folder,
            base_dir=self._plan.base_dir,
            plan_folder=self._plan_folder,
            variables=self._plan.vars,
            goal=self._plan.goal,
            grace=sub_agent.grace,
            on_output=told,
            hold_place=sub_agent.hold_place,
            run_folder=run_folder,
            on_usage=partial(self._take, sub_agent),
            before_request=sub_agent.before_request,
            allow=partial(self._budget.allow, sub_agent.handle),
            redactor=self._redactor,
            check_lease=self._check_lease,
        )

    def _take(self, sub_agent: SubAgent, usage: Usage) -> None:
        """Note what a request took that was answered."""
        self._budget.take(sub_agent.handle, usage)
        sub_agent.answered(usage.tokens)

    def _attempt_folder(self, task: Task, sub_agent: SubAgent) -> Path:
        return attempt_folder(self._folder(), task.id, sub_agent.request.number)
