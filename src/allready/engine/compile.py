"""From a plan to what the scheduler runs: who does each task, and what it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from allready.agents.definitions import AgentDefinition
from allready.agents.kinds import problem_of
from allready.agents.models import Models, price_of, provider_of
from allready.agents.router import Router
from allready.core.graph import TaskGraph, TaskSpec
from allready.core.states import FailureStrategy, RunIf
from allready.engine.budget import FIRST_GUESS, TURNS_WITH_TOOLS, Need
from allready.errors import PlanError, Problem
from allready.plan.imports import import_object
from allready.plan.plan import (
    ANSWER,
    DEFAULT_TIMEOUT,
    NO_TIMEOUT,
    Answer,
    Command,
    Function,
    Plan,
    Prompt,
    Task,
)
from allready.plan.template import names_used

COMMAND = "command"
"""Agent of tasks that run a program."""
PYTHON = "python"
"""Agent of tasks that call a function."""


ANSWER_TOKENS = 1_000
"""Written of the tokens that a request is first thought to take: a page and a half."""
AGGREGATOR = "aggregator"
"""Agent of the task that answers the goal."""
ASSISTANT = "assistant"
"""Agent that does prompts if none is defined at all: the run's own model."""
ASSISTANT_SETTINGS = {
    "description": "Answers what it is asked.",
    "instructions": "Do what you are asked, completely and to the point. Answer with the result itself.",
}


