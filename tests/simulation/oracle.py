"""What must be true of a simulated run when it is over: the store's record against the ledger."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

from tests.engine.replaying import assert_replays
from tests.simulation.work import LONG
from tests.simulation.world import Attempt, World

from allready.core.events import Canceled, Completed
from allready.core.states import RUN_ENDED, FailureStrategy, RunIf
from allready.core.steering import BY_PERSON
from allready.engine.journal import ENDS_OF_ATTEMPTS
from allready.engine.results import read_results, value_of
from allready.plan.plan import Task
from allready.store.contract import JournalEvent, RunRow, TaskRow

CRASH = "the attempt was lost in a crash"
CUT_SHORT = frozenset({"crashed", "lease lost", "store error", "canceled", "killed"})
"""Ends of processes that may keep what an attempt gave from being recorded."""


def judge(world: World) -> str:
    """Check everything, noting problems in the world; gives the run's status."""
    assert world.run_id is not None
    row = world.store.run(world.run_id)
    rows = world.store.tasks(world.run_id, outputs=True)
    events = world.store.events(world.run_id, limit=1_000_000)
    _Judge(world, row, rows, events).judge()
    return row.status


class _Judge:
    def __init__(self, world: World, row: RunRow, rows: list[TaskRow], events: list[JournalEvent]) -> None:
        self.world = world
        self.row = row
        self.rows = {row.id: row for row in rows}
        self.events = events
        self.tasks: Mapping[str, Task] = world.plan.tasks
        self.ends: dict[str, list[JournalEvent]] = defaultdict(list)
        """Attempt → the events that end it."""

    def must(self, holds: bool, text: str) -> None:
        if not holds:
            self.world.problem(text)

    def judge(self) -> None:
        world = self.world
        self.must(self.row.status in RUN_ENDED, f"the run did not end: {self.row.status}")
        self.must(not world.under_way, f"still at work: {[a.task for a in world.under_way]}")
        self.must(self.row.owner is None or world.holder is not None, "the run still has an owner")
        self.check_journal()
        self.check_told()
        self.check_numbers()
        self.check_attempts()
        self.check_failures()
        self.check_once_only()
        self.check_ends()
        self.check_results()
        self.check_commands()
        self.check_pools()
        try:
            assert_replays(world.store, self.row.id)
        except Exception as error:
            world.problem(f"the journal does not replay: {type(error).__name__}: {error}")

    # --- the journal ----------------------------------------------------------------------------------

    def check_journal(self) -> None:
        seqs = [event.seq for event in self.events]
        self.must(seqs == list(range(1, len(seqs) + 1)), "the journal has gaps")
        self.must(
            len(seqs) == self.row.last_seq == self.world.last_seq, "the journal is not as long as was told"
        )
        for event in self.events:
            took = (event.data or {}).get("duration_ms", 0)
            self.must(took >= 0, f"{event.task} took {took} ms")
        created = [event.seq for event in self.events if event.type == "run.created"]
        self.must(created == [1], f"run.created at {created}")
        last = [event.type for event in self.events if event.task is None and event.type.startswith("run.")][
            -1
        ]
        self.must(last == f"run.{self.row.status}", f"the last word is {last}, the status {self.row.status}")

    def check_told(self) -> None:
        by_seq = {event.seq: event for event in self.events}
        for process in self.world.processes:
            for event in process.told:
                self.must(
                    by_seq.get(event.seq) == event, f"{process.name} was told of another event {event.seq}"
                )

    def check_numbers(self) -> None:
        """Attempts are numbered 1, 2, 3, …, in the journal and for their work."""
        numbers: Counter[str] = Counter()
        for event in self.events:
            if event.type == "task.started":
                assert event.task is not None
                assert event.data is not None
                numbers[event.task] += 1
                self.must(
                    event.data["number"] == numbers[event.task],
                    f"{event.task}: attempt {event.data['number']} starts as the {numbers[event.task]}th",
                )
                attempt = self.world.attempts.get(event.attempt or "")
                same = attempt is None or (attempt.task, attempt.number) == (event.task, event.data["number"])
                self.must(
                    same, f"{event.task}: its work was told that it is number {attempt and attempt.number}"
                )
        for name, row in self.rows.items():
            self.must(
                row.attempts == numbers[name], f"{name}: {row.attempts} attempts, {numbers[name]} started"
            )

    # --- attempts -------------------------------------------------------------------------------------

    def check_attempts(self) -> None:
        """Each attempt ends once, in the way that its work did."""
        started = [event.attempt for event in self.events if event.type == "task.started"]
        for event in self.events:
            decided = "decision" in (event.data or {})
            if event.type in ENDS_OF_ATTEMPTS and event.attempt is not None and not decided:
                self.ends[event.attempt].append(event)
        for handle in started:
            assert handle is not None
            ends = self.ends[handle]
            if len(ends) == 1:
                self.check_end(handle, ends[0])
            else:
                self.world.problem(f"an attempt has {len(ends)} ends: {[(e.task, e.type) for e in ends]}")
        self.must(set(self.ends) <= set(started), "an attempt ended that had not started")
        self.must(set(self.world.attempts) <= set(started), "work was done that is in no journal")

    def check_end(self, handle: str, event: JournalEvent) -> None:
        attempt = self.world.attempts.get(handle)
        data = event.data or {}
        text = str(data.get("error") or data.get("reason") or "")
        crash = CRASH in text
        who = f"{event.task} number {attempt.number if attempt else '?'}: {event.type} ({text})"
        if attempt is not None and attempt.how == "ok" and event.type != "task.completed":
            self.must(self.may_be_lost(attempt), f"{who}, but its work was done")
        match event.type:
            case "task.completed":
                self.must(attempt is not None and attempt.how == "ok", f"{who}, but its work was not done")
            case _ if crash:
                gone = attempt is None or self.was_cut_short(attempt)
                self.must(gone, f"{who}, but its process lived")
            case "task.retrying" | "task.failed":
                self.must(self.failed_as_told(attempt, text, event), f"{who}, but its work {_told(attempt)}")
            case "task.deferred" if text != "interrupted":
                as_told = attempt is not None and (
                    (attempt.how in {"deferred", "lost"} and attempt.text == text)
                    or self.was_cut_short(attempt)
                )
                as_told |= "lease" in text or "no answer" in text or "simulated" in text
                self.must(as_told, f"{who}, but its work {_told(attempt)}")
                if attempt is not None and attempt.retry_after:
                    self.must(data["delay"] >= attempt.retry_after, f"{who}: too soon")

    def failed_as_told(self, attempt: Attempt | None, text: str, event: JournalEvent) -> bool:
        if text.startswith("timed out"):
            return attempt is None or attempt.how != "ok" or self.may_be_lost(attempt)
        if attempt is None:  # it was asked to stop before it began
            return text.startswith("interrupted")
        if event.type == "task.retrying":
            return attempt.how == "failed" and attempt.text == text
        if "not idempotent" in text:
            return attempt.how != "ok" or self.may_be_lost(attempt)
        return attempt.how in {"failed", "permanent", "fatal"} and attempt.text == text

    def was_cut_short(self, attempt: Attempt) -> bool:
        return attempt.process.end in CUT_SHORT

    def may_be_lost(self, attempt: Attempt) -> bool:
        """Whether what an attempt gave came too late, or its process did not live to record it."""
        name, at = attempt.process.reported.get(attempt.handle, ("", 0.0))
        late = name != Completed.__name__ and name != "" and attempt.ended is not None and at <= attempt.ended
        syncing = name == Canceled.__name__ and len(attempt.value or "") > LONG  # the file of its output
        return late or syncing or self.was_cut_short(attempt)

    def check_failures(self) -> None:
        """Only real failures use up retries, and all retries are used before a task fails."""
        used: Counter[str] = Counter()
        ended: set[str] = set()
        ending = False
        for event in self.events:
            data = event.data or {}
            if event.type == "run.ending":
                ending = True
            elif event.type == "run.resumed":
                ending = False
            name = event.task
            if name is None:
                continue
            if event.type in {"task.failed", "task.skipped", "task.canceled"}:
                ended.add(name)
            if event.type in {"task.ready", "task.pending"} and data.get("reason") == "retry":
                if name in ended:  # else it only has to wait for its dependencies again
                    used[name] = 0
                ended.discard(name)
            elif event.type == "task.retrying":
                used[name] += 1
                self.must(data["retry"] == used[name], f"{name}: retry {data['retry']} is the {used[name]}th")
                self.must(used[name] <= self.retries(name), f"{name}: {used[name]} retries")
            elif event.type == "task.failed" and "decision" not in data and not ending:
                attempt = self.world.attempts.get(event.attempt or "")
                hopeless = attempt is not None and attempt.how in {"permanent", "fatal"}
                hopeless |= event.attempt is None and bool(data.get("asks"))  # of old: somebody is asked now
                if not hopeless and "not idempotent" not in data.get("error", ""):
                    self.must(
                        used[name] == self.retries(name), f"{name} failed with {used[name]} retries used"
                    )

    def retries(self, name: str) -> int:
        task = self.tasks[name]
        if task.max_retries is not None:
            return task.max_retries
        return 3 if task.failure_strategy is FailureStrategy.RETRY else 0

    def check_once_only(self) -> None:
        """What must not be done twice by itself is not, when nobody knows how far an attempt came."""
        for name, task in self.tasks.items():
            if task.idempotent is not False:
                continue
            unsure = False
            for event in self.events:
                if event.task != name:
                    continue
                data = event.data or {}
                if event.type == "task.started":
                    self.must(not unsure, f"{name} is run again by itself, though it is not idempotent")
                elif event.type == "task.failed" and "not idempotent" in data.get("error", ""):
                    unsure = True
                elif data.get("reason") == "retry":
                    unsure = False
                elif event.type == "task.deferred" and event.attempt is not None:
                    attempt = self.world.attempts.get(event.attempt)
                    limited = attempt is None or attempt.how == "deferred"  # or it did not begin
                    self.must(limited, f"{name} is put back, though it is not idempotent")

    # --- ends of tasks --------------------------------------------------------------------------------

    def check_ends(self) -> None:
        status = self.row.status
        states = {name: row.state for name, row in self.rows.items()}
        counts = Counter(states.values())
        self.must(dict(counts) == self.row.counts, f"counts {self.row.counts} are {dict(counts)}")
        for name, row in self.rows.items():
            self.must(row.state in {"completed", "failed", "skipped", "canceled"}, f"{name} is {row.state}")
            self.must((row.state == "completed") == (name in self.world.completed), f"{name} is {row.state}")
            self.must(not row.memory.get("asking"), f"{name} still asks")
            self.must(
                status != "completed" or row.state != "canceled", f"{name} is canceled in a completed run"
            )
            if row.state == "skipped":
                self.must(self.may_be_skipped(name, states), f"{name} is skipped: {row.error}")
            elif row.state != "canceled":
                self.must(not self.must_be_skipped(name, states), f"{name} is {row.state}, not skipped")
        if status == "completed":
            accepted = {e.task for e in self.events if (e.data or {}).get("decision") == "skip"}
            for name, row in self.rows.items():
                fatal = self.tasks[name].failure_strategy in {FailureStrategy.ABORT, FailureStrategy.RETRY}
                self.must(
                    row.state != "failed" or not fatal or name in accepted,
                    f"{name} failed, the run completed",
                )
        elif status == "canceled":
            self.must(("cancel", None) in self.done, "the run was canceled by nobody")
        elif status == "failed":
            self.must("deadlock" not in (self.row.error or ""), f"the run failed: {self.row.error}")

    @property
    def done(self) -> list[tuple[str, str | None]]:
        """Commands that were carried out."""
        records = [self.world.store.command(number) for number, _, _ in self.world.wishes]
        return [(r.kind, r.task) for r in records if r.done_at is not None and r.refused is None]

    def must_be_skipped(self, name: str, states: Mapping[str, str]) -> bool:
        """Whether the ends of its dependencies leave nothing else, as its `run_if` says."""
        task = self.tasks[name]
        ends = [states[needed] for needed in task.depends_on]
        if not ends or task.run_if is RunIf.ALL_DONE:
            return False
        if task.run_if is RunIf.ANY_COMPLETED:
            return "completed" not in ends
        return any(end != "completed" for end in ends)

    def may_be_skipped(self, name: str, states: Mapping[str, str]) -> bool:
        if self.rows[name].error == BY_PERSON:
            return ("skip", name) in self.done
        return self.must_be_skipped(name, states)

    # --- results, commands, places --------------------------------------------------------------------

    def check_results(self) -> None:
        world = self.world
        assert world.run_id is not None
        indexes = [row.index for row in self.rows.values()]
        from pathlib import Path

        try:
            results = read_results(world.store, world.run_id, Path(self.row.folder), indexes)
        except Exception as error:
            world.problem(f"results can't be read: {error}")
            return
        for name, handle in world.completed.items():
            attempt = world.attempts.get(handle)
            value = value_of(results[name], self.tasks[name]) if name in results else None
            self.must(attempt is not None and value == attempt.value, f"{name} gave {str(value)[:40]!r}")
        self.must(set(results) == set(world.completed), "there are results of tasks that did not complete")

    def check_commands(self) -> None:
        """Each wish was carried out once, or refused; what the scheduler was told is what was carried out."""
        store = self.world.store
        told = [
            (kind, task)
            for inputs in store.inputs(self.row.id, limit=1_000_000)
            for entry, *rest in inputs.data
            if entry == "command"
            for kind, task, *_ in [rest]
            if kind not in {"interrupt", "limit", "fail"}
        ]
        # a run that is taken up while it is paused is resumed without anybody's wish
        by_people = Counter(self.done)
        extra = Counter(told) - by_people
        extra.pop(("resume", None), None)
        self.must(not extra, f"carried out without being wished: {dict(extra)}")
        missing = by_people - Counter(told)
        self.must(not missing, f"done by the record, but not carried out: {dict(missing)}")

    def check_pools(self) -> None:
        for process in self.world.processes:
            if process.end == "crashed":
                continue
            for pool in process.pools:
                left = (pool.active, pool._active_reserved, pool._promised, len(pool._sub_agents))
                self.must(left == (0, 0, 0, 0), f"{process.name}: places are left taken: {left}")
                used = [*pool._used.values(), *pool._of_agent.values()]
                self.must(not any(used), f"{process.name}: resources are left taken")
                self.must(pool.peak <= pool.max_concurrent, f"{process.name}: more places than there are")
                self.must(
                    not pool._returning and not pool._waiting, f"{process.name}: somebody waits for ever"
                )


def _told(attempt: Attempt | None) -> str:
    if attempt is None:
        return "did not begin"
    return f"ended as {attempt.how} ({attempt.text})"
