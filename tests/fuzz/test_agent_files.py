"""Agents' files from an enemy."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, note
from hypothesis import strategies as st
from tests.fuzz import texts
from tests.fuzz.trying import RANDOMS, bounded, check_problems, inputs, tried

from allready.agents.definitions import AgentDefinition, load_agents
from allready.agents.router import Router
from allready.errors import PlanError


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    for place in (".allready/agents", ".claude/agents", "home"):
        folder.joinpath(place).mkdir(parents=True)
    return folder


@inputs(2_500)
@given(RANDOMS, st.sampled_from([".allready", ".claude"]))
def test_files_are_agents_or_are_said_to_be_none(project: Path, random: Random, place: str) -> None:
    text = texts.agent_text(random) if random.random() < 0.8 else texts.raw_text(random)
    prompt = texts.text(random)
    note(repr((text, prompt)))
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    file = project / place / "agents" / "x.md"
    file.write_bytes(data)
    try:
        with bounded():
            library = load_agents(project, project / "home")
            for problems in (library.problems, library.warnings):
                if problems:
                    check_problems(PlanError(problems), data, f"{place}/agents/x.md")
            tried["agents that were taken" if library.agents else "agents that were refused"] += 1
            for agent in library.agents.values():
                settings = json.loads(
                    json.dumps(agent.settings, allow_nan=False, ensure_ascii=False).encode()
                )
                again = AgentDefinition.from_settings(agent.name, settings)
                assert (again.argv, again.tools, again.model) == (agent.argv, agent.tools, agent.model)
            router = Router(list(library.agents.values()))
            assert router.route(prompt, prompt) in {None, *library.agents}
            str(router.explain(prompt, prompt))
    finally:
        file.unlink()
