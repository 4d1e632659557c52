"""One child process, well kept, and ended with everything that it started.

Theory of operation. The child leads a session and a process group. Its exit is noticed (pidfd) without being
reaped: as long as the zombie holds the pid, no other process or group can get that number, so signals to the
group hit the right one or nothing. Only when the rest of the group was killed is the leader reaped. Processes
that left the group (`setsid`) are found by the run and attempt id in their environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from allready.agents.base import Attempt
from allready.agents.leftovers import end_leftovers
from allready.agents.output import OUTPUT_FILE, BoundedText
from allready.agents.secrets import Redactor
from allready.agents.threads import in_thread
from allready.errors import LostError, PermanentError, TaskError, TransientError

DRAIN_TIME = 0.5
"""Seconds that a background process may go on writing to the output after its leader ended."""
KILL_TIME = 5.0
"""Seconds after SIGKILL until a process is given up (it hangs in the kernel, on a dead disk for example)."""
EXIT_POLL = 0.02
"""Seconds between two looks at a child where the system offers nothing better."""
CHUNK = 256 * 1024
"""Bytes read from a pipe in one go."""
STDERR_FILE = "stderr.txt"
SHOWN = 200
"""Characters of a path that can't be used that are shown."""
LOOK_AT_DISK = 1024 * 1024
"""Bytes of an output between two looks at how much room its disk has left: less than is to stay free."""
RESERVE = 256 * 1024 * 1024
"""Bytes that outputs leave free on their disk: the store may be on it, and without it the run can't go on."""
RESERVED_PART = 0.05
"""But no more than this part of a small disk."""

_SHORTAGES = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ETXTBSY})
"""Errors of a start that may well succeed later."""


@dataclass(slots=True, frozen=True)
class Finished:
    """How a process ended and what it wrote, secrets blanked."""

    exit_code: int
    """As in `subprocess`: -N if it was ended by signal N."""
    output: str
    """Standard output, bounded."""
    errors: str
    """Standard error, bounded."""
    output_file: Path
    """The whole standard output."""


async def run_process(
    argv: Sequence[str],
    *,
    attempt: Attempt,
    cwd: Path,
    env: Mapping[str, str],
    redactor: Redactor,
    stdin: bytes | None = None,
    output_file: str = OUTPUT_FILE,
    pass_fds: Sequence[int] = (),
) -> Finished:
    """Run a program to its end, and end all that it started.

    `env` is the whole environment; it must hold the ids of the run and the attempt. `stdin` None stands for
    /dev/null; `pass_fds` are descriptors that it gets as they are. The outputs go to `output_file` and
    `stderr.txt` in the attempt's folder. Raises `PermanentError` if there is no such program or directory,
    `TransientError` if the system is short of something, `TaskError` if the output can't be kept, and
    `CancelledError` when it was stopped: asked at the first cancellation (SIGTERM, after the attempt's grace
    SIGKILL), forced at the second. Background processes may write for another `DRAIN_TIME` after the program
    has ended; then they are ended, too.
    """
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(_create(attempt.folder / name)) for name in (output_file, STDERR_FILE)]
        attempt.begin()
        process = _start(argv, cwd, env, stdin, pass_fds)
        child = stack.enter_context(contextlib.closing(_Child(process, attempt)))
        assert process.stdout is not None
        assert process.stderr is not None
        output = child.read(process.stdout, files[0], redactor)
        errors = child.read(process.stderr, files[1], redactor)
        exit_code = await child.finish()
        _check_still_ours(files[0], attempt.folder / output_file)
    return Finished(exit_code, output.text(), errors.text(), attempt.folder / output_file)


# --- starting ---------------------------------------------------------------------------------------------


def _create(path: Path) -> IO[bytes]:
    try:
        return path.open("wb", buffering=0)
    except OSError as error:
        raise _cannot_keep(path, error) from error


def _check_still_ours(file: IO[bytes], path: Path) -> None:
    """Raise `TaskError` if the program has put something else in the place of its output, or removed it."""
    try:
        ours = os.path.samestat(os.fstat(file.fileno()), path.lstat())
    except OSError:
        ours = False
    if not ours:
        raise TaskError(f"{path.name}, where its output was kept, was removed or replaced while it ran")


def _cannot_keep(path: str | Path, error: OSError) -> TaskError:
    return TaskError(f"the output can't be written to {path}: {error.strerror}; the command was ended")


