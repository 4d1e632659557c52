"""Whether all is as it must be after a trial: what the ledger says against what the store says."""

from __future__ import annotations

import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.crash import ledger
from tests.crash.plans import Reference
from tests.engine.replaying import assert_replays

from allready.engine.journal import ENDS_OF_ATTEMPTS
from allready.engine.results import read_results, whole_output
from allready.store.contract import JournalEvent, TaskRow
from allready.store.owners import is_alive
from allready.store.sql import SqlStore

ALL = 1_000_000
LOST = "lost in a crash"
"""Stands in the reason of what was under way when the process died."""
Attempt = tuple[str, int]


class Story:
    """The ledger, read."""

    def __init__(self, path: Path) -> None:
        self.lines = list(ledger.lines(path))
        self.starts = [line[1:] for line in self.lines if line[0] == "start"]
        self.fails = {(line[1], int(line[2])) for line in self.lines if line[0] == "fail"}
        self.ends = {(line[1], int(line[2])): line[3] for line in self.lines if line[0] == "end"}
        self.told = [line[1:] for line in self.lines if line[0] == "told"]


class Oracle:
    """Looks at one trial. `problems` is what was found: nothing, if all is well."""

    def __init__(
        self,
        reference: Reference,
        store: SqlStore,
        run: str,
        path: Path,
        commands: Sequence[Mapping[str, Any]],
    ) -> None:
        self.reference = reference
        self.store = store
        self.row = store.run(run)
        self.folder = Path(self.row.folder)
        self.tasks = store.tasks(run, outputs=True)
        self.events = store.events(run, limit=ALL)
        self.inputs = [entry for row in store.inputs(run, limit=ALL) for entry in row.data]
        self.input_seqs = [row.seq for row in store.inputs(run, limit=ALL)]
        self.commands = commands
        self.story = Story(path)
        self.problems: list[str] = []
        self.handles: dict[str, Attempt] = {}
        """Attempt's name → task and number, as the journal says."""
        self.ended: dict[Attempt, JournalEvent] = {}

    def must(self, holds: bool, problem: str) -> None:
        if not holds:
            self.problems.append(problem)

    # --- the journal ----------------------------------------------------------------------------------

    def check_order(self) -> None:
        """Nothing is missing in the journal, nothing is there twice."""
        seqs = [event.seq for event in self.events]
        self.must(seqs == list(range(1, self.row.last_seq + 1)), f"the journal has gaps: {seqs}")
        self.must(self.input_seqs == list(range(1, len(self.input_seqs) + 1)), "the inputs have gaps")
        for before, after in zip(self.events, self.events[1:], strict=False):
            # what a planner adds is noted at once, and ends of attempts later, with the time that they have
            in_order = before.at <= after.at or self.reference.planned
            self.must(in_order, f"time runs backwards at seq {after.seq}")
        ends = [event.type for event in self.events if event.type == f"run.{self.row.status}"]
        self.must(len(ends) == 1, f"the run ended {len(ends)} times as {self.row.status}")
        created = sum(event.type == "run.created" for event in self.events)
        self.must(created == 1, f"the run was created {created} times")

    def check_attempts(self) -> None:
        """Attempts are numbered without gaps, and each ends exactly once."""
        numbers: dict[str, int] = defaultdict(int)
        for event in self.events:
            if event.type == "task.started":
                assert event.task is not None
                assert event.attempt is not None
                number = (event.data or {})["number"]
                self.must(number == numbers[event.task] + 1, f"attempt {number} of {event.task} out of order")
                self.must(event.attempt not in self.handles, f"{event.attempt} names two attempts")
                numbers[event.task] = number
                self.handles[event.attempt] = (event.task, number)
            elif event.type in ENDS_OF_ATTEMPTS and event.attempt is not None:
                if "decision" in (event.data or {}):
                    continue
                attempt = self.handles.get(event.attempt)
                self.must(attempt is not None, f"{event.type} of {event.task}, which was not started")
                if attempt is not None:
                    self.must(attempt not in self.ended, f"attempt {attempt} ended twice")
                    self.ended[attempt] = event
        for attempt in self.handles.values():
            self.must(attempt in self.ended, f"attempt {attempt} has no end")
        for task in self.tasks:
            self.must(task.attempts == numbers[task.id], f"{task.id}: {task.attempts} attempts in its row")

    def check_pauses(self) -> None:
        """Nothing starts in a pause."""
        paused = False
        for event in self.events:
            if event.type.startswith("run."):
                paused = event.type == "run.paused" or (paused and event.type == "run.ending")
            self.must(not (paused and event.type == "task.started"), f"{event.task} was started in a pause")

    def check_retries(self) -> None:
        """Retries are counted for real failures only: crashes use up none."""
        counted: Counter[str] = Counter()
        for event in self.events:
            if event.type in {"task.ready", "task.pending"} and (event.data or {}).get("reason") == "retry":
                counted[event.task or ""] = 0  # a person's retry
            if event.type == "task.retrying":
                counted[event.task or ""] += 1
                told = (event.data or {})["retry"]
                self.must(told == counted[event.task or ""], f"retry {told} of {event.task} is miscounted")
        for task in self.tasks:
            kept = task.memory.get("retries", 0)
            self.must(
                kept == counted[task.id], f"{task.id}: {kept} retries kept, {counted[task.id]} in the journal"
            )

    # --- the ledger -----------------------------------------------------------------------------------

    def check_told(self) -> None:
        """What an observer was told was durable then, and is there."""
        for seq, kind, task, attempt in self.story.told:
            number = int(seq)
            there = self.events[number - 1] if number <= len(self.events) else None
            found = there and [there.type, there.task or ledger.NOTHING, there.attempt or ledger.NOTHING]
            self.must(found == [kind, task, attempt], f"seq {seq} was told as {kind} {task}, but is {found}")

    def check_starts(self) -> None:
        """Each attempt began once at most, after it was recorded, with one key a task; none after the end."""
        begun: set[Attempt] = set()
        last: dict[str, int] = {}
        keys: dict[str, str] = {}
        known = set(self.handles.values())
        for task, text, key, _ in self.story.starts:
            number = int(text)
            self.must((task, number) not in begun, f"attempt {number} of {task} ran twice")
            self.must((task, number) in known, f"attempt {number} of {task} ran, but is not on record")
            self.must(number > last.get(task, 0), f"attempt {number} of {task} began after {last.get(task)}")
            self.must(keys.setdefault(task, key) == key, f"{task} has several idempotency keys")
            begun.add((task, number))
            last[task] = number
        self.must(len(set(keys.values())) == len(keys), "two tasks have one idempotency key")
        done: set[str] = set()
        for line in self.story.lines:
            if line[0] == "told" and line[2] == "task.completed":
                done.add(line[3])
            if line[0] == "start":
                self.must(line[1] not in done, f"{line[1]} ran again after it was told to be completed")
            self.must(line[0] != "left", f"left running after the run was taken up: {line[1:]}")

    def check_ends(self) -> None:
        """What the journal says of an attempt is what it did."""
        begun = {(task, int(number)) for task, number, *_ in self.story.starts}
        for attempt, event in self.ended.items():
            reason = str((event.data or {}).get("reason", "")) + str((event.data or {}).get("error", ""))
            lost = LOST in reason
            if event.type == "task.completed":
                self.must(
                    attempt in self.story.ends or attempt[0] not in self._noted,
                    f"{attempt} completed, but gave nothing",
                )
            elif event.type == "task.retrying" or (event.type == "task.failed" and not lost):
                self.must(
                    attempt in self.story.fails, f"{attempt} is on record as failed, but did not: {reason}"
                )
            elif event.type == "task.deferred":
                self.must(lost, f"{attempt} was deferred: {reason}")
        for attempt in self.story.fails & self.ended.keys():
            event = self.ended[attempt]
            self.must(event.type != "task.completed", f"{attempt} failed, but is on record as completed")
            self.must(attempt in begun, f"{attempt} failed without beginning")

    @property
    def _noted(self) -> set[str]:
        """Tasks that note what they do."""
        return {start[0] for start in self.story.starts}

    def check_asked(self) -> None:
        """What must not be repeated unasked was not."""
        for task in self.tasks:
            if task.spec.get("idempotent", True):
                continue
            ran = sum(start[0] == task.id for start in self.story.starts)
            retried = sum(
                row["kind"] == "retry" and row["task"] == task.id and row["refused"] is None
                for row in self.commands
            )
            self.must(ran <= 1 + retried, f"{task.id} ran {ran} times, but was retried {retried} times")

    def check_commands(self) -> None:
        """Each wish of a person was carried out exactly once."""
        carried = Counter(
            (entry[1], entry[2]) for entry in self.inputs if entry[0] == "command" and entry[1] != "resume"
        )
        for row in self.commands:
            self.must(row["done_at"] is not None, f"{row['kind']} {row['task']} was not taken")
            if row["refused"] is not None:
                allowed = row["kind"] in self.reference.may_refuse
                self.must(allowed, f"{row['kind']} {row['task']} was refused: {row['refused']}")
        said = Counter(
            (row["kind"], row["task"])
            for row in self.commands
            if row["refused"] is None and row["kind"] != "resume"
        )
        carried = Counter({key: count for key, count in carried.items() if key[0] not in {"limit", "fail"}})
        self.must(said == carried, f"said {dict(said)}, carried out {dict(carried)}")

    # --- the outcome ----------------------------------------------------------------------------------

    def outcome(self) -> dict[str, Any]:
        """Give what must be the same whatever is killed."""
        return {
            "status": self.row.status,
            "answer": self.row.answer,
            "tasks": {
                task.id: [task.state, *self._gave(task)]
                for task in self.tasks
                if len(self.reference.states_of(task.id)) == 1
            },
        }

    @staticmethod
    def _gave(task: TaskRow) -> list[Any]:
        if task.state != "completed":
            return []
        return [task.output, task.has_data, task.exit_code, task.output_size, task.output_sha256]

    def check_outcome(self) -> None:
        """Every task reached its end with the result that its last attempt gave."""
        reference = self.reference
        self.must(self.row.status == reference.status, f"the run is {self.row.status}: {self.row.error}")
        owner = self.row.owner  # one that was killed in the last moment could not let go any more
        self.must(owner is None or is_alive(owner) is False, f"the run still belongs to {owner}")
        counts = Counter(task.state for task in self.tasks)
        self.must(self.row.counts == dict(counts), f"counts are {self.row.counts}, but {dict(counts)}")
        if not reference.planned:
            self.must({task.id for task in self.tasks} == set(reference.make().tasks), "tasks are missing")
        done = [task for task in self.tasks if task.state == "completed"]
        results = read_results(self.store, self.row.id, self.folder, [task.index for task in done])
        for task in self.tasks:
            allowed = reference.states_of(task.id)
            self.must(task.state in allowed, f"{task.id} is {task.state} ({task.error})")
            if task.state != "completed":
                continue
            gave = self.story.ends.get((task.id, task.attempts))
            if task.id in self._noted:
                self.must(gave is not None, f"{task.id}: nothing was given by attempt {task.attempts}")
            wanted = reference.value(task.id)
            self.must(wanted in (None, gave), f"{task.id} gave {gave} instead of {wanted}")
            whole = whole_output(task, self.folder).decode()
            self.must(gave is None or str(gave) in whole, f"{task.id}: another output: {whole[:80]!r}")
            self.must(task.id in results, f"{task.id} has no result")

    def check_usage(self) -> None:
        """What attempts took of models is counted, as far as it was ever told."""
        told = [(event.data or {}).get("usage") for event in self.events]
        requests = sum(usage["requests"] for usage in told if usage)
        counted = self.row.memory.get("used", {}).get("requests", 0)
        if self.reference.model is not None:
            self.must(counted >= requests, f"{counted} requests counted, but events tell of {requests}")

    def check_sqlite(self) -> None:
        """The file is whole."""
        if not self.store.url.startswith("sqlite"):
            return
        with self.store._reading() as connection:
            for pragma, good in (("integrity_check", [("ok",)]), ("foreign_key_check", [])):
                found = [tuple(row) for row in connection.exec_driver_sql(f"PRAGMA {pragma}")]
                self.must(found == good, f"{pragma}: {found}")

    def check_replay(self) -> None:
        """The journal, played again, decides the same."""
        assert_replays(self.store, self.row.id)


