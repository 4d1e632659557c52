"""Why a task is not running: read from the very state that decides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from allready.core.graph import TaskNode
from allready.core.states import (
    AWAITING_APPROVAL,
    CANCELING,
    PENDING,
    READY,
    RUN_ENDED,
    RUNNING,
    RunIf,
    RunState,
)

if TYPE_CHECKING:
    from allready.core.scheduler import DagScheduler

NAMES = 5
"""Dependencies that a sentence names; `data` has all."""


class Why(NamedTuple):
    """An answer: a code for programs, a sentence for people, and the facts behind it.

    Codes: `running`, `canceling`, `ended`, `asking`, `run_ended`, `paused`, `dependencies`, `approval`,
    `retry`, `deferred`, `refused`, `next`, `not_started`.
    """

    code: str
    text: str
    data: dict[str, Any]


def why(scheduler: DagScheduler, node: TaskNode, now: float) -> Why:
    """Say why `node` is where it is at the time `now`."""
    state = node.state
    if state is RUNNING:
        since = _span(now - (now if node.started_at is None else node.started_at))
        return Why("running", f"{node.id} has been running for {since}", {"attempt": node.handle})
    if state is CANCELING:
        text = f"{node.id} was asked to stop ({node.cancel_reason}) and has not stopped yet"
        return Why("canceling", text, {"reason": node.cancel_reason, "attempt": node.handle})
    if node.asking:
        text = f"{node.id} failed ({node.error}) and waits for a decision: retry, skip or abort"
        return Why("asking", text, {"error": node.error})
    if state is PENDING or state is READY or state is AWAITING_APPROVAL:
        return _why_not_started(scheduler, node, now)
    reason = f": {node.error}" if node.error else ""
    return Why("ended", f"{node.id} has ended: {state}{reason}", {"state": state.value, "error": node.error})


def _why_not_started(scheduler: DagScheduler, node: TaskNode, now: float) -> Why:
    if scheduler.status in RUN_ENDED:
        return Why("run_ended", f"the run has ended ({scheduler.status})", {"status": scheduler.status.value})
    if node.state is AWAITING_APPROVAL:
        return Why("approval", f"{node.id} waits for a person's approval", {})
    if node.state is PENDING:
        return _why_pending(scheduler, node)
    if scheduler.status is RunState.PAUSED:
        return Why("paused", f"the run is paused ({scheduler.pause_reason})", {"by": scheduler.pause_reason})
    if node.not_before is not None and node.not_before > now:
        due = node.not_before - now
        code = "deferred" if node.deferrals else "retry"
        what = "is put off" if node.deferrals else "is to be retried"
        text = f"{node.id} {what}: {node.error}; due in {_span(due)}"
        return Why(code, text, {"due_in": due, "error": node.error, "retry": node.retries})
    refusal = scheduler._ready.refusal(node)
    if refusal is not None:
        text = (
            f"a place for {node.id} is refused since {_span(now - refusal.since)}: "
            f"{refusal.reason} ({refusal.scope}: {refusal.active} of {refusal.max} in use)"
        )
        return Why("refused", text, refusal._asdict())
    return Why("next", f"{node.id} is ready and will be offered in the next tick", {})


def _why_pending(scheduler: DagScheduler, node: TaskNode) -> Why:
    waits_for = {dep.id: dep.state.value for dep in node.deps if not dep.settled}
    if not waits_for:
        return Why("not_started", f"the run has not begun with {node.id} yet", {})
    names = [f"{name} ({state})" for name, state in list(waits_for.items())[:NAMES]]
    if len(waits_for) > NAMES:
        names.append(f"{len(waits_for) - NAMES} more")
    how = "one of " if node.spec.run_if is RunIf.ANY_COMPLETED and len(waits_for) > 1 else ""
    paused = "; the run is paused" if scheduler.status is RunState.PAUSED else ""
    text = f"{node.id} waits for {how}{', '.join(names)}{paused}"
    return Why("dependencies", text, {"waits_for": waits_for})


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{max(0.0, seconds):.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
