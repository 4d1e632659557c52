"""The scripted model, as pydantic-ai's agents see it."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.exceptions import (
    ModelConnectionError,
    ModelHTTPError,
    ModelOverloadedError,
    ModelQuotaExceededError,
    ModelRateLimitError,
)

from allready.agents.base import Dependency, TaskResult
from allready.planning.aggregator import LlmAggregator
from allready.planning.events import Written
from allready.planning.planner import LlmPlanner
from allready.testing import (
    Call,
    Dropped,
    Refused,
    ScriptedModel,
    overloaded,
    rate_limited,
    run_virtual,
)


class PlannedTask(BaseModel):
    id: str
    title: str
    prompt: str
    agent: str | None
    depends_on: list[str]


class Planned(BaseModel):
    tasks: list[PlannedTask]


class Count(BaseModel):
    count: int


PLAN = [{"id": "facts", "prompt": "Find facts"}, {"id": "sum", "depends_on": ["facts"]}]


async def ask(model: ScriptedModel, prompt: str) -> str:
    return (await Agent(model).run(prompt)).output


async def pieces(model: ScriptedModel, prompt: str) -> list[str]:
    async with Agent(model).run_stream(prompt) as streamed:
        return [piece async for piece in streamed.stream_text(delta=True, debounce_by=None)]


async def read_into(seen: list[str], model: ScriptedModel) -> None:
    async with Agent(model).run_stream("go") as streamed:
        async for piece in streamed.stream_text(delta=True, debounce_by=None):
            seen.append(piece)  # noqa: PERF401 what came before an error counts


# --- rules ------------------------------------------------------------------------------------------------


async def test_the_first_rule_that_fits_answers_and_the_default_the_rest() -> None:
    model = ScriptedModel(
        {"Compare": "alike", re.compile(r"^count (\d+)$"): "numbers", "count": "words"}, default="nothing"
    )
    asked = ["Please Compare", "count 3", "count words", "something else"]
    assert [await ask(model, prompt) for prompt in asked] == ["alike", "numbers", "words", "nothing"]
    assert [request.prompt for request in model.requests] == asked
    assert {request.outcome for request in model.requests} == {"answered"}


async def test_what_other_tasks_gave_sets_off_no_rule() -> None:
    model = ScriptedModel({"secret word": "found"})
    prompt = "Go on.\n<completed-dependencies>\nsecret word\n</completed-dependencies>"
    assert await ask(model, prompt) == "ok"
    assert model.requests[0].prompt == prompt


async def test_lists_go_on_from_request_to_request_and_the_last_answer_stays() -> None:
    model = ScriptedModel({"a": ["one", lambda prompt: prompt.upper()], "b": ["eins", "zwei"]})
    assert [await ask(model, prompt) for prompt in ("a", "b", "a", "a", "b")] == [
        *("one", "eins", "A", "A", "zwei")
    ]


async def test_functions_get_the_prompt_and_may_be_asynchronous() -> None:
    async def answer(prompt: str) -> str:
        await asyncio.sleep(0)
        return f"{len(prompt)} characters"

    assert await ask(ScriptedModel(default=answer), "four") == "4 characters"


async def test_without_a_default_a_prompt_that_no_rule_fits_is_an_error() -> None:
    with pytest.raises(LookupError, match=r"no rule of the script fits the prompt 'What\?'.*\['Compare'\]"):
        await ask(ScriptedModel({"Compare": "alike"}, default=None), "What?")
    with pytest.raises(LookupError, match="empty"):
        await ask(ScriptedModel({"Compare": []}), "Compare")


async def test_what_can_be_no_answer_is_an_error() -> None:
    with pytest.raises(TypeError, match="can't answer with 7"):
        await ask(ScriptedModel(default=lambda _: 7), "What?")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="chunk is 0"):
        ScriptedModel(chunk=0)


# --- what goes wrong --------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [ask, pieces], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("answer", "kind", "status"),
    [
        (rate_limited(2.5), ModelRateLimitError, 429),
        (overloaded(), ModelOverloadedError, 503),
        (Refused(429, "pay", code="insufficient_quota"), ModelQuotaExceededError, 429),
        (Refused(418, "I'm a teapot"), ModelHTTPError, 418),
    ],
)
async def test_refusals_are_raised_as_pydantic_ai_raises_them(
    way: Any, answer: Refused, kind: type[ModelHTTPError], status: int
) -> None:
    model = ScriptedModel({"again": [answer, "now"]})
    with pytest.raises(ModelHTTPError) as caught:
        await way(model, "again")
    assert isinstance(caught.value, kind)
    assert caught.value.status_code == status
    assert caught.value.retry_after == answer.retry_after
    assert "".join(await way(model, "again")) == "now"
    assert [request.outcome for request in model.requests] == ["refused", "answered"]


async def test_a_connection_that_breaks_leaves_what_came_before() -> None:
    model = ScriptedModel(default=Dropped("half of"))
    seen: list[str] = []
    with pytest.raises(ModelConnectionError):
        await read_into(seen, model)
    assert seen == ["half ", "of"]
    assert model.requests[0].outcome == "dropped"


async def test_exceptions_are_raised_as_they_are() -> None:
    model = ScriptedModel(default=ZeroDivisionError("by the script"))
    with pytest.raises(ZeroDivisionError, match="by the script"):
        await ask(model, "go")
    assert model.requests[0].outcome == "failed"


# --- structure and tools ----------------------------------------------------------------------------------


@pytest.mark.parametrize("output", [Planned, NativeOutput(Planned)], ids=["tool", "native"])
async def test_planners_get_the_plan_whichever_way_they_ask(output: Any) -> None:
    model = ScriptedModel({"goal": "no plan"}, plan=PLAN)
    planned: Planned = (await Agent(model, output_type=output).run("the goal")).output
    assert [task.model_dump() for task in planned.tasks] == [
        {"id": "facts", "title": "facts", "prompt": "Find facts", "agent": None, "depends_on": []},
        {"id": "sum", "title": "sum", "prompt": "sum", "agent": None, "depends_on": ["facts"]},
    ]
    assert model.requests[0].for_a_plan
    assert await ask(model, "the goal") == "no plan"


async def test_plans_and_texts_one_after_the_other() -> None:
    model = ScriptedModel(plan=["{not JSON", PLAN])
    agent = Agent(model, output_type=NativeOutput(Planned), retries=1)
    assert [task.id for task in (await agent.run("goal")).output.tasks] == ["facts", "sum"]
    assert len(model.requests) == 2
    assert "goal" in model.requests[1].prompts


async def test_a_plan_that_the_script_does_not_have_is_an_error() -> None:
    with pytest.raises(LookupError, match="asked for a plan and has none"):
        await Agent(ScriptedModel(), output_type=Planned).run("goal")


async def test_mappings_are_structured_output() -> None:
    model = ScriptedModel(default={"count": 3})
    for output in (Count, NativeOutput(Count)):
        agent: Agent[None, Count] = Agent(model, output_type=output)
        assert (await agent.run("How many?")).output == Count(count=3)
    assert [request.output_tool for request in model.requests] == ["final_result", None]


@pytest.mark.parametrize("chunk", [None, 3])
async def test_tools_are_called_and_what_they_gave_is_on_record(chunk: int | None) -> None:
    calls = (Call("double", {"text": "a b"}), Call("double", {"text": "c"}))
    model = ScriptedModel({"Work": [calls, Call("double", {"text": "d"}), "done"]}, chunk=chunk)
    agent = Agent(model, instructions="Be good.")

    @agent.tool_plain
    def double(text: str) -> str:
        return text * 2

    async with agent.run_stream("Work") as streamed:
        assert await streamed.get_output() == "done"
    assert [request.results for request in model.requests] == [(), ("a ba b", "cc"), ("dd",)]
    assert model.requests[0].tools == ("double",)
    assert model.requests[0].instructions == "Be good."
    assert model.requests[2].prompt == "Work"


# --- time -------------------------------------------------------------------------------------------------


def test_delay_and_pauses_pass_on_a_virtual_clock() -> None:
    model = ScriptedModel(default="one two three", delay=60, pause=30)

    async def main() -> tuple[list[float], str]:
        loop = asyncio.get_running_loop()
        async with Agent(model).run_stream("go") as streamed:
            times = [loop.time() async for _ in streamed.stream_text(delta=True, debounce_by=None)]
        return times, await ask(model, "go")

    times, whole = run_virtual(main())
    assert times == [60, 90, 120]
    assert whole == "one two three"
    assert [(request.began, request.ended) for request in model.requests] == [(0, 120), (120, 240)]
    assert [request.streamed for request in model.requests] == [True, False]


def test_pieces_are_words_or_so_many_characters() -> None:
    async def main(chunk: int | None) -> list[str]:
        return await pieces(ScriptedModel(default=" one  two\nthree", chunk=chunk), "go")

    assert run_virtual(main(None)) == [" ", "one  ", "two\n", "three"]
    assert run_virtual(main(6)) == [" one  ", "two\nth", "ree"]


def test_how_many_at_once_and_who_went_away() -> None:
    model = ScriptedModel(default="a long answer", pause=10)

    async def main() -> None:
        async with asyncio.timeout(15):
            await asyncio.gather(*(pieces(model, str(number)) for number in range(3)))

    with pytest.raises(TimeoutError):
        run_virtual(main())
    assert model.most_at_once == 3
    assert [(request.outcome, request.ended) for request in model.requests] == [("gone", 15)] * 3


def test_an_answer_may_wait_for_the_test() -> None:
    async def main() -> list[str]:
        let_go = asyncio.Event()

        async def answer(_: str) -> str:
            await let_go.wait()
            return "at last"

        model = ScriptedModel({"wait": answer})
        waiting = asyncio.create_task(ask(model, "wait"))
        said = [await ask(model, name) for name in ("a", "b")]
        assert {request.prompt: request.outcome for request in model.requests} == {
            "wait": "running",
            "a": "answered",
            "b": "answered",
        }
        let_go.set()
        return [*said, await waiting]

    assert run_virtual(main()) == ["ok", "ok", "at last"]


# --- the extra --------------------------------------------------------------------------------------------


def test_without_the_extra_the_import_works_and_the_use_says_what_to_install() -> None:
    program = """
