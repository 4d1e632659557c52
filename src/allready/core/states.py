"""The states of tasks and runs, and the only tables of transitions between them.

Theory of operation
-------------------
A run is a graph of tasks. The scheduler is told facts (`events`, reports on what the driver did, commands of
a person) together with the time, and answers with wishes (`actions`). It never does anything itself, so
its whole behaviour is in the state it keeps, and that state changes only through the tables below: `move()`
looks up every step and raises `InvalidTransition` for one that is missing, in tests and in production.

A task's way:

    pending ──► ready ──► running ──► completed
       │  ▲       ▲ │        │  ╲
       │  │       │ │        │   ► failed ──► ready           (a person retries)
       ▼  │       │ │        ▼
    awaiting_     │ └──► skipped ──► pending                  (a person wants it after all)
    approval ─────┘       canceled ──► pending                (the run is retried)
                  ▲          ▲
                  └─ canceling ──► completed | failed | canceled | ready

* *pending*: some dependency has not ended in the way that `run_if` wants.
* *awaiting_approval*: its dependencies are there, a person has to agree. Only its own branch waits.
* *ready*: may be offered to the pool. That the pool refuses is no step at all: the task stays ready. A task
  whose attempt ended without a verdict (a rate limit, a lost worker) or that is to be retried goes from
  running back to ready, and carries the time before which it is not offered.
* *running*: an attempt, named by its handle, has a place in the pool. Only an event with that very handle
  moves the task on; any other is stale.
* *canceling*: the attempt was asked to stop and has not yet said that it did. It may still complete. Why it
  was asked decides what the end means: after a timeout the task failed (or is retried), after a cancel it is
  canceled, after an interrupt it is ready again.
* *completed*, *failed*, *skipped*, *canceled* are ends. Only a person leads out of the last three. A failed
  task that is retried together with one that it waits for (`run_if: all_done`) is pending first; one that
  has not begun yet becomes pending again when a dependency, which had failed, is retried.

Between `ready` and `running` stands the offer: `tick()` hands out every ready task, the driver asks the pool,
and reports `record_spawn` (running) or `record_spawn_failure` (a refusal: still ready; else failed or retry).

A run is *created*, *running*, *paused* (by a person, or because only a person can go on), or at its end.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from allready.errors import InvalidTransition


class TaskState(StrEnum):
    """Where a task is; see the module's head for what each state means."""

    PENDING = "pending"
    AWAITING_APPROVAL = "awaiting_approval"
    READY = "ready"
    RUNNING = "running"
    CANCELING = "canceling"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELED = "canceled"


class RunState(StrEnum):
    """Where a run is."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"


class FailureStrategy(StrEnum):
    """What the failure of a task does to the run, once its retries are used up."""

    ABORT = "abort"
    """Cancel what runs; the run fails."""
    RETRY = "retry"
    """As `abort`, but with 3 retries unless `max_retries` says otherwise."""
    SKIP = "skip"
    """The task stays failed, its dependents are skipped, the rest goes on."""
    ASK = "ask"
    """A person decides: retry, skip or abort. The other branches go on."""


class RunIf(StrEnum):
    """When the dependencies of a task let it go."""

    ALL_COMPLETED = "all_completed"
    ALL_DONE = "all_done"
    """All have ended, also failed or skipped."""
    ANY_COMPLETED = "any_completed"
    """As soon as one has completed."""


PENDING = TaskState.PENDING
AWAITING_APPROVAL = TaskState.AWAITING_APPROVAL
READY = TaskState.READY
RUNNING = TaskState.RUNNING
CANCELING = TaskState.CANCELING
COMPLETED = TaskState.COMPLETED
FAILED = TaskState.FAILED
SKIPPED = TaskState.SKIPPED
CANCELED = TaskState.CANCELED

TASK_TRANSITIONS: Mapping[TaskState, frozenset[TaskState]] = {
    PENDING: frozenset({READY, AWAITING_APPROVAL, SKIPPED, CANCELED}),
    AWAITING_APPROVAL: frozenset({READY, PENDING, SKIPPED, CANCELED}),
    READY: frozenset({RUNNING, PENDING, FAILED, SKIPPED, CANCELED}),
    RUNNING: frozenset({COMPLETED, FAILED, READY, CANCELING}),
    CANCELING: frozenset({COMPLETED, FAILED, READY, CANCELED}),
    COMPLETED: frozenset(),
    FAILED: frozenset({READY, PENDING}),
    SKIPPED: frozenset({PENDING}),
    CANCELED: frozenset({PENDING}),
}

RUN_TRANSITIONS: Mapping[RunState, frozenset[RunState]] = {
    RunState.CREATED: frozenset({RunState.RUNNING}),
    RunState.RUNNING: frozenset({RunState.PAUSED, RunState.COMPLETED, RunState.FAILED, RunState.CANCELED}),
    RunState.PAUSED: frozenset({RunState.RUNNING, RunState.COMPLETED, RunState.FAILED, RunState.CANCELED}),
    RunState.COMPLETED: frozenset(),
    RunState.FAILED: frozenset({RunState.RUNNING}),
    RunState.CANCELED: frozenset({RunState.RUNNING}),
}

ENDED = frozenset({COMPLETED, FAILED, SKIPPED, CANCELED})
"""States of a task that has ended."""

RUN_ENDED = frozenset({RunState.COMPLETED, RunState.FAILED, RunState.CANCELED})
"""States of a run that has ended."""


def no_transition(what: str, old: TaskState | RunState, new: TaskState | RunState) -> InvalidTransition:
    """Give the error for a step that the tables lack."""
    return InvalidTransition(f"{what}: no transition leads from {old} to {new}")
