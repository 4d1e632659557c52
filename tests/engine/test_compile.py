"""From plans to what the scheduler runs: agents, limits, timeouts, and everything that would stop a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from allready import Plan, PlanError
from allready.agents.definitions import AgentDefinition
from allready.core.graph import TaskSpec
from allready.engine.compile import Compiled, ancestors, compile_plan, needed_results
from allready.plan.load import plan_from_document
from allready.plan.plan import Prompt, Task


def agent(name: str, **settings: Any) -> AgentDefinition:
    return AgentDefinition.from_settings(name, {"kind": "command", "run": "cat", **settings})


def document(tasks: list[dict[str, Any]], **head: Any) -> Plan:
    return plan_from_document({"tasks": tasks, **head}, base_dir=Path.cwd())


def spec(compiled: Compiled, task: str) -> TaskSpec:
    return next(spec for spec in compiled.specs if spec.id == task)


def problems_of(plan: Plan, agents: dict[str, AgentDefinition] | None = None) -> list[str]:
    with pytest.raises(PlanError) as caught:
        compile_plan(plan, agents)
    return [problem.message for problem in caught.value.problems]


def test_functions_and_commands_have_agents_of_their_own() -> None:
    plan = document([{"id": "run", "run": "true"}])
    plan.add(print, id="call")
    compiled = compile_plan(plan, {"other": agent("other", max_concurrent=1)})
    assert [(spec.id, spec.agent) for spec in compiled.specs] == [("run", "command"), ("call", "python")]
    assert compiled.definitions == {}, "agents that no task uses play no part"
    assert compiled.agent_limits == {}


def test_the_plans_own_agents_come_before_those_of_files() -> None:
    plan = document(
        [{"id": "ask", "prompt": "Hello", "agent": "echo"}],
        agents={"echo": {"kind": "command", "run": "cat -n", "max_concurrent": 3}},
    )
    compiled = compile_plan(plan, {"echo": agent("echo", run="cat -e", max_concurrent=1)})
    assert compiled.definitions["echo"].argv == ("cat", "-n")
    assert compiled.agent_limits == {"echo": 3}


def test_a_prompt_without_an_agent_goes_to_the_one_that_fits() -> None:
    agents = {
        "writer": agent("writer", description="Writes reports and summaries"),
        "reviewer": agent("reviewer", description="Reviews code for bugs"),
    }
    plan = document([{"id": "ask", "prompt": "Find bugs in this code"}, {"id": "any", "prompt": "xyzzy"}])
    compiled = compile_plan(plan, agents)
    assert [spec.agent for spec in compiled.specs] == ["reviewer", "writer"]


def test_an_unknown_agent_and_a_prompt_without_any_are_told() -> None:
    plan = Plan(source="plan.yaml")
    plan.tasks["one"] = Task("one", Prompt("Hello", "nobody"))
    plan.tasks["two"] = Task("two", Prompt("Hello"))
    told = problems_of(plan)
    assert told[0] == "task 'one': there is no agent 'nobody'"
    assert "agent 'assistant': no model is chosen" in told[1], "who does prompts if no agent is defined"
    with pytest.raises(PlanError, match=r"^plan\.yaml: "):
        compile_plan(plan)


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ({"kind": "llm", "model": "openai:gpt-5"}, "openai:gpt-5 needs a key: set OPENAI_API_KEY"),
        ({"kind": "a2a", "url": "https://example.com"}, "kind a2a can't run in this version"),
    ],
)
def test_what_cannot_run_here_is_told_with_advice(
    settings: dict[str, Any], advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    plan = document([{"id": "ask", "prompt": "Hello", "agent": "far"}], agents={"far": settings})
    (told,) = problems_of(plan)
    assert "agent 'far'" in told
    assert advice in told


def test_a_python_agent_whose_function_is_missing_is_told() -> None:
    missing = AgentDefinition.from_settings("p", {"kind": "python", "function": "json:no_such_function"})
    plan = document([{"id": "ask", "prompt": "Hello", "agent": "p"}], agents={"p": missing.settings})
    (told,) = problems_of(plan)
    assert "agent 'p': its function json:no_such_function can't be imported" in told


@pytest.mark.parametrize("name", ["command", "python"])
def test_names_that_stand_for_commands_and_functions_are_no_agents_names(name: str) -> None:
    plan = document([{"id": "ask", "prompt": "Hello"}])
    assert problems_of(plan, {name: agent(name)}) == [
        f"agent {name!r}: this name stands for tasks that run a command or call a function: rename it"
    ]


def test_what_an_agent_needs_is_added_to_what_its_task_needs() -> None:
    agents = {"a": agent("a", resources={"gpu": 1, "disk": 2}, timeout="7s", idempotent=False)}
    plan = document(
        [
            {"id": "plain", "prompt": "x", "agent": "a"},
            {
                "id": "own",
                "prompt": "x",
                "agent": "a",
                "resources": {"gpu": 1, "net": 1},
                "timeout": 3,
                "idempotent": True,
            },
            {"id": "default_in_words", "prompt": "x", "agent": "a", "timeout": "10m"},
        ],
        resources={"gpu": 4, "disk": 4, "net": 1},
        agents={name: dict(one.settings) for name, one in agents.items()},
    )
    compiled = compile_plan(plan)
    plain, own, in_words = compiled.specs
    assert in_words.timeout == 600
    assert plain.resources == (("disk", 2), ("gpu", 1))
    assert (plain.timeout, plain.idempotent) == (7, False)
    assert own.resources == (("disk", 2), ("gpu", 2), ("net", 1))
    assert (own.timeout, own.idempotent) == (3, True)


def test_all_settings_of_a_task_reach_its_spec() -> None:
    plan = Plan(resources={"r": 1})
    plan.add(print, id="a")
    plan.add(
        print,
        id="b",
        depends_on=["a"],
        run_if="any_completed",
        failure_strategy="ask",
        max_retries=4,
        timeout=None,
        priority=2,
        estimate=9,
        resources={"r": 1},
        approval=True,
        idempotent=False,
    )
    plan.add(print, id="c", inline=True)
    assert spec(compile_plan(plan), "c").inline
    assert spec(compile_plan(plan), "b")._asdict() == {
        "id": "b",
        "depends_on": ("a",),
        "agent": "python",
        "run_if": "any_completed",
        "failure_strategy": "ask",
        "max_retries": 4,
        "timeout": None,
        "priority": 2,
        "estimate": 9,
        "resources": (("r", 1),),
        "provider": None,
        "approval": True,
        "idempotent": False,
        "inline": False,
    }


def test_what_runs_inline_can_have_nothing_of_the_pool() -> None:
    plan = Plan(resources={"gpu": 1})
    plan.add(print, id="a", inline=True, resources={"gpu": 1})
    assert problems_of(plan) == [
        "task 'a' runs inline, beside the pool, and needs gpu of the pool: "
        "take away inline, or the resources (also those of its agent)"
    ]


def test_an_empty_plan_dangling_dependencies_and_cycles_are_told_together_with_the_rest() -> None:
    assert problems_of(Plan("nothing")) == ["the plan has no tasks"]
    plan = Plan()
    plan.add(print, id="a", depends_on=["b", "nowhere"])
    plan.add(print, id="b", depends_on=["a"])
    plan.tasks["c"] = Task("c", Prompt("Hello", "nobody"))
    told = "\n".join(problems_of(plan))
    assert "nobody" in told
    assert "nowhere" in told


def test_a_cycle_is_told_with_its_path() -> None:
    plan = Plan()

    @plan.task
    def hen(egg: int) -> int:
        return egg

    @plan.task
    def egg(hen: int) -> int:
        return hen

    (told,) = problems_of(plan)
    assert "hen" in told
    assert "egg" in told
    assert "hen → egg" in told or "egg → hen" in told


def test_a_task_needs_its_direct_dependencies_and_those_its_templates_name() -> None:
    plan = document(
        [
            {"id": "a", "run": "true"},
            {"id": "b", "run": "true", "depends_on": ["a"]},
            {"id": "c", "run": "true", "depends_on": ["b"]},
            {"id": "direct", "run": "true", "depends_on": ["c"]},
            {"id": "argument", "run": "echo {{ a.output }}", "depends_on": ["c"]},
            {"id": "environment", "run": "true", "env": {"X": "{{ b.output }}"}, "depends_on": ["c"]},
            {"id": "folder", "run": "true", "cwd": "{{ tasks['a'].output }}", "depends_on": ["c"]},
            {"id": "all", "run": "echo {{ tasks | length }}", "depends_on": ["c"]},
            {"id": "prompt", "prompt": "{{ a.output }}", "agent": "cat", "depends_on": ["c"]},
            {"id": "agent", "prompt": "hello", "agent": "all", "depends_on": ["c"]},
        ],
        agents={
            "cat": {"kind": "command", "run": "cat"},
            "all": {"kind": "command", "run": ["echo", "{{ tasks['b'].output }}"]},
        },
    )
    compiled = compile_plan(plan)

    def needs(task: str) -> set[str]:
        return needed_results(
            plan, plan.tasks[task], compiled.definitions.get(spec(compiled, task).agent or "")
        )

    assert needs("direct") == {"c"}
    assert needs("argument") == {"c", "a"}
    assert needs("environment") == {"c", "b"}
    assert needs("folder") == {"c", "a"}
    assert needs("all") == {"c", "b", "a"} == ancestors(plan, "all")
    assert needs("prompt") == {"c", "a"}
    assert needs("agent") == {"c", "b"}


def test_the_graph_that_was_checked_is_given_once() -> None:
    plan = Plan()
    plan.add(print, id="a")
    compiled = compile_plan(plan)
    first, second = compiled.take_graph(), compiled.take_graph()
    assert first is not second
    assert [node.id for node in second] == ["a"]
