"""Templates from an enemy, filled with values from another one: text, or a task that fails; never more."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import given, note
from hypothesis import strategies as st
from tests.fuzz import texts
from tests.fuzz.trying import RANDOMS, bounded, inputs, tried

from allready.agents.base import Dependency, TaskResult
from allready.errors import PermanentError
from allready.plan import template_work
from allready.plan.commands import split_command, unsafe_in_shell
from allready.plan.template import MAX_RENDERED, literal, names_used, render, template_scope

NAMES = (
    "a",
    "b",
    "goal",
    "run",
    "tasks",
    "path",
    "deep",
    "none",
    "number",
    "range",
    "dict",
    "namespace",
    "cycler",
)
ATOMS = (
    *NAMES,
    *(
        "'x'",
        "''",
        "'ä☃\\n'",
        "'%s%99d'",
        "'\\ud800'",
        "'\\x00'",
        "'__class__'",
        "0",
        "1",
        "-1",
        "7",
        "99999",
    ),
    *("10 ** 9", "1.5", "1e308", "true", "none", "[]", "[1, 2]", "{}", "{'k': 1}", "(1, 2)", "loop", "self"),
)
FILTERS = (
    *(
        "abs",
        "attr('x')",
        "attr('__class__')",
        "batch(3)",
        "capitalize",
        "center(99)",
        "center(99999)",
        "default(1)",
    ),
    *("dictsort", "escape", "filesizeformat", "first", "float", "format(1)", "format('x')", "groupby('k')"),
    *(
        "indent(9)",
        "int",
        "int(base=16)",
        "items",
        "join('x')",
        "join(b.output)",
        "last",
        "length",
        "list",
        "lower",
    ),
    *("map('upper')", "map(attribute='k')", "map('center', 999)", "max", "min", "pprint", "random", "reject"),
    *(
        "replace('x', 'yyyy')",
        "replace('', b.output)",
        "reverse",
        "round(3)",
        "select",
        "slice(3)",
        "sort",
        "string",
    ),
    *(
        "striptags",
        "sum",
        "sum(start=[])",
        "sum(attribute='k')",
        "title",
        "tojson",
        "tojson(9)",
        "trim",
        "truncate(5)",
    ),
    *(
        "unique",
        "upper",
        "urlencode",
        "urlize",
        "wordcount",
        "wordwrap(3)",
        "xmlattr",
        "raw",
        "nosuch",
        "map('map')",
    ),
)
METHODS = (
    *(
        "upper()",
        "replace('x', 'yy')",
        "join(b.data)",
        "split()",
        "format(1)",
        "encode()",
        "items()",
        "append(1)",
    ),
    *(
        "__class__",
        "__init__.__globals__",
        "mro()",
        "to_bytes(9, 'big')",
        "format_map({})",
        "translate({})",
        "k",
    ),
    *(
        "output",
        "data",
        "status",
        "copy()",
        "strip('x')",
        "count('x')",
        "pop()",
        "gi_frame",
        "f_globals",
        "keys()",
    ),
)
OPERATORS = ("+", "-", "*", "/", "//", "%", "**", "~", "and", "or", "==", "<", "in", "not in", "is", ",")
FORMS = (
    *("({0} {o} {1})",) * 4,
    *("({0}|{f})",) * 5,
    *("{0}.{m}",) * 3,
    *("{0}[{1}]", "{0}[{1}:{2}]", "{0}({1})", "[{0}, {1}]", "{{{0}: {1}}}", "({0} if {1} else {2})"),
)
STATEMENTS = (
    "%s%s",
    "{% for x in @ %}%s{% endfor %}",
    "{% for x in @ %}%s{{ loop.length }}{{ loop.index }}{% endfor %}",
    "{% for x in @ if @ recursive %}{{ loop(x) }}%s{% endfor %}",
    "{% if @ %}%s{% endif %}",
    "{% set x = @ %}%s",
    "{% set x %}%s{% endset %}{{ x ~ x }}",
    "{% macro f(x) %}%s{% endmacro %}{{ f(@) }}",
    "{% filter ! %}%s{% endfilter %}",
    "{% set n = namespace(x=@) %}{% for i in range(40) %}{% set n.x = n.x ~ n.x %}%s{% endfor %}",
    "{% set n = namespace(x=@) %}{% for i in [1] * 40 %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x == 1 }}",
    "{% block b %}%s{{ self.b() }}{% endblock %}",
    "{% call(x) f() %}%s{% endcall %}",
    "{% with a = @ %}%s{% endwith %}",
    "{% include @ %}",
)


def expression(random: Random, depth: int = 4) -> str:
    """Give an expression that Jinja2 can read."""
    if depth == 0 or random.random() < 0.2:
        return random.choice(ATOMS)
    parts = (expression(random, depth - 1), *(expression(random, random.randrange(depth)) for _ in "ab"))
    chosen = {"o": random.choice(OPERATORS), "f": random.choice(FILTERS), "m": random.choice(METHODS)}
    return random.choice(FORMS).format(*parts, **chosen)


def statement(random: Random, depth: int = 3) -> str:
    """Give a template with loops and the like."""
    if depth == 0 or random.random() < 0.2:
        return texts.template(random) if random.random() < 0.1 else f"{{{{ {expression(random)} }}}}"
    text = random.choice(STATEMENTS)
    while "@" in text:
        text = text.replace("@", expression(random, 2), 1)
    text = text.replace("!", random.choice(FILTERS), 1)
    while "%s" in text:
        text = text.replace("%s", statement(random, depth - 1), 1)
    return text


def scope(random: Random) -> dict[str, Any]:
    """Give what a template sees."""
    mine = TaskResult(texts.odd_text(random), texts.value(random))
    long = TaskResult("x" * 60_000, ["x" * 999] * 99)
    return template_scope(
        goal=texts.odd_text(random),
        variables={"path": texts.value(random), "deep": _deep(60), "none": None, "number": 2**62},
        dependencies={
            "a": Dependency("a", "completed", None, mine),
            "b": Dependency("b", "completed", "B", long),
        },
        run_id="r",
        run_folder="/runs/r",
    )


def _deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value, value]
    return value


LITTLE_WORK = 1024 * 1024
SECRETS = re.compile(r"<(class|module|function|bound method|built-in|code|frame|slot wrapper)|mappingproxy")
"""What would show that a template has got at the inside of Python."""


@pytest.fixture(autouse=True, scope="module")
def _little_work() -> Iterator[None]:
    """Let a template take little, so that many can be tried; `test_heavy.py` tries the usual bound."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(template_work, "MAX_WORK", LITTLE_WORK)
        yield


