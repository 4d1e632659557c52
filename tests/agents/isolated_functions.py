"""Functions that tests run in processes of their own."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from allready.errors import PermanentError, TaskError, TransientError


def add(a: int, b: int = 0) -> dict[str, Any]:
    print("printed")
    return {"sum": a + b, "pid": os.getpid(), "attempt": os.environ["ALLREADY_ATTEMPT_ID"]}


async def later(text: str) -> str:
    return text.upper()


class Holder:
    @staticmethod
    def method() -> str:
        return "method"


def fail(kind: str) -> None:
    print("before the end")
    if kind == "permanent":
        raise PermanentError("never")
    if kind == "transient":
        raise TransientError("later", 2.5)
    if kind == "task":
        raise TaskError("failed")
    if kind == "value":
        raise ValueError("bad value")
    if kind == "exit":
        sys.exit(0)
    if kind == "die":
        os._exit(9)
    os.kill(os.getpid(), signal.SIGSEGV)


def give_set() -> Any:
    return {1}


def leak() -> str:
    print(os.environ["TEST_TOKEN"])
    raise ValueError(os.environ["TEST_TOKEN"])


def hang(path: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(path).write_text(str(os.getpid()))
    print("ready", flush=True)
    signal.pause()
