"""What every store must do, as tests: subclass `StoreContract` and let pytest run it.

    from allready.testing.store_contract import StoreContract

    class TestMyStore(StoreContract):
        opener = "my_package:open_my_store"     # called with a URL, and with `clock` by keyword

        @pytest.fixture
        def url(self, tmp_path):
            return f"mine://{tmp_path}/runs"    # a place where no store is yet

The contract itself is `allready.store.contract`. Some tests start processes of their own, which import the
opener by its name; no test waits for time to pass, but all want a store that works within seconds.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from allready.core.events import Change
from allready.errors import AllreadyError, BugError, LeaseLost, RunNotFound, RunOwned, StoreError, UserError
from allready.store.contract import (
    LEASE_SECONDS,
    Batch,
    CommandRow,
    JournalEvent,
    Lease,
    Owner,
    RunRow,
    Store,
    TaskMark,
    TaskRow,
    TaskTimes,
)
from allready.store.owners import is_alive, this_process

RUN = "0193a5b0-0000-7000-8000-0000000000a1"
OTHER_RUN = "0193a5b0-0000-7000-8000-0000000000b2"
ELSEWHERE = Owner("elsewhere", "another boot", 1, 0.0)
"""A process that can't be looked at from here."""
STRANGE_TEXT = "zażółć 🐙 \u2028 \x1b[31m 'quoted' \"twice\" {{ braces }} %s :name ? \\ \r\n\t end"
LONG_TEXT = "ä" * 32_768
"""64 KiB in UTF-8."""
DEEP_JSON = {"text": STRANGE_TEXT, "nul": "a\0b", "list": [None, True, 1.5, [], {}], "big": 2**70, "": 0}
PATIENCE = 60.0
"""Seconds within which a process must answer."""

ACQUIRE_IN_A_PROCESS = """
import importlib, sys
opener, url, run_id = sys.argv[1:]
module, _, name = opener.partition(":")
from allready.errors import RunOwned
from allready.store.owners import this_process
store = getattr(importlib.import_module(module), name)(url)
print("open", flush=True)
sys.stdin.readline()
try:
    print("epoch", store.acquire(run_id, this_process()).epoch, flush=True)
except RunOwned:
    print("owned", flush=True)
sys.stdin.readline()  # stays alive: a dead owner would be replaced
"""


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        """Give the time."""
        return self.now


def a_run(run_id: str = RUN, **columns: Any) -> RunRow:
    """Give a run to be created."""
    values: dict[str, Any] = {
        "goal": "a goal",
        "status": "created",
        "created_at": 1_700_000_000.25,
        "seed": 7,
        "folder": f"/somewhere/{run_id}",
        "plan": {"tasks": []},
    }
    return RunRow(run_id, **{**values, **columns})


def some_tasks(*ids: str) -> list[TaskRow]:
    """Give tasks to be created."""
    return [TaskRow(index, id_, {"id": id_}) for index, id_ in enumerate(ids)]


def moved(index: int, state: str = "running", **columns: Any) -> dict[str, Any]:
    """Give a row of `Batch.tasks`."""
    values: dict[str, Any] = {
        "index": index,
        "state": state,
        "attempts": 1,
        "agent": None,
        "handle": f"handle-{index}",
        "started_at": 1_700_000_001.5,
        "finished_at": None,
        "error": None,
        "memory": {},
    }
    return {**values, **columns}


def result(index: int, output: str | None, **columns: Any) -> dict[str, Any]:
    """Give a row of `Batch.results`."""
    values: dict[str, Any] = {
        "index": index,
        "output": output,
        "data": None,
        "has_data": False,
        "output_file": None,
        "output_size": None,
        "output_sha256": None,
        "exit_code": None,
    }
    return {**values, **columns}


def changes(*types: str, task: str | None = None) -> list[Change]:
    """Give events to be written."""
    return [Change(1_700_000_002.0 + number, type_, task) for number, type_ in enumerate(types)]


