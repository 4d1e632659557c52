"""What must be true of a scheduler after every step. O(V + E): for tests, and on demand in production."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from allready.core.graph import TaskNode
from allready.core.states import (
    AWAITING_APPROVAL,
    CANCELING,
    ENDED,
    FAILED,
    PENDING,
    READY,
    RUN_ENDED,
    RUNNING,
    RunState,
)
from allready.errors import InvariantBroken

if TYPE_CHECKING:
    from allready.core.scheduler import DagScheduler

LINES_OF_STORY = 40
"""Newest steps of the task's story that the error shows."""


def check(scheduler: DagScheduler) -> None:
    """Raise `InvariantBroken`, with the story of the task concerned, unless all holds."""
    graph = scheduler.graph
    counted = Counter(node.state for node in graph.nodes)
    _must(scheduler, None, all(graph.counts[s] == counted[s] for s in graph.counts), "counts of states")
    asking = sum(node.asking for node in graph.nodes)
    _must(scheduler, None, scheduler.asking == asking, "count of tasks that ask")
    if scheduler.status in RUN_ENDED:
        _must(scheduler, None, not graph.unended, "an ended run has no task that goes on")
    if scheduler.ending is not None:
        _must(scheduler, None, graph.unended == graph.active, "an ending run has nothing that has not begun")
    paused = scheduler.status is RunState.PAUSED
    _must(scheduler, None, paused == (scheduler.pause_reason is not None), "only a pause has a reason")
    handles: dict[str, TaskNode] = {}
    deadlines = {(node.index, handle) for _, _, handle, node in scheduler._deadlines}
    delayed = {(due, index) for due, index, _ in scheduler._delayed}
    placed = scheduler._ready.queued()
    for node in graph.nodes:
        _check_task(scheduler, node)
        if node.queued:
            _must(scheduler, node, node.index in placed, "a queued task has the place of its remaining path")
        if node.state is RUNNING or node.state is CANCELING:
            other = handles.setdefault(str(node.handle), node)
            _must(scheduler, node, other is node, f"its attempt is not also that of {other.id}")
        if node.state is RUNNING and node.spec.timeout is not None:
            _must(
                scheduler, node, (node.index, node.handle) in deadlines, "a running attempt has its deadline"
            )
        if node.state is READY:
            queued = node.queued or node is scheduler._offered or node in scheduler._held
            waits = node.not_before is not None and (node.not_before, node.index) in delayed
            _must(scheduler, node, queued or waits, "a ready task is queued, offered, or waits for its time")


def _check_task(scheduler: DagScheduler, node: TaskNode) -> None:
    state = node.state
    waiting = sum(not dep.settled for dep in node.deps)
    if state is RUNNING or state is CANCELING:
        begun = node.handle is not None and node.started_at is not None and node.attempts > 0
        _must(scheduler, node, begun, "an attempt under way has a handle and a start")
        _must(scheduler, node, (state is CANCELING) == (node.cancel_reason is not None), "why it is canceled")
    if state is PENDING and scheduler.status is not RunState.CREATED:
        _must(scheduler, node, node.waiting == waiting, f"waits for {waiting}, counted {node.waiting}")
        can_go = scheduler.graph.verdict(node)
        _must(scheduler, node, can_go is PENDING, f"a pending task that could be {can_go}")
    if state is AWAITING_APPROVAL:
        _must(scheduler, node, node.spec.approval and not node.approved, "waits for an approval it needs")
    if node.asking:
        _must(scheduler, node, state is FAILED, "only a failed task asks")
    if node.queued:
        _must(scheduler, node, state is READY, "only a ready task is queued")
    if state in ENDED:
        _must(scheduler, node, node.finished_at is not None, "an ended task has the time of its end")


def _must(scheduler: DagScheduler, node: TaskNode | None, holds: bool, what: str) -> None:
    if holds:
        return
    about = f"task {node.id!r} ({node.state})" if node else "the run"
    story = scheduler.story(node.id if node else "")[-LINES_OF_STORY:]
    raise InvariantBroken(
        f"this is a bug in allready, please report it. Broken for {about}: {what}\n" + "\n".join(story)
    )
