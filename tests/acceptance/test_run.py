"""`allready run` from the outside: what is printed, the exit codes, what is there afterwards."""

from __future__ import annotations

import json
import shlex
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from tests.acceptance.program import PROGRAM, Running, allready, environment, lines_of

from allready.store import open_store

PLAN = """\
goal: Two and one
max_parallel: 2
vars: {word: hello}
tasks:
  - {id: a, run: [echo, "{{ word }} from a"]}
  - {id: b, run: [sh, -c, "echo from b"]}
  - {id: both, run: [echo, "{{ a.output }}, {{ b.output }}"], depends_on: [a, b]}
"""
FAILING = """\
tasks:
  - {id: good, run: [echo, fine]}
  - {id: bad, run: [sh, -c, "echo what went wrong >&2; exit 3"], depends_on: [good]}
  - {id: after, run: [echo, never], depends_on: [bad]}
"""
WRONG = Path(__file__).parents[1] / "plan" / "wrong"
WRONG_PLANS = sorted(
    path.name for path in WRONG.iterdir() if path.suffix != ".expect" and path.stem != "too_many_tasks"
)
"""Without the one that is wrong only under a lower limit than the program's."""


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    (tmp_path / "plan.yaml").write_text(PLAN)
    return tmp_path


def test_a_plan_runs_and_its_results_can_be_looked_at_later(plan: Path) -> None:
    done = allready("run", "plan.yaml", cwd=plan)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    first, *_ = done.stdout.splitlines()
    assert first.endswith("Two and one (3 tasks, 2 at a time)")
    assert "started    a\n" in done.stdout
    assert "completed in" in done.stdout
    assert "3 of 3 tasks completed" in done.stdout
    assert "both:\n  hello from a, from b\n" in done.stdout

    later = allready("show", "latest", "both", "--output", cwd=plan)
    assert (later.returncode, later.stdout) == (0, "hello from a, from b\n")


STRANGE = {
    "out": r"printf 'a\0b\377\n'",
    "escaped": r"""printf '"a\\u0000b"' > $ALLREADY_OUTPUT""",
    "half": r"""printf '"\\ud800"' > $ALLREADY_OUTPUT""",
    "nul": r"""printf '[1\0]' > $ALLREADY_OUTPUT""",
}


