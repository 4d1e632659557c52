import re
import shutil
import subprocess
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allready.plan.draw import Node, draw_dot, draw_mermaid, draw_text, levels_of, plan_nodes
from allready.plan.plan import Command, Plan, Prompt, Task

SMALL = [
    Node("lint", "Run the linter", kind="command"),
    Node("tests", kind="command"),
    Node("review", "Say what matters", ("lint",), kind="prompt"),
    Node("report", None, ("tests", "review"), kind="function"),
]
STATES = ["completed", "running", "failed", "skipped"]
RUN = [node._replace(state=state) for node, state in zip(SMALL, STATES, strict=True)]


def chain(length: int) -> list[Node]:
    return [Node(f"t{n}", None, (f"t{n - 1}",) if n else ()) for n in range(length)]


def fan(width: int) -> list[Node]:
    wide = [Node(f"w{n}", None, ("start",)) for n in range(width)]
    return [Node("start"), *wide, Node("end", None, tuple(node.id for node in wide))]


# --- text -------------------------------------------------------------------------------------------------


def test_a_plan_as_text() -> None:
    assert draw_text(SMALL).splitlines() == [
        "1 ┬ lint    Run the linter",
        "  ╰ tests",
        "2 ─ review  Say what matters  ← lint",
        "3 ─ report                    ← tests, review",
        "",
        "4 tasks, 3 levels",
    ]


def test_a_run_as_text() -> None:
    assert draw_text(RUN).splitlines() == [
        "1 ┬ ✔ lint    Run the linter",
        "  ╰ ▶ tests",
        "2 ─ ✖ review  Say what matters  ← lint",
        "3 ─ » report                    ← tests, review",
        "",
        "4 tasks, 3 levels",
        "▶ running   ✔ completed   ✖ failed   » skipped",
    ]


def test_text_in_ascii() -> None:
    text = draw_text([*RUN, Node("more", None, (), "pending")], ascii_only=True)
    assert text.isascii()
    assert text.splitlines()[:3] == ["1 + v lint    Run the linter", "  | > tests", "  ` . more"]


def test_no_tasks() -> None:
    assert draw_text([]) == "no tasks"
    assert draw_mermaid([]) == "flowchart TD"
    assert draw_dot([]).startswith("digraph plan {")


def test_a_wide_graph_has_a_row_for_each_task() -> None:
    lines = draw_text(fan(45)).splitlines()
    assert lines[:3] == ["1 ─ start", "2 ┬ w0     ← start", "  ├ w1     ← start"]
    assert lines[45:] == ["  ╰ w44    ← start", "3 ─ end    ← all 45 of level 2", "", "47 tasks, 3 levels"]


def test_a_deep_graph_grows_downwards_only() -> None:
    lines = draw_text(chain(150)).splitlines()
    assert lines[99] == "100 ─ t99   ← t98"
    assert max(map(len, lines)) < 25


def test_wide_levels_are_abridged_with_a_count() -> None:
    nodes = [node._replace(state="completed" if node.id == "w999" else "ready") for node in fan(1_000)]
    lines = draw_text(nodes, max_rows=9).splitlines()
    assert lines == [
        "1 ─ ○ start",
        "2 ┬ ○ w0     ← start",
        "  ├ ○ w1     ← start",
        "  ├ ○ w2     ← start",
        "  ╰ … 997 more (996 ready, 1 completed)",
        "3 ─ ○ end    ← all 1,000 of level 2",
        "",
        "1,002 tasks, 3 levels",
        "○ ready   ✔ completed",
    ]


def test_long_rows_of_levels_are_abridged_with_a_count() -> None:
    assert draw_text(chain(1_000), max_rows=4).splitlines() == [
        "   1 ─ t0",
        "   2 ─ t1    ← t0",
        "… 996 levels with 996 tasks",
        " 999 ─ t998  ← t997",
        "1000 ─ t999  ← t998",
        "",
        "1,000 tasks, 1,000 levels",
    ]


