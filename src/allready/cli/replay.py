"""`replay`: whether the scheduler of today decides as that of a recorded run did."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from allready.cli.exits import COMPLETED, FAILED
from allready.cli.options import (
    JsonOption,
    QuietOption,
    StoreOption,
    load_settings,
    open_settled_store,
    print_json,
)

if TYPE_CHECKING:
    from allready.engine.replay import Recording, Replayed
    from allready.errors import ReplayDiverged

STORY_LINES = 20
"""Last steps of a task's story that are shown."""


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("replay")(replay)


def replay(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help="A run's id, the beginning of one, or latest; or a file made with --export."
        ),
    ] = "latest",
    export: Annotated[
        Path | None,
        typer.Option("--export", metavar="FILE", help="Write what is needed to play it again to a file."),
    ] = None,
    store: StoreOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Play a run's journal through the scheduler again.

    Says whether it decides the same. Exit code 1 if it does not, with the first difference. Nothing is run,
    and the run is not touched; it may be under way.
    """
    from allready.engine.recording import write_recording
    from allready.engine.replay import play

    recording = _read(run, store)
    if export is not None:
        write_recording(recording, export)
    replayed = play(recording)
    if json:
        print_json(_view(replayed))
    elif replayed.difference is not None or not (quiet or load_settings().quiet):
        from allready.cli.tables import say
        from allready.cli.text import clean

        for line in _lines(replayed):
            say(line)
        if export is not None:
            say(f"written to {clean(str(export))}")
    return COMPLETED if replayed.difference is None else FAILED


def _read(run: str, store: str | None) -> Recording:
    from allready.engine.recording import load_recording
    from allready.engine.replay import read_recording

    if Path(run).is_file():
        return load_recording(Path(run))
    with closing(open_settled_store(store)) as opened:
        return read_recording(opened, opened.find_run(run))


def _view(replayed: Replayed) -> dict[str, Any]:
    from allready.engine.views import rfc3339

    view: dict[str, Any] = {
        "same": replayed.difference is None,
        "inputs": replayed.inputs,
        "batches": replayed.batches,
        "decisions": replayed.decisions,
        "events": replayed.events,
        "states_compared": replayed.final and replayed.difference is None,
    }
    difference = replayed.difference
    if difference is not None:
        view["difference"] = {
            "step": difference.step,
            "time": rfc3339(difference.at),
            "task": difference.task,
            "recorded": list(difference.recorded),
            "now": difference.now,
            "why": difference.why,
            "story": list(difference.story),
        }
    return view


def _lines(replayed: Replayed) -> Iterator[str]:
    from allready.cli.tables import count

    counts = [
        count(replayed.inputs, "input"),
        f"{replayed.batches:,} batch{'es' * (replayed.batches != 1)}",
        count(replayed.decisions, "decision"),
        count(replayed.events, "event"),
    ]
    difference = replayed.difference
    if difference is None:
        states = ", and the states at the end" if replayed.final else "; the run went on meanwhile"
        yield f"decides the same: {', '.join(counts)}{states}"
        return
    place = f"step {difference.step:,} of {replayed.inputs:,}"
    yield f"decides otherwise at {place}, {_when(replayed, difference)}"
    yield from _difference_lines(difference, replayed.began_at or 0.0)
    yield ""
    yield f"the same up to there: {', '.join(counts[1:])}"


def _when(replayed: Replayed, difference: ReplayDiverged) -> str:
    from allready.cli.tables import time_text
    from allready.cli.text import duration_text

    if difference.at is None:
        return "before the first tick"
    began = replayed.began_at if replayed.began_at is not None else difference.at
    return f"{time_text(difference.at)} ({duration_text(difference.at - began)} after its beginning)"


def _difference_lines(difference: ReplayDiverged, began_at: float) -> Iterator[str]:
    import json

    from allready.cli.text import clean_line

    recorded = json.dumps(list(difference.recorded), ensure_ascii=False)
    facts = {
        "task": difference.task or "",
        "recorded": recorded,
        "now": f"the scheduler {difference.now}",
        "stands": difference.why or "",
    }
    for name, text in facts.items():
        if text:
            yield f"  {name:<9} {clean_line(text)}"
    if difference.story:
        yield f"  {'story':<9} {'of the task' if difference.task else 'of the run'} before it:"
        if len(difference.story) > STORY_LINES:
            yield f"            … {len(difference.story) - STORY_LINES:,} earlier steps"
        for line in difference.story[-STORY_LINES:]:
            at, _, what = line.partition(" ")
            yield f"            {float(at) - began_at:+.3f} s  {clean_line(what)}"
