"""Bringing a store's tables to the version that this allready knows.

A store that is current (nearly always) is known by one row, and Alembic is not imported. Otherwise all
missing migrations run in the one transaction that the caller holds, so that other processes see the old
tables or the new ones, and a crash leaves the old ones.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from allready.errors import StoreError
from allready.store.schema import VERSIONS, alembic_version

MIGRATIONS = Path(__file__).with_name("migrations")


def current_version(connection: sa.Connection) -> str | None:
    """Give the version of the tables; None if there are none yet."""
    if not sa.inspect(connection).has_table(alembic_version.name):
        return None
    return connection.execute(sa.select(alembic_version.c.version_num)).scalar()


def check_known(version: str | None, url: str) -> None:
    """Raise `StoreError` for a version of the future."""
    if version is not None and version not in VERSIONS:
        raise StoreError(
            f"{url} was written by a newer allready (its tables are at version {version}, this one knows "
            f"{VERSIONS[-1]}); upgrade allready, or use another store with --store; nothing was changed"
        )


def run_migrations(connection: sa.Connection) -> None:
    """Run the missing migrations in the connection's transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
