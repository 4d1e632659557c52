"""From a plan to what the scheduler runs: who does each task, and what it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from allready.agents.definitions import AgentDefinition
from allready.agents.kinds import problem_of
from allready.agents.router import Router
from allready.core.graph import TaskGraph, TaskSpec
from allready.errors import PlanError, Problem
from allready.plan.plan import DEFAULT_TIMEOUT, NO_TIMEOUT, Command, Function, Plan, Prompt, Task
from allready.plan.template import names_used

COMMAND = "command"
"""Agent of tasks that run a program."""
PYTHON = "python"
"""Agent of tasks that call a function."""


@dataclass(slots=True)
class Compiled:
    """A plan with every task given to somebody."""

    plan: Plan
    specs: list[TaskSpec] = field(default_factory=list)
    definitions: dict[str, AgentDefinition] = field(default_factory=dict)
    """The agents that its tasks use."""
    _graph: TaskGraph | None = None

    def take_graph(self) -> TaskGraph:
        """Give the graph of the specs: the one they were checked with, the first time."""
        graph, self._graph = self._graph, None
        return graph or TaskGraph(self.specs)

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


def compile_plan(
    plan: Plan,
    agents: Mapping[str, AgentDefinition] | None = None,
    pool_resources: Mapping[str, int] | None = None,
) -> Compiled:
    """Give each task its agent and make the scheduler's specs.

    `agents` are those found in files; those of the plan itself come first. Raises `PlanError` with
    everything that would stop the run: parameters that nothing fills, dangling dependencies, cycles, tasks
    nobody can do, agents of kinds that can't run here, more of a resource than the pool would have (of those
    that it has already, `pool_resources`, and the plan's).
    """
    if not plan.tasks:
        raise PlanError([Problem("the plan has no tasks", plan.source)])
    plan.link()
    known = dict(agents or {})
    for name, settings in plan.agents.items():
        known[name] = AgentDefinition.from_settings(name, settings)
    router = Router(list(known.values()))
    compiled = Compiled(plan)
    problems: list[str] = []
    for task in plan.tasks.values():
        compiled.specs.append(_spec(task, known, router, compiled.definitions, problems))
    problems += _missing_resources(compiled.specs, {**plan.resources, **(pool_resources or {})})
    for name, definition in compiled.definitions.items():
        problem = problem_of(definition)
        if name in {COMMAND, PYTHON}:
            problem = "this name stands for tasks that run a command or call a function: rename it"
        if problem is not None:
            problems.append(f"agent {name!r}: {problem}")
    try:
        compiled._graph = TaskGraph(compiled.specs)
    except PlanError as error:
        problems += [problem.message for problem in error.problems]
    if plan.max_parallel is not None and plan.max_parallel < 1:
        problems.append(f"max_parallel is {plan.max_parallel}, but a pool needs at least one place")
    if problems:
        raise PlanError(Problem(text, plan.source) for text in problems)
    return compiled


def _spec(
    task: Task,
    known: Mapping[str, AgentDefinition],
    router: Router,
    used: dict[str, AgentDefinition],
    problems: list[str],
) -> TaskSpec:
    resources = dict(task.resources)
    timeout = task.timeout
    idempotent = task.idempotent
    inline = task.inline
    agent: str | None = PYTHON if isinstance(task.body, Function) else COMMAND
    if isinstance(task.body, Prompt):
        definition = _choose(task, task.body, known, router, problems)
        agent = definition.name if definition else None
        if definition is not None:
            used[definition.name] = definition
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
            f"task {task.id!r} runs inline, beside the pool, and needs {', '.join(resources)} of the pool: "
            "take away inline, or the resources (also those of its agent)"
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
        None,
        task.approval,
        idempotent is not False,
        inline,
    )


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


def _choose(
    task: Task, body: Prompt, known: Mapping[str, AgentDefinition], router: Router, problems: list[str]
) -> AgentDefinition | None:
    name = body.agent if body.agent is not None else router.route(task.title or "", body.text)
    if name is None:
        problems.append(
            f"task {task.id!r} has a prompt, but there is no agent for it: "
            "define one in .allready/agents/NAME.md or under `agents:` in the plan"
        )
        return None
    if name not in known:
        problems.append(f"task {task.id!r}: there is no agent {name!r}")
        return None
    return known[name]


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
