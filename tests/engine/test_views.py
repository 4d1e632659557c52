"""What the faces show, and the clock that never jumps."""

from __future__ import annotations

import time

import pytest

from allready.core.graph import TaskGraph, TaskSpec
from allready.engine.session import MonotonicClock
from allready.engine.views import event_view, is_abandoned, rfc3339, run_head, run_view, task_view
from allready.store.contract import JournalEvent, Owner, RunRow, TaskRow
from allready.store.owners import this_process

AT = 1_795_512_600.125
"""2026-11-24 09:30 UTC and an eighth of a second."""


def row(**fields: object) -> RunRow:
    values = {
        "id": "r",
        "goal": "g",
        "status": "running",
        "created_at": AT,
        "seed": 0,
        "folder": "",
        "plan": {},
    }
    return RunRow(**(values | fields))  # type: ignore[arg-type]


def test_times_are_rfc_3339_in_utc() -> None:
    assert rfc3339(AT) == "2026-11-24T09:30:00.125Z"
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"
    assert rfc3339(None) is None


def test_an_event_has_its_data_beside_it_but_never_in_place_of_its_own_fields() -> None:
    event = JournalEvent(3, AT, "task.failed", "t", "h", {"error": "no", "type": "other", "seq": 9})
    assert event_view("r", event) == {
        "error": "no",
        "seq": 3,
        "time": "2026-11-24T09:30:00.125Z",
        "run": "r",
        "type": "task.failed",
        "task": "t",
        "attempt": "h",
    }
    bare = event_view("r", JournalEvent(1, AT, "run.started", None, None, None))
    assert bare == {"seq": 1, "time": "2026-11-24T09:30:00.125Z", "run": "r", "type": "run.started"}


def test_a_task_that_never_ran_has_no_times() -> None:
    skipped = TaskRow(0, "t", {}, state="skipped", finished_at=AT, error="dependency 'a' failed")
    assert task_view(skipped) == {
        "status": "skipped",
        "attempts": 0,
        "started_at": None,
        "finished_at": "2026-11-24T09:30:00.125Z",
        "duration_ms": None,
        "agent": None,
        "error": "dependency 'a' failed",
    }


def test_a_run_shows_the_same_from_memory_and_from_rows() -> None:
    node = TaskGraph([TaskSpec("t", agent="python")])["t"]
    node.attempts, node.started_at, node.finished_at = 2, AT, AT + 1.5
    stored = TaskRow(
        0, "t", {}, state="pending", attempts=2, agent="python", started_at=AT, finished_at=AT + 1.5
    )
    view = run_view("running", [node])
    assert view == run_view("running", [stored])
    assert view["tasks"]["t"]["duration_ms"] == 1500
    assert run_view("failed", [], error="e", answer="a") == {
        "status": "failed",
        "error": "e",
        "answer": "a",
        "tasks": {},
    }


def test_the_head_of_a_run_tells_whether_its_owner_lives() -> None:
    head = run_head(row(owner=this_process()))
    assert head["owner"]["alive"] is True
    assert run_head(row())["owner"] is None


@pytest.mark.parametrize(
    ("status", "owner", "abandoned"),
    [
        ("running", None, True),
        ("paused", None, True),
        ("created", None, True),
        ("completed", None, False),
        ("running", "living", False),
        ("running", "dead", True),
        ("failed", "dead", False),
        ("running", "elsewhere", False),
        ("running", "silent elsewhere", True),
    ],
)
def test_abandoned_runs(status: str, owner: str | None, abandoned: bool) -> None:
    here = this_process()
    owners: dict[str | None, Owner | None] = {
        None: None,
        "living": here,
        "dead": here._replace(started=here.started - 100),
        "elsewhere": here._replace(host="another-host"),
        "silent elsewhere": here._replace(host="another-host"),
    }
    lease_until = time.time() + (-1 if owner == "silent elsewhere" else 10)
    assert is_abandoned(row(status=status, owner=owners[owner], lease_until=lease_until)) is abandoned


def test_the_clock_goes_on_from_what_was_recorded_and_never_jumps(monkeypatch: pytest.MonkeyPatch) -> None:
    monotonic = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: monotonic[0])
    monkeypatch.setattr(time, "time", lambda: 5_000.0)
    clock = MonotonicClock()
    ahead = MonotonicClock(at_least=9_000.0)
    monkeypatch.setattr(time, "time", lambda: 0.0)  # the system's clock is set back
    monotonic[0] += 2.5
    assert clock() == 5_002.5
    assert ahead() == 9_002.5