class StoreContract:
    """The suite. See the module's head for how to use it."""

    opener: ClassVar[str] = "allready.store:open_store"
    """`module:function`, called with a URL and `clock=` (seconds since 1970); gives a `Store`."""

    @pytest.fixture
    def url(self) -> str:
        """Give the URL of a place where no store is yet."""
        raise NotImplementedError("give the URL of a new store in a fixture named url")

    @pytest.fixture
    def open_another(self, url: str) -> Iterator[Callable[..., Store]]:
        """Give a function that opens the store once more; all are closed at the end."""
        module, _, name = self.opener.partition(":")
        function = getattr(importlib.import_module(module), name)
        opened: list[Store] = []

        def open_another(clock: Callable[[], float] = time.time) -> Store:
            opened.append(function(url, clock=clock))
            return opened[-1]

        yield open_another
        for store in opened:
            store.close()

    @pytest.fixture
    def store(self, open_another: Callable[..., Store]) -> Store:
        """Give an open store."""
        return open_another()

    @pytest.fixture
    def lease(self, store: Store) -> Lease:
        """Give the lease on a new run with the tasks one, two, three."""
        store.create_run(a_run(), some_tasks("one", "two", "three"))
        return store.acquire(RUN, this_process())

    # --- runs and tasks ---------------------------------------------------------------------------------

    def test_a_run_comes_back_as_it_was_created(self, store: Store) -> None:
        """Every column, with strange contents, big numbers and nothing at all."""
        run = a_run(
            goal=STRANGE_TEXT,
            seed=2**80 + 1,
            folder="/somewhere/with blanks/ö",
            plan=DEEP_JSON,
            options=DEEP_JSON,
            source=STRANGE_TEXT,
            started_at=0.1 + 0.2,
            finished_at=None,
            error=STRANGE_TEXT,
            answer=LONG_TEXT,
            counts={"pending": 3},
            memory=DEEP_JSON,
        )
        store.create_run(run, [])
        assert store.run(RUN) == run
        assert store.runs() == [replace(run, plan={})]

    def test_a_new_run_has_no_owner(self, store: Store) -> None:
        """Whatever the row says that it was made from."""
        store.create_run(a_run(owner=ELSEWHERE, lease_until=time.time() + 99, epoch=5, last_seq=9), [])
        assert store.run(RUN) == a_run()
        assert store.acquire(RUN, this_process()).previous is None

    def test_tasks_come_back_as_they_were_created(self, store: Store) -> None:
        """Every column, and by index."""
        full = TaskRow(
            index=1,
            id="full",
            spec=DEEP_JSON,
            title=STRANGE_TEXT,
            state="completed",
            attempts=3,
            agent="an agent",
            handle="a handle",
            started_at=1.25,
            finished_at=2.5,
            error=STRANGE_TEXT,
            memory=DEEP_JSON,
            output=LONG_TEXT,
            data=DEEP_JSON,
            has_data=True,
            output_file="tasks/full/1/output.txt",
            output_size=2**40,
            output_sha256="00ff",
            exit_code=-9,
        )
        plain = TaskRow(0, "plain", {})
        store.create_run(a_run(), [full, plain])
        assert store.tasks(RUN, outputs=True) == [plain, full]
        assert store.task(RUN, "full") == full
        assert store.tasks(RUN) == [plain, replace(full, output=None, data=None)]
        assert store.results(RUN, [1, 0, 1, 77]) == {0: plain, 1: full}
        assert store.results(RUN, []) == {}

    def test_parts_of_a_run_can_be_read_by_themselves(self, store: Store) -> None:
        """A run without its plan, some of its tasks, where they stand, and what the plan says of one."""
        entries = [
            {"id": "a", "run": 'echo {"id":"b"}', "env": {"id": "a"}},
            {"run": "x", "id": "b"},
            {"id": "c", "run": "z"},
        ]
        run = a_run(plan={"tasks": entries, "vars": {"id": "c"}})
        tasks = some_tasks(*(f"t{number}" for number in range(2500)))
        tasks[1].memory, tasks[1].state, tasks[1].finished_at = {"retries": 1}, "failed", 5.25
        tasks[2400].output = "long"
        store.create_run(run, tasks)
        assert store.run(RUN, plan=False) == a_run(plan={})
        marks = store.marks(RUN)
        assert marks[0] == TaskMark(0, "t0", "pending", None, remembers=False)
        assert marks[1] == TaskMark(1, "t1", "failed", 5.25, remembers=True)
        assert [mark.id for mark in marks] == [task.id for task in tasks]
        wanted = [2400, 1, *range(3, 1200), 9999]
        found = store.tasks(RUN, indexes=iter(wanted))
        assert [task.index for task in found] == sorted(wanted)[:-1]
        assert (found[0], found[-1].output) == (tasks[1], None)
        assert store.tasks(RUN, outputs=True, indexes=[2400]) == [tasks[2400]]
        assert store.tasks(RUN, indexes=[]) == []
        for name, entry in zip("abc", entries, strict=True):
            assert store.plan_of_task(RUN, name) == entry
        assert store.plan_of_task(RUN, "d") == {}

    def test_what_no_database_can_keep_is_replaced(self, store: Store) -> None:
        """NUL and lone surrogates in text; NUL inside JSON is kept."""
        task = TaskRow(0, "a", {"x": "\ud800 \0"}, title="a\0b", output="\udcff", data="\0", has_data=True)
        store.create_run(a_run(goal="x\0y\ud800"), [task])
        assert store.run(RUN).goal == "x\ufffdy\ufffd"
        found = store.task(RUN, "a")
        assert (found.spec, found.title, found.output, found.data) == (
            {"x": "\ufffd \0"},
            "a\ufffdb",
            "\ufffd",
            "\0",
        )

    def test_structured_output_of_null_is_not_no_output(self, store: Store) -> None:
        """`has_data` tells them apart."""
        none, null, falsy = (
            TaskRow(0, "none", {}),
            TaskRow(1, "null", {}, data=None, has_data=True),
            TaskRow(2, "falsy", {}, data={}, has_data=True),
        )
        store.create_run(a_run(), [none, null, falsy])
        assert [(task.has_data, task.data) for task in store.tasks(RUN, outputs=True)] == [
            (False, None),
            (True, None),
            (True, {}),
        ]

    def test_a_run_is_created_whole_or_not_at_all(self, store: Store) -> None:
        """A task that can't be written takes the run with it; and an id is used once."""
        with pytest.raises(BugError):
            store.create_run(a_run(), some_tasks("same", "same"))
        with pytest.raises(RunNotFound):
            store.run(RUN)

        def broken() -> Iterator[TaskRow]:
            yield TaskRow(0, "first", {})
            raise RuntimeError("while the tasks are made")

        with pytest.raises(RuntimeError):
            store.create_run(a_run(), broken())
        assert store.runs() == []
        assert store.tasks(RUN) == []
        store.create_run(a_run(), some_tasks("kept"))
        with pytest.raises(AllreadyError):
            store.create_run(a_run(), some_tasks("another"))
        assert [task.id for task in store.tasks(RUN)] == ["kept"]

    def test_only_json_values_are_kept(self, store: Store) -> None:
        """Anything else is refused, and nothing of it is written."""
        with pytest.raises(BugError):
            store.create_run(a_run(plan={"a set": {1, 2}}), [])
        assert store.runs() == []

    def test_runs_are_listed_newest_first_in_pages(self, store: Store) -> None:
        """By id, which begins with the time; also by status."""
        ids = [f"0193a5b0-0000-7000-8000-{number:012x}" for number in range(7)]
        for number, run_id in enumerate(ids):
            store.create_run(a_run(run_id, status="failed" if number % 2 else "completed"), [])
        assert [run.id for run in store.runs()] == ids[::-1]
        assert [run.id for run in store.runs(limit=3)] == [ids[6], ids[5], ids[4]]
        assert [run.id for run in store.runs(limit=3, before=ids[4])] == [ids[3], ids[2], ids[1]]
        assert store.runs(before=ids[0]) == []
        assert [run.id for run in store.runs(limit=2, status="failed")] == [ids[5], ids[3]]
        assert [run.id for run in store.runs(before=ids[3], status="failed")] == [ids[1]]
        assert store.runs(status="paused") == []
        assert store.runs(limit=0) == []

    # --- names ------------------------------------------------------------------------------------------

    def test_a_run_is_found_by_what_people_call_it(self, store: Store) -> None:
        """Its id, a beginning of it in any case of letters, `latest`."""
        first, second = "0193a5b0-aaaa-7000-8000-000000000001", "0193a5b0-bbbb-7000-8000-000000000002"
        store.create_run(a_run(first), [])
        assert store.find_run("0193") == first
        store.create_run(a_run(second), [])
        assert store.find_run(first) == first
        assert store.find_run("0193a5b0-a") == first
        assert store.find_run(" 0193A5B0-B ") == second
        assert store.find_run("latest") == second

    def test_a_run_that_is_not_found_says_what_there_is(self, store: Store) -> None:
        """Candidates, similar ones, the newest, or that there are none."""
        with pytest.raises(RunNotFound, match="no runs"):
            store.find_run("latest")
        for run_id in (RUN, OTHER_RUN):
            store.create_run(a_run(run_id, goal=f"goal of {run_id[-2:]}"), [])
        with pytest.raises(RunNotFound, match="more than one") as ambiguous:
            store.find_run("0193a5b0")
        with pytest.raises(RunNotFound) as similar:
            store.find_run(RUN.replace("a5b0", "a5b1"))
        with pytest.raises(RunNotFound) as unknown:
            store.find_run("something else")
        for error in (ambiguous, similar, unknown):
            for fact in (RUN, OTHER_RUN, "goal of a1", "created"):
                assert fact in str(error.value)
        for short in ("019", "0"):
            with pytest.raises(RunNotFound, match="4 characters"):
                store.find_run(short)
        for odd in ("", "%%%%", "____", "0193%", "\0\0\0\0", "\udcff\udcff\udcff\udcff"):
            with pytest.raises(RunNotFound):
                store.find_run(odd)

    @pytest.mark.parametrize(
        "method", ["run", "plan_of_task", "add_command", "acquire", "task", "delete_run"]
    )
    def test_an_unknown_run_is_an_error(self, store: Store, method: str) -> None:
        """Wherever a run is meant that must be there."""
        more = {
            "plan_of_task": ("a",),
            "add_command": ("pause",),
            "acquire": (this_process(),),
            "task": ("a",),
        }
        for name in (RUN, "\udcff"):
            with pytest.raises(RunNotFound):
                getattr(store, method)(name, *more.get(method, ()))

    def test_an_unknown_run_has_nothing(self, store: Store) -> None:
        """Where lists are asked for."""
        assert store.tasks(RUN) == []
        assert store.marks(RUN) == []
        assert store.events(RUN) == []
        assert store.inputs(RUN) == []
        assert store.pending_commands(RUN) == []

    @pytest.mark.usefixtures("lease")
    def test_an_unknown_task_names_similar_ones(self, store: Store) -> None:
        """Or what there is."""
        with pytest.raises(UserError, match="did you mean three"):
            store.task(RUN, "thre")
        with pytest.raises(UserError, match="one, two, three"):
            store.task(RUN, "zzzzzzzz")

    # --- commits ----------------------------------------------------------------------------------------

    def test_a_commit_writes_all_of_its_batch(self, store: Store, lease: Lease) -> None:
        """Run, tasks, results, events, inputs, commands and new tasks."""
        command = store.add_command(RUN, "approve", "two")
        last = store.commit(
            RUN,
            lease.epoch,
            Batch(
                changes=changes("task.added", "task.started"),
                inputs=[["tick", 1.5], ["spawn", STRANGE_TEXT, None]],
                new_tasks=[TaskRow(3, "four", {"id": "four"})],
                tasks=[moved(0, error=STRANGE_TEXT, memory={"retries": 1}), moved(3, "ready")],
                results=[result(0, LONG_TEXT, data=DEEP_JSON, has_data=True, exit_code=0)],
                run={
                    "status": "running",
                    "started_at": 5.5,
                    "counts": {"running": 1},
                    "memory": {"open": True},
                },
                commands=[(command, None)],
            ),
        )
        assert last == 2
        run = store.run(RUN)
        assert (run.status, run.started_at, run.counts, run.memory, run.last_seq) == (
            "running",
            5.5,
            {"running": 1},
            {"open": True},
            2,
        )
        one, _, _, four = store.tasks(RUN, outputs=True)
        assert (one.state, one.error, one.memory, one.handle) == (
            "running",
            STRANGE_TEXT,
            {"retries": 1},
            "handle-0",
        )
        assert (one.output, one.data, one.has_data, one.exit_code) == (LONG_TEXT, DEEP_JSON, True, 0)
        assert (four.id, four.state) == ("four", "ready")
        assert [event.type for event in store.events(RUN)] == ["task.added", "task.started"]
        assert [row.data for row in store.inputs(RUN)] == [[["tick", 1.5], ["spawn", STRANGE_TEXT, None]]]
        assert store.command(command).done_at is not None

    def test_a_plan_grows_with_a_commit(self, store: Store, lease: Lease) -> None:
        """The plan of a batch stands in the place of the run's; a commit that fails leaves it as it was."""
        grown = {"tasks": [{"id": "new"}]}
        store.commit(RUN, lease.epoch, Batch(changes("task.added"), plan=grown))
        assert store.run(RUN).plan == grown
        store.commit(RUN, lease.epoch, Batch(changes("task.ready")))
        assert store.run(RUN).plan == grown
        with pytest.raises(LeaseLost):
            store.commit(RUN, lease.epoch + 1, Batch(changes("task.added"), plan={"tasks": []}))
        assert store.run(RUN).plan == grown

    def test_what_a_commit_does_not_name_stays(self, store: Store, lease: Lease) -> None:
        """Columns of the run, other tasks, results of earlier attempts."""
        store.commit(
            RUN, lease.epoch, Batch(results=[result(0, "kept")], run={"answer": "kept", "counts": {"a": 1}})
        )
        store.commit(RUN, lease.epoch, Batch(tasks=[moved(0), moved(1)], run={"status": "running"}))
        run = store.run(RUN)
        assert (run.answer, run.counts, run.status) == ("kept", {"a": 1}, "running")
        assert [task.state for task in store.tasks(RUN)] == ["running", "running", "pending"]
        assert store.task(RUN, "one").output == "kept"

    def test_events_are_numbered_without_gaps(self, store: Store, lease: Lease) -> None:
        """From 1, over commits and owners; commits without events give the last number."""
        assert store.commit(RUN, lease.epoch, Batch()) == 0
        assert store.commit(RUN, lease.epoch, Batch(changes("run.created", "run.started"))) == 2
        assert store.commit(RUN, lease.epoch, Batch(run={"status": "running"})) == 2
        store.release(RUN, lease.epoch)
        again = store.acquire(RUN, this_process())
        assert store.commit(RUN, again.epoch, Batch(changes("run.paused"))) == 3
        assert store.events(RUN) == [
            JournalEvent(1, 1_700_000_002.0, "run.created", None, None, None),
            JournalEvent(2, 1_700_000_003.0, "run.started", None, None, None),
            JournalEvent(3, 1_700_000_002.0, "run.paused", None, None, None),
        ]

    def test_events_come_back_as_they_were(self, store: Store, lease: Lease) -> None:
        """With no data, empty data and strange data."""
        told = [
            Change(0.1 + 0.2, "task.started", "one", "attempt", None),
            Change(2.0, "task.failed", "one", None, {}),
            Change(3.0, "plan.made", None, None, DEEP_JSON),
        ]
        store.commit(RUN, lease.epoch, Batch(told))
        assert [Change(*event[1:]) for event in store.events(RUN)] == told

    def test_events_come_in_pages_and_by_task(self, store: Store, lease: Lease) -> None:
        """After a number, so many, of one task."""
        for _ in range(3):
            store.commit(RUN, lease.epoch, Batch([*changes("a", task="one"), *changes("b", task="two")]))

        def seqs(**query: Any) -> list[int]:
            return [event.seq for event in store.events(RUN, **query)]

        assert seqs() == [1, 2, 3, 4, 5, 6]
        assert seqs(after=2, limit=2) == [3, 4]
        assert seqs(after=6) == []
        assert seqs(task="two") == [2, 4, 6]
        assert seqs(task="two", after=2, limit=1) == [4]
        assert seqs(task="no such task") == []

    def test_inputs_come_in_pages(self, store: Store, lease: Lease) -> None:
        """One row for each commit that had inputs, numbered without gaps."""
        for number in range(4):
            store.commit(RUN, lease.epoch, Batch(inputs=[["tick", number]]))
            store.commit(RUN, lease.epoch, Batch(changes("a")))
        assert [(row.seq, row.data) for row in store.inputs(RUN)] == [
            (number + 1, [["tick", number]]) for number in range(4)
        ]
        assert [row.seq for row in store.inputs(RUN, after=1, limit=2)] == [2, 3]
        assert store.inputs(RUN, limit=2, newest=True) == store.inputs(RUN, after=2)
        assert store.inputs(RUN, after=1, limit=9, newest=True) == store.inputs(RUN, after=1)

    def test_a_commit_that_fails_leaves_nothing(self, store: Store, lease: Lease) -> None:
        """Whatever part of it can't be written, all the others are not either."""
        command = store.add_command(RUN, "pause")
        whole = Batch(
            changes("run.paused"),
            [["tick", 1.0]],
            [TaskRow(3, "four", {})],
            [moved(0)],
            [result(0, "output")],
            {"status": "paused"},
            [(command, None)],
        )
        before = (store.run(RUN), store.tasks(RUN, outputs=True))
        wrongs: list[dict[str, Any]] = [
            {"tasks": [moved(0), moved(77)]},
            {"results": [result(77, "x")]},
            {"new_tasks": [TaskRow(3, "one", {})]},
            {"commands": [(command, None), (command + 1000, None)]},
            {"commands": [(command, None), (command, None)]},
            {"run": {"plan": {}}},
            {"inputs": [{1, 2}]},
        ]
        for wrong in wrongs:
            with pytest.raises(BugError):
                store.commit(RUN, lease.epoch, replace(whole, **wrong))
            assert (store.run(RUN), store.tasks(RUN, outputs=True)) == before
            assert store.events(RUN) == []
            assert store.inputs(RUN) == []
            assert [row.id for row in store.pending_commands(RUN)] == [command]
        assert store.commit(RUN, lease.epoch, whole) == 1

    def test_a_batch_that_is_handed_in_again_is_not_written_again(self, store: Store, lease: Lease) -> None:
        """An owner may not know whether it was written, when the store went away meanwhile."""
        command = store.add_command(RUN, "approve", "two")
        first = Batch(changes("a", "b"), [["tick", 1]], tasks=[moved(0, attempts=1)], number=1)
        second = Batch(changes("c"), [["tick", 2]], [TaskRow(3, "four", {})], number=2)
        second.commands = [(command, None)]
        assert [store.commit(RUN, lease.epoch, first) for _ in range(3)] == [2, 2, 2]
        store.commit(RUN, lease.epoch, Batch(tasks=[moved(1, "ready")]))  # one that is not counted
        assert [store.commit(RUN, lease.epoch, second) for _ in range(2)] == [3, 3]
        assert [event.type for event in store.events(RUN)] == ["a", "b", "c"]
        assert [row.data for row in store.inputs(RUN)] == [[["tick", 1]], [["tick", 2]]]
        assert len(store.tasks(RUN)) == 4
        for number in (1, 4):
            with pytest.raises(BugError, match=f"batch {number} .* can't follow batch 2"):
                store.commit(RUN, lease.epoch, Batch(changes("x"), number=number))
        again = store.acquire(RUN, this_process())
        with pytest.raises(LeaseLost):
            store.commit(RUN, lease.epoch, second)
        assert store.commit(RUN, again.epoch, Batch(changes("d"), number=1)) == 4  # counted anew
        store.release(RUN, again.epoch)
        with pytest.raises(LeaseLost):
            store.commit(RUN, again.epoch, Batch(changes("d"), number=1))

    def test_a_large_batch_is_one_commit(self, store: Store) -> None:
        """Thousands of tasks at once."""
        count = 3_000
        store.create_run(a_run(), some_tasks(*(f"t{number}" for number in range(count))))
        lease = store.acquire(RUN, this_process())
        told = [Change(1.0, "task.started", f"t{number}") for number in range(count)]
        rows, results = [moved(n) for n in range(count)], [result(n, f"{n}") for n in range(count)]
        assert store.commit(RUN, lease.epoch, Batch(told, tasks=rows, results=results)) == count
        assert {task.state for task in store.tasks(RUN)} == {"running"}
        assert [event.task for event in store.events(RUN, limit=count)] == [f"t{n}" for n in range(count)]
        found = store.results(RUN, range(count))
        assert [found[n].output for n in range(count)] == [str(n) for n in range(count)]

    def test_runs_do_not_mix(self, store: Store, lease: Lease) -> None:
        """Two runs with the same tasks, numbers and commands of their own."""
        store.create_run(a_run(OTHER_RUN), some_tasks("one"))
        other = store.acquire(OTHER_RUN, this_process())
        store.commit(RUN, lease.epoch, Batch(changes("a", "b"), [["tick", 1]], tasks=[moved(0)]))
        assert store.commit(OTHER_RUN, other.epoch, Batch(changes("c"))) == 1
        assert [event.type for event in store.events(OTHER_RUN)] == ["c"]
        assert store.inputs(OTHER_RUN) == []
        assert store.task(OTHER_RUN, "one").state == "pending"
        command = store.add_command(RUN, "pause")
        assert store.pending_commands(OTHER_RUN) == []
        with pytest.raises(BugError):
            store.commit(OTHER_RUN, other.epoch, Batch(commands=[(command, None)]))

    # --- owners -----------------------------------------------------------------------------------------

    def test_each_owner_gets_a_new_epoch(self, store: Store) -> None:
        """And the run says who it is, until it lets go."""
        store.create_run(a_run(), [])
        first = store.acquire(RUN, this_process())
        assert first[:3] == (RUN, 1, None)
        assert store.run(RUN).owner == this_process()
        assert abs((store.run(RUN).lease_until or 0) - time.time() - LEASE_SECONDS) < PATIENCE
        store.release(RUN, first.epoch)
        run = store.run(RUN)
        assert (run.owner, run.lease_until) == (None, None)
        second = store.acquire(RUN, ELSEWHERE)
        assert second[:3] == (RUN, 2, None)

    def test_a_living_owner_keeps_the_run(self, open_another: Callable[..., Store]) -> None:
        """Until its lease runs out, if it can't be looked at; the error says who and until when."""
        clock = Clock(1_700_000_000.0)
        store = open_another(clock)
        store.create_run(a_run(), [])
        store.acquire(RUN, ELSEWHERE)
        clock.now += LEASE_SECONDS - 0.1
        with pytest.raises(RunOwned, match="process 1 on elsewhere"):
            store.acquire(RUN, this_process())
        clock.now += 0.1
        lease = store.acquire(RUN, this_process())
        assert (lease.epoch, lease.previous) == (2, ELSEWHERE)

    def test_an_owner_may_take_its_run_again(self, store: Store, lease: Lease) -> None:
        """The older lease is worth nothing then."""
        again = store.acquire(RUN, this_process())
        assert (again.epoch, again.previous) == (lease.epoch + 1, None)
        with pytest.raises(LeaseLost):
            store.commit(RUN, lease.epoch, Batch(changes("a")))

    def test_a_renewed_lease_lasts_longer(self, open_another: Callable[..., Store]) -> None:
        """Nobody else gets the run meanwhile."""
        clock = Clock(1_700_000_000.0)
        store = open_another(clock)
        store.create_run(a_run(), [])
        lease = store.acquire(RUN, ELSEWHERE)
        for _ in range(5):
            clock.now += LEASE_SECONDS - 1
            store.renew(RUN, lease.epoch)
            assert store.run(RUN).lease_until == clock.now + LEASE_SECONDS
            with pytest.raises(RunOwned):
                store.acquire(RUN, this_process())

    def test_a_dead_owner_of_this_host_is_replaced_at_once(self, store: Store) -> None:
        """Another boot, another start time, or no such process."""
        store.create_run(a_run(), [])
        me = this_process()
        for dead in (me._replace(boot_id="before"), me._replace(started=me.started - 99), _ended_process()):
            assert is_alive(dead) is False
            store.release(RUN, store.acquire(RUN, me).epoch)
            store.acquire(RUN, dead)
            assert store.acquire(RUN, me).previous == dead

    def test_an_owner_that_lost_its_run_can_not_write(self, open_another: Callable[..., Store]) -> None:
        """The epoch decides, not the clock; nothing of the batch is written, and release does nothing."""
        clock = Clock(1_700_000_000.0)
        mine, theirs = open_another(clock), open_another(clock)
        mine.create_run(a_run(), some_tasks("one"))
        old = mine.acquire(RUN, ELSEWHERE)
        clock.now += LEASE_SECONDS + 1
        assert mine.commit(RUN, old.epoch, Batch(changes("late, but nobody has taken it"))) == 1
        new = theirs.acquire(RUN, this_process())
        clock.now -= 100
        with pytest.raises(LeaseLost, match=str(this_process().pid)):
            mine.commit(RUN, old.epoch, Batch(changes("too late"), tasks=[moved(0)]))
        with pytest.raises(LeaseLost):
            mine.renew(RUN, old.epoch)
        mine.release(RUN, old.epoch)
        run = theirs.run(RUN)
        assert (run.owner, run.epoch, run.last_seq) == (this_process(), new.epoch, 1)
        assert theirs.task(RUN, "one").state == "pending"
        theirs.commit(RUN, new.epoch, Batch(changes("mine")))

    def test_a_run_that_was_let_go_can_not_be_written(self, store: Store, lease: Lease) -> None:
        """Not even by the one that had it last; nor can one that was deleted."""
        store.release(RUN, lease.epoch)
        for use in (lambda: store.commit(RUN, lease.epoch, Batch()), lambda: store.renew(RUN, lease.epoch)):
            with pytest.raises(LeaseLost, match="released"):
                use()
        store.delete_run(RUN)
        with pytest.raises(LeaseLost):
            store.commit(RUN, lease.epoch, Batch())

    def test_one_of_many_threads_gets_the_run(self, store: Store, open_another: Callable[..., Store]) -> None:
        """Over one store object or several."""
        stores = [store, *(open_another() for _ in range(3))]
        owners = [ELSEWHERE._replace(pid=number) for number in range(8)]
        for round_ in range(5):
            run_id = f"{RUN[:-1]}{round_}"
            store.create_run(a_run(run_id), [])
            barrier = threading.Barrier(len(owners))

            def attempt(
                number: int, run_id: str = run_id, barrier: threading.Barrier = barrier
            ) -> int | None:
                barrier.wait(PATIENCE)
                try:
                    return stores[number % len(stores)].acquire(run_id, owners[number]).epoch
                except RunOwned:
                    return None

            with ThreadPoolExecutor(len(owners)) as pool:
                epochs = list(pool.map(attempt, range(len(owners))))
            assert sorted(epoch for epoch in epochs if epoch is not None) == [1]
            winner = store.run(run_id).owner
            assert winner is not None
            assert epochs[winner.pid] == 1

    def test_one_of_several_processes_gets_the_run(self, store: Store, url: str) -> None:
        """And when that one is killed, another gets it at once, and hears who had it."""
        store.create_run(a_run(), [])
        command = [sys.executable, "-c", ACQUIRE_IN_A_PROCESS, self.opener, url, RUN]
        children = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(3)
        ]
        try:
            assert [_line(child) for child in children] == ["open"] * 3
            for child in children:
                _tell(child)
            answers = [_line(child) for child in children]
            assert sorted(answers) == ["epoch 1", "owned", "owned"]
            with pytest.raises(RunOwned):
                store.acquire(RUN, this_process())
            winner = children[answers.index("epoch 1")]
            winner.kill()
            winner.wait(PATIENCE)
            lease = store.acquire(RUN, this_process())
            assert lease.epoch == 2
            assert lease.previous is not None
            assert lease.previous.pid == winner.pid
        finally:
            for child in children:
                child.kill()
                child.communicate()

    def test_threads_may_write_and_read_at_once(self, store: Store, lease: Lease) -> None:
        """Nothing is lost, nothing half read."""

        def write(number: int) -> None:
            store.commit(RUN, lease.epoch, Batch(changes("a", "b"), [["n", number]]))

        def read(_: int) -> bool:
            return len(store.events(RUN)) % 2 == 0 and store.run(RUN).last_seq % 2 == 0

        with ThreadPoolExecutor(6) as pool:
            writes = pool.map(write, range(40))
            assert all(pool.map(read, range(80)))
            list(writes)
        assert [event.seq for event in store.events(RUN)] == list(range(1, 81))
        assert sorted(row.data[0][1] for row in store.inputs(RUN)) == list(range(40))

    # --- commands, changes, the end ---------------------------------------------------------------------

    def test_commands_wait_until_they_are_taken_and_are_taken_once(
        self, open_another: Callable[..., Store]
    ) -> None:
        """In the order in which they were recorded, also by others; with the reason if they don't apply."""
        clock = Clock(1_700_000_000.0)
        store, other = open_another(clock), open_another(clock)
        store.create_run(a_run(), [])
        ids = [
            other.add_command(RUN, "pause"),
            store.add_command(RUN, "skip", "ó"),
            other.add_command(RUN, "x"),
        ]
        assert ids == sorted(set(ids))
        assert store.pending_commands(RUN) == [
            CommandRow(ids[0], RUN, "pause", None, clock.now),
            CommandRow(ids[1], RUN, "skip", "ó", clock.now),
            CommandRow(ids[2], RUN, "x", None, clock.now),
        ]
        lease = store.acquire(RUN, this_process())
        clock.now += 1
        store.commit(RUN, lease.epoch, Batch(commands=[(ids[0], None), (ids[2], "no such kind")]))
        assert [command.id for command in other.pending_commands(RUN)] == [ids[1]]
        assert other.command(ids[0]) == CommandRow(ids[0], RUN, "pause", None, clock.now - 1, clock.now, None)
        assert other.command(ids[2]).refused == "no such kind"
        with pytest.raises(BugError):
            store.commit(RUN, lease.epoch, Batch(changes("again"), commands=[(ids[0], None)]))
        assert store.run(RUN).last_seq == 0
        with pytest.raises(UserError):
            store.command(ids[2] + 1000)

    def test_a_commands_number_is_never_used_again(self, store: Store) -> None:
        """Not even when its run is gone: somebody may still ask what became of it."""
        store.create_run(a_run(), [])
        first = store.add_command(RUN, "pause")
        store.delete_run(RUN)
        store.create_run(a_run(), [])
        assert store.add_command(RUN, "cancel") > first

    def test_commands_of_others_are_noticed(self, store: Store, open_another: Callable[..., Store]) -> None:
        """By everyone who watches, within moments; reading in between takes no notice away."""
        other = open_another()
        store.create_run(a_run(), [])
        for watcher in ("", "a", "b"):
            other.changed(watcher)
        for _ in range(3):
            store.add_command(RUN, "pause")
            other.events(RUN)
            for watcher in ("b", "", "a"):
                deadline = time.monotonic() + PATIENCE
                while not other.changed(watcher):
                    assert time.monotonic() < deadline, "nothing was noticed"
                    time.sleep(0.001)

    def test_what_tasks_took_is_known_by_its_median_and_spread(self, store: Store) -> None:
        """Of nothing, nothing is known; of one time, it is the median."""
        asked = iter(["one"])
        assert store.task_times(asked) == {}
        assert [*asked] == ["one"], "it was not even looked for"
        store.add_task_times({"one": [2.5], "four": [1.0, 4.0, 2.0, 3.0]})
        found = store.task_times(["one", "none", "four", "one"])
        assert found == {"one": TaskTimes(1, 2.5, 0.0), "four": TaskTimes(4, 2.5, 1.5)}
        store.add_task_times({"four": [7.0]})
        assert store.task_times(["four"]) == {"four": TaskTimes(5, 3.0, 2.0)}

    def test_only_the_newest_times_of_a_task_count(self, store: Store) -> None:
        """A task that became quicker is known as a quick one, after a while."""
        store.add_task_times({"key": [100.0] * 40})
        store.add_task_times({"key": [1.0] * 16})
        assert store.task_times(["key"]) == {"key": TaskTimes(56, 1.0, 99.0)}
        store.add_task_times({"key": [1.0] * 15})
        assert store.task_times(["key"]) == {"key": TaskTimes(71, 1.0, 0.0)}

    def test_times_of_many_tasks_are_written_at_once_and_outlive_the_run(
        self, store: Store, lease: Lease
    ) -> None:
        """They are of no run."""
        many = {f"{number:032x}": [number / 10] for number in range(1_200)}
        store.add_task_times(many)
        store.delete_run(RUN, lease.epoch)
        found = store.task_times(many)
        assert {key: [times.median] for key, times in found.items()} == many

    def test_runs_that_end_at_the_same_instant_lose_no_times(
        self, store: Store, open_another: Callable[..., Store]
    ) -> None:
        """Each adds the same keys, in another order."""
        stores = [store, *(open_another() for _ in range(3))]
        keys = [f"key-{number}" for number in range(20)]

        def add(place: int) -> None:
            order = keys[place * 5 :] + keys[: place * 5]
            for _ in range(5):
                stores[place].add_task_times({key: [1.0] for key in order})

        with ThreadPoolExecutor(len(stores)) as threads:
            list(threads.map(add, range(len(stores))))
        assert store.task_times(keys) == dict.fromkeys(keys, TaskTimes(20, 1.0, 0.0))

    def test_a_deleted_run_is_gone(self, store: Store, lease: Lease) -> None:
        """With all that belongs to it, and nothing else; not while it is owned."""
        store.create_run(a_run(OTHER_RUN), some_tasks("kept"))
        command = store.add_command(RUN, "pause")
        store.commit(RUN, lease.epoch, Batch(changes("a"), [["tick", 1]]))
        with pytest.raises(RunOwned):
            store.delete_run(RUN)
        store.release(RUN, lease.epoch)
        store.delete_run(RUN)
        assert [run.id for run in store.runs()] == [OTHER_RUN]
        assert store.tasks(RUN) == []
        assert store.marks(RUN) == []
        assert store.events(RUN) == []
        assert store.inputs(RUN) == []
        with pytest.raises(UserError):
            store.command(command)
        assert [task.id for task in store.tasks(OTHER_RUN)] == ["kept"]
        with pytest.raises(RunNotFound):
            store.delete_run(RUN)
        store.create_run(a_run(), [])
        assert store.acquire(RUN, this_process()).epoch == 1

    def test_a_run_of_a_dead_owner_can_be_deleted(self, store: Store) -> None:
        """Nobody writes to it any more."""
        store.create_run(a_run(), [])
        store.acquire(RUN, this_process()._replace(boot_id="before"))
        store.delete_run(RUN)
        assert store.runs() == []

    def test_everything_is_there_when_the_store_is_opened_again(
        self, open_another: Callable[..., Store]
    ) -> None:
        """Seen by another object, after the first was closed."""
        store = open_another()
        store.create_run(a_run(), some_tasks("one"))
        lease = store.acquire(RUN, this_process())
        store.commit(RUN, lease.epoch, Batch(changes("a"), [["tick", 1]], tasks=[moved(0)]))
        seen = (store.run(RUN), store.tasks(RUN), store.events(RUN), store.inputs(RUN))
        store.close()
        again = open_another()
        assert (again.run(RUN), again.tasks(RUN), again.events(RUN), again.inputs(RUN)) == seen

    def test_a_closed_store_says_so(self, store: Store, lease: Lease) -> None:
        """In whatever is asked; closing it twice is no error."""
        store.close()
        store.close()
        uses: list[Callable[[], object]] = [
            lambda: store.run(RUN),
            lambda: store.commit(RUN, lease.epoch, Batch()),
            lambda: store.pending_commands(RUN),
            store.changed,
            store.runs,
        ]
        for use in uses:
            with pytest.raises(StoreError, match="closed"):
                use()


def _ended_process() -> Owner:
    """Give a process that has ended."""
    code = "from allready.store.owners import this_process; print(repr(tuple(this_process())))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    host, boot_id, pid, started = done.stdout.strip()[1:-1].split(", ")
    return Owner(host.strip("'"), boot_id.strip("'"), int(pid), float(started))


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
