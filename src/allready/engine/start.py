"""Beginning a run, in memory or in a store, and taking up one that was left."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uuid_utils import uuid7

from allready.agents.definitions import AgentDefinition
from allready.agents.leftovers import end_leftovers
from allready.agents.models import Models
from allready.agents.secrets import Redactor, secret_values
from allready.agents.usage import Usage
from allready.core.graph import TaskSpec
from allready.core.scheduler import DagScheduler
from allready.core.snapshot import TaskRecord, restore, spec_from_json, spec_to_json
from allready.core.states import RUN_ENDED, RunState
from allready.engine.budget import remembered
from allready.engine.compile import ASSISTANT_SETTINGS, Compiled, compile_plan
from allready.engine.earlier import use_earlier
from allready.engine.recipe import is_recipe, read_recipe, write_recipe
from allready.engine.results import drop_unfinished
from allready.engine.session import MonotonicClock, Session, driven_here
from allready.errors import PlanError, Problem, RunEnded, RunOwned, StoreError, UserError
from allready.plan.imports import use_folder
from allready.plan.load import plan_from_document
from allready.plan.plan import Limits, Plan
from allready.planning.draft import document_of
from allready.pool.manager import SubAgentManager
from allready.store.contract import RunRow, Store, TaskRow
from allready.store.files import make_folder
from allready.store.open import folder_beside
from allready.store.owners import this_process

if TYPE_CHECKING:
    from allready.planning.planner import LlmPlanner

RUNS_FOLDER = "runs"
"""Beside the store's file: one folder a run."""
SEED_BITS = 32


def new_session(
    plan: Plan | Compiled,
    *,
    agents: Mapping[str, AgentDefinition] | None = None,
    store: Store | None = None,
    pool: SubAgentManager | None = None,
    max_parallel: int | None = None,
    seed: int | None = None,
    clock: Callable[[], float] | None = None,
    models: Models | None = None,
    planner: LlmPlanner | None = None,
    used: Usage | None = None,
) -> Session:
    """Make a new run of a plan; with a store it is recorded there, and belongs to this process.

    A plan may be compiled already, with its models. `agents` are those found in files. `max_parallel` None:
    the plan's, else 5. With a `planner` the plan has no tasks yet: they are written while the run goes on.
    `used` is what was used up for the plan before. Raises `PlanError` with everything that would stop the
    run; then nothing was recorded.
    """
    if isinstance(plan, Compiled):
        compiled = plan
    else:
        resources = pool.resources if pool is not None else None
        compiled = compile_plan(plan, agents, resources, models, growing=planner is not None)
    plan = compiled.plan
    _check_places(max_parallel)
    run_id = str(uuid7())
    clock = clock or MonotonicClock()
    seed = secrets.randbits(SEED_BITS) if seed is None else seed
    lease = folder = None
    if store is not None:
        use_earlier(compiled, store)
    if planner is not None:
        plan.document = document_of(plan, ())
    budget = {"used": used.to_json()} if used else {}
    if store is not None:
        stored = write_recipe(plan) if plan.document is None else plan.document
        folder = runs_folder(store) / run_id
        make_folder(folder)
        row = RunRow(
            id=run_id,
            goal="",
            status=RunState.CREATED.value,
            created_at=clock(),
            seed=seed,
            folder=str(folder),
            plan=stored,
            options=_options(compiled, max_parallel, planner),
            source=plan.source,
            memory={"open": planner is not None, "limits": plan.limits.given(), **budget},
        )
        _record(store, row, compiled)
        lease = store.acquire(run_id, this_process())
    session = Session(
        run_id,
        compiled,
        pool=pool,
        max_parallel=max_parallel,
        seed=seed,
        store=store,
        lease=lease,
        folder=folder,
        clock=clock,
        planner=planner,
        budget=budget,
    )
    session.scheduler.learn(session.clock())
    session.note_created()
    return session


def _record(store: Store, row: RunRow, compiled: Compiled) -> None:
    """Record a new run and its tasks, secrets blanked in what people read."""
    redactor = Redactor(secret_values(os.environ))
    row.goal = redactor.text(compiled.plan.goal)
    tasks = compiled.plan.tasks
    rows = [
        TaskRow(index, spec.id, spec_to_json(spec), redactor.text(tasks[spec.id].title or "") or None)
        for index, spec in enumerate(compiled.specs)
    ]
    store.create_run(row, rows)


