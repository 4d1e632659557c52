"""Keeping a store in order: `prune` and `db upgrade`."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Annotated

import typer

from allready.cli.options import (
    JsonOption,
    QuietOption,
    StoreOption,
    load_settings,
    open_settled_store,
    print_json,
)

if TYPE_CHECKING:
    from pathlib import Path

    from allready.cli.tables import Cell
    from allready.engine.prune import Choice, Gone
    from allready.store.contract import RunRow, Store

DEFAULT_AGE = "30d"
"""Age from which on runs go if nothing else is said."""
SHOWN = 20
"""Runs that are listed before it is asked; the others are counted."""
NEEDED = 1024 * 1024
"""Free bytes on the disk with which the store can remove a run of some hundred tasks."""
ADVISED = 3
"""Folders that are named on a full disk."""
ANSWERS = {"y": "yes", "n": "no"}

database = typer.Typer(help="Keep the store's tables up to date.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command("prune")(prune)
    database.command("upgrade")(upgrade)
    app.add_typer(database, name="db")


# --- prune ------------------------------------------------------------------------------------------------


def prune(
    runs: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN]...", help="Only these runs, whatever their age.")
    ] = None,
    older_than: Annotated[
        str | None,
        typer.Option(
            "--older-than",
            metavar="AGE",
            help=f"Only runs that ended longer ago: 12h, 30d. Default: {DEFAULT_AGE}, or any with --keep",
        ),
    ] = None,
    keep: Annotated[
        int | None, typer.Option("--keep", min=0, metavar="N", help="The newest N runs stay in any case.")
    ] = None,
    status: Annotated[
        str | None,
        typer.Option("--status", metavar="STATUS", help="Only those: completed, failed, canceled …"),
    ] = None,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Also runs that could still be resumed.")
    ] = False,
    strangers: Annotated[
        bool,
        typer.Option(
            "--strangers",
            help="Also folders that no run of this store names; not if other stores keep theirs there.",
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would go.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    store: StoreOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Remove old runs, with their folders.

    Only runs that have ended, and never one that a process drives. What is removed can't be brought back.
    """
    from allready.engine.prune import choose, choose_named, leftovers

    quiet = quiet or load_settings().quiet
    choice = _choice(runs, older_than, keep, status, unfinished=unfinished)
    with _advice_on_a_full_disk(store), closing(open_settled_store(store)) as opened:
        named = choose_named(opened, runs, unfinished=unfinished) if runs else None
        chosen = choose(opened, choice) if named is None else named
        left = [] if runs else leftovers(opened, strangers=strangers)
        if dry_run:
            return _tell_dry(opened, chosen, left, json=json)
        if not yes:
            _check_terminal(json=json)
            if (chosen or left) and not _confirmed(chosen, left):
                return 4
        return _remove(opened, chosen, left, json=json, quiet=quiet)


def _choice(
    runs: Sequence[str] | None,
    older_than: str | None,
    keep: int | None,
    status: str | None,
    *,
    unfinished: bool,
) -> Choice:
    """Give what the options choose. Raises `UserError` for what makes no sense."""
    from allready.core.states import RUN_ENDED, RunState
    from allready.engine.prune import Choice
    from allready.errors import UserError
    from allready.plan.durations import parse_duration

    if runs and (older_than is not None or keep is not None or status is not None):
        raise UserError("runs that are named go whatever their age and status: leave out the other options")
    if status is not None and status not in list(RunState):
        raise UserError(f"there is no status {status!r}; there are {', '.join(RunState)}")
    statuses = frozenset(RunState) if unfinished else RUN_ENDED
    if status is not None:
        if status not in statuses:
            raise UserError(f"runs that are {status} could be resumed: add --unfinished to remove them")
        statuses = frozenset([RunState(status)])
    if older_than is None and keep is None:
        older_than = DEFAULT_AGE
    try:
        age = None if older_than is None else parse_duration(older_than)
    except ValueError as error:
        raise UserError(f"--older-than {error}; days are 30d") from None
    return Choice(age, keep or 0, statuses)


def _check_terminal(*, json: bool) -> None:
    from allready.errors import UserError

    if json:
        raise UserError("--json can't ask whether to remove runs: add --yes or --dry-run")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UserError("there is no terminal to ask on: add --yes to remove runs, --dry-run to see which")


def _confirmed(chosen: Sequence[RunRow], left: Sequence[Path]) -> bool:
    from allready.cli.confirm import ask
    from allready.cli.tables import say

    for line in _lines(chosen, left):
        say(line)
    say("they can't be brought back; remove them?")
    return ask(ANSWERS) == "yes"


def _lines(chosen: Sequence[RunRow], left: Sequence[Path]) -> Iterator[str]:
    """Give what is to go, as a table, and in numbers."""
    from allready.cli.tables import ago, count, table
    from allready.cli.text import clean_line
    from allready.engine.prune import last_moment
    from allready.engine.views import short_id

    now = time.time()
    rows: list[list[Cell]] = [
        [short_id(row.id), (row.status, row.status), ago(last_moment(row), now), clean_line(row.goal)]
        for row in chosen[:SHOWN]
    ]
    yield from table(rows, ("RUN", "STATUS", "ENDED", "GOAL"), cut=(3,))
    if len(chosen) > SHOWN:
        yield f"… and {len(chosen) - SHOWN:,} more"
    yield f"{count(len(chosen), 'run')} to remove" + (
        f", and {count(len(left), 'folder')} without a run" if left else ""
    )


