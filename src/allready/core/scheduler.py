"""`DagScheduler`: decides what happens next in a run; pure, and told everything it knows."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from heapq import heappop
from typing import Any

from allready.core import policy, steering
from allready.core.actions import Action, RunInline, Spawn
from allready.core.course import Course
from allready.core.events import Canceled, Completed, Deferred, Failed, Lost, TaskEvent
from allready.core.graph import TaskGraph, TaskNode, TaskSpec
from allready.core.invariants import check
from allready.core.learning import Learning
from allready.core.ready import PATIENCE
from allready.core.snapshot import spec_to_json
from allready.core.states import (
    CANCELED,
    CANCELING,
    READY,
    RUN_ENDED,
    RUNNING,
    RunState,
    no_transition,
)
from allready.core.why import Why, why
from allready.errors import ConcurrencyLimit, PermanentError, UserError, text_of


class DagScheduler(Course):
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
        super().__init__(graph, seed=seed, route=route, timeout=timeout, record=record)
        self.max_parallel = max_parallel
        self.validate = validate
        self.inputs: list[Any] | None = [] if record else None
        self.now = 0.0
        self.consecutive_spawn_failures = 0
        """Batches in a row that started nothing and met a limit; see `record_batch_backoff`."""
        self.backoff_until: float | None = None
        self._batch: Generator[Action] | None = None
        self._offered: TaskNode | None = None
        self._held: list[TaskNode] = []
        """Offered in this batch and not answered: they go back at its end."""
        self._early: deque[TaskEvent] = deque()
        """Events that came while a batch was open."""

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
        if self._learning is not None and self._learning.told:
            self._move(self._learning.measure_some())
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
        text = text_of(error) or type(error).__name__
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
            self._attempt_failed(node, outcome.error, outcome.permanent, at, fatal=outcome.fatal)
        elif isinstance(outcome, Canceled):
            self._attempt_failed(node, outcome.reason or "the attempt stopped by itself", False, at)
        elif isinstance(outcome, Lost):
            self._lost(node, outcome.reason, at)
        else:
            self._defer(node, outcome.reason, outcome.retry_after, at)

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
        self._move(node for node in longer if node.queued)
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

    # --- order ----------------------------------------------------------------------------------------

    def learn(self, now: float) -> None:
        """Have the order of what is ready follow, from now on, what tasks take that complete: see `learning`.

        For a new scheduler, or one that was restored, before its next tick. Begins anew each time, with what
        the tasks of the graph tell that have completed. From now on, too, big demands for a resource that
        were passed by often are offered all the same (`ready.PATIENCE`). Recordings from before know neither.
        """
        self._leave_batch()
        if self.inputs is not None:
            self.inputs.append(["learn", now])
        self._ready.patience = PATIENCE
        self._learning = Learning(self.graph)
        if self.status is not RunState.CREATED:  # a new graph has just been measured
            self._move(self._learning.measure_all())
        self._stepped()

    def _move(self, nodes: Iterable[TaskNode]) -> None:
        """Queue tasks anew whose remaining path has changed."""
        for node in nodes:
            self._ready.move(node)

    # --- commands of a person -------------------------------------------------------------------------

    def command(self, kind: str, task: str | None, now: float) -> None:
        """Carry out a command: `pause`, `resume`, `interrupt`, `cancel`, `retry`, `approve`, `skip`, `abort`.

        Two more are the driver's own, with the reason in place of the task: `limit` (pause: a limit of the
        run is reached) and `fail`. Raises `CommandRefused` (with what to do instead) if it does not apply;
        then nothing has changed.
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

    def recover(self, now: float, down_for: float = 0.0) -> None:
        """After a crash: what was under way is lost, and made again (or put to a person).

        For a scheduler restored from the store, before its first tick. `down_for` is how many seconds nobody
        drove the run, as far as that is known: its time limit moves by them.
        """
        self._leave_batch()
        if self.inputs is not None:
            self.inputs.append(["recover", now, down_for])
        self.now = now
        if self.deadline is not None and self.status is RunState.RUNNING:
            self.deadline += down_for  # a pause is added when it ends, whoever drove the run meanwhile
        for node in self.graph.nodes:
            node.refused_scope = None  # not stored: a refusal is told anew, in a replay as well
            if node.state is RUNNING:
                self._lost(node, "the attempt was lost in a crash", now, delay=False)
            elif node.state is CANCELING:
                self._stopped(node, Lost("the attempt was lost in a crash"), now)
        self._stepped()

    def began_late(self, handles: Collection[str], now: float) -> None:
        """Report that attempts which were started begin only now, because their record took long.

        The time of these attempts counts from now: that the store was slow must not be their failure.
        """
        self._leave_batch()
        if self.inputs is not None:
            self.inputs.append(["began_late", [*handles], now])
        begun = frozenset(handles)
        for node in self.graph.nodes:
            if node.state is RUNNING and node.handle in begun:
                node.started_at = now
                if node.spec.timeout is not None:
                    self._push_deadline(now + node.spec.timeout, node, node.handle)
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
        while deadlines and not self._is_current(deadlines[0]):
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

    def _stepped(self) -> None:
        """End a step that came from outside a batch: there may be something to do now."""
        self._fresh = True
        if self.validate:
            self.validate_state()

    def put_off(self) -> Iterator[TaskNode]:
        """Give the ready tasks that wait for their time: for a retry, or because they could not be made."""
        return (node for due, _, node in self._delayed if node.state is READY and node.not_before == due)

    # --- looking in --------------------------------------------------------------------------------------

    def why(self, task: str, now: float) -> Why:
        """Say why a task is where it is, in data and in a sentence."""
        return why(self, self.graph[task], now)

    def validate_state(self) -> None:
        """Check every invariant; raises `InvariantBroken`, with the story of the task concerned."""
        check(self)


def _bare(outcome: Completed | Failed | Canceled | Lost | Deferred) -> list[Any]:
    """Give an outcome without its value: what the scheduler decides by."""
    match outcome:
        case Completed():
            return []
        case Failed(error, permanent, _, fatal):
            return [error, permanent, None, True] if fatal else [error, permanent]
        case Canceled(reason) | Lost(reason):
            return [reason]
        case _:
            return [outcome.reason, outcome.retry_after]
