"""What a person or the driver may tell a run, and when it applies; carried out by `DagScheduler.command`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from allready.core.graph import TaskNode
from allready.core.states import (
    AWAITING_APPROVAL,
    CANCELED,
    FAILED,
    PENDING,
    READY,
    RUN_ENDED,
    RUNNING,
    SKIPPED,
    FailureStrategy,
    RunIf,
    RunState,
)
from allready.errors import CommandRefused

if TYPE_CHECKING:
    from allready.core.scheduler import DagScheduler

BY_PERSON = "skipped by a person"
"""Reason of a skip that a retry of the whole run leaves as it is."""


def carry_out(scheduler: DagScheduler, kind: str, task: str | None, now: float) -> None:
    """Carry out one command. Raises `CommandRefused` if it does not apply; then nothing has changed."""
    if kind == "retry":
        _retry(scheduler, task, now)
    elif kind in DRIVER_COMMANDS:
        DRIVER_COMMANDS[kind](scheduler, task or kind, now)
    elif kind in RUN_COMMANDS:
        RUN_COMMANDS[kind](scheduler, now)
    elif kind not in TASK_COMMANDS:
        raise CommandRefused(f"there is no command {kind!r}")
    elif task is None:
        raise CommandRefused(f"{kind} needs the name of a task")
    else:
        TASK_COMMANDS[kind](scheduler, _find(scheduler, task), now)


def for_people(kind: str) -> None:
    """Raise `CommandRefused` for what only a driver may say."""
    if kind in DRIVER_COMMANDS:
        raise CommandRefused(f"there is no command {kind!r}")


def _find(scheduler: DagScheduler, task: str) -> TaskNode:
    if task not in scheduler.graph:
        raise CommandRefused(f"the run has no task {task!r}")
    return scheduler.graph[task]


def _must_go_on(scheduler: DagScheduler, what: str) -> None:
    if scheduler.status in RUN_ENDED:
        raise CommandRefused(f"can't {what}: the run has ended ({scheduler.status})")
    if scheduler.ending is not None:
        raise CommandRefused(f"can't {what}: the run is ending ({scheduler.ending})")


# --- commands for the whole run ---------------------------------------------------------------------------


def _pause(scheduler: DagScheduler, now: float) -> None:
    _must_go_on(scheduler, "pause")
    if scheduler.pause_reason == "person":
        raise CommandRefused("the run is paused already")
    scheduler._pause("person", now, "by a person")


def _resume(scheduler: DagScheduler, now: float) -> None:
    _must_go_on(scheduler, "resume")
    if scheduler.status is not RunState.PAUSED:
        raise CommandRefused(f"the run is not paused but {scheduler.status}")
    scheduler._resume(now)


def _interrupt(scheduler: DagScheduler, now: float) -> None:
    _must_go_on(scheduler, "interrupt")
    scheduler._pause("interrupt", now, "interrupted")
    for node in scheduler.graph.nodes:
        if node.state is RUNNING:
            scheduler._ask_to_stop(node, "interrupt", now)


def _cancel(scheduler: DagScheduler, now: float) -> None:
    _must_go_on(scheduler, "cancel")
    if scheduler.status is RunState.CREATED:
        scheduler._start(now)
    scheduler._begin_end(RunState.CANCELED, "canceled by a person", "canceled", now)


# --- what the driver has to say, with the reason ----------------------------------------------------------


def _limit(scheduler: DagScheduler, reason: str, now: float) -> None:
    """Pause, because a limit of the run is reached: a person has to raise it."""
    _must_go_on(scheduler, "pause")
    scheduler._pause("limit", now, reason)


def _fail(scheduler: DagScheduler, reason: str, now: float) -> None:
    """End the run: something that it can't do without has failed."""
    _must_go_on(scheduler, "end the run")
    if scheduler.status is RunState.CREATED:
        scheduler._start(now)
    scheduler._begin_end(RunState.FAILED, reason, "abort", now)


# --- commands for one task --------------------------------------------------------------------------------


def _approve(scheduler: DagScheduler, node: TaskNode, now: float) -> None:
    if not node.spec.approval:
        raise CommandRefused(f"task {node.id!r} needs no approval")
    if node.approved or node.state not in {PENDING, AWAITING_APPROVAL}:
        raise CommandRefused(f"task {node.id!r} does not wait for approval: it is {node.state}")
    node.approved = True
    if node.state is AWAITING_APPROVAL:
        scheduler._make_ready(node, now)
    else:
        scheduler._note(node.id, now, "task.pending", None, {"approved": True})
    _resume_if_stalled(scheduler, now)


def _skip(scheduler: DagScheduler, node: TaskNode, now: float) -> None:
    _must_go_on(scheduler, f"skip task {node.id!r}")
    if node.asking:
        scheduler._decide(node, "skip", now)
    elif node.state in {PENDING, READY, AWAITING_APPROVAL}:
        node.not_before = None
        scheduler._skip(node, BY_PERSON, now)
    else:
        raise CommandRefused(f"task {node.id!r} is {node.state}; only what has not begun can be skipped")
    scheduler._settle(node, now)
    _resume_if_stalled(scheduler, now)


def _abort(scheduler: DagScheduler, node: TaskNode, now: float) -> None:
    if not node.asking:
        raise CommandRefused(f"task {node.id!r} does not wait for a decision: it is {node.state}")
    scheduler._begin_end(RunState.FAILED, f"task {node.id!r} failed: {node.error}", "abort", now)


