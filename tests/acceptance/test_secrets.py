"""Secrets of the environment in nothing that a run says or leaves behind: every byte of it is looked at."""

from __future__ import annotations

import json
import shlex
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest
from tests.acceptance.program import Running, allready, wait_until

from allready.testing import ScriptedServer

PEM = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEF\nAASCBKcwggSjAgEAAoIBAQC7\n-----END KEY-----"
SECRETS = {
    "ACME_API_KEY": "sk-acme-0123456789abcdef",
    "SERVICE_TOKEN": "tok/with+odd=chars&more",
    "DB_PASSWORD": 'p"a\\ss wörd €',
    "CLIENT_SECRET": "aaaaaaaaaaaaaaaaaaaab",
    "SIGNING_PRIVATE_KEY": PEM,
    "DATABASE_URL": "postgres://user:url-passw0rd@db.example/x",
}
PARTS = [*(value for name, value in SECRETS.items() if name not in {"DATABASE_URL", "SIGNING_PRIVATE_KEY"})]
PARTS += ["url-passw0rd", *PEM.splitlines()[1:-1]]
"""What must be nowhere: in a text, in JSON, in a URL."""
ALL = " ".join(f'"${name}"' for name in SECRETS)

SCRIPTS = {
    "out": f"printf '%s\\n' {ALL}",
    "err": f"printf '%s\\n' {ALL} >&2",
    "fails": f"printf '%s\\n' {ALL} >&2; exit 3",
    "pieces": 'printf %.10s "$ACME_API_KEY"; sleep 0.4; printf %s "$ACME_API_KEY" | tail -c +11',
    "cut": 'printf %.12s "$ACME_API_KEY"; printf %s "$ACME_API_KEY" | tail -c +2 >&2',
    "long": f"for n in $(seq 3000); do printf '%s %s\\n' $n {ALL}; done",
    "data": f"{{python}} write.py \"$ALLREADY_OUTPUT\"; printf '%s\\n' {ALL}",
    "bad_data": f"printf '%s\\n' {ALL} > \"$ALLREADY_OUTPUT\"",
    "fails_with_data": '{python} write.py "$ALLREADY_OUTPUT"; exit 1',
    "times_out": f"{{python}} write.py \"$ALLREADY_OUTPUT\"; printf '%s\\n' {ALL}; sleep 300",
    "artifact": f"printf '%s\\n' {ALL} > \"$ALLREADY_ARTIFACTS/kept.txt\"",
    "no_program": '"/nowhere/$CLIENT_SECRET"',
}
WRITE = "import json, os, sys\njson.dump({name: os.environ[name] for name in %r}, open(sys.argv[1], 'w'))\n"
TASKS = """\
import os
NAMES = %r

def values():
    return {name: os.environ[name] for name in NAMES}

def gives(prompt):
    return values()

def gives_text(prompt):
    return "\\n".join(values().values()) * 2000

def raises(prompt):
    raise ValueError(" ".join(values().values()))

async def raises_late(prompt):
    raise RuntimeError(os.environ["DB_PASSWORD"])

def prints(prompt):
    print(values())
    return "printed"
"""
LOOKS = (["list"], ["status"], ["why"], ["show", "latest"], ["logs", "latest"])
ENDED = {"completed", "failed", "skipped", "canceled"}
FUNCTIONS = ("gives", "gives_text", "raises", "raises_late")


def forms(text: str) -> set[bytes]:
    plain = json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1], quote(text, safe="")
    return {form.encode() for form in (text, *plain)}


def leaks(data: bytes, parts: list[str]) -> list[str]:
    return [part for part in parts if any(form in data for form in forms(part))]


