"""A hostile pool, a hostile clock and a nervous person against the scheduler, with all invariants checked.

`ALLREADY_FUZZ=100 ./dev pytest tests/core/test_hostile.py` plays a hundred times as many runs as usual, other
ones each time; without the variable the runs are always the same.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from tests.core.play import full, task

from allready.core import learning
from allready.core.actions import Action, Cancel, Done, RunInline, Spawn
from allready.core.events import Canceled, Change, Completed, Deferred, Failed, Lost, Outcome, TaskEvent
from allready.core.graph import TaskGraph, TaskNode, TaskSpec
from allready.core.history import Replay
from allready.core.scheduler import DagScheduler
from allready.core.snapshot import TaskRecord, restore, run_memory, task_record
from allready.core.states import RUN_ENDED, RunState
from allready.errors import CommandRefused, ConcurrencyLimit, PermanentError

FUZZ = int(os.environ.get("ALLREADY_FUZZ", "0"))
RUNS = 400
STEPS = 50
MOST_TASKS = 14
PATIENCE = 2_000
"""Rounds in which a kind pool must bring a run to its end."""

SCOPES = ("pool", "inline", "budget", "agent:x", "agent:y", "provider:p", "resource:gpu")
FOR_THE_RUN = ("pause", "resume", "interrupt", "cancel", "retry", "limit", "fail")
CAREFUL = {
    RunState.RUNNING: ("pause", "interrupt", "limit"),
    RunState.PAUSED: ("resume", "resume", "interrupt"),
    RunState.FAILED: ("retry",),
    RunState.CANCELED: ("retry",),
}
FOR_A_TASK = ("approve", "skip", "abort", "retry", "nonsense")
OPEN = {"leave", "offer"}
"""What is recorded of batches that end in an unusual way."""
ENDS_OF_ATTEMPTS = {"task.completed", "task.failed", "task.retrying", "task.deferred", "task.canceled"}

outcomes = st.sampled_from(
    [
        Completed("done"),
        Completed(),
        Failed("broken"),
        Failed("hopeless", permanent=True),
        Canceled("asked to"),
        Canceled(),
        Lost("worker died"),
        Deferred("overloaded"),
        Deferred("rate limit", 2.0),
    ]
)
answers = st.one_of(
    st.sampled_from(["start", "start", "start", "silent", "late", "late error", "start and end"]),
    st.sampled_from(SCOPES).map(lambda scope: full(scope, 1, 2)),
    st.sampled_from([OSError("no such program"), PermanentError("can never fit")]),
)


@st.composite
def new_tasks(draw: st.DrawFn, known: int, most: int) -> list[TaskSpec]:
    """Tasks t`known`, … with all settings, in any order, depending on each other and on known ones."""
    count = draw(st.sampled_from([most, most - 1, most // 2, 1]))
    chance = st.integers(0, 7).map(lambda number: number == 7)
    specs = []
    for number in range(known, known + count):
        deps = draw(st.lists(st.integers(0, number - 1), max_size=3, unique=True)) if number else []
        specs.append(
            task(
                f"t{number}",
                *(f"t{dep}" for dep in deps),
                run_if=draw(st.sampled_from(["all_completed", "all_done", "any_completed"])),
                strategy=draw(st.sampled_from(["skip", "ask", "abort", "retry", "skip"])),
                max_retries=draw(st.sampled_from([None, 0, 1, 2])),
                timeout=draw(st.sampled_from([None, 5.0, 20.0])),
                priority=draw(st.integers(-1, 1)),
                estimate=draw(st.sampled_from([None, 0.0, 3.0])),
                agent=draw(st.sampled_from([None, "x", "y"])),
                provider=draw(st.sampled_from([None, "p"])),
                resources=draw(st.sampled_from([(), (("gpu", 1),), (("gpu", 2),)])),
                approval=draw(chance),
                idempotent=not draw(chance),
                inline=draw(chance),
            )
        )
    return draw(st.permutations(specs))


def route(spec: TaskSpec) -> str | None:
    number = int(spec.id[1:])
    return None if number % 5 == 3 else ("x", "y")[number % 2]


def standing(scheduler: DagScheduler) -> Any:
    """Give all that a store would keep, after a way through JSON."""
    records = [task_record(node) for node in scheduler.graph]
    return json.loads(json.dumps([scheduler.status, records, run_memory(scheduler)]))


def without_counts(kept: Any) -> Any:
    """Leave out what is not worth writing down by itself, and decides nothing."""
    status, records, run = kept
    run = {name: value for name, value in run.items() if name != "consecutive_spawn_failures"}
    for record in records:
        record[-1].pop("not_before", None)  # of what has become due without a word
    return [status, records, run]


class HostilePool(RuleBasedStateMachine):
    """Every rule is something that pools, clocks, people and power cuts do to a run."""

    @initialize(
        data=st.data(),
        seed=st.integers(0, 2**40),
        options=st.sampled_from([(0, 0), (1, 0), (0, 1)]),
        learns=st.booleans(),
    )
    def begin(self, data: st.DataObject, seed: int, options: tuple[int, int], learns: bool) -> None:
        self.first = data.draw(new_tasks(0, 8))
        self.grown: list[TaskSpec] = []
        self.options: dict[str, Any] = {
            "seed": seed, "record": True, "validate": True,
            "route": route if seed % 2 else None, "timeout": 60.0 if options[1] else None,
        }  # fmt: skip
        self.opened = bool(options[0])
        self.scheduler = DagScheduler(TaskGraph(self.first, open=self.opened), **self.options)
        self.now = 0.0
        self.handles = 0
        self.live: dict[str, str] = {}
        """Attempt → task, of all that the pool has and that did not end."""
        self.asked: set[str] = set()
        self.past: list[TaskEvent] = []
        self.inputs: list[Any] = []
        self.ends: Counter[str] = Counter()
        self.completed: set[str] = set()
        self.starts: Counter[str] = Counter()
        self.kept_tasks: dict[str, TaskRecord] = {}
        self.kept_run: dict[str, Any] = {}
        self.kept_status = "created"
        self.step, learning.STEP = learning.STEP, 3  # so that a sweep takes several ticks
        self.learns = learns
        if learns:
            self.scheduler.learn(self.now)

    def look(self) -> None:
        """Take what was recorded, and check what must hold of it."""
        scheduler = self.scheduler
        scheduler.validate_state()
        self.inputs += scheduler.inputs or []
        changes = scheduler.changes or []
        scheduler.inputs, scheduler.changes = [], []
        for change in changes:
            self.look_at(change)
        self.keep(changes)
        for node in scheduler.graph:
            assert scheduler.why(node.id, self.now).text

    def look_at(self, change: Change) -> None:
        data = change.data or {}
        if change.type == "task.started":
            assert change.task not in self.completed, "a completed task starts again"
            self.starts[str(change.attempt)] += 1
            assert self.starts[str(change.attempt)] == 1
        elif change.type in ENDS_OF_ATTEMPTS and change.attempt and data.get("decision") is None:
            self.ends[change.attempt] += 1
            assert self.ends[change.attempt] == 1, "an attempt ends twice"
        if change.type == "task.completed":
            self.completed.add(str(change.task))

    def keep(self, changes: list[Change]) -> None:
        """Keep what a store would: the tasks that were told of, and the run if anything was."""
        for change in changes:
            if change.task is not None:
                self.kept_tasks[change.task] = task_record(self.scheduler.graph[change.task])
        if changes:
            self.kept_status, self.kept_run = self.scheduler.status.value, run_memory(self.scheduler)

    # --- the pool ------------------------------------------------------------------------------------------

    def start(self, name: str) -> str:
        self.handles += 1
        handle = f"attempt-{self.handles}"
        self.live[handle] = name
        self.scheduler.record_spawn(name, handle, self.now)
        return handle

    def end(self, handle: str, outcome: Outcome) -> None:
        event = TaskEvent(self.live.pop(handle), handle, outcome, self.now)
        self.past.append(event)
        self.scheduler.handle(event)

    @rule(data=st.data(), leave=st.sampled_from([None, None, None, "break", "close"]), delay=st.floats(0, 2))
    def tick(self, data: st.DataObject, leave: str | None, delay: float) -> None:
        self.now += delay
        scheduler = self.scheduler
        leave_at = data.draw(st.integers(0, 4)) if leave else 1_000
        started = refused = False
        late: list[tuple[str, str]] = []
        calm = True
        batch = scheduler.tick(self.now)
        for place, action in enumerate(batch):
            if place == leave_at:
                break
            if isinstance(action, Spawn | RunInline):
                answer = data.draw(answers)
                calm &= answer in {"start", "silent"} or isinstance(answer, Exception)
                started |= answer in {"start", "start and end"}
                refused |= isinstance(answer, ConcurrencyLimit)
                self.answer(action, answer, late)
            elif isinstance(action, Cancel):
                self.asked.add(action.handle)
                assert scheduler.graph[action.task].handle == action.handle
            else:
                assert action.status in RUN_ENDED or action.status is RunState.PAUSED
        if leave == "close":
            batch.close()
        for name, what in late:
            if scheduler.graph[name].state != "ready":
                continue
            if what == "late":
                started = True
                self.start(name)
            else:
                scheduler.record_spawn_failure(name, OSError("no such program"), self.now)
        if started or refused:
            scheduler.record_batch_backoff(started, refused)
        if calm and not leave:
            wakeup = scheduler.next_wakeup()
            assert wakeup is None or wakeup > self.now, "the loop would spin"
        self.look()

    def answer(self, action: Spawn | RunInline, answer: str | Exception, late: list[tuple[str, str]]) -> None:
        assert self.scheduler.graph[action.task].attempts + 1 == action.number
        if isinstance(answer, Exception):
            before = self.scheduler.consecutive_spawn_failures
            self.scheduler.record_spawn_failure(action.task, answer, self.now)
            assert self.scheduler.consecutive_spawn_failures == before
        elif answer in {"late", "late error"}:
            late.append((action.task, answer))
        elif answer != "silent":
            handle = self.start(action.task)
            if answer == "start and end":
                self.end(handle, Completed())

    @precondition(lambda self: self.scheduler.status not in RUN_ENDED)
    @rule(ends=st.sampled_from([0, 0, 1]))
    def friendly_round(self, ends: int) -> None:
        """What the pool does most of the time, so that runs get anywhere."""
        if self.scheduler.status is RunState.PAUSED and self.scheduler.ending is None:
            self.scheduler.resume(self.now)
        for action in self.scheduler.tick(self.now):
            if isinstance(action, Spawn | RunInline):
                self.start(action.task)
            elif isinstance(action, Cancel):
                self.asked.add(action.handle)
        for handle in list(self.live)[:ends]:
            self.end(handle, Completed())
        self.look()

    @precondition(lambda self: self.live)
    @rule(data=st.data(), outcome=outcomes, delay=st.floats(0, 4))
    def attempt_ends(self, data: st.DataObject, outcome: Outcome, delay: float) -> None:
        self.now += delay
        self.end(data.draw(st.sampled_from(sorted(self.live))), outcome)
        self.look()

    @precondition(lambda self: self.live)
    @rule(outcome=outcomes)
    def last_attempt_ends(self, outcome: Outcome) -> None:
        self.end(max(self.live), outcome)
        self.look()

    @precondition(lambda self: self.past)
    @rule(data=st.data(), outcome=st.one_of(st.none(), outcomes))
    def event_comes_again(self, data: st.DataObject, outcome: Outcome | None) -> None:
        known = [TaskEvent("nobody", "attempt-0", Completed(), 0.0), *self.past]
        replaced = [event for event in known if event.task in self.live.values()]
        event = data.draw(st.sampled_from(replaced or known))
        before, stale = standing(self.scheduler), self.scheduler.statistics.stale_events
        waits = self.scheduler._batch is not None
        self.scheduler.handle(event._replace(outcome=outcome) if outcome else event)
        assert standing(self.scheduler) == before
        assert waits or self.scheduler.statistics.stale_events == stale + 1
        self.look()

    @precondition(lambda self: self.scheduler.status not in RUN_ENDED)
    @rule(seconds=st.sampled_from([0.5, 3.0, 6.0, 25.0]))
    def clock_jumps(self, seconds: float) -> None:
        self.now += seconds

    # --- the person ----------------------------------------------------------------------------------------

    @rule(data=st.data(), careful=st.sampled_from([True, True, True, False]))
    def command(self, data: st.DataObject, careful: bool) -> None:
        """A careful person says what may apply; another says anything."""
        scheduler = self.scheduler
        wishes: list[tuple[str, str | None]] = [
            (kind, None) for kind in (CAREFUL.get(scheduler.status, ()) if careful else FOR_THE_RUN)
        ]
        for node in scheduler.graph:
            wishes += [(kind, node.id) for kind in FOR_A_TASK if not careful or self.may_apply(kind, node)]
        if not wishes:
            return
        kind, name = data.draw(st.sampled_from(wishes))
        open_batch = scheduler._batch is not None
        before = standing(scheduler)
        try:
            scheduler.command(kind, name, self.now)
        except CommandRefused:
            assert open_batch or standing(scheduler) == before
        self.look()

    @staticmethod
    def may_apply(kind: str, node: TaskNode) -> bool:
        if kind == "approve":
            return node.state == "awaiting_approval"
        if kind == "retry":
            return node.state in {"failed", "skipped", "canceled"}
        return node.asking or (kind == "skip" and node.state == "awaiting_approval")

    @precondition(lambda self: self.scheduler.graph.open and len(self.scheduler.graph) < MOST_TASKS)
    @rule(data=st.data())
    def graph_grows(self, data: st.DataObject) -> None:
        specs = data.draw(new_tasks(len(self.scheduler.graph), 3))
        self.scheduler.add_tasks(specs, self.now)
        self.grown += specs
        self.look()

    @precondition(lambda self: self.scheduler.graph.open)
    @rule()
    def graph_is_closed(self) -> None:
        self.scheduler.close(self.now)
        self.look()

    @precondition(lambda self: self.live or self.scheduler.ending)
    @rule(delay=st.sampled_from([0.0, 3.0, 70.0]))
    def power_cut(self, delay: float) -> None:
        """Events on their way are lost; the attempts are, too, but what they say may still arrive."""
        self.look()
        expected = standing(self.scheduler)
        self.past += [TaskEvent(name, handle, Completed(), self.now) for handle, name in self.live.items()]
        self.live.clear()
        opened = self.scheduler.graph.open and self.kept_status == "created"
        self.scheduler = DagScheduler(TaskGraph([*self.first, *self.grown], open=opened), **self.options)
        kept = json.loads(json.dumps([self.kept_status, list(self.kept_tasks.values()), self.kept_run]))
        restore(self.scheduler, kept[0], [TaskRecord(*record) for record in kept[1]], kept[2])
        assert without_counts(standing(self.scheduler)) == without_counts(expected)
        self.now += delay
        self.scheduler.recover(self.now, delay / 2)
        if self.learns:
            self.scheduler.learn(self.now)
        self.kept_run = run_memory(self.scheduler)  # whoever takes a run over says so
        self.look()

    # --- the end -------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        if not hasattr(self, "scheduler"):
            return
        try:
            self.look_at_the_end()
        finally:
            learning.STEP = self.step

    def look_at_the_end(self) -> None:
        self.scheduler.close(self.now)
        done = self.drive_to_the_end()
        self.look()
        graph = self.scheduler.graph
        if self.scheduler.status in RUN_ENDED:
            assert not graph.unended
            assert not self.live
        else:
            assert done == Done(RunState.PAUSED, self.scheduler.waits_for_person())
            assert done.reason
        self.compare_with_replay()

    def drive_to_the_end(self) -> Done | None:
        """A kind pool admits all and its attempts complete, or stop if they are asked to."""
        scheduler = self.scheduler
        for _ in range(PATIENCE):
            if scheduler.status is RunState.PAUSED and scheduler.ending is None:
                scheduler.resume(self.now)
            if scheduler.status in RUN_ENDED:
                return None
            actions: list[Action] = []
            for action in scheduler.tick(self.now):
                actions.append(action)
                if isinstance(action, Spawn | RunInline):
                    self.start(action.task)
                elif isinstance(action, Cancel):
                    self.asked.add(action.handle)
                elif action.status in RUN_ENDED or scheduler.pause_reason == "decision":
                    return action
            for handle in list(self.live):
                self.end(handle, Canceled() if handle in self.asked else Completed())
            self.now = max(self.now, scheduler.next_wakeup() or self.now)
        raise AssertionError(f"no end: {scheduler.status}, {list(scheduler.graph)}")

    def compare_with_replay(self) -> None:
        replay = Replay(DagScheduler(TaskGraph(self.first, open=self.opened), **self.options))
        recorded = json.loads(json.dumps(self.inputs))
        replay.feed(recorded[: len(recorded) // 2])
        replay.feed(recorded[len(recorded) // 2 :])
        replay.finish()
        assert without_counts(standing(replay.scheduler)) == without_counts(standing(self.scheduler))
        again = json.loads(json.dumps(replay.scheduler.inputs))
        # a power cut leaves an open batch without a word; its replay says so
        assert [e for e in again if e[0] not in OPEN] == [e for e in recorded if e[0] not in OPEN]


HostilePool.TestCase.settings = settings(
    max_examples=RUNS * max(FUZZ, 1),
    stateful_step_count=STEPS,
    derandomize=not FUZZ,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestHostilePool = HostilePool.TestCase
