"""Plans written in Python: tasks from functions, dependencies from parameters, wrong ones refused."""

from __future__ import annotations

import functools
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from allready import Plan, PlanError
from allready.core.states import FailureStrategy, RunIf
from allready.engine.compile import compile_plan
from allready.plan.plan import NO_TIMEOUT, Function


def give(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


def function_of(plan: Plan, task: str) -> Function:
    body = plan.tasks[task].body
    assert isinstance(body, Function)
    return body


def test_the_example_of_the_contract() -> None:
    plan = Plan("How healthy is this repository?", max_parallel=4)

    @plan.task
    async def history() -> str:
        return "long"

    @plan.task(failure_strategy="skip", timeout=60)
    def sizes() -> dict[str, int]:
        return {"src": 1}

    @plan.task
    async def report(history: str, sizes: dict[str, int]) -> str:
        return f"{history} {sizes}"

    def fetch(number: int) -> int:
        return number

    assert plan.add(fetch, id="fetch-7", args=[7], depends_on=["history"]) == "fetch-7"
    plan.link()
    assert plan.dependencies() == {
        "history": (),
        "sizes": (),
        "report": ("history", "sizes"),
        "fetch-7": ("history",),
    }
    assert plan.tasks["sizes"].failure_strategy is FailureStrategy.SKIP
    assert plan.tasks["sizes"].timeout == 60
    assert sizes() == {"src": 1}, "the function stays as it was"


def test_a_function_may_name_a_task_that_comes_later_and_linking_twice_changes_nothing() -> None:
    plan = Plan()

    @plan.task
    def last(first: int) -> int:
        return first

    @plan.task
    def first() -> int:
        return 1

    plan.link()
    plan.link()
    assert plan.tasks["last"].depends_on == ("first",)
    assert function_of(plan, "last").inputs == {"first": "first"}


def test_given_arguments_and_defaults_come_before_tasks_of_that_name() -> None:
    plan = Plan()

    def work(a: int, b: int, c: int = 3, *, d: int = 4) -> None: ...

    plan.add(give, id="a")
    plan.add(give, id="c")
    plan.add(give, id="d")
    plan.add(work, id="positional", args=[1], kwargs={"b": 2})
    plan.add(work, id="keyword", kwargs={"b": 2, "c": 5})
    plan.link()
    assert function_of(plan, "positional").inputs == {"c": "c", "d": "d"}
    assert function_of(plan, "keyword").inputs == {"a": "a", "d": "d"}


def test_a_parameter_may_get_the_results_of_other_tasks() -> None:
    plan = Plan()

    def work(one: int, many: list[int]) -> None: ...

    for number in range(3):
        plan.add(give, id=f"give-{number}")
    plan.add(work, inputs={"one": "give-0", "many": ["give-1", "give-2"]}, depends_on=["give-2"])
    plan.link()
    plan.link()
    assert plan.tasks["work"].depends_on == ("give-2", "give-0", "give-1")
    assert function_of(plan, "work").inputs == {"one": "give-0", "many": ("give-1", "give-2")}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"inputs": ["a"]}, "task 'give': inputs maps parameters to ids of tasks, not ['a']"),
        ({"inputs": {"x": 1}}, "task 'give': inputs: x: 1 is neither a task's id nor a list"),
        ({"inputs": {"x": ["a", 2]}}, "task 'give': inputs: x: ['a', 2] is neither a task's id nor a list"),
        ({"inputs": {"x": "a"}, "kwargs": {"x": 1}}, "task 'give': 'x' is in kwargs and in inputs: keep one"),
    ],
)
def test_wrong_inputs(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=f"^{re.escape(message)}$"):
        Plan().add(give, **settings)


def test_generators_are_no_tasks() -> None:
    def pages() -> Iterator[int]:
        yield 1

    async def more() -> AsyncIterator[int]:
        yield 1

    for call in (pages, more):
        with pytest.raises(PlanError, match="is a generator: let it return a list instead"):
            Plan().add(call)


def test_inputs_for_a_parameter_that_is_not_there() -> None:
    plan = Plan()

    def work() -> None: ...

    plan.add(give)
    plan.add(work, inputs={"nothing": "give"})
    with pytest.raises(PlanError, match="unexpected keyword argument 'nothing'"):
        plan.link()


def test_a_parameter_never_makes_a_task_depend_on_itself() -> None:
    plan = Plan()

    @plan.task
    def tree(tree: int = 0) -> int:
        return tree

    plan.link()
    assert plan.tasks["tree"].depends_on == ()


def test_explicit_dependencies_come_first_and_once() -> None:
    plan = Plan()
    for name in "ab":
        plan.add(give, id=name)

    def work(a: int, b: int) -> None: ...

    plan.add(work, depends_on=["b"])
    plan.link()
    assert plan.tasks["work"].depends_on == ("b", "a")


def test_star_parameters_and_built_in_functions_need_nothing() -> None:
    plan = Plan()
    plan.add(give, id="star")
    plan.add(dict, id="built-in", kwargs={"a": 1})
    plan.add(functools.partial(give, 1), id="partial")
    plan.link()
    assert plan.dependencies() == {"star": (), "built-in": (), "partial": ()}


