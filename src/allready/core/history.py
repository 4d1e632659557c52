"""Playing a journal again: the recorded inputs through a new scheduler, which must decide the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from allready.core.actions import Action, Cancel, Done, RunInline, Spawn
from allready.core.events import Canceled, Completed, Deferred, Failed, Lost, Outcome, TaskEvent
from allready.core.scheduler import DagScheduler
from allready.core.snapshot import spec_from_json
from allready.errors import ConcurrencyLimit, PermanentError, ReplayDiverged, TaskError

OUTCOMES: dict[str, type[Outcome]] = {
    kind.__name__: kind for kind in (Completed, Failed, Canceled, Lost, Deferred)
}
REPORTS = frozenset({"spawn", "refuse", "spawn_failed"})
"""Inputs that answer an offer."""


class Replay:
    """Feeds recorded inputs (`DagScheduler.inputs`, also after a way through JSON) to a new scheduler.

    Every offer, cancel and end is compared with what was recorded; the first that differs raises
    `ReplayDiverged`. Inputs may be fed in parts, for as long as the run goes on.

    A report (`spawn`, `refuse`, `spawn_failed`) stands for the offer that it answers at once. What was not
    answered at once is recorded as `offer`, its answer, if one came after all, as `late`; `end` is the end of
    a batch with such offers, `leave` that of one left early.
    """

    def __init__(self, scheduler: DagScheduler) -> None:
        self.scheduler = scheduler
        self.steps = 0
        """Inputs fed so far."""
        self._batch: Iterator[Action] = iter(())

    def feed(self, inputs: Iterable[list[Any]]) -> None:
        """Play these inputs. Raises `ReplayDiverged` where the scheduler decides otherwise."""
        for entry in inputs:
            self.steps += 1
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
                self._expect(
                    entry, lambda action, rest=rest: isinstance(action, Cancel) and [*action[:2]] == rest
                )
            elif kind == "done":
                self._expect(
                    entry, lambda action, rest=rest: isinstance(action, Done) and [action.status] == rest
                )
            else:
                self._no_more_actions(entry)
                self._feed_input(kind, rest)

    def finish(self) -> None:
        """Say that there are no more inputs: the scheduler must not want anything else either."""
        self._no_more_actions(["the end of the journal"])

    def _feed_input(self, kind: str, rest: list[Any]) -> None:
        scheduler = self.scheduler
        match kind, rest:
            case "tick", [now]:
                self._batch = scheduler.tick(now)
            case "backoff", [success, refused]:
                scheduler.record_batch_backoff(success, refused)
            case "event", [task, handle, outcome, fields, at]:
                scheduler.handle(TaskEvent(task, handle, OUTCOMES[outcome](*fields), at))
            case "command", [command, task, now]:
                scheduler.command(command, task, now)
            case "add", [specs, now]:
                scheduler.add_tasks([spec_from_json(spec) for spec in specs], now)
            case "close", [now]:
                scheduler.close(now)
            case "leave", []:
                scheduler._leave_batch()
            case "recover", [now, down_for]:
                scheduler.recover(now, down_for)
            case _:
                raise self._unknown([kind, *rest])

    def _expect_offer(self, entry: list[Any], task: str) -> None:
        self._expect(entry, lambda action: isinstance(action, Spawn | RunInline) and action.task == task)

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

    def _expect(self, entry: list[Any], matches: Any) -> None:
        action = next(self._batch, None)
        if action is None or not matches(action):
            raise ReplayDiverged(f"step {self.steps}: recorded {entry}, but the scheduler now wants {action}")

    def _no_more_actions(self, entry: list[Any]) -> None:
        action = next(self._batch, None)
        if action is not None:
            raise ReplayDiverged(f"step {self.steps}: recorded {entry}, but the scheduler now wants {action}")

    def _unknown(self, entry: list[Any]) -> ReplayDiverged:
        return ReplayDiverged(f"step {self.steps}: unknown input {entry}")
