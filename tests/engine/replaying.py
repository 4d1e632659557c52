"""Playing stored runs again."""

from __future__ import annotations

from allready.core.graph import TaskGraph
from allready.core.history import Replay
from allready.core.scheduler import DagScheduler
from allready.core.snapshot import spec_from_json
from allready.engine.replay import play, read_recording, recorded_inputs
from allready.store.contract import RunRow, Store


def replayed(store: Store, row: RunRow) -> Replay:
    """Play what is recorded of a stored run so far; its decisions are compared, its events are not."""
    first = store.tasks(row.id)[: row.options["first_tasks"]]
    growing = row.options.get("max_tasks") is not None
    graph = TaskGraph([spec_from_json(task.spec) for task in first], open=growing)
    replay = Replay(DagScheduler(graph, seed=row.seed, timeout=row.options["timeout"]))
    for inputs in recorded_inputs(store, row.id):
        replay.feed(inputs)
    return replay


def assert_replays(store: Store, run_id: str) -> None:
    """The journal leads a new scheduler to the same decisions and events, and to what the store says."""
    row = store.run(run_id)
    replay = replayed(store, row)
    replay.finish()
    scheduler = replay.scheduler
    assert scheduler.status == row.status
    stored = [(task.id, task.state, task.attempts, task.error) for task in store.tasks(run_id)]
    assert stored == [(node.id, node.state, node.attempts, node.error) for node in scheduler.graph.nodes]
    again = play(read_recording(store, run_id))
    if again.difference is not None:
        raise again.difference
