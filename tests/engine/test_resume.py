"""Runs whose process was killed, interrupted or left, taken up again by another one."""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from tests.agents.attempts import is_alive
from tests.engine import crash_program, functions
from tests.engine.children import Child, block, calls, child, unblock
from tests.engine.replaying import assert_replays

from allready import Plan, PlanError, RunState, run
from allready.engine.start import new_session, resume_session
from allready.engine.steer import steer
from allready.engine.views import is_abandoned, stored_whys
from allready.errors import RunEnded, RunNotFound, RunOwned
from allready.plan.load import plan_from_document
from allready.store.contract import Store
from allready.store.open import open_store


@pytest.fixture(autouse=True)
def crash_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRASH_FOLDER", str(tmp_path))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(open_store(tmp_path / "runs.db")) as opened:
        yield opened


def event_types(store: Store, run_id: str, task: str | None) -> list[str]:
    return [event.type for event in store.events(run_id) if event.task == task]


@pytest.mark.parametrize(
    ("blocked", "moment", "again"),
    [
        (["first", "side"], ("task.started", "side"), {"first", "side"}),
        (["second", "side"], ("task.started", "second"), {"second", "side"}),
        (["second"], ("task.completed", "side"), {"second"}),
        (["third"], ("task.started", "third"), {"third"}),
    ],
)
async def test_after_kill_9_what_was_complete_stays_and_what_ran_runs_again(
    blocked: list[str], moment: tuple[str, str], again: set[str], tmp_path: Path, store: Store
) -> None:
    block(tmp_path, *blocked)
    with child(tmp_path, "diamond") as process:
        process.wait_for_all(list(moment), *(["called", task] for task in again))
        process.kill()
    before = calls(tmp_path)
    unblock(tmp_path)
    run_id = store.find_run("latest")
    assert is_abandoned(store.run(run_id))
    result = await run(crash_program.diamond(), store=store, resume=run_id, agents={})
    assert result.status == "completed"
    assert result.id == run_id
    assert result["third"] == [{"second": "one"}, 7]
    after = calls(tmp_path)
    assert {task for task in after if after[task] > 1} == again
    assert all(after[task] == before[task] + 1 for task in again)
    assert {report.attempts for name, report in result.tasks.items() if name in again} == {2}
    events = store.events(run_id)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    resumed = [event for event in events if event.type == "run.resumed"]
    assert [event.data for event in resumed] == [{"reason": "the process that ran it is gone"}]
    for task in again:
        assert event_types(store, run_id, task).count("task.completed") == 1
        assert "task.deferred" in event_types(store, run_id, task)
    assert_replays(store, run_id)


async def test_a_crash_during_retries_uses_none_up(tmp_path: Path, store: Store) -> None:
    with child(tmp_path, "retrying") as process:
        process.wait_for("task.retrying", "unsteady")
        block(tmp_path, "unsteady")
        process.wait_for("task.started", "unsteady")
        process.kill()
    unblock(tmp_path)
    before = calls(tmp_path)["unsteady"]
    result = await run(crash_program.retrying(), store=store, resume="latest", agents={})
    assert result.status == "completed", result.error
    assert result["unsteady"].startswith("after ")
    assert_replays(store, result.id)
    row = store.task(result.id, "unsteady")
    assert row.memory["retries"] <= 2
    assert result.tasks["unsteady"].attempts >= before


async def test_what_a_dead_process_left_running_is_ended(tmp_path: Path, store: Store) -> None:
    block(tmp_path)
    os.mkfifo(tmp_path / "told")
    with child(tmp_path, "leaving") as process:
        process.wait_for("task.started", "leave")
        left = int((tmp_path / "told").read_text())
        assert is_alive(left)
        process.kill()
    assert is_alive(left), "it has a session of its own"
    unblock(tmp_path)
    result = await run(crash_program.leaving(), store=store, resume="latest", agents={})
    assert result.status == "completed"
    assert not is_alive(left)
    assert calls(tmp_path)["leave"] == 2


async def test_what_is_not_idempotent_is_put_to_a_person(tmp_path: Path, store: Store) -> None:
    block(tmp_path, "once")
    with child(tmp_path, "careful") as process:
        process.wait_for("task.completed", "side")
        process.kill()
    unblock(tmp_path)
    result = await run(crash_program.careful(), store=store, resume="latest", agents={})
    assert result.status == "paused"
    assert calls(tmp_path) == {"once": 1, "side": 1}
    (why,) = stored_whys(store, result.id).values()
    assert why.code == "asking"
    assert "not idempotent" in why.text
    assert steer(store, result.id, "retry", "once").done
    result = await run(crash_program.careful(), store=store, resume="latest", agents={})
    assert result.status == "completed"
    assert calls(tmp_path)["once"] == 2
    assert_replays(store, result.id)