def _start(
    argv: Sequence[str], cwd: Path, env: Mapping[str, str], stdin: bytes | None, pass_fds: Sequence[int]
) -> subprocess.Popen[bytes]:
    if not argv or not argv[0]:
        raise PermanentError("there is no program to run: the command is empty")
    try:
        is_dir = stat.S_ISDIR(cwd.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        is_dir = False
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or error
        raise PermanentError(f"the working directory {str(cwd)[:SHOWN]} can't be used: {said}") from error
    if not is_dir:
        raise PermanentError(f"the working directory {cwd} does not exist (or is not a directory)")
    try:
        with _given(stdin) as source:
            return subprocess.Popen(
                argv,
                bufsize=0,
                cwd=cwd,
                env=env,
                stdin=source,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                pass_fds=pass_fds,
            )
    except ValueError as error:  # NUL, or text that can't be encoded
        raise PermanentError(
            f"{argv[0]} can't be started: an argument or variable is not valid: {error}"
        ) from error
    except OSError as error:
        raise _start_error(argv, cwd, env, error) from error


@contextlib.contextmanager
def _given(stdin: bytes | None) -> Any:
    if stdin is None:
        yield subprocess.DEVNULL
        return
    with tempfile.TemporaryFile() as file:  # not a pipe: nothing to feed, and no deadlock with the output
        file.write(stdin)
        file.seek(0)
        yield file


def _start_error(argv: Sequence[str], cwd: Path, env: Mapping[str, str], error: OSError) -> TaskError:
    """Say why a program did not start, and what to do about it."""
    program = argv[0]
    if error.errno in _SHORTAGES:
        return TransientError(f"{program} can't be started for now: {error.strerror}")
    if error.errno == errno.E2BIG:
        size = sum(len(os.fsencode(argument)) + 1 for argument in argv)
        return PermanentError(
            f"the arguments of {program} are too long ({size} bytes): let it read large outputs from files, "
            f"as $ALLREADY_DEPS/<task>/output.txt"
        )
    if error.errno == errno.ENOEXEC:
        return PermanentError(
            f"{program} is not a program: a script's first line must name its interpreter (#!/bin/sh)"
        )
    path = cwd / program if "/" in program else shutil.which(program, path=env.get("PATH"))
    if isinstance(error, FileNotFoundError):
        if path and Path(path).exists():
            return PermanentError(
                f"{program} can't be started: the interpreter in its first line does not exist"
            )
        if "/" in program:
            return PermanentError(f"there is no program {path}")
        return PermanentError(f"there is no program {program!r} in PATH ({env.get('PATH', 'not set')})")
    if isinstance(error, PermissionError):
        return PermanentError(
            f"{path or program} can't be run: {error.strerror}; make it executable (chmod +x)"
        )
    return PermanentError(f"{program} can't be started: {error.strerror}")


# --- reading ----------------------------------------------------------------------------------------------


class _Pipe:
    """One output of the child: read as it comes, blanked, kept in a file, and its ends in memory."""

    def __init__(
        self,
        pipe: IO[bytes],
        file: IO[bytes],
        redactor: Redactor,
        on_text: Callable[[str], None] | None,
        on_error: Callable[[Exception], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._pipe = pipe
        self._file = file
        self._secrets = redactor.stream()
        self._on_text = on_text
        self._on_error = on_error
        self._broken = False
        self._unlooked = 0
        """Bytes written since the last look at the disk."""
        self.kept = BoundedText()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        os.set_blocking(pipe.fileno(), False)
        self._loop.add_reader(pipe.fileno(), self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._pipe.fileno(), CHUNK)
        except BlockingIOError:
            return
        if data:
            self._keep(self._secrets.feed(data))
        else:
            self.close()

    def _keep(self, data: bytes, final: bool = False) -> None:
        if self._broken:
            return
        try:
            self._look_at_disk(len(data))
            rest = memoryview(data)
            while rest:
                rest = rest[self._file.write(rest) :]
            text = self.kept.feed(data) + (self.kept.finish() if final else "")
            if text and self._on_text is not None:
                self._on_text(text)
        except Exception as error:
            self._broken = True  # the rest is read and dropped, so that the child is not held up
            self._on_error(_cannot_keep(self._file.name, error) if isinstance(error, OSError) else error)

    def _look_at_disk(self, more: int) -> None:
        """Raise `TaskError` when a flood of output is about to fill the disk."""
        self._unlooked += more
        if self._unlooked < LOOK_AT_DISK:
            return
        self._unlooked = 0
        disk = os.fstatvfs(self._file.fileno())
        free, size = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
        if free < min(RESERVE, size * RESERVED_PART):
            raise TaskError(
                f"its output has filled the disk of {self._file.name} ({free // 1024**2} MiB are left); "
                "the command was ended"
            )

    def close(self) -> None:
        """Read no more; can be called again."""
        if self.ended.done():
            return
        self.ended.set_result(None)
        self._loop.remove_reader(self._pipe.fileno())
        self._pipe.close()
        self._keep(self._secrets.flush(), final=True)


# --- keeping ----------------------------------------------------------------------------------------------


class _Child:
    """The process and its group, from the start to the reaping."""

    def __init__(self, process: subprocess.Popen[bytes], attempt: Attempt) -> None:
        self._loop = asyncio.get_running_loop()
        self._process = process
        self._attempt = attempt
        self._pipes: list[_Pipe] = []
        self._timer: asyncio.TimerHandle | None = None
        self._cancels = 0
        self._asked = False
        self._forced = False
        self._failure: Exception | None = None
        self._lost: asyncio.Future[None] = self._loop.create_future()
        """Done when even SIGKILL did not end it in time."""
        self._pidfd: int | None = None
        self._exited: asyncio.Future[None] = self._loop.create_future()
        """Done when the leader is a zombie."""

    def read(self, pipe: IO[bytes], file: IO[bytes], redactor: Redactor) -> BoundedText:
        """Read an output from now on; gives where its text is found."""
        self._pipes.append(_Pipe(pipe, file, redactor, self._attempt.on_output, self._fail))
        return self._pipes[-1].kept

    async def finish(self) -> int:
        """Wait for the end, end what is left, reap; give the exit code, or raise as `run_process` says."""
        self._exited = self._notice_exit()
        await self._wait(self._exited, self._lost)
        outputs = [pipe.ended for pipe in self._pipes]
        if self._exited.done():
            if not self._forced and not await self._wait_all(outputs, DRAIN_TIME):
                self._signal(signal.SIGTERM, signal.SIGCONT)
                await self._wait_all(outputs, DRAIN_TIME)
            self._signal(signal.SIGKILL)
            self._process.wait()
        await self._end_strays()
        await self._wait_all(outputs, DRAIN_TIME)
        for pipe in self._pipes:
            pipe.close()
        if not self._exited.done():
            self._hand_over()
        if self._cancels:
            raise asyncio.CancelledError
        if self._failure is not None:
            raise self._failure
        if self._process.returncode is None:
            raise LostError(f"process {self._process.pid} hangs in the system: not even SIGKILL ended it")
        return self._process.returncode

    def close(self) -> None:
        """Let go of everything at once, killing what still runs; can be called again."""
        for pipe in self._pipes:
            pipe.close()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        if self._timer is not None:
            self._timer.cancel()
        if self._pidfd is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None
        if self._process.returncode is None and not self._lost.done():
            # only when the coroutine was thrown away in the middle, so there is no loop to wait with
            self._signal(signal.SIGKILL)
            self._process.wait()

    # --- stopping

    def _fail(self, error: Exception) -> None:
        self._failure = self._failure or error
        self._ask()

    def _cancel(self) -> None:
        self._cancels += 1
        if self._cancels == 1:
            self._ask()
        else:
            self._force()

    def _ask(self) -> None:
        if not self._asked:
            self._asked = True
            self._signal(signal.SIGTERM, signal.SIGCONT)  # a stopped process notices nothing
            self._timer = self._loop.call_later(self._attempt.grace, self._force)

    def _force(self) -> None:
        if not self._forced:
            self._forced = True
            self._signal(signal.SIGKILL)
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_later(KILL_TIME, self._give_up)

    def _give_up(self) -> None:
        if not self._exited.done():
            self._lost.set_result(None)

    def _signal(self, *signals: signal.Signals) -> None:
        """Send to the whole group, as long as the leader (alive or a zombie) keeps its number from others."""
        if self._process.returncode is None:
            for number in signals:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid, number)

    async def _end_strays(self) -> None:
        run_id, handle = self._attempt.run_id, self._attempt.handle
        grace = 0.0 if self._forced else DRAIN_TIME
        with contextlib.suppress(TransientError):
            await self._wait(in_thread(lambda: end_leftovers(run_id, {handle}, grace), "allready strays"))

    def _hand_over(self) -> None:
        """Leave a process that can't be killed to a thread that reaps it whenever it ends."""
        with contextlib.suppress(TransientError):
            reaped = in_thread(self._process.wait, "allready reaper")
            if self._attempt.hold_place is not None:
                self._attempt.hold_place(reaped)

    # --- waiting

    async def _wait(self, *futures: asyncio.Future[Any], seconds: float | None = None) -> None:
        """Wait for the first of the futures; a cancellation meanwhile stops the child, not the waiting."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while not any(future.done() for future in futures):
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return
            try:
                await asyncio.wait(futures, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                self._cancel()

    async def _wait_all(self, futures: Sequence[asyncio.Future[Any]], seconds: float) -> bool:
        """Wait until all are done, at most so many seconds; say whether they are."""
        deadline = time.monotonic() + seconds
        for future in futures:
            await self._wait(future, seconds=deadline - time.monotonic())
        return all(future.done() for future in futures)

    def _notice_exit(self) -> asyncio.Future[None]:
        """Give a future that is done when the leader has exited; it stays a zombie."""
        try:
            self._pidfd = os.pidfd_open(self._process.pid)
        except (AttributeError, OSError):  # not Linux, an old one, or out of file descriptors
            return in_thread(self._block_until_exit, "allready exit watch")
        exited: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(self._pidfd, self._pidfd_ready, exited)
        return exited

    def _pidfd_ready(self, exited: asyncio.Future[None]) -> None:
        assert self._pidfd is not None
        self._loop.remove_reader(self._pidfd)
        if not exited.done():
            exited.set_result(None)

    def _block_until_exit(self) -> None:
        pid = self._process.pid
        with contextlib.suppress(ChildProcessError, psutil.NoSuchProcess):
            if hasattr(os, "waitid"):
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
                return
            while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:  # macOS before Python 3.13
                time.sleep(EXIT_POLL)
