"""`DagScheduler`: decides what happens next in a run; pure, and told everything it knows."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Any

from allready.core import policy, steering
from allready.core.actions import Action, Cancel, Done, RunInline, Spawn
from allready.core.events import Canceled, Change, Completed, Deferred, Failed, Lost, TaskEvent
from allready.core.graph import TaskGraph, TaskNode, TaskSpec
from allready.core.invariants import check
from allready.core.ready import ReadyQueue
from allready.core.snapshot import spec_to_json
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
from allready.core.why import Why, why
from allready.errors import ConcurrencyLimit, PermanentError, UserError

STORY_LENGTH = 20_000
"""Steps that are remembered for the story of a task in an error."""
NAMES_IN_A_REASON = 10
"""Stuck tasks that a reason names; more are counted."""


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


class DagScheduler:
    """Decides, from what it is told, what is offered, retried, skipped, canceled, and when the run ends.

    Pure: no I/O, no clock, no asyncio. Times are seconds on any clock that does not go back; `seed` is all
    the randomness there is; `route` chooses the agent of a task that names none (None: the task runs inline;
    without a router such tasks are offered with `agent=None`). Same inputs, same actions.

    A driver does this, for ever: hand events to `handle()`, iterate over `tick(now)` and report each offer
    with `record_spawn` or `record_spawn_failure`, call `record_batch_backoff` once after the batch, and wait
    for the next event, freed place or `next_wakeup()`. `engine.loop.run_scheduler_loop` is such a driver.

    `max_parallel` does not cap anything here: it is the default size of the pool and a hint for buffers.
    With `record`, what happens is gathered in `changes` (the vocabulary) and `inputs` (for a replay), to be
    taken by the driver. With `validate`, all invariants are checked after each step.
    """

    def __init__(
        self,
        graph: TaskGraph,
        *,
        max_parallel: int = 5,
        seed: int = 0,
        route: Callable[[TaskSpec], str | None] | None = None,
        timeout: float | None = None,
        record: bool = False,
        validate: bool = False,
    ) -> None:
        self.graph = graph
        self.max_parallel = max_parallel
        self.seed = seed
        self.timeout = timeout
        self.validate = validate
        self.status = RunState.CREATED
        self.error: str | None = None
        """Why the run failed or was canceled."""
        self.started_at: float | None = None
        self.finished_at: float | None = None
        self.now = 0.0
        self.consecutive_spawn_failures = 0
        """Batches in a row that started nothing and met a limit; see `record_batch_backoff`."""
        self.statistics = Statistics()
        self.changes: list[Change] | None = [] if record else None
        self.inputs: list[Any] | None = [] if record else None
        self.ending: RunState | None = None
        """How the run will end, once everything that runs has stopped."""
        self.pause_reason: str | None = None
        """`person`, `interrupt`, or `decision` (only a person can go on); None unless paused."""
        self.paused_at: float | None = None
        self.deadline: float | None = None
        """When the whole run is out of time."""
        self.backoff_until: float | None = None
        self.asking = 0
        """How many failed tasks wait for a person's decision."""
        self._ready = ReadyQueue(route)
        self._story: deque[tuple[float, str, str]] = deque(maxlen=STORY_LENGTH)
        self._delayed: list[tuple[float, int, TaskNode]] = []
        self._deadlines: list[tuple[float, int, str, TaskNode]] = []
        self._actions: deque[Cancel] = deque()
        self._batch: Generator[Action] | None = None
        self._offered: TaskNode | None = None
        self._held: list[TaskNode] = []
        """Offered in this batch and not answered: they go back at its end."""
        self._early: deque[TaskEvent] = deque()
        """Events that came while a batch was open."""
        self._fresh = True
        """Whether there is something to do that no batch has offered yet."""

    # --- the tick -------------------------------------------------------------------------------------

    def tick(self, now: float) -> Generator[Action]:
        """Give the actions for `now` as a one-pass batch: cancels, **every** ready task, and the end.

        Neither `max_parallel` nor what is running caps the offers; only a refusal ends them. Report each
        `Spawn` and `RunInline` before asking for the next; what is not reported goes back to ready when the
        batch ends. Events handled meanwhile wait for its end. A batch that is left early ends when it is
        closed, or at the next tick, command or growth.
        """
        self._leave_batch()
        self.now = now
        self.statistics.ticks += 1
        if self.backoff_until is not None and self.backoff_until <= now:
            self.backoff_until = None  # over: it must not wake anybody a second time
        if self.inputs is not None:
            self.inputs.append(["tick", now])
        if self.status is RunState.CREATED:
            self._start(now)
        self._wake_delayed(now)
        self._expire(now)
        self._batch = batch = self._run_batch(now)
        return batch

    def _run_batch(self, now: float) -> Generator[Action]:
        finished = False
        try:
            yield from self._cancels()
            if self.status is RunState.RUNNING and self.ending is None:
                yield from self._offers()
                yield from self._cancels()
            done = self._check_end(now)
            self._fresh = False
            finished = True
            if done is not None:
                if self.inputs is not None:
                    self.inputs.append(["done", done.status.value])
                yield done
        finally:
            if not finished:  # left early: the rest is still to be offered
                self._note_leaving()
            elif self._held and self.inputs is not None:  # answers may still come: after what the end did
                self.inputs.append(["end"])
            self._end_batch()

    def _offers(self) -> Iterator[Action]:
        self._ready.new_batch()
        self._fresh = False
        for node, bucket in self._ready.take():
            self._offered = node
            self.statistics.offers += 1
            if bucket.inline:
                yield RunInline(node.spec.id, node.attempts + 1)
            else:
                yield Spawn(node.spec.id, node.agent, node.attempts + 1)
            self._hold_offered()
            if self.ending is not None:
                return

    def _cancels(self) -> Iterator[Action]:
        while self._actions:
            action = self._actions.popleft()
            node = self.graph[action.task]
            if node.state is not CANCELING or node.handle != action.handle:
                continue  # it stopped before it was asked
            if self.inputs is not None:
                self.inputs.append(["cancel", action.task, action.handle])
            yield action

    def _hold_offered(self) -> None:
        """Keep an offer that was not answered at once: the answer may still come, until the batch ends."""
        node = self._offered
        if node is not None:
            self._offered = None
            self._held.append(node)
            if self.inputs is not None:
                self.inputs.append(["offer", node.spec.id])

    def _leave_batch(self) -> None:
        """End a batch that is still open: something else begins."""
        batch = self._batch
        if batch is None:
            return
        batch.close()
        if self._batch is not None:  # it had not begun: closing it ran nothing
            self._note_leaving()
            self._end_batch()

    def _note_leaving(self) -> None:
        self._fresh = True
        self._hold_offered()
        if self.inputs is not None:
            self.inputs.append(["leave"])

    def _end_batch(self) -> None:
        """Put back what was not reported, then let in the events that waited."""
        for node in self._held:
            # one with a time of its own failed after all, and waits for its retry
            if node.state is READY and not node.queued and node.not_before is None:
                self._ready.put(node)
        self._held.clear()
        self._batch = None
        while self._early:
            self._handle(self._early.popleft())
        if self.validate:
            self.validate_state()

    # --- reports on offers ----------------------------------------------------------------------------

    def record_spawn(self, task: str, handle: str, now: float) -> None:
        """Report that the pool took the task: it is running, as the attempt `handle`.

        Resets `consecutive_spawn_failures` on purpose: that a sub-agent started proves that the pool admits
        again, and a driver that dies or forgets `record_batch_backoff` must not leave a stale backoff behind.
        """
        node = self.graph[task]
        if node.state is not READY:
            raise no_transition(f"task {task!r}", node.state, RUNNING)
        late = self._answered(node)
        if self.inputs is not None:
            self.inputs.append([*late, "spawn", task, handle, now])
        node.queued = False
        node.handle = handle
        node.attempts += 1
        node.started_at = now
        node.not_before = None
        node.refused_scope = None
        node.error = None
        self._set(node, RUNNING, now, "task.started", handle, self._start_data)
        timeout = node.spec.timeout
        if timeout is not None:
            self._push_deadline(now + timeout, node, handle)
        self._ready.started(node)
        self.statistics.spawns += 1
        self.consecutive_spawn_failures = 0
        self.backoff_until = None

    def record_spawn_failure(self, task: str, error: BaseException, now: float) -> None:
        """Report that the task could not be started.

        A `ConcurrencyLimit` puts it back to ready and touches none of its counters; the tasks that would
        meet the same refusal are not offered any more in this batch. Anything else is a failure of the task
        under its strategy (retries first, unless the error is a `PermanentError`). Neither changes
        `consecutive_spawn_failures`: that counts batches, in `record_batch_backoff`.
        """
        node = self.graph[task]
        if node.state is not READY:
            raise no_transition(f"task {task!r} (spawn failure)", node.state, READY)
        late = self._answered(node)
        if isinstance(error, ConcurrencyLimit):
            if self.inputs is not None:
                limit = [error.reason, error.scope, error.active, error.max]
                self.inputs.append([*late, "refuse", task, *limit, now])
            self._refuse(node, error, now)
            return
        permanent = isinstance(error, PermanentError)
        text = str(error) or type(error).__name__
        if self.inputs is not None:
            self.inputs.append([*late, "spawn_failed", task, text, permanent, now])
        self.statistics.spawn_failures += 1
        node.queued = False
        self._attempt_failed(node, text, permanent, now)

    def _answered(self, node: TaskNode) -> tuple[str, ...]:
        """Take a report on an offer; one on an earlier offer than the last is marked for the replay."""
        if node is self._offered:
            self._offered = None
            return ()
        self._hold_offered()
        return ("late",)

    def record_batch_backoff(self, any_success: bool, any_concurrency_failure: bool) -> None:
        """Report on a whole batch, once, after it.

        Any success resets `consecutive_spawn_failures`; a batch that started nothing and met a limit adds
        one, however many tasks it held; a batch with neither changes nothing. While tasks stand refused,
        they are offered again after a delay that doubles with each such batch (250 ms to 5 s, with jitter),
        if nothing wakes the run before. Ends a batch that is still open.
        """
        self._leave_batch()
        if any_success:
            self.consecutive_spawn_failures = 0
        elif any_concurrency_failure:
            self.consecutive_spawn_failures += 1
        self.backoff_until = None
        if any_concurrency_failure:
            delay = policy.batch_backoff(max(1, self.consecutive_spawn_failures), self.seed)
            self.backoff_until = self.now + delay
        if self.inputs is not None:
            self.inputs.append(["backoff", any_success, any_concurrency_failure])

    def _refuse(self, node: TaskNode, limit: ConcurrencyLimit, now: float) -> None:
        self.statistics.refusals += 1
        self._ready.refuse(node, limit, now)
        if node.refused_scope != limit.scope:  # told once, not in every tick
            node.refused_scope = limit.scope
            data = {"reason": limit.reason, "scope": limit.scope}
            self._note(node.spec.id, now, "task.deferred", None, data)

    # --- events ---------------------------------------------------------------------------------------

    def handle(self, event: TaskEvent) -> None:
        """Take the end of an attempt. While a batch is open, it waits for the batch's end.

        An event whose handle is not the task's current attempt is stale: counted and noted, nothing more.
        """
        if self._batch is not None:
            self._early.append(event)
            return
        self._handle(event)
        if self.validate:
            self.validate_state()

    def _handle(self, event: TaskEvent) -> None:
        task, handle, outcome, at = event
        self.statistics.events += 1
        if self.inputs is not None:
            self.inputs.append(["event", task, handle, type(outcome).__name__, _bare(outcome), at])
        node = self.graph.by_id.get(task)
        if (
            node is None
            or node.handle != handle
            or (node.state is not RUNNING and node.state is not CANCELING)
        ):
            self.statistics.stale_events += 1
            self._story.append((at, task, f"stale event of {handle}: {type(outcome).__name__.lower()}"))
            return
        self._fresh = True
        if isinstance(outcome, Completed):
            self._complete(node, at)
        elif node.state is CANCELING:
            self._stopped(node, outcome, at)
        elif isinstance(outcome, Failed):
            self._attempt_failed(node, outcome.error, outcome.permanent, at)
        elif isinstance(outcome, Canceled):
            self._attempt_failed(node, outcome.reason or "the attempt stopped by itself", False, at)
        elif isinstance(outcome, Lost):
            self._lost(node, outcome.reason, at)
        else:
            self._defer(node, outcome.reason, outcome.retry_after, at)

    def _complete(self, node: TaskNode, at: float) -> None:
        node.finished_at = at
        node.error = None
        node.cancel_reason = None
        node.deferrals = 0
        self._set(node, COMPLETED, at, "task.completed", node.handle, self._end_data)
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

    def _attempt_failed(self, node: TaskNode, error: str, permanent: bool, at: float) -> None:
        node.deferrals = 0
        if not permanent and self.ending is None and node.retries < node.spec.retries:
            node.retries += 1
            self.statistics.retries += 1
            delay = policy.retry_delay(node.retries, self.seed, node.index)
            node.error = error
            data = {"error": error, "delay": round(delay, 3), "retry": node.retries}
            self._wait(node, at, delay, "task.retrying", data)
        else:
            self._fail(node, error, at)

    def _fail(self, node: TaskNode, error: str, at: float) -> None:
        node.error = error
        node.finished_at = at
        node.queued = False
        strategy = node.spec.failure_strategy
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
            self._deadlines = [entry for entry in deadlines if self._is_current(entry[3], entry[2])]
            heapify(self._deadlines)

    @staticmethod
    def _is_current(node: TaskNode, handle: str) -> bool:
        return node.state is RUNNING and node.handle == handle

    def _expire(self, now: float) -> None:
        deadlines = self._deadlines
        while deadlines and deadlines[0][0] <= now:
            _, _, handle, node = heappop(deadlines)
            if self._is_current(node, handle):
                self._ask_to_stop(node, "timeout", now)
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
        node.cancel_reason = reason

    def _begin_end(self, status: RunState, error: str, reason: str, at: float) -> None:
        """Stop what runs, cancel what has not begun; the run ends when the last attempt has stopped."""
        self.ending = status
        self.error = error
        self._fresh = True
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
                self._decide(node)

    def _decide(self, node: TaskNode) -> None:
        node.asking = False
        self.asking -= 1

    def _check_end(self, at: float) -> Done | None:
        """Notice that nothing can happen any more without help."""
        graph = self.graph
        if graph.active or self.status in RUN_ENDED:
            return None
        if self.ending is not None:
            return self._end(self.ending, self.error, at)
        if not graph.open and not graph.unended and not self.asking:
            return self._end(RunState.COMPLETED, None, at)
        if self.pause_reason == "interrupt":
            return Done(RunState.PAUSED, "interrupted")
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

    # --- growing --------------------------------------------------------------------------------------

    def add_tasks(self, specs: Iterable[TaskSpec], now: float) -> list[TaskNode]:
        """Add tasks to an open graph; only the new part is checked.

        Raises `PlanError` if they are not valid, `UserError` if the graph is closed; then nothing is added.
        """
        if not self.graph.open:
            raise UserError("the graph is closed: no tasks can be added")
        self._leave_batch()
        specs = list(specs)
        longer: list[TaskNode] = []
        new = self.graph.add(specs, longer)
        for node in longer:
            if node.queued:  # again, where it belongs now; its old place comes later and is passed over
                self._ready.put(node)
        if self.inputs is not None:
            self.inputs.append(["add", [spec_to_json(spec) for spec in specs], now])
        for node in new:
            self._note(node.spec.id, now, "task.added")
        if self.status is not RunState.CREATED:
            if self.ending is not None or self.status in RUN_ENDED:
                for node in new:
                    node.finished_at = now
                    node.error = "the run is ending"
                    self._set(node, CANCELED, now, "task.canceled", None, {"reason": node.error})
            else:
                self._admit(new, now)
        self._stepped()
        return new

    def close(self, now: float) -> None:
        """Say that the graph will not grow any more: from now on its end is judged."""
        if not self.graph.open:
            return
        self._leave_batch()
        self.graph.open = False
        self._note(None, now, "plan.closed")
        if self.inputs is not None:
            self.inputs.append(["close", now])
        self._stepped()

    # --- commands of a person -------------------------------------------------------------------------

    def command(self, kind: str, task: str | None, now: float) -> None:
        """Carry out a command: `pause`, `resume`, `interrupt`, `cancel`, `retry`, `approve`, `skip`, `abort`.

        Raises `CommandRefused` (with what to do instead) if it does not apply; then nothing has changed.
        """
        self._leave_batch()
        steering.carry_out(self, kind, task, now)
        if self.inputs is not None:
            self.inputs.append(["command", kind, task, now])
        self._stepped()

    def pause(self, now: float) -> None:
        """What runs may end; nothing new starts."""
        self.command("pause", None, now)

    def resume(self, now: float) -> None:
        """Go on after a pause."""
        self.command("resume", None, now)

    def interrupt(self, now: float) -> None:
        """Pause, and stop what runs; the stopped attempts are made again after `resume`."""
        self.command("interrupt", None, now)

    def cancel_all(self, now: float) -> None:
        """Stop everything; the run ends as canceled when the last attempt has stopped."""
        self.command("cancel", None, now)

    def approve(self, task: str, now: float) -> None:
        """Let a task go that waits for approval (or will)."""
        self.command("approve", task, now)

    def skip(self, task: str, now: float) -> None:
        """Leave a task out: refuses an approval, accepts a failure under `ask`, drops what has not begun."""
        self.command("skip", task, now)

    def retry(self, task: str | None, now: float) -> None:
        """Try again: one task that failed or was left out, or (None) all of them."""
        self.command("retry", task, now)

    def recover(self, now: float) -> None:
        """After a crash: what was under way is lost, and made again (or put to a person).

        For a scheduler restored from the store, before its first tick.
        """
        self._leave_batch()
        if self.inputs is not None:
            self.inputs.append(["recover", now])
        self.now = now
        for node in self.graph.nodes:
            if node.state is RUNNING:
                self._lost(node, "the attempt was lost in a crash", now, delay=False)
            elif node.state is CANCELING:
                self._stopped(node, Lost("the attempt was lost in a crash"), now)
        self._stepped()

    # --- when to look again ---------------------------------------------------------------------------

    def next_wakeup(self) -> float | None:
        """Give the time at which `tick()` has something to do even if nothing happens; None: never.

        Not later than `now` if it has something to do at once.
        """
        if self._fresh or self._batch is not None:
            return self.now
        times = []
        deadlines = self._deadlines
        while deadlines and not self._is_current(deadlines[0][3], deadlines[0][2]):
            heappop(deadlines)
        if deadlines:
            times.append(deadlines[0][0])
        if self.status is RunState.RUNNING:
            if self._delayed:
                times.append(self._delayed[0][0])
            if self.deadline is not None and self.ending is None:
                times.append(self.deadline)
            if self.backoff_until is not None:
                times.append(self.backoff_until)
        return min(times, default=None)

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

    def _stepped(self) -> None:
        """End a step that came from outside a batch: there may be something to do now."""
        self._fresh = True
        if self.validate:
            self.validate_state()

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
        return data | DagScheduler._failure_data(node)

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

    def why(self, task: str, now: float) -> Why:
        """Say why a task is where it is, in data and in a sentence."""
        return why(self, self.graph[task], now)

    def validate_state(self) -> None:
        """Check every invariant; raises `InvariantBroken`, with the story of the task concerned."""
        check(self)


def _names(names: list[str]) -> str:
    told = ", ".join(names[:NAMES_IN_A_REASON])
    return told if len(names) <= NAMES_IN_A_REASON else f"{told} and {len(names) - NAMES_IN_A_REASON} more"


def _bare(outcome: Completed | Failed | Canceled | Lost | Deferred) -> list[Any]:
    """Give an outcome without its value: what the scheduler decides by."""
    match outcome:
        case Completed():
            return []
        case Failed(error, permanent):
            return [error, permanent]
        case Canceled(reason) | Lost(reason):
            return [reason]
        case _:
            return [outcome.reason, outcome.retry_after]
