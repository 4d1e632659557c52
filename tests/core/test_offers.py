"""What a tick offers, in which order, and what refusals and failures to start do to it."""

from __future__ import annotations

import pytest
from tests.core.play import SILENT, Play, full, task

from allready.core.actions import Cancel, Done, RunInline, Spawn
from allready.core.events import Completed, TaskEvent
from allready.core.graph import TaskNode, TaskSpec
from allready.core.ready import PATIENCE
from allready.core.states import RunState
from allready.errors import ConcurrencyLimit, InvalidTransition, PermanentError, UserError

COMPLETED = Done(RunState.COMPLETED)


def counters(node: TaskNode) -> tuple[object, ...]:
    return (node.attempts, node.retries, node.deferrals, node.handle, node.started_at, node.not_before)


# --- all that is ready is offered --------------------------------------------------------------------------


def test_tick_offers_all_ready_tasks_whatever_max_parallel_is() -> None:
    play = Play(*(task(f"t{n}") for n in range(20)), max_parallel=1)
    assert play.tick(0) == [Spawn(f"t{n}") for n in range(20)]
    assert play.scheduler.graph.active == 20


def test_tick_offers_all_ready_tasks_however_many_run() -> None:
    play = Play(task("a"), *(task(f"b{n}", "a") for n in range(3)), *(task(f"c{n}") for n in range(9)))
    assert len(play.tick(0)) == 10
    play.complete("a", at=1)
    assert play.tick(1) == [Spawn("b0"), Spawn("b1"), Spawn("b2")]


def test_tick_without_reports_yields_every_ready_task_and_puts_all_back() -> None:
    scheduler = Play(*(task(f"t{n}") for n in range(5)), max_parallel=2).scheduler
    first = list(scheduler.tick(0))
    assert first == [Spawn(f"t{n}") for n in range(5)]
    assert list(scheduler.tick(0)) == first
    assert {node.state.value for node in scheduler.graph} == {"ready"}
    assert scheduler.next_wakeup() is None  # the driver knows of them all: only it can say when


def test_reports_may_also_come_after_the_whole_batch() -> None:
    play = Play(task("a"), task("b"), task("c", max_retries=1), task("d", "a"))
    scheduler = play.scheduler
    list(scheduler.tick(0))
    scheduler.record_spawn("b", "b.1", 0)
    scheduler.record_spawn_failure("a", full(), 0)
    scheduler.record_spawn_failure("c", OSError("no such program"), 0)
    assert play.states == {"a": "ready", "b": "running", "c": "ready", "d": "pending"}
    assert play.tick(0) == [Spawn("a")]  # c waits for its retry
    play.replay().finish()


def test_reports_may_come_later_in_the_batch() -> None:
    play = Play(task("a"), task("b", max_retries=1), task("c"), task("d"))
    scheduler = play.scheduler
    batch = scheduler.tick(0)
    assert [next(batch), next(batch), next(batch)] == [Spawn("a"), Spawn("b"), Spawn("c")]
    scheduler.record_spawn_failure("b", OSError("no such program"), 0)
    scheduler.record_spawn("a", "a.1", 0)
    scheduler.record_spawn_failure("c", full(), 0)
    assert list(batch) == []
    assert play.states == {"a": "running", "b": "ready", "c": "ready", "d": "ready"}
    assert play.tick(0) == [Spawn("c"), Spawn("d")]
    play.replay().finish()


def test_tasks_that_become_ready_within_a_batch_are_offered_in_it() -> None:
    play = Play(task("a", strategy="skip"), task("b", "a", run_if="all_done"))
    assert play.tick(0, {"a": OSError("no such program")}) == [Spawn("a"), Spawn("b")]
    assert play.states == {"a": "failed", "b": "running"}


def test_max_parallel_caps_nothing() -> None:
    play = Play(*(task(f"t{n}") for n in range(100)), max_parallel=0)
    assert len(play.tick(0)) == 100
    assert play.scheduler.statistics.spawns == 100


# --- the order of offers -----------------------------------------------------------------------------------