def test_many_dependencies_are_counted() -> None:
    nodes = [*[Node(f"a{n}") for n in range(9)], Node("b", None, tuple(f"a{n}" for n in range(7)))]
    assert "2 ─ b   ← a0, a1, a2 and 4 more" in draw_text(nodes)


def test_rows_fit_the_terminal_also_with_wide_characters() -> None:
    nodes = [Node("a", "長い題名 " * 20), Node("b" * 80, "short", ("a",))]
    full = draw_text(nodes).splitlines()
    assert full[0].endswith("…")
    assert full[1].endswith("← a")
    for line in draw_text(nodes, width=40).splitlines():
        wide = sum(2 if ord(character) > 0x3000 else 1 for character in line)
        assert wide <= 40


def test_a_cycle_and_an_unknown_dependency_are_drawn_too() -> None:
    lines = draw_text(
        [Node("a", None, ("gone",)), Node("b", None, ("c",)), Node("c", None, ("b",))]
    ).splitlines()
    assert lines == [
        "1 ─ a  ← gone",
        "? ┬ b  ← c",
        "  ╰ c  ← b",
        "",
        "3 tasks, 1 level; 2 of them in or behind a cycle",
    ]


def test_titles_can_not_steer_the_terminal() -> None:
    text = draw_text([Node("a\x1b[2Jb", "x\r\ny\u202ez\x07\t\u2028w")])
    assert text.splitlines()[0] == "1 ─ a[2Jb  x yz w"


GRAPHS = st.lists(
    st.tuples(st.text(max_size=6), st.none() | st.text(max_size=90), st.sets(st.integers(0, 30)))
).map(
    lambda rows: [
        Node(f"{n}:{name}", title, tuple(f"{d}:{rows[d][0]}" for d in sorted(ds) if d < n))
        for n, (name, title, ds) in enumerate(rows)
    ]
)


@given(GRAPHS, st.integers(1, 20))
def test_every_task_is_shown_or_counted(nodes: list[Node], max_rows: int) -> None:
    lines = draw_text(nodes, max_rows=max_rows).split("\n")
    if not nodes:
        return
    rows = lines[: lines.index("")]
    more = sum(
        int(found[1] or found[2])
        for row in rows
        if (found := re.fullmatch(r"\s*\d* . … (\d+) more|… \d+ levels? with (\d+) tasks?", row))
    )
    shown = sum(1 for row in rows if not re.search("… \\d+ (more|level)", row))
    assert shown + more == len(nodes)


@given(GRAPHS)
def test_levels_put_every_task_below_its_dependencies(nodes: list[Node]) -> None:
    levels, cyclic = levels_of(nodes)
    assert cyclic == []
    level_of = {node.id: number for number, level in enumerate(levels) for node in level}
    assert len(level_of) == len(nodes)
    for node in nodes:
        assert level_of[node.id] == max((level_of[name] + 1 for name in node.depends_on), default=0)


@pytest.mark.parametrize("nodes", [chain(1_000), fan(1_000)], ids=["chain", "fan"])
def test_a_thousand_tasks_are_drawn_at_once(nodes: list[Node]) -> None:
    began = time.process_time()
    for draw in (draw_text, draw_mermaid, draw_dot):
        assert draw(nodes)
    assert time.process_time() - began < 1


def test_the_tasks_of_a_plan() -> None:
    plan = Plan("g")
    plan.tasks = {
        "a": Task("a", Command(("ls",)), title="List"),
        "b": Task("b", Prompt("?"), depends_on=("a",)),
    }
    assert plan_nodes(plan) == [Node("a", "List", (), kind="command"), Node("b", None, ("a",), kind="prompt")]


# --- Mermaid ----------------------------------------------------------------------------------------------


