"""A fuzzer for what reads plans and agents, led by the code that an input reaches (atheris, libFuzzer).

`./dev poe fuzz` runs it until it finds something or is stopped; `-max_total_time=SECONDS` and all other
options of libFuzzer can follow. What it learns is kept in `.fuzz/`, and so is an input that breaks something:
`./dev poe fuzz .fuzz/crash-…` tries it again.

The first byte of an input says what the rest is: a plan (YAML, JSON, or either), an agent's file, a template.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

HERE = Path(__file__).parent
KEPT = Path(".fuzz")
OPTIONS = (f"-dict={HERE / 'loader.dict'}", "-timeout=20", "-rss_limit_mb=2048", "-max_len=4096")
"""Seconds for an input (a hang is found), and megabytes that it may fill."""

with atheris.instrument_imports(include=["allready"]):
    from allready.agents.definitions import _NotAnAgent, parse_agent
    from allready.agents.router import words_of
    from allready.errors import PermanentError, PlanError
    from allready.plan.commands import split_command, unsafe_in_shell
    from allready.plan.load import load_plan, plan_from_document
    from allready.plan.template import names_used, render


def check_places(error: PlanError) -> None:
    """Check that it is said where everything is wrong."""
    assert error.problems
    assert all(problem.line and problem.column for problem in error.problems), error.problems


def read_plan(data: bytes, file: str | None) -> None:
    """Load a plan; it must be one that can be loaded again, or every problem must have a place."""
    try:
        plan = load_plan(data, file=file, base_dir=HERE)
    except PlanError as error:
        check_places(error)
        return
    assert plan.document is not None
    assert plan_from_document(plan.document, file=file, base_dir=HERE).tasks == plan.tasks


def read_agent(data: bytes) -> None:
    """Read an agent's file as ours, and as one for Claude Code."""
    for ours in (True, False):
        try:
            agent, _ = parse_agent(
                data.decode("utf-8", "ignore"), file="x.md", stem="x", ours=ours, base_dir=HERE
            )
            words_of(agent.description, agent.instructions)
        except PlanError as error:
            check_places(error)
        except _NotAnAgent:
            return


def read_template(data: bytes) -> None:
    """Look through a template, and fill it."""
    text = data.decode("utf-8", "ignore")
    for read in (names_used, split_command, unsafe_in_shell):
        try:
            read(text)
        except ValueError:
            pass
    try:
        render(text, {"a": "x", "items": [1, {"k": "ü"}], "tasks": {}, "goal": "g", "run": {"id": "r"}})
    except PermanentError:
        pass


KINDS = (
    lambda data: read_plan(data, "x.yaml"),
    lambda data: read_plan(data, "x.json"),
    lambda data: read_plan(data, "<stdin>"),
    read_agent,
    read_template,
)


def try_one(data: bytes) -> None:
    """Try an input: nothing but the errors of a person may come of it."""
    if data:
        KINDS[data[0] % len(KINDS)](data[1:])


def main() -> None:
    given = sys.argv[1:]
    if all(argument.startswith("-") for argument in given):
        KEPT.mkdir(exist_ok=True)
        given += [f"-artifact_prefix={KEPT}/", str(KEPT), str(HERE / "seeds")]
    atheris.Setup([sys.argv[0], *OPTIONS, *given], try_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