def _tell_dry(store: Store, chosen: Sequence[RunRow], left: Sequence[Path], *, json: bool) -> int:
    from allready.cli.checks import size_text
    from allready.cli.tables import say
    from allready.engine.prune import Gone, folder_of, size_of

    going = [Gone(path.name, None, path, size_of(path)) for path in left]
    for row in chosen:
        folder = folder_of(store, row)
        going.append(Gone(row.id, row, folder, 0 if folder is None else size_of(folder)))
    freed = sum(gone.size for gone in going)
    if json:
        for gone in going:
            print_json(_view(gone, removed=False))
        sums = {"runs": len(chosen), "folders": len(left), "freed": freed}
        print_json({**sums, "problems": 0, "dry_run": True})
    else:
        for line in _lines(chosen, left):
            say(line)
        if going:
            say(f"{size_text(freed)} of files")
    return 0


def _remove(store: Store, chosen: Sequence[RunRow], left: Sequence[Path], *, json: bool, quiet: bool) -> int:
    """Remove, and say what became of it; gives the exit code."""
    from allready.cli.checks import size_text
    from allready.cli.tables import count, say
    from allready.cli.text import clean_line
    from allready.engine.prune import give_back_space, remove_leftover, remove_run
    from allready.errors import StoreError

    done: list[Gone] = []
    # folders first: for them the store has not to write, which it can't on a full disk
    removals = chain(map(remove_leftover, left), (remove_run(store, row) for row in chosen))
    for gone in removals:
        done.append(gone)
        if json:
            print_json(_view(gone, removed=gone.problem is None))
        elif gone.problem is not None:
            print(f"allready: {clean_line(gone.problem)}", file=sys.stderr)
    advice = _advice([gone.folder for gone in done if gone.problem is not None and gone.folder is not None])
    if advice is not None:
        print(f"allready: {advice}", file=sys.stderr)
    try:
        freed = give_back_space(store) if any(gone.problem is None for gone in done) else 0
    except StoreError as error:  # what was removed is removed: its space is used by later runs
        print(f"allready: the store's file stays as large as it is: {error}", file=sys.stderr)
        freed = 0
    well = [gone for gone in done if gone.problem is None]
    freed += sum(gone.size for gone in well)
    runs = sum(gone.run is not None for gone in well)
    problems = len(done) - len(well)
    if json:
        print_json(
            {
                "runs": runs,
                "folders": len(well) - runs,
                "freed": freed,
                "problems": problems,
                "dry_run": False,
            }
        )
    elif not quiet:
        parts = [f"{count(runs, 'run')} removed"]
        if len(well) > runs:
            parts.append(f"{count(len(well) - runs, 'folder')} without a run")
        say(f"{', '.join(parts)}; {size_text(freed)} freed" if done else "nothing to remove")
    return 1 if problems else 0


@contextmanager
def _advice_on_a_full_disk(store: str | None) -> Iterator[None]:
    """Add what to do to an error of the store, if the disk is full."""
    from allready.errors import StoreError
    from allready.store.open import files_folder

    try:
        yield
    except StoreError as error:
        place = files_folder(store if store is not None else load_settings().store) / "runs"
        folders = [folder for folder in place.iterdir() if folder.is_dir()] if place.is_dir() else []
        advice = _advice(folders)
        if advice is None:
            raise
        raise StoreError(f"{error}\n{advice}") from error


def _advice(folders: Sequence[Path]) -> str | None:
    """Say what may go by hand, if the disk that these folders of runs are on is full."""
    from allready.cli.checks import size_text
    from allready.engine.prune import size_of

    if not folders or shutil.disk_usage(folders[0].parent).free >= NEEDED:
        return None
    sizes = sorted(((size_of(folder), folder) for folder in folders), reverse=True)[:ADVISED]
    return (
        "the disk is full, and the store has to write even to remove a run: make "
        f"{size_text(NEEDED)} of room on it, then prune again. Of what is here, the folder of a run that is "
        "not needed any more may go (its outputs are lost then; prune removes the rest). The largest:"
        + "".join(f"\n  {size_text(size):>9}  {folder}" for size, folder in sizes)
    )


def _view(gone: Gone, *, removed: bool) -> dict[str, object]:
    from allready.engine.views import rfc3339

    row = gone.run
    return {
        "run": gone.id,
        "goal": None if row is None else row.goal,
        "status": None if row is None else row.status,
        "finished_at": None if row is None else rfc3339(row.finished_at),
        "folder": None if gone.folder is None else str(gone.folder),
        "bytes": gone.size,
        "removed": removed,
        "problem": gone.problem,
    }


# --- db ---------------------------------------------------------------------------------------------------


def upgrade(store: StoreOption = None, json: JsonOption = False) -> None:
    """Bring the store's tables up to date.

    Other commands do the same when they open a store; this one says what it did.
    """
    from allready.cli.tables import say
    from allready.store.open import place_of, upgrade

    url = store if store is not None else load_settings().store
    before, after = upgrade(url)
    where = place_of(url)
    if json:
        print_json({"store": where, "before": before, "after": after, "changed": before != after})
    elif before == after:
        say(f"{where} is up to date: version {after}")
    else:
        say(f"{where} was brought from version {before or 'none'} to {after}")