def test_a_person_may_also_leave_it_out(tmp_path: Path, store: Store) -> None:
    block(tmp_path, "once")
    with child(tmp_path, "careful") as process:
        process.wait_for("task.completed", "side")
        process.kill()
    unblock(tmp_path)
    run_id = store.find_run("latest")
    assert steer(store, run_id, "skip", "once").done
    assert store.run(run_id).status == "completed", "nothing was left to do"
    assert store.task(run_id, "once").state == "failed"
    assert calls(tmp_path)["once"] == 1


async def test_a_plan_of_commands_is_resumed_from_the_store_alone(tmp_path: Path, store: Store) -> None:
    session = new_session(crash_program.commands(), agents={}, store=store)
    store.release(session.id, 1)  # as if its process had ended before the first commit
    taken = resume_session(store, session.id)
    result = await taken.drive()
    assert result.status == "completed"
    assert result["b"] == "from a"
    types = [event.type for event in store.events(session.id)]
    assert types[:2] == ["run.created", "run.started"]
    assert calls(tmp_path) == {"a": 1, "b": 1}


async def test_functions_of_modules_are_imported_again(tmp_path: Path, store: Store) -> None:
    session = new_session(crash_program.diamond(), agents={}, store=store)
    store.release(session.id, 1)
    result = await resume_session(store, session.id).drive()
    assert result["third"] == [{"second": "one"}, 7]


async def test_functions_that_cannot_be_imported_are_all_told_before_anything_runs(
    tmp_path: Path, store: Store
) -> None:
    plan = Plan()

    @plan.task
    def local() -> None: ...

    plan.add(functions.number)
    plan.add(lambda: 1, id="lambda")
    session = new_session(plan, agents={}, store=store)
    store.release(session.id, 1)
    with pytest.raises(PlanError) as caught:
        resume_session(store, session.id)
    told = [problem.message for problem in caught.value.problems]
    assert len(told) == 2
    assert told[0].startswith("task 'local': function tests.engine.test_resume:")
    assert "run(plan, store=…, resume=RUN)" in told[0]
    assert told[1].startswith("task 'lambda': function ")
    assert store.run(session.id).owner is None, "it may still be resumed with the plan at hand"
    result = await run(plan, store=store, resume=session.id, agents={})
    assert result.status == "completed"


def test_functions_of_the_main_program_are_told(tmp_path: Path, store: Store) -> None:
    block(tmp_path, "first", "side")
    with child(tmp_path, "diamond") as process:
        process.wait_for("task.started", "side")
        process.kill()
    run_id = store.find_run("latest")
    with pytest.raises(PlanError) as caught:
        resume_session(store, run_id)
    assert [problem.message.split(" (")[0] for problem in caught.value.problems] == [
        f"task {name!r}: function __main__:{name} can't be imported"
        for name in ("first", "second", "side", "third")
    ]
    assert is_abandoned(store.run(run_id))


async def test_another_plan_is_refused_with_all_differences(store: Store) -> None:
    session = new_session(crash_program.diamond(), agents={}, store=store)
    store.release(session.id, 1)
    other = Plan()
    other.add(crash_program.first)
    other.add(crash_program.side, depends_on=["first"])
    other.add(functions.number)
    with pytest.raises(PlanError) as caught:
        await run(other, store=store, resume=session.id, agents={})
    head = f"run {session.id} was started with another plan: task "
    assert [problem.message for problem in caught.value.problems] == [
        f"{head}'second' is in the run, but not in the plan",
        f"{head}'third' is in the run, but not in the plan",
        f"{head}'side' depended on nothing when the run was started",
        f"{head}'number' is in the plan, not in the run",
    ]
    assert store.run(session.id).owner is None


async def test_a_run_that_has_ended_is_not_resumed(store: Store, tmp_path: Path) -> None:
    plan = Plan()
    plan.add(functions.number)
    done = await run(plan, store=store, agents={})
    with pytest.raises(RunEnded, match=r"has ended \(completed\)$"):
        await run(plan, store=store, resume=done.id, agents={})
    bad = Plan()
    bad.add(functions.add, args=[1, "x"])
    failed = await run(bad, store=store, agents={})
    with pytest.raises(RunEnded, match=r"has ended \(failed\); try again what failed$"):
        await run(bad, store=store, resume=failed.id, agents={})
    with pytest.raises(RunNotFound):
        await run(plan, store=store, resume="ffff", agents={})


async def test_a_living_owner_keeps_its_run(tmp_path: Path, store: Store) -> None:
    block(tmp_path, "first", "side")
    with child(tmp_path, "diamond") as process:
        process.wait_for("task.started", "side")
        run_id = store.find_run("latest")
        assert not is_abandoned(store.run(run_id))
        with pytest.raises(RunOwned, match=f"owned by process {process.process.pid}"):
            await run(crash_program.diamond(), store=store, resume=run_id, agents={})
        with child(tmp_path, "diamond", run_id) as second:
            assert second.rest()[-1][0] == "RunOwned"
        assert process.process.poll() is None


