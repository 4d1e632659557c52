"""The program itself on what an enemy hands it: exit code 2, a plain sentence, no traceback, and soon."""

from __future__ import annotations

import json
import os
import re
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.program import PROGRAM, environment
from tests.fuzz.trying import DEADLINE, tried

from allready import Plan, run_sync
from allready.agents.folders import remove_folder

LONG = "x" * 50_000
MOST_SAID = 3 * len(LONG)
"""Characters that a command says about one mistake."""


def call(*arguments: str | bytes, cwd: Path, **env: str) -> tuple[int, str, str]:
    """Run the program; gives exit code, output and errors."""
    done = subprocess.run(
        [*map(os.fsencode, PROGRAM), *map(os.fsencode, arguments)],
        cwd=cwd,
        env=environment(**env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=DEADLINE,
        check=False,
    )
    tried["calls of the program"] += 1
    return done.returncode, done.stdout.decode("utf-8"), done.stderr.decode("utf-8")


def check_refused(code: int, out: str, err: str) -> None:
    assert "Traceback" not in err, err[-2_000:]
    assert code == 2, (code, out[-500:], err[-2_000:])
    assert err.strip()
    assert len(err) <= MOST_SAID, f"{len(err)} characters"
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", err), (
        "it steers the terminal"
    )


TASKS = "tasks: [{id: a, run: echo}]\n"
PLANS: dict[str, str | bytes] = {
    "empty": "",
    "nothing but comments": "# nothing\n",
    "billion laughs": "a: &a [x, x]\n"
    + "".join(f"{n}: &{n} [*{p}, *{p}]\n" for p, n in pairwise("abcdefghijklmnopqrstuv")),
    "text in aliases": f"vars:\n  x: &x {{t: {'y' * 6_400}}}\n  y: [{'*x, ' * 20_000}]\n{TASKS}",
    "a mapping in itself": "vars: &a {x: *a}\n" + TASKS,
    "deep lists": "vars: {x: " + "[" * 100_000,
    "deep blocks": "- " * 10_000 + "x",
    "deep json": '{"a": ' * 50_000,
    "huge number": f"max_parallel: {'9' * 100_000}\n{TASKS}",
    "infinite": f"timeout: 1e999\n{TASKS}",
    "duration of ages": f"timeout: {'9' * 60}d\n{TASKS}",
    "tags": f"vars: {{a: !!python/object/apply:os.system [id]}}\n{TASKS}",
    "binary": f"vars: {{a: !!binary aGk=}}\n{TASKS}",
    "two documents": f"{TASKS}---\n{TASKS}",
    "doubled keys": f"goal: a\ngoal: b\n{TASKS}",
    "keys that are no text": f"1: x\nnull: y\n[a]: z\n{TASKS}",
    "doubled and broken": b'{"a": {"b": 1, "b": 2}, nonsense',
    "utf-16": TASKS.encode("utf-16"),
    "latin-1": "goal: über\n".encode("latin-1") + TASKS.encode(),
    "nul": "goal: a\0b\n" + TASKS,
    "escape": "goal: \x1b[2J\n" + TASKS,
    "tabs": "tasks:\n\t- id: a\n\t  run: echo\n",
    "a name that steers": 'tasks: [{id: "\\u202ea\\e[31m", run: echo}]\n',
    "an id that climbs": "tasks: [{id: ../../x, run: echo}, {id: .., run: echo}, {id: a/b, run: echo}]\n",
    "long id": f"tasks: [{{id: {LONG}, run: echo}}]\n",
    "long template": 'tasks: [{id: a, prompt: "{{ goal' + " | upper" * 20_000 + ' }}"}]\n',
    "deep template": "tasks: [{id: a, prompt: '{{ goal" + ".x" * 20_000 + " }}'}]\n",
    "long number in a template": f"tasks: [{{id: a, prompt: '{{{{ {'9' * 6_000} }}}}'}}]\n",
    "a quote without an end": "tasks: [{id: a, run: \"echo '" + "y" * 500_000 + '"}]\n',
    "a long circle": "tasks:\n"
    + "".join(f"- {{id: t{n}, run: x, depends_on: [t{(n + 1) % 3000}]}}\n" for n in range(3_000)),
}


