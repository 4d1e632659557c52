"""The coverage-guided fuzzer, for a quarter of a minute: it must find nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.fuzz.trying import DEADLINE, tried

ROOT = Path(__file__).parents[2]
FUZZER = ROOT / "tests" / "fuzz" / "loader_fuzzer.py"
SECONDS = 15
LEAST = 200
"""Inputs that even the slowest machine tries in that time; others try some ten thousand."""


def test_it_finds_nothing(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris has no wheel for this machine", exc_type=ImportError)
    corpus, found = tmp_path / "corpus", tmp_path / "found"
    corpus.mkdir()
    found.mkdir()
    options = (
        f"-max_total_time={SECONDS}",
        "-print_final_stats=1",
        f"-artifact_prefix={found}/",
        "-verbosity=0",
    )
    done = subprocess.run(
        [sys.executable, str(FUZZER), *options, str(corpus), str(FUZZER.with_name("seeds"))],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=DEADLINE + SECONDS,
        check=False,
    )
    broken = {path.name: path.read_bytes() for path in found.iterdir()}
    assert (done.returncode, broken) == (0, {}), done.stdout[-2_000:] + done.stderr[-4_000:]
    counted = re.search(r"stat::number_of_executed_units: (\d+)", done.stderr)
    assert counted, done.stderr[-2_000:]
    tried["inputs of the fuzzer that coverage leads"] += int(counted[1])
    assert int(counted[1]) >= LEAST


def test_it_would_find_something(tmp_path: Path) -> None:
    """An input that breaks what it drives ends it with the traceback and the input."""
    pytest.importorskip("atheris", reason="atheris has no wheel for this machine", exc_type=ImportError)
    program = f"""
import sys
sys.path.insert(0, {str(FUZZER.parent)!r})
import loader_fuzzer

def read(data):
    raise KeyError("found it")

loader_fuzzer.KINDS = (read,)
loader_fuzzer.main()
"""
    seed = tmp_path / "seed"
    seed.write_bytes(b"\x00x")
    done = subprocess.run(
        [sys.executable, "-c", program, str(seed)],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode != 0
    assert "KeyError: 'found it'" in done.stdout + done.stderr