def test_order_is_priority_then_longest_remaining_path_then_plan_order() -> None:
    play = Play(
        task("plain"),
        task("short", estimate=5),
        task("long"),
        task("rest", "long", estimate=50),
        task("urgent", priority=1, estimate=0),
        task("plain_too"),
    )
    order = ["urgent", "long", "short", "plain", "plain_too"]
    assert play.tick(0) == [Spawn(name) for name in order]


def test_order_holds_across_agents_and_resources() -> None:
    play = Play(
        task("a", agent="x", estimate=1),
        task("b", agent="y", estimate=3),
        task("c", agent="x", estimate=2),
        task("d", resources=(("gpu", 1),), estimate=4),
        task("e", agent="y", priority=-1, estimate=99),
    )
    assert [action.task for action in play.tick(0) if isinstance(action, Spawn)] == ["d", "b", "c", "a", "e"]


def test_the_router_names_the_agent_and_what_no_agent_fits_runs_inline() -> None:
    def route(spec: TaskSpec) -> str | None:
        return "coder" if spec.id == "code" else None

    play = Play(task("code"), task("named", agent="writer"), task("chat"), route=route)
    assert play.tick(0) == [Spawn("code", "coder"), Spawn("named", "writer"), RunInline("chat")]


# --- refusals ----------------------------------------------------------------------------------------------


def test_concurrency_limit_puts_the_task_back_to_ready_and_touches_no_counter() -> None:
    play = Play(task("a", max_retries=2), task("b"))
    before = counters(play["a"])
    assert play.tick(0, {"a": full()}) == [Spawn("a")]
    assert play["a"].state.value == "ready"
    assert counters(play["a"]) == before
    assert play.scheduler.statistics.spawn_failures == 0
    assert play.tick(0.3) == [Spawn("a"), Spawn("b")]


def test_a_refusal_is_told_once_and_again_when_another_scope_refuses() -> None:
    play = Play(task("a"))
    for _ in range(3):
        play.tick(0, {"a": full()})
    assert play.told() == ["run.started", "task.ready a", "task.deferred a"]
    play.tick(1, {"a": full("budget")})
    assert play.data("task.deferred", "a") == [{"reason": "no place in budget", "scope": "budget"}]


def test_tasks_that_would_meet_the_same_refusal_are_not_offered() -> None:
    play = Play(*(task(f"t{n}", agent=f"agent{n % 3}") for n in range(30)))
    answers = {f"t{n}": full() for n in range(2, 30)}
    assert play.tick(0, answers) == [Spawn("t0", "agent0"), Spawn("t1", "agent1"), Spawn("t2", "agent2")]
    assert set(play.states.values()) == {"running", "ready"}


def test_refused_agent_holds_up_only_its_own_tasks() -> None:
    play = Play(task("a1", agent="a"), task("a2", agent="a"), task("b1", agent="b"), task("c1"))
    assert play.tick(0, {"a1": full("agent:a")}) == [Spawn("a1", "a"), Spawn("b1", "b"), Spawn("c1")]


def test_refused_provider_holds_up_all_agents_of_that_provider() -> None:
    play = Play(
        task("a", agent="x", provider="p"),
        task("b", agent="y", provider="p"),
        task("c", agent="x", provider="q"),
        task("d"),
    )
    assert play.tick(0, {"a": full("provider:p")}) == [Spawn("a", "x"), Spawn("c", "x"), Spawn("d")]


def test_refused_resource_holds_up_those_that_want_as_much_of_it() -> None:
    play = Play(
        task("three", resources=(("gpu", 3),), priority=9),
        task("four", resources=(("cpu", 1), ("gpu", 4))),
        task("two", resources=(("gpu", 2),)),
        task("other", resources=(("cpu", 1),)),
        task("none"),
    )
    refusal = full("resource:gpu", 2, 4)
    assert play.tick(0, {"three": refusal}) == [Spawn(n) for n in ("three", "two", "other", "none")]


def test_a_refusal_that_leaves_less_than_nothing_holds_up_only_who_wants_some() -> None:
    play = Play(task("a", resources=(("gpu", 2),)), task("b", resources=(("gpu", 1),)), task("c"))
    assert play.tick(0, {"a": full("resource:gpu", 5, 4)}) == [Spawn("a"), Spawn("c")]


