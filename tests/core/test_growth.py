"""A graph that grows while it runs."""

from __future__ import annotations

from typing import Any

import pytest
from tests.core.play import Play, full, task

from allready.core import graph as graph_module
from allready.core.actions import Done, Spawn
from allready.core.graph import TaskGraph, TaskSpec, topological_order
from allready.core.states import RunState
from allready.errors import PlanError, UserError

COMPLETED = Done(RunState.COMPLETED)


def test_an_open_graph_does_not_end_and_a_closed_one_does() -> None:
    play = Play(task("a"), open=True)
    play.tick(0)
    play.complete("a", at=1)
    assert play.tick(1) == []
    play.scheduler.add_tasks([task("b", "a")], 2)
    assert play.tick(2) == [Spawn("b")]
    play.complete("b", at=3)
    assert play.tick(3) == []
    play.scheduler.close(4)
    assert play.scheduler.next_wakeup() is not None
    assert play.tick(4) == [COMPLETED]
    assert "plan.closed" in play.told()


def test_closing_twice_says_it_once() -> None:
    play = Play(open=True)
    play.scheduler.close(0)
    play.scheduler.close(1)
    assert play.told() == ["plan.closed"]


def test_tasks_added_before_the_run_has_begun_are_not_ready_before_it() -> None:
    play = Play(open=True)
    play.scheduler.add_tasks([task("a")], 0)
    assert play.states == {"a": "pending"}
    assert play.tick(0) == [Spawn("a")]
    assert play.told() == ["task.added a", "run.started", "task.ready a", "task.started a.1"]


def test_an_added_task_may_go_after_a_completed_one_whatever_is_added_and_skipped_before_it() -> None:
    play = Play(task("done"), task("failed", strategy="skip"), open=True)
    play.tick(0)
    play.complete("done")
    play.fail("failed")
    any_of = task("any", "done", "left_out", run_if="any_completed")
    play.scheduler.add_tasks([task("left_out", "failed"), any_of], 1)
    assert play.states["left_out"] == "skipped"
    assert play.tick() == [Spawn("any")]


def test_added_tasks_take_the_state_that_their_dependencies_call_for() -> None:
    play = Play(task("done"), task("failed", strategy="skip"), task("runs"), task("asks", strategy="ask"),
                open=True)  # fmt: skip
    play.tick(0)
    play.complete("done")
    play.fail("failed", "asks")
    play.scheduler.add_tasks(
        [
            task("n1", "done"), task("n2", "failed"), task("n3", "n2"), task("n4", "runs", "done"),
            task("n5", "failed", "done", run_if="all_done"), task("n6", "asks", run_if="all_done"),
            task("n7", "failed", "runs", run_if="any_completed"), task("n8", approval=True),
            task("n9", "failed", run_if="any_completed"), task("m1", "done", "runs", run_if="any_completed"),
            task("m2", run_if="any_completed"),
        ],
        1,
    )  # fmt: skip
    assert {name: state for name, state in play.states.items() if name[0] in "nm" and len(name) == 2} == {
        "n1": "ready", "n2": "skipped", "n3": "skipped", "n4": "pending", "n5": "ready", "n6": "pending",
        "n7": "pending", "n8": "awaiting_approval", "n9": "skipped", "m1": "ready", "m2": "ready",
    }  # fmt: skip


def test_tasks_added_while_the_run_ends_or_has_ended_are_canceled() -> None:
    play = Play(task("a"), open=True)
    play.tick(0)
    play.scheduler.cancel_all(1)
    play.scheduler.add_tasks([task("b", "a")], 1)
    play.stop("a", at=2)
    assert play.tick(2) == [Done(RunState.CANCELED, "canceled by a person")]
    play.scheduler.add_tasks([task("c")], 3)
    assert play.states == {"a": "canceled", "b": "canceled", "c": "canceled"}
    assert play["c"].error == "the run is ending"
    play.scheduler.retry(None, 4)
    assert play.tick(4) == [Spawn("a", None, 2), Spawn("c")]


