"""Plans from an enemy: they load, or `PlanError` says where they are wrong; nothing else, and in no time."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

from hypothesis import given, note
from hypothesis import strategies as st
from tests.fuzz import texts
from tests.fuzz.trying import RANDOMS, bounded, check_messages, check_problems, inputs, tried

from allready.agents.definitions import AgentDefinition
from allready.agents.models import Models
from allready.engine.compile import compile_plan
from allready.errors import PlanError
from allready.plan.draw import draw_dot, draw_mermaid, draw_text, plan_nodes
from allready.plan.dump import plan_to_yaml
from allready.plan.load import load_plan, plan_from_document
from allready.plan.plan import Plan

KNOWN = {"reviewer": AgentDefinition.from_settings("reviewer", {"description": "Reads code."})}
BASE = Path("/base")


def check(text: str | bytes, file: str) -> Plan | None:
    """Load a text; what comes of it must be whole, or said against with a place."""
    try:
        plan = load_plan(text, file=file, base_dir=BASE, known_agents=KNOWN)
    except PlanError as error:
        check_problems(error, text, file)
        tried["plans that were refused"] += 1
        return None
    tried["plans that were taken"] += 1
    return plan


def check_whole(plan: Plan) -> None:
    """Check that a plan can be stored, written, drawn and compiled."""
    assert plan.document is not None
    stored = json.loads(json.dumps(plan.document, allow_nan=False, ensure_ascii=False).encode())
    again = plan_from_document(stored, file=plan.source, base_dir=BASE)
    assert again.tasks == plan.tasks
    assert again.document == plan.document
    assert load_plan(plan_to_yaml(plan.document), base_dir=BASE).tasks == plan.tasks
    nodes = plan_nodes(plan)
    for draw in (draw_text, draw_mermaid, draw_dot):
        draw(nodes).encode()
    try:
        compile_plan(plan, KNOWN, models=Models(None), check_models=False)
    except PlanError as error:
        check_messages(error)


@inputs(4_000)
@given(RANDOMS, st.sampled_from(["x.yaml", "x.json", "<stdin>"]))
def test_plans_that_are_nearly_right(random: Random, file: str) -> None:
    text = texts.plan_text(random)
    note(repr(text))
    with bounded():
        plan = check(text, file)
        if plan is not None:
            check_whole(plan)


@inputs(3_000)
@given(RANDOMS, st.sampled_from(["x.yaml", "x.json"]))
def test_anything(random: Random, file: str) -> None:
    text = texts.raw_text(random)
    note(repr(text))
    with bounded():
        check(text, file)


@inputs(2_000)
@given(RANDOMS)
def test_values_that_never_were_text(random: Random) -> None:
    value = texts.plan_value(random) if random.random() < 0.8 else texts.value(random)
    note(repr(value))
    with bounded():
        try:
            plan = plan_from_document(value, base_dir=BASE)
        except PlanError as error:
            tried["plans that were refused"] += 1
            check_messages(error)
        else:
            tried["plans that were taken"] += 1
            check_whole(plan)


DECLARED = {"text": "x", "flag": True, "whole": 1, "number": 1.5, "items": [1], "map": {"a": 1}, "none": None}
SET = (
    st.text()
    | st.sampled_from(texts.ODD)
    | st.sampled_from(
        [
            *(
                "9" * 301,
                "-" + "9" * 5_000,
                "1_0",
                "\u0663",
                " 7 ",
                "1e999",
                "nan",
                "inf",
                "-Infinity",
                "1e-400",
            ),
            *(
                "[" * 200 + "]" * 200,
                "[" * 10_000,
                '["\\ud800"]',
                '["\\u0000"]',
                "[1e999]",
                '{"a": 1, "a": 2}',
            ),
            *(
                "[NaN]",
                "[" + "9" * 400 + "]",
                "\udcff",
                "a\0b",
                "TRUE",
                "tRuE",
                "\ufeff[1]",
                "[1]x",
                "{}",
                "null",
            ),
        ]
    )
    | st.recursive(st.none() | st.text() | st.floats(), lambda inner: st.lists(inner, max_size=3)).map(
        json.dumps
    )
)


@inputs(1_000)
@given(st.dictionaries(st.sampled_from([*DECLARED, "other", "x" * 5_000, "", "\ud800"]), SET, max_size=3))
def test_variables_that_are_set(given_values: dict[str, str]) -> None:
    document = {"vars": DECLARED, "tasks": [{"id": "a", "run": "echo {{ text }} {{ map.a }}"}]}
    with bounded():
        tried["sets of variables"] += 1
        try:
            plan = load_plan(json.dumps(document), variables=given_values, base_dir=BASE)
        except PlanError as error:
            check_messages(error)
            return
        for name, value in DECLARED.items():
            if value is not None:
                assert type(plan.vars[name]) is type(value)
        check_whole(plan)
