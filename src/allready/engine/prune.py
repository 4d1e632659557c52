"""Removing old runs: their rows in the store, and their folders.

The order is what counts, for a crash can come at any instant:

1. the run is taken: nobody drives it, nobody can begin to; what a dead process of it left running is ended;
2. a mark in its folder says from which store it is about to go (and so it is known that one may write there);
3. its rows are removed, in one transaction, if it is still ours;
4. the folder is renamed, so that its name says it, too, and removed.

After a crash before 3 the run is there, whole, and a mark in its folder means nothing. After one between 3
and 4 the folder has a mark and no run, after one in 4 its name says enough: that is what `leftovers` finds. A
folder without a mark, or with that of another store, is no leftover, though this store knows nothing of it:
stores may share the place where folders are, and a folder is made before its run is recorded.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from allready.agents.folders import files_below, remove_folder
from allready.agents.leftovers import end_leftovers
from allready.core.states import RUN_ENDED
from allready.engine.start import runs_folder
from allready.engine.steer import nobody_drives
from allready.errors import AllreadyError, RunNotFound, RunOwned, UserError
from allready.store.contract import RunRow, Store
from allready.store.files import sync_folder
from allready.store.owners import this_process

PAGE = 1_000
"""Runs that are read at a time."""
MARK = ".pruned"
"""File in the folder of a run that is being removed; later the end of the folder's name."""
STRANGER_AGE = 3_600.0
"""Seconds after which a folder that no run names can't be that of a run about to be recorded."""
_FOLDER = re.compile(rf"([0-9a-f]{{8}}-[0-9a-f]{{4}}-7[0-9a-f]{{3}}-[0-9a-f]{{4}}-[0-9a-f]{{12}})({MARK})?")


@dataclass(slots=True, frozen=True)
class Choice:
    """Which runs go: all conditions have to be met."""

    older_than: float | None = None
    """Seconds since the run ended; since it was begun, if it has not ended. None: of any age."""
    keep: int = 0
    """The newest runs stay, so many of them."""
    statuses: Collection[str] = RUN_ENDED
    """Runs with another status stay."""


@dataclass(slots=True)
class Gone:
    """A run, or a folder without one, that was to be removed."""

    id: str
    run: RunRow | None
    """None for a folder without a run."""
    folder: Path | None
    size: int = 0
    """Bytes of the files in the folder."""
    problem: str | None = None
    """Why it is still there; None if it is not."""


def choose(store: Store, choice: Choice, now: float | None = None) -> list[RunRow]:
    """Give the runs that are to go, newest first; those that a process drives stay, whatever is wanted."""
    now = time.time() if now is None else now
    chosen: list[RunRow] = []
    for place, row in enumerate(all_runs(store)):
        if place < choice.keep or row.status not in choice.statuses or not nobody_drives(row):
            continue
        if choice.older_than is not None and now - last_moment(row) < choice.older_than:
            continue
        chosen.append(row)
    return chosen


def choose_named(store: Store, names: Sequence[str], *, unfinished: bool) -> list[RunRow]:
    """Give the runs of these names, each once.

    Raises `RunNotFound`, `RunOwned` for a run that a process drives, and `UserError` for one that has not
    ended, unless `unfinished` ones may go, too.
    """
    found: dict[str, RunRow] = {}
    for name in names:
        row = store.run(store.find_run(name), plan=False)
        if not nobody_drives(row):
            owner = row.owner
            who = f"process {owner.pid} on {owner.host}" if owner else "a process"
            raise RunOwned(f"run {row.id} is driven by {who}: cancel it first")
        if row.status not in RUN_ENDED and not unfinished:
            raise UserError(
                f"run {row.id} has not ended ({row.status}) and could be resumed: "
                "add --unfinished to remove it all the same"
            )
        found[row.id] = row
    return list(found.values())


def all_runs(store: Store) -> Iterator[RunRow]:
    """Give all runs, newest first."""
    before: str | None = None
    while page := store.runs(PAGE, before):
        yield from page
        before = page[-1].id


def last_moment(row: RunRow) -> float:
    """Give when a run ended; when it was begun, if it has not."""
    return max(row.created_at, row.started_at or 0.0, row.finished_at or 0.0)


def folder_of(store: Store, row: RunRow) -> Path | None:
    """Give the folder of a run that may be removed with it; None if there is none here.

    That of a file's store is beside it, whatever its row says: the project may have been moved or copied,
    and then the row names the folder of somebody else.
    """
    folder = runs_folder(store) / row.id
    if store.path is None:
        folder = Path(row.folder)
        if folder.name != row.id or folder.parent.name != runs_folder(store).name:
            return None
    return folder if folder.is_dir() and not folder.is_symlink() else None


# --- removing ---------------------------------------------------------------------------------------------


