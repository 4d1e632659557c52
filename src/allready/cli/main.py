"""The command `allready`: its commands, and what becomes of errors.

Nothing heavy is imported here: a command brings what it needs when it is called, so that `allready --version`
and mistakes in the command line are answered at once.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from allready.cli import do, first_process, look, maintenance, plans, replay, running, simulate, steering
from allready.cli.exits import FAILED, INTERRUPTED, SIGNALED, tell
from allready.cli.signals import Stopped, stop
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
    _open_standard_files()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, stop)
    # at exit all would be collected once more, object by object: a third of a second with a model's library
    atexit.register(gc.freeze)
    _leave(run(arguments))


def _open_standard_files() -> None:
    """Have something at the three standard descriptors: what is opened next must not get one of them."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115


def _leave(code: int) -> NoReturn:
    """Exit, without waiting for threads that tasks have left behind."""
    deadline = time.monotonic() + LEAVE_TIME
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.main_thread():
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                with contextlib.suppress(OSError):
                    sys.stdout.flush()
                    sys.stderr.flush()
                os._exit(code)
    sys.exit(code)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; gives the exit code. Errors are told on stderr, without a traceback."""
    os.environ.setdefault("PYDANTIC_AI_NO_BANNER", "1")  # it would be printed into the view of a run
    try:
        code = app(args=list(arguments) if arguments is not None else None, standalone_mode=False)
        sys.stdout.flush()
    except typer.Exit as error:
        return error.exit_code
    except typer.Abort:
        return INTERRUPTED
    except KeyboardInterrupt:
        return INTERRUPTED
    except Stopped as signaled:
        return SIGNALED + signaled.number
    except BrokenPipeError:
        # whoever read our output has had enough (`allready list | head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except AllreadyError as error:
        return tell(error)
    except Exception as error:
        return _usage_error(error)
    return code if isinstance(code, int) else 0


def _usage_error(error: Exception) -> int:
    """Show a mistake in the command line as typer does; anything else is a bug of ours."""
    show = getattr(error, "show", None)
    code = getattr(error, "exit_code", None)
    if show is None or not isinstance(code, int):
        raise error
    show()
    return code
