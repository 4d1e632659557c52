"""Exit codes, and what is said of errors."""

from __future__ import annotations

import contextlib
import sys

from allready.cli.text import clean
from allready.errors import AllreadyError, BugError, LeaseLost, OutsideError, PlanError, UserError

COMPLETED = 0
FAILED = 1
BAD_INPUT = 2
"""Or not possible: nothing was run."""
PAUSED = 3
"""Only a person can go on."""
CANCELED = 4
TAKEN_OVER = 5
"""Another process owns the run now."""
SIGNALED = 128
"""And the number of the signal."""
INTERRUPTED = 130


def say(text: str) -> None:
    """Write a line to stderr, if anybody still reads it."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def tell(error: AllreadyError) -> int:
    """Say on stderr what is wrong; gives the exit code for it."""
    if isinstance(error, BugError):
        import traceback

        traceback.print_exception(error)
        return FAILED
    if isinstance(error, PlanError):
        count = len(error.problems)
        say(clean(str(error)))
        say(f"allready: {count} problem{'s' * (count != 1)}; nothing was run")
        return BAD_INPUT
    say(f"allready: {clean(str(error))}")
    if isinstance(error, LeaseLost):
        say("allready: what this process had started for the run was stopped")
        return TAKEN_OVER
    return BAD_INPUT if isinstance(error, UserError | OutsideError) else FAILED
