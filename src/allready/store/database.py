"""What differs between databases: the part of a store that is not SQL through SQLAlchemy Core."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Protocol

import sqlalchemy as sa

from allready.errors import StoreError


class ServerState(NamedTuple):
    """How a database's server is set up, as far as it matters here."""

    version: str
    """With the product's name."""
    syncs: bool
    """Whether what it has committed outlives a crash of its machine."""
    standby: bool
    """Whether it takes no writes."""
    connections: int
    """In use, by anybody."""
    most_connections: int
    lacking: str | None
    """What gives the user the rights to write, as statements for the tables' owner; None if it may."""


class Database(Protocol):
    """One database, as `SqlStore` needs it: `SqliteDatabase` or `PostgresDatabase`."""

    url: str
    """Without a password: it is shown."""

    @property
    def path(self) -> Path | None:
        """The file; None if it is on a server."""
        ...

    @property
    def engine(self) -> sa.Engine:
        """For reading: a transaction sees one state of the database."""
        ...

    @property
    def writer(self) -> sa.Engine:
        """For writing: a transaction that read first can't be kept from writing by another one."""
        ...

    driver_error: type[Exception]
    """What the driver raises where SQLAlchemy is not in between."""

    def exists(self) -> bool:
        """Say whether there is a store of ours. Raises `StoreError` if something else is in its place."""
        ...

    def prepare(self) -> None:
        """Make the place for a store ours, before its tables are made; several processes may at once."""
        ...

    def now(self, connection: sa.Connection) -> float:
        """Give seconds since 1970 by the clock that all who use the database share."""
        ...

    def lock_for_migration(self, connection: sa.Connection) -> None:
        """Keep other processes from migrating until the connection's transaction has ended."""
        ...

    def notify(self, connection: sa.Connection, run_id: str) -> None:
        """Tell other processes that a command is recorded in the connection's transaction."""
        ...

    def changed(self, watcher: str) -> bool:
        """Do what `Store.changed` promises, with few microseconds of work."""
        ...

    def breaks_rule(self, error: BaseException) -> bool:
        """Say whether what was asked for can't be (a row twice, a value out of range): the caller's fault."""
        ...

    def kind_of(self, error: BaseException) -> type[StoreError]:
        """Give what an error means: `StoreBusy`, `StoreUnavailable` (trying again may help), `StoreError`."""
        ...

    def explain(self, error: BaseException) -> str:
        """Say what happened, where, and what to do."""
        ...

    def server(self) -> ServerState | None:
        """Give how its server is set up; None if there is no server."""
        ...

    def compact(self) -> int:
        """Do what `Store.compact` promises."""
        ...

    def close(self) -> None:
        """Close all connections."""
        ...
