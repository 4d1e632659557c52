"""What tasks took in earlier runs, kept in the store: the estimates of those that have none."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Iterator
from operator import attrgetter
from typing import Any

from allready.agents.values import jsonable
from allready.core.graph import TaskGraph, TaskNode
from allready.core.states import COMPLETED
from allready.engine.compile import Compiled
from allready.errors import PermanentError
from allready.plan.plan import Command, Function, Plan, Prompt, Task
from allready.store.contract import Store

MOST_KEPT = 5_000
"""Tasks of a run whose times are kept: those that took longest, for they matter most."""
MOST_ASKED = 100_000
"""A plan with more tasks without an estimate does without: asking would take longer than it is worth."""
DIGEST_BYTES = 16


def use_earlier(compiled: Compiled, store: Store) -> set[str]:
    """Give the tasks without an estimate what they took in earlier runs, the median; gives which that are."""
    unknown = [spec for spec in compiled.specs if spec.estimate is None]
    if not 0 < len(unknown) <= MOST_ASKED:
        return set()
    plan = compiled.plan
    keys: dict[str, str] = {}

    def asked() -> Iterator[str]:  # digests are made only if something is known
        for spec in unknown:
            key = key_of(plan, spec.agent, plan.tasks[spec.id])
            if key is not None:
                keys[spec.id] = key
                yield key

    known = store.task_times(asked())
    found = {name: known[key].median for name, key in keys.items() if key in known}
    if found:
        compiled.use_specs(
            [spec._replace(estimate=found.get(spec.id, spec.estimate)) for spec in compiled.specs]
        )
    return set(found)


def keep_times(store: Store, compiled: Compiled, graph: TaskGraph, since: float) -> None:
    """Keep what the tasks took that completed after `since`, for later runs."""
    plan = compiled.plan
    completed = [
        node
        for node in graph.nodes
        if node.state is COMPLETED and node.finished_at is not None and node.finished_at > since
    ]
    completed = heapq.nlargest(MOST_KEPT, completed, key=_took)
    seconds: dict[str, list[float]] = {}
    for node in sorted(completed, key=attrgetter("finished_at")):
        key = key_of(plan, node.spec.agent, plan.tasks[node.id])
        if key is not None:
            seconds.setdefault(key, []).append(max(0.0, _took(node)))
    if seconds:
        store.add_task_times(seconds)


def _took(node: TaskNode) -> float:
    return node.duration or 0.0


def key_of(plan: Plan, agent: str | None, task: Task) -> str | None:
    """Give a digest of what a task is, as it is written: not what its templates become, nor what it needs.

    None for arguments of a function that can't be written down.
    """
    body = task.body
    what: list[Any]
    match body:
        case Command():
            what = ["run", body.argv, body.shell, body.cwd, dict(body.env)]
        case Prompt():
            what = ["prompt", body.text]
        case Function():
            try:
                what = ["function", body.reference, jsonable(list(body.args)), jsonable(dict(body.kwargs))]
            except PermanentError:
                return None
        case _:
            what = ["answer", plan.goal]
    written = json.dumps([str(plan.base_dir.absolute()), agent, *what], sort_keys=True)
    return hashlib.blake2b(written.encode(), digest_size=DIGEST_BYTES).hexdigest()
