"""What a store keeps of results, whatever else happens in the same moment."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from allready import Plan, TaskError, TaskResult, run
from allready.engine.start import new_session, resume_session
from allready.errors import StoreBusy, StoreError
from allready.store.contract import Batch, Store
from allready.store.open import open_store
from allready.store.sql import SqlStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    with closing(open_store(tmp_path / "runs.db")) as opened:
        yield opened


async def test_what_completes_while_it_is_stopped_keeps_its_result(store: SqlStore) -> None:
    """Both end in one round: the first one's failure asks the other to stop, which has just completed."""
    plan = Plan()
    gate = asyncio.Event()

    @plan.task
    async def bad() -> None:
        await gate.wait()
        raise ValueError("no")

    @plan.task
    async def good() -> str:
        await gate.wait()
        return "the result"

    asyncio.get_running_loop().call_later(0.2, gate.set)
    result = await run(plan, store=store)
    assert (result.status, result.tasks["good"].status) == ("failed", "completed")
    assert result["good"] == "the result"


async def test_nothing_of_an_earlier_attempt_stays(store: SqlStore) -> None:
    plan = Plan()
    attempts = []

    @plan.task(failure_strategy="ask")
    async def moody() -> None:
        attempts.append(1)
        if len(attempts) == 1:
            raise TaskError("left something behind", TaskResult("first", exit_code=3))
        raise ValueError("left nothing behind")

    paused = await run(plan, store=store)
    assert (store.task(paused.id, "moody").output, store.task(paused.id, "moody").exit_code) == ("first", 3)
    store.add_command(paused.id, "retry", "moody")
    await run(plan, store=store, resume=paused.id)
    row = store.task(paused.id, "moody")
    assert (row.attempts, row.output, row.exit_code) == (2, None, None)


async def test_a_canceled_run_that_was_paused_before_goes_on_to_its_end(store: SqlStore) -> None:
    plan = Plan()

    @plan.task
    async def stubborn() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            session._loop.fail(StoreError("as a crash here would"))  # type: ignore[union-attr]
            raise

    session = new_session(plan, store=store)

    def cancel(_: object) -> None:
        if session.status == "running" and session.scheduler.graph["stubborn"].state == "running":
            session.steer("pause")
            session.steer("cancel")

    session.observe(cancel)
    with pytest.raises(StoreError, match="as a crash"):
        await session.drive()
    assert (store.run(session.id).status, store.run(session.id).memory["ending"]) == ("paused", "canceled")
    result = await resume_session(store, session.id, plan=plan).drive()
    assert result.status == "canceled"


class LockedNowAndThen(SqlStore):
    """A real store that another process keeps locked for a while: every other commit meets that."""

    refused = 0

    def commit(self, run_id: str, epoch: int, batch: Batch) -> int:
        self.refused += 1
        if self.refused % 2:
            raise StoreBusy("locked")
        return super().commit(run_id, epoch, batch)

    def release(self, run_id: str, epoch: int) -> None:
        raise StoreBusy("locked")


async def test_a_store_that_is_locked_for_a_while_ends_no_run(store: SqlStore) -> None:
    store.__class__ = LockedNowAndThen
    plan = Plan()

    @plan.task
    async def one() -> int:
        return 1

    result = await run(plan, store=store)
    assert (result.status, result["one"]) == ("completed", 1)


