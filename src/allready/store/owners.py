"""Who owns a run, and whether that process still lives.

A pid alone proves nothing: it is given to other processes later, and after a reboot, or in another container,
it means another process altogether. So an owner is named by host, boot, pid and start time together.

* The start time is counted from boot where the system says so (Linux): seconds since 1970 would be worked
  out with the wall clock, and a corrected clock would make a living owner look like somebody else.
* Processes in other containers can't be seen from here, though they may share the host's name and kernel.
  Their pid namespace is therefore part of the host's name: to each other they are other hosts.
"""

from __future__ import annotations

import os
import socket
from functools import lru_cache
from pathlib import Path

import psutil

from allready.store.contract import Owner

_PROC = Path("/proc")
_FIRST_PID_NAMESPACE = "pid:[4026531836]"
"""PROC_PID_INIT_INO of the Linux kernel: the namespace of a machine without containers."""
_DEAD_STATES = {"Z", "X", "x"}
"""Zombies have ended; only their parent has not noticed."""
_SAME_START = 0.02
"""Seconds; the kernel counts in ticks of 10 ms."""


def this_process() -> Owner:
    """Give the name of the process that calls."""
    pid = os.getpid()
    return Owner(host_name(), boot_id(), pid, _started(pid) or 0.0)


def is_alive(owner: Owner) -> bool | None:
    """Say whether the process lives; None: it is on another host (or in another container): can't know."""
    if owner.host != host_name():
        return None
    if owner.boot_id != boot_id():
        return False
    started = _started(owner.pid)
    return started is not None and (started < 0 or abs(started - owner.started) < _SAME_START)


@lru_cache(1)
def host_name() -> str:
    """Give the name under which this host is known to stores."""
    try:
        namespace = str((_PROC / "self/ns/pid").readlink())
    except OSError:
        namespace = _FIRST_PID_NAMESPACE
    name = socket.gethostname()
    return name if namespace == _FIRST_PID_NAMESPACE else f"{name}/{namespace}"


@lru_cache(1)
def boot_id() -> str:
    """Give what is different after every boot of this host."""
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return f"boot-{round(psutil.boot_time() / 10) * 10}"


def _started(pid: int) -> float | None:
    """Give when a process started; None if there is none (any more); −1 if it is there but won't say."""
    try:
        # the name in parentheses may itself hold blanks and parentheses
        fields = (
            (_PROC / str(pid) / "stat")
            .read_text(encoding="utf-8", errors="replace")
            .rpartition(")")[2]
            .split()
        )
        return None if fields[0] in _DEAD_STATES else int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        pass
    if not psutil.pid_exists(pid):
        return None
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.NoSuchProcess:
        return None
    except psutil.AccessDenied:
        return -1.0
