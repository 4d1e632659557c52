"""From what a person says (`--store`, nothing, a path, a URL) to an open store, or to a clear error.

SQLAlchemy takes a third of a second to import: here only once it is sure that there is something to open.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from allready.errors import StoreError, UserError

if TYPE_CHECKING:
    from allready.store.database import Database
    from allready.store.postgresql import PostgresDatabase
    from allready.store.sql import SqlStore

DEFAULT_PATH = Path(".allready/runs.db")
"""Where runs are kept if nothing else is said, from the working directory."""
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)


class StoreMissing(UserError):
    """There is no store at that place yet (and none was to be made): no run was started there."""


def open_store(
    url: str | Path | None = None, *, create: bool = True, clock: Callable[[], float] | None = None
) -> SqlStore:
    """Open the store at `url`: `sqlite:///PATH`, a path, `postgresql://…`, or None for `.allready/runs.db`.

    What is missing is made: the folder (not the folders above it), the file, a server's schema, its tables;
    older tables are brought up to date. Without `create` a missing store raises `StoreMissing`, at once and
    without an effect. `clock` gives seconds since 1970, for leases and commands; None: the database's.

    Raises `UserError` for a URL that makes no sense, `StoreError` for a store that can't be used (a file or
    schema of another program, tables of a newer allready, no rights, locked for long); nothing was changed.
    """
    database, place = _database(url, None if create else "no run was started here yet")
    try:
        if not database.exists():
            if not create:
                raise StoreMissing(f"the store at {place} is empty: no run was started here yet")
            if database.path is not None:
                _make_folder(database.path)
            database.prepare()
        if create and database.path is None:  # for the runs' files; others may have made the store elsewhere
            _make_folder(DEFAULT_PATH.absolute())
        from allready.store.sql import SqlStore

        store = SqlStore(database, clock)
        store.bring_up_to_date()
    except BaseException:
        database.close()
        raise
    return store


def upgrade(url: str | Path | None = None) -> tuple[str | None, str]:
    """Bring the tables of an existing store up to date; gives the version before and after.

    `open_store` does the same on the way. Raises what it raises, and `StoreMissing`.
    """
    database, place = _database(url, "nothing to upgrade")
    try:
        if not database.exists():
            raise StoreMissing(f"the store at {place} is empty: nothing to upgrade")
        from allready.store.sql import SqlStore

        return SqlStore(database).bring_up_to_date()
    finally:
        database.close()


def files_folder(url: str | Path | None) -> Path:
    """Give where a store's files are kept: beside the database, or in the working directory.

    Raises `UserError` for a URL that makes no sense.
    """
    return folder_beside(None if is_on_server(url) else sqlite_path(url))


def folder_beside(path: Path | None) -> Path:
    """Give where the files of a store with this path are kept; None: of one on a server."""
    return (path or DEFAULT_PATH.absolute()).parent


def is_on_server(url: str | Path | None) -> bool:
    """Say whether a URL names a database on a PostgreSQL server."""
    match = _URL.fullmatch(url) if isinstance(url, str) else None
    return match is not None and match[1].lower().partition("+")[0] in ("postgresql", "postgres")


def place_of(url: str | Path | None) -> str:
    """Give where a store is, for people: its path, or the URL of a server. Raises `UserError`."""
    return without_password(str(url)) if is_on_server(url) else str(sqlite_path(url))


def _database(url: str | Path | None, unless_missing: str | None) -> tuple[Database, str]:
    """Give the database, and its name for people.

    Raises `StoreMissing` with the reason `unless_missing` if there is no file; imports nothing heavy then.
    """
    if is_on_server(url):
        database = _on_server(str(url))
        return database, database.url
    path = sqlite_path(url)
    if unless_missing is not None and not _is_there(path):
        raise StoreMissing(f"no store at {path}: {unless_missing}")
    from allready.store.sqlite import SqliteDatabase

    return SqliteDatabase(path), str(path)


def _on_server(url: str) -> PostgresDatabase:
    try:
        import psycopg  # noqa: F401
    except ImportError as error:  # also if it is there without the library that it needs
        reason = str(error).splitlines()[0]
        raise UserError(
            f"stores on PostgreSQL need its driver: pip install 'allready[postgres]' ({reason})"
        ) from error
    from allready.store.postgresql import PostgresDatabase

    return PostgresDatabase(url)


def sqlite_path(url: str | Path | None) -> Path:
    """Give the absolute path of the SQLite file that is meant. Raises `UserError`."""
    if url is None:
        return DEFAULT_PATH.absolute()
    match = _URL.fullmatch(url) if isinstance(url, str) else None
    if match is None:
        text = str(url)
    else:
        scheme, rest = match.groups()
        scheme = scheme.lower()
        shown = without_password(str(url))
        if scheme.partition("+")[0] != "sqlite":
            raise UserError(
                f"{shown}: unknown kind of store {scheme!r}; use sqlite:///PATH, a path, or postgresql://…"
            )
        if not rest.startswith("/") or "?" in rest:
            raise UserError(
                f"{url}: write sqlite:///relative/path.db or sqlite:////absolute/path.db, without options"
            )
        text = rest[1:]
    if not text.strip() or text == ":memory:" or "\0" in text:
        raise UserError(f"{str(url)!r} names no file to keep runs in; use sqlite:///PATH or a path")
    if text.endswith("/"):
        raise UserError(f"{url} names a folder; a store is a file: {url}runs.db, say")
    return Path(text).expanduser().absolute()


def without_password(url: str) -> str:
    """Give a URL that may be shown."""
    url = re.sub(r"(://[^/@:]*):.*@", r"\1:***@", url, flags=re.DOTALL)
    return re.sub(r"(password=)[^&]*", r"\1***", url)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise StoreError(f"{path} can't be looked at: {error.strerror}") from error


def _make_folder(path: Path) -> None:
    folder = path.parent
    try:
        folder.mkdir(exist_ok=True)
    except FileNotFoundError:
        raise StoreError(
            f"{path}: there is no folder {folder.parent}; make it first, or name another store with --store"
        ) from None
    except OSError as error:
        raise StoreError(
            f"{path}: the folder {folder} can't be made: {error.strerror}; name another store with --store"
        ) from error
    if folder.name == DEFAULT_PATH.parent.name:
        _write_gitignore(folder, path.name)


def _write_gitignore(folder: Path, name: str) -> None:
    """Keep runs out of git, but not the agents, which live in the same folder."""
    try:
        with (folder / ".gitignore").open("x", encoding="utf-8") as file:
            file.write(f"# written by allready\n/.gitignore\n/{name}*\n/runs/\n/plans/\n")
    except OSError:
        pass  # there is one already; if the folder can't be written, the store will say so