async def test_a_process_does_not_take_a_run_from_itself(store: Store) -> None:
    plan = Plan()
    started, go = asyncio.Event(), asyncio.Event()

    @plan.task
    async def work() -> int:
        started.set()
        await go.wait()
        return 1

    first = asyncio.create_task(run(plan, store=store, agents={}))
    await started.wait()
    with pytest.raises(RunOwned, match="driven by this very process already"):
        await run(plan, store=store, resume="latest", agents={})
    go.set()
    assert (await first)["work"] == 1


async def test_of_two_processes_only_one_resumes(tmp_path: Path, store: Store) -> None:
    block(tmp_path, "first", "side")
    with child(tmp_path, "diamond") as process:
        process.wait_for("task.started", "side")
        process.kill()
    block(tmp_path, "third")
    run_id = store.find_run("latest")
    with child(tmp_path, "diamond", run_id) as one, child(tmp_path, "diamond", run_id) as two:
        refused: queue.SimpleQueue[Child] = queue.SimpleQueue()

        def read(process: Child) -> None:
            if any(line[0] == "RunOwned" for line in process.rest()):
                refused.put(process)

        threads = [threading.Thread(target=read, args=[process]) for process in (one, two)]
        for thread in threads:
            thread.start()
        loser = refused.get(timeout=60)
        winner = two if loser is one else one
        assert winner.process.poll() is None
        winner.process.kill()
        for thread in threads:
            thread.join()
    assert refused.empty()
    unblock(tmp_path)
    result = await run(crash_program.diamond(), store=store, resume=run_id, agents={})
    assert result.status == "completed"
    assert calls(tmp_path)["second"] == 1


async def test_a_run_is_let_go_however_often_its_caller_is_canceled(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, may_go = threading.Event(), threading.Event()
    release = store.release

    def slow_release(run_id: str, epoch: int) -> None:
        asked.set()
        may_go.wait()
        release(run_id, epoch)

    monkeypatch.setattr(store, "release", slow_release)
    plan = Plan("canceled")
    plan.add(asyncio.sleep, id="long", args=[60])
    session = new_session(plan, store=store, agents={})
    going = asyncio.create_task(session.drive())
    while session.status != "running":
        await asyncio.sleep(0)
    going.cancel()
    while not asked.is_set():
        await asyncio.sleep(0.001)
    assert store.run(session.id).status == "paused"
    going.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going
    may_go.set()
    while store.run(session.id).owner is not None:  # nobody renews its lease any more
        await asyncio.sleep(0.001)


async def test_threads_that_tasks_leave_behind_do_not_keep_a_run_from_being_let_go(store: Store) -> None:
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as only_thread:
        loop.set_default_executor(only_thread)
        try:
            plan = Plan("stuck")
            plan.add(functions.stuck_in_a_thread, id="stuck", timeout=0.1, failure_strategy="skip")
            session = new_session(plan, store=store, agents={})
            await session.drive()
            assert store.run(session.id).owner is None
        finally:
            functions.let_go.set()


async def test_cancellation_pauses_so_that_the_run_can_be_resumed(store: Store) -> None:
    started = asyncio.Event()
    block_it = True
    counts = {"quick": 0, "slow": 0}

    def make() -> Plan:
        plan = Plan()

        @plan.task
        async def quick() -> int:
            counts["quick"] += 1
            return 1

        @plan.task
        async def slow(quick: int) -> int:
            counts["slow"] += 1
            started.set()
            if block_it:
                await asyncio.Event().wait()
            return quick + 1

        return plan

    task = asyncio.create_task(run(make(), store=store, agents={}))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    row = store.run(store.find_run("latest"))
    assert row.status == RunState.PAUSED
    assert row.owner is None
    assert is_abandoned(row)
    block_it = False
    result = await run(make(), store=store, resume="latest", agents={})
    assert result["slow"] == 2
    assert counts == {"quick": 1, "slow": 2}
    assert_replays(store, row.id)
    assert event_types(store, row.id, None) == [
        "run.created",
        "run.started",
        "run.paused",
        "run.resumed",
        "run.completed",
    ]


async def test_a_resumed_run_keeps_its_agents_and_slots(tmp_path: Path, store: Store) -> None:
    tasks = [{"id": f"ask-{n}", "prompt": "write"} for n in range(3)]
    agents = {
        name: {"kind": "command", "run": ["echo", name], "description": text}
        for name, text in (("reader", "reads"), ("writer", "write things"))
    }
    plan = plan_from_document({"tasks": tasks, "agents": agents}, base_dir=tmp_path)
    session = new_session(plan, agents={}, store=store, max_parallel=2)
    store.release(session.id, 1)
    taken = resume_session(store, session.id)
    assert taken.pool.max_concurrent == 2
    result = await taken.drive()
    assert {result[f"ask-{n}"] for n in range(3)} == {"writer"}