def _check_places(max_parallel: int | None) -> None:
    if max_parallel is not None and max_parallel < 1:
        raise UserError(f"max_parallel is {max_parallel}, but a pool needs at least one place")


def _options(compiled: Compiled, max_parallel: int | None, planner: LlmPlanner | None) -> dict[str, Any]:
    """Give what a resumed run needs besides its plan."""
    return {
        "model": compiled.models.stored_name,
        "model_object": compiled.models.has_object,
        "max_tasks": None if planner is None else planner.max_tasks,
        "base_dir": str(compiled.plan.base_dir.absolute()),
        "max_parallel": max_parallel,
        "timeout": compiled.plan.timeout,
        "first_tasks": len(compiled.specs),
        "agents": {name: dict(agent.settings) for name, agent in compiled.definitions.items()},
    }


def runs_folder(store: Store) -> Path:
    """Give where a store's runs keep their files."""
    return folder_beside(store.path) / RUNS_FOLDER


# --- taking up a run --------------------------------------------------------------------------------------


def resume_session(
    store: Store,
    run_id: str,
    *,
    plan: Plan | None = None,
    pool: SubAgentManager | None = None,
    max_parallel: int | None = None,
    models: Models | None = None,
    limits: Limits | None = None,
) -> Session:
    """Take a stored run that nobody drives, end what a dead process left behind, and make its session.

    `plan` is needed for a plan of functions that can't be imported; it must be the same one. `models` None:
    the run's own model as it was; `limits` are taken in place of the run's, as far as they are given. Raises
    `RunOwned`, `RunNotFound`, `PlanError`, `RunEnded`; then nothing has changed.
    """
    _check_places(max_parallel)
    if run_id in driven_here:  # to the store we are the owner, and may take it again
        raise RunOwned(f"run {run_id} is driven by this very process already")
    lease = store.acquire(run_id, this_process())
    try:
        row = store.run(run_id)
        if row.status in RUN_ENDED:
            more = "" if row.status == RunState.COMPLETED else "; try again what failed"
            raise RunEnded(f"run {row.id} has ended ({row.status}){more}")
        rows = store.tasks(run_id)
        compiled = _compile_again(row, rows, plan, pool, models, limits)
        end_leftovers(run_id, folder=Path(row.folder))
        drop_unfinished(rows, Path(row.folder))
        session = Session(
            run_id,
            compiled,
            pool=pool,
            max_parallel=max_parallel or row.options.get("max_parallel"),
            seed=row.seed,
            store=store,
            lease=lease,
            folder=Path(row.folder),
            clock=clock_of(store, row),
            planner=_planner_again(compiled, row) if row.memory.get("open") else None,
            budget=remembered(row.memory),
        )
        if row.last_seq == 0:  # its process ended before the first commit
            session.note_created()
        elif row.status == RunState.RUNNING:
            gone = lease.previous is not None
            reason = "the process that ran it is gone" if gone else "taken up again"
            session.note("run.resumed", {"reason": reason})
        take_up(session.scheduler, row, rows, session.clock(), lease.last_seen or last_event_at(store, row))
        if session.status is RunState.PAUSED and session.scheduler.ending is None:
            session.scheduler.resume(session.clock())
    except BaseException:
        with contextlib.suppress(StoreError):  # what went wrong first is what counts
            store.release(run_id, lease.epoch)
        raise
    return session


def _compile_again(
    row: RunRow,
    rows: Sequence[TaskRow],
    plan: Plan | None,
    pool: SubAgentManager | None,
    models: Models | None,
    limits: Limits | None,
) -> Compiled:
    """Compile the plan of a stored run: agents, model and limits as they were, but for what is given."""
    plan = plan or stored_plan(row)
    kept = Limits(**row.memory.get("limits", {}))
    plan.limits = plan.limits.with_others(kept).with_others(limits or Limits())
    agents = stored_agents(row)
    compiled = compile_plan(
        plan,
        agents,
        pool.resources if pool is not None else None,
        models or _models_again(row),
        growing=bool(row.memory.get("open")),
    )
    compiled.definitions.update(agents)  # also those that the router would not choose again
    compiled.use_specs(_same_specs(compiled, rows, row))
    return compiled


