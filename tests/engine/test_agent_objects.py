"""Agent and model objects from Python: what they give, and how another process finds them again."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from importlib.util import LazyLoader, find_spec, module_from_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic_ai import Agent
from tests.engine import typed_agents
from tests.engine.typed_agents import EXPECTED

from allready import Plan, PlanError, UserError, run
from allready.engine.results import read_results, value_of
from allready.engine.steer import steer
from allready.plan.imports import import_object, reference_of
from allready.plan.load import plan_from_document
from allready.store.open import open_store
from allready.testing import ScriptedModel

ROOT = Path(__file__).parents[2]
SEEN = [repr(value) for value in EXPECTED.values()]
DEADLINE = 60.0
"""Seconds for another process; it takes two."""


def kinds(result: Any) -> dict[str, type]:
    return {name: type(result[name]) for name in EXPECTED}


def resume(run_id: str, store: Path) -> subprocess.CompletedProcess[str]:
    """Go on with a run in another process, in another folder than where it was started."""
    command = [sys.executable, "-m", "allready", "resume", run_id, "--store", str(store), "--quiet"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE, check=False)


# --- what they give ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_name", [False, True])
async def test_typed_outputs_reach_dependents_as_they_are_in_memory_and_in_a_store(
    by_name: bool, tmp_path: Path
) -> None:
    for store in (None, tmp_path / "runs.db"):
        result = await run(typed_agents.plan(by_name=by_name), store=store, agents={})
        assert result.status == "paused", result.error
        assert {name: result[name] for name in EXPECTED} == EXPECTED
        assert kinds(result) == {name: type(value) for name, value in EXPECTED.items()}
        assert result["seen"] == SEEN


async def test_in_memory_it_is_the_very_value() -> None:
    plan = Plan()
    plan.ask("Go on", id="called", agent=typed_agents.called)

    @plan.task
    def same(called: typed_agents.City) -> bool:
        return called is typed_agents.made[-1]

    result = await run(plan, agents={})
    assert result["same"] is True
    assert result["called"] is typed_agents.made[-1]


async def test_commands_and_prompts_see_json_with_secrets_blanked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_TOKEN", "token-0123456789")
    scripted = ScriptedModel({"First": {"name": "token-0123456789"}})
    plan = Plan()
    plan.ask("First", id="first", agent=Agent(scripted, output_type=typed_agents.City, name="first"))
    plan.ask(
        "Next: {{ first.data.name }}", id="next", agent=Agent(scripted, name="next"), depends_on=["first"]
    )
    result = await run(plan, agents={})
    assert result.status == "completed", result.error
    assert result["first"] == typed_agents.City(name="token-0123456789")
    assert "Next: [secret]" in scripted.requests[-1].prompts[0]
    assert "token-0123456789" not in scripted.requests[-1].prompts[0]
    assert result.tasks["first"].output == '{"name":"[secret]"}'


async def test_another_process_goes_on_with_the_same_values(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    result = await run(typed_agents.plan(by_name=False), store=path, agents={})
    with closing(open_store(path)) as store:
        assert steer(store, result.id, "approve", "later").done
    done = resume(result.id, path)
    assert done.returncode == 0, done.stderr
    with closing(open_store(path)) as store:
        row = store.run(result.id)
        rows = {task.id: task.index for task in store.tasks(result.id)}
        (later,) = read_results(store, result.id, Path(row.folder), [rows["later"]]).values()
    assert value_of(later, result._plan.tasks["later"]) == SEEN


# --- how they are found again -----------------------------------------------------------------------------


def test_an_object_is_found_by_the_module_that_holds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    program = sys.modules["__main__"]
    monkeypatch.setattr(program, "reviewer", typed_agents.one, raising=False)
    assert reference_of(typed_agents.one) == "tests.engine.typed_agents:one"
    assert import_object("tests.engine.typed_agents:one") is typed_agents.one


def test_what_only_the_program_or_a_made_up_module_holds_is_not_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine = object()
    monkeypatch.setattr(sys.modules["__main__"], "mine", mine, raising=False)
    made_up = ModuleType("made_up")
    made_up.__dict__["mine"] = mine
    monkeypatch.setitem(sys.modules, "made_up", made_up)
    assert reference_of(mine) is None


def test_looking_for_an_object_loads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "loaded_late.py").write_text("raise RuntimeError('too early')\n")
    monkeypatch.syspath_prepend(tmp_path)
    spec = find_spec("loaded_late")
    assert spec is not None
    assert spec.loader is not None
    spec.loader = LazyLoader(spec.loader)
    late = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "loaded_late", late)
    spec.loader.exec_module(late)
    assert reference_of(object()) is None


def test_a_name_that_leads_elsewhere_is_no_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = object()
    monkeypatch.setitem(typed_agents.__dict__, "odd.name", mine)
    assert reference_of(mine) is None
    monkeypatch.setattr(typed_agents, "mine", mine, raising=False)
    assert reference_of(mine) == "tests.engine.typed_agents:mine"


async def test_an_agent_that_no_module_holds_is_refused_before_anything_runs_in_a_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted = ScriptedModel()
    reviewer = Agent(scripted, name="reviewer")
    monkeypatch.setattr(sys.modules["__main__"], "reviewer", reviewer, raising=False)
    plan = Plan(source="program.py")
    plan.ask("One", id="one", agent=reviewer)
    plan.ask("Two", id="two", agent=reviewer)
    with pytest.raises(PlanError) as caught:
        await run(plan, store=tmp_path / "runs.db", agents={})
    first, second = caught.value.problems
    assert first.message.startswith("task 'one': no module holds the agent reviewer")
    assert "make it a variable of a module (not of the program that is started)" in first.message
    assert second.message.startswith("task 'two': ")
    assert scripted.requests == []
    with closing(open_store(tmp_path / "runs.db")) as store:
        assert store.runs() == []
    assert (await run(plan, agents={})).status == "completed"


# --- runs that go on elsewhere ----------------------------------------------------------------------------


def two_prompts(**head: Any) -> Plan:
    """Give a plan that stops before its second task until a person agrees."""
    tasks = [
        {"id": "first", "prompt": "One"},
        {"id": "second", "prompt": "Two", "approval": True, "depends_on": ["first"]},
    ]
    return plan_from_document({"tasks": tasks, **head})


async def begun(plan: Plan, path: Path, **options: Any) -> str:
    """Run a plan up to the task that a person has to agree to, which is approved then; give the run's id."""
    result = await run(plan, store=path, **options)
    assert result.status == "paused", result.error
    with closing(open_store(path)) as store:
        assert steer(store, result.id, "approve", "second").done
    return result.id


