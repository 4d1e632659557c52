"""The world of one simulated run: what is true in it (the ledger), what goes wrong, and everybody's doors.

Nothing here asks the program under test what is true: the ledger is written by the work functions and by the
doors themselves.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, NoReturn

from tests.simulation.processes import Crashed, Process, State

from allready.plan.plan import Plan
from allready.store.contract import Batch, JournalEvent, Owner
from allready.store.sql import SqlStore

if TYPE_CHECKING:
    from tests.simulation.work import Behaviour

    from allready.engine.session import Session
    from allready.pool.manager import SubAgentManager

EPOCH = 1_700_000_000.0
"""Seconds since 1970 at virtual time 0."""
HOST = "simulated"


@dataclass
class Attempt:
    """One call of a task's work, as the work itself saw it."""

    task: str
    count: int
    """1, 2, 3, …: the how manieth call of this task."""
    number: int
    handle: str
    process: Driver
    began: float
    ended: float | None = None
    how: str | None = None
    """`ok`, `failed`, `permanent`, `fatal`, `deferred`, `lost`, `canceled`; None: it has not ended."""
    text: str = ""
    value: str | None = None
    retry_after: float | None = None
    away: bool = False
    """Whether it gave its place back."""


@dataclass
class Faults:
    """What may go wrong: shares of all calls, and how often things happen to a process from outside."""

    crash_within: int | None = None
    """A process crashes at one of its first so many points; None: at none."""
    crashes: int = 0
    """At most so many crashes in all."""
    busy: float = 0.0
    away: float = 0.0
    """Share of the store's calls that fail, without an effect."""
    answer_lost: float = 0.0
    """… that fail, after all has been done."""
    broken: float = 0.0
    """… that raise an error which trying again does not help against."""
    slow: Sequence[float] = (0.0,)
    """Seconds that calls in threads take."""
    refusals: float = 0.0
    spawn_errors: float = 0.0
    bad_work: float = 0.0
    """Share of the attempts that do not end well."""
    stubborn: float = 0.0
    """Share of the attempts that ignore that they are canceled."""
    outside: Sequence[str] = ()
    """What happens from outside; see `life.OUTSIDE`."""
    skew: float = 0.0
    """Seconds by which the clocks of processes differ at most."""
    same_host: bool = True
    """Whether a dead owner can be seen to be dead."""


class Driver(Process):
    """A process that drives the run, or a person's that steers it."""

    def __init__(self, world: World, name: str, kind: str) -> None:
        host = HOST if world.faults.same_host else f"{HOST}-{name}"
        number = len(world.processes) + 1
        super().__init__(name, Owner(host, "boot", number, float(number)), world.delays)
        self.world = world
        self.kind = kind
        self.over = asyncio.Event()
        self.over_at = 0.0
        self.end: str | None = None
        """How it ended: `crashed`, `finished`, `lease lost`, `store error`, `refused`, `canceled`."""
        self.points = 0
        self.crash_in = world.choose_crash() if kind == "driver" else None
        self.skew = world.random.uniform(-1, 1) * world.faults.skew
        self.away_until = 0.0
        self.session: Session | None = None
        self.pools: list[SubAgentManager] = []
        self.main: asyncio.Task[Any] | None = None
        self.told: list[JournalEvent] = []
        self.reported: dict[str, tuple[str, float]] = {}
        """Attempt → what its pool reported of its end, and when."""

    def hear(self, events: Sequence[JournalEvent]) -> None:
        """Take what observers are told."""
        world = self.world
        for event in events:
            if event.seq > world.last_seq:
                world.problem(f"{self.name} was told of event {event.seq}, which is not durable yet")
            if self.told and event.seq != self.told[-1].seq + 1:
                world.problem(f"{self.name} was told of event {event.seq} after {self.told[-1].seq}")
            self.told.append(event)
        world.point(self, "told")


