"""Facts that come in, and the vocabulary in which everything that happens is told.

Tuples with names, because they are immutable and cost a tenth of a frozen dataclass to make.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Completed(NamedTuple):
    """The attempt did its work. `value` is the result; the core never looks into it."""

    value: Any = None


class Failed(NamedTuple):
    """The attempt failed. A `permanent` failure is not retried."""

    error: str
    permanent: bool = False
    value: Any = None
    """What it left behind all the same (exit code, partial output)."""
    fatal: bool = False
    """Whether the run ends with it, whatever the task's failure strategy is: others would fail as well."""


class Canceled(NamedTuple):
    """The attempt stopped because it was asked to."""

    reason: str = ""


class Lost(NamedTuple):
    """Whoever ran the attempt is gone: a dead worker, process, thread, node, or a crash of ours."""

    reason: str


class Deferred(NamedTuple):
    """The attempt could not be made for now: a provider's rate limit or overload. No verdict on the task."""

    reason: str
    retry_after: float | None = None
    """Seconds, as the other side asked; None if it did not say."""


Outcome = Completed | Failed | Canceled | Lost | Deferred


class TaskEvent(NamedTuple):
    """The end of one attempt: every attempt has exactly one."""

    task: str
    handle: str
    outcome: Outcome
    at: float
    """Seconds on the clock that `tick(now)` uses."""


class Change(NamedTuple):
    """Something that happened in a run, in the vocabulary that journal, `--json` and all faces share.

    Types: `run.created|started|paused|resumed|completed|failed|canceled`, `plan.*`,
    `task.added|ready|started|deferred|completed|failed|retrying|skipped|canceling|canceled|awaiting_approval`,
    and `task.pending` for one that a person wants after all, or approved before its turn; `plan.closed` when
    the graph will not grow any more, `run.ending` (data `status`, `reason`) when what runs is to stop.

    `task.failed` has data `asks: true` when the task now waits for a person's decision, and is told again,
    with `decision: skip | abort`, when a person left it at that.
    """

    at: float
    type: str
    task: str | None = None
    attempt: str | None = None
    data: dict[str, Any] | None = None
