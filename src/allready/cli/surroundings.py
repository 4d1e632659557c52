"""`agents` and `doctor`: what is there to work with, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from allready.cli.options import JsonOption, ModelOption, StoreOption, print_json

if TYPE_CHECKING:
    from allready.agents.definitions import AgentDefinition, AgentLibrary
    from allready.cli.tables import Cell
    from allready.errors import Problem

INSTRUCTION_LINES = 20
"""Lines of an agent's instructions that are shown."""


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command("agents")(agents)
    app.command("doctor")(doctor)


# --- agents -----------------------------------------------------------------------------------------------


def agents(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Of an agent. Without it: all there are.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """List the agents found in files, or show one.

    Where they are from, which are shadowed, and what is wrong with them.
    """
    from allready.agents.definitions import load_agents
    from allready.cli.sources import use_working_directory
    from allready.cli.tables import say

    use_working_directory()
    library = load_agents(Path.cwd())
    if name is not None:
        agent = _find(library, name)
        if json:
            print_json(_agent_view(agent, shadowed=False))
            return
        for line in _agent_lines(agent):
            say(line)
    elif json:
        print_json(_library_view(library))
    else:
        for line in _library_lines(library):
            say(line)


def unfit(agent: AgentDefinition) -> str | None:
    """Say why an agent can't work here; None if it can."""
    from allready.agents.kinds import problem_of

    return problem_of(agent, base_dir=Path.cwd())


def _find(library: AgentLibrary, name: str) -> AgentDefinition:
    from difflib import get_close_matches

    from allready.errors import UserError

    if name in library.agents:
        return library.agents[name]
    similar = get_close_matches(name, library.agents, 3, 0.5)
    if similar:
        raise UserError(f"there is no agent {name!r}; did you mean {' or '.join(similar)}?")
    raise UserError(f"there is no agent {name!r}; see which there are: allready agents")


def _agent_view(agent: AgentDefinition, *, shadowed: bool) -> dict[str, Any]:
    return {
        "name": agent.name,
        "kind": agent.kind,
        "description": agent.description,
        "source": None if agent.source is None else str(agent.source),
        "shadowed": shadowed,
        "problem": unfit(agent),
        "settings": dict(agent.settings),
        **_tools_view(agent),
    }


def _tools_view(agent: AgentDefinition) -> dict[str, Any]:
    """Give what a model may use, by our names, and what of its wishes is not here."""
    from allready.agents.tools.names import resolve_tools

    if agent.kind != "llm":
        return {}
    choice = resolve_tools(agent, Path.cwd())
    left_out = () if agent.tools is None else agent.notes.get("tools", ())
    missing = [*map(str, choice.missing), *(name for name in left_out if name != "*")]
    return {"tools": choice.names, "missing": missing}


def _library_view(library: AgentLibrary) -> dict[str, Any]:
    found = [_agent_view(agent, shadowed=False) for agent in library.agents.values()]
    return {
        "agents": found + [_agent_view(agent, shadowed=True) for agent in library.shadowed],
        "problems": [problem._asdict() for problem in library.problems],
        "warnings": [problem._asdict() for problem in library.warnings],
    }


def _library_lines(library: AgentLibrary) -> Iterator[str]:
    from allready.agents.definitions import agent_folders
    from allready.cli.tables import table

    if library.agents:
        rows = [_agent_row(agent, "") for agent in library.agents.values()]
        rows += [
            _agent_row(agent, "shadowed: another of that name comes first") for agent in library.shadowed
        ]
        yield from table(rows, ("AGENT", "KIND", "FROM", "DESCRIPTION"), cut=(3, 2))
    else:
        yield "no agents; they are looked for in these folders, as files NAME.md:"
        for folder in agent_folders(Path.cwd()):
            yield f"  {_short_path(folder.path)}"
    for kind, problems in (("problem", library.problems), ("warning", library.warnings)):
        yield from _problem_lines(kind, problems)


def _problem_lines(kind: str, problems: Sequence[Problem]) -> Iterator[str]:
    from allready.cli.tables import paint
    from allready.cli.text import clean_line

    for problem in problems:
        yield f"{paint(kind, 'red' if kind == 'problem' else 'yellow')}: {clean_line(str(problem))}"


def _agent_row(agent: AgentDefinition, note: str) -> list[Cell]:
    from allready.cli.text import clean_line

    problem = None if note else unfit(agent)
    source = _short_path(agent.source) if agent.source is not None else ""
    told: Cell = (note, "dim") if note else clean_line(agent.description)
    if problem is not None:
        told = (clean_line(problem), "yellow")
    return [clean_line(agent.name), agent.kind, source, told]


def _short_path(path: Path) -> str:
    """Give a path from the working directory or from home, if it is below one of them."""
    from allready.cli.text import clean_line

    for base, sign in ((Path.cwd(), Path()), (Path.home(), Path("~"))):
        if path.is_relative_to(base):
            return clean_line(str(sign / path.relative_to(base)))
    return clean_line(str(path))


def _agent_lines(agent: AgentDefinition) -> Iterator[str]:
    import json

    from allready.cli.tables import paint
    from allready.cli.text import clean, clean_line

    problem = unfit(agent)
    facts: dict[str, Any] = {"agent": agent.name, "kind": agent.kind}
    facts["from"] = None if agent.source is None else str(agent.source)
    facts |= {key: value for key, value in agent.settings.items() if key not in ("instructions", "kind")}
    tools = _tools_view(agent)
    if tools:
        facts["tools"] = ", ".join(tools["tools"]) or "none"
        facts["not here"] = ", ".join(tools["missing"])
        facts["note"] = "; ".join(_notes(agent))
    width = max(12, *(len(key) for key in facts))
    for key, value in facts.items():
        if value not in (None, ""):
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            yield f"{clean_line(key):<{width}} {clean_line(text)}"
    if problem is not None:
        yield f"{'problem':<{width}} {paint(clean_line(problem), 'yellow')}"
    lines = clean(agent.instructions).splitlines()
    if lines:
        yield from ("", "instructions:")
        yield from (f"  {line}".rstrip() for line in lines[:INSTRUCTION_LINES])
        if len(lines) > INSTRUCTION_LINES:
            yield f"  [… {len(lines) - INSTRUCTION_LINES:,} more lines]"


def _notes(agent: AgentDefinition) -> Iterator[str]:
    """Say what a file for Claude Code means here."""
    if "model" in agent.notes:
        yield f"model {agent.notes['model']}: here the run's own"
    if agent.notes.get("tools") == ["*"]:
        yield "its file allows all of Claude's tools; here it may only read (name others under tools)"


# --- doctor -----------------------------------------------------------------------------------------------


def doctor(store: StoreOption = None, model: ModelOption = None, json: JsonOption = False) -> int:
    """Check what allready needs and finds here.

    Each line is ok, a warning or a problem, and says what to do. The model is asked for one word.

    Exit codes: 0 usable (there may be warnings), 2 something has to be mended first.
    """
    from allready.cli.checks import PROBLEM, all_checks
    from allready.cli.sources import use_working_directory
    from allready.cli.tables import paint, say
    from allready.cli.text import clean_line

    use_working_directory()
    found = list(all_checks(store, model))
    usable = all(check.status != PROBLEM for check in found)
    if json:
        print_json({"usable": usable, "checks": [check._asdict() for check in found]})
    else:
        colours: Mapping[str, str] = {"ok": "green", "warning": "yellow", "problem": "red"}
        width = max(len(check.name) for check in found)
        for check in found:
            state = paint(f"{check.status:<7}", colours[check.status])
            say(f"{state}  {check.name:<{width}}  {clean_line(check.text)}".rstrip())
            if check.hint:
                say(f"{'':<{7 + 2 + width}}  → {clean_line(check.hint)}")
        warnings = sum(check.status == "warning" for check in found)
        problems = sum(check.status == PROBLEM for check in found)
        say()
        say(_verdict(problems, warnings))
    return 0 if usable else 2


def _verdict(problems: int, warnings: int) -> str:
    from allready.cli.tables import count

    told = [count(number, what) for number, what in ((problems, "problem"), (warnings, "warning")) if number]
    if problems:
        return f"{', '.join(told)}: mend the problems first"
    return ", ".join(["usable", *told]) if told else "all is well"
