"""`allready replay`: on runs of all kinds, on files, and what it says when a decision differs."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import (
    STORE,
    WAIT_FOR_GO,
    Call,
    Child,
    make_run,
    stored,
    wait_for_states,
    wait_for_status,
    write_plan,
)
from tests.core.play import Play, task

from allready.cli.replay import STORY_LINES
from allready.engine.recording import load_recording, write_recording
from allready.engine.replay import Recording, play, read_recording
from allready.errors import UserError
from allready.store.open import open_store

GOLDEN = Path(__file__).parents[1] / "golden"
PLAN = """\
tasks:
  - {id: a, run: echo hi}
  - {id: b, run: sh -c 'exit 1', depends_on: [a], max_retries: 1, failure_strategy: skip}
  - {id: c, run: echo end, depends_on: [b], run_if: all_done}
"""


def test_a_run_that_ended(call: Call) -> None:
    write_plan(PLAN)
    run = make_run("plan.yaml")
    answer = call("replay")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith("decides the same: ")
    assert answer.out.endswith(" events, and the states at the end\n")
    assert call("replay", run.id[:13], "--quiet") == (0, "", "")
    view = json.loads(call("replay", run.id, "--json").out)
    assert view.pop("inputs") > 10
    assert view == {"same": True, "batches": 6, "decisions": 5, "events": 13, "states_compared": True}


def test_a_run_under_way(call: Call, start: Callable[..., Child]) -> None:
    write_plan(
        f"tasks: [{{id: a, run: echo}}, {{id: b, run: {WAIT_FOR_GO!r}, shell: true, depends_on: [a]}}]"
    )
    start("run", "plan.yaml", "--quiet")
    wait_for_states(b="running")
    assert call("replay", "latest").code == 0
    view = json.loads(call("replay", "latest", "--json").out)
    assert (view["same"], view["decisions"]) == (True, 2)
    Path("go").touch()
    wait_for_status("completed")
    assert json.loads(call("replay", "latest", "--json").out)["decisions"] == 3


def test_a_run_that_was_steered_and_resumed_many_times(call: Call) -> None:
    write_plan(
        "tasks:\n  - {id: a, run: test -e good, failure_strategy: ask}\n"
        "  - {id: b, run: 'true', depends_on: [a]}\n"
    )
    make_run("plan.yaml")
    for _ in range(12):
        assert call("retry", "latest", "a").code == 0
        assert call("resume", "latest", "--quiet").code == 3
    Path("good").touch()
    call("retry", "latest", "a")
    assert call("resume", "latest", "--quiet").code == 0
    inputs = stored(lambda store, run: [entry for row in store.inputs(run) for entry in row.data])
    assert sum(entry[0] == "recover" for entry in inputs) == 26
    view = json.loads(call("replay", "--json").out)
    assert (view["same"], view["states_compared"]) == (True, True)


def test_a_file_is_written_and_played(call: Call) -> None:
    write_plan(PLAN)
    make_run("plan.yaml")
    answer = call("replay", "latest", "--export", "kept.json")
    assert answer.lines[-1] == "written to kept.json"
    assert "echo" not in Path("kept.json").read_text(), "what tasks do is not in it"
    STORE.unlink()
    again = call("replay", "kept.json")
    assert (again.code, again.lines) == (0, answer.lines[:-1])
    assert call("replay", "kept.json", "--export", "copy.json").code == 0
    assert Path("copy.json").read_text() == Path("kept.json").read_text()
    failed = call("replay", "kept.json", "--export", "no/such/folder.json")
    assert (failed.code, failed.out) == (2, "")
    assert "no/such/folder.json: can't be written" in failed.err


def test_the_first_difference_is_told(call: Call) -> None:
    text = (GOLDEN / "diamonds.json").read_text()
    old = '["spawn","left","'
    place = text.index(old, text.index(old) + 1)  # its second attempt
    Path("x.json").write_text(text[:place] + '["spawn","after","' + text[place + len(old) :])
    answer = call("replay", "x.json")
    assert (answer.code, answer.err) == (1, "")
    head, *lines = answer.lines
    assert head.startswith("decides otherwise at step 16 of 49, ")
    assert head.endswith(" after its beginning)")
    assert lines[0] == "  task      after"
    assert lines[1].startswith('  recorded  ["spawn", "after", "')
    assert lines[2] == "  now       the scheduler wants Spawn(task='left', agent='python', number=2)"
    assert lines[3] == "  stands    after waits for bottom (pending)"
    assert lines[4:7] == ["  story     of the task before it:", "            +0.000 s  run.started", ""]
    assert lines[7].startswith("the same up to there: 4 batches, 4 decisions, 13 events")
    assert call("replay", "x.json", "--quiet").out == answer.out

    view = json.loads(call("replay", "x.json", "--json").out)
    assert (view["same"], view["states_compared"]) == (False, False)
    difference = view["difference"]
    assert (difference["step"], difference["task"]) == (16, "after")
    assert difference["time"].startswith("1970-01-01T00:00:0")
    assert difference["recorded"][:2] == ["spawn", "after"]
    assert difference["story"] == ["0.000 run.started"]


def test_a_difference_before_anything_happened(call: Call) -> None:
    recording = load_recording(GOLDEN / "chain.json")
    recording.inputs[0] = ["done", "completed"]
    write_recording(recording, Path("x.json"))
    answer = call("replay", "x.json")
    assert answer.code == 1
    assert answer.lines[0] == "decides otherwise at step 1 of 35, before the first tick"


def test_a_long_story_is_cut(call: Call) -> None:
    play = Play(task("a", max_retries=30))
    for _ in range(12):
        play.tick(play.now + 100)
        play.fail("a", at=play.now + 1)
    scheduler = play.scheduler
    inputs = [*(scheduler.inputs or []), ["tick", play.now + 100], ["done", "completed"]]
    recording = Recording(play.first, scheduler.seed, None, False, inputs, scheduler.changes or [], None)
    write_recording(recording, Path("x.json"))
    answer = call("replay", "x.json")
    assert answer.code == 1
    assert "            … 6 earlier steps" in answer.lines  # it started, was ready, and 12 × 2
    assert sum(" s  task." in line for line in answer.lines) == STORY_LINES


def test_names_and_texts_do_not_steer_the_terminal(call: Call) -> None:
    recording = load_recording(GOLDEN / "chain.json")
    recording.inputs[1] = ["spawn", "\x1b[2Jx", "h", 0.0]
    write_recording(recording, Path("x.json"))
    answer = call("replay", "x.json")
    assert answer.code == 1
    assert "\x1b" not in answer.out


# --- what is no recording ---------------------------------------------------------------------------------


def test_runs_and_files_that_are_not_there(call: Call) -> None:
    assert call("replay", "latest").code == 2
    write_plan(PLAN)
    make_run("plan.yaml")
    answer = call("replay", "0000")
    assert (answer.code, answer.out) == (2, "")
    answer = call("replay", "plan.yaml")
    assert answer.code == 2
    assert "plan.yaml: no JSON" in answer.err


def changed(**parts: Any) -> str:
    return json.dumps({**json.loads((GOLDEN / "chain.json").read_text()), **parts})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[]", "no recorded run; allready replay RUN --export FILE writes one"),
        ("{}", "no recorded run"),
        (changed(version=2), "its format has version 2, and this allready reads 1"),
        (changed(version=None), "its format has version None"),
        (changed(more=1), "more: Extra inputs are not permitted"),
        (changed(seed="x"), "seed: Input should be a valid integer"),
        (changed(timeout=float("nan")), "no JSON: NaN is no number"),
        (changed(tasks=[{"id": "a", "dance": 1}]), "tasks[0].dance: "),
        (changed(tasks=[{"id": "a", "depends_on": ["b"]}]), "tasks: task 'a' depends on 'b', which"),
        (changed(tasks=[{"id": "a"}, {"id": "a"}]), "tasks: task id 'a' is used twice"),
        (changed(tasks=5), "tasks: Input should be a valid list"),
        (changed(inputs=[["tick"]]), "inputs[0]: [1]: Field required"),
        (changed(inputs=[["tick", "x"]]), "inputs[0]: [1]: Input should be a valid number"),
        (changed(inputs=[[]]), "inputs[0]: there is no such input: []"),
        (changed(inputs=[[[]]]), "inputs[0]: there is no such input: [[]]"),
        (changed(inputs=[["dance", 1]]), "inputs[0]: there is no such input: ['dance', 1]"),
        (changed(inputs=[["late"]]), "inputs[0]: there is no such input: ['late']"),
        (changed(inputs=[["late", "tick", 1]]), "inputs[0]: there is no such input"),
        (changed(inputs=[["late", "spawn", "a"]]), "inputs[0]: [2]: Field required"),
        (changed(inputs=[["event", "a", "h", "Danced", [], 1]]), "inputs[0]: there is no outcome 'Danced'"),
        (changed(inputs=[["event", "a", "h", "Lost", [], 1]]), "inputs[0]: [0]: Field required"),
        (changed(inputs=[["event", "a", "h", "Deferred", ["x", []], 1]]), "inputs[0]: [1]: Input should be"),
        (changed(inputs=[["add", [{"id": 5}], 1]]), "inputs[0]: [1][0].id: Input should be a valid string"),
        (changed(events=[[1, "x"]]), "events[0][2]: Field required"),
        (changed(final={"status": "completed"}), "final.tasks: Field required"),
    ],
)  # fmt: skip
def test_a_file_that_is_none_is_refused_with_its_place(text: str, said: str, call: Call) -> None:
    Path("x.json").write_text(text)
    answer = call("replay", "x.json")
    assert (answer.code, answer.out) == (2, "")
    assert f"x.json: {said}" in answer.err


def test_a_file_that_can_not_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b"\xff")
    for path, said in ((tmp_path, "can't be read"), (tmp_path / "x.json", "no JSON")):
        with pytest.raises(UserError, match=said):
            load_recording(path)


# --- recordings -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_a_file_that_is_written_again_is_the_same(path: Path, tmp_path: Path) -> None:
    write_recording(load_recording(path), tmp_path / "x.json")
    assert (tmp_path / "x.json").read_text() == path.read_text()


def test_a_run_that_writes_while_it_is_read_is_compared_as_far_as_it_was_read() -> None:
    write_plan(PLAN)
    run = make_run("plan.yaml")
    with closing(open_store(STORE)) as store:
        whole = read_recording(store, run.id)
    part = Recording(**{name: getattr(whole, name) for name in Recording.__slots__})
    part.inputs, part.final = whole.inputs[: [entry[0] for entry in whole.inputs].index("backoff") + 1], None
    replayed = play(part)
    assert (replayed.difference, replayed.final) == (None, False)
    assert 0 < replayed.events < len(whole.events)
    part.final = whole.final
    assert play(part).difference is not None


def test_what_others_wrote_into_the_journal_is_left_out() -> None:
    write_plan(PLAN)
    run = make_run("plan.yaml")
    with closing(open_store(STORE)) as store:
        told = {event.type for event in store.events(run.id)}
        recorded = {event.type for event in read_recording(store, run.id).events}
    assert told - recorded == {"run.created"}
