"""The order of things in durable runs: recorded first, done then; one transaction a round; any may fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.engine import functions
from tests.engine.replaying import assert_replays

from allready import Plan, run
from allready.agents.models import Models
from allready.engine.journal import STORE_PATIENCE, StoreJournal
from allready.engine.session import Session
from allready.engine.start import new_session, resume_session
from allready.engine.steer import steer
from allready.errors import LeaseLost, StoreBusy, StoreError, StoreUnavailable
from allready.plan.load import plan_from_document
from allready.pool.manager import SubAgent
from allready.store.contract import Batch
from allready.store.open import open_store
from allready.store.sql import SqlStore
from allready.store.sqlite import SqliteDatabase
from allready.testing import ScriptedModel, run_virtual


class WatchedStore(SqlStore):
    """A real store, with a look at its commits, and a commit that may fail."""

    def __init__(self, database: SqliteDatabase) -> None:
        super().__init__(database)
        self.log: list[tuple[list[tuple[str, str | None]], list[int]]] = []
        """Of each commit: the types and tasks of its changes, the indexes of its results."""
        self.commits = 0
        self.fail_at: int | None = None
        self.fail_after: int | None = None
        self.error: Exception = StoreError("the disk is full")

    def commit(self, run_id: str, epoch: int, batch: Batch) -> int:
        self.commits += 1
        if self.commits == self.fail_at:
            raise self.error
        last = super().commit(run_id, epoch, batch)
        if self.commits == self.fail_after:  # it was written, but nobody heard of it
            raise self.error
        changes = [(change.type, change.task) for change in batch.changes]
        self.log.append((changes, [row["index"] for row in batch.results]))
        return last


@pytest.fixture
def store(tmp_path: Path) -> Iterator[WatchedStore]:
    open_store(tmp_path / "runs.db").close()
    with closing(WatchedStore(SqliteDatabase(tmp_path / "runs.db"))) as opened:
        yield opened


async def test_nothing_is_launched_before_its_start_is_committed(store: WatchedStore) -> None:
    plan = Plan()
    early = []

    def work(name: str) -> None:
        told = [change for entry in store.log for change in entry[0]]
        if ("task.started", name) not in told:
            early.append(name)

    for number in range(10):
        before = [f"t{number - 1}"] if number % 3 else []
        plan.add(work, id=f"t{number}", args=[f"t{number}"], depends_on=before)
    assert (await run(plan, store=store, agents={}, max_parallel=2)).status == "completed"
    assert early == []


async def test_a_result_and_the_start_of_its_dependents_share_a_transaction(store: WatchedStore) -> None:
    plan = Plan()
    plan.add(functions.text, id="a")
    plan.add(functions.text, id="b", depends_on=["a"])
    await run(plan, store=store, agents={})
    assert store.log == [
        (
            [
                ("run.created", None),
                ("run.started", None),
                ("task.ready", "a"),
                ("task.started", "a"),
            ],
            [],
        ),
        ([("task.completed", "a"), ("task.ready", "b"), ("task.started", "b")], [0]),
        ([("task.completed", "b"), ("run.completed", None)], [1]),
    ]


async def test_a_thousand_tasks_take_far_fewer_commits(store: WatchedStore) -> None:
    plan = Plan()

    async def work() -> None: ...

    for number in range(1_000):
        plan.add(work, id=f"t{number}")
    result = await run(plan, store=store, agents={}, max_parallel=50)
    assert result.status == "completed"
    assert store.commits <= 1_000 / 20
    assert_replays(store, result.id)


def small(calls: list[str]) -> Plan:
    plan = Plan()

    def step(name: str, *, fails: bool = False) -> str:
        calls.append(name)
        if fails:
            raise ValueError("no")
        return name * 2

    plan.add(step, id="a", args=["a"])
    plan.add(step, id="b", args=["b"], depends_on=["a"])
    plan.add(step, id="c", args=["c"], kwargs={"fails": True}, failure_strategy="skip", depends_on=["a"])
    plan.add(step, id="d", args=["d"], depends_on=["c"])
    plan.add(step, id="e", args=["e"], depends_on=["b", "d"], run_if="all_done")
    return plan


OUTCOME = {"a": "completed", "b": "completed", "c": "failed", "d": "skipped", "e": "completed"}


@pytest.mark.parametrize("when", ["fail_at", "fail_after"])
@pytest.mark.parametrize("number", range(1, 7))
async def test_after_any_failed_commit_the_run_goes_on_to_the_same_results(
    when: str, number: int, store: WatchedStore
) -> None:
    calls: list[str] = []
    setattr(store, when, number)
    try:
        result = await run(small(calls), store=store, agents={}, max_parallel=1)
    except StoreError:
        run_id = store.find_run("latest")
        completed = {row.id for row in store.tasks(run_id) if row.state == "completed"}
        owner = store.run(run_id).owner
        assert owner is None, "it lets the run go"
        setattr(store, when, None)
        if store.run(run_id).status == "completed":
            assert when == "fail_after"
            states = {row.id: row.state for row in store.tasks(run_id)}
            assert states == OUTCOME
            return
        before = list(calls)
        result = await run(small(calls), store=store, resume=run_id, agents={}, max_parallel=1)
        assert not completed & set(calls[len(before) :]), "what was complete in the store does not run again"
    else:
        assert store.commits < number
    assert result.status == "completed"
    assert {name: report.status for name, report in result.tasks.items()} == OUTCOME
    assert result["e"] == "ee"
    events = store.events(result.id)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert [event.type for event in events].count("run.completed") == 1
    assert_replays(store, result.id)


async def test_a_lost_lease_ends_the_run_and_writes_nothing_more(store: WatchedStore) -> None:
    store.fail_at = 2
    store.error = LeaseLost("another process took it")
    with pytest.raises(LeaseLost, match="another process took it"):
        await run(small([]), store=store, agents={}, max_parallel=1)
    assert store.commits == 2


async def test_results_that_cannot_be_written_are_a_store_error(store: WatchedStore, tmp_path: Path) -> None:
    plan = Plan()

    def work() -> list[int]:
        for folder in tmp_path.glob("runs/*"):
            (folder / "tasks").write_text("in the way")
        return list(range(50_000))

    plan.add(work, failure_strategy="skip")
    result = await run(plan, store=store, agents={})
    assert result.tasks["work"].status == "failed", "the output of a function is written by its attempt"
    assert "can't be written" in (result.tasks["work"].error or "")


# --- a store that is away for now -------------------------------------------------------------------------


class RestartedStore(WatchedStore):
    """A real store that can't be reached from time to time."""

    away_before: range = range(0)
    """Calls that reach nobody."""
    away_after: range = range(0)
    """Calls that are carried out, but the answer is lost."""
    away_error: StoreError = StoreUnavailable("the server is gone")
    calls = 0

    def commit(self, run_id: str, epoch: int, batch: Batch) -> int:
        self.calls += 1
        call = self.calls
        if call in self.away_before:
            raise self.away_error
        last = super().commit(run_id, epoch, batch)
        if call in self.away_after:
            raise self.away_error
        return last


