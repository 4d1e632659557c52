"""Wishes of people in other processes, on every store: at once, exactly once, and never lost."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.leaves import nothing_runs
from tests.acceptance.program import PROGRAM, Running, allready, environment, wait_until

from allready.engine.steer import Steered, steer
from allready.store.contract import Store
from allready.store.open import open_store

WAIT = "until test -e go; do sleep 0.05; done"
PLAN = f"""\
goal: Steered
max_parallel: 2
tasks:
  - {{id: long, run: [sh, -c, "{WAIT}"]}}
  - {{id: gate, run: [sh, -c, "echo gate >> ran.txt"], approval: true}}
  - {{id: other, run: [echo, other], approval: true}}
  - {{id: bad, run: [sh, -c, "echo bad >> ran.txt; test -e good"], failure_strategy: ask}}
"""
TERMINALS = 4
"""Processes that say the same at the same time."""
WISHES = 30
"""Wishes whose times are measured."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "plan.yaml").write_text(PLAN)
    return tmp_path


@pytest.fixture
def run(folder: Path, store_url: str) -> Iterator[Running]:
    """Give a run in progress: `long` runs, `gate` and `other` wait for approval, `bad` failed and asks."""
    with Running("run", "plan.yaml", "--store", store_url, cwd=folder) as running:
        waiting = {("task.started", "long"), ("task.awaiting_approval", "gate"), ("task.failed", "bad")}
        while waiting:
            event = running.wait_for_any(waiting)
            waiting.discard((event["type"], event.get("task", "")))
        yield running
        (folder / "go").touch()


@pytest.fixture
def store(store_url: str, run: Running) -> Iterator[Store]:
    with closing(open_store(store_url, create=False)) as opened:
        yield opened


def say(folder: Path, store_url: str, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*PROGRAM, *words, "--store", store_url, "--json"],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def said(processes: Sequence[subprocess.Popen[str]]) -> list[dict[str, Any]]:
    answers = []
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert out, err
        answers.append({**json.loads(out), "code": process.returncode})
    return answers


def events_of(store: Store, run: Running) -> Counter[tuple[str, str | None]]:
    return Counter((event.type, event.task) for event in store.events(run.run_id, 0, limit=10_000))


@pytest.mark.parametrize(
    ("words", "effect", "refusal"),
    [
        (("approve", "gate"), ("task.started", "gate"), "does not wait for approval"),
        (("skip", "gate"), ("task.skipped", "gate"), "is skipped"),
        (("retry", "bad"), ("task.started", "bad"), "only what failed or was left out can be retried"),
        (("skip", "bad"), ("task.failed", "bad"), "only what has not begun can be skipped"),
        (("pause",), ("run.paused", None), "paused already"),
        (("cancel",), ("run.canceled", None), "can't cancel"),
    ],
    ids=["approve", "skip", "retry", "skip a failure", "pause", "cancel"],
)
def test_of_several_terminals_one_has_its_way_and_the_others_are_told(
    folder: Path,
    run: Running,
    store: Store,
    store_url: str,
    words: tuple[str, ...],
    effect: tuple[str, str | None],
    refusal: str,
) -> None:
    if words == ("retry", "bad"):
        (folder / "good").touch()
    before = events_of(store, run)[effect]
    answers = said([say(folder, store_url, words[0], run.run_id, *words[1:]) for _ in range(TERMINALS)])
    done = [answer for answer in answers if answer["done"]]
    refused = [answer for answer in answers if answer["refused"] is not None]
    assert (len(done), len(refused)) == (1, TERMINALS - 1), answers
    assert [answer["code"] for answer in done] == [0]
    assert all(answer["code"] == 2 and refusal in answer["refused"] for answer in refused), refused
    wait_until(lambda: events_of(store, run)[effect] > before, "it has its effect")
    if words == ("cancel",):
        assert run.end() == 4
        nothing_runs(run.run_id)
    assert events_of(store, run)[effect] == before + 1


def test_a_run_that_is_paused_goes_on_once(folder: Path, run: Running, store: Store, store_url: str) -> None:
    assert steer(store, run.run_id, "pause").done
    answers = [say(folder, store_url, "resume", run.run_id) for _ in range(TERMINALS)]
    assert all(process.wait(120) in {0, 2} for process in answers)
    for process in answers:
        process.communicate()
    assert events_of(store, run)["run.resumed", None] == 1
    assert store.run(run.run_id).status == "running"
    assert steer(store, run.run_id, "approve", "gate").done
    run.wait_for("task.completed", "gate")


