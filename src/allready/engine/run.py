"""`run` and `run_sync`: a plan from Python, in one call."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextvars import ContextVar, copy_context
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allready.agents.base import TaskResult
from allready.agents.definitions import AgentDefinition, load_agents
from allready.agents.forks import note_forks
from allready.agents.isolated_process import LOADING_VARIABLE
from allready.agents.leftovers import carried_by_children
from allready.agents.models import Models, choose_model
from allready.engine.compile import Compiled, compile_plan
from allready.engine.outcome import RunResult
from allready.engine.results import read_results
from allready.engine.session import Session
from allready.engine.start import new_session, resume_session
from allready.engine.worker import current_sub_agent
from allready.errors import PlanError, UserError
from allready.plan.load import load_plan_file
from allready.plan.plan import Limits, Plan
from allready.pool.manager import SubAgentManager, check_weight
from allready.store.contract import JournalEvent, Store

if TYPE_CHECKING:
    from pydantic_ai.models import Model

_alone: ContextVar[bool] = ContextVar("allready_alone", default=False)
"""Whether this process does nothing else while the run goes on that is about to begin."""


async def run(
    plan: Plan | str | Path,
    *,
    store: Store | str | Path | None = None,
    resume: str | None = None,
    max_parallel: int | None = None,
    pool: SubAgentManager | None = None,
    agents: Mapping[str, AgentDefinition] | None = None,
    variables: Mapping[str, str] | None = None,
    model: str | Model | None = None,
    limits: Limits | None = None,
    on_event: Callable[[JournalEvent], None] | None = None,
    seed: int | None = None,
    clock: Callable[[], float] | None = None,
    weight: float = 1.0,
) -> RunResult:
    """Run a plan to its end, or until only a person can go on, and give its result.

    `plan` is a `Plan` or the path of a plan file, whose variables `variables` fills. Without a `store` the
    run lives in memory; a store's URL or path (`sqlite:///runs.db`) makes it durable, and `resume` goes on
    with the run of that id, which must be of the same plan. `max_parallel` is the number of places in the
    pool (None: the plan's, else 5); runs that are to share a pool are given one. A run that is started by a
    task of another run shares that one's pool, and the task gives its place back meanwhile. `agents` None:
    those in the agents' folders. `model` is the run's own: a name such as `openai:gpt-5`, or a model object
    of pydantic-ai; None: `ALLREADY_MODEL`, else as the keys in the environment say, and for a resumed run as
    it was. `limits` stand in place of the plan's, as far as they are given. `on_event` is told everything
    that happens, after it has become durable; an exception that it raises ends the run. `seed` makes the
    jitter of retries repeatable; `clock` gives seconds for a run in memory, for tests on a virtual clock.
    While several runs wait for a place of the same pool, a run gets in proportion to its `weight`.

    Raises `PlanError` for a plan that can't run (then nothing has run), `RunNotFound` and `RunOwned` for a
    run that can't be resumed, `StoreError`, and `LeaseLost` if another process took the run over. That a task
    fails is no exception but in the result. Cancellation pauses a durable run, so that it can be resumed.
    """
    check_weight(weight)
    alone = _alone.get()
    if alone:
        _alone.set(False)  # runs that its tasks start are not
    if LOADING_VARIABLE in os.environ:
        raise UserError(
            f"{os.environ[LOADING_VARIABLE]} is loaded for a task with isolate=True, and starts a run: "
            'put that under `if __name__ == "__main__":`'
        )
    if not isinstance(plan, Plan):
        plan = load_plan_file(plan, variables=variables)
    if resume is not None and store is None:
        raise UserError(f"run {resume} can't be resumed without the store that it is in: give store=…")
    parent = current_sub_agent()
    if pool is None and max_parallel is None and parent is not None:
        pool = parent.pool
    if store is None:
        compiled = _compile(plan, agents, pool, model, limits)
        session = new_session(compiled, pool=pool, max_parallel=max_parallel, seed=seed, clock=clock)
        session.pool.weigh(session.id, weight)
        return await _drive(session, on_event)
    opened = _open(store)
    try:
        if resume is None:
            compiled = _compile(plan, agents, pool, model, limits)
            session = new_session(compiled, store=opened, pool=pool, max_parallel=max_parallel, seed=seed)
        else:
            session = resume_session(
                opened,
                opened.find_run(resume),
                plan=plan,
                pool=pool,
                max_parallel=max_parallel,
                models=Models(model) if model is not None else None,
                limits=limits,
            )
        session.pool.weigh(session.id, weight)
        with _marked(session) if alone else contextlib.nullcontext():
            await _drive(session, on_event)
    finally:
        if opened is not store:
            opened.close()
    return session.result(partial(_read, store, session))


@contextlib.contextmanager
def _marked(session: Session) -> Iterator[None]:
    """Have what functions start found again, if this process is killed."""
    before = note_forks(session.folder)
    try:
        with carried_by_children(session.id):
            yield
    finally:
        note_forks(before)


def _compile(
    plan: Plan,
    agents: Mapping[str, AgentDefinition] | None,
    pool: SubAgentManager | None,
    model: str | Model | None,
    limits: Limits | None,
) -> Compiled:
    resources = pool.resources if pool is not None else None
    if model is None or isinstance(model, str):
        model = choose_model(model or os.environ.get("ALLREADY_MODEL"))
    models = Models(model)
    plan.limits = plan.limits.with_others(limits or Limits())
    if agents is not None:
        return compile_plan(plan, agents, resources, models)
    library = load_agents(plan.base_dir)
    try:
        return compile_plan(plan, library.agents, resources, models)
    except PlanError as error:  # files that could not be read may be why an agent is missing
        raise PlanError([*error.problems, *library.problems]) from None


async def _drive(session: Session, on_event: Callable[[JournalEvent], None] | None) -> RunResult:
    if on_event is not None:
        tell = on_event

        def observer(events: Collection[JournalEvent]) -> None:
            for event in events:
                tell(event)

        session.observe(observer)
    return await session.drive()


def _open(store: Store | str | Path) -> Store:
    if not isinstance(store, str | Path):
        return store
    from allready.store.open import open_store

    return open_store(store)


def _read(store: Store | str | Path, session: Session, tasks: Collection[str]) -> dict[str, TaskResult]:
    """Read results of a run that has ended, from a store that may have to be opened for it."""
    opened = _open(store)
    try:
        graph = session.scheduler.graph
        return read_results(opened, session.id, session.folder, [graph[task].index for task in tasks])
    finally:
        if opened is not store:
            opened.close()


def run_sync(plan: Plan | str | Path, **options: Any) -> RunResult:
    """Do what `run` does, in a program without an event loop; Ctrl-C pauses a durable run.

    Called in the main thread, what the program starts meanwhile belongs to a durable run: if the program is
    killed, it is ended when the run is resumed.
    """
    context = copy_context()
    context.run(_alone.set, threading.current_thread() is threading.main_thread())
    return context.run(lambda: asyncio.run(run(plan, **options)))
