"""Hostile texts: plans and agents as people write them, with something odd in every place."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

import yaml

ODD = (
    *(
        "",
        "~",
        "null",
        "true",
        "yes",
        "0",
        "-1",
        "1e999",
        "-1e999",
        ".inf",
        "-.INF",
        ".nan",
        "NaN",
        "Infinity",
    ),
    *("0o7", "0x1F", "0b1", "1_000", "1:30:59", "+5", "1e3", "-0.0", "1e-400", "0x" + "f" * 400, "9" * 5_000),
    *("2001-12-14t21:59:43.10-05:00", "2026-02-30", "!!binary aGk=", "!!timestamp 2001-01-01", "!!set {a}"),
    *(
        "!!python/object/apply:os.system [id]",
        "!<tag:yaml.org,2002:str> x",
        "! x",
        "&a x",
        "*a",
        "&a [*a]",
        "<<",
    ),
    *(
        "? x",
        "? [x]",
        "| \n  x",
        ">-\n\n x",
        "'unclosed",
        '"unclosed',
        '"\\ud800"',
        '"\\x00"',
        '"\\U00110000"',
    ),
    *(
        "\ufeff",
        "\u0085",
        "\u2028",
        "\u2029",
        "\u202e",
        "\u200b",
        "\u200f",
        "😀",
        "e\u0301",
        "\ufffe",
        "\x7f",
    ),
    *(
        "{{ a.output }}",
        "{{",
        "}}",
        "{% raw %}",
        "{% for x in y %}",
        "{# x #}",
        "{{ tasks['a'].data }}",
        "{{ 1 //",
    ),
    *(
        "@x",
        "`x",
        "%YAML 1.2",
        "%TAG ! x",
        "---",
        "...",
        "- - - x",
        "\t",
        "#",
        ": ",
        "x: y: z",
        "[",
        "{",
        "]",
        "}",
    ),
    *(
        "5m",
        "-5m",
        "0s",
        "1h30m",
        "999999999999999999999d",
        "1e9d",
        ".",
        "5 years",
        "1" * 63 + "s",
        "１m",
        "٣",
    ),
    *("x" * 5_000, "a/b", "../../etc/passwd", "a\\", "$(id)", "`id`", "-rf", "*", "~root", "a\nb", "a\r\nb"),
)
"""Scalars as they would stand in a file, without any quoting."""

KEYS = (
    *(
        "goal",
        "max_parallel",
        "vars",
        "defaults",
        "agents",
        "limits",
        "resources",
        "timeout",
        "answer",
        "tasks",
    ),
    *("id", "title", "run", "prompt", "agent", "depends_on", "run_if", "failure_strategy", "max_retries"),
    *("priority", "estimate", "approval", "idempotent", "inline", "shell", "cwd", "env", "success_codes"),
    *("name", "description", "kind", "instructions", "model", "tools", "function", "url", "max_concurrent"),
    *("max_tokens", "max_requests", "max_cost", "<<", "a", "b", "", "task", "__class__", "1", "A=B"),
)
IDS = (
    "a",
    "b",
    "c",
    "a-1",
    "a.b",
    "_",
    "answer",
    "tasks",
    "goal",
    "run",
    "..",
    ".",
    "/",
    "",
    "a" * 100,
    "a" * 101,
)

BAD = 0.02
"""How often something that belongs there is replaced by something that does not: plans are nearly right."""
Make = Callable[[Random], Any]
"""Makes something by chance."""
_ALPHABETS = (
    "{}%[]'\"\\|.()+*~ ab1\n",
    "{}[]:-#&*!|>'\"%@`<,? \n\tab1~.",
    "abc äö☃😀\u202e\u200b\u0301\x85\x7f\x1b",
    "0123456789.eE+-_x",
)


def anything(random: Random, most: int = 30) -> str:
    """Give a text of characters that have a meaning somewhere, or of any."""
    if random.random() < 0.3:
        codes = (random.choice((0x7F, 0xFF, 0xFFFF, 0x10FFFF)) for _ in range(random.randrange(most)))
        return "".join(chr(random.randint(0, code)) for code in codes)
    alphabet = random.choice(_ALPHABETS)
    return "".join(random.choice(alphabet) for _ in range(random.randrange(most)))


def odd_text(random: Random) -> str:
    """Give a text that means something to a YAML parser, or none."""
    return random.choice(ODD) if random.random() < 0.7 else anything(random)


_PIECES = (
    *("{{", "}}", "{%", "%}", "{% raw %}", "{% endraw %}", "a", ".output", ".data", "tasks", "['a']", "goal"),
    *(
        "run.id",
        " ",
        "|",
        "upper",
        "raw",
        "(",
        ")",
        "[",
        "]",
        "'",
        '"',
        "if",
        "endif",
        "for x in a",
        "endfor",
    ),
    *("set x = 1", "~", "-", "**", "1", "macro f()", "endmacro", "\\", "\n", "not", ".b" * 40),
)


def template(random: Random) -> str:
    """Give something like a template."""
    return " ".join(random.choice(_PIECES) for _ in range(random.randrange(14)))


def scalar_value(random: Random) -> Any:
    """Give a value that is no list and no mapping."""
    return random.choice(
        (
            lambda: None,
            lambda: random.random() < 0.5,
            lambda: random.randint(-(2**70), 2**70),
            lambda: random.randint(-2, 12),
            lambda: random.choice(
                (10**299, -(10**299), 10**400, 0.0, -0.0, 1e-300, 1e300, float("inf"), float("nan"))
            ),
            lambda: odd_text(random),
            lambda: template(random),
            lambda: random.choice(IDS),
        )
    )()


def value(random: Random, depth: int = 3) -> Any:
    """Give any value."""
    chance = random.random()
    if depth == 0 or chance < 0.6:
        return scalar_value(random)
    if chance < 0.8:
        return [value(random, depth - 1) for _ in range(random.randrange(4))]
    return {_key(random): value(random, depth - 1) for _ in range(random.randrange(4))}


def _key(random: Random) -> str:
    return random.choice(KEYS) if random.random() < 0.7 else odd_text(random)


def mapping(keys: dict[str, Make], chance: float) -> Make:
    """Make a mapping that has each of the keys by chance, now and then with a strange value or key."""

    def make(random: Random) -> Any:
        if random.random() < BAD / 8:
            return value(random)
        made = {
            name: value(random) if random.random() < BAD / 2 else usual(random)
            for name, usual in keys.items()
            if random.random() < chance
        }
        if random.random() < BAD / 2:
            made[_key(random)] = value(random)
        return made

    return make


def one_of(*choices: Any, bad: tuple[Any, ...] = ()) -> Make:
    """Make one of these values, at times one of the bad ones."""
    return lambda random: random.choice(bad if bad and random.random() < BAD else choices)


def number(least: int, most: int) -> Make:
    """Make a whole number within bounds, at times one beyond them."""
    return one_of(least, most, least + 1, (least + most) // 2, bad=(least - 1, most + 1, -(10**30), 10**299))


def text(random: Random) -> str:
    """Give what may stand where text is wanted."""
    if random.random() > 2 * BAD:
        return random.choice(
            ("echo hi", "echo {{ goal }}", "x", "{{ goal }} {{ run.id }}", "a 'b c' \"d\"", "ä ☃")
        )
    return template(random) if random.random() < 0.5 else odd_text(random)


def _list(make: Make, most: int) -> Make:
    return lambda random: [make(random) for _ in range(random.randrange(most + 1))]


def _dict(names: tuple[str, ...], make: Make) -> Make:
    return lambda random: {random.choice(names): make(random) for _ in range(random.randrange(3))}


def _command(random: Random) -> Any:
    if random.random() < 0.6:
        return text(random)
    return ["echo", *(scalar_value(random) if random.random() < BAD else text(random) for _ in "ab")]


durations = one_of(
    *("5m", "250ms", 3, 0.5, "1h30m", "90"),
    bad=("0", -1, 10**12, "1e3", float("inf"), "9" * 70, "1" * 60 + "d"),
)
demands = one_of(
    {"gpu": 1}, ["gpu"], {}, bad=({"gpu": 10**9}, {"x y": 1}, {"gpu": -1}, ["gpu", "gpu"], "gpu")
)
environment = one_of(
    {"A": 1}, {"A": "x", "B": True}, {}, {"B": 1e-300}, bad=({"": 1}, {"A=B": 1}, {"\0": 1}, ["A"])
)
codes = one_of([0], [0, 1, 255], bad=([], [-1], [256], ["0"], 0))
limits = mapping(
    {
        "max_tokens": number(1, 10**15),
        "max_cost": one_of(1e-9, 2.5, bad=(0, 1e20)),
        "max_requests": number(1, 9),
    },
    0.5,
)
task_settings: dict[str, Make] = {
    "agent": one_of("reviewer", bad=("nobody", "")),
    "run_if": one_of("all_done", "any_completed", bad=("never",)),
    "failure_strategy": one_of("skip", "retry", "ask", "abort", bad=("panic",)),
    "max_retries": number(0, 10**6),
    "timeout": durations,
    "priority": number(-(10**6), 10**6),
    "estimate": durations,
    "resources": demands,
    **dict.fromkeys(("approval", "idempotent", "inline"), one_of(True, False)),
    "shell": one_of(False, bad=(True,)),
    "cwd": text,
    "env": environment,
    "success_codes": codes,
}
agent_settings: dict[str, Make] = {
    "description": text,
    "kind": one_of("llm", bad=("command", "python", "a2a", "robot")),
    "instructions": text,
    "model": one_of("openai:gpt-5", "sonnet", bad=("python:os:path", "nobody:x", ":", "x" * 300)),
    "tools": one_of("Read, Grep", ["Read"], bad=("*", ["mcp__x__y", "Bash(rm -rf)", ""], "python:os:system")),
    "run": one_of(None, bad=("cat", ["cat"])),
    "shell": one_of(False, bad=(True,)),
    "cwd": text,
    "env": environment,
    "success_codes": codes,
    "function": one_of(None, bad=("os:system", "x", "a.b:c", "a..b:c", ":")),
    "url": one_of(None, bad=("https://x.y", "file:///etc/passwd", "http://")),
    "max_concurrent": number(1, 10**6),
    "resources": demands,
    "idempotent": one_of(True, False),
    "timeout": durations,
    "limits": limits,
}
task = mapping({"title": text, "depends_on": _list(one_of("a", bad=IDS), 2), **task_settings}, 0.12)
head = mapping(
    {
        "goal": text,
        "max_parallel": number(1, 10**6),
        "vars": one_of(
            {"path": "."},
            {"n": [1, {"k": 1.5}]},
            {},
            bad=({"goal": 1}, {"a": 1}, {"x-y": 1}, {"n": None}, [1]),
        ),
        "defaults": mapping(task_settings, 0.1),
        "agents": _dict(("reviewer", "x", "y", "other", "a b"), mapping(agent_settings, 0.15)),
        "limits": limits,
        "resources": demands,
        "timeout": durations,
        "answer": one_of(True, False),
    },
    0.2,
)
agent = mapping(
    {"name": one_of("reviewer", bad=("a b", "..", "x" * 200)), "color": text, **agent_settings}, 0.25
)


def plan_value(random: Random) -> Any:
    """Give the values of a plan that is nearly right."""
    made = head(random)
    if not isinstance(made, dict):
        return made
    listed = []
    for name in "abcd"[: random.randint(1, 4)]:
        one = task(random)
        if isinstance(one, dict):
            if name == "a" and random.random() > BAD:
                one.pop("depends_on", None)
            command = random.random() < 0.5
            if command:
                one.pop("agent", None)
            for key in () if command else ("shell", "cwd", "env", "success_codes"):
                one.pop(key, None)
            body = {"run": _command(random)} if command else {"prompt": text(random) or "x"}
            one = {"id": random.choice(IDS) if random.random() < BAD else name, **one, **body}
        listed.append(one)
    made["tasks"] = value(random) if random.random() < BAD / 2 else listed
    return made


# --- as text ----------------------------------------------------------------------------------------------


def as_yaml(given: Any, random: Random, indent: int = 0) -> str:
    """Write values as YAML by hand, with odd ways to write scalars, anchors, aliases and merge keys."""
    pad = "  " * indent
    if isinstance(given, dict) and given and indent < 8:
        lines = []
        for key, item in given.items():
            mark = random.choice(("&a ", "!!map ", "!x ", "*a #")) if random.random() < BAD / 4 else ""
            lines.append(f"{pad}{_scalar(key, random)}: {mark}{as_yaml(item, random, indent + 1)}")
        return "\n" + "\n".join(lines)
    if isinstance(given, list) and given and indent < 8:
        return "\n" + "\n".join(f"{pad}- {as_yaml(item, random, indent + 1)}" for item in given)
    return _scalar(given, random)


def _scalar(given: Any, random: Random) -> str:
    chance = random.random()
    if chance < BAD / 8:
        return random.choice(ODD)
    if chance < 0.3 and isinstance(given, str) and (given.isalnum() or chance < BAD / 8):
        return given
    try:
        return json.dumps(given, ensure_ascii=chance > 0.6)
    except ValueError:  # a number that Python does not write
        return "0"


MUTATIONS = (
    *ODD,
    "\0",
    "\r",
    "\r\n",
    "\n",
    "\t",
    "  ",
    '"',
    "'",
    "\\",
    ",",
    "\ud800",
    "\x1b[31m",
    "[" * 70,
    "{" * 70,
)
BREAKS = (*("\n",) * 12, "\r\n", "\r\n", "\r", "\x85", "\u2028")
ENCODINGS = (*("", "utf-8") * 5, "utf-8-sig", "utf-8-sig", "utf-16", "utf-16-le", "latin-1")


def mutated(given: str, random: Random) -> str | bytes:
    """Break a text in a few places, or write it in another encoding."""
    for _ in range(random.choice((0, 0, 0, 1, 1, 4))):
        place, length = random.randint(0, len(given)), random.choice((0, 0, 1, 3, 40))
        piece = given[place : place + length]
        new = random.choice((random.choice(MUTATIONS), anything(random, 5), piece * 2, piece[::-1]))
        given = given[:place] + new + given[place + length :]
    given = given.replace("\n", random.choice(BREAKS))
    encoding = random.choice(ENCODINGS)
    return given.encode(encoding, "replace") if encoding else given


def plan_text(random: Random) -> str | bytes:
    """Give a plan file: YAML written by hand or by a library, or JSON."""
    return mutated(_written(plan_value(random), random), random)


def _written(made: Any, random: Random) -> str:
    how = random.choice(("hand", "hand", "json", "library"))
    if how == "hand":
        return as_yaml(made, random).lstrip("\n")
    try:
        return json.dumps(made) if how == "json" else str(yaml.safe_dump(made, allow_unicode=True))
    except (ValueError, yaml.YAMLError):
        return ""


def raw_text(random: Random) -> str | bytes:
    """Give any text, or none at all."""
    chance = random.random()
    if chance < 0.2:
        return random.randbytes(random.randrange(80))
    if chance < 0.5:
        return anything(random, 80)
    pieces = (*ODD, *KEYS, *("\n", "\n  ", "\n- ", ": ", " ", ", ") * 8)
    return "".join(random.choice(pieces) for _ in range(random.randrange(30)))


def agent_text(random: Random) -> str | bytes:
    """Give an agent's Markdown file."""
    made = agent(random)
    if random.random() < 0.3 and isinstance(made, dict):
        front = "\n".join(f"{key}: {item}" for key, item in made.items() if isinstance(item, str))
    else:
        front = _written(made, random)
    fence = random.choice((*("---",) * 12, "--- ", "----", "...", ""))
    return mutated(f"---\n{front}\n{fence}\n{text(random)}\n", random)