async def test_a_model_object_is_found_again_by_the_module_that_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    run_id = await begun(two_prompts(), path, model=typed_agents.held, agents={})
    done = resume(run_id, path)
    assert done.returncode == 0, done.stderr
    with closing(open_store(path)) as store:
        assert store.task(run_id, "second").output == "held"


async def test_a_model_object_that_no_module_holds_has_to_be_given_again(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    scripted = ScriptedModel()
    run_id = await begun(two_prompts(), path, model=scripted, agents={})
    done = resume(run_id, path)
    assert done.returncode == 2
    assert f"run {run_id} was started with a model object that no module holds" in done.stderr
    with pytest.raises(UserError, match=r"give it again: run\(plan, store=…, resume='.*', model=…\)"):
        await run(two_prompts(), store=path, resume=run_id, agents={})
    assert len(scripted.requests) == 1
    result = await run(two_prompts(), store=path, resume=run_id, model=scripted, agents={})
    assert (result.status, result["second"]) == ("completed", "ok")


async def test_the_modules_of_the_project_are_found_when_a_run_goes_on_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "project_that_goes_on.py").write_text("def shout(prompt):\n    return prompt.upper()\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    loud = {"kind": "python", "function": "project_that_goes_on:shout"}
    run_id = await begun(two_prompts(agents={"loud": loud}), tmp_path / "runs.db", agents={})
    done = resume(run_id, tmp_path / "runs.db")
    assert done.returncode == 0, done.stderr
    with closing(open_store(tmp_path / "runs.db")) as store:
        assert (store.task(run_id, "second").output or "").startswith("TWO\n")
