"""The order follows what tasks take that completed."""

from __future__ import annotations

import heapq

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.play import Play, full, task
from tests.core.test_hostile import new_tasks

from allready.core import learning
from allready.core.actions import RunInline, Spawn
from allready.core.events import Completed, TaskEvent
from allready.core.graph import TaskGraph, TaskNode, TaskSpec
from allready.core.ready import Bucket
from allready.core.scheduler import DagScheduler
from allready.core.states import COMPLETED
from allready.errors import ConcurrencyLimit


def begin(*tasks: TaskSpec, open: bool = False) -> Play:  # noqa: A002
    play = Play(*tasks, open=open)
    play.scheduler.learn(0)
    return play


def lengths(play: Play) -> dict[str, float]:
    return {node.id: round(node.remaining, 6) for node in play.scheduler.graph}


def offered(play: Play) -> list[str]:
    """Give the ready tasks in their order, by asking a pool that takes none of them."""
    names = [action.task for action in play.scheduler.tick(play.now) if isinstance(action, Spawn)]
    play.scheduler.record_batch_backoff(False, False)
    return names


# --- what is learnt -----------------------------------------------------------------------------------------


def test_a_kind_without_estimates_takes_what_its_tasks_took_on_average() -> None:
    play = begin(task("quick", agent="x"), task("slow", agent="y"), task("x2", "quick", agent="x"),
                 task("y1", agent="y"), task("y2", "y1", agent="y"), task("x1", agent="x"))  # fmt: skip
    play.tick(0, {"x1": "silent", "y1": "silent"})
    assert offered(play) == ["y1", "x1"]
    play.complete("quick", at=4)
    play.complete("slow", at=8)
    assert offered(play) == ["y1", "x2", "x1"]
    assert lengths(play) == {"quick": 8, "slow": 8, "x2": 4, "y1": 16, "y2": 8, "x1": 4}
    play.replay().finish()


def test_what_was_long_by_its_estimates_may_turn_out_to_be_short() -> None:
    play = begin(
        *(task(f"x{n}", agent="x", estimate=10) for n in range(5)),
        task("y0", agent="y"),
        task("y1", agent="y"),
    )
    others = dict.fromkeys(["x3", "x4", "y1"], "silent")
    play.tick(0, others)
    assert offered(play) == ["x3", "x4", "y1"]
    play.complete("x0", "x1", at=1)
    play.complete("y0", at=4)
    assert offered(play) == ["x3", "x4", "y1"], "two tasks may be exceptions"
    play.complete("x2", at=4)
    assert lengths(play)["x3"] == 10
    assert offered(play) == ["y1", "x3", "x4"]
    assert (lengths(play)["x3"], lengths(play)["y1"]) == (2, 4)
    play.replay().finish()


def test_a_path_that_changes_and_changes_back_leaves_one_offer_of_each_task() -> None:
    many = [task(f"z{n:03}", agent="z", estimate=1) for n in range(300)]
    play = begin(
        *many, task("a", agent="a"), *(task(f"z{n}", agent="z", priority=1, estimate=1) for n in range(8))
    )
    held = dict.fromkeys([spec.id for spec in many], full())
    play.tick(0, held | {"a": "silent"})
    for number, took in enumerate([1, 4, 20, 90, 1, 1, 1, 1]):
        play.tell(Completed(), f"z{number}", at=play.now + took)
        names = offered(play)
        assert sorted(names) == sorted({*held, "a"})
    bucket = play["z000"].bucket
    assert isinstance(bucket, Bucket)
    assert len(bucket.heap) < 2 * len(many), "old places are cleared away"
    play.replay().finish()


def test_one_kind_alone_has_no_other_order() -> None:
    play = begin(task("a", agent="x"), task("b", "a", agent="x"), open=True)
    play.tick(0)
    play.complete("a", at=50)
    play.tick()
    assert lengths(play) == {"a": 2, "b": 1}
    play.scheduler.add_tasks([task("c", agent="y")], 51)
    assert lengths(play) == {"a": 2, "b": 1, "c": 1}, "it is measured when something completed before"
    play.complete("c", at=52)  # stale: it has no attempt
    play.tick(52)
    play.complete("b", at=100)
    play.tick()
    assert lengths(play)["a"] == 100
    play.replay().finish()


def test_what_moved_and_moved_back_needs_no_sweep() -> None:
    play = begin(
        *(task(f"a{n}", agent="a") for n in range(3)), task("b", agent="b"), task("c", "b", agent="b")
    )
    play.tick(0)
    play.tell(Completed(), "a0", at=0.1)
    play.tell(Completed(), "a1", at=1.8)
    play.tick()
    assert set(lengths(play).values()) == {1, 2}
    play.replay().finish()


def test_tasks_that_take_no_time_are_all_the_same() -> None:
    paces = learning.Paces()
    specs = [TaskSpec("a", agent="x"), TaskSpec("b", agent="y", estimate=0.0)]
    paces.know(specs)
    paces.add(specs[0], 1e-6)
    paces.adopt()
    assert paces.seconds(specs[0]) == learning.SHORTEST
    paces.add(specs[0], 9e-3)
    for _ in range(5):
        paces.add(specs[1], 0.0)
    assert not paces.moved
    assert paces.seconds(specs[1]) == 0.0


def test_without_learning_the_order_is_that_of_the_estimates() -> None:
    play = Play(task("a", agent="x"), task("b", agent="y"), task("c", "b", agent="y"))
    play.tick(0)
    play.complete("a", at=90)
    play.tick()
    assert lengths(play) == {"a": 1, "b": 2, "c": 1}


