"""`run()` and `run_sync()`: whole runs, in memory and in a store."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.engine import functions

from allready import Plan, PlanError, RunResult, SubAgentManager, UserError, run, run_sync
from allready.agents.definitions import AgentDefinition
from allready.errors import StoreError, TransientError
from allready.plan.load import plan_from_document
from allready.plan.plan import Command, Prompt, Task
from allready.store.contract import JournalEvent
from allready.store.open import open_store

SECRET = "s3cr3t-v4lue-of-a-token"


@pytest.fixture(params=["memory", "durable"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str | None:
    """Where the run is kept: both kinds of run are to behave the same."""
    return f"sqlite:///{tmp_path}/runs.db" if request.param == "durable" else None


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let other processes import the tests, as pytest itself does not."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))


def document(tasks: list[dict[str, Any]], base_dir: Path, **head: Any) -> Plan:
    return plan_from_document({"tasks": tasks, **head}, base_dir=base_dir)


# --- results ----------------------------------------------------------------------------------------------


async def test_the_example_of_the_contract(store: str | None) -> None:
    plan = Plan("How healthy is this repository?", max_parallel=4)

    @plan.task
    async def history() -> str:
        return "long"

    @plan.task(failure_strategy="skip", timeout=60)
    def sizes() -> dict[str, int]:
        return {"src": 1}

    @plan.task
    async def report(history: str, sizes: dict[str, int]) -> str:
        return f"{history} {sizes['src']}"

    def fetch(number: int) -> int:
        return number

    plan.add(fetch, id="fetch-7", args=[7], depends_on=["history"])
    result = await run(plan, store=store, agents={})
    assert result.status == "completed"
    assert result["report"] == "long 1"
    assert result["fetch-7"] == 7
    assert (result.tasks["sizes"].duration or -1) >= 0


async def test_all_fields_of_a_report(store: str | None) -> None:
    before = time.time()
    plan = Plan()
    tries = []

    @plan.task(failure_strategy="skip", max_retries=1)
    def unsteady() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise ValueError("not yet")
        return "text\n"

    @plan.task(failure_strategy="skip")
    def broken() -> None:
        raise ValueError("no")

    @plan.task
    def left_out(broken: None) -> None: ...

    result = await run(plan, store=store, agents={})
    assert result.status == "completed"
    assert result.error is None
    assert result.started_at is not None
    assert result.finished_at is not None
    assert before <= result.started_at <= result.finished_at <= time.time() + 1
    assert result.duration == result.finished_at - result.started_at
    report = result.tasks["unsteady"]
    assert (report.id, report.status, report.attempts, report.agent) == (
        "unsteady",
        "completed",
        2,
        "python",
    )
    assert report.started_at is not None
    assert report.finished_at is not None
    assert report.duration == report.finished_at - report.started_at
    assert (report.value, report.output, report.output_file, report.exit_code) == (
        "text\n",
        "text",
        None,
        None,
    )
    assert report.error is None
    broken_report = result.tasks["broken"]
    assert (broken_report.status, broken_report.error) == ("failed", "ValueError: no")
    assert (broken_report.output, broken_report.output_file, broken_report.exit_code) == ("", None, None)
    skipped = result.tasks["left_out"]
    assert (skipped.status, skipped.attempts, skipped.duration) == ("skipped", 0, None)
    assert skipped.error == "dependency 'broken' failed"
    with pytest.raises(UserError, match="task 'left_out' has no result: it is skipped: dependency"):
        result["left_out"]
    with pytest.raises(UserError, match="task 'broken' has no result"):
        _ = broken_report.value
    with pytest.raises(UserError, match="the run has no task 'other'"):
        result["other"]
    assert list(result.tasks) == ["unsteady", "broken", "left_out"]
    assert len(result.tasks) == 3
    assert repr(result) == f"<run {result.id} completed: 3 tasks>"
    assert repr(report) == "<unsteady completed>"


async def test_a_failed_run_says_why(store: str | None) -> None:
    plan = Plan()

    @plan.task
    def broken() -> None:
        raise ValueError("no")

    result = await run(plan, store=store, agents={})
    assert result.status == "failed"
    assert result.error == "task 'broken' failed: ValueError: no"


def test_run_sync_without_an_event_loop(store: str | None) -> None:
    plan = Plan()
    plan.add(functions.text)
    assert run_sync(plan, store=store, agents={})["text"] == "text\n"


async def test_a_plan_file_with_variables(store: str | None, tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text("vars: {who: nobody}\ntasks:\n- id: greet\n  run: echo hello {{ who }}\n")
    result = await run(path, store=store, agents={}, variables={"who": "world"})
    assert result["greet"] == "hello world"
    assert result.tasks["greet"].exit_code == 0


async def test_plain_functions_run_in_threads_and_async_ones_in_the_loop(store: str | None) -> None:
    here = threading.get_ident()
    plan = Plan()
    plan.add(threading.get_ident, id="plain")

    @plan.task
    async def in_loop() -> int:
        return threading.get_ident()

    result = await run(plan, store=store, agents={})
    assert result["plain"] != here
    assert result["in_loop"] == here


async def test_isolated_functions_run_in_processes(store: str | None, importable: None) -> None:
    import os

    plan = Plan()
    plan.add(functions.process_id, isolate=True)
    plan.add(functions.finding)
    plan.add(functions.point, id="p", isolate=True)

    @plan.task
    def both(process_id: int, p: Any) -> list[Any]:
        return [process_id, p]

    result = await run(plan, store=store, agents={})
    assert result.error is None
    assert result["process_id"] != os.getpid()
    assert result["both"][0] == result["process_id"]


async def test_an_isolated_function_gets_its_dependencies(store: str | None, importable: None) -> None:
    plan = Plan()
    plan.add(lambda: {"x": 1, "y": [2, 3]}, id="point")
    plan.add(functions.describe, isolate=True)
    assert (await run(plan, store=store, agents={}))["describe"] == "dict"


# --- from kind to kind ------------------------------------------------------------------------------------


async def test_a_function_gets_what_commands_gave(store: str | None, tmp_path: Path) -> None:
    script = """echo text; echo '{"n": 1}' > $ALLREADY_OUTPUT"""
    plan = document(
        [{"id": "words", "run": "echo words"}, {"id": "data", "run": script, "shell": True}], tmp_path
    )

    @plan.task
    def both(words: str, data: dict[str, int]) -> list[Any]:
        return [words, data]

    plan.document = None
    result = await run(plan, store=store, agents={})
    assert result["both"] == ["words", {"n": 1}]
    assert result["data"] == {"n": 1}
    assert result.tasks["data"].output == "text"
    file = result.tasks["words"].output_file
    assert file is not None
    assert file.read_text() == "words\n"


async def test_a_command_gets_what_functions_gave_in_templates_and_in_files(
    store: str | None, tmp_path: Path
) -> None:
    script = (
        "cat $ALLREADY_DEPS/finding/output.txt; echo; cat $ALLREADY_DEPS/finding/data.json | tr -d '\\n ';"
        "echo; wc -c < $ALLREADY_DEPS/long/output.txt; ls $ALLREADY_DEPS | tr '\\n' ' '"
    )
    plan = document([{"id": "files", "run": script, "shell": True}], tmp_path)
    plan.document = None
    plan.tasks["files"].depends_on = ("finding", "long", "nothing")
    plan.add(functions.finding)
    plan.add(lambda: "x" * 100_000, id="long")
    plan.add(functions.nothing)
    result = await run(plan, store=store, agents={})
    assert result.error is None
    assert result["files"].split("\n") == [
        '{"name": "f", "lines": [1]}',
        '{"name":"f","lines":[1]}',
        "100000",
        "finding long nothing ",
    ]


async def test_templates_see_what_functions_gave(store: str | None) -> None:
    plan = Plan()
    plan.add(functions.finding)
    argv = ("printf", "%s|", "{{ finding.output }}", "{{ finding.data.name }}", "{{ finding.status }}")
    plan.tasks["args"] = Task("args", Command(argv), depends_on=("finding",))
    got = (await run(plan, store=store, agents={}))["args"]
    assert got == '{"name": "f", "lines": [1]}|f|completed|'


async def test_artifacts_go_from_command_to_command(store: str | None, tmp_path: Path) -> None:
    plan = document(
        [
            {"id": "make", "run": "echo content > $ALLREADY_ARTIFACTS/file.txt", "shell": True},
            {
                "id": "use",
                "run": "cat $ALLREADY_DEPS/make/artifacts/file.txt",
                "shell": True,
                "depends_on": ["make"],
            },
        ],
        tmp_path,
    )
    assert (await run(plan, store=store, agents={}))["use"] == "content"


async def test_prompts_are_answered_by_commands_with_the_context_of_dependencies(
    store: str | None, tmp_path: Path
) -> None:
    plan = document(
        [
            {"id": "facts", "title": "The <facts>", "run": "echo '</completed-dependencies> & more'"},
            {"id": "broken", "run": "false", "failure_strategy": "skip"},
            {"id": "left-out", "run": "true", "depends_on": ["broken"]},
            {
                "id": "ask",
                "prompt": "Look at {{ facts.output | length }} characters",
                "agent": "echo",
                "depends_on": ["facts", "broken", "left-out"],
                "run_if": "all_done",
            },
            {"id": "argument", "prompt": "Hello", "agent": "argument"},
        ],
        tmp_path,
        agents={
            "echo": {"kind": "command", "run": "cat"},
            "argument": {"kind": "command", "run": ["echo", "-n", "{{ prompt }}!"]},
        },
    )
    result = await run(plan, store=store, agents={})
    text = result["ask"]
    assert text.startswith("Look at 32 characters\n\n<completed-dependencies>\n")
    assert text.count("</completed-dependencies>") == 1
    assert "The &lt;facts&gt;" in text
    assert "failed" in text
    assert "skipped" in text
    assert result["argument"] == "Hello!"
    assert result.tasks["ask"].agent == "echo"


async def test_prompts_are_answered_by_functions_of_modules(
    store: str | None, tmp_path: Path, importable: None
) -> None:
    def agent(function: str) -> dict[str, str]:
        return {"kind": "python", "function": f"tests.engine.prompt_functions:{function}"}

    plan = document(
        [
            {"id": "shout", "prompt": "Hello", "agent": "shout"},
            {"id": "model", "prompt": "Hello", "agent": "model"},
            {"id": "odd", "prompt": "Hello", "agent": "odd", "failure_strategy": "skip"},
            {"id": "after", "prompt": "{{ model.data.name }}", "agent": "shout", "depends_on": ["model"]},
        ],
        tmp_path,
        agents={name: agent(name) for name in ("shout", "model", "odd")},
    )
    result = await run(plan, store=store, agents={})
    assert result["shout"] == "HELLO"
    assert result["model"] == {"name": "Hello", "lines": []}
    assert result["after"].startswith("HELLO\n\n<COMPLETED-DEPENDENCIES>")
    if store is None:
        assert isinstance(result["odd"], set)
    else:
        assert "can't be carried as JSON" in (result.tasks["odd"].error or "")


async def test_what_did_not_complete_is_none_for_functions(store: str | None) -> None:
    plan = Plan()

    @plan.task(failure_strategy="skip")
    def broken() -> int:
        raise ValueError("no")

    @plan.task
    def skipped(broken: int) -> int:
        return broken

    @plan.task
    def fine() -> int:
        return 1

    @plan.task(run_if="all_done")
    def last(broken: int | None, skipped: int | None, fine: int) -> list[int | None]:
        return [broken, skipped, fine]

    assert (await run(plan, store=store, agents={}))["last"] == [None, None, 1]


async def test_a_function_gets_the_results_of_many_tasks(store: str | None) -> None:
    plan = Plan(max_parallel=3)

    def part(number: int) -> int:
        if number == 2:
            raise ValueError("not this one")
        return number * number

    def total(parts: list[int | None], first: int) -> list[int | None]:
        return [*parts, first]

    ids = [plan.add(part, id=f"part-{n}", args=[n], failure_strategy="skip") for n in range(4)]
    plan.add(total, inputs={"parts": ids, "first": "part-3"}, run_if="all_done")
    result = await run(plan, store=store)
    assert result["total"] == [0, 1, None, 9, 9]


async def test_any_completed_gets_the_first_one_only(store: str | None) -> None:
    plan = Plan()
    go = asyncio.Event()

    @plan.task
    async def quick() -> int:
        return 1

    @plan.task
    async def slow() -> int:
        await go.wait()
        return 2

    @plan.task(run_if="any_completed")
    async def first(quick: int | None, slow: int | None) -> list[int | None]:
        go.set()
        return [quick, slow]

    assert (await run(plan, store=store, agents={}))["first"] == [1, None]


# --- secrets ----------------------------------------------------------------------------------------------


async def test_secrets_are_blanked_in_all_that_is_kept_and_handed_on(
    store: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, importable: None
) -> None:
    monkeypatch.setenv("MY_API_TOKEN", SECRET)
    plan = document(
        [
            {"id": "command", "run": "echo $MY_API_TOKEN", "shell": True},
            {"id": "bad", "run": "echo $MY_API_TOKEN >&2; false", "shell": True, "failure_strategy": "skip"},
            {"id": "answer", "prompt": "Hello", "agent": "teller"},
        ],
        tmp_path,
        agents={"teller": {"kind": "python", "function": "tests.engine.prompt_functions:tell_secret"}},
    )
    plan.document = None
    plan.add(lambda: {"key": SECRET, SECRET: ["x" * 40_000 + SECRET + "x" * 40_000]}, id="value")
    sees = "cat $ALLREADY_DEPS/*/output.txt $ALLREADY_DEPS/value/data.json; echo {{ value.output }}"
    plan.tasks["sees"] = Task("sees", Command((sees,), shell=True), depends_on=("command", "value", "long"))
    plan.add(lambda: "x" * 50_000 + SECRET + "x" * 50_000, id="long")

    @plan.task(failure_strategy="skip")
    def broken() -> None:
        raise ValueError(f"with {SECRET}")

    @plan.task(failure_strategy="skip", max_retries=1)
    async def unsteady() -> None:
        raise ValueError(f"with {SECRET}")

    events: list[JournalEvent] = []
    result = await run(plan, store=store, agents={}, on_event=events.append)
    assert result["command"] == "[secret]"
    assert "[secret]" in result["sees"]
    assert result["answer"] == "[secret]"
    assert "[secret]" in (result.tasks["broken"].error or "")
    told = [result["command"], result["sees"], result["answer"], repr(events)]
    told += [report.error or "" for report in result.tasks.values()]
    assert SECRET not in "".join(told)
    if store is not None:
        kept = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert [path for path in kept if SECRET.encode() in path.read_bytes()] == []


# --- events -----------------------------------------------------------------------------------------------


def mixed() -> Plan:
    plan = Plan("mixed")
    tries: list[int] = []

    @plan.task
    def first() -> int:
        return 1

    @plan.task(max_retries=1)
    def second(first: int) -> int:
        tries.append(first)
        if len(tries) == 1:
            raise ValueError("not yet")
        return first

    @plan.task(failure_strategy="skip")
    def broken(second: int) -> None:
        raise ValueError("no")

    @plan.task
    def skipped(broken: None) -> None: ...

    return plan


async def test_events_are_numbered_without_gaps_and_the_same_in_memory_and_in_a_store(tmp_path: Path) -> None:
    told: dict[str, list[JournalEvent]] = {"memory": [], "durable": []}
    await run(mixed(), agents={}, on_event=told["memory"].append)
    durable = await run(mixed(), store=tmp_path / "runs.db", agents={}, on_event=told["durable"].append)
    for events in told.values():
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert [event.at for event in events] == sorted(event.at for event in events)
    bare = {
        kind: [(event.type, event.task, sorted(event.data or {})) for event in events]
        for kind, events in told.items()
    }
    assert bare["memory"] == bare["durable"]
    assert [kind for kind, _, _ in bare["memory"]] == [
        "run.created",
        "run.started",
        "task.ready",
        "task.started",
        "task.completed",
        "task.ready",
        "task.started",
        "task.retrying",
        "task.started",
        "task.completed",
        "task.ready",
        "task.started",
        "task.failed",
        "task.skipped",
        "run.completed",
    ]
    with closing(open_store(tmp_path / "runs.db")) as store:
        assert store.events(durable.id) == told["durable"]


async def test_an_event_is_told_after_it_has_become_durable(tmp_path: Path) -> None:
    plan = Plan()
    plan.add(functions.number)
    with (
        closing(open_store(tmp_path / "runs.db")) as store,
        closing(open_store(tmp_path / "runs.db")) as other,
    ):
        missing = []

        def look(event: JournalEvent) -> None:
            if event not in other.events(other.find_run("latest")):
                missing.append(event)

        await run(plan, store=store, agents={}, on_event=look)
        assert missing == []


async def test_an_observer_that_raises_ends_the_run_with_its_error(store: str | None) -> None:
    plan = Plan()
    plan.add(functions.number)

    def observe(event: JournalEvent) -> None:
        raise RuntimeError("observer")

    with pytest.raises(RuntimeError, match="observer"):
        await run(plan, store=store, agents={}, on_event=observe)


# --- wrong plans ------------------------------------------------------------------------------------------


async def test_a_wrong_plan_leaves_nothing_behind(tmp_path: Path) -> None:
    dangling, cycle, unfit = Plan(), Plan(), Plan()
    dangling.add(print, id="a", depends_on=["b"])
    cycle.add(print, id="a", depends_on=["b"])
    cycle.add(print, id="b", depends_on=["a"])
    unfit.add(print, id="a", args=[object()])
    unfit.vars["x"] = object()
    with closing(open_store(tmp_path / "runs.db")) as store:
        for plan in (Plan(), dangling, cycle, unfit):
            with pytest.raises(PlanError):
                await run(plan, store=store, agents={})
        assert store.runs() == []
    assert not (tmp_path / "runs").exists()
    with pytest.raises(PlanError):
        await run(unfit, agents={}, resume=None, store=tmp_path / "runs.db")


async def test_arguments_and_variables_that_json_cannot_carry_are_told_together(tmp_path: Path) -> None:
    plan = Plan(vars={"x": object()})
    plan.add(functions.add, id="a", args=[object()])
    plan.add(functions.add, id="b", kwargs={}, args=[{1}])
    with pytest.raises(PlanError) as caught:
        await run(plan, store=tmp_path / "runs.db", agents={})
    assert len(caught.value.problems) == 3


async def test_a_pool_without_places_is_refused_before_anything_is_recorded(tmp_path: Path) -> None:
    plan = Plan()
    plan.add(functions.number)
    with closing(open_store(tmp_path / "runs.db")) as store:
        with pytest.raises((UserError, ValueError)):
            await run(plan, store=store, agents={}, max_parallel=-1)
        assert store.runs() == []


async def test_a_resumed_run_needs_its_store() -> None:
    plan = Plan()
    plan.add(functions.number)
    with pytest.raises(UserError, match="can't be resumed without the store"):
        await run(plan, resume="latest", agents={})


async def test_agents_come_from_files_and_broken_ones_are_told_when_one_is_missing(
    store: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder = tmp_path / ".allready" / "agents"
    folder.mkdir(parents=True)
    (folder / "echo.md").write_text("---\nkind: command\nrun: cat\n---\n")
    plan = Plan(base_dir=tmp_path)
    plan.tasks["ask"] = Task("ask", Prompt("Hello", "echo"))
    assert (await run(plan, store=store))["ask"] == "Hello"
    (folder / "echo.md").write_text("---\nkind: commando\n---\n")
    with pytest.raises(PlanError) as caught:
        await run(plan, store=store)
    missing, broken = caught.value.problems
    assert missing.message == "task 'ask': there is no agent 'echo'"
    assert broken.file == ".allready/agents/echo.md"


# --- pools and nested runs --------------------------------------------------------------------------------


async def test_a_run_inside_a_task_shares_the_pool_and_never_deadlocks(store: str | None) -> None:
    pool = SubAgentManager(1)

    async def level(depth: int) -> int:
        if depth == 0:
            return 0
        inner = Plan()
        inner.add(level, id="inner", args=[depth - 1])
        inner.add(lambda: 1, id="other")
        result = await run(inner, agents={})
        return 1 + int(result["inner"])

    plan = Plan()
    for number in range(3):
        plan.add(level, id=f"outer-{number}", args=[3])
    result = await run(plan, store=store, pool=pool, agents={})
    assert [result[f"outer-{number}"] for number in range(3)] == [3, 3, 3]
    assert pool.peak == 1
    assert pool.active == 0


async def test_a_task_that_waits_for_several_runs_at_once(store: str | None) -> None:
    pool = SubAgentManager(1)

    async def parent() -> int:
        plans = []
        for number in range(4):
            inner = Plan()
            inner.add(functions.add, id="sum", args=[number, 1])
            plans.append(inner)
        results = await asyncio.gather(*(run(inner, agents={}) for inner in plans))
        return sum(result["sum"] for result in results)

    plan = Plan()
    plan.add(parent)
    assert (await run(plan, store=store, pool=pool, agents={}))["parent"] == 10
    assert pool.peak == 1


async def test_run_sync_inside_a_plain_function(store: str | None) -> None:
    def parent() -> int:
        inner = Plan()
        inner.add(functions.add, id="sum", args=[1, 2])
        return int(run_sync(inner, agents={})["sum"])

    plan = Plan()
    plan.add(parent)
    assert (await run(plan, store=store, max_parallel=1, agents={}))["parent"] == 3


async def test_a_nested_run_that_says_how_many_places_it_wants_has_a_pool_of_its_own() -> None:
    pool = SubAgentManager(1)

    async def parent() -> int:
        inner = Plan()
        inner.add(functions.add, id="sum", args=[1, 2])
        return int((await run(inner, agents={}, max_parallel=2))["sum"])

    plan = Plan()
    plan.add(parent)
    assert (await run(plan, pool=pool, agents={}))["parent"] == 3


async def test_two_runs_share_one_pool_and_take_turns(store: str | None) -> None:
    pool = SubAgentManager(1)
    order: list[str] = []

    def plan_of(name: str) -> Plan:
        plan = Plan()

        async def work() -> None:
            order.append(name)
            await asyncio.sleep(0)

        for number in range(10):
            plan.add(work, id=f"task-{number}")
        return plan

    results = await asyncio.gather(
        run(plan_of("a"), store=store, pool=pool, agents={}),
        run(plan_of("b"), store=store, pool=pool, agents={}),
    )
    assert [result.status for result in results] == ["completed", "completed"]
    assert pool.peak == 1
    middle = order[5:15]
    assert middle.count("a") == middle.count("b") == 5


async def test_a_slow_branch_never_holds_back_a_fast_one(store: str | None) -> None:
    plan = Plan(max_parallel=2)
    go = asyncio.Event()

    @plan.task
    async def slow() -> None:
        await go.wait()

    async def quick() -> None: ...

    names = [f"fast-{number}" for number in range(20)]
    for before, name in zip(["", *names], names, strict=False):
        plan.add(quick, id=name, depends_on=[before] if before else [])

    @plan.task(depends_on=[names[-1]])
    async def let_go() -> None:
        go.set()

    result = await run(plan, store=store, agents={})
    assert result.status == "completed"
    slow_end = result.tasks["slow"].finished_at or 0
    ends = [result.tasks[name].finished_at or 0 for name in names]
    assert ends == sorted(ends)
    assert ends[-1] <= (result.tasks["let_go"].started_at or 0) <= slow_end


# --- files of runs in memory ------------------------------------------------------------------------------


async def test_the_files_of_a_run_in_memory_live_as_long_as_its_result(tmp_path: Path) -> None:
    plan = document([{"id": "words", "run": "echo words"}], tmp_path)
    result: RunResult | None = await run(plan, agents={})
    assert result is not None
    file = result.tasks["words"].output_file
    assert file is not None
    tasks = result.tasks
    result = None
    gc.collect()
    assert file.read_text() == "words\n", "a report of it is still in use"
    del tasks
    gc.collect()
    assert not file.exists()
    assert not file.parents[3].exists()


async def test_a_run_in_memory_without_files_makes_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    plan = Plan()
    plan.add(functions.pair)
    plan.add(functions.text)
    result = await run(plan, agents={})
    assert result.tasks["pair"].output == '[1, "two"]'
    assert list(tmp_path.iterdir()) == []


async def test_a_run_in_memory_that_is_canceled_leaves_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    threads = set(threading.enumerate())
    plan = document([{"id": "words", "run": "echo words"}], tmp_path)
    started = asyncio.Event()

    @plan.task
    async def endless(words: str) -> None:
        started.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(run(plan, agents={}))
    await started.wait()
    assert len(list(tmp_path.iterdir())) == 1
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    del task
    for thread in set(threading.enumerate()) - threads:
        thread.join()  # it has given its result, but may not have let go of the attempt yet
    gc.collect()
    assert list(tmp_path.iterdir()) == []


# --- size -------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_five_thousand_tasks_wide(store: str | None) -> None:
    plan = Plan(max_parallel=50)

    async def work(number: int) -> int:
        return number

    for number in range(5_000):
        plan.add(work, id=f"t{number}", args=[number])

    @plan.task(depends_on=[f"t{number}" for number in range(5_000)])
    async def last() -> str:
        return "done"

    result = await run(plan, store=store, agents={})
    assert result["last"] == "done"
    assert result["t4999"] == 4_999
    assert {report.status for report in result.tasks.values()} == {"completed"}


@pytest.mark.slow
async def test_a_chain_of_five_thousand_tasks(store: str | None) -> None:
    count = 5_000 if store is None else 1_000
    plan = Plan(max_parallel=50)

    def step(name: str) -> Callable[..., Any]:
        namespace: dict[str, Any] = {}
        exec(f"async def work({name}): return {name} + 1", namespace)
        return namespace["work"]  # type: ignore[no-any-return]

    async def first() -> int:
        return 0

    plan.add(first, id="t0")
    for number in range(1, count):
        plan.add(step(f"t{number - 1}"), id=f"t{number}")
    result = await run(plan, store=store, agents={})
    assert result[f"t{count - 1}"] == count - 1


# --- failures of many kinds -------------------------------------------------------------------------------


async def test_transient_errors_use_up_no_retry(store: str | None) -> None:
    plan = Plan()
    tries: list[int] = []

    @plan.task(max_retries=0)
    async def busy() -> int:
        tries.append(1)
        if len(tries) < 3:
            raise TransientError("overloaded", 0.01)
        return len(tries)

    result = await run(plan, store=store, agents={})
    assert result["busy"] == 3


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), StopIteration(), asyncio.CancelledError()]
)
@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_nothing_a_function_raises_ends_more_than_its_task(
    error: BaseException, kind: str, store: str | None
) -> None:
    plan = Plan()

    def plain() -> None:
        raise error

    async def in_loop() -> None:
        raise error

    plan.add(plain if kind == "plain" else in_loop, id="odd", failure_strategy="skip")
    plan.add(functions.number)
    result = await run(plan, store=store, agents={})
    assert result.status == "completed"
    assert result.tasks["odd"].status == "failed"
    assert result["number"] == 1.5


async def test_a_timeout_ends_a_task(store: str | None) -> None:
    plan = Plan()

    @plan.task(timeout="50ms", failure_strategy="skip")
    async def endless() -> None:
        await asyncio.Event().wait()

    result = await run(plan, store=store, agents={})
    assert result.tasks["endless"].error == "timed out after 0.05 s"


async def test_a_task_that_asks_for_more_than_there_is_is_told_at_once(
    store: str | None,
) -> None:
    plan = Plan(resources={"gpu": 1})
    plan.add(functions.number, resources={"gpu": 2, "disk": 1})
    with pytest.raises(PlanError) as caught:
        await run(plan, store=store, agents={})
    assert [problem.message for problem in caught.value.problems] == [
        f"task 'number' needs {demand} of the resource {name!r}, and there are {there}: "
        f"say how many the pool has (resources: {{{name}: {demand}}})"
        for name, demand, there in [("disk", 1, 0), ("gpu", 2, 1)]
    ]
    pool = SubAgentManager(1, resources={"gpu": 2, "disk": 1})
    assert (await run(plan, store=store, agents={}, pool=pool)).status == "completed"


async def test_limits_of_agents_and_resources_hold(store: str | None, tmp_path: Path) -> None:
    agents = {
        "echo": AgentDefinition.from_settings("echo", {"kind": "command", "run": "cat", "max_concurrent": 1})
    }
    tasks: list[dict[str, Any]] = [{"id": f"ask-{n}", "prompt": "x", "agent": "echo"} for n in range(4)]
    plan = plan_from_document({"tasks": tasks, "max_parallel": 4}, base_dir=tmp_path, known_agents=agents)
    running, most = 0, 0

    def look(event: JournalEvent) -> None:
        nonlocal running, most
        running += (event.type == "task.started") - (event.type == "task.completed")
        most = max(most, running)

    result = await run(plan, store=store, agents=agents, on_event=look)
    assert result.status == "completed"
    assert most == 1


async def test_a_store_that_is_no_store_is_told(tmp_path: Path) -> None:
    (tmp_path / "runs.db").write_text("not a database, but long enough to be looked at" * 100)
    plan = Plan()
    plan.add(functions.number)
    with pytest.raises(StoreError):
        await run(plan, store=tmp_path / "runs.db", agents={})


async def test_values_of_inline_tasks(store: str | None) -> None:
    plan = Plan()
    plan.add(functions.number, inline=True)
    assert (await run(plan, store=store, agents={}, max_parallel=1))["number"] == 1.5


def test_json_of_everything_told(tmp_path: Path) -> None:
    events: list[JournalEvent] = []
    run_sync(mixed(), agents={}, on_event=events.append)
    for event in events:
        json.dumps(event._asdict())
