"""`run` and `resume`: a run in the foreground, from its first tick to its exit code."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack, suppress
from types import FrameType
from typing import TYPE_CHECKING

import typer

from allready.agents.forks import no_more_forks, note_forks
from allready.cli import exits
from allready.cli.options import (
    JsonOption,
    MaxCostOption,
    MaxParallelOption,
    MaxRequestsOption,
    MaxTokensOption,
    ModelOption,
    PlanArgument,
    QuietOption,
    RunArgument,
    SetOption,
    StoreOption,
    limits_of,
    load_settings,
    open_settled_store,
    print_json,
    variables_of,
)
from allready.cli.signals import Stopped, heard_by
from allready.cli.tables import hint
from allready.cli.text import clean
from allready.core.states import RunState
from allready.errors import AllreadyError, LeaseLost, OutsideError, UserError

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from allready.cli.progress import Display
    from allready.engine.outcome import RunResult
    from allready.engine.session import Session
    from allready.store.contract import Store

EXIT_CODES = {
    RunState.COMPLETED: exits.COMPLETED,
    RunState.FAILED: exits.FAILED,
    RunState.PAUSED: exits.PAUSED,
    RunState.CANCELED: exits.CANCELED,
}
HELD_UP = 2.0
"""Seconds after a second signal until the event loop is given up, because a task's code holds it up."""
LAST_WORDS = 1.0
"""Seconds for what is said then: whoever should read it may not."""


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command("run")(run_plan)
    app.command("resume")(resume)


