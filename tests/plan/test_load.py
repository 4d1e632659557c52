"""Plans from text: what they become, and that nothing but `PlanError` comes of bad ones."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from allready.core.states import FailureStrategy, RunIf
from allready.errors import PlanError
from allready.plan import yaml_positions
from allready.plan.checks import describe_cycle, find_cycles, not_before, topological_order
from allready.plan.dump import plan_to_yaml
from allready.plan.load import load_plan, load_plan_file, plan_from_document
from allready.plan.models import plan_schema
from allready.plan.plan import Command, Plan, Prompt

HEALTH = """
goal: How healthy is this repository?
max_parallel: 4
vars: {path: ., depth: 3}
defaults: {timeout: 5m, max_retries: 1, env: {A: "1", B: "2"}, cwd: sub}
resources: {browser: 2}
limits: {max_tokens: 1000, max_cost: 2}
timeout: 1h30m
agents:
  reviewer: {description: Reads code, tools: "Read, Grep"}
tasks:
  - id: lint
    run: ruff check --output-format json {{ path }}   # split as a shell would
    success_codes: [0, 1]
    failure_strategy: skip
    env: {B: 3.10, C: yes}
  - id: tests
    run: [python, -m, pytest, 007, +5, true]
    resources: [browser]
    max_retries: 0
  - id: review
    agent: reviewer
    prompt: |
      Review {{ lint.output }} and say
      what matters.
    depends_on: [lint, lint]
  - id: report
    prompt: Sum up {{ lint.status }}
    depends_on: [tests, review]
    run_if: all_done
    priority: -1
    estimate: 90s
