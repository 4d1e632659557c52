"""`Course`: the state of a run, and every step that it can take."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Any

from allready.core import policy
from allready.core.actions import Cancel, Done
from allready.core.events import Canceled, Change, Deferred, Failed, Lost
from allready.core.graph import TaskGraph, TaskNode, TaskSpec
from allready.core.learning import Learning
from allready.core.ready import ReadyQueue
from allready.core.states import (
    AWAITING_APPROVAL,
    CANCELED,
    CANCELING,
    COMPLETED,
    FAILED,
    PENDING,
    READY,
    RUN_ENDED,
    RUN_TRANSITIONS,
    RUNNING,
    SKIPPED,
    FailureStrategy,
    RunIf,
    RunState,
    TaskState,
    no_transition,
)

STORY_LENGTH = 20_000
"""Steps that are remembered for the story of a task in an error."""
NAMES_IN_A_REASON = 10
"""Stuck tasks that a reason names; more are counted."""
LEFT_PAUSED = {"interrupt": "interrupted", "limit": "a limit of the run is reached"}
"""Reasons of a pause that a driver does not wait out, but leaves once nothing runs → what it is told."""


@dataclass(slots=True)
class Statistics:
    """Counts of what happened since the scheduler was made."""

    ticks: int = 0
    offers: int = 0
    spawns: int = 0
    refusals: int = 0
    spawn_failures: int = 0
    events: int = 0
    stale_events: int = 0
    retries: int = 0
    deferrals: int = 0


class Course:
    """Where a run stands and how it moves on: ends of attempts, what follows from them, the end of the run.

    The lower half of `DagScheduler`: it knows nothing of batches and drivers. Whoever calls these methods
    says when (`at`, `now`); each step passes the tables of transitions and is noted.
    """

    def __init__(
        self,
        graph: TaskGraph,
        *,
        seed: int,
        route: Callable[[TaskSpec], str | None] | None,
        timeout: float | None,
        record: bool,
    ) -> None:
        self.graph = graph
        self.seed = seed
        self.timeout = timeout
        self.status = RunState.CREATED
        self.error: str | None = None
        """Why the run failed or was canceled."""
        self.started_at: float | None = None
        self.finished_at: float | None = None
        self.ending: RunState | None = None
        """How the run will end, once everything that runs has stopped."""
        self.pause_reason: str | None = None
        """`person`, `interrupt`, `limit`, or `decision` (only a person can go on); None unless paused."""
        self.paused_at: float | None = None
        self.deadline: float | None = None
        """When the whole run is out of time."""
        self.asking = 0
        """How many failed tasks wait for a person's decision."""
        self.statistics = Statistics()
        self.changes: list[Change] | None = [] if record else None
        self._learning: Learning | None = None
        self._ready = ReadyQueue(route)
        self._story: deque[tuple[float, str, str]] = deque(maxlen=STORY_LENGTH)
        self._delayed: list[tuple[float, int, TaskNode]] = []
        """Ready tasks that are not offered before their time."""
        self._deadlines: list[tuple[float, int, str, TaskNode]] = []
        self._actions: deque[Cancel] = deque()
        """What the next batch has to ask for."""
        self._fresh = True
        """Whether there is something to do that no batch has offered yet."""

    # --- how attempts end -----------------------------------------------------------------------------

    def _complete(self, node: TaskNode, at: float) -> None:
        node.finished_at = at
        node.error = None
        node.cancel_reason = None
        node.deferrals = 0
        self._set(node, COMPLETED, at, "task.completed", node.handle, self._end_data)
        if self._learning is not None:
            assert node.started_at is not None
            self._learning.completed(node.spec, at - node.started_at)
        if node.dependents and self.ending is None:
            self._settle(node, at)

    def _stopped(self, node: TaskNode, outcome: Failed | Canceled | Lost | Deferred, at: float) -> None:
        """Take the end of an attempt that was asked to stop: why it was asked decides what it means."""
        reason = node.cancel_reason
        node.cancel_reason = None
        if reason == "timeout":
            text = outcome.error if isinstance(outcome, Failed) else self._timeout_text(node)
            self._attempt_failed(node, text, isinstance(outcome, Failed) and outcome.permanent, at)
        elif reason == "interrupt" and self.ending is None:
            self._lost(node, "interrupted", at, delay=False)
        else:
            node.finished_at = at
            node.error = reason
            self._set(node, CANCELED, at, "task.canceled", node.handle, self._end_data)

    @staticmethod
    def _timeout_text(node: TaskNode) -> str:
        return f"timed out after {node.spec.timeout:g} s"

    def _attempt_failed(
        self, node: TaskNode, error: str, permanent: bool, at: float, *, fatal: bool = False
    ) -> None:
        node.deferrals = 0
        if not (permanent or fatal) and self.ending is None and node.retries < node.spec.retries:
            node.retries += 1
            self.statistics.retries += 1
            delay = policy.retry_delay(node.retries, self.seed, node.index)
            node.error = error
            data = {"error": error, "delay": round(delay, 3), "retry": node.retries}
            self._wait(node, at, delay, "task.retrying", data)
        else:
            self._fail(node, error, at, FailureStrategy.ABORT if fatal else node.spec.failure_strategy)

    def _fail(self, node: TaskNode, error: str, at: float, strategy: FailureStrategy) -> None:
        node.error = error
        node.finished_at = at
        node.queued = False
        if strategy is FailureStrategy.ASK and self.ending is None:
            self._ask(node)
        self._set_failed(node, at)
        if self.ending is not None or node.asking:
            return
        if strategy is FailureStrategy.SKIP:
            self._settle(node, at)
        else:
            self._begin_end(RunState.FAILED, f"task {node.spec.id!r} failed: {error}", "abort", at)

    def _set_failed(self, node: TaskNode, at: float) -> None:
        """Move to failed. What could not even be started has no attempt that this would be the end of."""
        if node.state is READY:
            self._set(node, FAILED, at, "task.failed", None, self._failure_data)
        else:
            self._set(node, FAILED, at, "task.failed", node.handle, self._end_data)

    def _ask(self, node: TaskNode) -> None:
        node.asking = True
        self.asking += 1

    def _lost(self, node: TaskNode, reason: str, at: float, *, delay: bool = True) -> None:
        """An attempt ended without a verdict, its worker gone: again, unless that could do harm."""
        if node.spec.idempotent:
            self._defer(node, reason, None if delay else 0.0, at)
            return
        node.error = f"{reason}; not run again by itself, because the task is not idempotent"
        node.finished_at = at
        self._ask(node)
        self._set_failed(node, at)

    def _defer(self, node: TaskNode, reason: str, retry_after: float | None, at: float) -> None:
        node.deferrals += 1
        self.statistics.deferrals += 1
        node.error = reason
        delay = policy.defer_delay(node.deferrals, retry_after, self.seed, node.index)
        self._wait(node, at, delay, "task.deferred", {"reason": reason, "delay": round(delay, 3)})

    def _wait(self, node: TaskNode, at: float, delay: float, kind: str, data: dict[str, Any]) -> None:
        """Put a task (back) to ready, not to be offered before `delay` seconds have passed."""
        node.not_before = at + delay
        if node.state is READY:
            self._note(node.spec.id, at, kind, None, data)
        else:
            self._set(node, READY, at, kind, node.handle, data)
        heappush(self._delayed, (node.not_before, node.index, node))

    # --- what follows from an end ---------------------------------------------------------------------

    def _settle(self, node: TaskNode, at: float) -> None:
        """Tell the dependents, and theirs, that `node` has ended for good."""
        ready: list[TaskNode] = []
        skipped: list[TaskNode] = []
        self.graph.settle(node, ready, skipped)
        while skipped:
            other = skipped.pop()
            if other.state is PENDING:
                self._skip(other, self._skip_reason(other), at)
                self.graph.settle(other, ready, skipped)
        for other in ready:
            self._make_ready(other, at)

    @staticmethod
    def _skip_reason(node: TaskNode) -> str:
        if node.spec.run_if is RunIf.ANY_COMPLETED:
            return "no dependency completed"
        dep = next(dep for dep in node.deps if dep.settled and dep.state is not COMPLETED)
        return f"dependency {dep.id!r} {'was ' if dep.state is SKIPPED else ''}{dep.state}"

    def _skip(self, node: TaskNode, reason: str, at: float) -> None:
        node.error = reason
        node.finished_at = at
        node.queued = False
        self._set(node, SKIPPED, at, "task.skipped", None, {"reason": reason})

    def _make_ready(self, node: TaskNode, at: float) -> None:
        if node.spec.approval and not node.approved:
            self._set(node, AWAITING_APPROVAL, at, "task.awaiting_approval")
        else:
            self._set(node, READY, at, "task.ready")
            self._ready.put(node)
            self._fresh = True

    def _start(self, now: float) -> None:
        self._set_run(RunState.RUNNING, now, "run.started")
        self.started_at = now
        if self.timeout is not None:
            self.deadline = now + self.timeout
        self._admit(self.graph.nodes, now)

    def _admit(self, nodes: Iterable[TaskNode], at: float) -> None:
        """Give pending tasks the state that their dependencies call for."""
        for node in nodes:
            if node.state is PENDING:
                verdict = self.graph.verdict(node)
                if verdict is READY:
                    self._make_ready(node, at)
                elif verdict is SKIPPED:
                    self._skip(node, self._skip_reason(node), at)
                    self._settle(node, at)

    def _wake_delayed(self, now: float) -> None:
        delayed = self._delayed
        while delayed and delayed[0][0] <= now:
            due, _, node = heappop(delayed)
            if node.state is READY and node.not_before == due and not node.queued:
                node.not_before = None
                self._ready.put(node)
                self._fresh = True

    def _push_deadline(self, deadline: float, node: TaskNode, handle: str) -> None:
        deadlines = self._deadlines
        heappush(deadlines, (deadline, node.index, handle, node))
        # most attempts end long before their deadline: without this a heap of a million stale ones would
        # grow; halving it each time keeps the cost constant per attempt
        if len(deadlines) > 64 + 4 * (self.graph.counts[RUNNING] + 1):
            self._deadlines = [entry for entry in deadlines if self._is_current(entry)]
            heapify(self._deadlines)

    @staticmethod
    def _is_current(entry: tuple[float, int, str, TaskNode]) -> bool:
        """Whether a deadline is that of an attempt which runs; one that began late has another by now."""
        deadline, _, handle, node = entry
        if node.state is not RUNNING or node.handle != handle:
            return False
        started, timeout = node.started_at, node.spec.timeout
        assert started is not None
        assert timeout is not None
        return deadline == started + timeout

    def _expire(self, now: float) -> None:
        deadlines = self._deadlines
        while deadlines and deadlines[0][0] <= now:
            entry = heappop(deadlines)
            if self._is_current(entry):
                self._ask_to_stop(entry[3], "timeout", now)
        running = self.status is RunState.RUNNING and self.ending is None
        if self.deadline is not None and self.deadline <= now and running:
            self._begin_end(
                RunState.FAILED, f"the run timed out after {self.timeout:g} s", "run timeout", now
            )

    def _ask_to_stop(self, node: TaskNode, reason: str, at: float) -> None:
        handle = node.handle
        assert handle is not None
        if node.state is RUNNING:
            self._set(node, CANCELING, at, "task.canceling", handle, {"reason": reason})
            self._actions.append(Cancel(node.spec.id, handle, reason))
            self._fresh = True
        else:
            self._note(node.spec.id, at, "task.canceling", handle, {"reason": reason})
        node.cancel_reason = reason

    def _begin_end(self, status: RunState, error: str, reason: str, at: float) -> None:
        """Stop what runs, cancel what has not begun; the run ends when the last attempt has stopped."""
        self.ending = status
        self.error = error
        self._fresh = True
        self._note(None, at, "run.ending", None, {"status": status.value, "reason": error})
        for node in self.graph.nodes:
            state = node.state
            if state is RUNNING or state is CANCELING:
                self._ask_to_stop(node, reason, at)
            elif state is PENDING or state is READY or state is AWAITING_APPROVAL:
                node.queued = False
                node.finished_at = at
                node.error = reason
                self._set(node, CANCELED, at, "task.canceled", None, {"reason": reason})
            elif node.asking:
                self._decide(node, "abort", at)

    def _decide(self, node: TaskNode, decision: str, at: float) -> None:
        """Take the answer to a task that asks: it stays failed, or is retried."""
        node.asking = False
        self.asking -= 1
        if decision != "retry":  # that is told by what becomes of the task
            data = {"error": node.error, "decision": decision}
            self._note(node.spec.id, at, "task.failed", node.handle, data)

    def _check_end(self, at: float) -> Done | None:
        """Notice that nothing can happen any more without help."""
        graph = self.graph
        if graph.active or self.status in RUN_ENDED:
            return None
        if self.ending is not None:
            return self._end(self.ending, self.error, at)
        if not graph.open and not graph.unended and not self.asking:
            return self._end(RunState.COMPLETED, None, at)
        if self.pause_reason in LEFT_PAUSED:
            return Done(RunState.PAUSED, LEFT_PAUSED[self.pause_reason])
        counts = graph.counts
        if graph.open or counts[READY] or self.status is RunState.PAUSED:
            return None
        if counts[AWAITING_APPROVAL] or self.asking:
            reason = self.waits_for_person()
            self._pause("decision", at, reason)
            return Done(RunState.PAUSED, reason)
        reason = self._deadlock_text()
        for node in graph.nodes:
            if node.state is PENDING:
                node.finished_at = at
                node.error = "the graph can't go on"
                self._set(node, CANCELED, at, "task.canceled", None, {"reason": node.error})
        self.error = reason
        return self._end(RunState.FAILED, reason, at)

    def _end(self, status: RunState, error: str | None, at: float) -> Done:
        self.finished_at = at
        self._set_run(status, at, f"run.{status.value}", {"error": error} if error else None)
        self.ending = None
        self.pause_reason = None
        return Done(status, error)

    def _pause(self, reason: str, now: float, text: str) -> None:
        if self.status is RunState.CREATED:
            self._start(now)
        self.pause_reason = reason
        if self.status is RunState.PAUSED:  # by somebody else now, or more of it
            self._note(None, now, "run.paused", None, {"reason": text})
        else:
            self.paused_at = now
            self._set_run(RunState.PAUSED, now, "run.paused", {"reason": text})

    def _resume(self, now: float) -> None:
        self.pause_reason = None
        if self.deadline is not None and self.paused_at is not None:
            self.deadline += now - self.paused_at
        self.paused_at = None
        self._set_run(RunState.RUNNING, now, "run.resumed")

    def _restart(self, now: float) -> None:
        """Lead an ended run back to running."""
        self.error = None
        self.finished_at = None
        if self.timeout is not None:
            self.deadline = now + self.timeout
        self._set_run(RunState.RUNNING, now, "run.resumed", {"reason": "retry"})

    def waits_for_person(self) -> str:
        """Name the tasks that a person has to decide on; empty if there are none."""
        nodes = self.graph.nodes
        failed = [node.id for node in nodes if node.asking]
        approval = [node.id for node in nodes if node.state is AWAITING_APPROVAL]
        parts = []
        if approval:
            parts.append(f"approval of {_names(approval)}")
        if failed:
            parts.append(f"a decision on failed {_names(failed)}")
        return f"waits for {' and '.join(parts)}" if parts else ""

    def _deadlock_text(self) -> str:
        stuck = [node for node in self.graph.nodes if node.state is PENDING]
        told = []
        for node in stuck[:NAMES_IN_A_REASON]:
            waits_for = [f"{dep.id} ({dep.state})" for dep in node.deps if not dep.settled]
            told.append(f"{node.id} waits for {_names(waits_for)}")
        more = f"; and {len(stuck) - len(told)} more" if len(stuck) > len(told) else ""
        return f"deadlock: nothing runs and nothing can start: {'; '.join(told)}{more}"

    # --- keeping the record ---------------------------------------------------------------------------

    def _set(
        self,
        node: TaskNode,
        state: TaskState,
        at: float,
        kind: str,
        handle: str | None = None,
        data: dict[str, Any] | Callable[[TaskNode], dict[str, Any]] | None = None,
    ) -> None:
        """Move a task through the table, and note it."""
        self.graph.move(node, state)
        self._story.append((at, node.spec.id, kind))
        if self.changes is not None:
            told = data(node) if callable(data) else data
            self.changes.append(Change(at, kind, node.spec.id, handle, told))

    def _note(
        self,
        task: str | None,
        at: float,
        kind: str,
        handle: str | None = None,
        data: dict[str, Any] | None = None,
    ) -> None:
        """Note something that is no change of state."""
        self._story.append((at, task or "", kind))
        if self.changes is not None:
            self.changes.append(Change(at, kind, task, handle, data))

    def _set_run(self, status: RunState, at: float, kind: str, data: dict[str, Any] | None = None) -> None:
        if status not in RUN_TRANSITIONS[self.status]:
            raise no_transition("the run", self.status, status)
        self.status = status
        self._fresh = True
        self._story.append((at, "", kind))
        if self.changes is not None:
            self.changes.append(Change(at, kind, None, None, data))

    @staticmethod
    def _start_data(node: TaskNode) -> dict[str, Any]:
        data: dict[str, Any] = {"number": node.attempts}
        if node.agent is not None:
            data["agent"] = node.agent
        return data

    @staticmethod
    def _end_data(node: TaskNode) -> dict[str, Any]:
        assert node.started_at is not None
        assert node.finished_at is not None
        data: dict[str, Any] = {"duration_ms": round((node.finished_at - node.started_at) * 1000)}
        return data | Course._failure_data(node)

    @staticmethod
    def _failure_data(node: TaskNode) -> dict[str, Any]:
        data: dict[str, Any] = {}
        if node.error is not None:
            data["error"] = node.error
        if node.asking:
            data["asks"] = True
        return data

    def story(self, task: str) -> list[str]:
        """Give what happened to a task, as far as it is remembered: one line a step."""
        return [f"{at:.3f} {kind}" for at, name, kind in self._story if name in {task, ""}]


def _names(names: list[str]) -> str:
    told = ", ".join(names[:NAMES_IN_A_REASON])
    return told if len(names) <= NAMES_IN_A_REASON else f"{told} and {len(names) - NAMES_IN_A_REASON} more"
