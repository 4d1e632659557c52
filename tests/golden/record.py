"""Records real runs of many kinds, to be played again by every later scheduler (`test_golden.py`).

`./dev python -m tests.golden.record` writes all recordings anew, with names of recordings only those. The
recordings are kept: make one anew only when it has to change, and say why. A new kind of run is a function
here, in `RECORDINGS`. Runs of functions go on a virtual clock; those of the program are real processes, which
are killed and steered as people do.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
import sys
import tempfile
from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import yaml
from tests.acceptance.program import Running, allready
from tests.golden import work

from allready import Plan
from allready.agents.models import Models
from allready.engine.recording import write_recording
from allready.engine.replay import read_recording
from allready.engine.start import new_session
from allready.errors import StoreUnavailable
from allready.plan.plan import Limits
from allready.store.contract import Batch
from allready.store.open import open_store
from allready.store.sql import SqlStore
from allready.testing import ScriptedModel, ScriptedServer, run_virtual

FOLDER = Path(__file__).parent
STORE = Path(".allready", "runs.db")
SEED = 20261124
Say = tuple[float, str, str | None]
"""A command of a person: when it comes, in virtual seconds, what it is, and for which task."""


def add(
    plan: Plan, name: str, *deps: str, takes: float = 1, ends: tuple[str, ...] = (), **settings: Any
) -> None:
    """Add a task that takes so many seconds and ends so; the attempts after these complete."""
    given = {"name": name, "seconds": takes, "ends": list(ends)}
    plan.add(work.take, id=name, kwargs=given, depends_on=deps, **settings)


def go(
    folder: Path, plan: Plan, *says: Say, slots: int = 4, model: Any = None, away: Collection[int] = ()
) -> None:
    """Run a plan on a virtual clock, until it ends or only a person can go on and nobody will.

    The store is away for the commits with the numbers `away`.
    """
    (folder / STORE).parent.mkdir()
    work.calls.clear()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with closing(open_store(folder / STORE)) as store:
            be_away(store, away)
            session = new_session(
                plan,
                store=store,
                agents={},
                seed=SEED,
                clock=loop.time,
                max_parallel=slots,
                models=Models(model),
            )
            for at, kind, task in says:
                loop.call_at(at, session.steer, kind, task)
            if says:
                loop.call_at(says[-1][0] + 1, session.wait_for_person, False)
            await session.drive(wait_for_person=bool(says))

    run_virtual(main())


def be_away(store: SqlStore, when: Collection[int]) -> None:
    """Let a store be unavailable for the commits with these numbers."""
    commit, numbers = store.commit, itertools.count(1)

    def sometimes(run_id: str, epoch: int, batch: Batch) -> int:
        if next(numbers) in when:
            raise StoreUnavailable("the server is restarted")
        return commit(run_id, epoch, batch)

    store.commit = sometimes  # type: ignore[method-assign]


# --- on a virtual clock -----------------------------------------------------------------------------------


def chain(folder: Path) -> None:
    """One after the other."""
    plan = Plan("chain")
    for number in range(8):
        add(plan, f"step-{number}", *([f"step-{number - 1}"] if number else []), takes=0.5 + number / 4)
    go(folder, plan)


def wide(folder: Path) -> None:
    """Many ready at once, few places: refusals, priorities, longest path first, slow ones with backoffs."""
    plan = Plan("wide")
    for number in range(24):
        add(plan, f"leaf-{number}", takes=1 + number * 7 % 11, priority=number % 3, estimate=1 + number % 5)
    for number in range(6):
        add(plan, f"join-{number}", *(f"leaf-{number * 4 + leaf}" for leaf in range(4)), takes=30)
    go(folder, plan, slots=3)


def diamonds(folder: Path) -> None:
    """Diamonds whose tasks fail and are retried, one for good."""
    plan = Plan("diamonds")
    add(plan, "top")
    for side, fails in ("left", 1), ("middle", 3), ("right", 0):
        add(plan, side, "top", takes=2, ends=("fails",) * fails, failure_strategy="retry")
    add(plan, "bottom", "left", "middle", "right", ends=("fails", "fails for good"), max_retries=5)
    add(plan, "after", "bottom")
    go(folder, plan)


def failures(folder: Path) -> None:
    """Each failure strategy: what is skipped goes on without, what asks is decided upon, the last aborts."""
    plan = Plan("failures")
    add(plan, "left-out", ends=("fails",), failure_strategy="skip")
    add(plan, "behind-it", "left-out")
    add(plan, "behind-that", "behind-it", run_if="all_done")
    add(plan, "again", ends=("fails", "fails"), failure_strategy="ask")
    add(plan, "behind-again", "again")
    add(plan, "given-up", takes=2, ends=("fails",) * 2, failure_strategy="ask", max_retries=1)
    add(plan, "decided", takes=3, ends=("fails for good",), failure_strategy="ask")
    add(plan, "long", takes=90)
    add(plan, "fatal", "behind-again", takes=5, ends=("ends the run",), failure_strategy="skip")
    says: list[Say] = [
        (3, "retry", "again"),
        (6, "retry", "again"),
        (20, "skip", "given-up"),
        (21, "abort", "left-out"),
        (22, "skip", "decided"),
    ]
    go(folder, plan, *says)


def aborted(folder: Path) -> None:
    """A person aborts at a decision, while others run and wait."""
    plan = Plan("aborted")
    add(plan, "asks", ends=("fails",), failure_strategy="ask")
    add(plan, "runs", takes=60)
    add(plan, "waits", "runs", approval=True)
    go(folder, plan, (5, "abort", "asks"))


def run_if(folder: Path) -> None:
    """Dependents that go after all, after any, and whatever became of them."""
    plan = Plan("run_if")
    add(plan, "good", takes=4)
    add(plan, "bad", takes=2, ends=("fails",), failure_strategy="skip")
    add(plan, "worse", takes=6, ends=("fails",), failure_strategy="skip")
    add(plan, "all", "good", "bad")
    add(plan, "any", "good", "bad", run_if="any_completed")
    add(plan, "none", "bad", "worse", run_if="any_completed")
    add(plan, "done", "good", "bad", "worse", "all", run_if="all_done")
    add(plan, "last", "all", "any", "none", "done", run_if="all_done")
    go(folder, plan)


def approvals(folder: Path) -> None:
    """Approved before its turn, in time, after everything stood still, and refused."""
    plan = Plan("approvals")
    add(plan, "first", takes=3)
    for name in "early", "in-time", "late", "refused":
        add(plan, name, "first", takes=2, approval=True)
    add(plan, "after-refused", "refused", run_if="all_done")
    add(plan, "after-late", "late")
    says: list[Say] = [(1, "approve", "early"), (4, "approve", "in-time"), (20, "approve", "late")]
    go(folder, plan, *says, (30, "skip", "refused"), (40, "approve", "first"))


def resources(folder: Path) -> None:
    """Named resources that are short, tasks that run inline, places that are left over."""
    plan = Plan("resources", resources={"gpu": 2, "browser": 1})
    for number in range(6):
        add(plan, f"train-{number}", takes=3 + number, resources={"gpu": 1 + number % 2})
        add(plan, f"look-{number}", takes=2, resources={"browser": 1}, priority=number)
        add(plan, f"note-{number}", f"look-{number}", takes=0.5, inline=True)
    for number in range(12):
        add(plan, f"inline-{number}", takes=1, inline=True)
    add(plan, "both", takes=2, resources={"gpu": 2, "browser": 1})
    go(folder, plan, slots=5)


def troubles(folder: Path) -> None:
    """Timeouts, lost workers, providers that refuse; what must not run twice is put to a person."""
    plan = Plan("troubles")
    add(plan, "slow", takes=60, timeout=5, max_retries=2, failure_strategy="skip")
    add(plan, "lost", takes=2, ends=("is lost", "is lost"))
    add(plan, "once", takes=2, ends=("is lost",), idempotent=False)
    add(plan, "busy", takes=1, ends=("is refused", "is refused without a word", "fails"), max_retries=1)
    add(plan, "end", "slow", "lost", "once", "busy", run_if="all_done")
    go(folder, plan, (12, "retry", "once"))


def out_of_time(folder: Path) -> None:
    """The whole run has a time limit, which a pause does not count for."""
    plan = Plan("out_of_time", timeout=20)
    add(plan, "short", takes=2)
    add(plan, "long", "short", takes=60)
    add(plan, "never", "long")
    go(folder, plan, (3, "pause", None), (13, "resume", None))


def late(folder: Path) -> None:
    """The store is away for longer than a task may take that is to begin: it has its time all the same."""
    plan = Plan("late")
    add(plan, "first")
    add(plan, "timed", "first", takes=3, timeout=3.5)
    add(plan, "too-long", "first", takes=30, timeout=4, failure_strategy="skip")
    go(folder, plan, away=range(2, 8))


def people(folder: Path) -> None:
    """Paused, resumed, interrupted, tasks dropped, canceled."""
    plan = Plan("people")
    for number in range(4):
        add(plan, f"one-{number}", takes=2 + number)
        add(plan, f"two-{number}", f"one-{number}", takes=30)
    add(plan, "unwanted", "one-0", takes=5)
    says: list[Say] = [
        (1, "pause", None),
        (1.5, "pause", None),
        (4, "skip", "unwanted"),
        (9, "resume", None),
        (12, "skip", "one-0"),
        (15, "cancel", None),
    ]
    go(folder, plan, *says, slots=2)


def answer(folder: Path) -> None:
    """The goal is answered at the end, from what there is."""
    plan = Plan("answer", answer=True)
    add(plan, "found", takes=2)
    add(plan, "missing", takes=1, ends=("fails",), failure_strategy="skip")
    add(plan, "compared", "found", "missing")
    go(folder, plan)


def limit(folder: Path) -> None:
    """A limit of requests is reached: the run pauses, with tasks that wait."""
    plan = Plan("limit", limits=Limits(max_requests=2))
    for number in range(4):
        plan.ask(f"Question {number}", id=f"ask-{number}")
    add(plan, "beside", takes=3)
    go(folder, plan, model=ScriptedModel({}, default="an answer"))


def learnt(folder: Path) -> None:
    """Estimates turn out too long, and tasks without one longer than those: what is ready changes places."""
    plan = Plan("learnt")
    for number in range(8):
        add(plan, f"estimated-{number}", takes=0.5 + number % 2, estimate=10)
        add(plan, f"then-{number}", f"estimated-{number}", takes=2, estimate=20)
        add(plan, f"guessed-{number}", takes=9)
    add(plan, "after", "guessed-6", "guessed-7", takes=12)
    go(folder, plan, slots=3)


# --- as programs ------------------------------------------------------------------------------------------

GATED = {
    "goal": "Waits for a file",
    "max_parallel": 2,
    "tasks": [
        {"id": "first", "run": "echo one"},
        {"id": "gate", "run": ["sh", "-c", "until test -e go; do sleep 0.05; done"], "depends_on": ["first"]},
        {"id": "shaky", "run": ["sh", "-c", "test -e mended"], "failure_strategy": "ask"},
        {"id": "careful", "run": "echo careful", "approval": True},
        {"id": "unwanted", "run": "echo unwanted", "depends_on": ["gate"]},
        {"id": "end", "run": "echo end", "depends_on": ["gate", "shaky", "careful"]},
    ],
}


def write(folder: Path, plan: Mapping[str, Any]) -> None:
    (folder / "plan.yaml").write_text(yaml.safe_dump(plan))


def say(folder: Path, *arguments: str, code: int = 0) -> None:
    done = allready(*arguments, cwd=folder)
    if done.returncode != code:
        raise RuntimeError(f"{arguments} gave {done.returncode}: {done.stderr}")


def crashes(folder: Path) -> None:
    """Killed again and again, and gone on with each time."""
    write(folder, {**GATED, "tasks": GATED["tasks"][:2]})  # type: ignore[index]
    with Running("run", "plan.yaml", cwd=folder) as run:
        run.wait_for("task.started", "gate")
        run.kill()
    for _ in range(2):
        with Running("resume", "latest", cwd=folder) as run:
            run.wait_for("task.started", "gate")
            run.kill()
    (folder / "go").touch()
    with Running("resume", "latest", cwd=folder) as run:
        run.end()


def steered(folder: Path) -> None:
    """Steered from other terminals; decided upon while nobody drives it; canceled, retried, gone on with."""
    write(folder, GATED)
    with Running("run", "plan.yaml", cwd=folder) as run:
        run.wait_for("task.started", "gate")
        say(folder, "pause", "latest")
        say(folder, "skip", "latest", "unwanted")
        say(folder, "resume", "latest")
        run.process.send_signal(signal.SIGINT)
        run.end()
    say(folder, "approve", "latest", "careful")
    say(folder, "retry", "latest", "shaky")
    with Running("resume", "latest", cwd=folder) as run:
        run.wait_for("task.started", "gate")
        say(folder, "cancel", "latest")
        run.end()
    say(folder, "retry", "latest")
    (folder / "go").touch()
    (folder / "mended").touch()
    with Running("resume", "latest", cwd=folder) as run:
        run.end()


def grown(folder: Path) -> None:
    """The plan is written while it runs, with an interrupt in the middle, and the goal is answered."""
    tasks: list[dict[str, Any]] = [
        {"id": "read-a", "title": "Read about A", "prompt": "What does A do?"},
        {"id": "read-b", "title": "Read about B", "prompt": "What does B do?"},
        {"id": "compare", "title": "Compare", "prompt": "Compare.", "depends_on": ["read-a", "read-b"]},
    ]
    rules = {"What does A do?": "A adds.", "What does B do?": "B bends.", "Compare.": "A, as it adds."}
    with ScriptedServer(rules, plan=tasks, pause=0.1) as server:
        variables = {"ALLREADY_MODEL": "openai-chat:anything", **server.environment}
        with Running("do", "Which is better?", "--yes", cwd=folder, **variables) as run:
            run.wait_for("task.started", "read-a")
            run.process.send_signal(signal.SIGINT)
            run.end()
        server.script.pause = 0.0
        with Running("resume", "latest", cwd=folder, **variables) as run:
            run.end()


def planless(folder: Path) -> None:
    """No valid plan comes: a task that was taken already runs, then the run ends."""
    plan = [{"id": "good", "prompt": "What?"}, {"id": "bad", "prompt": "What?", "depends_on": ["nobody"]}]
    with ScriptedServer({"What?": "That."}, plan=[plan, plan], pause=0.05) as server:
        variables = {"ALLREADY_MODEL": "openai-chat:anything", **server.environment}
        with Running("do", "Which is better?", "--yes", cwd=folder, **variables) as run:
            run.end()


VIRTUAL: tuple[Callable[[Path], None], ...] = (
    *(chain, wide, diamonds, failures, aborted, run_if, approvals, resources, troubles, out_of_time, late),
    *(people, answer, limit, learnt),
)
PROGRAMS: tuple[Callable[[Path], None], ...] = (crashes, steered, grown, planless)
KEPT = ("resources_unclaimed",)
"""Recordings of what runs of today decide otherwise: before big demands for a resource, which small ones had
passed by, were offered all the same."""
RECORDINGS = {call.__name__: call for call in (*VIRTUAL, *PROGRAMS)}


def record(name: str, folder: Path) -> Path:
    """Make a run of this kind in an empty folder, and give the file of its recording."""
    RECORDINGS[name](folder)
    path = folder / f"{name}.json"
    with closing(open_store(folder / STORE, create=False)) as store:
        write_recording(read_recording(store, store.find_run("latest")), path)
    return path


def main(names: list[str]) -> None:
    for name in names or RECORDINGS:
        with tempfile.TemporaryDirectory() as folder:
            text = record(name, Path(folder)).read_text(encoding="utf-8")
        (FOLDER / f"{name}.json").write_text(text, encoding="utf-8")
        print(f"{name}: {len(text):,} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
