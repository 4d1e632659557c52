"""The tables. Migrations in `migrations/versions` lead there; a test proves that they give the same.

Why they are cut like this:

* A commit touches the run's row every time, so what is long and never changes (the plan) is in another table.
  For the same reason no index has a column that commits change.
* `events` and `inputs` are only appended to, in the order of their key: without a rowid, SQLite keeps one
  tree for them instead of two, and a commit writes one page less for each.
* What may be long stands last in its table: reading the columns before it leaves it on the disk.
* JSON is text: nothing is searched in it, and PostgreSQL's own JSON type would lose the order of keys.
* The seed is text because it may be larger than any integer column.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

VERSIONS = ("0001", "0002", "0003")
"""All migrations, oldest first. A store with another version is of a newer allready."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Name = String().with_variant(String(collation="C"), "postgresql")
"""Ids: compared byte by byte, so that order and beginnings mean the same in every database."""


def _run_id() -> Column[str]:
    return Column("run_id", Name, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)


runs = Table(
    "runs",
    metadata,
    Column("id", Name, primary_key=True),
    Column("status", String, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("epoch", BigInteger, nullable=False),
    Column("lease_until", Double),
    Column("owner_host", String),
    Column("owner_boot_id", String),
    Column("owner_pid", BigInteger),
    Column("owner_started", Double),
    Column("last_seq", BigInteger, nullable=False),
    Column("last_input", BigInteger, nullable=False),
    Column("seed", Text, nullable=False),
    Column("counts", Text, nullable=False),
    Column("memory", Text, nullable=False),
    Column("folder", Text, nullable=False),
    Column("source", Text),
    Column("options", Text, nullable=False),
    Column("goal", Text, nullable=False),
    Column("error", Text),
    Column("answer", Text),
    Column("last_batch", BigInteger, nullable=False, server_default="0"),
)

plans = Table(
    "plans",
    metadata,
    _run_id(),
    Column("plan", Text, nullable=False),
)

tasks = Table(
    "tasks",
    metadata,
    _run_id(),
    Column("index", BigInteger, primary_key=True, autoincrement=False),
    Column("id", Name, nullable=False),
    Column("state", String, nullable=False),
    Column("attempts", BigInteger, nullable=False),
    Column("agent", Text),
    Column("handle", Text),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("exit_code", BigInteger),
    Column("memory", Text, nullable=False),
    Column("title", Text),
    Column("spec", Text, nullable=False),
    Column("error", Text),
    Column("has_data", Boolean, nullable=False),
    Column("output_file", Text),
    Column("output_size", BigInteger),
    Column("output_sha256", Text),
    Column("data", Text),
    Column("output", Text),
    UniqueConstraint("run_id", "id"),
)

events = Table(
    "events",
    metadata,
    _run_id(),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at", Double, nullable=False),
    Column("type", String, nullable=False),
    Column("task", Text),
    Column("attempt", Text),
    Column("data", Text),
    sqlite_with_rowid=False,
)

inputs = Table(
    "inputs",
    metadata,
    _run_id(),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("data", Text, nullable=False),
    sqlite_with_rowid=False,
)

commands = Table(
    "commands",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run_id", Name, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("kind", String, nullable=False),
    Column("task", Text),
    Column("created_at", Double, nullable=False),
    Column("done_at", Double),
    Column("refused", Text),
    Index("ix_commands_run_id", "run_id", "id"),
    sqlite_autoincrement=True,
)

task_times = Table(
    "task_times",
    metadata,
    Column("key", Name, primary_key=True),
    Column("times", BigInteger, nullable=False),
    Column("used_at", Double, nullable=False),
    Column("seconds", Text, nullable=False),
    sqlite_with_rowid=False,
)
"""What tasks took; of no run, so that it outlives them."""

alembic_version = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))
"""Alembic's own table: which migration the store is at."""
