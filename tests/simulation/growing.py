"""Simulated runs whose plan a scripted model writes while they go on; the same model does the tasks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tests.simulation.work import work
from tests.simulation.world import World

from allready.agents.definitions import AgentDefinition
from allready.agents.models import Models
from allready.engine.session import Session
from allready.engine.start import new_session, resume_session
from allready.plan.plan import ANSWER, Plan
from allready.planning.planner import LlmPlanner
from allready.pool.manager import SubAgentManager
from allready.store.contract import Store
from allready.testing import ScriptedModel

TASK = re.compile(r"^Do (\S+)\.")
AGENT = AgentDefinition("worker", description="Does what is to be done.", instructions="Do it.")
GOAL = "A plan that grows"


def growing_session(
    world: World, tasks: Sequence[Mapping[str, Any]], store: Store, pool: SubAgentManager
) -> Session:
    """Give the session of a new run whose plan becomes `tasks`, or of the one there is."""

    async def do(prompt: str) -> str:
        found = TASK.search(prompt)
        assert found is not None
        return await work(found[1])

    async def answer(_: str) -> str:
        return await work(ANSWER)

    plan = [{**task, "prompt": f"Do {task['id']}."} for task in tasks]
    model = ScriptedModel({TASK: do}, plan=plan, answer=answer, default=None, delay=0.3, pause=0.02)
    if world.run_id is not None:
        session = resume_session(store, world.run_id, pool=pool, models=Models(model))
    else:
        session = new_session(
            Plan(GOAL, answer=True, max_parallel=pool.max_concurrent),
            agents={AGENT.name: AGENT},
            store=store,
            pool=pool,
            seed=world.seed,
            models=Models(model),
            planner=LlmPlanner(model, [AGENT]),
        )
    world.plan = session.plan
    return session
