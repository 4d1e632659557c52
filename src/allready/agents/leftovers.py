"""Processes of a run that outlived their attempt: found by the ids in their environment, and noted forks."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterator, MutableMapping
from pathlib import Path

import psutil
from uuid_utils import uuid7

from allready.agents.forks import forget_forks, noted_forks

RUN_VARIABLE = "ALLREADY_RUN_ID"
ATTEMPT_VARIABLE = "ALLREADY_ATTEMPT_ID"
ANCESTORS_VARIABLE = "ALLREADY_ANCESTORS"
"""Runs and attempts that the run itself is a task of: `RUN:ATTEMPT RUN:ATTEMPT`, the outermost first."""
LEFTOVER_GRACE = 2.0
"""Seconds between SIGTERM and SIGKILL."""
_LINUX = sys.platform == "linux"
_ROUNDS = 10
"""How often is looked again for processes that were born while others were killed."""
_POLL = 0.01
"""Seconds between two looks at processes that are not our children."""
_KILL_TIME = 1.0
"""Seconds for killed processes to disappear in a round."""


def enter_ancestors(env: MutableMapping[str, str], run_id: str) -> None:
    """Make the run and attempt that an environment names the nearest ancestors, unless it is this run."""
    above = env.get(RUN_VARIABLE)
    if above and above != run_id:  # the run itself is a task of another one
        nearest = f"{above}:{env.get(ATTEMPT_VARIABLE, '')}"
        env[ANCESTORS_VARIABLE] = f"{env.get(ANCESTORS_VARIABLE, '')} {nearest}".strip()


@contextlib.contextmanager
def carried_by_children(run_id: str) -> Iterator[str]:
    """Have processes that this one starts carry the run's id, and in place of an attempt's the mark it gives.

    For a process that drives one run: what functions of tasks start in it is found by these.
    """
    names = (RUN_VARIABLE, ATTEMPT_VARIABLE, ANCESTORS_VARIABLE)
    before = {name: os.environ.get(name) for name in names}
    mark = f"driver-{uuid7()}"
    enter_ancestors(os.environ, run_id)
    os.environ |= {RUN_VARIABLE: run_id, ATTEMPT_VARIABLE: mark}
    try:
        yield mark
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def end_leftovers(
    run_id: str,
    attempts: Collection[str] | None = None,
    grace: float = LEFTOVER_GRACE,
    *,
    folder: Path | None = None,
) -> int:
    """End all processes that carry the run's id (and one of the attempts' ids) in their environment.

    And forks that are noted in the run's `folder`, if it is given. They get SIGTERM, and SIGKILL `grace`
    seconds later (at once if it is 0). Processes of runs inside of these attempts are left to whoever drives
    those, and get SIGKILL if they are still there then. Spared are this process and its ancestors. Gives how
    many were ended. Blocks; reads the environments of all processes, so it takes a millisecond or two.
    """

    def find() -> tuple[list[psutil.Process], list[psutil.Process]]:
        found, inside = _find(run_id, attempts)
        return ([*found, *_forks(folder, found)] if folder is not None else found), inside

    ended = _end(find, grace)
    if folder is not None:
        forget_forks(folder)
    return ended


def end_forks(folder: Path, grace: float = LEFTOVER_GRACE) -> int:
    """End all forks that are noted in a run's folder; gives how many."""
    return _end(lambda: (_forks(folder), []), grace)


def _end(find: Callable[[], tuple[list[psutil.Process], list[psutil.Process]]], grace: float) -> int:
    ended: set[psutil.Process] = set()
    signals = [signal.SIGTERM] if grace > 0 else []
    for number in [*signals, *[signal.SIGKILL] * _ROUNDS]:
        found, inside = find()
        if not found and not inside:
            break
        ended.update(found, inside)
        for process in found if number is signal.SIGTERM else [*found, *inside]:
            _signal(process, number)
        _wait_gone([*found, *inside], grace if number is signal.SIGTERM else _KILL_TIME)
    return sum(not _lives(process) for process in ended)


def _forks(folder: Path, besides: Collection[psutil.Process] = ()) -> list[psutil.Process]:
    """Give the noted forks of a run that are not found otherwise."""
    left_out = {process.pid for process in besides} | _spared()
    found = []
    for pid in noted_forks(folder):
        if pid not in left_out:
            with contextlib.suppress(psutil.Error):
                found.append(psutil.Process(pid))
    return found


def _spared() -> set[int]:
    own = psutil.Process()
    return {own.pid, *(process.pid for process in own.parents())}


def _find(run_id: str, attempts: Collection[str] | None) -> tuple[list[psutil.Process], list[psutil.Process]]:
    """Give the processes of the attempts, and those of runs inside of them."""
    spared = _spared()
    found = []
    inside = []
    for pid in _candidates(run_id):
        if pid in spared:
            continue
        try:
            process = psutil.Process(pid)
            environ = process.environ()
        except (psutil.Error, OSError):  # gone, a zombie, or somebody else's
            continue
        if environ.get(RUN_VARIABLE) == run_id:
            if attempts is None or environ.get(ATTEMPT_VARIABLE) in attempts:
                found.append(process)
        elif any(
            run == run_id and (attempts is None or attempt in attempts)
            for run, _, attempt in (
                name.partition(":") for name in environ.get(ANCESTORS_VARIABLE, "").split()
            )
        ):
            inside.append(process)
    return found, inside


def _candidates(run_id: str) -> list[int]:
    """Give processes that may belong to the run. On Linux read raw, which takes a tenth of psutil's time."""
    if not _LINUX:
        return psutil.pids()
    wanted = run_id.encode()
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with contextlib.suppress(OSError), open(f"{entry.path}/environ", "rb", buffering=0) as file:  # noqa: PTH123
                if wanted in file.read():
                    found.append(int(entry.name))
    return found


def _wait_gone(processes: Collection[psutil.Process], seconds: float) -> None:
    """Wait until all have ended. Zombies have, which `psutil.wait_procs` would go on waiting for."""
    deadline = time.monotonic() + seconds
    while any(map(_lives, processes)) and time.monotonic() < deadline:
        time.sleep(_POLL)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    """Signal a process, and its whole group if it leads a session: that consists of its descendants only."""
    with contextlib.suppress(psutil.Error, OSError):
        leads = os.getsid(process.pid) == process.pid != os.getpgrp()
        if leads and process.is_running():
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        if number is signal.SIGTERM:
            process.send_signal(signal.SIGCONT)  # a stopped process notices nothing