import sys
sys.modules["pydantic_ai"] = None
from allready.testing import ScriptedModel
try:
    ScriptedModel()
except Exception as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("UserError ScriptedModel needs pydantic-ai")
    assert "pip install 'allready[llm]'" in done.stdout


def test_the_clock_alone_does_not_import_pydantic_ai() -> None:
    program = "import sys, allready.testing; print([name for name in sys.modules if 'pydantic_ai' in name])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# --- planner and aggregator -------------------------------------------------------------------------------


def test_a_whole_planning_with_all_that_can_happen() -> None:
    broken = Dropped('{"tasks": [{"id": "z", "title"')
    model = ScriptedModel(plan=[rate_limited(3), broken, "no plan", PLAN], answer="The answer.")

    async def main() -> tuple[list[str], list[str], str]:
        events = [event async for event in LlmPlanner(model, []).write("the goal")]
        facts = Dependency("facts", "completed", result=TaskResult("out"))
        answer = await LlmAggregator(model).answer("the goal", [facts], [])
        kinds = [type(event).__name__ for event in events]
        return kinds, [event.task.id for event in events if isinstance(event, Written)], answer

    kinds, written, answer = run_virtual(main())
    assert kinds == ["Waiting", "Again", "Waiting", "Again", "Written", "Written"]
    assert written == ["facts", "sum"]
    assert answer == "The answer."
    assert [request.outcome for request in model.requests] == [
        *("refused", "dropped", "answered", "answered", "answered")
    ]
    assert [request.for_an_answer for request in model.requests] == [False] * 4 + [True]


def test_tasks_are_written_while_the_model_still_streams() -> None:
    model = ScriptedModel(plan=PLAN, pause=10)

    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        return [loop.time() async for _ in LlmPlanner(model, []).write("the goal")]

    first, second = run_virtual(main())
    assert 0 < first < second
    assert model.requests[0].ended == second
