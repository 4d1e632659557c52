"""What functions give: kept as it is in memory, revived from JSON in durable runs, resumed or not."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.engine import functions

from allready import Plan, TaskResult, run
from allready.agents.output import OUTPUT_FILE
from allready.agents.secrets import Redactor
from allready.engine.results import as_text, durable_result, whole_output
from allready.engine.start import stored_plan
from allready.engine.steer import steer
from allready.errors import PermanentError, StoreError, TaskError, UserError
from allready.plan.plan import Command, Task
from allready.store.open import open_store

LONG = 70_000
"""Characters that don't fit into a row."""


def stored(path: Path) -> str:
    return f"sqlite:///{path}/runs.db"


@pytest.mark.parametrize(
    "call",
    [
        functions.finding,
        functions.findings,
        functions.aliased,
        functions.strict,
        functions.point,
        functions.pair,
        functions.colour,
        functions.when,
        functions.nothing,
        functions.maybe,
        functions.text,
        functions.number,
        functions.flag,
        functions.mapping,
    ],
)
async def test_a_value_comes_back_as_the_annotation_says_everywhere(
    call: Callable[[], Any], tmp_path: Path
) -> None:
    value = call()
    got: list[Any] = []

    def plan() -> Plan:
        plan = Plan()
        plan.add(call, id="given")

        @plan.task
        def taken(given: Any) -> None:
            got.append(given)

        @plan.task(depends_on=["taken"])
        def late(given: Any) -> None:
            got.append(given)
            if (tmp_path / "block").exists():
                raise RuntimeError("not yet")

        return plan

    in_memory = await run(plan(), agents={})
    (tmp_path / "block").touch()
    durable = await run(plan(), store=stored(tmp_path), agents={})
    assert durable.status == "failed"
    (tmp_path / "block").unlink()
    with closing(open_store(tmp_path / "runs.db")) as store:
        assert steer(store, durable.id, "retry").done
    resumed = await run(plan(), store=stored(tmp_path), resume=durable.id, agents={})
    assert [result["given"] for result in (in_memory, durable, resumed)] == [value] * 3
    assert [type(result["given"]) for result in (in_memory, durable, resumed)] == [type(value)] * 3
    assert got == [value] * 5
    outputs = {result.tasks["given"].output for result in (in_memory, durable, resumed)}
    assert len(outputs) == 1, "the text is the same everywhere, too"


async def test_without_an_annotation_or_with_a_wrong_one_json_values_come_back(tmp_path: Path) -> None:
    plan = Plan()
    plan.add(functions.bare_pair)
    plan.add(functions.liar)
    result = await run(plan, store=stored(tmp_path), agents={})
    assert result["bare_pair"] == [1, "two"]
    assert result["liar"] == [1, 2]


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes", float("nan"), {1: 2}, lambda: 1])
async def test_what_json_cannot_carry_is_passed_on_in_memory_and_refused_in_durable_runs(
    value: Any, tmp_path: Path
) -> None:
    calls = []

    def make() -> Plan:
        plan = Plan()

        @plan.task(max_retries=3)
        def odd() -> Any:
            calls.append(1)
            return value

        @plan.task
        def same(odd: Any) -> bool:
            return odd is value

        return plan

    result = await run(make(), agents={})
    assert result["same"] is True
    assert result["odd"] is value
    calls.clear()
    durable = await run(make(), store=stored(tmp_path), agents={})
    assert durable.status == "failed"
    error = durable.tasks["odd"].error or ""
    assert "can't be carried as JSON" in error
    assert len(calls) == 1, "trying again would not help"
    with pytest.raises(UserError, match="task 'odd' has no result: it is failed: the value can't be"):
        durable["odd"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: "x" * LONG,
        lambda: {"key": "ü" * LONG},
        lambda: list(range(LONG)),
        lambda: "line\n" * LONG,
    ],
)
async def test_long_values_go_to_files_and_come_back_whole(make: Callable[[], Any], tmp_path: Path) -> None:
    plan = Plan()
    plan.add(make, id="long")
    plan.add(lambda long: long, id="again")
    result = await run(plan, store=stored(tmp_path), agents={})
    assert result["long"] == result["again"] == make()
    with closing(open_store(tmp_path / "runs.db")) as store:
        row = store.task(result.id, "long")
    assert len((row.output or "").encode()) <= 64 * 1024
    assert row.output_sha256 is not None
    file = result.tasks["long"].output_file
    assert file is not None
    assert file.stat().st_size == row.output_size
    assert file.name == OUTPUT_FILE


@pytest.mark.parametrize("damage", ["change", "cut", "remove"])
async def test_a_damaged_file_is_a_clear_error(damage: str, tmp_path: Path) -> None:
    plan = Plan()
    plan.add(lambda: {"key": "x" * LONG}, id="long")
    result = await run(plan, store=stored(tmp_path), agents={})
    assert result["long"]["key"] == "x" * LONG
    (file,) = tmp_path.glob("runs/*/tasks/long/1/data.json")
    if damage == "change":
        file.write_text(file.read_text().replace("xxx", "yyy", 1))
    elif damage == "cut":
        file.write_text(file.read_text()[:-1])
    else:
        file.unlink()
    with pytest.raises(StoreError, match=r"data\.json (is missing|was changed)"):
        result["long"]