def run_plan(
    plan: PlanArgument,
    variables: SetOption = None,
    model: ModelOption = None,
    max_parallel: MaxParallelOption = None,
    max_tokens: MaxTokensOption = None,
    max_requests: MaxRequestsOption = None,
    max_cost: MaxCostOption = None,
    store: StoreOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Run a plan.

    Exit codes: 0 completed, 1 failed, 2 bad input (nothing was run), 3 paused for a person, 4 canceled,
    5 another process took the run over, 130 or 143 interrupted (it can be resumed).
    """
    from allready.agents.models import Models, choose_model
    from allready.cli.sources import read_plan, warn_of
    from allready.engine.compile import compile_plan
    from allready.engine.start import new_session

    settings = load_settings()
    settings.limit_providers()
    read, agents = read_plan(plan, variables_of(variables))
    read.limits = read.limits.with_others(limits_of(max_tokens, max_requests, max_cost))
    models = Models(choose_model(model or settings.model))
    compiled = compile_plan(read, agents, models=models)
    warn_of(compiled.definitions.values())
    with ExitStack() as stack:
        opened = open_settled_store(store, create=True)
        stack.callback(opened.close)
        session = new_session(
            compiled, store=opened, max_parallel=max_parallel or read.max_parallel or settings.max_parallel
        )
        return drive(session, json=json, quiet=quiet or settings.quiet, store=store)


def resume(
    run: RunArgument,
    model: ModelOption = None,
    max_parallel: MaxParallelOption = None,
    max_tokens: MaxTokensOption = None,
    max_requests: MaxRequestsOption = None,
    max_cost: MaxCostOption = None,
    store: StoreOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Go on with a run whose process is gone, or that is paused.

    Takes the run and drives it in the foreground, as `allready run` does; a paused run that a living process
    holds is told to go on there. One that has reached a limit needs a higher one.
    """
    from allready.agents.models import Models
    from allready.engine.start import resume_session
    from allready.engine.views import short_id
    from allready.errors import RunEnded, RunOwned

    settings = load_settings()
    settings.limit_providers()
    with ExitStack() as stack:
        opened = open_settled_store(store)
        stack.callback(opened.close)
        run_id = opened.find_run(run)

        def take_up() -> Session:
            return resume_session(
                opened,
                run_id,
                max_parallel=max_parallel,
                models=Models(model) if model is not None else None,
                limits=limits_of(max_tokens, max_requests, max_cost),
            )

        try:
            session = take_up()
        except RunOwned as error:
            if opened.run(run_id).status != RunState.PAUSED:
                raise
            changed = (model, max_parallel, max_tokens, max_requests, max_cost)
            if any(option is not None for option in changed):
                raise UserError(
                    f"{error}; a run that is driven takes no other limits or model: "
                    "stop it there first (Ctrl-C), then resume it"
                ) from None
            if _tell_owner(opened, run_id, store, json=json):
                return 0
            session = take_up()  # its process did as it was told, and has ended since
        except RunEnded as error:
            if opened.run(run_id, plan=False).status == RunState.COMPLETED:
                raise
            raise RunEnded(f"{error}: {hint('retry', short_id(run_id), store=store)}") from None
        return drive(session, json=json, quiet=quiet or settings.quiet, store=store)


def _tell_owner(opened: Store, run_id: str, store: str | None, *, json: bool) -> bool:
    """Tell the process that drives a paused run to go on, and say so; False if nobody drives it any more."""
    from allready.engine.steer import steer
    from allready.engine.views import short_id
    from allready.errors import CommandRefused

    steered = steer(opened, run_id, "resume")
    if steered.refused is not None and opened.run(run_id).status == RunState.PAUSED:
        raise CommandRefused(steered.refused)
    if steered.owner is None:
        return False
    where = f"process {steered.owner.pid} on {steered.owner.host}"
    if json:
        print_json({"run": run_id, "command": "resume", "done": steered.done})
    else:
        what = "was told to go on" if steered.refused is None and not steered.done else "goes on"
        follow = hint("logs", short_id(run_id), "-f", store=store)
        print(f"run {short_id(run_id)} {what} in {where}; follow it: {follow}")
    return True


# --- driving ----------------------------------------------------------------------------------------------


def drive(session: Session, *, json: bool, quiet: bool, store: str | None) -> int:
    """Drive a run to its end in the foreground, showing it; gives the exit code."""
    from allready.cli.event_loop import run_to_end

    foreground = _Foreground(session, store)
    with heard_by(foreground.hear):
        from allready.cli.progress import choose_display

        display = foreground.display = choose_display(session, json=json, quiet=quiet, store=store)
        try:
            result = run_to_end(foreground.drive(display))
        except (UserError, OutsideError) as error:
            foreground.ended = True
            display.drain()
            if isinstance(error, LeaseLost):
                raise
            _tell_of(error, f"the run was stopped; when the store works again: {foreground.resume}")
            return exits.FAILED if foreground.signal is None else exits.SIGNALED + foreground.signal
        except BaseException:
            foreground.ended = True
            display.drain()
            raise
        foreground.ended = True
        told = True
        try:
            display.finish(result, foreground.signal)
        except (UserError, OutsideError) as error:
            told = False  # the run stands as it is recorded; what it gave can't be read
            display.drain()
            look = foreground.resume if result.status is RunState.PAUSED else foreground.show
            _tell_of(error, f"the run is {result.status}; when the store works again: {look}")
    if foreground.signal is not None and result.status is RunState.PAUSED:
        return exits.SIGNALED + foreground.signal
    code = EXIT_CODES[result.status]
    return code if told else code or exits.FAILED


def end_forks(grace: float | None = None) -> int:
    """End what functions have forked, since this process is about to end; gives how many there were."""
    folder = no_more_forks()
    if folder is None:
        return 0
    from allready.agents import leftovers

    return leftovers.end_forks(folder, leftovers.LEFTOVER_GRACE if grace is None else grace)


def _tell_of(error: AllreadyError, what_next: str) -> None:
    """Say what stands in the way of a run that was begun: not as `exits.tell`, for which nothing was run."""
    exits.say(f"allready: {clean(str(error))}")
    exits.say(f"allready: {what_next}")


class _Foreground:
    """A run, what shows it, and the signals that reach this process.

    The first signal pauses the run, the second one kills what does not stop. If a task's code holds up the
    event loop, all ends there and then: the run is left as after `kill -9`, and can be resumed.
    """

    def __init__(self, session: Session, store: str | None) -> None:
        from allready.engine.views import short_id

        self._session = session
        self.resume = hint("resume", short_id(session.id), store=store)
        self.show = hint("show", short_id(session.id), store=store)
        self.display: Display | None = None
        self.signal: int | None = None
        """The first that came."""
        self.ended = False
        """Whether the run has ended, and only its summary is left to be told."""
        self._loop: AbstractEventLoop | None = None
        self._unheard = 0
        """Signals of which the event loop does not know yet."""
        self._interrupted = False
        self._late = False

    async def drive(self, display: Display) -> RunResult:
        from asyncio import get_running_loop

        from allready.agents.leftovers import carried_by_children, end_leftovers
        from allready.agents.threads import in_thread

        session = self._session
        note_forks(session.folder)  # until this process ends, as code of tasks may go on until then
        session.observe(display.observe)
        session.on_output = display.output
        session.on_store = display.store_away
        self._loop = get_running_loop()
        for _ in range(self._unheard):  # that came before there was a loop
            self._loop.call_soon(self._interrupt)
        with display, carried_by_children(session.id) as mark:
            try:
                return await session.drive(wait_for_person=display.asks)
            finally:  # what functions started in this process has no attempt that would have ended it
                await in_thread(lambda: end_leftovers(session.id, {mark}), "allready leftovers")

    def hear(self, number: int, _frame: FrameType | None) -> None:
        """Take a signal, whatever is being done at the moment."""
        if self.ended:
            if self._late or self.display is None:
                raise Stopped(number)
            self._late = True
            self.display.hurry()
            return
        again = self.signal is not None
        if not again:
            self.signal = number
        self._unheard += 1
        if self._loop is not None:
            with suppress(RuntimeError):  # it is closed
                self._loop.call_soon_threadsafe(self._interrupt)
        if again:
            watchdog = threading.Timer(HELD_UP, self._end_if_held_up)
            watchdog.daemon = True
            watchdog.start()

    def _interrupt(self) -> None:
        if not self._unheard:
            return  # told twice of one signal: it came while the loop was taken note of
        self._unheard -= 1
        assert self.display is not None
        first, self._interrupted = not self._interrupted, True
        self.display.interrupted(first)
        self._session.interrupt()

    def _end_if_held_up(self) -> None:
        """End this process and all that it started, if the event loop has not heard of the signals."""
        if not self._unheard or self.ended:
            return
        from allready.agents.leftovers import end_leftovers

        end_leftovers(self._session.id, grace=0, folder=self._session.folder)
        text = f"allready: a task's code holds up everything else: killed; go on with: {self.resume}"
        words = threading.Thread(target=exits.say, args=[text], daemon=True)
        words.start()
        words.join(LAST_WORDS)
        os._exit(exits.SIGNALED + (self.signal or 0))
