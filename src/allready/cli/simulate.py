"""`simulate`: how long a plan would take, and with how many places."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from allready.cli.options import (
    JsonOption,
    SetOption,
    StoreOption,
    load_settings,
    open_settled_store,
    print_json,
    variables_of,
)
from allready.errors import StoreError, UserError

if TYPE_CHECKING:
    from allready.engine.simulate import Simulation, Step, Workload
    from allready.store.contract import RunRow

MOST_SLOTS = 100_000
"""A wider pool is a slip of the pen."""
WIDTH = 80
"""Columns of the picture where no screen is."""
PATH_NAMES = 8
"""Tasks of the critical path that are named; of more the first and the last."""
NOTED_NAMES = 5
"""Tasks that a note names."""
_PLAN = re.compile(r"-|.*[/:].*|.*\.(ya?ml|json|py)", re.DOTALL)
"""What names a plan, whether it is there or not; anything else may be a run."""


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("simulate")(simulate)


class _Source(NamedTuple):
    """What is simulated."""

    workload: Workload
    head: list[str]
    """Lines about it, for people."""
    run: str | None


def simulate(
    plan: Annotated[
        str,
        typer.Argument(
            metavar="PLAN",
            help="A plan file, - for standard input, or package.module:plan; or a run: its id or latest.",
        ),
    ],
    slots: Annotated[
        str, typer.Option("--slots", metavar="N,N,…", help="Numbers of places in the pool to try.")
    ] = "1,2,4,8",
    estimate: Annotated[
        str,
        typer.Option("--estimate", metavar="TIME", help="What tasks take that have no estimate: 30s, 5m."),
    ] = "1m",
    gantt: Annotated[
        int | None,
        typer.Option(
            "--gantt", min=0, metavar="N", help="Draw the run with N places. Default: most; 0: none"
        ),
    ] = None,
    variables: SetOption = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Say what a plan would take.

    With so many places in the pool: its time, how well they are used, the critical path. A task takes its
    estimate; of a run, what it took there ("what if I had had 8 places"). Nothing is run.
    """
    from allready.engine.simulate import critical_path
    from allready.engine.simulate import simulate as play

    widths = _numbers(slots)
    seconds = _seconds(estimate)
    source = _read(plan, variables_of(variables), seconds, store)
    drawn = max(widths) if gantt is None else gantt
    simulations = {width: play(source.workload, width) for width in dict.fromkeys([*widths, drawn]) if width}
    path = critical_path(source.workload)
    tried = [simulations[width] for width in widths]
    picture = simulations.get(drawn)
    if json:
        print_json(_view(source, tried, path, picture))
        return
    from allready.cli.tables import say

    for line in _lines(source, tried, path, picture, seconds):
        say(line)


