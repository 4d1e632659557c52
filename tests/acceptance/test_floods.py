"""Outputs of every kind and size: the program needs no more memory for them, and nothing waits for ever."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tests.acceptance.program import PROGRAM, Running, allready, environment, wait_until

MIB = 1024 * 1024
FLOOD = int(os.environ.get("ALLREADY_TEST_FLOOD_MIB", "64"))
"""MiB that a flood has; the figure in the documents was measured with 1024."""
MAY_GROW = 48 * MIB
"""Bytes of memory that the program may take more for a flood than for a word."""
FLOODS = {
    "lines": f"yes 'a line of text' | head -c {FLOOD}m",
    "errors": f"yes 'a line of text' | head -c {FLOOD}m >&2",
    "both": f"yes out | head -c {FLOOD // 2}m & yes err | head -c {FLOOD // 2}m >&2; wait",
    "one endless line": f"head -c {FLOOD}m /dev/zero | tr '\\0' x",
    "zeros": f"head -c {FLOOD}m /dev/zero",
    "random": f"head -c {FLOOD}m /dev/urandom",
    "escapes": f"yes \"$(printf '\\033[2J\\033]0;title\\007\\302')\" | head -c {FLOOD}m",
}


def peak(folder: Path, script: str, *options: str, **env: str) -> int:
    """Run a command as a task; give the most memory (bytes, resident) that the program took."""
    folder.mkdir()
    (folder / "flood.sh").write_text(script + "\n")
    (folder / "plan.yaml").write_text("tasks: [{id: flood, run: [sh, flood.sh], timeout: 10m}]")
    program = f"""
import os, resource, sys
child = os.fork()
if child == 0:
    os.execv(sys.executable, {[*PROGRAM, "run", "plan.yaml", *options]!r})