def examine(
    reference: Reference,
    store: SqlStore,
    run: str,
    path: Path,
    commands: Sequence[Mapping[str, Any]],
    clean: Mapping[str, Any] | None,
    kills: int,
) -> tuple[dict[str, Any], list[str]]:
    """Give the outcome of a trial, and what is wrong with it. `clean` is the outcome without any crash."""
    oracle = Oracle(reference, store, run, path, commands)
    checks: list[Callable[[], None]] = [
        oracle.check_order,
        oracle.check_attempts,
        oracle.check_pauses,
        oracle.check_retries,
        oracle.check_told,
        oracle.check_starts,
        oracle.check_ends,
        oracle.check_asked,
        oracle.check_commands,
        oracle.check_outcome,
        oracle.check_usage,
        oracle.check_sqlite,
        oracle.check_replay,
    ]
    for check in checks:
        try:
            check()
        except Exception:
            oracle.problems.append(f"{check.__name__}: {traceback.format_exc()}")
    outcome = oracle.outcome()
    if clean is not None:
        oracle.must(outcome == dict(clean), f"the outcome is {outcome}, without crashes it is {clean}")
    lost = sum(LOST in str((event.data or {}).get("reason", "")) for event in oracle.ended.values())
    oracle.must(lost == 0 or kills > 0, f"{lost} attempts were lost without a crash")
    return outcome, oracle.problems