def _resume_if_stalled(scheduler: DagScheduler, now: float) -> None:
    if scheduler.status is RunState.PAUSED and scheduler.pause_reason == "decision":
        scheduler._resume(now)


# --- retry ------------------------------------------------------------------------------------------------


def _retry(scheduler: DagScheduler, task: str | None, now: float) -> None:
    """Try again one task, or all that failed or was canceled; dependents skipped for it come along."""
    if scheduler.ending is not None:
        raise CommandRefused("the run is ending; retry it when it has ended")
    if scheduler.status is RunState.COMPLETED:
        raise CommandRefused("the run has completed; start it anew to repeat it")
    again = _what_to_retry(scheduler, task)
    if scheduler.status in RUN_ENDED:
        wanted = {node.index for node in again}
        nodes = scheduler.graph.nodes
        left = [node for node in nodes if _failed_for_good(node) and node.index not in wanted]
        scheduler._restart(now)
        for node in left:  # it must not be done twice unless a person says so
            scheduler._ask(node)
            scheduler._note(node.id, now, "task.failed", None, {"error": node.error, "asks": True})
    _revive(scheduler, again, now)
    _resume_if_stalled(scheduler, now)


def _what_to_retry(scheduler: DagScheduler, task: str | None) -> list[TaskNode]:
    nodes = scheduler.graph.nodes
    if task is None:
        again = [node for node in nodes if node.state is FAILED or node.state is CANCELED]
        if not again and scheduler.status not in RUN_ENDED:
            raise CommandRefused("nothing has failed: there is nothing to retry")
        return again
    node = _find(scheduler, task)
    if node.state not in {FAILED, SKIPPED, CANCELED}:
        raise CommandRefused(
            f"task {task!r} is {node.state}; only what failed or was left out can be retried"
        )
    if node.state is SKIPPED and scheduler.graph.recount(node) is SKIPPED:
        reason = scheduler._skip_reason(node)
        raise CommandRefused(f"task {task!r} would be skipped again: {reason}; retry what it waits for")
    # what the end of the run canceled has to come along, or the run could not go on; what failed beside the
    # task too, or a run that has a failure which nobody accepted would end as completed
    ended = scheduler.status in RUN_ENDED
    beside = [
        other
        for other in nodes
        if other.state is CANCELED or (ended and _failed_for_good(other) and other.spec.idempotent)
    ]
    return [node, *(other for other in beside if other is not node)]


def _failed_for_good(node: TaskNode) -> bool:
    """Whether a task failed in such a way that the run had to end."""
    fatal = node.spec.failure_strategy in {FailureStrategy.ABORT, FailureStrategy.RETRY}
    return node.state is FAILED and fatal


def _revive(scheduler: DagScheduler, again: list[TaskNode], now: float) -> None:
    """Bring ended tasks back, and the dependents that were skipped because of them."""
    wanted = {node.index for node in again}
    revived: dict[int, TaskNode] = {}
    touched: dict[int, TaskNode] = {}
    stack = list(again)
    while stack:
        node = stack.pop()
        if node.index in revived:
            continue
        if node.state is SKIPPED and node.error == BY_PERSON and node.index not in wanted:
            continue
        revived[node.index] = node
        for dependent in node.dependents:
            if dependent.state is SKIPPED:
                stack.append(dependent)
            elif dependent.state is PENDING or _has_to_wait_again(dependent):
                touched[dependent.index] = dependent
    for _, node in sorted(revived.items()):
        if node.asking:
            scheduler._decide(node, "retry", now)
        _reset(node)
        if node.state is FAILED and not _waits_for_another(node, revived):
            scheduler._set(node, READY, now, "task.ready", None, {"reason": "retry"})
            scheduler._ready.put(node)
        else:
            scheduler._set(node, PENDING, now, "task.pending", None, {"reason": "retry"})
            touched[node.index] = node
    nodes = [touched[index] for index in sorted(touched)]
    for node in nodes:
        if node.state is not PENDING:
            node.queued = False
            node.not_before = None
            scheduler._set(node, PENDING, now, "task.pending", None, {"reason": "retry"})
        scheduler.graph.recount(node)
    scheduler._admit(nodes, now)


def _has_to_wait_again(node: TaskNode) -> bool:
    """Whether a task that may begin, because its dependencies had ended somehow, must not any more."""
    return node.spec.run_if is RunIf.ALL_DONE and node.state in {AWAITING_APPROVAL, READY}


def _waits_for_another(node: TaskNode, revived: Mapping[int, TaskNode]) -> bool:
    """Whether a failed task, begun because its dependencies had ended somehow, has to wait for them again."""
    return node.spec.run_if is RunIf.ALL_DONE and any(dep.index in revived for dep in node.deps)


def _reset(node: TaskNode) -> None:
    node.finished_at = None
    node.cancel_reason = None
    node.not_before = None
    node.retries = 0
    node.deferrals = 0
    node.error = None


RUN_COMMANDS: Mapping[str, Callable[[DagScheduler, float], None]] = {
    "pause": _pause,
    "resume": _resume,
    "interrupt": _interrupt,
    "cancel": _cancel,
}
TASK_COMMANDS: Mapping[str, Callable[[DagScheduler, TaskNode, float], None]] = {
    "approve": _approve,
    "skip": _skip,
    "abort": _abort,
}
DRIVER_COMMANDS: Mapping[str, Callable[[DagScheduler, str, float], None]] = {"limit": _limit, "fail": _fail}