def leaking_files(folder: Path, parts: list[str]) -> dict[str, list[str]]:
    """Give the files below a folder that hold a secret, by their end: task, attempt, name."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            leaked = leaks(path.read_bytes(), parts)
            if leaked:
                found["/".join(path.parts[-4:])] = leaked
    return found


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """Serve a model that says what it should not know, in pieces."""
    text = "It is " + " and ".join(SECRETS.values()) + "."
    with ScriptedServer({"Tell": text}, chunk=7) as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "write.py").write_text(WRITE % (list(SECRETS),))
    (tmp_path / "secrets_of.py").write_text(TASKS % (list(SECRETS),))
    tasks = []
    for name, script in SCRIPTS.items():
        (tmp_path / f"{name}.sh").write_text(script.replace("{python}", shlex.quote(sys.executable)) + "\n")
        timeout = "2s" if name == "times_out" else "1m"
        tasks.append(f"  - {{id: {name}, run: [sh, {name}.sh], timeout: {timeout}}}")
    agents = []
    for name in FUNCTIONS:
        agents.append(f"  {name}: {{kind: python, function: 'secrets_of:{name}'}}")
        tasks.append(f"  - {{id: f_{name}, agent: {name}, prompt: go}}")
    tasks.append("  - {id: told, prompt: Tell}")
    tasks.append("  - {id: after, run: [cat, '{{ out.output_file }}'], depends_on: [out, long, data, told]}")
    tasks.append("  - {id: passed_on, prompt: '{{ out.output }} {{ data.data }}', depends_on: [out, data]}")
    tasks.append("  - {id: gate, run: [sh, -c, 'until test -e go; do sleep 0.05; done']}")
    (tmp_path / "plan.yaml").write_text(
        "goal: Keep them\ndefaults: {failure_strategy: skip, max_retries: 0}\nmax_parallel: 6\nagents:\n"
        + "\n".join(agents)
        + "\ntasks:\n"
        + "\n".join(tasks)
        + "\n"
    )
    return tmp_path


def test_nothing_that_a_run_says_or_leaves_holds_a_secret(folder: Path, server: ScriptedServer) -> None:
    env = {**SECRETS, **server.environment, "ALLREADY_MODEL": "openai-chat:any"}
    parts = [*PARTS, server.api_key]
    state = folder / ".allready"
    only = {"artifact/1/artifacts/kept.txt"}
    with Running("run", "plan.yaml", cwd=folder, **env) as run:
        wait_until(lambda: open_tasks(folder) == ["gate"], "all but the last have ended")
        assert set(leaking_files(state, parts)) == only, "also in the write-ahead log of a store in use"
        (folder / "go").touch()
        assert run.end() == 0
    assert set(leaking_files(state, parts)) == only
    assert not leaks("\n".join(map(json.dumps, run.events)).encode(), parts)
    assert not leaks(run.errors.read_bytes(), parts)
    tasks = run.last["tasks"]
    assert {name for name in tasks if tasks[name]["status"] == "failed"} == {
        *("fails", "bad_data", "fails_with_data", "times_out", "no_program", "f_raises", "f_raises_late")
    }
    assert "[secret]" in tasks["f_raises"]["error"]
    assert not any(leaks(request.prompt.encode(), parts) for request in server.requests), (
        "models are told none"
    )
    looks = [[*words, *more] for words in LOOKS for more in ([], ["--json"])]
    looks += [["show", "latest", name] for name in tasks]
    looks += [["logs", "latest", name] for name in ("out", "err", "long", "told", "fails", "f_raises")]
    looks += [["show", "latest", "long", "--output"], ["logs", "latest", "-f"]]
    for words in looks:
        done = allready(*words, cwd=folder)
        assert not leaks((done.stdout + done.stderr).encode(), parts), words
    long = next(state.glob("runs/*/tasks/long/1/output.txt")).read_text()
    assert long.count("[secret]") >= 3000 * len(SECRETS), "it was there, and was blanked"


def open_tasks(folder: Path) -> list[str]:
    done = allready("status", "--json", cwd=folder)
    if done.returncode:
        return []  # there is no run yet
    tasks = json.loads(done.stdout)["tasks"]
    return [name for name, task in tasks.items() if task["status"] not in ENDED]


def test_the_text_of_a_plan_is_kept_as_it_is_and_nothing_else(tmp_path: Path) -> None:
    key = SECRETS["ACME_API_KEY"]
    (tmp_path / "plan.yaml").write_text(
        f"goal: Use {key}\nanswer: true\nvars: {{key: none}}\ntasks:\n"
        f"  - {{id: a, title: With {key}, run: [echo, '{key}', '{{{{ key }}}}']}}\n"
    )
    done = allready("run", "plan.yaml", "--set", f"key={key}", cwd=tmp_path, ACME_API_KEY=key)
    assert done.returncode == 0, done.stderr
    assert key not in done.stdout + done.stderr
    with closing(sqlite3.connect(tmp_path / ".allready" / "runs.db")) as store:
        tables = [name for (name,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        holding = {
            table for table in tables for row in store.execute(f"SELECT * FROM {table}") if key in repr(row)
        }
    assert holding == {"plans"}
    assert not leaking_files(tmp_path / ".allready" / "runs", [key])
    for words in (["list"], ["status"], ["logs", "latest"], ["why"]):
        assert key not in allready(*words, cwd=tmp_path).stdout


def test_what_a_killed_run_leaves(folder: Path) -> None:
    """Nothing but what a command writes for us by itself; and that goes when the run is taken up again."""
    (folder / "hold.sh").write_text(
        (folder / "data.sh").read_text() + "touch wrote; until test -e go; do sleep 0.05; done\n"
    )
    (folder / "plan.yaml").write_text("tasks: [{id: hold, run: [sh, hold.sh]}]")
    with Running("run", "plan.yaml", cwd=folder, **SECRETS) as run:
        wait_until(lambda: (folder / "wrote").exists(), "it has written all")
        run.kill()
    state = folder / ".allready"
    assert set(leaking_files(state, PARTS)) == {"tasks/hold/1/data.json"}
    (folder / "go").touch()
    with Running("resume", "latest", cwd=folder, **SECRETS) as again:
        assert again.end() == 0
    assert not leaking_files(state, PARTS)


def test_a_process_of_its_own_has_no_files_for_what_it_is_given_and_gives(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import os, pathlib, time\nfrom allready import Plan\nplan = Plan('', max_parallel=3)\n"
        "@plan.task(isolate=True)\ndef keeps() -> str:\n    pathlib.Path('called').touch()\n"
        "    while not pathlib.Path('go').exists():\n        time.sleep(0.05)\n"
        "    return os.environ['ACME_API_KEY'] * 20_000\n"
    )
    state = tmp_path / ".allready"
    with Running("run", "own:plan", cwd=tmp_path, **SECRETS) as run:
        wait_until(lambda: (tmp_path / "called").exists(), "it is under way")
        names = {path.name for path in state.glob("runs/*/tasks/keeps/1/*")}
        assert names == {"stdout.txt", "stderr.txt"}
        (tmp_path / "go").touch()
        assert run.end() == 0
    assert not leaking_files(state, PARTS)
