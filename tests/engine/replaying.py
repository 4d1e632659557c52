"""Playing stored runs again."""

from __future__ import annotations

from allready.engine.views import recorded_inputs, start_replay
from allready.store.contract import Store


def assert_replays(store: Store, run_id: str) -> None:
    """The journal's inputs lead a new scheduler to the same decisions, and to what the store says."""
    row = store.run(run_id)
    replay = start_replay(store, row)
    for inputs in recorded_inputs(store, run_id):
        replay.feed(inputs)
    replay.finish()
    scheduler = replay.scheduler
    assert scheduler.status == row.status
    stored = [(task.id, task.state, task.attempts, task.error) for task in store.tasks(run_id)]
    assert stored == [(node.id, node.state, node.attempts, node.error) for node in scheduler.graph.nodes]