async def test_a_long_output_of_a_command_is_kept_whole_in_its_file(tmp_path: Path) -> None:
    plan = Plan(base_dir=tmp_path)
    plan.tasks["long"] = Task("long", Command(("seq", "30000")))
    size = Command(("sh", "-c", "wc -c < $ALLREADY_DEPS/long/output.txt; echo {{ long.output | length }}"))
    plan.tasks["size"] = Task("size", size, depends_on=("long",))
    result = await run(plan, store=stored(tmp_path), agents={})
    whole = "".join(f"{number}\n" for number in range(1, 30_001)).encode()
    assert result["size"].split()[0] == str(len(whole))
    assert int(result["size"].split()[1]) <= 64 * 1024
    with closing(open_store(tmp_path / "runs.db")) as store:
        row = store.task(result.id, "long")
        folder = Path(store.run(result.id).folder)
    assert whole_output(row, folder) == whole
    (folder / str(row.output_file)).write_bytes(whole[:-1])
    with pytest.raises(StoreError, match=r"was changed after the result was recorded"):
        whole_output(row, folder)


async def test_a_value_that_looks_like_our_own_mark_is_only_a_value(tmp_path: Path) -> None:
    value = {"$allready:file": {"file": "/etc/passwd", "size": 1, "sha256": ""}}
    plan = Plan()
    plan.add(lambda: value, id="odd")
    result = await run(plan, store=stored(tmp_path), agents={})
    assert result["odd"] == value


def task_result(**fields: Any) -> Callable[[], TaskResult]:
    return lambda: TaskResult(**fields)


async def test_functions_may_give_task_results(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.txt"
    elsewhere.write_text("from a file")
    plan = Plan()
    plan.add(task_result(output="only text"), id="text")
    plan.add(task_result(output="text", data={"a": (1, 2)}, exit_code=3), id="both")
    plan.add(task_result(output="x" * LONG), id="long")
    plan.add(task_result(output="short", output_file=elsewhere), id="file")
    result = await run(plan, store=stored(tmp_path), agents={})
    assert result.status == "completed", result.error
    assert result["text"] == "only text"
    assert result["both"] == {"a": [1, 2]}
    assert result.tasks["both"].exit_code == 3
    assert len(result.tasks["long"].output) <= 64 * 1024
    file = result.tasks["long"].output_file
    assert file is not None
    assert file.read_text() == "x" * LONG
    assert result.tasks["file"].output == "from a file"


async def test_a_task_result_that_cannot_be_kept_fails_its_task_only(tmp_path: Path) -> None:
    plan = Plan()
    plan.add(task_result(data=object()), id="odd", failure_strategy="skip")
    plan.add(task_result(output_file=tmp_path / "missing"), id="file", failure_strategy="skip")
    plan.add(lambda: 1, id="fine")
    result = await run(plan, store=stored(tmp_path), agents={})
    assert result.status == "completed"
    assert result["fine"] == 1
    assert "can't be carried as JSON" in (result.tasks["odd"].error or "")
    assert "can't be read" in (result.tasks["file"].error or "")


async def test_what_a_failed_function_leaves_behind_is_kept_if_it_can_be(tmp_path: Path) -> None:
    def fail(number: int) -> None:
        raise TaskError("no", left[number])

    left = [TaskResult("partial", exit_code=4), TaskResult(data=object()), object()]
    plan = Plan()
    for number in range(3):
        plan.add(fail, id=f"fail-{number}", args=[number], failure_strategy="skip")
    got = await run(plan, store=stored(tmp_path), agents={})
    assert got.status == "completed"
    with closing(open_store(tmp_path / "runs.db")) as store:
        rows = [store.task(got.id, f"fail-{number}") for number in range(3)]
    assert [(row.state, row.output, row.exit_code) for row in rows] == [
        ("failed", "partial", 4),
        ("failed", None, None),
        ("failed", None, None),
    ]


def test_as_text_and_durable_results(tmp_path: Path) -> None:
    assert as_text(functions.finding()) == '{"name": "f", "lines": [1]}'
    assert as_text("line\n") == "line"
    assert as_text(None) == ""
    assert as_text(object()).startswith("<object")
    with pytest.raises(PermanentError):
        durable_result(TaskResult(data={1}), tmp_path, Redactor())


async def test_arguments_come_back_as_the_annotations_say(tmp_path: Path) -> None:
    plan = Plan()
    plan.add(functions.describe, args=[functions.point()])
    result = await run(plan, store=stored(tmp_path), agents={})
    with closing(open_store(tmp_path / "runs.db")) as store:
        again = stored_plan(store.run(result.id))
    body = again.tasks["describe"].body
    assert body == plan.tasks["describe"].body


async def test_results_that_no_longer_fit_into_memory_are_read_from_the_store_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("allready.engine.results.CACHE_BYTES", 100)
    plan = Plan()

    def step(number: int) -> str:
        return str(number) * 30

    for number in range(10):
        plan.add(step, id=f"t{number}", args=[number])

    @plan.task(depends_on=[f"t{number}" for number in range(10)])
    def last(t0: str, t1: str, t8: str, t9: str) -> list[str]:
        return [t0, t1, t8, t9]

    joined = Command(("printf", "%s ", *(f"{{{{ t{number}.output }}}}" for number in range(10))))
    plan.tasks["joined"] = Task(
        "joined", joined, depends_on=("last", *(f"t{number}" for number in range(10)))
    )
    result = await run(plan, store=stored(tmp_path), agents={})
    assert result["last"] == [step(0), step(1), step(8), step(9)]
    assert result["joined"].split() == [step(number) for number in range(10)]
