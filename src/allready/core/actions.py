"""Wishes that go out: what the scheduler wants its driver to do."""

from __future__ import annotations

from typing import NamedTuple

from allready.core.states import RunState


class Spawn(NamedTuple):
    """Offer this task to the pool. Answer with `record_spawn` or `record_spawn_failure`."""

    task: str
    agent: str | None = None
    number: int = 1
    """Which attempt this will be, from 1."""


class RunInline(NamedTuple):
    """Run this task beside the loop, on the inline limit. Answered like a `Spawn`."""

    task: str
    number: int = 1


class Cancel(NamedTuple):
    """Ask this attempt to stop. Its terminal event says how that went."""

    task: str
    handle: str
    reason: str


class Done(NamedTuple):
    """Nothing is left to do: the run has ended, or (`paused`) only a person can go on."""

    status: RunState
    reason: str | None = None


Action = Spawn | RunInline | Cancel | Done
