"""The tables of transitions, the invariants that watch over them, and the delays."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.play import Play, task

from allready.core import policy
from allready.core.graph import TaskGraph
from allready.core.states import (
    ENDED,
    RUN_ENDED,
    RUN_TRANSITIONS,
    TASK_TRANSITIONS,
    RunState,
    TaskState,
    no_transition,
)
from allready.errors import BugError, InvalidTransition, InvariantBroken

# --- transitions -------------------------------------------------------------------------------------------


def test_task_transitions_are_those_of_the_contract() -> None:
    steps = {f"{old} {new}" for old, news in TASK_TRANSITIONS.items() for new in news}
    assert steps == {
        "pending ready", "pending awaiting_approval", "pending skipped", "pending canceled",
        "awaiting_approval ready", "awaiting_approval pending", "awaiting_approval skipped",
        "awaiting_approval canceled", "ready running", "ready pending", "ready failed", "ready skipped",
        "ready canceled",
        "running completed", "running failed", "running ready", "running canceling",
        "canceling completed", "canceling failed", "canceling ready", "canceling canceled",
        "failed ready", "failed pending", "skipped pending", "canceled pending",
    }  # fmt: skip


def test_run_transitions_are_those_of_the_contract() -> None:
    steps = {f"{old} {new}" for old, news in RUN_TRANSITIONS.items() for new in news}
    assert steps == {
        "created running", "running paused", "running completed", "running failed", "running canceled",
        "paused running", "paused completed", "paused failed", "paused canceled",
        "failed running", "canceled running",
    }  # fmt: skip


def test_every_state_has_its_row_and_ends_are_what_only_a_person_leads_out_of() -> None:
    assert set(TASK_TRANSITIONS) == set(TaskState)
    assert set(RUN_TRANSITIONS) == set(RunState)
    assert {state for state in TaskState if state.value in "completed failed skipped canceled"} == ENDED
    assert {RunState.COMPLETED, RunState.FAILED, RunState.CANCELED} == RUN_ENDED


@pytest.mark.parametrize(("old", "new"), list(product(TaskState, TaskState)))
def test_a_task_moves_through_the_table_or_not_at_all(old: TaskState, new: TaskState) -> None:
    graph = TaskGraph([task("a")])
    graph["a"].state = old
    graph.counts = dict.fromkeys(TaskState, 0) | {old: 1}
    if new in TASK_TRANSITIONS[old]:
        graph.move(graph["a"], new)
        assert (graph["a"].state, graph.counts[old], graph.counts[new]) == (new, 0, 1)
    else:
        with pytest.raises(InvalidTransition, match=f"task 'a': no transition leads from {old} to {new}"):
            graph.move(graph["a"], new)
        assert (graph["a"].state, graph.counts[old]) == (old, 1)


@pytest.mark.parametrize(("old", "new"), list(product(RunState, RunState)))
def test_a_run_moves_through_the_table_or_not_at_all(old: RunState, new: RunState) -> None:
    scheduler = Play(task("a")).scheduler
    scheduler.status = old
    if new in RUN_TRANSITIONS[old]:
        scheduler._set_run(new, 0, "run.moved")
        assert scheduler.status is new
    else:
        with pytest.raises(InvalidTransition, match=f"the run: no transition leads from {old} to {new}"):
            scheduler._set_run(new, 0, "run.moved")
        assert scheduler.status is old


def test_a_missing_transition_is_a_bug_of_ours() -> None:
    assert isinstance(no_transition("x", TaskState.READY, TaskState.READY), BugError)


# --- invariants --------------------------------------------------------------------------------------------


@dataclass
class Break:
    what: str
    how: Callable[[Play], object]
    about: str = "the run"


def sets(name: str, **values: object) -> Callable[[Play], None]:
    def how(play: Play) -> None:
        for field, value in values.items():
            setattr(play[name], field, value)

    return how


def counts_off(play: Play) -> None:
    play.scheduler.graph.counts[TaskState.READY] += 1


def asks_off(play: Play) -> None:
    play.scheduler.asking += 1


def paused_for_nothing(play: Play) -> None:
    play.scheduler.status = RunState.PAUSED


def ended_too_early(play: Play) -> None:
    play.scheduler.status = RunState.COMPLETED


def ends_with_a_task_that_waits(play: Play) -> None:
    play.scheduler.ending = RunState.FAILED


def no_deadline(play: Play) -> None:
    play.scheduler._deadlines.clear()


def no_time(play: Play) -> None:
    play.scheduler._delayed.clear()


def moved(name: str, state: TaskState) -> Callable[[Play], None]:
    def how(play: Play) -> None:
        counts = play.scheduler.graph.counts
        counts[play[name].state] -= 1
        play[name].state = state
        counts[state] += 1

    return how


@pytest.mark.parametrize(
    "broken",
    [
        Break("counts of states", counts_off),
        Break("count of tasks that ask", asks_off),
        Break("only a pause has a reason", paused_for_nothing),
        Break("an ended run has no task that goes on", ended_too_early),
        Break("an ending run has nothing that has not begun", ends_with_a_task_that_waits),
        Break("a running attempt has its deadline", no_deadline, "task 'runs' (running)"),
        Break("its attempt is not also that of runs", sets("too", handle="runs.1"), "task 'too' (running)"),
        Break("an attempt under way has a handle", sets("runs", handle=None), "task 'runs' (running)"),
        Break("an attempt under way has a handle", sets("runs", attempts=0), "task 'runs' (running)"),
        Break("an attempt under way has a handle", sets("runs", started_at=None), "task 'runs' (running)"),
        Break("why it is canceled", sets("runs", cancel_reason="whim"), "task 'runs' (running)"),
        Break("why it is canceled", moved("runs", TaskState.CANCELING), "task 'runs' (canceling)"),
        Break("waits for 1, counted 2", sets("waits", waiting=2), "task 'waits' (pending)"),
        Break("a pending task that could be ready", sets("ready", state=TaskState.PENDING, queued=False), ""),
        Break("waits for an approval it needs", sets("asks", approved=True),
              "task 'asks' (awaiting_approval)"),
        Break("only a ready task is queued", sets("waits", queued=True), "task 'waits' (pending)"),
        Break("an ended task has the time of its end", sets("done", finished_at=None),
              "task 'done' (completed)"),
        Break("a ready task is queued, offered, or waits for its time", sets("ready", queued=False),
              "task 'ready' (ready)"),
        Break("a ready task is queued, offered, or waits for its time", no_time, "task 'retries' (ready)"),
    ],
    ids=lambda broken: f"{broken.what} {broken.about}".replace(" ", "-"),
)  # fmt: skip
def test_a_broken_invariant_is_told_with_the_story(broken: Break) -> None:
    play = Play(
        task("runs"), task("too"), task("waits", "runs"), task("done"), task("asks", approval=True),
        task("retries", max_retries=1), task("ready", priority=-1),
    )  # fmt: skip
    play.tick(0, {"ready": "silent"})
    play.complete("done", at=1)
    play.fail("retries", at=1)
    play.scheduler.validate_state()
    broken.how(play)
    if "could be ready" in broken.what:
        play.scheduler.graph.counts[TaskState.READY] -= 1
        play.scheduler.graph.counts[TaskState.PENDING] += 1
    with pytest.raises(InvariantBroken) as error:
        play.scheduler.validate_state()
    text = str(error.value)
    assert text.startswith("this is a bug in allready, please report it. Broken for ")
    assert broken.what in text
    assert broken.about in text
    assert "0.000 run.started" in text


def test_only_a_failed_task_asks() -> None:
    play = Play(task("a"))
    play.tick(0)
    play["a"].asking = True
    play.scheduler.asking = 1
    with pytest.raises(InvariantBroken, match="only a failed task asks"):
        play.scheduler.validate_state()


def test_invariants_hold_within_a_batch_too() -> None:
    play = Play(task("a"), task("b"), task("c"))
    for _ in play.scheduler.tick(0):
        play.scheduler.validate_state()


# --- delays ------------------------------------------------------------------------------------------------

seeds = st.integers(-(2**70), 2**70)


@given(seeds, st.lists(st.integers(0, 10**9), max_size=4))
def test_uniform_is_in_its_bounds_and_the_same_each_time(seed: int, key: list[int]) -> None:
    drawn = policy.uniform(seed, *key)
    assert 0 <= drawn < 1
    assert policy.uniform(seed, *key) == drawn


def test_uniform_is_spread_evenly() -> None:
    drawn = [policy.uniform(7, n) for n in range(10_000)]
    assert 0.49 < sum(drawn) / len(drawn) < 0.51
    assert all(900 < sum(tenth / 10 <= x < (tenth + 1) / 10 for x in drawn) < 1100 for tenth in range(10))
    assert len({policy.uniform(7, 1, 2), policy.uniform(7, 2, 1), policy.uniform(8, 1, 2)}) == 3


@given(st.integers(1, 10**6), seeds)
def test_batch_backoff_doubles_from_250_ms_to_5_s_with_jitter(failures: int, seed: int) -> None:
    exact = min(5.0, 0.25 * 2.0 ** min(failures - 1, 64))
    assert exact * 0.85 <= policy.batch_backoff(failures, seed) <= exact * 1.15


@given(st.integers(1, 10**6), seeds, st.integers(0, 10**6))
def test_retry_delay_is_any_part_of_a_doubling_delay(retry: int, seed: int, index: int) -> None:
    assert 0 <= policy.retry_delay(retry, seed, index) < min(60.0, 2.0 ** min(retry - 1, 64))


def test_retry_delays_of_many_tasks_are_spread_over_the_whole_time() -> None:
    delays = [policy.retry_delay(3, 0, index) for index in range(1000)]
    assert min(delays) < 0.05
    assert max(delays) > 3.95


@given(st.integers(1, 10**6), seeds, st.integers(0, 10**6))
def test_defer_delay_is_at_least_half_of_a_doubling_delay(deferrals: int, seed: int, index: int) -> None:
    exact = min(60.0, 0.5 * 2.0 ** min(deferrals - 1, 64))
    assert exact / 2 <= policy.defer_delay(deferrals, None, seed, index) <= exact


@given(st.floats(0, policy.LONGEST_RETRY_AFTER), seeds)
def test_defer_delay_keeps_what_the_other_side_asked_for(retry_after: float, seed: int) -> None:
    assert retry_after <= policy.defer_delay(1, retry_after, seed, 0) <= retry_after * 1.1


@pytest.mark.parametrize("wish", [math.nan, math.inf, -1.0, 1e9])
def test_defer_delay_of_a_wish_that_is_none(wish: float) -> None:
    assert policy.defer_delay(1, wish, 0, 0) == policy.defer_delay(1, None, 0, 0)
