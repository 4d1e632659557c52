"""A process that has imported everything, and forks one for each job: `python -m tests.crash.zygote`.

Starting Python and importing what a run needs takes a second, which thousands of trials can't spend. So this
process does it once, before any thread exists, and does nothing else: what it forks begins as a new process
would, with its own pid, and can really be killed. Jobs are read as JSON lines from standard input; of each is
told `started PID` and `ended PID STATUS` (as from waitpid). It kills all its children when the input closes.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import json
import os
import selectors
import signal
import sys
import traceback

from tests.crash.work import Job, work

WARM = (
    "allready.agents.isolated",
    "allready.engine.growing",
    "allready.planning.aggregator",
    "allready.planning.planner",
    "allready.store.migrate",
    "allready.store.sqlite",
    "alembic.autogenerate",
    "alembic.runtime.migration",
    "allready.agents.llm",
)


def main() -> None:
    for module in WARM:
        importlib.import_module(module)
    if importlib.util.find_spec("psycopg") is not None:
        importlib.import_module("allready.store.postgresql")
        importlib.import_module("sqlalchemy.dialects.postgresql.psycopg")
    gc.collect()
    gc.freeze()
    tell("ready", os.getpid())
    children: dict[int, int] = {}
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ)
    buffer = b""
    try:
        while True:
            for key, _ in selector.select():
                if key.fd != 0:
                    pid = children.pop(key.fd)
                    selector.unregister(key.fd)
                    os.close(key.fd)
                    tell("ended", pid, os.waitpid(pid, 0)[1])
                    continue
                data = os.read(0, 1 << 16)
                if not data:
                    return
                *lines, buffer = (buffer + data).split(b"\n")
                for line in lines:
                    pid = os.fork()
                    if pid == 0:
                        begin(line)
                    descriptor = os.pidfd_open(pid)
                    children[descriptor] = pid
                    selector.register(descriptor, selectors.EVENT_READ)
                    tell("started", pid)
    finally:
        for pid in children.values():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)


def tell(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def begin(line: bytes) -> None:
    """Do a job in the forked process, and end."""
    code = 1
    try:
        job = Job(**json.loads(line))
        os.closerange(3, 256)  # what the zygote listens to
        nothing = os.open(os.devnull, os.O_RDONLY)
        errors = os.open(f"{job.folder}/errors", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.dup2(nothing, 0)
        os.dup2(errors, 1)
        os.dup2(errors, 2)
        code = work(job)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