def test_mermaid() -> None:
    assert draw_mermaid(RUN[:3]).splitlines() == [
        "flowchart TD",
        '    t1["lint<br/>Run the linter"]',
        '    t2["tests"]',
        '    t3(["review<br/>Say what matters"])',
        "    t1 --> t3",
        "    classDef running fill:#cfe4ff,stroke:#555555,color:#000000",
        "    class t2 running",
        "    classDef completed fill:#d3f2d6,stroke:#555555,color:#000000",
        "    class t1 completed",
        "    classDef failed fill:#ffc9c9,stroke:#555555,color:#000000",
        "    class t3 failed",
    ]


@pytest.mark.parametrize(
    ("label", "written"),
    [
        ("end", "end"),
        ('say "hi"', "say #34;hi#34;"),
        ("a[0](b){c}", "a#91;0#93;#40;b#41;#123;c#125;"),
        ("<script>x</script>", "#60;script#62;x#60;/script#62;"),
        ("%%{init: {}}%%", "#37;#37;#123;init#58; #123;#125;#125;#37;#37;"),
        ("`**bold**`", "#96;#42;#42;bold#42;#42;#96;"),
        ("#quot; style:#f00;", "#35;quot#59; style#58;#35;f00#59;"),
        ("a --> b; click t1", "a --#62; b#59; click t1"),
        ("größe 好", "größe 好"),
    ],
)
def test_labels_mean_nothing_to_mermaid(label: str, written: str) -> None:
    assert draw_mermaid([Node(label, kind="command")]) == f'flowchart TD\n    t1["{written}"]'


@given(st.text(), st.text(), st.sampled_from(["command", "prompt", "function", "?", None]))
def test_any_label_stays_in_its_box(name: str, title: str, kind: str | None) -> None:
    _, line = draw_mermaid([Node(name, title, (), "no such state", kind)]).split("\n")
    label = r'(?:[^"<>\[\](){}`%\n]|<br/>)*'
    assert re.fullmatch(rf'    t1(?:\["{label}"\]|\(\["{label}"\]\)|\[\["{label}"\]\])', line)


# --- Graphviz ---------------------------------------------------------------------------------------------


def test_dot() -> None:
    assert draw_dot(RUN[:3], direction="LR").splitlines() == [
        "digraph plan {",
        "    rankdir=LR;",
        '    node [shape=box, style="rounded,filled", fillcolor=white, fontname="sans-serif"];',
        '    t1 [label="lint\\nRun the linter", fillcolor="#d3f2d6", tooltip="completed"];',
        '    t2 [label="tests", fillcolor="#cfe4ff", tooltip="running"];',
        '    t3 [label="review\\nSay what matters", shape=ellipse, fillcolor="#ffc9c9", tooltip="failed"];',
        "    t1 -> t3;",
        "}",
    ]


HOSTILE_LABELS = [
    'say "hi"',
    "ends with \\",
    '\\"',
    "\\N \\G",
    "<b>x</b>",
    "&lt;",
    "]; evil [label=x",
    "node",
    "",
]


@given(st.text() | st.sampled_from(HOSTILE_LABELS), st.text() | st.sampled_from(HOSTILE_LABELS))
def test_any_label_stays_in_its_quotes(name: str, title: str) -> None:
    line = draw_dot([Node(name, title)]).split("\n")[3]
    assert re.fullmatch(r'    t1 \[label="(?:[^"\\\n]|\\\\|\\"|\\n)*"\];', line)


@pytest.mark.skipif(shutil.which("dot") is None, reason="needs Graphviz")
def test_graphviz_reads_it() -> None:
    nodes = [Node(label, label, HOSTILE_LABELS[:n], "running") for n, label in enumerate(HOSTILE_LABELS)]
    done = subprocess.run(
        ["dot", "-Tplain"], input=draw_dot(nodes), capture_output=True, text=True, check=True
    )
    edges = sum(n for n in range(len(nodes)))
    assert len(re.findall("^node ", done.stdout, re.MULTILINE)) == len(nodes)
    assert len(re.findall("^edge ", done.stdout, re.MULTILINE)) == edges
