"""Templates: splitting of commands, names, filling, and what the sandbox refuses."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allready.errors import PermanentError
from allready.plan.commands import split_command, unsafe_in_shell
from allready.plan.template import names_used, render, template_scope


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("ruff check {{ path }}", ("ruff", "check", "{{ path }}")),
        ("a {{ 'x y' }}b 'c d'", ("a", "{{ 'x y' }}b", "c d")),
        ('echo "to {{ name }}"', ("echo", "to {{ name }}")),
        ("echo {{ '}} \\' {{' }} x", ("echo", "{{ '}} \\' {{' }}", "x")),
        ("{{ {'a': {'b': 1}}['a'] }}", ("{{ {'a': {'b': 1}}['a'] }}",)),
        ("a{% if x == 'y z' %}b{% endif %}", ("a{% if x == 'y z' %}b{% endif %}",)),
        ("a {% raw %}{{ ' x {% endraw %}b", ("a", "{% raw %}{{ ' x {% endraw %}b")),
        ("a # b | c > d", ("a", "#", "b", "|", "c", ">", "d")),
        ("", ()),
    ],
)
def test_split(command: str, arguments: tuple[str, ...]) -> None:
    assert split_command(command) == arguments


@pytest.mark.parametrize(
    "command", ["a 'b", 'a "b', "a \\", "{{ a", "{% if", "{{ '}} ", "{% raw %} {{ x }}", "\0'"]
)
def test_split_refuses(command: str) -> None:
    with pytest.raises(ValueError, match=r"closed|backslash|NUL"):
        split_command(command)


@given(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])).filter(lambda t: "{" not in t)
)
def test_without_templates_it_splits_as_shlex(text: str) -> None:
    try:
        expected = tuple(shlex.split(text))
    except ValueError:
        with pytest.raises(ValueError, match="command"):
            split_command(text)
    else:
        assert split_command(text) == expected


@given(st.lists(st.text(st.characters(exclude_characters="\0{", exclude_categories=["Cs"])), min_size=1))
def test_quoted_arguments_and_templates_come_back(texts: list[str]) -> None:
    command = " ".join(f"{shlex.quote(text)}{{{{ x['a b'] }}}}" for text in texts)
    assert split_command(command) == tuple(text + "{{ x['a b'] }}" for text in texts)


@settings(deadline=None)  # the first one imports Jinja2
@given(st.text("{}%'\"\\ abraw-#\n", max_size=40))
def test_hostile_texts_are_refused_with_value_errors_only(text: str) -> None:
    for read in (split_command, names_used, unsafe_in_shell):
        try:
            read(text)
        except ValueError:
            pass
    try:
        render(text, {"a": 1})
    except PermanentError:
        pass


def test_names() -> None:
    used = names_used("{{ a.output }} {{ tasks['x-1'].data }} {{ tasks.y.status }} {{ b }}")
    assert used.names == {"a", "b", "tasks"}
    assert used.tasks == {"x-1", "y"}
    assert used.fields == {("a", "output"), ("x-1", "data"), ("y", "status")}


def test_names_of_a_template_with_its_own_variables() -> None:
    used = names_used(
        "{% for item in a.data %}{{ item.x }}{{ loop.index }}{% endfor %}{% set c = b %}{{ c }}"
        "{{ range(3) }}{{ tasks['x-1'].data['deep'] }}{# {{ no }} #}"
    )
    assert used.names == {"a", "b", "tasks", "no"}, "there is no comment syntax"
    assert used.tasks == {"x-1"}
    assert used.fields == {("a", "data"), ("x-1", "data")}


@pytest.mark.parametrize(
    "text", ["{{ a b }}", "{% include 'x' %}", "{{ " + "(" * 5000 + "a" + ")" * 5000 + " }}", "{{"]
)
def test_names_refuses(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        names_used(text)


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("plain {# text #}\n", "plain {# text #}\n"),
        ("{{ a }}{# text #}\n", "it's{# text #}\n"),
        ("{{ n }} {{ yes }} {{ none }}.", "3 true ."),
        ("{{ items }} {{ items | length }}", '[1, {"k": "ü"}] 2'),
        ("{% for i in items %}{{ loop.index }}{% endfor %}", "12"),
        ("{{ inner }}", "{{ a }}"),
        ('{{ "%.2f" | format(1.234) }} {{ 5000000 | string | center(11) }}', "1.23   5000000  "),
    ],
)
def test_render(text: str, filled: str) -> None:
    scope = {"a": "it's", "n": 3, "yes": True, "none": None, "items": [1, {"k": "ü"}], "inner": "{{ a }}"}
    assert render(text, scope) == filled


DOUBLING = "{% set n = namespace(x=[]) %}{% for i in range(99) %}{% set n.x = [n.x, n.x] %}{% endfor %}"


@pytest.mark.parametrize(
    "text",
    [
        "{{ missing }}",
        "{{ a.missing }}",
        "{{ a.__class__ }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ items.append(1) }}",
        "{{ 'x' * 10**9 }}",
        "{{ 999999999 * 'x' }}",
        "{{ [0] * 10**9 }}",
        "{{ 2 ** 999999 }}",
        "{{ range(10 ** 8) | list }}",
        "{{ 'x' | center(10 ** 7) }}",
        "{{ 'x'.ljust(10 ** 7) }}",
        "{{ '%9999999d' % 1 }}",
        "{{ '%9999999d' | format(1) }}",
        "{{ '{:9999999}'.format(1) }}",
        "{% for i in range(99999) %}{{ 'x' * 1000 }}{% endfor %}",
        "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
        "{{ 1 // 0 }}",
        "{{ 'x'.encode() }}",
        "{{ (1).to_bytes(9, 'big') }}",
        "{{ a.translate({120: 'y'}) }}",
        "{{ ('x' * 99999)|replace('x', 'y' * 9999) }}",
        "{{ ('x' * 99999).replace('', 'y' * 9999) }}",
        "{{ (['x'] * 99999)|join('y' * 9999) }}",
        "{{ ('y' * 9999).join(['x'] * 99999) }}",
        "{{ ('%s' * 9999)|format(*(['x' * 9999] * 9999)) }}",
        "{{ range(9999)|map('center', 99999)|list|length }}",
        "{% set n = namespace(x='a') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
        DOUBLING + "{{ n.x == [] }}",
        DOUBLING + "{{ n.x is eq([]) }}",
        DOUBLING + "{{ n }}",
        DOUBLING + "{{ n.x|replace('a', 'b') }}",
        "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
        "{% for a in range(99999) recursive %}{{ loop(range(99999)) }}{% endfor %}",
        "{{ '\\ud800' }}",
        "{{ '\\x00' }}",
        "{{ a",
    ],
)
def test_render_refuses(text: str) -> None:
    with pytest.raises(PermanentError, match="template"):
        render(text, {"a": "x", "items": [1]})


def test_what_counts_changes_nothing() -> None:
    """Loops, comparisons and the like are wrapped to count what they take."""
    text = (
        "{% for x in items if x > 1 %}{{ loop.index }}/{{ loop.length }}{{ ',' if not loop.last }}"
        "{% endfor %} "
        "{{ items|select('odd')|list }} {{ 'a' ~ 1 ~ none }} {{ {1: 'x'}[1] }} {{ 'abcd'[1:3] }} "
        "{{ items|sum }} {{ [[1], [2]]|sum(start=[]) }} {{ 2 is eq 2 }} {{ 'b' in 'abc' }} "
        "{{ items|join('-') }} "
        "{% for x in tree recursive %}<{{ x if x is number else loop(x) }}>{% endfor %} "
        "{% set text %}long{{ items|length }}{% endset %}{{ text|upper|center(9) }}|"
        "{{ '%s %05.1f' % ('a', 1) }}"
    )
    assert render(text, {"items": [1, 2, 3], "tree": [1, [2, [3]]]}) == (
        "1/2,2/2 [1, 3] a1None x bc 6 [1, 2] true true 1-2-3 <1><<2><<3>>>   LONG3  |a 001.0"
    )


@pytest.mark.parametrize("value", ["it's; $(touch x) `y` \\ \" \n", "", "-n", "*", "ü ☃"])
def test_values_reach_a_shell_as_they_are(value: str) -> None:
    command = render("printf %s {{ value }}", {"value": value}, shell=True)
    assert subprocess.run(["sh", "-c", command], capture_output=True, check=True).stdout.decode() == value


def test_raw_values_are_not_quoted_for_a_shell() -> None:
    assert render("echo {{ value | raw }} {{ value }}", {"value": "a b"}, shell=True) == "echo a b 'a b'"


@pytest.mark.parametrize(
    "text",
    [
        'echo "{{ a }}"',
        "echo '{{ a }}'",
        "echo `echo {{ a }}`",
        "cat <<END\n{{ a }}\nEND",
        "echo \\{{ a }}",
        'echo "$(cat {{ a }})"',
        "# {{ a }}",
    ],
)
def test_values_within_quotes_of_a_shell_are_refused(text: str) -> None:
    assert unsafe_in_shell(text) == "{{ a }}"
    with pytest.raises(PermanentError, match="take the quotes"):
        render(text, {"a": "x"}, shell=True)


@pytest.mark.parametrize(
    "text",
    [
        "echo 'x' {{ a }}",
        "# don't\necho {{ a }}",
        "echo don\\'t {{ a }}",
        'echo "{{ a | raw }}"',
        "x{{ a }}'q'",
    ],
)
def test_values_outside_quotes_are_fine(text: str) -> None:
    assert unsafe_in_shell(text) is None


@dataclass
class Result:
    output: str = "text"
    data: Any = None
    output_file: Path | None = None
    exit_code: int | None = 0


@dataclass
class Dependency:
    id: str
    status: str = "completed"
    title: str | None = None
    error: str | None = None
    result: Result | None = None


def test_scope() -> None:
    scope = template_scope(
        goal="g",
        variables={"path": "."},
        dependencies={
            "lint": Dependency("lint", result=Result("o", {"n": [1]}, Path("/x/out.txt"), 1)),
            "fetch-7": Dependency("fetch-7", "failed", "Fetch", "no net", Result("partial", exit_code=2)),
            "late": Dependency("late", "skipped"),
        },
        run_id="r1",
        run_folder=Path("/runs/r1"),
    )
    text = (
        "{{ goal }} {{ path }} {{ run.id }} {{ run.folder }} {{ lint.output }} {{ lint.data.n[0] }} "
        "{{ lint.output_file }} {{ lint.exit_code }} {{ tasks['fetch-7'].output }}|"
        "{{ tasks['fetch-7'].error }} "
        "{{ tasks['fetch-7'].title }} {{ tasks['fetch-7'].exit_code }} {{ late.status }} {{ late.output }}|"
    )
    assert render(text, scope) == "g . r1 /runs/r1 o 1 /x/out.txt 1 |no net Fetch 2 skipped |"
