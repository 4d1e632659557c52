"""`allready` as the first process of a container.

The kernel gives process 1 two tasks that no ordinary program does: processes whose parent has ended become
its children, and stay as zombies until it takes note of them; and signals do nothing to it by default, so
that a container's stop would not be heard before our handlers are there. So process 1 does these two things
only, and `allready` itself runs in a child of it.
"""

from __future__ import annotations

import os
import signal

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def step_aside() -> None:
    """Return in a child; the first process ends as that does. In any other process do nothing."""
    if os.getpid() != 1:
        return
    ignored = {number for number in FORWARDED if signal.getsignal(number) is signal.SIG_IGN}
    watched = {*FORWARDED, signal.SIGCHLD} - ignored
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    os._exit(_watch(child, watched))


def _watch(child: int, watched: set[signal.Signals]) -> int:
    """Hand signals on and reap whatever ends; gives the child's exit code as a shell tells it."""
    while True:
        came = signal.sigwaitinfo(watched)
        if came.si_signo != signal.SIGCHLD:
            # one from the terminal (sent by the kernel) has reached the child already, in the same group
            if came.si_code <= 0:
                os.kill(child, came.si_signo)
            continue
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return 0  # not reached: the child is reaped here and nowhere else
            if pid == 0:
                break
            if pid == child:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