def test_a_failure_that_asks_is_aborted_by_one_of_several(run: Running, store: Store) -> None:
    with ThreadPoolExecutor(TERMINALS) as pool:
        answers = list(pool.map(lambda _: steer(store, run.run_id, "abort", "bad"), range(TERMINALS)))
    assert sum(answer.done for answer in answers) == 1
    assert all(answer.done or "does not wait for a decision" in str(answer.refused) for answer in answers)
    assert run.end() == 1
    nothing_runs(run.run_id)


def test_how_long_it_takes(
    run: Running, store: Store, record_property: Callable[[str, object], None]
) -> None:
    """Pausing and going on, again and again. The times are told, not judged: a machine may be busy."""
    took = []
    for number in range(WISHES):
        began = time.perf_counter()
        answer = steer(store, run.run_id, "resume" if number % 2 else "pause", wait=60)
        took.append(time.perf_counter() - began)
        assert answer.done, answer
    took.sort()
    record_property("tried: wishes from other processes", WISHES)
    kinds = events_of(store, run)
    assert kinds["run.paused", None] == kinds["run.resumed", None] == WISHES // 2
    print(f"{WISHES} wishes: median {took[WISHES // 2] * 1000:.0f} ms, most {took[-1] * 1000:.0f} ms")


@pytest.mark.parametrize("end", ["completes", "is interrupted", "is killed"])
@pytest.mark.parametrize("moment", range(3))
def test_a_wish_at_the_moment_of_the_end_is_neither_lost_nor_done_twice(
    folder: Path, run: Running, store: Store, end: str, moment: int
) -> None:
    for name in ("other", "bad"):
        steer(store, run.run_id, "skip", name)
    answers: list[Steered] = []
    ready = threading.Barrier(3)

    def wish() -> None:
        ready.wait()
        with closing(open_store(store.url, create=False)) as own:
            answers.append(steer(own, run.run_id, "approve", "gate", wait=60))

    threads = [threading.Thread(target=wish) for _ in range(2)]
    for thread in threads:
        thread.start()
    ready.wait()
    time.sleep(moment * 0.1)  # not to wait for something: to meet another moment
    if end == "completes":
        (folder / "go").touch()
    else:
        run.process.send_signal(signal.SIGINT if end == "is interrupted" else signal.SIGKILL)
    for thread in threads:
        thread.join(120)
    run.drain()
    assert sorted(answer.done for answer in answers) == [False, True], answers
    assert all(answer.done or answer.refused for answer in answers), answers
    (folder / "go").touch()
    if store.run(run.run_id).status not in {"completed", "failed"}:
        assert allready("resume", run.run_id, "--store", store.url, "-q", cwd=folder).returncode == 0
    # an attempt under way when the process died may run again: at least once
    runs = (folder / "ran.txt").read_text().split().count("gate")
    assert runs == 1 or (end != "completes" and runs == store.task(run.run_id, "gate").attempts)
    assert not store.pending_commands(run.run_id)


def test_resume_while_others_decide(folder: Path, run: Running, store: Store, store_url: str) -> None:
    """Who decides on the record of a run that nobody drives holds it for a moment; `resume` is refused."""
    run.kill()
    (folder / "go").touch()
    deciders = [
        say(folder, store_url, *words)
        for words in (
            ("approve", run.run_id, "gate"),
            ("skip", run.run_id, "other"),
            ("skip", run.run_id, "bad"),
        )
    ]
    with Running("resume", run.run_id, "--store", store_url, cwd=folder) as again:
        answers = said(deciders)
        assert all(answer["done"] for answer in answers), answers
        code = again.end()
        told = again.errors.read_text()
    # it was done with all the rest before the decisions came, or came while one of them was being made
    if code == 3 or (code == 2 and "is owned by process" in told):
        assert allready("resume", run.run_id, "--store", store_url, "-q", cwd=folder).returncode == 0
        code = 0
    assert code == 0, told
    assert (folder / "ran.txt").read_text().split().count("gate") == 1