@pytest.mark.parametrize("name", PLANS)
def test_plans_are_refused_with_their_place(name: str, tmp_path: Path) -> None:
    text = PLANS[name]
    (tmp_path / "p q.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    code, out, err = call("validate", "p q.yaml", cwd=tmp_path)
    check_refused(code, out, err)
    assert out == ""
    for line in err.splitlines()[:-1]:
        assert re.match(r"p q\.yaml:\d+:\d+: .", line), line
    assert re.fullmatch(r"allready: \d+ problems?; nothing was run", err.splitlines()[-1])
    assert not (tmp_path / ".allready").exists()


SOURCES: tuple[str | bytes, ...] = (
    "",
    ".",
    "/",
    "/nothing/here.yaml",
    "/dev/null",
    "/proc/self/mem",
    LONG,
    f"{LONG}:plan",
    "y" * 300 + ":plan",
    "a..b:c",
    "os:system",
    "json:__builtins__",
    "__main__:x",
    b"\xff\xfe.yaml",
    "\u202e.yaml",
    "a\nb.yaml",
    "--",
)


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: repr(source)[:30])
def test_what_is_no_plan(source: str | bytes, tmp_path: Path) -> None:
    check_refused(*call("run", source, cwd=tmp_path))
    assert not (tmp_path / ".allready" / "runs.db").exists()


SETTINGS: tuple[tuple[str | bytes, ...], ...] = (
    ("--set", "n"),
    ("--set", "=1"),
    ("--set", "n=" + "9" * 5_000),
    ("--set", "n=1_000"),
    ("--set", "items=" + "[" * 50_000),
    ("--set", "items=[1e999]"),
    ("--set", 'items=["\\ud800"]'),
    ("--set", 'items=["\\u0000"]'),
    ("--set", b"text=\xff"),
    ("--set", "\u202e\x1b[2J=1"),
    ("--set", f"{LONG}=1", "--set", f"n={LONG}"),
    ("--max-parallel", "0"),
    ("--max-parallel", "9" * 5_000),
)


