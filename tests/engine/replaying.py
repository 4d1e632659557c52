"""Playing stored runs again."""

from __future__ import annotations

from allready.engine.replay import play, read_recording, recorded_inputs, start_replay
from allready.store.contract import Store


def assert_replays(store: Store, run_id: str) -> None:
    """The journal leads a new scheduler to the same decisions and events, and to what the store says."""
    row = store.run(run_id)
    replay = start_replay(store, row)
    for inputs in recorded_inputs(store, run_id):
        replay.feed(inputs)
    replay.finish()
    scheduler = replay.scheduler
    assert scheduler.status == row.status
    stored = [(task.id, task.state, task.attempts, task.error) for task in store.tasks(run_id)]
    assert stored == [(node.id, node.state, node.attempts, node.error) for node in scheduler.graph.nodes]
    replayed = play(read_recording(store, run_id))
    if replayed.difference is not None:
        raise replayed.difference
