"""Real processes: groups, floods, refusals to die, and nothing left of any of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.agents.attempts import children, is_alive, make_attempt, open_files

from allready.agents import process as process_module
from allready.agents.base import Attempt
from allready.agents.leftovers import end_leftovers
from allready.agents.process import Finished, run_process
from allready.agents.secrets import Redactor
from allready.errors import PermanentError, TaskError, TransientError

IGNORE_TERM = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
SAY_AND_HANG = "import os, signal, time\nprint(os.getpid(), flush=True)\nwhile True: signal.pause()\n"


@pytest.fixture(autouse=True)
async def nothing_leaks() -> AsyncIterator[None]:
    """After each test: no child more (a zombie neither), and no more open files than before."""
    before, others = open_files(), children()  # a server that tests share may be there
    yield
    assert children() <= others
    assert open_files() == before


def environment(attempt: Attempt, **own: str) -> dict[str, str]:
    return os.environ | {"ALLREADY_RUN_ID": attempt.run_id, "ALLREADY_ATTEMPT_ID": attempt.handle} | own


async def start(attempt: Attempt, argv: Sequence[str], **settings: Any) -> Finished:
    env = environment(attempt, **settings.pop("own", {}))
    values: dict[str, Any] = {"cwd": attempt.base_dir, "env": env, "redactor": Redactor()}
    return await run_process(argv, attempt=attempt, **(values | settings))


async def python(attempt: Attempt, code: str, **settings: Any) -> Finished:
    return await start(attempt, [sys.executable, "-c", code], **settings)


async def shell(attempt: Attempt, code: str, **settings: Any) -> Finished:
    return await start(attempt, ["/bin/sh", "-c", code], **settings)


class Lines:
    """What a process writes, line by line as it comes."""

    def __init__(self) -> None:
        self._text = ""
        self._came = asyncio.Event()

    def __call__(self, text: str) -> None:
        self._text += text
        self._came.set()

    async def next(self) -> str:
        while "\n" not in self._text:
            self._came.clear()
            await self._came.wait()
        line, _, self._text = self._text.partition("\n")
        return line

    async def pids(self, count: int = 1) -> list[int]:
        return [int(await self.next()) for _ in range(count)]


async def gone(*pids: int) -> None:
    """Wait for processes that are not our children to disappear (init reaps them whenever it likes)."""
    async with asyncio.timeout(10):
        while any(map(is_alive, pids)):
            await asyncio.sleep(0)


# --- ordinary ends ----------------------------------------------------------------------------------------


async def test_output_errors_and_exit_code(tmp_path: Path) -> None:
    lines: list[str] = []
    attempt = make_attempt(tmp_path, on_output=lines.append)
    finished = await shell(attempt, "echo out; echo err >&2; exit 3")
    assert finished == Finished(3, "out\n", "err\n", attempt.folder / "output.txt")
    assert (attempt.folder / "output.txt").read_text() == "out\n"
    assert (attempt.folder / "stderr.txt").read_text() == "err\n"
    assert sorted(lines) == ["err\n", "out\n"]


async def test_standard_input_is_empty_or_what_is_given(tmp_path: Path) -> None:
    attempt = make_attempt(tmp_path)
    assert (await start(attempt, ["cat"])).output == ""
    large = b"0123456789" * 100_000
    await start(attempt, ["cat"], stdin=large)
    assert (attempt.folder / "output.txt").read_bytes() == large


async def test_binary_output_is_kept_as_it_is_in_the_file(tmp_path: Path) -> None:
    attempt = make_attempt(tmp_path)
    finished = await python(attempt, r"import sys; sys.stdout.buffer.write(b'\x00\xff\xfeabc\xe2\x82')")
    assert finished.output == "\ufffd\ufffd\ufffdabc\ufffd"
    assert (attempt.folder / "output.txt").read_bytes() == b"\x00\xff\xfeabc\xe2\x82"


async def test_ended_by_a_signal(tmp_path: Path) -> None:
    assert (await shell(make_attempt(tmp_path), "kill -SEGV $$")).exit_code == -signal.SIGSEGV


async def test_a_program_that_closes_its_outputs_is_waited_for(tmp_path: Path) -> None:
    code = "import os; os.close(1); os.close(2)\nopen('done', 'w').close(); os._exit(7)"
    assert (await python(make_attempt(tmp_path), code)).exit_code == 7
    assert (tmp_path / "done").exists()


async def test_a_flood_is_kept_in_the_file_and_bounded_in_memory(tmp_path: Path) -> None:
    attempt = make_attempt(tmp_path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    finished = await start(attempt, ["head", "-c", "200000000", "/dev/zero"], redactor=Redactor(["hunter22"]))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert (attempt.folder / "output.txt").stat().st_size == 200_000_000
    assert len(finished.output.encode()) <= 65_536
    assert grown < 20_000  # KiB
    (attempt.folder / "output.txt").unlink()


async def test_secrets_are_blanked_everywhere_also_when_they_come_in_pieces(tmp_path: Path) -> None:
    lines = Lines()
    attempt = make_attempt(tmp_path, on_output=lines)
    code = "import sys\nfor c in 'a hunter22 b hunt': print(c, end='', flush=True)\nprint(file=sys.stderr)"
    finished = await python(attempt, code, redactor=Redactor(["hunter22"]))
    assert finished.output == "a [secret] b hunt"
    assert (attempt.folder / "output.txt").read_text() == "a [secret] b hunt"
    assert "hunter" not in await lines.next()


async def test_many_at_once(tmp_path: Path) -> None:
    attempts = []
    for number in range(30):
        (tmp_path / str(number)).mkdir()
        attempts.append(make_attempt(tmp_path / str(number)))
    ends = await asyncio.gather(
        *(shell(attempt, f"echo {number}; exit {number}") for number, attempt in enumerate(attempts))
    )
    assert [(end.exit_code, end.output) for end in ends] == [(number, f"{number}\n") for number in range(30)]


async def test_without_pidfd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    assert (await shell(make_attempt(tmp_path), "echo out; exit 3")).exit_code == 3


async def test_without_pidfd_and_waitid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    monkeypatch.delattr(os, "waitid")
    assert (await shell(make_attempt(tmp_path), "echo out; exit 3")).exit_code == 3


# --- starts that fail -------------------------------------------------------------------------------------


async def test_an_unknown_program(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match=r"no program 'no-such-program' in PATH \(/nowhere\)"):
        await start(make_attempt(tmp_path), ["no-such-program"], own={"PATH": "/nowhere"})


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["./missing"], "there is no program .*/missing"),
        (["./no-exec"], r"no-exec can't be run: Permission denied.*chmod \+x"),
        (["./no-interpreter"], "interpreter in its first line does not exist"),
        (["./no-format"], "first line must name its interpreter"),
        (["."], "can't be run"),
        ([], "the command is empty"),
        ([""], "the command is empty"),
        (["echo", "a\0b"], "argument or variable is not valid: embedded null byte"),
        (["echo", "\ud800"], "argument or variable is not valid"),
        (["echo", "x" * 200_000], "too long.*ALLREADY_DEPS"),
    ],
)
async def test_what_can_not_be_started(tmp_path: Path, argv: list[str], message: str) -> None:
    for name, text, mode in (
        ("no-exec", "#!/bin/sh\n", 0o644),
        ("no-interpreter", "#!/no/such/interpreter\n", 0o755),
        ("no-format", "neither script nor program", 0o755),
    ):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(mode)
    with pytest.raises(PermanentError, match=message):
        await start(make_attempt(tmp_path), argv)


async def test_a_missing_working_directory(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match=r"working directory .*/nowhere does not exist"):
        await start(make_attempt(tmp_path), ["true"], cwd=tmp_path / "nowhere")


async def test_no_file_descriptors_left_is_for_later(tmp_path: Path) -> None:
    attempt = make_attempt(tmp_path)
    before = {path.name for path in Path("/proc/self/fd").iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_files() + 3, limits[1]))  # for the files, not for pipes
    try:
        with pytest.raises(TransientError, match="can't be started for now"):
            await start(attempt, ["true"])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    if sys.version_info < (3, 11, 4):  # there Popen itself leaves some open when it fails
        for path in list(Path("/proc/self/fd").iterdir()):
            if path.name not in before:
                with contextlib.suppress(OSError):  # the one that was listed through
                    os.close(int(path.name))


# --- outputs that can't be kept ---------------------------------------------------------------------------


async def test_a_full_disk_ends_the_command(tmp_path: Path) -> None:
    lines = Lines()
    attempt = make_attempt(tmp_path, on_output=lines)
    (attempt.folder / "output.txt").symlink_to("/dev/full")
    code = (
        "import os, sys, signal\nprint(os.getpid(), file=sys.stderr, flush=True)\n"
        "print('x', flush=True)\nsignal.pause()"
    )
    with pytest.raises(TaskError, match=r"can't be written to .*output\.txt: No space left on device"):
        await python(attempt, code)
    assert not is_alive((await lines.pids())[0])


async def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    attempt = make_attempt(tmp_path, folder=tmp_path / "nowhere")
    with pytest.raises(TaskError, match=r"can't be written to .*nowhere/output\.txt"):
        await start(attempt, ["true"])


async def test_an_error_of_the_live_display_ends_the_command_and_is_raised(tmp_path: Path) -> None:
    def broken(text: str) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await python(make_attempt(tmp_path, on_output=broken), SAY_AND_HANG)


# --- stopping ---------------------------------------------------------------------------------------------


async def test_asked_it_may_end_in_its_own_way(tmp_path: Path) -> None:
    lines = Lines()
    code = (
        "import os, signal\n"  # not print: it may be in the middle of the other one
        "signal.signal(signal.SIGTERM, lambda *_: (os.write(1, b'cleaned up\\n'), os._exit(0)))\n"
        "print('ready', flush=True)\nsignal.pause()"
    )
    attempt = make_attempt(tmp_path, on_output=lines)
    task = asyncio.create_task(python(attempt, code))
    await lines.next()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await lines.next() == "cleaned up"


async def test_a_stopped_process_hears_that_it_was_asked(tmp_path: Path) -> None:
    lines = Lines()
    task = asyncio.create_task(python(make_attempt(tmp_path, on_output=lines, grace=60), SAY_AND_HANG))
    [pid] = await lines.pids()
    os.kill(pid, signal.SIGSTOP)
    task.cancel()
    async with asyncio.timeout(10):
        with pytest.raises(asyncio.CancelledError):
            await task
    assert not is_alive(pid)


async def test_who_ignores_the_asking_is_killed_after_the_grace(tmp_path: Path) -> None:
    lines = Lines()
    code = IGNORE_TERM + SAY_AND_HANG
    task = asyncio.create_task(python(make_attempt(tmp_path, on_output=lines, grace=0.1), code))
    [pid] = await lines.pids()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not is_alive(pid)


async def test_a_second_cancel_kills_at_once(tmp_path: Path) -> None:
    lines = Lines()
    code = IGNORE_TERM + SAY_AND_HANG
    task = asyncio.create_task(python(make_attempt(tmp_path, on_output=lines, grace=3600), code))
    [pid] = await lines.pids()
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=0.05)
    assert not done
    assert is_alive(pid)
    task.cancel()
    async with asyncio.timeout(10):
        with pytest.raises(asyncio.CancelledError):
            await task
    assert not is_alive(pid)


async def test_canceled_before_its_first_step_nothing_is_started(tmp_path: Path) -> None:
    task = asyncio.create_task(shell(make_attempt(tmp_path), "touch started"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("turns", range(8))
async def test_canceled_at_any_moment_of_a_short_life(tmp_path: Path, turns: int) -> None:
    task = asyncio.create_task(shell(make_attempt(tmp_path), "exit 0"))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_grandchildren_that_ignore_the_asking_are_killed(tmp_path: Path) -> None:
    lines = Lines()
    grandchild = IGNORE_TERM + SAY_AND_HANG
    code = f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {grandchild!r}])\n{SAY_AND_HANG}"
    task = asyncio.create_task(python(make_attempt(tmp_path, on_output=lines, grace=0.1), code))
    pids = await lines.pids(2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await gone(*pids)


@pytest.mark.parametrize("cancels", [0, 1, 2])
async def test_grandchildren_in_sessions_of_their_own_are_found(tmp_path: Path, cancels: int) -> None:
    lines = Lines()
    stray = IGNORE_TERM + SAY_AND_HANG
    end = SAY_AND_HANG if cancels else "sys.stdin.read()"
    code = (
        "import subprocess, sys\n"
        f"p = subprocess.Popen([sys.executable, '-c', {stray!r}], start_new_session=True, stdout=-1)\n"
        f"print(p.stdout.readline().decode().strip(), flush=True)\n{end}\n"
    )
    task = asyncio.create_task(python(make_attempt(tmp_path, on_output=lines, grace=0.2), code))
    pids = await lines.pids(2 if cancels else 1)
    for _ in range(cancels):
        task.cancel()
        await asyncio.sleep(0)
    await asyncio.wait([task])
    assert task.cancelled() == bool(cancels)
    await gone(*pids)


async def test_a_background_process_that_holds_the_output_is_not_waited_for(tmp_path: Path) -> None:
    attempt = make_attempt(tmp_path)
    async with asyncio.timeout(20):
        finished = await shell(
            attempt, f"'{sys.executable}' -c '{SAY_AND_HANG}' & read line < /dev/null; exit 4"
        )
    assert finished.exit_code == 4
    if finished.output:
        await gone(int(finished.output))


async def test_a_silent_background_process_is_killed_with_its_group(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys\n"
        f"p = subprocess.Popen([sys.executable, '-c', {SAY_AND_HANG!r}], stdout=-1, stderr=-3)\n"
        "print(p.stdout.readline().decode().strip(), flush=True)"
    )
    finished = await python(make_attempt(tmp_path), code)
    await gone(int(finished.output))


async def test_what_a_background_process_writes_at_once_still_counts(tmp_path: Path) -> None:
    assert (await shell(make_attempt(tmp_path), "(echo late) & exit 0")).output == "late\n"


async def test_a_process_that_can_not_be_killed_keeps_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL that does not work is played by one that never arrives."""
    lines = Lines()
    held: list[Any] = []
    monkeypatch.setattr(process_module, "KILL_TIME", 0.05)
    killpg = os.killpg
    monkeypatch.setattr(os, "killpg", lambda pid, number: None)
    monkeypatch.setattr(process_module, "end_leftovers", lambda *_: 0)
    attempt = make_attempt(tmp_path, on_output=lines, grace=0, hold_place=held.append)
    task = asyncio.create_task(python(attempt, SAY_AND_HANG))
    [pid] = await lines.pids()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert is_alive(pid)
    [place] = held
    assert not place.done()
    killpg(pid, signal.SIGKILL)
    assert await place == -signal.SIGKILL


