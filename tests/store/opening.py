"""Several processes that open a store at the same instant."""

from __future__ import annotations

import subprocess
import sys

PATIENCE = 60.0
OPEN = """
import sys
from allready.store import open_store
import allready.store.sql, alembic.command
print("here", flush=True)
sys.stdin.readline()
store = open_store(sys.argv[1])
print(len(store.runs()), flush=True)
store.close()
"""


def open_at_once(url: str, count: int = 4) -> list[str]:
    """Give what each of them says: the number of runs that it sees."""
    command = [sys.executable, "-c", OPEN, url]
    children = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    try:
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == "here\n"
        for child in children:
            assert child.stdin is not None
            child.stdin.write("\n")
            child.stdin.flush()
        told = [child.communicate(timeout=PATIENCE)[0] for child in children]
        assert [child.returncode for child in children] == [0] * count
        return [text.strip() for text in told]
    finally:
        for child in children:
            child.kill()
            child.communicate()
