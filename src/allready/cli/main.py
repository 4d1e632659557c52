"""The command `allready`: its commands, and what becomes of errors.

Nothing heavy is imported here: a command brings what it needs when it is called, so that `allready --version`
and mistakes in the command line are answered at once.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from allready.cli import do, first_process, look, maintenance, plans, replay, running, simulate, steering
from allready.cli.exits import BAD_INPUT, FAILED, INTERRUPTED, SIGNALED, say, tell
from allready.cli.signals import Stopped, listen, listen_no_more
from allready.cli.standard_files import OutputBroken, flush_or_forget, open_standard_files
from allready.errors import AllreadyError

LEAVE_TIME = 0.5
"""Seconds at exit for threads that are about to end."""

app = typer.Typer(
    name="allready",
    help="Runs a graph of tasks on a pool of sub-agents: in parallel, durably, in sight.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"allready {version('allready')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which version this is.")
    ] = False,
) -> None:
    pass


running.register(app)
do.register(app)
plans.register(app)
look.register(app)
steering.register(app)
maintenance.register(app)
replay.register(app)
simulate.register(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    first_process.step_aside()
    open_standard_files()
    listen()
    # at exit all would be collected once more, object by object: a third of a second with a model's library
    atexit.register(gc.freeze)
    try:
        code = run(arguments)
        listen_no_more(partial(_end, code))
    except (KeyboardInterrupt, Stopped) as signaled:  # that came while `run` took an error
        code = SIGNALED + signaled.number if isinstance(signaled, Stopped) else INTERRUPTED
        listen_no_more(partial(_end, code))
    _leave(code)


def _end(code: int) -> NoReturn:
    """Exit at once."""
    running.end_forks(grace=0)
    os._exit(code)


def _leave(code: int) -> NoReturn:
    """Exit, without waiting for threads and processes that tasks have left behind."""
    were_forks = running.end_forks()
    deadline = time.monotonic() + LEAVE_TIME
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.main_thread():
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                flush_or_forget(sys.stdout, sys.stderr)
                os._exit(code)
    flush_or_forget(sys.stdout, sys.stderr)
    if were_forks:  # handlers at exit, as of multiprocessing's pools, may wait for locks that these held
        limit = threading.Timer(LEAVE_TIME, os._exit, [code])
        limit.daemon = True
        limit.start()
    sys.exit(code)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; gives the exit code. Errors are told on stderr, without a traceback."""
    os.environ.setdefault("PYDANTIC_AI_NO_BANNER", "1")  # it would be printed into the view of a run
    out, err = sys.stdout, sys.stderr
    try:
        code = _command(arguments)
        out.flush()  # at exit nobody could say what is wrong with it
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except Stopped as signaled:
        return SIGNALED + signaled.number
    except OutputBroken as error:
        return _output_broken(error)
    except SystemExit as left:
        if not isinstance(left.__context__, OutputBroken):
            raise
        sys.stdout, sys.stderr = out, err  # typer has put others there, and left
        return _output_broken(left.__context__)
    except FileNotFoundError:
        if _has_working_directory():
            raise
        say("allready: the working directory is gone: change into one that exists")
        return BAD_INPUT
    return code


def _command(arguments: Sequence[str] | None) -> int:
    try:
        code = app(args=list(arguments) if arguments is not None else None, standalone_mode=False)
    except typer.Exit as error:
        return error.exit_code
    except AllreadyError as error:
        return tell(error)
    except (typer.Abort, OSError):
        raise
    except Exception as error:
        return _usage_error(error)
    return code if isinstance(code, int) else 0


def _output_broken(error: OutputBroken) -> int:
    """Say that nothing more can be written; but not if whoever read it has had enough (`… | head`)."""
    if error.errno == errno.EPIPE:
        return SIGNALED + signal.SIGPIPE
    say(f"allready: can't write to the output: {error.strerror}")
    return FAILED


def _has_working_directory() -> bool:
    try:
        Path.cwd()
    except FileNotFoundError:
        return False
    return True


def _usage_error(error: Exception) -> int:
    """Show a mistake in the command line as typer does; anything else is a bug of ours."""
    show = getattr(error, "show", None)
    code = getattr(error, "exit_code", None)
    if show is None or not isinstance(code, int):
        raise error
    with contextlib.suppress(OSError):
        show()
    return code
