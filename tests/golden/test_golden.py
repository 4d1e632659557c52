"""Runs that were recorded once are decided by today's scheduler as they were then; `record.py` made them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.golden import record

from allready.core import policy
from allready.core.course import Course
from allready.core.graph import TaskGraph
from allready.core.history import OUTCOMES, REPORTS, Replay
from allready.core.scheduler import DagScheduler
from allready.core.states import RunIf
from allready.core.steering import DRIVER_COMMANDS, RUN_COMMANDS, TASK_COMMANDS
from allready.engine.recording import SHAPES, load_recording
from allready.engine.replay import Recording, play
from allready.errors import ReplayDiverged

FILES = sorted(Path(__file__).parent.glob("*.json"))
ANSWERED = frozenset({"offer", *REPORTS})


def recording_of(name: str) -> Recording:
    return load_recording(Path(__file__).parent / f"{name}.json")


def difference(recording: Recording) -> ReplayDiverged:
    found = play(recording).difference
    assert found is not None, "it decides the same"
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_recorded_run_is_decided_the_same(path: Path) -> None:
    replayed = play(load_recording(path))
    if replayed.difference is not None:
        raise replayed.difference
    assert replayed.final, "the states at the end were compared"
    assert replayed.decisions > 1


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_step_of_a_recorded_run_breaks_an_invariant(path: Path) -> None:
    recording = load_recording(path)
    graph = TaskGraph(recording.tasks, open=recording.open)
    scheduler = DagScheduler(graph, seed=recording.seed, timeout=recording.timeout, validate=True)
    replay = Replay(scheduler)
    replay.feed(recording.inputs)
    replay.finish()


def test_there_is_a_recording_of_every_kind_of_run() -> None:
    assert [path.stem for path in FILES] == sorted([*record.RECORDINGS, *record.KEPT])


def test_the_recordings_have_all_that_can_happen() -> None:
    recordings = [load_recording(path) for path in FILES]
    inputs = [entry for recording in recordings for entry in recording.inputs]
    # the loop answers every offer at once, leaves no batch early, and asks for nothing that can't be had
    assert {entry[0] for entry in inputs} == SHAPES.keys() - {"leave", "spawn_failed"}
    assert {entry[3] for entry in inputs if entry[0] == "event"} == OUTCOMES.keys()
    commands = {entry[1] for entry in inputs if entry[0] == "command"}
    assert commands == {"retry", *RUN_COMMANDS, *TASK_COMMANDS, *DRIVER_COMMANDS}
    ends = {recording.final.status for recording in recordings if recording.final is not None}
    assert ends == {"completed", "failed", "canceled", "paused"}


@pytest.mark.parametrize("call", record.VIRTUAL, ids=lambda call: call.__name__)
def test_recording_anew_leads_to_the_same_decisions(
    call: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    again, kept = load_recording(record.record(call.__name__, tmp_path)), recording_of(call.__name__)
    assert play(again).difference is None
    assert again.final == kept.final
    assert without_handles(again) == without_handles(kept)


def without_handles(recording: Recording) -> list[Any]:
    """Give the inputs with the attempts numbered: a pool gives them names that are its own.

    Without `learn`, too: most recordings are from before there was such a thing, and have one kind of tasks.
    """
    numbers: dict[str, str] = {}
    told = []
    for entry in recording.inputs:
        if entry[0] == "learn":
            continue
        if entry[0] in {"spawn", "event", "cancel"}:
            handle = numbers.setdefault(entry[2], f"attempt {len(numbers)}")
            entry = [*entry[:2], handle, *entry[3:]]
        elif entry[0] == "began_late":
            entry = [entry[0], [numbers[handle] for handle in entry[1]], *entry[2:]]
        told.append(entry)
    return told


# --- what is changed is found -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_input_that_was_tampered_with_is_found_at_its_step(path: Path) -> None:
    recording = load_recording(path)
    for step, entry in enumerate(recording.inputs, 1):
        if entry[0] not in {*ANSWERED, "cancel", "done"}:
            continue
        changed = copy.copy(recording)
        other = [entry[0], "somebody-else", *entry[2:]]
        changed.inputs = [*recording.inputs[: step - 1], other, *recording.inputs[step:]]
        found = difference(changed)
        assert (found.step, found.recorded) == (step, other)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_event_that_was_tampered_with_is_found(path: Path) -> None:
    recording = load_recording(path)
    for place, event in enumerate(recording.events):
        changed = copy.copy(recording)
        other = event._replace(at=event.at + 1e-3)
        changed.events = [*recording.events[:place], other, *recording.events[place + 1 :]]
        found = difference(changed)
        assert found.recorded[0] == event.type
        assert found.task == event.task


def test_states_at_the_end_are_compared() -> None:
    recording = recording_of("chain")
    assert recording.final is not None
    recording.final.tasks["step-3"] = ("completed", 2)
    found = difference(recording)
    assert (found.task, list(found.recorded)) == ("step-3", ["the end", "step-3", "completed", 2])
    recording = recording_of("chain")
    assert recording.final is not None
    recording.final = recording.final._replace(status="failed")
    assert list(difference(recording).recorded) == ["the end", "failed"]


def test_a_scheduler_that_delays_otherwise_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "RETRY_FIRST", 1.5)
    found = difference(recording_of("diamonds"))
    assert found.recorded[:2] == ["task.retrying", "left"]
    assert found.at == 3.0


def test_a_scheduler_with_another_order_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(_: Any, ordered: Any) -> None:
        for node in ordered:
            node.remaining = 0.0

    monkeypatch.setattr(TaskGraph, "_measure", measure)
    found = difference(recording_of("wide"))
    assert found.recorded[0] in ANSWERED
    assert found.now.startswith("wants Spawn(task='leaf-")


def test_a_scheduler_that_lets_go_too_early_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    settle = TaskGraph.settle

    def eager(self: Any, node: Any, ready: list[Any], skipped: list[Any]) -> None:
        settle(self, node, ready, skipped)
        moved = [other for other in skipped if other.spec.run_if is not RunIf.ALL_COMPLETED]
        ready += moved
        skipped[:] = [other for other in skipped if other not in moved]

    monkeypatch.setattr(TaskGraph, "settle", eager)
    assert difference(recording_of("run_if")).task == "none"


def test_a_scheduler_that_forgets_a_time_limit_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Course, "_push_deadline", lambda *_: None)
    found = difference(recording_of("troubles"))
    assert found.task == "slow"
    assert found.at == 5.0


def test_files_are_written_so_that_they_can_be_compared_by_eye() -> None:
    lines = (Path(__file__).parent / "chain.json").read_text().splitlines()
    assert '["tick",0.0],' in lines
    assert json.loads("\n".join(lines))["version"] == 1