def remove_run(store: Store, row: RunRow) -> Gone:
    """Remove a run and its folder. What stands in the way is in the answer: then the run is as it was."""
    gone = Gone(row.id, row, None)
    try:
        gone.folder = folder_of(store, row)
        if gone.folder is not None:
            gone.size = size_of(gone.folder)
        _remove_rows(store, row, gone.folder)
        if gone.folder is not None:
            remove_tree(gone.folder)
    except RunNotFound:  # another prune was faster
        pass
    except OSError as error:
        gone.problem = _cause(error, gone.folder)
    except AllreadyError as error:
        gone.problem = str(error)
    return gone


def _remove_rows(store: Store, row: RunRow, folder: Path | None) -> None:
    """Mark a run's folder and remove its rows, if nothing has happened to it since it was chosen."""
    lease = store.acquire(row.id, this_process())
    try:
        if store.run(row.id, plan=False).last_seq != row.last_seq:
            raise UserError(f"run {row.id} was taken up again meanwhile: it stays")
        if row.status not in RUN_ENDED:
            end_leftovers(row.id, folder=folder)
        if folder is not None:
            _set_mark(store, folder)
        store.delete_run(row.id, lease.epoch)
    except BaseException:
        with suppress(AllreadyError, OSError):
            # after a lost connection the rows may be gone: then the next prune needs the mark
            if folder is not None and _is_run(store, row.id):
                (folder / MARK).unlink(missing_ok=True)
        with suppress(AllreadyError):
            store.release(row.id, lease.epoch)
        raise


def _set_mark(store: Store, folder: Path) -> None:
    with (folder / MARK).open("wb") as file:
        file.write(_mark_of(store))
        file.flush()
        os.fsync(file.fileno())
    sync_folder(folder)


def _mark_of(store: Store) -> bytes:
    """Give what the marks of a store say, and those of no other store whose folders may be there, too.

    Of files only the name: all of them are beside the folders, also after the project was moved.
    """
    name = store.url if store.path is None else store.path.name
    return os.fsencode(f"allready prune is removing this run from {name}\n")


def _has_mark(store: Store, folder: Path) -> bool:
    try:
        return (folder / MARK).read_bytes() == _mark_of(store)
    except OSError:
        return False


def leftovers(store: Store, *, strangers: bool = False, now: float | None = None) -> list[Path]:
    """Give folders of runs that are not there any more: those that an earlier removal left.

    With `strangers` also others that no run of this store names, if they are older than an hour: for places
    where no other store keeps its folders.
    """
    place = runs_folder(store)
    now = time.time() if now is None else now
    try:
        folders = [Path(entry.path) for entry in os.scandir(place) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    return sorted(folder for folder in folders if _is_left(store, folder, strangers=strangers, now=now))


def _is_left(store: Store, folder: Path, *, strangers: bool, now: float) -> bool:
    name = _FOLDER.fullmatch(folder.name)
    if name is None:
        return False
    if name[2]:
        return True
    marked = _has_mark(store, folder) or (strangers and now - _made_at(name[1]) > STRANGER_AGE)
    return marked and not _is_run(store, name[1])


def _made_at(run_id: str) -> float:
    """Give when the id was made, in seconds since 1970 (RFC 9562, section 5.7)."""
    return int(run_id[:8] + run_id[9:13], 16) / 1000


def _is_run(store: Store, run_id: str) -> bool:
    try:
        store.run(run_id, plan=False)
    except RunNotFound:
        return False
    return True


def remove_leftover(folder: Path) -> Gone:
    """Remove a folder without a run."""
    gone = Gone(folder.name.removesuffix(MARK), None, folder, size_of(folder))
    try:
        remove_tree(folder)
    except OSError as error:
        gone.problem = _cause(error, folder)
    return gone


def remove_tree(folder: Path) -> None:
    """Remove a run's folder with all that is in it, also what a task made read-only; links are not followed.

    Raises `OSError`.
    """
    if not folder.name.endswith(MARK):
        going = folder.with_name(folder.name + MARK)
        if going.exists():
            remove_folder(going)
        folder = folder.rename(going)
    remove_folder(folder)


def size_of(folder: Path) -> int:
    """Give the bytes of the files in a folder, as far as they can be seen."""
    total = 0
    for entry in files_below(folder):
        with suppress(OSError):
            total += entry.stat(follow_symlinks=False).st_size
    return total


def _cause(error: OSError, folder: Path | None) -> str:
    where = error.filename or folder
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    todo = "make room on the disk" if full else "see who may write there"
    return f"{where} can't be removed: {error.strerror or error}; {todo}, then prune again"


def give_back_space(store: Store) -> int:
    """Give the store's free space back to the disk; gives how many bytes that was.

    Not while a run is driven: it would have to wait. What is free is used again by later runs anyway.
    """
    if any(not nobody_drives(row) for row in all_runs(store)):
        return 0
    return store.compact()
