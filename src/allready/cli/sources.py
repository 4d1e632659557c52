"""Where plans come from: a file, standard input, or a Python module."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from allready.cli.text import clean
from allready.errors import PlanError, Problem, UserError

if TYPE_CHECKING:
    from allready.agents.definitions import AgentDefinition, AgentLibrary
    from allready.plan.plan import Plan

_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def read_plan(
    source: str, variables: Mapping[str, str] | None = None
) -> tuple[Plan, Mapping[str, AgentDefinition]]:
    """Give the plan that `source` names, and the agents found in files.

    `source` is a path, `-` for standard input, or `package.module:plan`. Raises `PlanError` with everything
    that is wrong; what is wrong with agents' files is a warning on stderr.
    """
    library = read_agents()  # which lets modules be imported
    return _read(source, variables or {}, library.agents), library.agents


def read_agents() -> AgentLibrary:
    """Give the agents found in files; what is wrong with the files is a warning on stderr.

    From here on modules of the project can be imported: agents name functions, plans name models.
    """
    from allready.agents.definitions import load_agents

    use_working_directory()
    library = load_agents(Path.cwd())
    for problem in library.problems:
        print(f"warning: {clean(str(problem))} (this agent is left out)", file=sys.stderr)
    return library


def use_working_directory() -> None:
    """Let modules of the project be imported: every command that reads agents, plans or models does this."""
    from allready.plan.imports import use_folder

    use_folder(Path.cwd())


def warn_of(used: Iterable[AgentDefinition]) -> None:
    """Say on stderr what agents that are used lack: tools that are not here."""
    from allready.agents.tools.names import resolve_tools

    for agent in used:
        missing = resolve_tools(agent, Path.cwd()).missing if agent.kind == "llm" else ()
        if missing:
            names = ", ".join(tool.name for tool in missing)
            what = f"agent {agent.name} goes without tools that are not here: {clean(names)}"
            print(f"warning: {what}", file=sys.stderr)


def _read(source: str, variables: Mapping[str, str], agents: Mapping[str, AgentDefinition]) -> Plan:
    if _REFERENCE.fullmatch(source) and not os.path.exists(source):  # noqa: PTH110 - Path raises for long names
        if variables:
            raise UserError("--set fills the variables of plan files; a plan from Python has its own")
        return _import(source)
    if source.endswith(".py") or ".py:" in source:
        module = source.partition(".py")[0].replace("/", ".").lstrip(".")
        raise UserError(f"{source}: to run a plan from Python, name its module: {module}:plan")
    from allready.plan.load import load_plan_file

    return load_plan_file(source, variables=variables, known_agents=agents)


def _import(reference: str) -> Plan:
    from allready.plan.imports import import_object
    from allready.plan.plan import Plan

    try:
        found = import_object(reference)
    except (Exception, SystemExit) as error:  # whatever the module does when it is imported
        text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        raise PlanError([Problem(f"can't be imported: {text}", reference)]) from error
    if not isinstance(found, Plan):
        raise PlanError([Problem(f"is no Plan but a {type(found).__name__}", reference)])
    found.source = reference
    return found