def test_a_big_demand_that_was_passed_by_often_is_offered_all_the_same() -> None:
    small = [task(f"s{number}", resources=(("gpu", 1),), priority=1) for number in range(30)]
    play = Play(*small, task("big", resources=(("gpu", 4),)), task("net", resources=(("net", 1),)))
    play.scheduler.learn(0)
    in_use, refused = full("resource:gpu", 4, 4), {"net": full("resource:net", 1, 1)}
    refused |= {f"s{number}": in_use for number in range(30)} | {"big": in_use}
    asked = []
    for at in range(PATIENCE + 2):  # in each tick one of the small ones starts, and the next one is refused
        del refused[f"s{at}"]
        asked.append(Spawn("big") in play.tick(at, refused))
    assert asked == [False] * PATIENCE + [True] * 2
    del refused["big"]
    assert Spawn("big") in play.tick(20, refused)


@pytest.mark.parametrize("scope", ["budget", "licence:x"])
def test_refused_budget_or_unknown_scope_holds_up_only_the_same_kind(scope: str) -> None:
    play = Play(task("a1", agent="a"), task("a2", agent="a"), task("b", agent="b"))
    assert play.tick(0, {"a1": full(scope)}) == [Spawn("a1", "a"), Spawn("b", "b")]


def test_run_inline_is_an_offer_like_others() -> None:
    play = Play(task("a", inline=True), task("b", inline=True), task("c"), task("d", "a"))
    assert play.tick(0) == [RunInline("a"), RunInline("b"), Spawn("c")]
    play.complete("a", at=1)
    assert play.tick(1) == [Spawn("d")]


def test_run_inline_is_refused_on_its_own_scope_without_holding_up_spawns() -> None:
    inline = [task(f"i{n}", inline=True, provider=f"p{n}", agent=f"a{n}") for n in range(3)]
    play = Play(*inline, task("a"), task("b"))
    assert play.tick(0, {"i0": full("inline")}) == [RunInline("i0"), Spawn("a"), Spawn("b")]
    assert play.tick(1) == [RunInline("i0"), RunInline("i1"), RunInline("i2")]


def test_a_full_pool_does_not_hold_up_run_inline_nor_the_other_way_round() -> None:
    gpu = (("gpu", 1),)
    tasks = [task("a", resources=gpu), task("b", resources=gpu)]
    tasks += [task("i", inline=True, resources=gpu), task("j", inline=True)]
    assert Play(*tasks).tick(0, {"a": full()}) == [Spawn("a"), RunInline("i"), RunInline("j")]
    assert Play(*tasks).tick(0, {"a": full("resource:gpu")}) == [Spawn("a"), RunInline("i"), RunInline("j")]
    play = Play(*reversed(tasks))
    assert play.tick(0, {"j": full("pool")}) == [RunInline("j"), Spawn("b"), Spawn("a")]


# --- record_batch_backoff ----------------------------------------------------------------------------------


def test_record_batch_backoff_adds_one_for_a_batch_that_started_nothing_not_for_each_refusal() -> None:
    play = Play(*(task(f"t{n}", agent=f"a{n}") for n in range(5)))
    for count in (1, 2, 3):
        play.tick(count, {f"t{n}": full(f"agent:a{n}") for n in range(5)})
        assert play.scheduler.consecutive_spawn_failures == count
    assert play.scheduler.statistics.refusals == 15


def test_record_batch_backoff_is_reset_by_any_success() -> None:
    scheduler = Play(task("a")).scheduler
    for _ in range(4):
        scheduler.record_batch_backoff(False, True)
    scheduler.record_batch_backoff(True, True)
    assert scheduler.consecutive_spawn_failures == 0
    scheduler.record_batch_backoff(False, True)
    scheduler.record_batch_backoff(True, False)
    assert scheduler.consecutive_spawn_failures == 0


def test_record_batch_backoff_changes_nothing_for_a_batch_with_neither() -> None:
    scheduler = Play(task("a")).scheduler
    scheduler.record_batch_backoff(False, True)
    scheduler.record_batch_backoff(False, False)
    assert scheduler.consecutive_spawn_failures == 1
    assert scheduler.backoff_until is None


