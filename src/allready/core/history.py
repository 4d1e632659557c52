"""Playing a journal again: the recorded inputs through a new scheduler, which must decide the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from allready.core.actions import Action, Cancel, Done, RunInline, Spawn
from allready.core.events import Canceled, Change, Completed, Deferred, Failed, Lost, Outcome, TaskEvent
from allready.core.scheduler import DagScheduler
from allready.core.snapshot import spec_from_json
from allready.errors import (
    AllreadyError,
    ConcurrencyLimit,
    PermanentError,
    ReplayDiverged,
    TaskError,
)

OUTCOMES: dict[str, type[Outcome]] = {
    kind.__name__: kind for kind in (Completed, Failed, Canceled, Lost, Deferred)
}
REPORTS = frozenset({"spawn", "refuse", "spawn_failed"})
"""Inputs that answer an offer."""
TIMED = frozenset({"tick", "event", "command", "add", "close", "learn", *REPORTS})
"""Inputs whose last value is when they came."""
_TASK_AT = {"late": 2, "command": 2, "event": 1, "offer": 1, "cancel": 1, **dict.fromkeys(REPORTS, 1)}
"""Where in an input its task stands, if it is about one."""
DECIDED = ("number", "agent", "delay", "retry", "scope", "asks", "decision", "status", "approved")
"""What a recorded event tells of a decision; the rest of it is wording, durations and the like."""


class Replay:
    """Feeds recorded inputs (`DagScheduler.inputs`, also after a way through JSON) to a new scheduler.

    Every offer, cancel and end is compared with what was recorded; the first that differs raises
    `ReplayDiverged`. Inputs may be fed in parts, for as long as the run goes on. With `events`, what the
    recorded scheduler told (`DagScheduler.changes`), that is compared as well, one by one: states, attempts,
    delays. The new scheduler has to record then; its `inputs` and `changes` are taken from it.

    A report (`spawn`, `refuse`, `spawn_failed`) stands for the offer that it answers at once. What was not
    answered at once is recorded as `offer`, its answer, if one came after all, as `late`; `end` is the end of
    a batch with such offers, `leave` that of one left early.
    """

    def __init__(self, scheduler: DagScheduler, events: Iterable[Change] | None = None) -> None:
        self.scheduler = scheduler
        self.steps = 0
        """Inputs fed so far."""
        self.batches = 0
        """Ticks among them."""
        self.decisions = 0
        """Offers, cancels and ends that were compared and are the same."""
        self.events = 0
        """Events that were compared and are the same."""
        self.at: float | None = None
        """Time of the input that was fed last, as far as it has one."""
        self._events = None if events is None else iter(events)
        self._batch: Iterator[Action] = iter(())

    def feed(self, inputs: Iterable[list[Any]]) -> None:
        """Play these inputs. Raises `ReplayDiverged` where the scheduler decides otherwise."""
        for entry in inputs:
            self.steps += 1
            if entry[0] in TIMED:
                self.at = entry[-1]
            try:
                self._play(entry)
            except ReplayDiverged:
                raise
            except AllreadyError as error:  # what was possible when it was recorded is not any more
                raise self._diverged(entry, f"refuses that: {error}", task_of(entry)) from error
            if self._events is not None:
                self._compare_events(self._events)

    def _play(self, entry: list[Any]) -> None:
        kind, *rest = entry
        if kind in REPORTS:
            self._expect_offer(entry, rest[0])
            self._report(entry)
        elif kind == "offer":
            self._expect_offer(entry, rest[0])
            self.scheduler._hold_offered()
        elif kind == "end":
            self._no_more_actions(entry)
        elif kind == "late":
            self._report(rest)
        elif kind in {"leave", "recover"}:
            self._batch = iter(())
            self._feed_input(kind, rest)
        elif kind == "cancel":
            self._expect(entry, lambda action: isinstance(action, Cancel) and [*action[:2]] == rest)
        elif kind == "done":
            self._expect(entry, lambda action: isinstance(action, Done) and [action.status] == rest)
        else:
            self._no_more_actions(entry)
            self._feed_input(kind, rest)

    def finish(self, *, ended: bool = False) -> None:
        """Say that there are no more inputs: the scheduler must not want anything else either.

        `ended`: nor may any of the recorded events be left; without it the recorded run may have gone on.
        """
        self._no_more_actions(["the end of the journal"])
        missing = next(self._events, None) if ended and self._events is not None else None
        if missing is not None:
            raise self._diverged(_told(missing), "wants nothing of the kind", missing.task)

    def _feed_input(self, kind: str, rest: list[Any]) -> None:
        scheduler = self.scheduler
        match kind, rest:
            case "tick", [now]:
                self.batches += 1
                self._batch = scheduler.tick(now)
            case "backoff", [success, refused]:
                scheduler.record_batch_backoff(success, refused)
            case "event", [task, handle, outcome, fields, at] if outcome in OUTCOMES:
                scheduler.handle(TaskEvent(task, handle, OUTCOMES[outcome](*fields), at))
            case "command", [command, task, now]:
                scheduler.command(command, task, now)
            case "add", [specs, now]:
                scheduler.add_tasks([spec_from_json(spec) for spec in specs], now)
            case "close", [now]:
                scheduler.close(now)
            case "learn", [now]:
                scheduler.learn(now)
            case "leave", []:
                scheduler._leave_batch()
            case "began_late", [handles, now]:
                self.at = now
                scheduler.began_late(handles, now)
            case "recover", [now, down_for]:
                self.at = now
                scheduler.recover(now, down_for)
            case _:
                raise self._unknown([kind, *rest])

    def _report(self, entry: list[Any]) -> None:
        task = entry[1]
        match entry[0], entry[2:]:
            case "spawn", [handle, now]:
                self.scheduler.record_spawn(task, handle, now)
            case "refuse", [reason, scope, active, most, now]:
                limit = ConcurrencyLimit(reason, scope, active, most)
                self.scheduler.record_spawn_failure(task, limit, now)
            case "spawn_failed", [text, permanent, now]:
                error = PermanentError(text) if permanent else TaskError(text)
                self.scheduler.record_spawn_failure(task, error, now)
            case _:
                raise self._unknown(entry)

    # --- comparing ------------------------------------------------------------------------------------

    def _expect_offer(self, entry: list[Any], task: str) -> None:
        self._expect(entry, lambda action: isinstance(action, Spawn | RunInline) and action.task == task)

    def _expect(self, entry: list[Any], matches: Callable[[Action], bool]) -> None:
        action = next(self._batch, None)
        if action is None or not matches(action):
            raise self._diverged(entry, f"wants {action}", task_of(entry) or _task_wanted(action))
        self.decisions += 1

    def _no_more_actions(self, entry: list[Any]) -> None:
        action = next(self._batch, None)
        if action is not None:
            raise self._diverged(entry, f"wants {action}", _task_wanted(action))

    def _compare_events(self, recorded: Iterator[Change]) -> None:
        scheduler = self.scheduler
        scheduler.inputs = []
        changes, scheduler.changes = scheduler.changes or [], []
        for change in changes:
            expected = next(recorded, None)
            if expected is None:
                raise self._diverged(["no event"], f"tells {_told(change)}", change.task)
            if _decided(change) != _decided(expected):
                task = expected.task if expected.task is not None else change.task
                raise self._diverged(_told(expected), f"tells {_told(change)}", task)
            self.events += 1

    def _diverged(self, entry: list[Any], does: str, task: str | None) -> ReplayDiverged:
        scheduler = self.scheduler
        known = task is not None and task in scheduler.graph
        why = scheduler.why(task, self.at or 0.0).text if known and task is not None else None
        return ReplayDiverged(
            f"step {self.steps}: recorded {entry}, but the scheduler now {does}",
            step=self.steps,
            at=self.at,
            task=task,
            recorded=entry,
            now=does,
            why=why,
            story=scheduler.story(task or ""),
        )

    def _unknown(self, entry: list[Any]) -> ReplayDiverged:
        return ReplayDiverged(
            f"step {self.steps}: unknown input {entry}",
            step=self.steps,
            at=self.at,
            recorded=entry,
            now="does not know this input",
        )


def task_of(entry: list[Any]) -> str | None:
    """Give the task that an input is about; None if it is about the run."""
    place = _TASK_AT.get(entry[0])
    task = entry[place] if place is not None and place < len(entry) else None
    return task if isinstance(task, str) else None


def _task_wanted(action: Action | None) -> str | None:
    return None if action is None or isinstance(action, Done) else action.task


def _decided(change: Change) -> tuple[Any, ...]:
    """Give what of an event follows from the scheduler's decisions."""
    data = change.data or {}
    return (*change[:4], *(data.get(name) for name in DECIDED))


def _told(change: Change) -> list[Any]:
    data = change.data or {}
    parts = [change.type, change.task, change.attempt, {name: data[name] for name in DECIDED if name in data}]
    return [part for part in parts if part]