def test_what_not_every_store_can_keep_is_the_same_on_all(tmp_path: Path, store_url: str) -> None:
    tasks = [{"id": name, "run": ["sh", "-c", code], "max_retries": 2} for name, code in STRANGE.items()]
    tasks.append({"id": "seen", "run": ["echo", "{{ out.output }}"], "depends_on": ["out"]})
    document = {"defaults": {"failure_strategy": "skip"}, "tasks": tasks}
    (tmp_path / "plan.json").write_text(json.dumps(document))
    done = allready("run", "plan.json", "--store", store_url, "--quiet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with closing(open_store(store_url)) as store:
        rows = {row.id: row for row in store.tasks(store.find_run("latest"), outputs=True)}
        file = Path(store.run(store.find_run("latest")).folder) / str(rows["out"].output_file)
    assert (rows["out"].output, file.read_bytes()) == ("a\ufffdb\ufffd", b"a\0b\xff\n")
    assert rows["seen"].output == "a\ufffdb\ufffd"
    assert (rows["escaped"].state, rows["escaped"].data) == ("completed", "a\0b")
    for name, message in (("half", "holds half of a character"), ("nul", "holds a NUL character at byte 3")):
        assert (rows[name].state, rows[name].attempts) == ("failed", 1), "trying again can't help"
        assert f"what the command wrote to $ALLREADY_OUTPUT {message}" in str(rows[name].error)


def test_json_lines_tell_everything_and_nothing_else_is_on_stdout(plan: Path) -> None:
    done = allready("run", "plan.yaml", "--json", cwd=plan)
    assert (done.returncode, done.stderr) == (0, "")
    events = lines_of(done.stdout)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert all(list(event)[:4] == ["seq", "time", "run", "type"] for event in events)
    assert len({event["run"] for event in events}) == 1
    assert events[0]["type"] == "run.created"
    assert events[0]["goal"] == "Two and one"
    last = events[-1]
    assert (last["type"], last["status"]) == ("run.completed", "completed")
    assert list(last["tasks"]) == ["a", "b", "both"]
    task = last["tasks"]["both"]
    assert (task["status"], task["attempts"], task["agent"]) == ("completed", 1, "command")
    assert task["started_at"].endswith("Z")
    assert isinstance(task["duration_ms"], int)

    status = json.loads(allready("status", "--json", cwd=plan).stdout)
    assert {key: status[key] for key in ("status", "tasks")} == {
        key: last[key] for key in ("status", "tasks")
    }
    assert status["owner"] is None


def test_a_failure_ends_the_run_with_1_and_says_what_went_wrong(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(FAILING)
    done = allready("run", "plan.yaml", cwd=tmp_path)
    assert done.returncode == 1
    assert "failed     bad: sh exited with code 3: what went wrong" in done.stdout
    assert "1 of 3 tasks completed, 1 failed, 1 canceled" in done.stdout


def test_a_run_without_failures_that_matter_completes_and_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text("defaults: {failure_strategy: skip}\n" + FAILING)
    done = allready("run", "plan.yaml", cwd=tmp_path)
    assert done.returncode == 0
    assert "1 of 3 tasks completed, 1 failed, 1 skipped" in done.stdout
    assert "  skipped   after: dependency 'bad' failed" in done.stdout


def test_quiet_says_only_what_went_wrong(plan: Path) -> None:
    done = allready("run", "plan.yaml", "-q", cwd=plan)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (plan / "plan.yaml").write_text(FAILING)
    done = allready("run", "plan.yaml", "--quiet", cwd=plan)
    assert (done.returncode, done.stdout) == (1, "")
    assert "task 'bad' failed: sh exited with code 3: what went wrong" in done.stderr


def test_variables_slots_and_standard_input(plan: Path) -> None:
    done = allready("run", "-", "--set", "word=good morning", "--max-parallel", "7", cwd=plan, stdin=PLAN)
    assert done.returncode == 0, done.stderr
    assert "(3 tasks, 7 at a time)" in done.stdout
    assert "  good morning from a, from b" in done.stdout


def test_a_plan_from_a_python_module(tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text(
        "import subprocess\n"
        "from allready import Plan\n"
        "plan = Plan('From Python')\n"
        "@plan.task\n"
        "async def one() -> int:\n"
        "    print('a word of its own')\n"
        "    subprocess.run(['echo', 'a word of a child'])\n"
        "    return 1\n"
        "@plan.task\n"
        "def two(one: int) -> dict:\n"
        "    return {'sum': one + 1}\n"
    )
    done = allready("run", "work:plan", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'two:\n  {"sum": 2}\n' in done.stdout
    done = allready("run", "work:plan", "--json", cwd=tmp_path)
    assert lines_of(done.stdout)[-1]["status"] == "completed"
    assert sorted(done.stderr.splitlines()) == ["a word of a child", "a word of its own"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("missing.yaml", "missing.yaml: can't be read: No such file or directory"),
        ("nowhere:plan", "nowhere:plan: can't be imported: ModuleNotFoundError: No module named 'nowhere'"),
        ("work:nothing", "work:nothing: can't be imported: AttributeError: module 'work' has no attribute"),
        ("work:number", "work:number: is no Plan but a int"),
        ("broken:plan", "broken:plan: can't be imported: ZeroDivisionError: division by zero"),
    ],
)
def test_a_plan_that_is_not_there(tmp_path: Path, source: str, message: str) -> None:
    (tmp_path / "work.py").write_text("number = 1\n")
    (tmp_path / "broken.py").write_text("1 / 0\n")
    done = allready("run", source, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.endswith("allready: 1 problem; nothing was run\n")


@pytest.mark.parametrize("wrong", WRONG_PLANS)
def test_a_wrong_plan_is_refused_with_all_its_problems_and_nothing_is_run(tmp_path: Path, wrong: str) -> None:
    (tmp_path / wrong).write_bytes((WRONG / wrong).read_bytes())
    done = allready("run", wrong, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    *problems, end = done.stderr.splitlines()
    assert end.startswith("allready: ")
    assert end.endswith("nothing was run")
    assert all(problem.startswith(f"{wrong}:") for problem in problems), done.stderr
    assert not (tmp_path / ".allready").exists()


def test_whoever_reads_our_output_may_go_away(tmp_path: Path) -> None:
    tasks = "\n".join(f"  - {{id: t{n}, run: [sh, -c, 'sleep 0.2; echo x >> done.txt']}}" for n in range(40))
    (tmp_path / "plan.yaml").write_text(f"max_parallel: 2\ntasks:\n{tasks}\n")
    reader = subprocess.run(
        f"{shlex.join(PROGRAM)} run plan.yaml | head -n 3; echo ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "Traceback" not in reader.stderr
    assert "go on with: allready resume" in reader.stderr
    assert allready("resume", "latest", "-q", cwd=tmp_path).returncode == 0
    assert len((tmp_path / "done.txt").read_text()) >= 80


def test_settings_in_rising_order(plan: Path) -> None:
    (plan / "plan.yaml").write_text(PLAN.replace("max_parallel: 2\n", ""))

    def slots(*arguments: str, configured: str = "") -> str:
        done = allready("run", "plan.yaml", *arguments, cwd=plan, ALLREADY_MAX_PARALLEL=configured)
        return done.stdout.splitlines()[0].split(", ")[1]

    assert slots() == "5 at a time)"
    (plan / "pyproject.toml").write_text("[tool.allready]\nmax_parallel = 2\n")
    assert slots() == "2 at a time)"
    (plan / "allready.toml").write_text("max_parallel = 3\n")
    assert slots() == "3 at a time)"
    assert slots(configured="4") == "4 at a time)"
    assert slots("--max-parallel", "6", configured="4") == "6 at a time)"


def test_the_store_is_where_it_was_asked_for(plan: Path) -> None:
    assert allready("run", "plan.yaml", "--store", "sqlite:///other.db", cwd=plan).returncode == 0
    assert (plan / "other.db").exists()
    assert not (plan / ".allready").exists()
    listed = allready("list", cwd=plan, ALLREADY_STORE="other.db")
    assert "Two and one" in listed.stdout


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slots = 3\n", "allready.toml: unknown key 'slots'; there are store, model, max_parallel, quiet"),
        ("max_parallel = 0\n", "allready.toml: max_parallel must be a whole number from 1, not 0"),
        ("max_parallel = 'x'\n", "allready.toml: max_parallel must be a whole number from 1, not 'x'"),
        ("max_parallel =\n", "allready.toml: can't be read: "),
    ],
)
def test_wrong_settings(plan: Path, text: str, message: str) -> None:
    (plan / "allready.toml").write_text(text)
    done = allready("run", "plan.yaml", cwd=plan)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_mistakes_in_the_command_line(plan: Path) -> None:
    for arguments, message in [
        (["run"], "Missing argument 'PLAN'"),
        (["run", "plan.yaml", "--nonsense"], "No such option: --nonsense"),
        (["run", "plan.yaml", "--max-parallel", "0"], "Invalid value for '--max-parallel'"),
        (["run", "plan.yaml", "--set", "word"], "--set word: write --set NAME=VALUE"),
        (
            ["run", "plan.yaml", "--set", "wort=x"],
            "the plan has no variable 'wort' under vars; did you mean 'word'?",
        ),
        (["dance"], "No such command 'dance'"),
    ]:
        done = allready(*arguments, cwd=plan)
        assert done.returncode == 2, arguments
        assert message in done.stderr
        assert "Traceback" not in done.stderr


def test_a_slow_branch_never_holds_back_a_fast_one(tmp_path: Path) -> None:
    fast = "\n".join(
        f"  - {{id: fast{n}, run: ['true']{f', depends_on: [fast{n - 1}]' if n else ''}}}" for n in range(8)
    )
    (tmp_path / "plan.yaml").write_text(
        f"tasks:\n{fast}\n"
        "  - {id: slow, run: [sleep, '3']}\n"
        "  - {id: after_slow, run: ['true'], depends_on: [slow]}\n"
    )
    with Running("run", "plan.yaml", cwd=tmp_path) as run:
        assert run.end() == 0
    tasks = run.last["tasks"]
    assert tasks["fast7"]["finished_at"] < tasks["slow"]["finished_at"]
    seq = {(event["type"], event.get("task")): event["seq"] for event in run.events}
    assert seq["task.completed", "fast7"] < seq["task.completed", "slow"] < seq["task.started", "after_slow"]


def test_five_thousand_tasks_from_a_plan_file(tmp_path: Path) -> None:
    (tmp_path / "echo.py").write_text("def answer(prompt: str) -> str:\n    return prompt[-20:]\n")
    tasks = [
        f"  - {{id: t{n}, agent: echo, prompt: no {n}{f', depends_on: [t{(n - 1) // 3}]' if n else ''}}}"
        for n in range(5000)
    ]
    (tmp_path / "plan.yaml").write_text(
        "goal: many\nagents: {echo: {kind: python, function: 'echo:answer'}}\ntasks:\n" + "\n".join(tasks)
    )
    done = allready("run", "plan.yaml", cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "5000 of 5000 tasks completed" in done.stdout
    assert len(done.stdout.splitlines()) < 150, "progress stays readable"


def test_a_template_that_never_ends_holds_up_nobody_else(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(
        "defaults: {failure_strategy: skip}\n"
        "tasks:\n"
        "  - id: endless\n"
        "    timeout: 500ms\n"
        "    run: echo '{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}'\n"
        "  - {id: other, run: echo fine}\n"
    )
    done = allready("run", "plan.yaml", "--json", cwd=tmp_path)
    tasks = lines_of(done.stdout)[-1]["tasks"]
    assert (tasks["endless"]["status"], tasks["other"]["status"]) == ("failed", "completed")
    assert "it takes too much time or memory" in tasks["endless"]["error"]


@pytest.mark.parametrize(
    "replace",
    ['rm "$d/output.txt"; ln -s /dev/zero "$d/output.txt"', 'mv "$d" away; ln -s "$PWD/away" "$d"'],
    ids=["file", "folder"],
)
def test_a_command_that_replaces_its_own_output_harms_nobody_else(tmp_path: Path, replace: str) -> None:
    (tmp_path / "task.sh").write_text(f'd="$(dirname "$ALLREADY_OUTPUT")"\n{replace}\nseq 20000\n')
    (tmp_path / "plan.yaml").write_text(
        "defaults: {failure_strategy: skip}\n"
        "tasks:\n  - {id: rude, run: [sh, task.sh]}\n  - {id: good, run: [echo, done], depends_on: []}\n"
    )
    done = allready("run", "plan.yaml", cwd=tmp_path)
    assert "Traceback" not in done.stderr + done.stdout
    assert done.returncode in {0, 1}, done.stderr
    status = json.loads(allready("status", "latest", "--json", cwd=tmp_path).stdout)
    assert status["tasks"]["good"]["status"] == "completed"
    assert status["tasks"]["rude"]["status"] in {"completed", "failed"}
    assert allready("show", "latest", "rude", cwd=tmp_path).returncode == 0