@pytest.mark.parametrize("error", [full(), OSError("no such program")])
def test_record_spawn_failure_does_not_count_batches(error: Exception) -> None:
    scheduler = Play(task("a", max_retries=1)).scheduler
    next(scheduler.tick(0))
    scheduler.record_spawn_failure("a", error, 0)
    assert scheduler.consecutive_spawn_failures == 0


def test_record_spawn_resets_the_count_too_and_says_why() -> None:
    scheduler = Play(task("a")).scheduler
    scheduler.record_batch_backoff(False, True)
    next(scheduler.tick(0))
    scheduler.record_spawn("a", "a.1", 0)
    assert scheduler.consecutive_spawn_failures == 0
    assert scheduler.backoff_until is None
    assert "on purpose" in (type(scheduler).record_spawn.__doc__ or "")


@pytest.mark.parametrize("late", [False, True])
def test_mixed_batch_of_a_limit_and_a_spawn_error_under_skip(late: bool) -> None:
    play = Play(
        task("t0", agent="x", priority=1),
        task("t1", strategy="skip"),
        task("t2", "t1"),
        task("t3", "t2"),
        task("t4", "t0"),
    )
    answers = {"t0": full("agent:x"), "t1": OSError("no such program")}
    if late:
        assert list(play.scheduler.tick(0)) == [Spawn("t0", "x"), Spawn("t1")]
        for name, error in answers.items():
            play.scheduler.record_spawn_failure(name, error, 0)
        play.scheduler.record_batch_backoff(False, True)
    else:
        assert play.tick(0, answers) == [Spawn("t0", "x"), Spawn("t1")]
    assert play.states == {"t0": "ready", "t1": "failed", "t2": "skipped", "t3": "skipped", "t4": "pending"}
    assert play.scheduler.consecutive_spawn_failures == 1
    assert play.tick(1) == [Spawn("t0", "x")]
    play.complete("t0", at=2)
    assert play.tick(2) == [Spawn("t4")]
    play.complete("t4", at=3)
    assert play.tick(3) == [COMPLETED]
    assert play.scheduler.consecutive_spawn_failures == 0
    play.replay().finish()


# --- errors at the start -----------------------------------------------------------------------------------


def test_spawn_error_is_retried_with_its_own_delay() -> None:
    play = Play(task("a", max_retries=1))
    play.tick(0, {"a": OSError("no such program")})
    assert play.scheduler.statistics.spawn_failures == 1
    due = play.scheduler.next_wakeup()
    assert due is not None
    assert 0 < due <= 1
    assert play.tick(due) == [Spawn("a")]


def test_permanent_spawn_error_fails_the_task_at_once() -> None:
    play = Play(task("a", max_retries=5))
    play.tick(0, {"a": PermanentError("asks for 3 gpus; there are 2")})
    assert (play.states, play.status) == ({"a": "failed"}, "failed")
    assert play.data("task.failed", "a") == [{"error": "asks for 3 gpus; there are 2"}]


def test_a_spawn_error_without_text_is_named_by_its_type() -> None:
    play = Play(task("a"))
    play.tick(0, {"a": KeyError()})
    assert play["a"].error == "KeyError"


def test_what_could_not_be_started_is_no_end_of_the_attempt_before() -> None:
    play = Play(task("a", strategy="skip", max_retries=2))
    play.tick(0)
    play.fail("a", at=1)
    play.told()
    play.tick(9, {"a": OSError("no such program")})
    play.tick(99, {"a": OSError("no such program")})
    assert play.told() == ["task.retrying a", "task.failed a", "run.completed"]


def test_spawn_error_under_abort_ends_the_batch_and_cancels_what_runs() -> None:
    play = Play(task("a"), task("b"), task("c"))
    assert play.tick(0, {"b": OSError("no such program")}) == [
        Spawn("a"), Spawn("b"), Cancel("a", "a.1", "abort"),
    ]  # fmt: skip
    assert play.states == {"a": "canceling", "b": "failed", "c": "canceled"}


@pytest.mark.parametrize("state", ["pending", "running", "completed"])
def test_a_report_on_a_task_that_is_not_ready_raises_and_changes_nothing(state: str) -> None:
    play = Play(task("pending", "running"), task("running"), task("completed"))
    play.tick(0)
    play.complete("completed")
    before = play.states, counters(play[state])
    with pytest.raises(InvalidTransition, match=state):
        play.scheduler.record_spawn(state, "x", 1)
    with pytest.raises(InvalidTransition, match=state):
        play.scheduler.record_spawn_failure(state, full(), 1)
    assert (play.states, counters(play[state])) == before


