"""The program `allready`, in a process that is suspended where a test says, or whose clock is ahead.

`python -m tests.acceptance.suspended ARGUMENTS…` with, in the environment,

* `SUSPEND_AT`: a point as `begin.after#2`, the second time that this point is passed. There the process
  stops itself with SIGSTOP. When it goes on, its clock for leases has moved on by `SUSPENDED` seconds.
* `AHEAD`: seconds by which the clock of its store is ahead: to this process, leases of others run out early.

The points are where a run may be between what its store knows and what it does.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from typing import Any

from tests.crash.points import around

from allready.agents.base import Attempt
from allready.cli.main import main
from allready.pool.manager import SubAgentManager
from allready.store import lease
from allready.store.sql import SqlStore

SUSPENDED = 3600.0
POINTS = (
    "commit.before",  # what is to be done is decided, nothing is written
    "commit.after",  # it is written, nothing is done
    "launch.before",  # the loop has looked at the lease
    "launch.after",  # the attempt is about to be made
    "begin.before",  # the files of the attempt are there
    "begin.after",  # the last look at the lease has been made: the only place from which a program starts
    "exec.after",  # the program runs
)

_counts: Counter[str] = Counter()
_at = os.environ.get("SUSPEND_AT")
_behind = 0.0
_looking = threading.Lock()
"""Held while the lease's thread uses the store: who is stopped in there may keep SQLite locked."""


def pass_point(kind: str) -> None:
    global _behind
    _counts[kind] += 1
    if f"{kind}#{_counts[kind]}" == _at:
        with _looking:
            # to this thread, which goes no step further: one to the process may be taken by another thread
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
            _behind = SUSPENDED


def look_apart(name: str) -> None:
    call = getattr(lease.LeaseKeeper, name)

    def wrapped(*args: Any) -> Any:
        with _looking:
            return call(*args)

    setattr(lease.LeaseKeeper, name, wrapped)


def suspend() -> None:
    around(pass_point, SqlStore, "commit", "commit")
    around(pass_point, SubAgentManager, "launch", "launch")
    around(pass_point, Attempt, "begin", "begin")
    around(pass_point, subprocess, "Popen", "exec")
    look_apart("_look")
    look_apart("_renew_in_time")
    defaults = lease.LeaseKeeper.__init__.__kwdefaults__
    assert defaults is not None
    clock = defaults["clock"]
    defaults["clock"] = lambda: clock() + _behind


def be_ahead(seconds: float) -> None:
    now = SqlStore._now
    SqlStore._now = lambda self, connection: now(self, connection) + seconds  # type: ignore[method-assign]


if __name__ == "__main__":
    if _at:
        suspend()
    if "AHEAD" in os.environ:
        be_ahead(float(os.environ["AHEAD"]))
    main(sys.argv[1:])