def test_a_locked_file_is_told_from_one_that_does_not_work(
    store: SqlStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("allready.store.sqlite.BUSY_SECONDS", 0.05)
    with (
        closing(open_store(tmp_path / "runs.db")) as impatient,
        closing(sqlite3.connect(tmp_path / "runs.db", isolation_level=None)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusy, match="locked"):
            impatient.add_command("run", "pause")


async def test_large_structured_output_is_not_kept_in_memory(store: SqlStore) -> None:
    plan = Plan()

    @plan.task
    def large() -> list[int]:
        return list(range(50_000))

    @plan.task
    def total(large: list[int]) -> int:
        return sum(large)

    session = new_session(plan, store=store)
    result = await session.drive()
    assert result["total"] == sum(range(50_000))
    assert "large" not in session._results._values


async def test_a_long_error_is_cut(tmp_path: Path) -> None:
    plan = Plan()

    @plan.task
    async def shout() -> None:
        raise ValueError("x" * 10_000_000)

    result = await run(plan, store=tmp_path / "runs.db")
    error = result.tasks["shout"].error
    assert error is not None
    assert error.startswith("ValueError: xxx")
    assert "left out" in error
    assert len(error) < 20_000


async def test_secrets_in_what_is_told_of_a_run_are_blanked(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_API_KEY", "hunter2hunter2")
    plan = Plan("use hunter2hunter2 for it")
    events: list[Any] = []

    @plan.task(title="with hunter2hunter2")
    async def one() -> None: ...

    result = await run(plan, store=store, on_event=events.append)
    assert "hunter2" not in repr(events)
    assert "hunter2" not in store.run(result.id).goal
    assert store.task(result.id, "one").title == "with [secret]"


@pytest.mark.parametrize("durable", [True, False])
async def test_a_composed_answer_is_blanked_as_all_else_of_its_run(
    durable: bool, store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what was secret when it ran, whenever the answer is asked for."""
    monkeypatch.setenv("MY_API_KEY", "hunter2hunter2")
    plan = Plan("use hunter2hunter2 for it", answer=True)

    @plan.task
    def given() -> str:
        return "what it gave"

    @plan.task(title="with hunter2hunter2", depends_on=["given"])
    def broken() -> None:
        raise ValueError("no")

    result = await run(plan, store=store if durable else None, agents={})
    monkeypatch.delenv("MY_API_KEY")
    assert result.status == "failed"
    assert result.answer is not None
    assert "what it gave" in result.answer
    assert "[secret]" in result.answer
    told = result.answer + (str(store.run(result.id).answer) if durable else "")
    assert "hunter2" not in told


async def test_an_output_file_behind_a_link_is_kept(store: SqlStore, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with closing(open_store(tmp_path / "link" / "runs.db")) as linked:
        plan = Plan()

        @plan.task
        def text() -> str:
            return "x" * 100_000

        result = await run(plan, store=linked)
        path = result.tasks["text"].output_file
        assert path is not None
        assert path.read_text() == "x" * 100_000


async def test_a_run_inside_of_an_inline_task_has_a_pool_of_its_own(store: Store) -> None:
    plan, inner = Plan(max_parallel=2), Plan(max_parallel=2)
    running: list[int] = []

    async def work(n: int) -> int:
        running.append(n)
        await asyncio.sleep(0.01)
        active = len(running)
        running.remove(n)
        return active

    for n in range(6):
        inner.add(work, id=f"w{n}", args=[n])

    @plan.task(inline=True)
    async def outer() -> int:
        result = await run(inner)
        most: int = max(result[f"w{n}"] for n in range(6))
        return most

    assert (await run(plan))["outer"] <= 2


class SlowToLook(SqlStore):
    """A real store on a server that is far away: to ask whether anything has changed takes long."""

    def changed(self, watcher: str = "") -> bool:
        threading.Event().wait(0.5)
        return super().changed(watcher)


async def test_what_was_said_before_the_run_is_taken_up_counts_before_it_can_end(store: SqlStore) -> None:
    """Else a run that only a person lets go on would pause again although the person has said how."""
    plan = Plan()
    tries = []

    @plan.task(failure_strategy="ask")
    async def moody() -> int:
        tries.append(1)
        if len(tries) == 1:
            raise ValueError("no")
        return len(tries)

    paused = await run(plan, store=store)
    store.add_command(paused.id, "retry", "moody")
    store.__class__ = SlowToLook
    result = await run(plan, store=store, resume=paused.id)
    assert (result.status, result["moody"]) == ("completed", 2)
    (command,) = [
        entry for row in store.inputs(paused.id) for entry in row.data if entry[:2] == ["command", "retry"]
    ]
    assert command[2] == "moody"