@pytest.fixture
def restarted(tmp_path: Path) -> Iterator[RestartedStore]:
    open_store(tmp_path / "runs.db").close()
    with closing(RestartedStore(SqliteDatabase(tmp_path / "runs.db"))) as opened:
        yield opened


def listening(session: Session) -> list[bool]:
    """Give where is told when the store is away (True) and when it is back (False)."""
    told: list[bool] = []
    session.on_store = lambda reason: told.append(reason is not None)
    return told


def check_completed(store: RestartedStore, session: Session, calls: list[str]) -> None:
    assert session.status == "completed"
    assert sorted(calls) == ["a", "b", "c", "e"], "nothing ran twice"
    assert {row.id: row.state for row in store.tasks(session.id)} == OUTCOME
    events = store.events(session.id)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert_replays(store, session.id)


@pytest.mark.parametrize("when", ["away_before", "away_after"])
@pytest.mark.parametrize("first", range(1, 6))
def test_a_store_that_is_away_for_a_while_is_waited_for(
    when: str, first: int, restarted: RestartedStore
) -> None:
    calls: list[str] = []
    setattr(restarted, when, range(first, first + 1 if when == "away_after" else first + 4))
    session = new_session(small(calls), agents={}, store=restarted, max_parallel=1)
    told = listening(session)
    run_virtual(session.drive())
    check_completed(restarted, session, calls)
    assert told == ([True, False] if when == "away_before" else []), "what is over at once is not told"


