"""Inputs that once took hours or gigabytes; as a program it tries a group of them and tells what came."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

from allready.agents.definitions import parse_agent
from allready.agents.router import words_of
from allready.errors import PermanentError, PlanError
from allready.plan.commands import split_command
from allready.plan.load import load_plan
from allready.plan.template import names_used, render

TASK = "tasks: [{id: a, run: echo}]\n"


def _plan(*parts: str) -> object:
    return load_plan("".join(parts))


def _stored(*parts: str) -> str:
    return json.dumps(load_plan("".join(parts)).document)


def _deep(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value, value]
    return value


PLANS: dict[str, Callable[[], object]] = {
    "an argument in quotes": lambda: split_command("'" + "x" * 4_000_000 + "'"),
    "a command of quotes": lambda: split_command("'x'\"y\" " * 200_000),
    "braces without an end": lambda: words_of("{{" * 400_000 + "{%" * 400_000),
    "text in aliases": lambda: _stored(
        "vars: {x: &x {t: '", "y" * 100_000, "'}, y: [", "*x," * 300_000, "]}\n", TASK
    ),
    "a long string in wrong JSON": lambda: load_plan(
        '{"goal": 1, "vars": {"x": "' + "y" * 8_000_000 + '"}}', file="x.json"
    ),
    "wrong names in many tasks": lambda: _plan(
        "tasks:\n",
        *(f"- {{id: t-{n}, prompt: '{{{{ tpo }}}}', depends_on: [x{n}]}}\n" for n in range(20_000)),
    ),
    "many dependencies": lambda: _plan(
        "tasks:\n",
        *(f"- {{id: t{n}, run: x}}\n" for n in range(3_000)),
        "- {id: all, depends_on: [" + ", ".join(f"t{n}" for n in range(3_000)) + "], prompt: '",
        *(f"{{{{ t{n}.output }}}}" for n in range(3_000)),
        "'}\n",
    ),
    "deep expressions": lambda: names_used(("{{ a" + ".b" * 300 + "|upper }}") * 90),
    "many statements": lambda: names_used("{% if a %}{% set b = a %}{% endif %}" * 1_500),
    "an agent's colons": lambda: parse_agent(
        "---\ndescription: " + "x: " * 300_000 + "\n---\n", stem="x", ours=False
    ),
}
LOOPS = {
    "text that doubles": (
        "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}"
    ),
    "lists that double": (
        "{% set n = namespace(x=[1], y=[1]) %}{% for i in range(60) %}"
        "{% set n.x = [n.x, n.x] %}{% set n.y = [n.y, n.y] %}{% endfor %}{{ n.x == n.y }}"
    ),
    "a hash that doubles": (
        "{% set n = namespace(x=(1,)) %}{% for i in range(60) %}{% set n.x = (n.x, n.x) %}{% endfor %}"
        "{{ {n.x: 1} }}"
    ),
    "a value that holds itself often": "{{ deep }}",
    "views of what doubles": "{{ {'a': deep}.items() }}",
    "a namespace of what doubles": "{% set n = namespace(x=deep) %}{{ n }}",
    "a test of what doubles": "{% if deep is eq(other) %}{% endif %}",
    "tests in a filter": "{{ [deep]|select('eq', other)|list|length }}",
    "replacing in what doubles": "{{ deep|replace('1', '2')|length }}",
    "formatting what doubles": "{{ deep|format('x') }}",
    "a name that doubles": "{{ {}|attr(deep) }}",
    "an element that is not there": "{{ {}[deep] }}",
    "loops in loops": "{% for a in range(99999) %}" * 9 + "{% endfor %}" * 9,
    "loops that go into themselves": (
        "{% for a in range(99999) recursive %}{{ loop(range(99999)) }}{% endfor %}"
    ),
    "macros that call themselves twice": (
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(99) }}"
    ),
    "text kept by loops": (
        "{% set x %}{% for i in range(99999) %}" + "y" * 60_000 + "{% endfor %}{% endset %}{{ x|length }}"
    ),
    "slices": "{% set x = 'y' * 16000000 %}{% for i in range(99999) %}{% set z = x[1:] %}{% endfor %}",
    "searches": "{% set x = 'y' * 16000000 %}{% for i in range(99999) %}{{ 'z' in x }}{% endfor %}",
    "the largest of many, often": "{% for i in range(99999) %}{{ range(99999)|select|max }}{% endfor %}",
}
CALLS = {
    "replacing": "{{ (('x' * 1000000)|replace('x', 'y' * 1000000))|length }}",
    "replacing by a method": "{{ (('x' * 1000000).replace('', 'y' * 1000000))|length }}",
    "joining": "{{ (['x'] * 1000000)|join('y' * 1000000)|length }}",
    "joining by a method": "{{ ('y' * 1000000).join(['x'] * 1000000)|length }}",
    "formatting": "{{ ('%s' * 100000)|format(*(['x' * 100000] * 100000))|length }}",
    "formatting by an operator": "{{ (('%(a)s' * 100000) % {'a': 'x' * 1000000})|length }}",
    "indenting": "{{ ('x\n' * 1000000)|indent(99999)|length }}",
    "centering in a map": "{{ range(99999)|map('center', 99999)|list|length }}",
    "a sum of lists": "{{ ([[1]] * 1000000)|sum(start=[])|length }}",
    "comments without number": "{{ ('<!---->' * 1000000)|striptags|length }}",
    "trimming": "{{ ('x' * 8000000)|trim('y' * 8000000 ~ 'x')|length }}",
    "wrapping": "{{ ('x' * 9000000)|wordwrap(1)|length }}",
    "bytes": "{{ 'x'.encode().ljust(10 ** 9) }}",
    "bytes of a number": "{{ (1).to_bytes(10 ** 9, 'big') }}",
    "translating": "{{ ('x' * 1000000).translate({120: 'y' * 1000000})|length }}",
}


def _filled(text: str) -> Callable[[], object]:
    return lambda: render(text, {"deep": _deep(60), "other": _deep(60)})


GROUPS: dict[str, dict[str, Callable[[], object]]] = {
    "plans": PLANS,
    "loops": {name: _filled(text) for name, text in LOOPS.items()},
    "calls": {name: _filled(text) for name, text in CALLS.items()},
}

if __name__ == "__main__":
    for title, attempt in GROUPS[sys.argv[1]].items():
        print(end=f"{title}: ", flush=True)
        try:
            attempt()
        except (PlanError, PermanentError, ValueError) as error:
            print("refused:", " ".join(str(error).split())[:200], flush=True)
        else:
            print("taken", flush=True)