"""


def load(text: str | bytes, **options: Any) -> Plan:
    return load_plan(text, file="plan.yaml", base_dir=Path("/base"), **options)


def messages(text: str | bytes, **options: Any) -> list[str]:
    with pytest.raises(PlanError) as caught:
        load(text, **options)
    return [str(problem) for problem in caught.value.problems]


def test_a_whole_plan() -> None:
    plan = load(HEALTH)
    assert (plan.goal, plan.max_parallel, plan.timeout) == ("How healthy is this repository?", 4, 5400)
    assert (plan.limits.max_tokens, plan.limits.max_cost, plan.limits.max_requests) == (1000, 2, None)
    assert plan.resources == {"browser": 2}
    assert list(plan.agents) == ["reviewer"]
    assert (plan.base_dir, plan.source) == (Path("/base"), "plan.yaml")
    lint, tests, review, report = plan.tasks.values()
    assert lint.body == Command(
        ("ruff", "check", "--output-format", "json", "{{ path }}"),
        cwd="sub",
        env={"A": "1", "B": "3.10", "C": "yes"},
        success_codes=(0, 1),
    )
    assert (lint.failure_strategy, lint.max_retries, lint.timeout) == (FailureStrategy.SKIP, 1, 300)
    assert isinstance(tests.body, Command)
    assert tests.body.argv == ("python", "-m", "pytest", "007", "+5", "true"), "arguments stay as written"
    assert (tests.resources, tests.max_retries) == ({"browser": 1}, 0)
    assert review.body == Prompt("Review {{ lint.output }} and say\nwhat matters.\n", "reviewer")
    assert review.depends_on == ("lint",)
    assert (report.run_if, report.priority, report.estimate) == (RunIf.ALL_DONE, -1, 90)


def test_the_stored_plan_is_the_same_without_the_file() -> None:
    plan = load(HEALTH, variables={"path": "src", "depth": "7"})
    assert plan.vars == {"path": "src", "depth": 7}, "a value that is set takes the kind of its default"
    stored = json.loads(json.dumps(plan.document))
    assert plan_from_document(stored, file="plan.yaml", base_dir=Path("/base")) == plan


def test_yaml_that_is_written_loads_to_the_same_plan() -> None:
    plan = load(HEALTH)
    assert plan.document is not None
    assert load(plan_to_yaml(plan.document)) == plan


JSON_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


FLOATS = st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.one_of(JSON_TEXT, st.integers(-9, 9), FLOATS, st.booleans(), st.lists(JSON_TEXT))


@given(st.dictionaries(st.from_regex(r"v_[a-z]{1,5}", fullmatch=True), VALUES))
def test_any_variables_survive_yaml(values: dict[str, Any]) -> None:
    document = {"vars": values, "tasks": [{"id": "0o17", "prompt": "1e3"}]}
    plan = plan_from_document(document)
    again = load_plan(plan_to_yaml(document))
    assert again.vars == values
    assert again.tasks == plan.tasks


def test_json_and_files_and_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = json.dumps({"goal": "😀", "tasks": [{"id": "a", "run": ["echo", 1, True], "env": {"X": 1.5}}]})
    file = tmp_path / "plan.json"
    file.write_text("\ufeff" + text, encoding="utf-8")
    plan = load_plan_file(file)
    assert plan.tasks["a"].body == Command(("echo", "1", "true"), env={"X": "1.5"})
    assert load_plan(file).tasks == plan.tasks
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    piped = load_plan_file("-")
    assert (piped.source, piped.goal) == ("<stdin>", "😀")


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"none\.yaml: can't be read: No such file"):
        load_plan_file(tmp_path / "none.yaml")


def test_merge_keys_and_aliases() -> None:
    plan = load(
        "vars: {n: &n 3}\ndefaults: &base {max_retries: *n}\ntasks:\n"
        "  - &a {id: a, run: echo, <<: *base}\n  - {<<: [*a, {priority: 2}], id: b}\n"
    )
    assert [(task.max_retries, task.priority) for task in plan.tasks.values()] == [(3, 0), (3, 2)]


def test_without_known_agents_any_name_is_taken() -> None:
    text = "tasks: [{id: a, prompt: x, agent: nobody}]"
    assert load(text).tasks["a"].body == Prompt("x", "nobody")
    assert messages(text, known_agents=[]) == [
        "plan.yaml:1:35: unknown agent 'nobody': define it in .allready/agents/, or here under agents"
    ]


def test_problems_of_a_stored_plan_name_the_task() -> None:
    with pytest.raises(PlanError) as caught:
        plan_from_document({"tasks": [{"id": "a", "run": "echo", "max_retries": -1}, {"run": "echo"}]})
    assert [str(problem) for problem in caught.value.problems] == [
        "task 'a': max_retries must be at least 0, not -1",
        "task 2: the key id is missing",
    ]


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["id", "run", "prompt", "depends_on", "env", "a", "resources", "timeout", "kind"]
            ),
            inner,
        )
    ),
    max_leaves=12,
)
PLANS = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ("goal", "tasks", "vars", "defaults", "agents", "limits", "resources", "timeout"), PLAIN
    ),
)


@given(PLAIN | PLANS | st.builds(lambda task: {"tasks": [task]}, PLAIN))
def test_any_values_load_or_raise_plan_errors(value: Any) -> None:
    for read in (plan_from_document, lambda value: load_plan(json.dumps(value), file="x.json")):
        with contextlib.suppress(PlanError):
            read(value)


@given(st.text() | st.binary() | st.text("{}[]:-#&*!|>'\"%@`<,? \n\tab1~.", max_size=60))
def test_any_text_loads_or_raises_plan_errors(text: str | bytes) -> None:
    for file in ("x.yaml", "x.json"):
        with pytest.raises(PlanError):
            load_plan(text, file=file)


def test_the_schema_describes_every_key() -> None:
    schema = plan_schema()
    assert schema["$schema"].startswith("https://json-schema.org/")
    models = [schema, *schema["$defs"].values()]
    for model in models:
        assert model["additionalProperties"] is False
        for name, key in model["properties"].items():
            assert key.get("description"), name
    assert "null" not in json.dumps(schema)


def test_cycles_in_long_chains_are_found_without_recursion() -> None:
    count = 100_000
    chain = [[index - 1] if index else [] for index in range(count)]
    assert find_cycles(chain) == []
    assert not_before(chain, [(count - 1, 0), (0, count - 1)]) == {(0, count - 1)}
    chain[0] = [count - 1]
    (cycle,) = find_cycles(chain)
    assert len(cycle) == count
    assert describe_cycle([str(index) for index in cycle]).startswith(
        "0 → 99999 → 99998 → 99997 → (99,993 more)"
    )


@given(st.lists(st.sets(st.integers(0, 7)), min_size=8, max_size=8))
def test_cycles_order_and_reach_agree(graph: list[set[int]]) -> None:
    dependencies = [sorted(needed) for needed in graph]
    cycles = find_cycles(dependencies)
    for cycle in cycles:
        assert all(after in graph[before] for before, after in zip(cycle, cycle[1:] + cycle[:1], strict=True))
    order = topological_order(dependencies)
    assert bool(cycles) == (len(order) < len(graph))
    if not cycles:
        reach: list[set[int]] = [set() for _ in graph]
        for task in order:
            reach[task] = set().union(*({needed} | reach[needed] for needed in graph[task]))
        pairs = {(task, other) for task in range(8) for other in range(8)}
        assert not_before(dependencies, pairs) == {pair for pair in pairs if pair[1] not in reach[pair[0]]}


def test_five_thousand_tasks_are_checked_quickly() -> None:
    lines = ["tasks:", "  - {id: t0, run: echo}"]
    for index in range(1, 5_000):
        lines.append(f"  - id: t{index}\n    run: echo '{{{{ t{index - 1}.output }}}}' {{{{ t0.output }}}}")
        lines.append(f"    depends_on: [t{index - 1}]\n    timeout: 5m")
    started = time.process_time()
    assert len(load("\n".join(lines)).tasks) == 5_000
    assert time.process_time() - started < 3, "it takes about a third of a second; this is for slow machines"


def test_reading_a_plan_brings_no_more_than_it_needs() -> None:
    code = (
        "import sys, allready, allready.plan.plan, allready.plan.load as load\n"
        "heavy = {'pydantic', 'jinja2', 'sqlalchemy', 'typer'}\n"
        "text = 'tasks: [{id: a, run: echo}, {id: b, depends_on: [a], prompt: \"{{ a.output }}\"}]'\n"
        "load.load_plan(text)\n"
        "assert heavy & set(sys.modules) == {'pydantic'}, heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_parser_in_python_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = load(HEALTH)
    monkeypatch.setattr(yaml_positions, "_Parser", yaml.Loader)
    assert load(HEALTH) == plan
    assert messages("tasks: [{id: a, run: echo, id: b}]") == [
        "plan.yaml:1:28: the key 'id' is there twice: remove one"
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *[("whole", text) for text in ("9" * 301, "-" + "9" * 5_000, "1_0", "\u0663", "1.0", "")],
        *[("number", text) for text in ("1e999", "nan", "-inf", "1_0", "\u0663")],
        *[("items", text) for text in ("[1e999]", "[NaN]", '["\\ud800"]', '["\\u0000"]', "[" * 99_999, "{}")],
        *[("items", text) for text in ("[" * 65 + "]" * 65, '[{"a": 1, "a": 2}]', f"[{'9' * 400}]", "")],
        *[("text", text) for text in ("a\0b", "\udcff")],
    ],
)
def test_variables_that_could_not_be_stored_are_refused(name: str, text: str) -> None:
    """A plan is stored with what was set, and must load again."""
    plan = "vars: {whole: 1, number: 1.5, items: [1], text: a}\ntasks: [{id: a, run: echo}]"
    (message,) = messages(plan, variables={name: text})
    assert message.startswith(f"plan.yaml: --set {name}: {name} must be ")
    assert len(message) < 200


def test_what_has_no_end_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("load", "document"):
        monkeypatch.setattr(f"allready.plan.{module}.MAX_BYTES", 1024 * 1024)
    with pytest.raises(PlanError, match="/dev/zero: larger than 1 MiB"):
        load_plan_file("/dev/zero")


def test_numbers_below_run_and_env_are_written_as_they_are_read() -> None:
    document = {"tasks": [{"id": "a", "run": ["x", 1e-300, True], "env": {"A": 1e300, "B": False}}]}
    assert load_plan(plan_to_yaml(document)).tasks == plan_from_document(document).tasks