def test_a_report_on_an_unknown_task_is_refused() -> None:
    with pytest.raises(UserError, match="there is no task 'x'"):
        Play(task("a")).scheduler.record_spawn("x", "x.1", 0)


# --- open batches ------------------------------------------------------------------------------------------


def test_events_handled_while_a_batch_is_open_wait_for_its_end() -> None:
    play = Play(task("a"), task("b"), task("c", "a"))
    scheduler = play.scheduler
    batch = scheduler.tick(0)
    next(batch)
    scheduler.record_spawn("a", "a.1", 0)
    scheduler.handle(TaskEvent("a", "a.1", Completed(), 0))
    assert play.states["a"] == "running"
    assert list(batch) == [Spawn("b")]
    assert play.states == {"a": "completed", "b": "ready", "c": "ready"}
    assert play.tick(0) == [Spawn("b"), Spawn("c")]


@pytest.mark.parametrize("left_by", ["close", "tick", "command", "add", "backoff", "graph closed", "recover"])
def test_a_batch_left_early_puts_the_rest_back(left_by: str) -> None:
    play = Play(task("a"), task("b"), task("c"), open=True)
    scheduler = play.scheduler
    batch = scheduler.tick(0)
    next(batch)
    scheduler.record_spawn("a", "a.1", 0)
    next(batch)
    scheduler.handle(TaskEvent("a", "a.1", Completed(), 0))
    assert scheduler.next_wakeup() == 0
    match left_by:
        case "close":
            batch.close()
        case "tick":
            scheduler.tick(0)
        case "command":
            scheduler.pause(0)
            scheduler.resume(0)
        case "add":
            scheduler.add_tasks([], 0)
        case "backoff":
            scheduler.record_batch_backoff(True, False)
        case "graph closed":
            scheduler.close(0)
        case _:
            scheduler.recover(0)
    assert scheduler.next_wakeup() == 0
    assert next(batch, None) is None
    assert play.states == {"a": "completed", "b": "ready", "c": "ready"}
    assert play.tick(0) == [Spawn("b"), Spawn("c")]
    play.replay().finish()


def test_a_batch_that_nobody_began_loses_nothing() -> None:
    play = Play(task("a"))
    play.scheduler.tick(0)
    play.scheduler.handle(TaskEvent("a", "a.1", Completed(), 0))
    assert play.tick(1) == [Spawn("a")]
    assert play.scheduler.statistics.stale_events == 1
    play.replay().finish()


def test_a_batch_left_at_its_very_end_has_ended() -> None:
    play = Play(task("a"))
    play.tick(0)
    play.complete("a", at=1)
    batch = play.scheduler.tick(1)
    assert next(batch) == COMPLETED
    assert list(play.scheduler.tick(2)) == []
    play.replay().finish()


def test_silent_offers_stay_ready_while_others_start() -> None:
    play = Play(task("a"), task("b"))
    assert play.tick(0, {"a": SILENT}) == [Spawn("a"), Spawn("b")]
    assert play.states == {"a": "ready", "b": "running"}
    assert play.tick(0) == [Spawn("a")]


def test_statistics_count_what_happened() -> None:
    play = Play(task("a", max_retries=1), task("b", agent="x"), task("c"))
    play.tick(0, {"b": full("agent:x"), "c": SILENT})
    play.fail("a", at=1)
    play.tell(Completed(), "a", handle="other")
    counted = play.scheduler.statistics
    assert (counted.ticks, counted.offers, counted.spawns, counted.refusals) == (1, 3, 1, 1)
    assert (counted.events, counted.stale_events, counted.retries) == (2, 1, 1)
    assert (counted.spawn_failures, counted.deferrals) == (0, 0)


def test_refusal_is_an_error_with_the_scope_that_is_full() -> None:
    limit = ConcurrencyLimit("the browser is taken", "resource:browser", 2, 2)
    assert (str(limit), limit.scope, limit.active, limit.max) == (
        "the browser is taken", "resource:browser", 2, 2,
    )  # fmt: skip
