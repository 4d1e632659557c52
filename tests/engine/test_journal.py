"""The order of things in durable runs: recorded first, done then; one transaction a round; any may fail."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.engine import functions
from tests.engine.replaying import assert_replays

from allready import Plan, run
from allready.errors import LeaseLost, StoreError
from allready.store.contract import Batch
from allready.store.open import open_store
from allready.store.sql import SqlStore
from allready.store.sqlite import SqliteDatabase


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