def _models_again(row: RunRow) -> Models:
    """Give the models of a stored run. Raises `UserError` if its own was an object that no module holds."""
    name = row.options.get("model")
    if name is None and row.options.get("model_object"):
        raise UserError(
            f"run {row.id} was started with a model object that no module holds: give it again: "
            f"run(plan, store=…, resume={row.id!r}, model=…), or another one with --model"
        )
    return Models(name)


def _planner_again(compiled: Compiled, row: RunRow) -> LlmPlanner:
    """Give the planner that writes the rest of a plan."""
    from allready.planning.planner import LlmPlanner

    agents = [agent for agent in compiled.known.values() if agent.settings != ASSISTANT_SETTINGS]
    models = compiled.models
    return LlmPlanner(models.get(), agents, max_tasks=row.options["max_tasks"], name=models.default_name)


def clock_of(store: Store, row: RunRow) -> MonotonicClock:
    """Give a clock that does not begin before what the run has recorded, whatever this host's clock says."""
    newest = store.inputs(row.id, limit=1, newest=True)
    ticks = [entry[1] for inputs in newest for entry in inputs.data if entry[0] == "tick"]
    return MonotonicClock(max([last_event_at(store, row), *ticks]))


def last_event_at(store: Store, row: RunRow) -> float:
    """Give the time of the newest event of a run; that of its creation, if there is none."""
    last = store.events(row.id, after=max(0, row.last_seq - 1), limit=1)
    return max([row.created_at, *(event.at for event in last)])


def take_up(
    scheduler: DagScheduler, row: RunRow, rows: Iterable[TaskRow], now: float, last_seen: float
) -> None:
    """Bring a new scheduler to where the store says the run is; what was under way is lost.

    `last_seen` is when somebody drove the run for the last time: the time since then does not count for
    its time limit. What its tasks took decides the order from here on.
    """
    records = map(record_of, rows)
    restore(scheduler, row.status, records, row.memory)
    scheduler.recover(now, max(0.0, now - last_seen))
    scheduler.learn(now)


def record_of(task: TaskRow) -> TaskRecord:
    """Give where a stored task stands, as a scheduler takes it up."""
    return TaskRecord(
        task.id,
        task.state,
        task.attempts,
        task.handle,
        task.agent,
        task.started_at,
        task.finished_at,
        task.error,
        task.memory,
    )


def stored_plan(row: RunRow) -> Plan:
    """Give the plan of a stored run. Raises `PlanError` that names every function that can't be imported."""
    base_dir = Path(row.options["base_dir"])
    use_folder(base_dir)  # agents, models and plans name what is in the project's modules
    if not is_recipe(row.plan):
        if not row.plan.get("tasks"):  # its planner had not written anything yet
            return Plan(
                row.plan["goal"],
                answer=True,
                limits=Limits(**row.plan.get("limits", {})),
                max_parallel=row.plan.get("max_parallel"),
                resources=dict(row.plan.get("resources", {})),
                base_dir=base_dir,
                document=row.plan,
            )
        return plan_from_document(row.plan, file=row.source, base_dir=base_dir)
    return read_recipe(row.plan, base_dir, row.source)


def stored_agents(row: RunRow) -> dict[str, AgentDefinition]:
    """Give the agents that a stored run uses, as they were when it was started."""
    agents: Mapping[str, dict[str, Any]] = row.options.get("agents", {})
    return {name: AgentDefinition.from_settings(name, settings) for name, settings in agents.items()}


def _same_specs(compiled: Compiled, rows: Sequence[TaskRow], row: RunRow) -> list[TaskSpec]:
    """Give the recorded specs. Raises `PlanError` if the plan at hand is not that of the run."""
    stored = [spec_from_json(task.spec) for task in rows]
    now = {spec.id: spec for spec in compiled.specs}
    problems = [
        f"task {spec.id!r} is in the run, but not in the plan" for spec in stored if spec.id not in now
    ]
    recorded = {spec.id: spec for spec in stored}
    for spec in compiled.specs:
        if spec.id not in recorded:
            problems.append(f"task {spec.id!r} is in the plan, not in the run")
        elif set(spec.depends_on) != set(recorded[spec.id].depends_on):
            before = ", ".join(recorded[spec.id].depends_on) or "nothing"
            problems.append(f"task {spec.id!r} depended on {before} when the run was started")
    if problems:
        head = f"run {row.id} was started with another plan:"
        raise PlanError([Problem(f"{head} {text}", compiled.plan.source) for text in problems])
    return stored