async def test_thrown_away_in_the_middle_nothing_stays(tmp_path: Path) -> None:
    lines = Lines()
    work = python(make_attempt(tmp_path, on_output=lines), SAY_AND_HANG)
    work.send(None)  # up to its first wait, as a task of a loop that is then dropped
    [pid] = await lines.pids()
    work.close()
    assert not is_alive(pid)


def test_the_end_of_the_loop_ends_the_process(tmp_path: Path) -> None:
    lines = Lines()
    pids: list[int] = []

    async def main() -> None:
        task = asyncio.create_task(python(make_attempt(tmp_path, on_output=lines, grace=0.1), SAY_AND_HANG))
        pids.extend(await lines.pids())
        assert not task.done()

    asyncio.run(main())
    assert not is_alive(pids[0])


# --- leftovers of a crash ---------------------------------------------------------------------------------


async def test_leftovers_are_ended_by_run_and_attempt_and_others_are_spared(tmp_path: Path) -> None:
    tasks, pids, attempts = [], [], []
    for name, code in (("a", SAY_AND_HANG), ("b", IGNORE_TERM + SAY_AND_HANG), ("c", SAY_AND_HANG)):
        (tmp_path / name).mkdir()
        lines = Lines()
        attempt = make_attempt(tmp_path / name, on_output=lines, grace=0.1)
        attempt.run_id = "run-c" if name == "c" else f"run-{tmp_path}"
        tasks.append(asyncio.create_task(python(attempt, code)))
        pids += await lines.pids()
        attempts.append(attempt)
    ab, c = attempts[0].run_id, attempts[2].run_id
    assert await asyncio.to_thread(end_leftovers, "another run") == 0
    assert await asyncio.to_thread(end_leftovers, ab, {"another attempt"}) == 0
    assert all(map(is_alive, pids))
    assert await asyncio.to_thread(end_leftovers, ab, {attempts[0].handle}) == 1
    assert (await tasks[0]).exit_code == -signal.SIGTERM
    assert await asyncio.to_thread(end_leftovers, ab, None, 0.1) == 1
    assert (await tasks[1]).exit_code == -signal.SIGKILL
    assert is_alive(pids[2])
    assert await asyncio.to_thread(end_leftovers, c) == 1
    await tasks[2]


