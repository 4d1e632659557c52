"""Commands about plans, before anything runs: `validate`, `graph`, `schema`."""

from __future__ import annotations

import sys
from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from allready.cli.options import (
    JsonOption,
    PlanArgument,
    QuietOption,
    SetOption,
    StoreOption,
    load_settings,
    open_settled_store,
    print_json,
    variables_of,
)

if TYPE_CHECKING:
    from allready.engine.compile import Compiled
    from allready.errors import PlanError
    from allready.plan.draw import Node


class Format(StrEnum):
    """Languages of pictures."""

    TEXT = "text"
    MERMAID = "mermaid"
    DOT = "dot"


class SchemaName(StrEnum):
    """What there are schemas of."""

    PLAN = "plan"
    AGENT = "agent"


NAMED_AGENTS = 8
"""Agents that the summary of a plan names."""


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command("validate")(validate)
    app.command("graph")(graph)
    app.command("schema")(schema)


def validate(
    plan: PlanArgument,
    variables: SetOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Check a plan without running it.

    All that is wrong with it is told at once, with file, line and column; the exit code is 2 then. That a
    model can't be used here is no fault of the plan, and only noted.
    """
    from allready.agents.models import Models, choose_model
    from allready.cli.sources import read_plan
    from allready.engine.compile import compile_plan
    from allready.errors import PlanError

    given = variables_of(variables)
    models = Models(choose_model(load_settings().model))
    try:
        read, agents = read_plan(plan, given)
        compiled = compile_plan(read, agents, models=models, check_models=False)
    except PlanError as error:
        if not json:
            raise
        print_json({"valid": False, "problems": _problems(error)})
        return 2
    facts = _facts(compiled)
    notes = compiled.model_problems
    if json:
        print_json({"valid": True, "problems": [], "notes": notes, **facts})
    elif not (quiet or load_settings().quiet):
        from allready.cli.tables import say
        from allready.cli.text import clean

        for note in notes:
            print(f"note: to run it here, {clean(note)}", file=sys.stderr)
        say(_summary(facts))
    return 0


def _problems(error: PlanError) -> list[dict[str, Any]]:
    return [problem._asdict() for problem in error.problems]


def _facts(compiled: Compiled) -> dict[str, Any]:
    from allready.plan.draw import levels_of, plan_nodes
    from allready.plan.plan import DEFAULT_SLOTS

    plan = compiled.plan
    slots = plan.max_parallel or load_settings().max_parallel or DEFAULT_SLOTS
    return {
        "goal": plan.goal,
        "tasks": len(plan.tasks),
        "max_parallel": slots,
        "longest_chain": len(levels_of(plan_nodes(plan))[0]),
        "agents": dict(Counter(spec.agent for spec in compiled.specs if spec.agent is not None)),
        "approvals": sum(task.approval for task in plan.tasks.values()),
    }


def _summary(facts: dict[str, Any]) -> str:
    from allready.cli.tables import count
    from allready.cli.text import clean_line

    parts = [
        count(facts["tasks"], "task"),
        count(facts["max_parallel"], "slot"),
        f"longest chain {facts['longest_chain']:,}",
    ]
    agents = [f"{clean_line(name)} ({number:,})" for name, number in facts["agents"].items()]
    if len(agents) > NAMED_AGENTS:
        agents[NAMED_AGENTS:] = [f"{len(agents) - NAMED_AGENTS} more"]
    parts.append(f"agent{'s' * (len(agents) != 1)} {', '.join(agents)}")
    if facts["approvals"]:
        parts.append(f"{count(facts['approvals'], 'task')} to approve")
    return f"ok: {', '.join(parts)}"


# --- pictures ---------------------------------------------------------------------------------------------


def graph(
    plan: Annotated[
        str | None,
        typer.Argument(metavar="PLAN", help="A plan file, - for standard input, or package.module:plan."),
    ] = None,
    form: Annotated[Format, typer.Option("--format", "-f", help="Language of the picture.")] = Format.TEXT,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write to a file.")
    ] = None,
    run: Annotated[
        str | None,
        typer.Option("--run", metavar="RUN", help="Draw a run instead of a plan, with its tasks' states."),
    ] = None,
    variables: SetOption = None,
    store: StoreOption = None,
) -> None:
    """Draw a plan or a run.

    As text, for Mermaid, or for Graphviz (dot).
    """
    from allready.errors import UserError

    if (plan is None) is (run is None):
        raise UserError("say what to draw: allready graph PLAN, or allready graph --run RUN")
    if plan is not None:
        from allready.cli.sources import read_plan
        from allready.engine.compile import Compiled
        from allready.plan.draw import plan_nodes

        read, _ = read_plan(plan, variables_of(variables))
        read.link()
        if read.answer:
            Compiled(read).add_answer()
        picture = _draw(plan_nodes(read), form, to_file=output is not None)
    else:
        if variables:
            raise UserError("--set fills the variables of a plan; a run has its own")
        picture = _draw(_run_nodes(run or "", store), form, to_file=output is not None)
    if output is None:
        from allready.cli.tables import say

        say(picture)
        return
    try:
        output.write_text(picture + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{output}: can't be written: {error.strerror}") from None


def _run_nodes(run: str, store: str | None) -> list[Node]:
    from contextlib import closing

    from allready.plan.draw import Node

    with closing(open_settled_store(store)) as opened:
        run_id = opened.find_run(run)
        return [
            Node(task.id, task.title, task.spec.get("depends_on", ()), task.state)
            for task in opened.tasks(run_id)
        ]


def _draw(nodes: list[Node], form: Format, *, to_file: bool) -> str:
    from allready.cli.tables import screen_width
    from allready.plan.draw import draw_dot, draw_mermaid, draw_text

    if form is Format.MERMAID:
        return draw_mermaid(nodes)
    if form is Format.DOT:
        return draw_dot(nodes)
    if to_file:
        return draw_text(nodes, max_rows=max(len(nodes), 1))
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    return draw_text(nodes, ascii_only=not encoding.startswith("utf"), width=screen_width())


# --- schemas ----------------------------------------------------------------------------------------------


def schema(
    name: Annotated[SchemaName, typer.Argument(help="Of what.")] = SchemaName.PLAN,
) -> None:
    """Print the JSON Schema of plan files.

    Or of agents' settings; for editors and checkers.
    """
    import json

    from allready.cli.tables import say
    from allready.plan.models import plan_schema

    found = plan_schema()
    if name is SchemaName.AGENT:
        parts = found["$defs"]
        limits = {"LimitsFile": parts["LimitsFile"]}
        found = {
            "$schema": found["$schema"],
            "title": "allready agent",
            **parts["AgentSettings"],
            "$defs": limits,
        }
    say(json.dumps(found, indent=2, ensure_ascii=False))