def test_a_store_that_others_keep_locked_is_told_at_once(restarted: RestartedStore) -> None:
    calls: list[str] = []
    restarted.away_before, restarted.away_error = range(2, 3), StoreBusy("locked")
    session = new_session(small(calls), agents={}, store=restarted, max_parallel=1)
    told = listening(session)
    run_virtual(session.drive())
    check_completed(restarted, session, calls)
    assert told == [True, False]


def test_what_runs_goes_on_while_the_store_is_away(restarted: RestartedStore) -> None:
    restarted.away_before = range(2, 40)
    ended = []

    async def work(name: str, seconds: float) -> str:
        await asyncio.sleep(seconds)
        ended.append((name, asyncio.get_running_loop().time()))
        return name

    plan = Plan()
    for name, seconds in (("short", 1), ("middle", 20), ("long", 40)):
        plan.add(work, id=name, args=[name, seconds])
    plan.add(work, id="last", args=["last", 1], depends_on=["short"])
    session = new_session(plan, agents={}, store=restarted)
    run_virtual(session.drive())
    assert session.status == "completed"
    assert ended[:3] == [("short", 1), ("middle", 20), ("long", 40)]
    assert restarted.calls <= 45, "it is not asked without a break"
    assert ended[3][1] > 60, "nothing new starts meanwhile"


def test_what_begins_late_because_the_store_was_away_has_its_whole_time(restarted: RestartedStore) -> None:
    restarted.away_before = range(1, 9)
    plan = Plan()
    plan.add(asyncio.sleep, id="timed", args=[3], timeout=3.5)
    session = new_session(plan, agents={}, store=restarted)
    run_virtual(session.drive())
    assert session.status == "completed"
    row = restarted.task(session.id, "timed")
    assert (row.attempts, row.error) == (1, None)
    assert row.started_at is not None
    assert row.finished_at is not None
    assert row.finished_at - row.started_at < 3.5
    assert_replays(restarted, session.id)


def test_a_store_that_stays_away_stops_the_run_and_a_resumed_one_goes_on(restarted: RestartedStore) -> None:
    restarted.away_before = range(2, 10**9)
    calls: list[str] = []
    session = new_session(small(calls), agents={}, store=restarted, max_parallel=1)

    async def until_it_gives_up() -> float:
        with pytest.raises(StoreUnavailable, match=r"gone \(the run has waited 10 minutes for that to end\)"):
            await session.drive()
        return asyncio.get_running_loop().time()

    assert STORE_PATIENCE < run_virtual(until_it_gives_up()) < STORE_PATIENCE + 5
    assert restarted.run(session.id).status == "running"
    restarted.away_before = range(0)
    again = resume_session(restarted, session.id, plan=small(calls))
    run_virtual(again.drive())
    assert again.status == "completed"
    assert calls.count("b") == 1
    assert calls.count("a") == 2, "its end could not be written"
    assert_replays(restarted, session.id)