class World:
    """See the module's head. `random` is drawn from in the order in which things happen."""

    def __init__(self, seed: int, store: SqlStore, faults: Faults, *, crash_at: Collection[int] = ()) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.store = store
        """The real one."""
        self.faults = faults
        self.crash_at = crash_at
        """Numbers of points (of all processes together) at which is crashed."""
        self.context = contextvars.copy_context()
        self.loop = asyncio.get_running_loop()
        self.points: list[str] = []
        """What each point that was passed is."""
        self.counts: Counter[str] = Counter()
        self.lines: list[str] = []
        self.problems: list[str] = []
        self.processes: list[Driver] = []
        self.calm = False
        """Whether nothing goes wrong any more, so that the run comes to its end."""
        self.away_until = 0.0
        self.storm_until = 0.0
        self.rival_wanted = asyncio.Event()

        self.script: Mapping[str, Sequence[Behaviour]] | None = None
        """What tasks do, if it is not for the seed to say."""
        self.visits: Sequence[tuple[float, str, str | None]] = ()
        """When people say what; then they do nothing but to decide what they are asked."""
        self.visited = 0
        self.grows: Sequence[Mapping[str, Any]] = ()
        """Tasks that a planner writes while the run goes on."""
        self.plan: Plan = Plan()
        self.run_id: str | None = None
        self.names: list[str] = []
        """Tasks by index."""
        self.holder: Driver | None = None
        """Who owns the run, by what the store answered."""
        self.status: str | None = None
        self.asking: dict[str, None] = {}
        """Tasks on which a person has to decide, and those that wait for approval."""
        self.unapproved: dict[str, None] = {}
        self.last_seq = 0
        self.judged: Counter[str] = Counter()
        """Task → its attempts whose end is on the record, but for those that crashed."""
        self.started: set[str] = set()
        """Attempts whose start is durable."""
        self.completed: dict[str, str] = {}
        """Task → attempt, whose completion is durable."""
        self.wishes: list[tuple[int, str, str | None]] = []
        """Commands that people gave, as the store numbered them."""
        self.attempts: dict[str, Attempt] = {}
        """The ledger: handle → attempt."""
        self.of_task: dict[str, list[Attempt]] = {}
        self.launched: dict[str, tuple[Driver, int]] = {}
        """Attempt → who launched it, and how many tasks had completed then."""

    @property
    def drivers(self) -> list[Driver]:
        """Give the processes that were to drive the run, in order."""
        return [process for process in self.processes if process.kind == "driver"]

    # --- time and text --------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        return self.loop.time()

    def log(self, text: str) -> None:
        self.lines.append(f"{self.now:10.3f} {text}")

    def problem(self, text: str) -> None:
        self.log(f"PROBLEM {text}")
        self.problems.append(text)

    def count(self, what: str) -> None:
        self.counts[what] += 1

    def chance(self, share: float) -> bool:
        return bool(share) and not self.calm and self.random.random() < share

    def delays(self) -> tuple[float, float]:
        slow = self.faults.slow
        return (0.0, 0.0) if self.calm else (self.random.choice(slow), self.random.choice(slow))

    # --- crashes --------------------------------------------------------------------------------------

    def choose_crash(self) -> int | None:
        within = self.faults.crash_within
        if within is None or self.calm or self.random.random() < 0.2:
            return None
        return self.random.randint(1, self.random.choice([within // 8 + 1, within]))

    def point(self, process: Driver, what: str) -> None:
        """Pass a point at which a process may crash; a dead one never passes."""
        if not process.alive:
            raise Crashed
        self.points.append(what)
        process.points += 1
        if len(self.points) in self.crash_at:
            self.crash(process, what)
        if process.crash_in is not None and process.points >= process.crash_in and not self.calm:
            if self.counts["crashes"] < self.faults.crashes:
                self.crash(process, what)
            process.crash_in = None

    def crash(self, process: Driver, what: str) -> NoReturn:
        self.kill(process, what)
        raise Crashed

    def kill(self, process: Driver, what: str) -> None:
        if not process.alive:
            return
        self.count("crashes")
        self.log(f"{process.name} crashes: {what}")
        process.kill()
        process.end = "crashed"
        process.over.set()
        self.loop.call_soon(process.bury, context=self.context)

    def lives(self, owner: Owner) -> bool | None:
        """Say whether an owner lives, as far as that can be seen from another process."""
        if not self.faults.same_host:
            return None
        process = self.processes[owner.pid - 1]
        return process.alive and not process.over.is_set()

    # --- the ledger -----------------------------------------------------------------------------------

    def begin(self, process: Driver, task: str, handle: str, number: int) -> Attempt:
        """Note that the work of a task begins."""
        earlier = self.of_task.setdefault(task, [])
        attempt = Attempt(task, len(earlier) + 1, number, handle, process, self.now)
        self.log(f"{process.name} begins {task} number {number}")
        if handle in self.attempts:
            self.problem(f"{task}: attempt {number} begins twice")
        if handle not in self.started:
            self.problem(f"{task}: attempt {number} begins before its start is durable")
        # where clocks are wrong, an owner may be replaced who can't know it before it writes
        replaced = self.faults.skew and self.holder is not process
        if task in self.completed and not replaced:
            self.problem(f"{task} begins again, though it has completed")
        if self.launched.get(handle, (None, 0))[0] is not process:
            self.problem(f"{task}: attempt {number} begins in a process that did not launch it")
        for other in earlier:
            overlaps = other.ended is None and other.process is process and process.alive
            if overlaps and other.handle not in process.reported:
                self.problem(f"{task}: attempt {number} begins while attempt {other.number} is under way")
        if number != 1 + sum(other.number < number for other in earlier) and not self._missed(task, number):
            self.problem(f"{task}: attempt {number} begins after {[other.number for other in earlier]}")
        earlier.append(attempt)
        self.attempts[handle] = attempt
        self._check_room(process)
        return attempt

    def _check_room(self, process: Driver) -> None:
        """Never are there more attempts than places, and more of a resource in use than there is."""
        used: Counter[str] = Counter()
        for attempt in self.attempts.values():
            if attempt.ended is None and attempt.process is process and not attempt.away:
                task = self.plan.tasks[attempt.task]
                if not task.inline:
                    used["a place"] += 1
                    used.update(dict(task.resources))
        for name, amount in used.items():
            most = process.pools[0].max_concurrent if name == "a place" else self.plan.resources[name]
            if amount > most:
                self.problem(f"{process.name}: {amount} of {name} in use, there are {most}")

    def _missed(self, task: str, number: int) -> bool:
        """Whether attempts were recorded that crashed, or were stopped, before their work began."""
        return number > len(self.of_task[task])

    def end(
        self,
        attempt: Attempt,
        how: str,
        text: str = "",
        *,
        value: str | None = None,
        after: float | None = None,
    ) -> None:
        """Note that the work of a task has ended; a dead process has no way to tell."""
        if not attempt.process.alive or attempt.process.state is not State.ALIVE:
            return
        attempt.ended, attempt.how, attempt.text = self.now, how, text
        attempt.value, attempt.retry_after = value, after
        self.count(f"work {how}")
        self.log(f"{attempt.process.name} ends {attempt.task} number {attempt.number}: {how}")

    @property
    def under_way(self) -> list[Attempt]:
        """Attempts in living processes that have not ended."""
        return [a for a in self.attempts.values() if a.ended is None and a.process.alive]

    # --- what the store has -----------------------------------------------------------------------------

    def acquired(self, process: Driver) -> None:
        if self.holder is not None and self.holder is not process and self.holder.alive:
            self.count("take-overs")
        self.holder = process
        self.log(f"{process.name} owns the run")

    def released(self, process: Driver) -> None:
        if self.holder is process:
            self.holder = None

    def wrote(self, process: Driver, batch: Batch, last: int) -> None:
        """Note what a commit made durable; called once the database has it, whatever the caller is told."""
        if last == self.last_seq and batch.changes:
            self.count("batches handed in again")
            return
        if self.holder is not process:
            self.problem(f"{process.name} wrote to a run that it does not own")
        if last != self.last_seq + len(batch.changes):
            self.problem(f"the last event is {last}, after {self.last_seq} and {len(batch.changes)} more")
        self.last_seq = last
        self.names += [task.id for task in batch.new_tasks]
        if batch.run is not None:
            self.status = batch.run.get("status", self.status)
        for row in batch.tasks:
            name = self.names[row["index"]]
            _put(self.asking, name, bool(row["memory"].get("asking")))
            _put(self.unapproved, name, row["state"] == "awaiting_approval")
        for change in batch.changes:
            detail = "" if change.data is None else f" {sorted(change.data.items())}"
            self.log(f"{process.name} wrote {change.type} {change.task or ''}{self.hide(detail)}")
            if change.type == "task.started" and change.attempt is not None:
                self.started.add(change.attempt)
            elif (
                change.type in {"task.retrying", "task.failed", "task.deferred"}
                and change.attempt is not None
            ):
                attempt = self.attempts.get(change.attempt)
                self.judged[str(change.task)] += attempt is not None and attempt.how not in {None, "canceled"}
            elif change.type == "task.completed" and change.task is not None:
                if change.task in self.completed:
                    self.problem(f"{change.task} completes twice")
                self.completed[change.task] = change.attempt or ""

    def hide(self, text: str) -> str:
        """Take away what differs each time: the run's id."""
        return text.replace(self.run_id, "RUN") if self.run_id else text


def _put(names: dict[str, None], name: str, there: bool) -> None:
    if there:
        names[name] = None
    else:
        names.pop(name, None)


@dataclass
class Summary:
    """What became of a simulated run."""

    seed: int
    status: str
    problems: list[str]
    lines: list[str]
    digest: str
    points: int
    counts: Counter[str] = field(default_factory=Counter)
    names: list[str] = field(default_factory=list)
    """What each point is."""