@dataclass(slots=True)
class Compiled:
    """A plan with every task given to somebody."""

    plan: Plan
    models: Models = field(default_factory=Models)
    known: Mapping[str, AgentDefinition] = field(default_factory=dict)
    """All agents there are to choose from."""
    specs: list[TaskSpec] = field(default_factory=list)
    definitions: dict[str, AgentDefinition] = field(default_factory=dict)
    """The agents that its tasks use; of a plan that is still written, all that they may use."""
    _router: Router | None = None
    _graph: TaskGraph | None = None

    def take_graph(self) -> TaskGraph:
        """Give the graph of the specs: the one they were checked with, the first time."""
        graph, self._graph = self._graph, None
        return TaskGraph(self.specs) if graph is None else graph

    def use_specs(self, specs: list[TaskSpec]) -> None:
        """Take other specs, those that a stored run was started with."""
        self.specs = specs
        self._graph = None

    @property
    def agent_limits(self) -> dict[str, int]:
        """Give agent → how many of it may run at once."""
        return {
            name: definition.max_concurrent
            for name, definition in self.definitions.items()
            if definition.max_concurrent is not None
        }

    @property
    def _llm_agents(self) -> list[AgentDefinition]:
        return [agent for agent in self.definitions.values() if agent.kind == "llm"]

    @property
    def answer_problem(self) -> str | None:
        """Say why the model that is to answer the goal can't be used here; None if it can, or none is to."""
        asks = self.plan.answer and self.models.default_name is not None
        return self.models.problem_of(None) if asks else None

    @property
    def model_needs(self) -> dict[str, Need]:
        """Give the agents that ask models → what one attempt of each may take."""
        needs = {
            agent.name: Need(agent.limits, TURNS_WITH_TOOLS if agent.tools else 1)
            for agent in self._llm_agents
        }
        if self.plan.answer and self.models.default_name is not None:
            needs.setdefault(AGGREGATOR, Need())
        for task in self.plan.tasks.values():
            if isinstance(task.body, Prompt) and task.body.by is not None:
                needs.setdefault(_name_of(task.body.by), Need(turns=TURNS_WITH_TOOLS))
        return needs

    @property
    def model_names(self) -> set[str]:
        """Give the models that its tasks ask, as far as they have names."""
        names = {self.models.name_of(agent.model) for agent in self._llm_agents}
        if self.plan.answer:
            names.add(self.models.default_name)
        for task in self.plan.tasks.values():
            if isinstance(task.body, Prompt) and task.body.by is not None:
                names.add(_model_of(task.body.by, self.models))
        return {name for name in names if name is not None}

    @property
    def first_cost(self) -> float:
        """Give what a request may cost, in US dollars, before any has ended; 0 if money is not limited."""
        if self.plan.limits.max_cost is None:
            return 0.0
        tokens = round(FIRST_GUESS["max_tokens"])
        prices = [price_of(name, tokens - ANSWER_TOKENS, ANSWER_TOKENS) for name in self.model_names]
        return max((price for price in prices if price is not None), default=0.0)

    @property
    def model_problems(self) -> list[str]:
        """Give why models that its agents ask can't be used here."""
        found: dict[str, list[str]] = {}
        for agent in self._llm_agents:
            problem = self.models.problem_of(agent.model)
            if problem is not None:
                found.setdefault(problem, []).append(agent.name)
        problem = self.answer_problem
        if problem is not None:
            found.setdefault(problem, []).append(AGGREGATOR)
        return [f"agent {', '.join(names)}: {problem}" for problem, names in found.items()]

    def compile_task(self, task: Task) -> TaskSpec:
        """Give the spec of one more task of the plan, which has been added to it. Raises `PlanError`."""
        problems: list[str] = []
        spec = self._spec(task, problems)
        problems += _missing_resources([spec], self.plan.resources)
        if problems:
            raise PlanError(Problem(text, self.plan.source) for text in problems)
        return spec

    def add_answer(self) -> TaskSpec:
        """Add the task that answers the goal to the plan, after all others, and give its spec."""
        tasks = self.plan.tasks
        tasks.pop(ANSWER, None)
        needed = {name for task in tasks.values() for name in task.depends_on}
        tasks[ANSWER] = task = Task(
            ANSWER,
            Answer(),
            title="the answer to the goal",
            depends_on=tuple(name for name in tasks if name not in needed),
            run_if=RunIf.ALL_DONE,
            failure_strategy=FailureStrategy.SKIP,
        )
        return self._spec(task, [])

    def _spec(self, task: Task, problems: list[str]) -> TaskSpec:
        resources = dict(task.resources)
        timeout = task.timeout
        idempotent = task.idempotent
        inline = task.inline
        agent, definition = self._who(task, problems)
        if definition is not None:
            self.definitions[definition.name] = definition
            for name, amount in definition.resources.items():
                resources[name] = resources.get(name, 0) + amount
            if timeout is None:
                timeout = definition.timeout
            if idempotent is None:
                idempotent = definition.idempotent
        if timeout is None:
            timeout = DEFAULT_TIMEOUT
        if inline and resources:
            problems.append(
                f"task {task.id!r} runs inline, beside the pool, and needs {', '.join(resources)} of the "
                "pool: take away inline, or the resources (also those of its agent)"
            )
        return TaskSpec(
            task.id,
            task.depends_on,
            agent,
            task.run_if,
            task.failure_strategy,
            task.max_retries,
            timeout if timeout != NO_TIMEOUT else None,
            task.priority,
            task.estimate,
            tuple(sorted(resources.items())),
            self._provider(task, definition),
            task.approval,
            idempotent is not False,
            inline,
        )

    def _who(self, task: Task, problems: list[str]) -> tuple[str | None, AgentDefinition | None]:
        """Give the name of who does a task, and its definition if it is an agent that was defined."""
        match task.body:
            case Function():
                return PYTHON, None
            case Command():
                return COMMAND, None
            case Answer():
                return AGGREGATOR, None
            case Prompt(by=by) if by is not None:
                problems += _problems_of_object(task, by, self.models)
                return _name_of(by), None
            case Prompt() as body:
                definition = self._choose(task, body, problems)
                return (definition.name if definition else None), definition

    def _choose(self, task: Task, body: Prompt, problems: list[str]) -> AgentDefinition | None:
        if self._router is None:
            self._router = Router(list(self.known.values()))
        name = body.agent if body.agent is not None else self._router.route(task.title or "", body.text)
        if name is None or name not in self.known:
            problems.append(f"task {task.id!r}: there is no agent {name!r}")
            return None
        return self.known[name]

    def _provider(self, task: Task, definition: AgentDefinition | None) -> str | None:
        """Give whose models a task asks; None if it asks none."""
        if definition is not None and definition.kind == "llm":
            name = self.models.name_of(definition.model)
        elif isinstance(task.body, Answer):
            name = self.models.default_name
        elif isinstance(task.body, Prompt) and isinstance(getattr(task.body.by, "model", None), str):
            name = task.body.by.model
        else:
            name = None
        return provider_of(name) if name is not None else None