def test_all_settings_reach_the_task() -> None:
    plan = Plan()
    plan.add(
        give,
        title="Title",
        run_if="all_done",
        failure_strategy=FailureStrategy.ASK,
        max_retries=2,
        timeout="5m",
        priority=-1,
        estimate="250ms",
        resources={"browser": 2},
        approval=True,
        idempotent=False,
        inline=True,
        isolate=True,
    )
    task = plan.tasks["give"]
    assert (task.title, task.run_if, task.failure_strategy) == ("Title", RunIf.ALL_DONE, FailureStrategy.ASK)
    assert (task.max_retries, task.timeout, task.priority, task.estimate) == (2, 300, -1, 0.25)
    assert task.resources == {"browser": 2}
    assert (task.approval, task.idempotent, task.inline) == (True, False, True)
    assert function_of(plan, "give").isolate


def test_no_timeout_at_all_is_possible() -> None:
    plan = Plan()
    plan.add(give, timeout=None)
    assert plan.tasks["give"].timeout == NO_TIMEOUT
    assert compile_plan(plan).specs[0].timeout is None


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"id": "two words"}, "'two words' is no task id: it must match"),
        ({"id": "-x"}, "'-x' is no task id"),
        ({"id": ""}, "'' is no task id: give it one with id=…"),
        ({"id": "x" * 101}, "is no task id"),
        ({"timeuot": 1}, "task 'give': there is no setting 'timeuot'; did you mean 'timeout'?"),
        ({"wholly": 1}, "there is no setting 'wholly'"),
        ({"max_retries": -1}, "max_retries: must not be negative"),
        ({"max_retries": True}, "max_retries can't be True"),
        ({"max_retries": 1.5}, "max_retries can't be 1.5"),
        ({"timeout": -1}, "timeout: "),
        ({"timeout": "soon"}, "timeout: "),
        ({"timeout": 0}, "timeout: must be longer than 0 seconds, or None for no limit"),
        ({"timeout": True}, "timeout can't be True"),
        ({"timeout": float("nan")}, "timeout: "),
        ({"estimate": None}, "estimate can't be None"),
        ({"estimate": "-1s"}, "estimate: "),
        ({"priority": "high"}, "priority can't be 'high'"),
        ({"run_if": "never"}, "run_if: 'never' is not a valid RunIf"),
        ({"failure_strategy": "hope"}, "failure_strategy: 'hope' is not a valid FailureStrategy"),
        ({"resources": {"gpu": 0}}, "resources: 'gpu': 0 is no number of units"),
        ({"resources": {"gpu": True}}, "resources: 'gpu': True is no number of units"),
        ({"resources": ["gpu"]}, "resources can't be ['gpu']"),
        ({"approval": "yes"}, "approval can't be 'yes'"),
        ({"idempotent": None}, "idempotent can't be None"),
        ({"inline": 1}, "inline can't be 1"),
        ({"title": 1}, "title can't be 1"),
        ({"depends_on": "a"}, "depends_on is a list of ids, not 'a'"),
        ({"depends_on": [give]}, "depends_on is a list of ids, not [<function give"),
        ({"depends_on": None}, "depends_on is a list of ids, not None"),
        ({"args": "abc"}, "args is a list of arguments, not 'abc'"),
        ({"args": 7}, "args is a list of arguments, not 7"),
        ({"kwargs": [1]}, "kwargs maps names to arguments, not [1]"),
        ({"kwargs": {1: 2}}, "kwargs maps names to arguments, not {1: 2}"),
    ],
)
def test_wrong_settings_are_refused_when_the_task_is_added(settings: dict[str, Any], told: str) -> None:
    plan = Plan()
    with pytest.raises(PlanError) as caught:
        plan.add(give, **settings)
    assert told in str(caught.value)
    assert not plan.tasks


def test_all_that_is_wrong_with_a_task_is_told_at_once() -> None:
    plan = Plan()
    plan.add(give)
    with pytest.raises(PlanError) as caught:
        plan.add(give, depends_on="x", priority="high", colour="red")
    assert len(caught.value.problems) == 4


def test_lambdas_and_nameless_objects_need_an_id_and_no_functions_are_refused() -> None:
    plan = Plan()
    with pytest.raises(PlanError, match="give it one with id=…"):
        plan.add(lambda: 1)
    with pytest.raises(PlanError, match="give it one with id=…"):
        plan.add(functools.partial(give, 1))
    plan.add(lambda: 1, id="one")
    with pytest.raises(PlanError, match="'text' is no function"):
        plan.add("text", id="two")  # type: ignore[arg-type]
    assert list(plan.tasks) == ["one"]


def test_parameters_that_nothing_fills_are_all_told_when_the_plan_is_linked() -> None:
    plan = Plan()

    def first(missing: int) -> None: ...

    def second(lost: int, /, given: int) -> None: ...

    plan.add(first)
    plan.add(second, kwargs={"given": 1})
    plan.add(give, id="lost")
    plan.add(first, id="too-many", args=[1, 2])
    plan.add(first, id="unknown", kwargs={"other": 1})
    with pytest.raises(PlanError) as caught:
        plan.link()
    assert [problem.message.split(" of ")[0] for problem in caught.value.problems[:2]] == [
        "task 'first': parameter 'missing'",
        "task 'second': parameter 'lost'",
    ]
    assert "too many positional arguments" in caught.value.problems[2].message
    assert "unexpected keyword argument 'other'" in caught.value.problems[3].message


def test_wrong_settings_of_the_decorator_are_refused() -> None:
    plan = Plan()
    with pytest.raises(PlanError, match="there is no setting 'retries'"):

        @plan.task(retries=1)
        def work() -> None: ...
