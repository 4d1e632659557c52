"""Steering runs from outside: with an owner in another process, and on the record of a run without one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.engine import crash_program, functions
from tests.engine.children import block, calls, child, unblock
from tests.engine.replaying import assert_replays

from allready import Plan, run
from allready.core.graph import TaskGraph
from allready.core.scheduler import DagScheduler
from allready.core.snapshot import spec_from_json
from allready.engine.start import clock_of, last_event_at, new_session, take_up
from allready.engine.steer import Steered, steer
from allready.engine.views import stored_run_view, stored_whys
from allready.errors import RunNotFound
from allready.store.contract import Batch, Store
from allready.store.open import open_store
from allready.store.owners import this_process

NOTICED = 5.0
"""Seconds within which an owner carries a command out: one is promised, and the machine may be busy."""


@pytest.fixture(autouse=True)
def crash_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRASH_FOLDER", str(tmp_path))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(open_store(tmp_path / "runs.db")) as opened:
        yield opened


def count(store: Store, run_id: str, kind: str, task: str | None = None) -> int:
    return sum(event.type == kind and event.task == task for event in store.events(run_id))


def commanded(store: Store, run_id: str) -> list[list[Any]]:
    """What the journal says of commands."""
    return [entry[1:3] for row in store.inputs(run_id) for entry in row.data if entry[0] == "command"]


def quickly(store: Store, run_id: str, kind: str, task: str | None = None) -> Steered:
    start = time.monotonic()
    steered = steer(store, run_id, kind, task)
    assert time.monotonic() - start < NOTICED
    return steered


# --- with a living owner ----------------------------------------------------------------------------------


def test_every_command_reaches_a_living_owner_quickly_and_once(tmp_path: Path, store: Store) -> None:
    block(tmp_path, "side")
    with child(tmp_path, "steered") as process:
        process.wait_for_all(["task.failed", "asks"], ["called", "side"])
        run_id = store.find_run("latest")
        done = [
            quickly(store, run_id, kind, task)
            for kind, task in (
                ("approve", "careful"),
                ("retry", "asks"),
                ("skip", "unwanted"),
                ("pause", None),
                ("resume", None),
                ("cancel", None),
            )
        ]
        assert all(steered.done and steered.refused is None for steered in done)
        assert {steered.owner.pid for steered in done if steered.owner} == {process.process.pid}
        assert process.rest()[-1] == ["result", "canceled"]
    assert commanded(store, run_id) == [
        ["approve", "careful"],
        ["retry", "asks"],
        ["skip", "unwanted"],
        ["pause", None],
        ["resume", None],
        ["cancel", None],
    ]
    assert store.pending_commands(run_id) == []
    assert_replays(store, run_id)
    for kind, task in (
        ("run.paused", None),
        ("run.resumed", None),
        ("run.canceled", None),
        ("task.skipped", "unwanted"),
        ("task.completed", "careful"),
    ):
        assert count(store, run_id, kind, task) == 1, kind
    assert calls(tmp_path)["asks"] == 2


def test_an_abort_reaches_a_living_owner(tmp_path: Path, store: Store) -> None:
    block(tmp_path, "side")
    with child(tmp_path, "steered") as process:
        process.wait_for("task.failed", "asks")
        run_id = store.find_run("latest")
        assert quickly(store, run_id, "abort", "asks").done
        assert process.rest()[-1] == ["result", "failed"]


def test_refused_commands_are_answered_with_the_reason(tmp_path: Path, store: Store) -> None:
    block(tmp_path, "side")
    with child(tmp_path, "steered") as process:
        process.wait_for_all(["task.failed", "asks"], ["called", "side"])
        run_id = store.find_run("latest")
        for kind, task, reason in (
            ("approve", "side", "task 'side' needs no approval"),
            ("skip", "side", "task 'side' is running; only what has not begun can be skipped"),
            ("retry", "side", "task 'side' is running; only what failed or was left out can be retried"),
            ("approve", "nowhere", "the run has no task 'nowhere'"),
            ("approve", None, "approve needs the name of a task"),
            ("resume", None, "the run is not paused but running"),
            ("explode", None, "there is no command 'explode'"),
        ):
            steered = quickly(store, run_id, kind, task)
            assert (steered.done, steered.refused) == (False, reason)
        assert commanded(store, run_id) == []
        process.kill()


def test_an_owner_that_dies_meanwhile_is_replaced(tmp_path: Path, store: Store) -> None:
    block(tmp_path, "side")
    with child(tmp_path, "steered") as process:
        process.wait_for("task.failed", "asks")
        process.kill()
    run_id = store.find_run("latest")
    steered = steer(store, run_id, "approve", "careful")
    assert (steered.done, steered.owner) == (True, None)
    assert commanded(store, run_id) == [["approve", "careful"]]


# --- without an owner -------------------------------------------------------------------------------------


def approving() -> Plan:
    plan = Plan()
    plan.add(functions.number, id="careful", approval=True)
    plan.add(functions.add, id="after", depends_on=["careful"])
    plan.add(functions.text)
    return plan


async def test_an_approval_without_an_owner_is_recorded_and_the_run_goes_on_when_resumed(
    store: Store,
) -> None:
    paused = await run(approving(), store=store, agents={})
    assert paused.status == "paused"
    steered = steer(store, paused.id, "approve", "careful")
    assert steered == Steered(True, None, None)
    assert steer(store, paused.id, "approve", "careful").refused is not None
    assert store.task(paused.id, "careful").state == "ready"
    assert store.run(paused.id).owner is None
    result = await run(approving(), store=store, resume=paused.id, agents={})
    assert result.status == "completed"
    assert_replays(store, paused.id)
    assert result.tasks["after"].status == "completed"
    assert result.tasks["text"].attempts == 1


async def test_a_skip_without_an_owner_may_end_the_run(store: Store) -> None:
    paused = await run(approving(), store=store, agents={})
    assert steer(store, paused.id, "skip", "careful").done
    row = store.run(paused.id)
    assert row.status == "completed"
    assert row.finished_at is not None
    assert row.counts == {"completed": 1, "skipped": 2}
    assert_replays(store, paused.id)
    assert count(store, paused.id, "run.completed") == 1


async def test_a_cancel_without_an_owner_ends_the_run(store: Store) -> None:
    paused = await run(approving(), store=store, agents={})
    assert steer(store, paused.id, "cancel").done
    assert store.run(paused.id).status == "canceled"
    assert_replays(store, paused.id)
    assert "has ended" in (steer(store, paused.id, "pause").refused or "")


async def test_a_failed_run_is_retried_and_resumed(store: Store, tmp_path: Path) -> None:
    def make() -> Plan:
        plan = Plan()

        @plan.task
        def first() -> str:
            crash_program.called("first")
            return "first"

        @plan.task
        def unsteady(first: str) -> str:
            crash_program.called("unsteady")
            if (tmp_path / "block").exists():
                raise ValueError("not yet")
            return first

        return plan

    block(tmp_path)
    failed = await run(make(), store=store, agents={})
    assert failed.status == "failed"
    unblock(tmp_path)
    assert steer(store, failed.id, "retry").done
    assert store.run(failed.id).status == "running"
    result = await run(make(), store=store, resume=failed.id, agents={})
    assert result["unsteady"] == "first"
    assert_replays(store, failed.id)
    assert calls(tmp_path) == {"first": 1, "unsteady": 2}
    assert "has completed" in (steer(store, failed.id, "retry").refused or "")


async def test_a_pause_without_an_owner(store: Store, tmp_path: Path) -> None:
    block(tmp_path, "first", "side")
    with child(tmp_path, "diamond") as process:
        process.wait_for_all(["called", "first"], ["called", "side"])
        process.kill()
    run_id = store.find_run("latest")
    assert steer(store, run_id, "pause").done
    assert store.run(run_id).status == "paused"
    unblock(tmp_path)
    result = await run(crash_program.diamond(), store=store, resume=run_id, agents={})
    assert result.status == "completed"


async def test_a_run_that_was_never_driven_begins_only_with_a_wish_that_is_carried_out(store: Store) -> None:
    """Its process ended between recording the run and taking it."""
    plan = Plan("never driven", max_parallel=3)
    plan.add(functions.number, id="one", approval=True)
    run_id = new_session(plan, store=store, agents={}).id
    store.release(run_id, 1)
    assert steer(store, run_id, "retry").refused == "nothing has failed: there is nothing to retry"
    assert (store.run(run_id).status, store.events(run_id), store.inputs(run_id)) == ("created", [], [])
    assert steer(store, run_id, "approve", "one").done
    first = store.events(run_id)[0]
    assert (first.type, first.data) == (
        "run.created",
        {"goal": "never driven", "tasks": 1, "max_parallel": 3},
    )
    assert_replays(store, run_id)
    assert (await run(plan, store=store, resume=run_id, agents={})).status == "completed"
    assert count(store, run_id, "run.created") == 1
    assert_replays(store, run_id)


def test_a_run_that_is_not_there(store: Store) -> None:
    with pytest.raises(RunNotFound):
        steer(store, "nowhere", "cancel")


def test_a_command_for_an_owner_that_does_not_answer_waits(store: Store) -> None:
    session = new_session(approving(), agents={}, store=store)  # owned by this process, not driven
    steered = steer(store, session.id, "cancel", wait=0.05)
    assert not steered.done
    assert steered.refused is None
    assert steered.owner is not None
    assert [command.kind for command in store.pending_commands(session.id)] == ["cancel"]


async def test_a_command_that_waited_is_carried_out_by_the_next_owner(store: Store) -> None:
    session = new_session(approving(), agents={}, store=store)
    store.add_command(session.id, "approve", "careful")
    result = await session.drive()
    assert result.status == "completed"
    assert commanded(store, session.id) == [["approve", "careful"]]


# --- looking ----------------------------------------------------------------------------------------------


async def test_a_clock_that_was_set_back_is_not_taken_up_before_the_last_tick(store: Store) -> None:
    """A tick may have done what no event tells: a task whose delay is over is waiting for a place by then."""
    plan = Plan("ticking")
    plan.add(functions.number, id="one", approval=True)
    result = await run(plan, store=store, agents={})
    ahead = time.time() + 3600
    lease = store.acquire(result.id, this_process())
    store.commit(result.id, lease.epoch, Batch(inputs=[["tick", ahead], ["backoff", False, False]]))
    store.release(result.id, lease.epoch)
    assert clock_of(store, store.run(result.id))() >= ahead
    assert steer(store, result.id, "approve", "one").done
    assert store.events(result.id)[-1].at >= ahead
    assert_replays(store, result.id)


async def test_time_in_which_nobody_drove_the_run_does_not_count_for_its_time_limit(store: Store) -> None:
    plan = Plan("x", timeout=1000)
    plan.add(functions.nothing, id="gate", approval=True)
    result = await run(plan, store=store)
    assert steer(store, result.id, "approve", "gate").done
    row = store.run(result.id)
    last = last_event_at(store, row)
    scheduler = DagScheduler(
        TaskGraph([spec_from_json(task.spec) for task in store.tasks(row.id)]), timeout=1000
    )
    take_up(scheduler, row, store.tasks(row.id), last + 500, last_seen=last + 100)
    assert scheduler.deadline == row.memory["deadline"] + 400
    steer(store, result.id, "approve", "gate")  # refused: then nothing at all is written
    assert store.run(result.id).memory == row.memory
    assert last_event_at(store, store.run(result.id)) == last


async def test_views_of_a_stored_run(store: Store) -> None:
    result = await run(approving(), store=store, agents={})
    view = stored_run_view(store, result.id)
    assert view["run"] == result.id
    assert view["status"] == "paused"
    assert view["owner"] is None
    assert view["counts"] == {"awaiting_approval": 1, "completed": 1, "pending": 1}
    assert set(view["tasks"]) == {"careful", "after", "text"}
    assert view["tasks"]["text"]["attempts"] == 1
    assert view["tasks"]["after"]["started_at"] is None
    whys = {why.code: why for why in stored_whys(store, result.id).values()}
    assert set(whys) == {"approval", "dependencies"}
    assert stored_whys(store, result.id, ["text"])["text"].code == "ended"


def test_the_owner_of_a_living_run_is_shown_and_refused_places_are_told(tmp_path: Path, store: Store) -> None:
    block(tmp_path, "holder")
    with child(tmp_path, "crowded") as process:
        process.wait_for("task.deferred", "waiter")
        run_id = store.find_run("latest")
        owner = stored_run_view(store, run_id)["owner"]
        assert owner["pid"] == process.process.pid
        assert owner["alive"] is True
        why = stored_whys(store, run_id, ["waiter"])["waiter"]
        assert why.code == "refused"
        assert why.data["scope"] == "resource:gpu"
        assert "resource gpu is in use (resource:gpu: 1 of 1 in use)" in why.text
        process.kill()
    assert stored_run_view(store, run_id)["owner"]["alive"] is False