async def test_a_store_that_cant_be_read_stops_the_run_and_fails_no_task(
    restarted: RestartedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan()
    plan.add(functions.number, id="given")
    plan.add(functions.describe, id="described", inputs={"point": "given"}, approval=True)
    session = new_session(plan, agents={}, store=restarted)
    assert (await session.drive()).status == "paused"
    assert steer(restarted, session.id, "approve", "described").done

    def broken(*_: object) -> None:
        raise StoreError("disk I/O error")

    stopped = resume_session(restarted, session.id)
    with monkeypatch.context() as patch:
        patch.setattr(restarted, "results", broken)
        with pytest.raises(StoreError, match="disk I/O"):
            await stopped.drive()
    assert restarted.run(session.id).status == "running"
    assert (await resume_session(restarted, session.id).drive()).status == "completed"
    assert restarted.task(session.id, "described").attempts == 2
    assert "task.failed" not in [event.type for event in restarted.events(session.id)]
    assert_replays(restarted, session.id)


def test_whoever_interrupts_the_run_waits_no_longer(restarted: RestartedStore) -> None:
    restarted.away_before = range(2, 10**9)
    session = new_session(small([]), agents={}, store=restarted, max_parallel=1)

    async def interrupted() -> float:
        loop = asyncio.get_running_loop()
        loop.call_later(30, session.interrupt)
        with pytest.raises(StoreUnavailable):
            await session.drive()
        return loop.time()

    assert run_virtual(interrupted()) < 32


# --- a lease that ran out ---------------------------------------------------------------------------------


def let_lease_run_out(session: Session) -> None:
    """Make the session's lease as old as after a sleep of the machine."""
    assert isinstance(session._journal, StoreJournal)
    assert session._journal._keeper is not None
    session._journal._keeper._renewed_at -= 3600


def sleepy(session: list[Session], calls: list[str], also: Callable[[], None] = lambda: None) -> Plan:
    plan = Plan()

    async def first() -> None:
        calls.append("first")
        also()
        let_lease_run_out(session[0])

    async def second(first: None) -> None:
        calls.append("second")

    plan.add(first)
    plan.add(second)
    return plan


async def test_a_lease_that_ran_out_is_renewed_before_anything_starts(store: WatchedStore) -> None:
    session: list[Session] = []
    calls: list[str] = []
    session.append(new_session(sleepy(session, calls), agents={}, store=store))
    assert (await session[0].drive()).status == "completed"
    assert calls == ["first", "second"]
    assert store.run(session[0].id).epoch == 1


async def test_a_run_that_was_taken_meanwhile_is_lost(store: WatchedStore) -> None:
    session: list[Session] = []
    calls: list[str] = []

    def take() -> None:
        with store._database.writer.begin() as connection:
            connection.exec_driver_sql("UPDATE runs SET epoch = epoch + 1")

    session.append(new_session(sleepy(session, calls, take), agents={}, store=store))
    with pytest.raises(LeaseLost, match="took over"):
        await session[0].drive()
    assert calls == ["first"]


def one_task(kind: str, mark: Path) -> Plan:
    """Give a plan of one task of this kind, that adds a character to `mark` when it is done."""
    if kind in {"command", "prompt"}:
        body = {"run": ["sh", "-c", f"printf x >> '{mark}'"]} if kind == "command" else {"prompt": "Do it"}
        return plan_from_document({"tasks": [{"id": "work", "idempotent": False, **body}]})
    plan = Plan()
    call = functions.leave_mark_async if kind == "async function" else functions.leave_mark
    isolate = kind == "function in a process"
    plan.add(call, id="work", args=[str(mark)], isolate=isolate, idempotent=False)
    return plan


@pytest.mark.parametrize("kind", ["async function", "function", "function in a process", "command", "prompt"])
async def test_an_attempt_looks_at_the_lease_once_more_before_it_begins(
    kind: str, store: WatchedStore, tmp_path: Path
) -> None:
    """Between the look of the loop and the start of the work the process may have been suspended."""
    mark = tmp_path / "mark"

    def said(_: str) -> str:
        functions.leave_mark(str(mark))
        return "done"

    models = Models(ScriptedModel(default=said))
    session = new_session(one_task(kind, mark), agents={}, store=store, models=models)
    worker = session._make_worker()
    let_go: list[bool] = []

    async def late(sub_agent: SubAgent) -> Any:
        if not let_go:
            let_go.append(True)
            let_lease_run_out(session)
            await worker(sub_agent)
        assert isinstance(session._journal, StoreJournal)
        await session._journal.regain()
        return await worker(sub_agent)

    session._make_worker = lambda: late  # type: ignore[method-assign, assignment, return-value]
    assert (await session.drive()).status == "completed"
    assert mark.read_text() == "x"
    assert store.tasks(session.id)[0].attempts == 2, "it had not begun: nobody has to be asked"
    assert "task.deferred" in [event.type for event in store.events(session.id)]