async def test_this_process_and_its_ancestors_are_spared(tmp_path: Path) -> None:
    attempt = make_attempt(tmp_path)
    code = (
        "import os, subprocess, sys\n"
        "from allready.agents.leftovers import end_leftovers\n"
        "inner = 'from allready.agents.leftovers import end_leftovers; import os\\n'"
        "        'print(end_leftovers(os.environ[\"ALLREADY_RUN_ID\"]))'\n"
        "print(end_leftovers(os.environ['ALLREADY_RUN_ID']), flush=True)\n"
        "subprocess.run([sys.executable, '-c', inner], check=True)"
    )
    finished = await python(attempt, code)
    assert (finished.exit_code, finished.output, finished.errors) == (0, "0\n0\n", "")


@pytest.mark.parametrize(
    "replace",
    [
        'rm "$f"',
        'rm "$f"; ln -s /dev/zero "$f"',
        'rm "$f"; ln -s ../elsewhere "$f"',
        'rm "$f"; mkfifo "$f"',
        'rm "$f"; mkdir "$f"',
        'mv "$f" "$f.old"; echo other > "$f"',
    ],
)
async def test_an_output_file_that_a_program_replaced_is_not_taken_for_its_output(
    tmp_path: Path, replace: str
) -> None:
    attempt = make_attempt(tmp_path)
    (tmp_path / "elsewhere").write_text("somebody else's")
    with pytest.raises(TaskError, match=r"output\.txt, where its output was kept, was removed or replaced"):
        await shell(attempt, f"echo hello; f='{attempt.folder}/output.txt'; {replace}")


async def test_a_working_directory_that_can_not_be_looked_at_is_told_in_a_sentence(tmp_path: Path) -> None:
    attempt = make_attempt(tmp_path)
    with pytest.raises(PermanentError, match=r"directory .{200} can't be used: File name too"):
        await run_process(
            ["true"], attempt=attempt, cwd=tmp_path / ("x" * 10_000), env={}, redactor=Redactor([])
        )