_, status, usage = os.wait4(child, 0)
print(usage.ru_maxrss * 1024, os.waitstatus_to_exitcode(status), file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    rss, code = map(int, done.stderr.split()[-2:])
    assert code == 0, done.stderr
    return rss


@pytest.mark.parametrize("kind", FLOODS)
def test_memory_does_not_grow_with_the_output(tmp_path: Path, kind: str) -> None:
    little = peak(tmp_path / "little", "echo word", A_SECRET_TOKEN="not to be seen")
    much = peak(tmp_path / "much", FLOODS[kind], A_SECRET_TOKEN="not to be seen")
    print(f"{kind}: {much / MIB:.0f} MiB for {FLOOD} MiB of output, {little / MIB:.0f} MiB for a word")
    assert much - little < MAY_GROW
    files = [path for path in (tmp_path / "much").rglob("*.txt") if path.name in {"output.txt", "stderr.txt"}]
    assert sum(path.stat().st_size for path in files) == FLOOD * MIB, "all of it is kept"
    shown = allready("show", "latest", "flood", cwd=tmp_path / "much").stdout
    assert len(shown) < 200_000
    assert "\x1b" not in shown
    for path in files:
        path.unlink()


ODD = {
    "closes its output early": ("exec >&-; exec 2>&-; sleep 0.2; exit 0", ""),
    "a grandchild keeps the pipe": ("echo said; sleep 300 & exit 0", "said"),
    "a character in pieces": (r"printf '\342'; sleep 0.3; printf '\202'; sleep 0.3; printf '\254'", "€"),
    "a character cut off": (r"printf 'a\342\202'", "a\ufffd"),
    "no UTF-8": (r"printf 'a\377\376b'", "a\ufffd\ufffdb"),
    "zeros": (r"printf 'a\000b'", "a\ufffdb"),
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_outputs(tmp_path: Path, kind: str) -> None:
    script, output = ODD[kind]
    (tmp_path / "odd.sh").write_text(script + "\n")
    (tmp_path / "plan.yaml").write_text("tasks: [{id: odd, run: [sh, odd.sh]}]")
    done = allready("run", "plan.yaml", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(allready("show", "latest", "odd", "--json", cwd=tmp_path).stdout)
    assert found["output"] == output


def test_the_disk_is_not_filled_to_the_last_byte(tmp_path: Path) -> None:
    """On a small disk of its own, with the store on it: the flood ends, and the run goes on."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a disk of its own")
    try:
        (disk / "plan.yaml").write_text(
            "defaults: {failure_strategy: skip}\ntasks:\n  - {id: flood, run: [sh, -c, 'yes; :']}\n"
            "  - {id: after, run: echo fine, depends_on: [flood], run_if: all_done}\n"
        )
        with Running("run", "plan.yaml", cwd=disk) as run:
            assert run.end() == 0
        assert "has filled the disk" in run.last["tasks"]["flood"]["error"]
        assert run.last["tasks"]["after"]["status"] == "completed"
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


# --- whoever reads ours -----------------------------------------------------------------------------------

MANY = "max_parallel: 8\ntasks:\n" + "".join(f"  - {{id: {'t' * 60}{n}, run: 'true'}}\n" for n in range(300))
GATE = "  - {id: gate, run: [sh, -c, 'until test -e go; do sleep 0.05; done']}\n"


@pytest.mark.parametrize("options", [["--json"], []], ids=["json", "plain"])
def test_a_reader_who_reads_nothing_holds_up_nobody(tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "plan.yaml").write_text(MANY + GATE)
    with subprocess.Popen(
        [*PROGRAM, "run", "plan.yaml", *options],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        wait_until(
            lambda: "300 of 301 completed" in allready("status", cwd=tmp_path).stdout, "all but one are done"
        )
        paused = json.loads(allready("pause", "latest", "--json", cwd=tmp_path).stdout)
        assert paused["done"] is True
        assert allready("resume", "latest", cwd=tmp_path).returncode == 0
        (tmp_path / "go").touch()
        wait_until(lambda: "status   completed" in allready("status", cwd=tmp_path).stdout, "the end")
        if options:  # the lines for people of so many tasks are few, and fit into the pipe
            assert process.poll() is None
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
    if options:
        lines = [json.loads(line) for line in out.splitlines()]
        assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1)), "nothing is missing"
        assert lines[-1]["status"] == "completed"


@pytest.mark.parametrize(
    ("command", "output"),
    [
        ("{program} run plan.yaml | head -n 1", "Broken pipe"),
        ("{program} run plan.yaml 2>&1 | head -n 1", None),
        ("{program} run plan.yaml --json | head -n 1", "Broken pipe"),
        ("{program} run plan.yaml > /dev/full", "No space left on device"),
        ("{program} run plan.yaml --json > /dev/full", "No space left on device"),
    ],
)
def test_a_reader_who_goes_away_leaves_a_run_that_can_be_resumed(
    tmp_path: Path, command: str, output: str | None
) -> None:
    (tmp_path / "plan.yaml").write_text(
        "tasks:\n  - {id: a, run: [sleep, '1']}\n"
        "  - {id: b, run: [sh, -c, 'until test -e go; do sleep 0.05; done'], depends_on: [a]}\n"
    )
    script = command.format(program=shlex.join(PROGRAM)) + "\necho ${PIPESTATUS[0]} > code"
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (tmp_path / "code").read_text() == "3\n", done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    if output is not None:
        assert f"allready: the output can't be written any more: {output}" in done.stderr
        assert re.search(r"go on with: allready resume \S+", done.stderr)
    (tmp_path / "go").touch()
    assert allready("resume", "latest", "-q", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("options", ["", "--json", "--quiet"])
def test_closed_standard_files(tmp_path: Path, closed: str, options: str) -> None:
    (tmp_path / "plan.yaml").write_text("tasks: [{id: a, run: [sh, -c, 'echo out; echo err >&2; cat']}]")
    script = f"{shlex.join(PROGRAM)} run plan.yaml {options} {closed}"
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, env=environment(), timeout=60, check=False)
    assert done.returncode == 0
    assert "status   completed" in allready("status", cwd=tmp_path).stdout
    found = json.loads(allready("show", "latest", "a", "--json", cwd=tmp_path).stdout)
    assert found["output"] == "out"


def test_a_flood_in_a_function_of_ours(tmp_path: Path) -> None:
    """A plain function that prints: it may be held up by whoever does not read; nobody else is."""
    (tmp_path / "tasks.py").write_text(
        "from allready import Plan\nplan = Plan('', max_parallel=2)\n\n"
        "@plan.task\ndef loud():\n    print('x' * 1_000_000)\n\n"
        "@plan.task\nasync def calm():\n    open('calm', 'w').close()\n"
    )
    with Running("run", "tasks:plan", cwd=tmp_path) as run:
        assert run.end() == 0
    assert (tmp_path / "calm").exists()
    assert len(run.errors.read_text()) >= 1_000_000
