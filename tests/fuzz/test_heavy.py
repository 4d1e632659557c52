"""What once took hours or gigabytes, in a process with little of both."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from tests.fuzz.heavy_program import GROUPS
from tests.fuzz.trying import DEADLINE, tried

MEGABYTES = 900
"""Of addresses in all: Python and the libraries take a third."""

PROGRAM = Path(__file__).with_name("heavy_program.py")


@pytest.mark.parametrize("group", GROUPS)
def test_all_end_soon_in_little_memory(group: str, tmp_path: Path) -> None:
    limit = MEGABYTES * 1024 * 1024
    done = subprocess.run(
        [sys.executable, str(PROGRAM), group],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
        timeout=2 * DEADLINE,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-1_000:] + done.stderr[-2_000:]
    lines = done.stdout.splitlines()
    tried["heavy inputs in little memory"] += len(lines)
    assert lines
    for line in lines:
        assert re.search(": (taken|refused: )", line), line
        assert "takes too much memory" not in line, "it was refused only when there was none left"
