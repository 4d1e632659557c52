"""Plans from Python written down and made again."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.engine import functions

from allready import Plan, PlanError
from allready.core.states import FailureStrategy, RunIf
from allready.engine.recipe import TASK_FIELDS, is_recipe, read_recipe, write_recipe
from allready.plan.plan import Command, Limits, Prompt, Task


def again(plan: Plan) -> Plan:
    """The plan after a way through JSON."""
    plan.link()
    return read_recipe(json.loads(json.dumps(write_recipe(plan))), plan.base_dir, plan.source)


def test_every_field_of_plan_and_tasks_comes_back() -> None:
    plan = Plan(
        "goal",
        max_parallel=3,
        vars={"path": ".", "n": 1},
        agents={"a": {"kind": "command", "run": "cat"}},
        limits=Limits(max_tokens=1, max_requests=2, max_cost=0.5),
        resources={"gpu": 2},
        timeout=60.0,
        source="package.module:plan",
    )
    plan.add(functions.point)
    plan.add(
        functions.add,
        args=[1, "two", [3]],
        title="Title",
        depends_on=["point"],
        run_if="all_done",
        failure_strategy="ask",
        max_retries=2,
        timeout=None,
        priority=3,
        estimate=4,
        resources={"gpu": 1},
        approval=True,
        idempotent=False,
        inline=True,
        isolate=True,
    )
    plan.add(functions.describe)
    plan.tasks["command"] = Task(
        "command",
        Command(("sh", "-c", "true"), shell=True, cwd="x", env={"A": "b"}, success_codes=(0, 3)),
        run_if=RunIf.ANY_COMPLETED,
        failure_strategy=FailureStrategy.SKIP,
    )
    plan.tasks["prompt"] = Task("prompt", Prompt("Hello {{ goal }}", "a"))
    plan.tasks["routed"] = Task("routed", Prompt("Hello"))
    copy = again(plan)
    assert copy == plan
    assert copy.tasks["describe"].depends_on == ("point",)


def test_the_tasks_that_parameters_get_their_values_from_come_back() -> None:
    plan = Plan()
    plan.add(functions.point)
    plan.add(functions.point, id="other")
    plan.add(functions.describe, inputs={"point": "other"})
    plan.add(functions.describe, id="all", inputs={"point": ["other", "point"]})
    assert again(plan) == plan


def test_no_field_of_a_task_is_forgotten() -> None:
    assert {*TASK_FIELDS, "body"} == set(Task.__dataclass_fields__)


def test_a_recipe_is_told_from_the_document_of_a_file() -> None:
    plan = Plan()
    plan.add(functions.text)
    assert is_recipe(write_recipe(plan))
    assert not is_recipe({"tasks": []})


def keywords(*points: functions.Point, **more: functions.Finding) -> None: ...


def test_arguments_of_all_kinds_are_made_into_what_the_annotations_say() -> None:
    plan = Plan()
    plan.add(keywords, args=[functions.point()] * 2, kwargs={"x": functions.finding()})
    assert again(plan).tasks == plan.tasks


@pytest.mark.parametrize("value", [object(), {1}, b"x"])
def test_arguments_that_json_cannot_carry_are_told_with_their_task(value: Any) -> None:
    plan = Plan(source="module:plan")
    plan.add(functions.add, id="first", args=[value])
    plan.add(functions.add, id="second", kwargs={}, args=[[value]])
    with pytest.raises(PlanError) as caught:
        write_recipe(plan)
    first, second = caught.value.problems
    assert first.message.startswith("task 'first': in its arguments, the value can't be carried as JSON")
    assert second.file == "module:plan"


def test_a_module_that_fails_while_it_is_imported_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "exploding_module.py").write_text("def work(): ...\nraise RuntimeError('boom')\n")
    monkeypatch.syspath_prepend(tmp_path)
    plan = Plan()
    plan.add(functions.text)
    recipe = write_recipe(plan)
    for reference, told in (
        ("exploding_module:work", "boom"),
        ("no_such_module_anywhere:work", "No module named"),
        ("tests.engine.functions:gone", "has no attribute 'gone'"),
        ("__main__:work", "in the program that was started"),
        ("tests.engine.functions:f.<locals>.g", "is not of the form"),
    ):
        recipe["tasks"][0]["body"]["function"] = reference
        with pytest.raises(PlanError, match=told):
            read_recipe(recipe, tmp_path)
    assert "exploding_module" not in sys.modules