def compile_plan(
    plan: Plan,
    agents: Mapping[str, AgentDefinition] | None = None,
    pool_resources: Mapping[str, int] | None = None,
    models: Models | None = None,
    *,
    growing: bool = False,
    check_models: bool = True,
) -> Compiled:
    """Give each task its agent and make the scheduler's specs.

    `agents` are those found in files; those of the plan itself come first. `models` knows the run's own
    model. A `growing` plan has not all its tasks yet. Raises `PlanError` with everything that would stop the
    run: parameters that nothing fills, dangling dependencies, cycles, tasks nobody can do, agents of kinds
    that can't run here, more of a resource than the pool would have (of those that it has already,
    `pool_resources`, and the plan's), a limit on costs that are not known. Without `check_models`, models
    that can't be used are none of that: `Compiled.model_problems` has them.
    """
    if not plan.tasks and not growing:
        raise PlanError([Problem("the plan has no tasks", plan.source)])
    if plan.answer:  # made anew, after all others
        plan.tasks.pop(ANSWER, None)
    plan.link()
    known = dict(agents or {})
    for name, settings in plan.agents.items():
        known[name] = AgentDefinition.from_settings(name, settings)
    known = known or {ASSISTANT: AgentDefinition.from_settings(ASSISTANT, ASSISTANT_SETTINGS)}
    compiled = Compiled(plan, models or Models(), known)
    problems: list[str] = []
    for task in plan.tasks.values():
        compiled.specs.append(compiled._spec(task, problems))
    if growing:
        compiled.definitions.update(known)
    elif plan.answer:
        compiled.specs.append(compiled.add_answer())
    problems += _missing_resources(compiled.specs, {**plan.resources, **(pool_resources or {})})
    problems += _problems_of_agents(compiled, check_models=check_models)
    try:
        compiled._graph = TaskGraph(compiled.specs, open=growing)
    except PlanError as error:
        problems += [problem.message for problem in error.problems]
    if plan.max_parallel is not None and plan.max_parallel < 1:
        problems.append(f"max_parallel is {plan.max_parallel}, but a pool needs at least one place")
    if problems:
        raise PlanError(Problem(text, plan.source) for text in dict.fromkeys(problems))
    return compiled


def _problems_of_agents(compiled: Compiled, *, check_models: bool) -> list[str]:
    """Give why agents can't do the work here; those of a growing plan may be left unused."""
    problems = []
    for name, definition in compiled.definitions.items():
        problem = problem_of(definition, compiled.models, compiled.plan.base_dir, check_model=check_models)
        if name in {COMMAND, PYTHON}:
            problem = "this name stands for tasks that run a command or call a function: rename it"
        if problem is not None:
            problems.append(f"agent {name!r}: {problem}")
    problem = compiled.answer_problem if check_models else None
    if problem is not None:
        problems.append(f"agent {AGGREGATOR!r}: {problem}")
    if compiled.plan.limits.max_cost is not None and check_models and not problems:
        problems += [
            f"max_cost can't be kept: the price of {name} is not known; use max_tokens instead"
            for name in sorted(compiled.model_names)
            if price_of(name) is None
        ]
    return problems


def _name_of(by: Any) -> str:
    """Give the name of an agent object, or of a reference to one."""
    if isinstance(by, str):
        return by.rpartition(":")[2].rpartition(".")[2]
    return getattr(by, "name", None) or "agent"


def _model_of(by: Any, models: Models) -> str | None:
    """Give the name of the model that an agent object asks; None if that is not known here."""
    if isinstance(by, str):
        by = import_object(by)
    own = getattr(by, "model", None)
    return models.name_of(own) if own is None or isinstance(own, str) else own.model_id


def _problems_of_object(task: Task, by: Any, models: Models) -> list[str]:
    if isinstance(by, str):
        try:
            by = import_object(by)
        except (Exception, SystemExit) as error:  # whatever its module does when it is imported
            return [f"task {task.id!r}: the agent {by} can't be imported: {error}"]
    own = getattr(by, "model", None)
    if own is not None and not isinstance(own, str):
        return []
    problem = models.problem_of(own)
    return [] if problem is None else [f"task {task.id!r}: its agent's model: {problem}"]


def _missing_resources(specs: list[TaskSpec], available: Mapping[str, int]) -> list[str]:
    """Give what asks for more than there is."""
    problems = []
    for spec in specs:
        for name, demand in spec.resources:
            there = available.get(name, 0)
            if demand > there:
                problems.append(
                    f"task {spec.id!r} needs {demand} of the resource {name!r}, and there are {there}: "
                    f"say how many the pool has (resources: {{{name}: {demand}}})"
                )
    return problems


def needed_results(plan: Plan, task: Task, definition: AgentDefinition | None = None) -> set[str]:
    """Give the ids of the tasks whose results an attempt of `task` reads.

    That is its direct dependencies and those that its templates name; a template that goes through `tasks`
    as a whole reads all transitive ones.
    """
    needed = set(task.depends_on)
    texts: list[str] = []
    match task.body:
        case Command(argv=argv, cwd=cwd, env=env):
            texts = [*argv, *env.values(), *([cwd] if cwd else [])]
        case Prompt(text=text):
            texts = [text]
            if definition is not None:
                texts += list(definition.argv)
    for text in texts:
        used = names_used(text)
        named = used.tasks | (used.names & plan.tasks.keys())
        needed |= named
        if "tasks" in used.names:
            return needed | ancestors(plan, task.id)
    return needed


def ancestors(plan: Plan, task_id: str) -> set[str]:
    """Give all direct and transitive dependencies of a task."""
    seen: set[str] = set()
    stack = list(plan.tasks[task_id].depends_on)
    while stack:
        name = stack.pop()
        if name not in seen:
            seen.add(name)
            stack.extend(plan.tasks[name].depends_on)
    return seen