@pytest.mark.parametrize("arguments", SETTINGS, ids=lambda arguments: repr(arguments[1])[:30])
def test_options(arguments: tuple[str | bytes, ...], tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("vars: {n: 1, items: [1], text: a}\n" + TASKS)
    check_refused(*call("run", "p.yaml", *arguments, cwd=tmp_path))


SURROUNDINGS: tuple[tuple[str, dict[str, str]], ...] = (
    ("a = " + "[" * 20_000, {}),
    ("max_parallel = " + "9" * 6_000, {}),
    ("max_parallel = 0", {}),
    ("store = 1", {}),
    ("\x00", {}),
    ("", {"ALLREADY_MAX_PARALLEL": "9" * 6_000}),
    ("", {"ALLREADY_MAX_PARALLEL": "٣٣٣٣٣٣٣٣٣٣٣٣٣٣٣٣٣٣٣٣٣"}),
    ("", {"ALLREADY_STORE": "nonsense://\x1b[2J"}),
    ("", {"ALLREADY_STORE": "/proc/self/x/y.db"}),
    ("", {"ALLREADY_STORE": "/dev/null"}),
    ("", {"ALLREADY_STORE": LONG}),
)


@pytest.mark.parametrize(("config", "env"), SURROUNDINGS, ids=lambda value: repr(value)[:40])
def test_settings(config: str, env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "allready.toml").write_text(config)
    (tmp_path / "p.yaml").write_text(TASKS)
    check_refused(*call("run", "p.yaml", cwd=tmp_path, **env))


NAMES: tuple[str | bytes, ...] = (
    "",
    "..",
    "../../../etc/passwd",
    "/etc/passwd",
    "latest/../x",
    "%",
    "____",
    "'; drop table runs; --",
    "0" * 36,
    LONG,
    b"\xff\xfe\xfd\xfc",
    "\u202e\u200bxyz",
    "\x1b[31mred",
    "a\nb\nc\n",
)
OF_RUNS = ("show", "status", "logs", "why", "resume", "pause", "cancel", "retry")
OF_TASKS = ("show", "logs", "why", "approve", "skip")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with a run in its store."""
    folder = tmp_path_factory.mktemp("a project")
    plan = Plan("Hello")
    plan.add(print, id="one", args=["hi"])
    (folder / ".allready").mkdir()
    run_sync(plan, store=folder / ".allready" / "runs.db")
    return folder


@pytest.mark.parametrize(("place", "name"), [*enumerate(NAMES)], ids=lambda value: repr(value)[:30])
def test_runs_and_tasks_that_are_not_there(place: int, name: str | bytes, project: Path) -> None:
    """Each name with a few of the commands; all commands get several names."""
    for command in (OF_RUNS[place % len(OF_RUNS)],):
        check_refused(*call(command, "--", name, cwd=project))
    for command in (OF_TASKS[place % len(OF_TASKS)],):
        check_refused(*call(command, "latest", "--", name, cwd=project))


# --- what commands leave behind ---------------------------------------------------------------------------

IN_ARTIFACTS = "cd $ALLREADY_ARTIFACTS; "
OUTPUTS = {
    "deep": "python3 -c 'print(\"[\" * 100000)' >$ALLREADY_OUTPUT",
    "deeper": 'python3 -c \'print("[" * 150 + "]" * 150)\' >$ALLREADY_OUTPUT',
    "nan": "echo '[NaN]' >$ALLREADY_OUTPUT",
    "infinite": "echo '[1e999]' >$ALLREADY_OUTPUT",
    "digits": "python3 -c 'print(\"9\" * 5000)' >$ALLREADY_OUTPUT",
    "surrogate": "echo '\"\\ud800\"' >$ALLREADY_OUTPUT",
    "empty": ": >$ALLREADY_OUTPUT",
    "words": "echo 'no JSON' >$ALLREADY_OUTPUT",
    "bytes": "head -c 1000 /dev/urandom >$ALLREADY_OUTPUT",
    "utf16": "printf '\\377\\376\\61\\0' >$ALLREADY_OUTPUT",
    "gigabyte": "truncate -s 1G $ALLREADY_OUTPUT",
    "link": "ln -s /etc/passwd $ALLREADY_OUTPUT",
    "dangling": "ln -s nothing $ALLREADY_OUTPUT",
    "fifo": "mkfifo $ALLREADY_OUTPUT",
    "folder": "mkdir $ALLREADY_OUTPUT",
    "device": "ln -s /dev/zero $ALLREADY_OUTPUT",
    "too_deep_a_folder": IN_ARTIFACTS + "for i in $(seq 40); do n=$(printf %0200d 0); mkdir $n; cd $n; done",
}
GOOD_OUTPUTS = {
    "doubled": 'echo \'{"a": 1, "a": 2}\' >$ALLREADY_OUTPUT',
    "bom": "printf '\\357\\273\\277[1]' >$ALLREADY_OUTPUT",
    "nul": "echo '\"\\u0000\"' >$ALLREADY_OUTPUT",
    "out": IN_ARTIFACTS + "ln -s /etc etc; ln -s ../../../.. up; ln -s etc again",
    "round": IN_ARTIFACTS + "ln -s a b; ln -s b a; mkdir -p x/y; ln -s ../.. x/y/z",
    "names": IN_ARTIFACTS + "mkfifo $(printf '\\033[31m'); echo hi >$(printf 'a\\nb\\377')",
    "replaced": "rmdir $ALLREADY_ARTIFACTS; ln -s /etc $ALLREADY_ARTIFACTS",
    "removed": "rm -rf $ALLREADY_ARTIFACTS",
    "a_file": "rmdir $ALLREADY_ARTIFACTS; echo hi >$ALLREADY_ARTIFACTS",
    "levels": IN_ARTIFACTS + "for i in $(seq 1500); do mkdir d; cd d; done; ln -s /etc out",
}


def test_what_commands_leave_behind(tmp_path: Path) -> None:
    """Each is a good result or a task that failed with a sentence; nothing outside is touched or shown."""
    document: dict[str, Any] = {
        "defaults": {"failure_strategy": "skip", "shell": True},
        "max_parallel": 2,
        "tasks": [{"id": name, "run": command} for name, command in {**OUTPUTS, **GOOD_OUTPUTS}.items()],
    }
    (tmp_path / "p.json").write_text(json.dumps(document))
    before = Path("/etc/passwd").read_bytes()
    try:
        code, out, err = call("run", "p.json", "--json", cwd=tmp_path)
        links = [
            path for path in tmp_path.glob(".allready/runs/*/tasks/*/1/artifacts/*") if path.is_symlink()
        ]
    finally:
        remove_folder(tmp_path)  # pytest could not: one is too deep for it
    tried["outputs of commands"] += len(OUTPUTS) + len(GOOD_OUTPUTS)
    assert code == 0, err
    warning = "removed artifact '[ -~]+': it is no file, or leads out"
    assert all(re.match(warning, line) for line in err.splitlines())
    tasks = json.loads(out.splitlines()[-1])["tasks"]
    for name in OUTPUTS:
        assert tasks[name]["status"] == "failed", name
        assert re.match(
            r"what the command wrote to \$ALLREADY_OUTPUT|its artifacts can't", tasks[name]["error"]
        )
        assert len(tasks[name]["error"]) < 1_000
    for name in GOOD_OUTPUTS:
        assert tasks[name]["status"] == "completed", (name, tasks[name])
    assert Path("/etc/passwd").read_bytes() == before
    assert "root:" not in out
    assert {path.parents[2].name for path in links} == set(), "all of them lead out, or round"
