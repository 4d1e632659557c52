"""Runs a graph of tasks on a pool of LLM and command-line sub-agents: in parallel, durably, in sight.

The public names. Each is imported when it is first used, so that `import allready` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from allready.agents.base import TaskResult as TaskResult
    from allready.agents.function import cancel_requested as cancel_requested
    from allready.core.events import TaskEvent as TaskEvent
    from allready.core.graph import TaskGraph as TaskGraph
    from allready.core.graph import TaskSpec as TaskSpec
    from allready.core.scheduler import DagScheduler as DagScheduler
    from allready.core.states import FailureStrategy as FailureStrategy
    from allready.core.states import RunIf as RunIf
    from allready.core.states import RunState as RunState
    from allready.core.states import TaskState as TaskState
    from allready.engine.loop import run_scheduler_loop as run_scheduler_loop
    from allready.engine.outcome import RunResult as RunResult
    from allready.engine.run import run as run
    from allready.engine.run import run_sync as run_sync
    from allready.errors import AllreadyError as AllreadyError
    from allready.errors import ConcurrencyLimit as ConcurrencyLimit
    from allready.errors import FatalError as FatalError
    from allready.errors import PermanentError as PermanentError
    from allready.errors import PlanError as PlanError
    from allready.errors import TaskError as TaskError
    from allready.errors import TransientError as TransientError
    from allready.errors import UserError as UserError
    from allready.plan.load import load_plan_file as load_plan_file
    from allready.plan.plan import Limits as Limits
    from allready.plan.plan import Plan as Plan
    from allready.pool.manager import SpawnRequest as SpawnRequest
    from allready.pool.manager import SubAgent as SubAgent
    from allready.pool.manager import SubAgentManager as SubAgentManager
    from allready.pool.provider import ProviderLimits as ProviderLimits
    from allready.pool.provider import limit_provider as limit_provider

_NAMES = {
    "agents.base": ("TaskResult",),
    "agents.function": ("cancel_requested",),
    "core.events": ("TaskEvent",),
    "core.graph": ("TaskGraph", "TaskSpec"),
    "core.scheduler": ("DagScheduler",),
    "core.states": ("FailureStrategy", "RunIf", "RunState", "TaskState"),
    "engine.loop": ("run_scheduler_loop",),
    "engine.outcome": ("RunResult",),
    "engine.run": ("run", "run_sync"),
    "errors": (
        "AllreadyError",
        "ConcurrencyLimit",
        "FatalError",
        "PermanentError",
        "PlanError",
        "TaskError",
        "TransientError",
        "UserError",
    ),
    "plan.load": ("load_plan_file",),
    "plan.plan": ("Limits", "Plan"),
    "pool.manager": ("SpawnRequest", "SubAgent", "SubAgentManager"),
    "pool.provider": ("ProviderLimits", "limit_provider"),
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