@inputs(3_000)
@given(RANDOMS, st.booleans())
def test_templates_are_filled_or_fail(random: Random, shell: bool) -> None:
    text, seen = statement(random), scope(random)
    note(text)
    with bounded():
        tried["templates"] += 1
        for read in (names_used, split_command, unsafe_in_shell):
            try:
                read(text)
            except ValueError as error:
                assert len(str(error)) < 400  # noqa: PT017 - it may also be none
        try:
            filled = render(text, seen, shell=shell)
        except PermanentError as error:
            assert "template" in str(error)  # noqa: PT017
            return
        assert len(filled) <= MAX_RENDERED
        filled.encode()
        assert "\0" not in filled


ESCAPES = st.builds(
    "{{{{ {}{}{} }}}}".format,
    st.sampled_from(
        ["''", "[]", "{}", "a", "b.data", "goal", "run", "tasks", "range", "dict", "self", "loop", "1"]
    ),
    st.sampled_from(
        ["", ".__class__", "|attr('__class__')", "['__class__']", "|map(attribute='__class__')|list"]
    ),
    st.lists(
        st.sampled_from(
            [
                *(
                    ".__mro__",
                    "[0]",
                    "[1]",
                    ".__subclasses__()",
                    ".__init__",
                    ".__globals__",
                    "['os']",
                    ".__dict__",
                ),
                *(
                    "|attr('__base__')",
                    "|attr('__subclasses__')()",
                    ".__func__",
                    ".__code__",
                    ".co_code",
                    ".gi_frame",
                ),
                *("|map('attr', '__class__')|list", "|first", ".environment", "._TemplateReference__context"),
                *(
                    ".format",
                    ".format(a)",
                    "|attr('format')(a)",
                    ".__call__",
                    ".cr_frame",
                    ".__self__",
                    ".__module__",
                ),
            ]
        ),
        min_size=1,
        max_size=5,
    ).map("".join),
)


@inputs(1_000)
@given(ESCAPES)
def test_no_way_out_of_the_sandbox(text: str) -> None:
    seen = template_scope(
        goal="{0.__class__}",
        variables={},
        dependencies={"a": Dependency("a", "completed", None, TaskResult("text", [1]))},
        run_id="r",
        run_folder="/r",
    )
    with bounded():
        tried["ways out of the sandbox"] += 1
        try:
            filled = render(text, seen)
        except PermanentError:
            return
        allowed = ("<built-in method format", "&lt;")  # the name of a method, which can't be called
        if not any(part in filled for part in allowed) and "TemplateReference" not in filled:
            assert not SECRETS.search(filled), filled


@inputs(300)
@given(st.text(max_size=200))
def test_any_text_can_be_written_as_a_template(text: str) -> None:
    tried["texts as templates"] += 1
    clean = text.replace("\0", "")
    assert render(literal(clean), {}) == clean


@inputs(25)
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60))
def test_values_reach_a_shell_as_they_are(value: str) -> None:
    tried["values for a shell"] += 1
    command = render("printf %s. {{ value }}", {"value": value}, shell=True)
    done = subprocess.run(["sh", "-c", command], capture_output=True, check=True, timeout=60)
    assert done.stdout.decode() == f"{value}."
