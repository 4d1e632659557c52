"""`do`: from a goal to an answer."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from allready.cli import exits
from allready.cli.options import (
    JsonOption,
    MaxCostOption,
    MaxParallelOption,
    MaxRequestsOption,
    MaxTokensOption,
    ModelOption,
    QuietOption,
    Settings,
    StoreOption,
    limits_of,
    load_settings,
    open_settled_store,
    print_json,
)
from allready.cli.tables import hint
from allready.cli.text import clean
from allready.errors import UserError

if TYPE_CHECKING:
    from allready.agents.definitions import AgentDefinition
    from allready.agents.usage import Usage
    from allready.cli.plan_writing import PlanRequest
    from allready.engine.compile import Compiled
    from allready.engine.session import Session
    from allready.plan.plan import Plan
    from allready.planning.cache import PlanCache
    from allready.planning.draft import DraftTask
    from allready.store.contract import Store

MOST_TASKS = 1_000
"""Upper bound of --max-tasks: more than that no model writes in one answer."""
PLANS_FOLDER = "plans"
"""Beside the store's file: plans that were written, and what models wrote that is none."""
STANDARD = "-"
"""Standard input as GOAL, standard output as FILE."""


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("do")(do)


def do(
    goal: Annotated[str, typer.Argument(metavar="GOAL", help="What is wanted, or - for standard input.")],
    model: ModelOption = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Don't ask: tasks start while the plan is still written.")
    ] = False,
    plan_only: Annotated[bool, typer.Option("--plan-only", help="Write the plan; run nothing.")] = False,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FILE", help="With --plan-only: where to. Default: stdout"),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Plan anew, even if there is a plan for this goal.")
    ] = False,
    max_tasks: Annotated[
        int | None,
        typer.Option(
            "--max-tasks", min=1, max=MOST_TASKS, metavar="N", help="Tasks of the plan at most. Default: 20"
        ),
    ] = None,
    max_tokens: MaxTokensOption = None,
    max_requests: MaxRequestsOption = None,
    max_cost: MaxCostOption = None,
    max_parallel: MaxParallelOption = None,
    store: StoreOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Plan, run and answer a goal.

    A model writes the plan; you see it, and may edit it, before anything runs; your agents do its tasks; then
    the goal is answered from what they gave. Exit codes as for run, and 4 if you refuse the plan.
    """
    from allready.cli.plan_writing import PlanRequest
    from allready.planning.planner import MAX_TASKS

    _check_options(yes=yes, plan_only=plan_only, output=output, json=json)
    settings = load_settings()
    settings.limit_providers()
    text = read_goal(goal)
    name = usable_model(model or settings.model, max_cost)
    limits = limits_of(max_tokens, max_requests, max_cost)
    request = PlanRequest(text, name, usable_agents(name), max_tasks or MAX_TASKS, limits)
    wish = _Wish(request, settings, model, max_parallel, store, fresh, json, quiet or settings.quiet)
    if plan_only:
        return wish.write_only(None if output in (None, STANDARD) else Path(str(output)))
    return wish.run(ask=not yes)


def _check_options(*, yes: bool, plan_only: bool, output: str | None, json: bool) -> None:
    """Raise `UserError` for what does not go together, before anything is asked of a model."""
    if output is not None and not plan_only:
        raise UserError("--output is where --plan-only writes the plan: add --plan-only")
    if yes or plan_only:
        return
    if json:
        raise UserError("--json can't ask whether to run the plan: add --yes or --plan-only")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UserError(
            "this is no terminal, so nobody can be asked whether to run the plan: "
            "add --yes to run it at once, or --plan-only to write it down"
        )


def read_goal(goal: str) -> str:
    """Give the goal, from standard input if it is `-`. Raises `UserError` if there is none."""
    try:
        if goal == STANDARD:
            goal = sys.stdin.buffer.read().decode("utf-8")
        goal.encode("utf-8")
    except UnicodeError:
        raise UserError("the goal is not text in UTF-8") from None
    if "\0" in goal:
        raise UserError("the goal holds a NUL character: remove it")
    if not goal.strip():
        raise UserError('the goal is empty: say what is wanted, as in allready do "Compare A and B"')
    return goal.strip()


def usable_model(wanted: str | None, max_cost: float | None) -> str:
    """Give the model's full name. Raises `UserError` with advice if there is none or it can't be used."""
    from allready.agents.models import NoModel, check_model, choose_model, full_name, price_of
    from allready.cli.sources import use_working_directory

    use_working_directory()  # a model may be an object in a module of the project
    name = choose_model(wanted)
    if name is None:
        raise NoModel
    problem = check_model(name)
    if problem is not None:
        raise UserError(problem)
    if max_cost is not None and price_of(name) is None:
        raise UserError(
            f"--max-cost: the price of {full_name(name)} is not known, so money can't be limited; "
            "limit --max-tokens or --max-requests"
        )
    return full_name(name)


def usable_agents(model: str) -> dict[str, AgentDefinition]:
    """Give the agents that were found in files and can work here; the others are warnings on stderr."""
    from allready.agents.kinds import problem_of
    from allready.agents.models import Models
    from allready.cli.sources import read_agents, warn_of

    library = read_agents()
    models = Models(model)
    told = []
    agents = {}
    for agent in library.agents.values():
        problem = problem_of(agent, models, Path.cwd())
        if problem is None:
            agents[agent.name] = agent
        else:
            told.append(f"agent {agent.name!r}: {problem}")
    for text in told:
        print(f"warning: {clean(text)} (this agent is left out)", file=sys.stderr)
    warn_of(agents.values())
    return agents


@dataclass(frozen=True, slots=True)
class _Wish:
    """A goal, and everything that was said about how to reach it."""

    request: PlanRequest
    settings: Settings
    model: str | None
    """As it was given on the command line."""
    max_parallel: int | None
    store: str | None
    """As it was given on the command line."""
    fresh: bool
    json: bool
    quiet: bool

    # --- the plan -------------------------------------------------------------------------------------

    def plans_folder(self) -> Path:
        """Give where plans are kept."""
        from allready.store.open import files_folder

        store = self.store if self.store is not None else self.settings.store
        return files_folder(store) / PLANS_FOLDER

    def cache(self) -> PlanCache:
        """Give what keeps the plans."""
        from allready.planning.cache import PlanCache

        return PlanCache(self.plans_folder())

    def key(self, cache: PlanCache) -> str:
        """Give what the plan is kept under."""
        request = self.request
        agents = list(request.agents.values())
        return cache.key(request.goal, agents, request.model, request.max_tasks)

    def cached(self) -> list[DraftTask] | None:
        """Give the plan that is there from before, unless a new one is wanted."""
        if self.fresh:
            return None
        cache = self.cache()
        tasks = cache.get(self.key(cache))
        if tasks is not None and not self.quiet:
            print("this plan was written before; --fresh plans anew", file=sys.stderr)
        return tasks

    def keep(self, tasks: Sequence[DraftTask]) -> None:
        """Keep a plan for the next time. That it can't be kept stops nothing."""
        cache = self.cache()
        try:
            cache.put(self.key(cache), self.request.goal, tasks)
        except OSError as error:
            print(f"warning: the plan can't be kept for the next time: {clean(str(error))}", file=sys.stderr)

    def plan(self) -> tuple[dict[str, Any], Usage]:
        """Give the plan as a document, from before or written now, and what the writing took."""
        from allready.agents.usage import Usage
        from allready.cli.plan_writing import write_plan

        tasks, usage = self.cached(), Usage()
        if tasks is None:
            written = write_plan(self.request, self.plans_folder(), quiet=self.quiet)
            tasks, usage = written.tasks, written.usage
            self.keep(tasks)
        return self.document(tasks, self.max_parallel), usage

    def document(self, tasks: Sequence[DraftTask], max_parallel: int | None = None) -> dict[str, Any]:
        """Give the plan of these tasks, with a pool that has what their agents need."""
        from allready.planning.draft import needed_resources, plan_document

        request = self.request
        named = {task.agent for task in tasks}
        agents = [agent for agent in request.agents.values() if None in named or agent.name in named]
        return plan_document(
            request.goal,
            tasks,
            limits=request.limits,
            max_parallel=max_parallel,
            resources=needed_resources(agents),
        )

    def write_only(self, file: Path | None) -> int:
        """Write the plan to a file (it is overwritten, as by `graph -o`), or to standard output."""
        if file is not None:
            _check_writable(file)
        document, _ = self.plan()
        if file is None and self.json:
            print_json(document)
            return exits.COMPLETED
        text = _as_text(document, json=self.json or (file is not None and file.suffix.lower() == ".json"))
        if file is None:
            sys.stdout.buffer.write(text.encode())  # whatever the locale: a plan is read as UTF-8
            return exits.COMPLETED
        try:
            file.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UserError(f"{file}: can't be written: {error.strerror}") from None
        if not self.quiet:
            print(f"the plan is in {file}; run it with: {self.run_hint(file)}", file=sys.stderr)
        return exits.COMPLETED

    def run_hint(self, file: Path) -> str:
        """Give the command that runs a plan file with the same model."""
        named = ["--model", self.model] if self.model is not None else []
        return hint("run", str(file), *named, store=self.store)

    # --- the run --------------------------------------------------------------------------------------

    def run(self, *, ask: bool) -> int:
        """Run the plan in the foreground; gives the exit code."""
        from allready.cli.running import drive

        with ExitStack() as stack:
            opened = open_settled_store(self.store, create=True)  # before anything is asked of a model
            stack.callback(opened.close)
            session = self._asked_session(opened) if ask else self._session(opened)
            if session is None:
                return exits.CANCELED
            return drive(session, json=self.json, quiet=self.quiet, store=self.store)

    def _asked_session(self, store: Store) -> Session | None:
        """Give the run of a plan that a person has agreed to, or None."""
        from allready.cli.confirm import Draft, confirm

        document, usage = self.plan()
        confirmed = confirm(Draft(document, self._load), self.run_hint)
        if confirmed is None:
            # 4 and not 2: nothing was wrong, a person called it off, and a script must not go on as after 0
            print("nothing was run; the plan is kept for the next time, --fresh plans anew", file=sys.stderr)
            return None
        return self._planned_session(confirmed, store, usage)

    def _session(self, store: Store) -> Session:
        """Give the run of a plan that nobody checks: one from before, or one that grows as it is written."""
        from allready.agents.models import Models
        from allready.agents.usage import Usage
        from allready.engine.start import new_session
        from allready.plan.load import plan_from_document
        from allready.plan.plan import Plan
        from allready.planning.draft import needed_resources
        from allready.planning.planner import LlmPlanner

        request = self.request
        tasks = self.cached()
        if tasks is not None:
            plan = plan_from_document(self.document(tasks), known_agents=request.agents)
            return self._planned_session(self._compile(plan), store, Usage())
        models = Models(request.model)
        planner = LlmPlanner(
            models.get(),
            list(request.agents.values()),
            max_tasks=request.max_tasks,
            name=models.default_name,
        )
        resources = needed_resources(request.agents.values())
        session = new_session(
            Plan(request.goal, answer=True, limits=request.limits, resources=resources),
            agents=request.agents,
            store=store,
            max_parallel=self.max_parallel or self.settings.max_parallel,
            models=models,
            planner=planner,
        )
        session.on_planned = self.keep
        return session

    def _planned_session(self, compiled: Compiled, store: Store, usage: Usage) -> Session:
        """Give the run of a plan that is complete; `usage` is what its writing took."""
        from allready.engine.start import new_session

        places = compiled.plan.max_parallel or self.max_parallel or self.settings.max_parallel
        return new_session(compiled, store=store, max_parallel=places, used=usage)

    def _load(self, text: str, file: str | None) -> Compiled:
        from allready.plan.load import load_plan, plan_from_document

        agents = self.request.agents
        plan = load_plan(text, file=file, known_agents=agents)
        if file is not None:  # which is for its problems only: the run must not refer to it
            plan = plan_from_document(plan.document or {}, known_agents=agents)
        return self._compile(plan)

    def _compile(self, plan: Plan) -> Compiled:
        from allready.agents.models import Models
        from allready.engine.compile import compile_plan

        return compile_plan(plan, self.request.agents, models=Models(self.request.model))


def _check_writable(file: Path) -> None:
    """Raise `UserError` if a file can't be written, before a model is paid for what would be in it."""
    place = file if file.exists() else file.parent
    if file.is_dir():
        raise UserError(f"{file}: can't be written: it is a folder")
    if not place.exists():
        raise UserError(f"{file}: can't be written: there is no folder {place}")
    if not os.access(place, os.W_OK):
        raise UserError(f"{file}: can't be written: no right to")


def _as_text(document: Mapping[str, Any], *, json: bool) -> str:
    if json:
        from json import dumps

        return dumps(document, indent=2, ensure_ascii=False) + "\n"
    from allready.plan.dump import plan_to_yaml

    return plan_to_yaml(document)
