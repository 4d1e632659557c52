"""`run` and `resume`: a run in the foreground, from its first tick to its exit code."""

from __future__ import annotations

import signal
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import typer

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
from allready.cli.tables import hint
from allready.core.states import RunState
from allready.errors import StoreError, UserError

if TYPE_CHECKING:
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
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""A terminal's Ctrl-C, a container's stop, a closed terminal: each leaves a run that can be resumed."""


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
    from allready.errors import RunOwned

    settings = load_settings()
    with ExitStack() as stack:
        opened = open_settled_store(store)
        stack.callback(opened.close)
        run_id = opened.find_run(run)
        try:
            session = resume_session(
                opened,
                run_id,
                max_parallel=max_parallel,
                models=Models(model) if model is not None else None,
                limits=limits_of(max_tokens, max_requests, max_cost),
            )
        except RunOwned as error:
            if opened.run(run_id).status != RunState.PAUSED:
                raise
            changed = (model, max_parallel, max_tokens, max_requests, max_cost)
            if any(option is not None for option in changed):
                raise UserError(
                    f"{error}; a run that is driven takes no other limits or model: "
                    "stop it there first (Ctrl-C), then resume it"
                ) from None
            return _tell_owner(opened, run_id, json=json)
        return drive(session, json=json, quiet=quiet or settings.quiet, store=store)


def _tell_owner(store: Store, run_id: str, *, json: bool) -> int:
    from allready.engine.steer import steer
    from allready.engine.views import short_id
    from allready.errors import CommandRefused

    steered = steer(store, run_id, "resume")
    if steered.refused is not None and store.run(run_id).status == RunState.PAUSED:
        raise CommandRefused(steered.refused)
    where = f"process {steered.owner.pid} on {steered.owner.host}" if steered.owner else "its process"
    if json:
        print_json({"run": run_id, "command": "resume", "done": steered.done})
    else:
        what = "was told to go on" if steered.refused is None and not steered.done else "goes on"
        print(f"run {short_id(run_id)} {what} in {where}; follow it: allready logs {short_id(run_id)} -f")
    return 0


# --- driving ----------------------------------------------------------------------------------------------


def drive(session: Session, *, json: bool, quiet: bool, store: str | None) -> int:
    """Drive a run to its end in the foreground, showing it; gives the exit code."""
    import asyncio

    from allready.cli.progress import choose_display
    from allready.engine.views import short_id

    display = choose_display(session, json=json, quiet=quiet, store=store)
    foreground = _Foreground(session, display)
    try:
        result = asyncio.run(foreground.drive())
    except StoreError as error:
        exits.tell(error)
        again = hint("resume", short_id(session.id), store=store)
        print(f"allready: the run was stopped; when the store works again: {again}", file=sys.stderr)
        return exits.FAILED if foreground.signal is None else exits.SIGNALED + foreground.signal
    display.finish(result, foreground.signal)
    if foreground.signal is not None and result.status is RunState.PAUSED:
        return exits.SIGNALED + foreground.signal
    return EXIT_CODES[result.status]


class _Foreground:
    """A run, what shows it, and the signals that reach this process."""

    def __init__(self, session: Session, display: Display) -> None:
        self._session = session
        self._display = display
        self.signal: int | None = None
        """The first that came."""

    async def drive(self) -> RunResult:
        from asyncio import get_running_loop

        loop = get_running_loop()
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                loop.add_signal_handler(number, self._interrupt, number)
        self._session.observe(self._display.observe)
        self._session.on_output = self._display.output
        self._session.on_store = self._display.store_away
        with self._display:
            return await self._session.drive(wait_for_person=self._display.asks)

    def _interrupt(self, number: int) -> None:
        first = self.signal is None
        if first:
            self.signal = number
        self._display.interrupted(first)
        self._session.interrupt()