def test_a_closed_graph_takes_no_tasks() -> None:
    with pytest.raises(UserError, match="the graph is closed"):
        Play(task("a")).scheduler.add_tasks([task("b")], 0)


def test_growth_with_an_error_adds_nothing() -> None:
    play = Play(task("a"), open=True)
    play.tick(0)
    with pytest.raises(PlanError):
        play.scheduler.add_tasks([task("b"), task("c", "nowhere")], 1)
    assert play.states == {"a": "running"}
    assert play.tick(1) == []
    play.replay().finish()


def test_all_that_is_wrong_with_new_tasks_is_found() -> None:
    graph = TaskGraph([task("a")], open=True)
    with pytest.raises(PlanError) as error:
        graph.add([task("a"), task("b", "b"), task("c", "x"), task("d", "e"), task("e", "f"), task("f", "d")])
    assert [problem.message for problem in error.value.problems] == [
        "task id 'a' is used twice",
        "task 'b' depends on itself",
        "task 'c' depends on 'x', which does not exist",
        "the tasks depend on each other in a circle: d → e → f → d",
    ]
    assert len(graph) == 1


def test_the_limit_on_the_number_of_tasks_holds_for_growth_too() -> None:
    graph = TaskGraph((task(f"t{n}") for n in range(3)), open=True, max_tasks=4)
    graph.add([task("a")])
    with pytest.raises(PlanError, match="too many tasks: 6; the limit is 4"):
        graph.add(task(f"u{n}") for n in range(2))


def test_a_task_may_be_written_before_what_it_depends_on() -> None:
    play = Play(task("c", "b"), task("b", "a"), task("a"))
    assert [play[name].remaining for name in "abc"] == [3, 2, 1]
    assert play.tick(0) == [Spawn("a")]


def test_growth_lengthens_the_remaining_path_of_what_waits() -> None:
    play = Play(task("a"), task("b"), task("c", "b"), open=True)
    assert play.tick(0, {"a": full(), "b": full()}) == [Spawn("b")]
    play.scheduler.add_tasks([task("d", "a", estimate=5), task("e", "c", estimate=0.5)], 1)
    assert [play[name].remaining for name in "abcde"] == [6, 2.5, 1.5, 5, 0.5]
    assert play.tick(1) == [Spawn("a"), Spawn("b")]


def test_growth_brings_only_so_many_ancestors_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_module, "GROWTH_BUDGET", 10)
    graph = TaskGraph((task(f"t{n}", *([f"t{n - 1}"] if n else [])) for n in range(30)), open=True)
    graph.add([task("end", "t29", estimate=100)])
    assert graph["t29"].remaining == 101
    assert graph["t20"].remaining == 110
    assert graph["t0"].remaining == 30


def test_a_graph_knows_its_tasks() -> None:
    graph = TaskGraph([task("a"), task("b", "a", "a"), task("c"), task("d", "b", "a", "c"), task("e")])
    assert ("a" in graph, "x" in graph, len(graph)) == (True, False, 5)
    assert [node.id for node in graph.ancestors("d")] == ["a", "b", "c"]
    assert [dep.id for dep in graph["b"].deps] == ["a"]
    assert [node.id for node in graph] == [*"abcde"]
    assert repr(graph["a"]) == "<a pending>"
    assert graph.unended == 5
    with pytest.raises(UserError, match="there is no task 'x'"):
        graph["x"]


@pytest.mark.parametrize(("settings", "retries"), [({}, 3), ({"max_retries": 0}, 0), ({"max_retries": 7}, 7)])
def test_retries_under_the_strategy_retry(settings: dict[str, Any], retries: int) -> None:
    assert task("a", strategy="retry", **settings).retries == retries


def test_defaults_of_a_task() -> None:
    assert (TaskSpec("a").retries, TaskSpec("a").timeout) == (0, 600)


def test_topological_order_names_one_cycle() -> None:
    assert topological_order({"a": ["b"], "b": []}) == (["b", "a"], None)
    order, cycle = topological_order({"x": ["a"], "a": ["b"], "b": ["a"], "y": []})
    assert (order, cycle) == (["y"], ["a", "b", "a"])