def _numbers(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    few_digits = re.compile(r"[0-9]{1,6}")
    if not all(few_digits.fullmatch(part) and 0 < int(part) <= MOST_SLOTS for part in parts):
        raise UserError(
            f"--slots {text[:80]}: write numbers from 1 to {MOST_SLOTS:,}, such as --slots 1,2,4,8"
        )
    return sorted({int(part) for part in parts})


def _seconds(text: str) -> float:
    from allready.plan.durations import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise UserError(f"--estimate {text}: {error}") from None


def _read(source: str, variables: dict[str, str], seconds: float, store: str | None) -> _Source:
    if Path(source).is_file() or _PLAN.fullmatch(source):
        return _read_plan(source, variables, seconds, store)
    if variables:
        raise UserError("--set fills the variables of a plan; a run has its own")
    from allready.engine.simulate import workload_of_run

    try:
        with closing(open_settled_store(store)) as opened:
            run_id = opened.find_run(source)
            row, tasks = opened.run(run_id), opened.tasks(run_id)
    except UserError as error:
        raise UserError(f"there is no file {source!r}, and no such run: {error}") from None
    workload = workload_of_run(row, tasks, seconds)
    return _Source(workload, list(_run_head(row)), run_id)


def _read_plan(source: str, variables: dict[str, str], seconds: float, store: str | None) -> _Source:
    from allready.agents.models import Models, choose_model
    from allready.cli.sources import read_plan
    from allready.engine.compile import compile_plan
    from allready.engine.earlier import use_earlier
    from allready.engine.simulate import workload_of_plan
    from allready.store import StoreMissing

    read, agents = read_plan(source, variables)
    models = Models(choose_model(load_settings().model))
    compiled = compile_plan(read, agents, models=models, check_models=False)
    earlier: set[str] = set()
    # without a store there were no earlier runs; one that does not work is told of by what needs it
    with suppress(StoreMissing, StoreError), closing(open_settled_store(store)) as opened:
        earlier = use_earlier(compiled, opened)
    workload = workload_of_plan(compiled, seconds)
    workload.earlier = len(earlier)
    return _Source(workload, [], None)


def _run_head(row: RunRow) -> Iterator[str]:
    from allready.cli.tables import span
    from allready.engine.views import short_id

    took = span(row.started_at, row.finished_at)
    what = f"took {took} (with its waits for people, retries and pauses)" if took else "has not ended"
    yield f"run {short_id(row.id)} {what}; here each task takes what its last attempt took"


# --- for people -------------------------------------------------------------------------------------------


def _lines(
    source: _Source,
    tried: Sequence[Simulation],
    path: Sequence[Step],
    picture: Simulation | None,
    seconds: float,
) -> Iterator[str]:
    from allready.cli.gantt import draw_gantt
    from allready.cli.tables import count, screen_width

    yield from source.head
    yield from _notes(source, tried, seconds)
    yield ""
    yield from _table(tried)
    yield ""
    yield _worth_it(tried)
    width = screen_width() or WIDTH
    yield from _path_lines(path, width)
    if picture is None:
        return
    yield ""
    yield f"with {count(picture.slots, 'slot')}:"
    yield from draw_gantt(picture, [step.task for step in path], width=width, ascii_only=not _has_unicode())


def _has_unicode() -> bool:
    return (sys.stdout.encoding or "").lower().startswith("utf")


def _notes(source: _Source, tried: Sequence[Simulation], seconds: float) -> Iterator[str]:
    from allready.cli.tables import count
    from allready.cli.text import duration_text

    workload = source.workload
    yield f"{count(len(workload.specs), 'task')}, {duration_text(workload.work)} one after the other"
    if workload.earlier:
        one = workload.earlier == 1
        tasks = "1 task has" if one else f"{workload.earlier:,} tasks have"
        yield f"note: {tasks} no estimate and {'takes' if one else 'take'} the median from earlier runs"
    if workload.assumed:
        taken = "the average of the others" if source.run else f"{duration_text(seconds)} (--estimate)"
        one = workload.assumed == 1
        tasks = "1 task has" if one else f"{workload.assumed:,} tasks have"
        yield f"note: {tasks} no estimate and {'is' if one else 'are'} taken to last {taken}"
    approvals = sum(spec.approval for spec in workload.specs)
    if approvals:
        yield f"note: {count(approvals, 'approval')} taken to come at once"
    if workload.failing:
        yield f"note: {count(len(workload.failing), 'task')} failed or left out there: so here as well"
    if workload.too_long:
        yield f"note: the timeout is shorter than the estimate of {_names(workload.too_long)}"
    limit = workload.timeout
    late = [count(each.slots, "slot") for each in tried if limit is not None and each.makespan > limit]
    if late and limit is not None:
        yield f"note: the run has {duration_text(limit)} in all, too little with {', '.join(late)}"


def _names(names: Sequence[str]) -> str:
    from allready.cli.text import clean_line

    told = ", ".join(map(clean_line, names[:NOTED_NAMES]))
    return told if len(names) <= NOTED_NAMES else f"{told} and {len(names) - NOTED_NAMES:,} more"


def _table(tried: Sequence[Simulation]) -> Iterator[str]:
    from allready.cli.tables import table
    from allready.cli.text import clean_line, duration_text

    rows = [
        [
            f"{simulation.slots:,}",
            duration_text(simulation.makespan),
            f"{simulation.speedup:,.2f}",
            f"{simulation.use * 100:.0f} %",
            duration_text(simulation.bound),
            f"{simulation.ratio:.2f}",
            clean_line(simulation.bound_by),
        ]
        for simulation in tried
    ]
    head = ("SLOTS", "TAKES", "SPEED-UP", "USE", "BOUND", "TIMES BOUND", "SET BY")
    yield from table(rows, head, cut=(6,), right=(0, 1, 2, 3, 4, 5))


def _worth_it(tried: Sequence[Simulation]) -> str:
    from allready.cli.tables import count
    from allready.engine.simulate import WORTH_IT, worth_it

    slots = worth_it(tried).slots
    if len(tried) == 1:
        return f"tried: {count(slots, 'slot')}; more numbers with --slots"
    if slots == tried[-1].slots:
        return f"worth it: {count(slots, 'slot')}, the most that were tried"
    return f"worth it: {count(slots, 'slot')}; more save less than {WORTH_IT * 100:.0f} %"


def _path_lines(path: Sequence[Step], width: int) -> Iterator[str]:
    """Give the critical path, in as many lines as the width needs."""
    from allready.cli.tables import width_of
    from allready.cli.text import clean_line, duration_text

    arrow, dots = (" →", "…") if _has_unicode() else (" ->", "...")
    parts = [f"{clean_line(step.task)} ({duration_text(step.seconds)})" for step in path]
    if len(parts) > PATH_NAMES:
        half = PATH_NAMES // 2
        parts[half:-half] = [f"{dots} {len(parts) - 2 * half:,} more"]
    seconds = path[-1].start + path[-1].seconds if path else 0.0
    line = f"critical path: {duration_text(seconds)}:"
    for number, part in enumerate(parts, 1):
        text = part if number == len(parts) else part + arrow
        if width_of(f"{line} {text}") > width and line.strip():
            yield line
            line = " "
        line = f"{line} {text}"
    yield line


# --- for programs -----------------------------------------------------------------------------------------


def _view(
    source: _Source, tried: Sequence[Simulation], path: Sequence[Step], picture: Simulation | None
) -> dict[str, Any]:
    from allready.engine.simulate import worth_it

    workload = source.workload
    view: dict[str, Any] = {"run": source.run} if source.run else {}
    view |= {
        "tasks": len(workload.specs),
        "work_ms": _ms(workload.work),
        "without_estimate": workload.assumed,
        "from_earlier_runs": workload.earlier,
        "slots": [_simulation_view(simulation) for simulation in tried],
        "worth_it": worth_it(tried).slots,
        "critical_path": [
            {"task": step.task, "start_ms": _ms(step.start), "duration_ms": _ms(step.seconds)}
            for step in path
        ],
    }
    if picture is not None:
        view["schedule"] = {
            "slots": picture.slots,
            "tasks": [
                {
                    "task": span.task,
                    "slot": span.slot,
                    "ready_ms": _ms(span.ready),
                    "start_ms": _ms(span.start),
                    "end_ms": _ms(span.end),
                }
                for span in picture.spans
            ],
        }
    return view


def _simulation_view(simulation: Simulation) -> dict[str, Any]:
    return {
        "slots": simulation.slots,
        "makespan_ms": _ms(simulation.makespan),
        "speedup": round(simulation.speedup, 4),
        "use": round(simulation.use, 4),
        "bound_ms": _ms(simulation.bound),
        "bound_by": simulation.bound_by,
        "ratio": round(simulation.ratio, 4),
    }


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