# --- a sweep ------------------------------------------------------------------------------------------------


def chain(letter: str, number: int) -> list[TaskSpec]:
    return [task(f"{letter}{n}", *([f"{letter}{n - 1}"] if n else []), agent=letter) for n in range(number)]


def test_a_tick_brings_a_bounded_part_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "STEP", 10)
    play = begin(*chain("a", 12), *chain("b", 12))
    play.tick(0)
    before = lengths(play)
    play.complete("b0", at=1)
    play.tick()
    assert lengths(play) == before, "they take what they were taken to"
    play.complete("a0", at=3)
    play.tick()
    assert lengths(play) == before, "the end of b comes first"
    play.tick(4)
    assert lengths(play) == before, "nothing completed since"
    told = []
    for number in range(1, 6):
        play.complete(f"a{number}", at=play.now + 3)
        play.tick()
        told.append([name for name, length in lengths(play).items() if length != before[name]])
    # an edge from a task to the next counts as much as a task
    assert [len(names) for names in told] == [0, 5, 10, 12, 12]
    assert lengths(play)["a0"] == 36
    play.replay().finish()


def test_growth_meanwhile_is_measured_as_what_is_done_already(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "STEP", 4)
    play = begin(*chain("a", 6), *chain("b", 6), open=True)
    play.tick(0)
    play.complete("a0", at=4)
    play.tick()
    assert lengths(play) | {"b5": 1, "a5": 1} == lengths(play)
    late = [task("a8", "a7", agent="a"), task("a7", "a5", "b2", agent="a"), task("c", "a8", agent="c")]
    play.scheduler.add_tasks(late, 4)
    assert (lengths(play)["c"], lengths(play)["a7"]) == (1, 9)
    for number in range(1, 6):
        play.tick()
        play.complete(f"a{number}", at=play.now + 4)
    play.tick()
    assert lengths(play)["a0"] == 6 * 4 + 9
    assert lengths(play)["b0"] == 3 + 9
    play.replay().finish()


def from_scratch(graph: TaskGraph) -> dict[str, float]:
    """Measure all paths by the paces that are in use."""
    assert graph.paces is not None
    lengths: dict[int, float] = {}

    def measure(node: TaskNode) -> float:
        if node.index not in lengths:
            assert graph.paces is not None
            longest = max((measure(other) for other in node.dependents), default=0.0)
            lengths[node.index] = longest + graph.paces.seconds(node.spec)
        return lengths[node.index]

    return {node.id: measure(node) for node in graph.nodes}


@settings(deadline=None)
@given(data=st.data(), step=st.integers(1, 12), slots=st.integers(1, 4))
def test_after_a_sweep_all_paths_are_as_if_measured_from_scratch(
    data: st.DataObject, step: int, slots: int
) -> None:
    """Whatever the tasks take, whatever grows meanwhile, and whatever the order of the plan is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learning, "STEP", step)
        first = [plain(spec) for spec in data.draw(new_tasks(0, 20))]
        scheduler = DagScheduler(TaskGraph(first, open=True), validate=True)
        scheduler.learn(0)
        running: list[tuple[float, str, str]] = []
        now = 0.0
        sweeps = 0
        for _ in range(1_000):
            places = slots - len(running)
            for action in scheduler.tick(now):
                assert isinstance(action, Spawn | RunInline)
                if not places:
                    scheduler.record_spawn_failure(action.task, ConcurrencyLimit(), now)
                    continue
                places -= 1
                scheduler.record_spawn(action.task, f"{action.task}.1", now)
                end = now + data.draw(st.sampled_from([0.0, 0.5, 1.0, 7.0, 60.0, 3000.0]))
                heapq.heappush(running, (end, action.task, f"{action.task}.1"))
            scheduler.record_batch_backoff(False, False)
            learns = scheduler._learning
            assert learns is not None
            if not learns._left:
                sweeps += 1
                assert {node.id: node.remaining for node in scheduler.graph} == from_scratch(scheduler.graph)
            if len(scheduler.graph) < 40 and data.draw(st.integers(0, 3)) == 0:
                more = data.draw(new_tasks(len(scheduler.graph), 5))
                scheduler.add_tasks([plain(spec) for spec in more], now)
            elif not running:
                break
            if running:
                now, name, handle = heapq.heappop(running)
                scheduler.handle(TaskEvent(name, handle, Completed(), now))
        assert sweeps
        assert scheduler.graph.counts[COMPLETED] == len(scheduler.graph)


def plain(spec: TaskSpec) -> TaskSpec:
    return task(spec.id, *spec.depends_on, agent=spec.agent, estimate=spec.estimate, timeout=None)


# --- in another process -------------------------------------------------------------------------------------


def test_what_was_learnt_is_known_after_a_crash() -> None:
    play = begin(*chain("a", 4), *chain("b", 3))
    play.tick(0)
    play.complete("a0", at=5)
    play.tick(5)
    again = play.crash()
    assert lengths(again)["a1"] == 3
    again.scheduler.learn(6)
    again.tick(6)
    play.scheduler.recover(6, 0)
    play.scheduler.learn(6)
    assert play.tick(6)
    assert (
        lengths(again) == lengths(play) == {"a0": 20, "a1": 15, "a2": 10, "a3": 5, "b0": 3, "b1": 2, "b2": 1}
    )
    play.replay().finish()


def test_learning_begins_between_batches() -> None:
    play = Play(task("a"), task("b"))
    batch = play.scheduler.tick(0)
    next(batch)
    play.scheduler.learn(1)
    assert [*batch] == []
    assert play.tick(1) == [Spawn("a"), Spawn("b")]
    play.replay().finish()
