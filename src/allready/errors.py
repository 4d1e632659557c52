"""All errors of allready, in branches by who can act on them.

* `UserError`: the person who wrote the plan or the command line can mend it. Nothing was run. Exit code 2.
* `OutsideError`: something outside the program (a store, a provider, a lease, a disk) stands in the way.
* `BugError`: allready itself is wrong; please report it.

Two more are not about blame but about flow: `ConcurrencyLimit` is how a pool refuses, and the `TaskError`
branch is what the work of a task may raise to say what kind of failure it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class AllreadyError(Exception):
    """Base of all errors raised on purpose by allready."""


def text_of(error: BaseException) -> str:
    """Give the text of an exception, whatever its own `__str__` does."""
    try:
        return str(error)
    except Exception as second:
        return f"{type(error).__name__} (its text can't be given: {type(second).__name__})"


# --- the user can act -------------------------------------------------------------------------------------


class UserError(AllreadyError):
    """The input is wrong or the wish can't be granted as things stand; says what to do next."""


class Problem(NamedTuple):
    """One thing wrong in what a person wrote.

    `line` and `column` count from 1; None where there is no text behind it (a plan made in Python).
    """

    message: str
    file: str | None = None
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        """`file:line:column: message`, as compilers print it."""
        where = ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)
        return f"{where}: {self.message}" if where else self.message


class PlanError(UserError):
    """A plan (or agent file) is not valid. `problems` has all that was found, in reading order."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: Sequence[Problem] = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class CommandRefused(UserError):
    """A steering command (approve, skip, retry, …) does not apply to the present state."""


class RunNotFound(UserError):
    """No run, or more than one, goes by that name."""


class RunOwned(UserError):
    """Another living process owns the run."""


class RunEnded(UserError):
    """The run has ended: it can't be driven any more, unless something of it is retried."""


# --- the outside world stands in the way ------------------------------------------------------------------


class OutsideError(AllreadyError):
    """Something that allready depends on does not work."""


class StoreError(OutsideError):
    """The store can't be opened, read or written."""


class StoreUnavailable(StoreError):
    """The store can't be reached for now (its server restarts, the network is down): trying again may help.

    Whether what was under way has been written is not known.
    """


class StoreBusy(StoreUnavailable):
    """Another process keeps the store locked; trying again may help. Nothing was written."""


class LeaseLost(OutsideError):
    """Another process took the run over. Exit code 5."""


# --- we are wrong -----------------------------------------------------------------------------------------


class BugError(AllreadyError):
    """This is a bug in allready; please report it together with the story in the message."""


class InvalidTransition(BugError):
    """A state change that the transition table lacks."""


class InvariantBroken(BugError):
    """The scheduler's state contradicts itself."""


class ReplayDiverged(BugError):
    """A journal, played again, led to other decisions than the recorded ones.

    `step` counts the inputs from 1; `at` is in seconds on the run's clock, None if it is not known.
    `recorded` is the input or event, `now` says what the scheduler does instead, `why` how the task stands,
    and `story` what had become of it, one line a step.
    """

    def __init__(
        self,
        message: str,
        *,
        step: int = 0,
        at: float | None = None,
        task: str | None = None,
        recorded: Sequence[object] = (),
        now: str = "",
        why: str | None = None,
        story: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.step = step
        self.at = at
        self.task = task
        self.recorded = recorded
        self.now = now
        self.why = why
        self.story = story


# --- flow -------------------------------------------------------------------------------------------------


class ConcurrencyLimit(AllreadyError):
    """The pool refuses a sub-agent for now. It costs the task nothing; the task is offered again.

    `scope` names what is full: `pool`, `inline`, `resource:NAME`, `agent:NAME`, `provider:NAME` or `budget`.
    `active` and `max` are in the scope's own unit (places, units of the resource, requests a minute, …).
    """

    def __init__(
        self,
        reason: str = "the pool is full",
        scope: str = "pool",
        active: int = 0,
        max: int = 0,  # noqa: A002 - the field's name in the contract
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.scope = scope
        self.active = active
        self.max = max


class TaskError(AllreadyError):
    """Raised by the work of a task: it failed (and is retried if it has retries left)."""

    def __init__(self, message: str, result: object = None) -> None:
        super().__init__(message)
        self.result = result
        """What the attempt left behind all the same (exit code, partial output), or None."""


class PermanentError(TaskError):
    """The task failed and trying again can't help: it is not retried."""


class FatalError(PermanentError):
    """The task failed for a reason that others will meet as well (a wrong key, an unknown model).

    The run ends, whatever the task's failure strategy is.
    """


class TransientError(TaskError):
    """The attempt could not be made for now (a rate limit, an overload, a dropped connection).

    It uses up no retry. `retry_after` is in seconds, None if the other side did not say.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ProviderBusy(TransientError):
    """The provider of a model refused the request for now: its rate limit, or it is overloaded.

    For the pool: all tasks that use this provider wait, and fewer of them ask it at once.
    """

    def __init__(self, message: str, retry_after: float | None = None, *, overloaded: bool = False) -> None:
        super().__init__(message, retry_after)
        self.overloaded = overloaded
        """Whether it can't serve anybody just now, whoever asks how much."""


class Unreachable(TransientError):
    """Nobody listens where the other side should be: perhaps it was not started, or the address is wrong."""


class LostError(TransientError):
    """The worker that ran the attempt is gone (a dead process, thread or node)."""
