"""Runs, plans, tasks, events, inputs, commands."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

Name = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the first tables."""
    op.create_table(
        "runs",
        sa.Column("id", Name, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("started_at", sa.Double),
        sa.Column("finished_at", sa.Double),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("lease_until", sa.Double),
        sa.Column("owner_host", sa.String),
        sa.Column("owner_boot_id", sa.String),
        sa.Column("owner_pid", sa.BigInteger),
        sa.Column("owner_started", sa.Double),
        sa.Column("last_seq", sa.BigInteger, nullable=False),
        sa.Column("last_input", sa.BigInteger, nullable=False),
        sa.Column("seed", sa.Text, nullable=False),
        sa.Column("counts", sa.Text, nullable=False),
        sa.Column("memory", sa.Text, nullable=False),
        sa.Column("folder", sa.Text, nullable=False),
        sa.Column("source", sa.Text),
        sa.Column("options", sa.Text, nullable=False),
        sa.Column("goal", sa.Text, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("answer", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
    )
    op.create_table(
        "plans",
        _run_id(),
        sa.Column("plan", sa.Text, nullable=False),
        _of_run("plans"),
        sa.PrimaryKeyConstraint("run_id", name="pk_plans"),
    )
    op.create_table(
        "tasks",
        _run_id(),
        sa.Column("index", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("id", Name, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("attempts", sa.BigInteger, nullable=False),
        sa.Column("agent", sa.Text),
        sa.Column("handle", sa.Text),
        sa.Column("started_at", sa.Double),
        sa.Column("finished_at", sa.Double),
        sa.Column("exit_code", sa.BigInteger),
        sa.Column("memory", sa.Text, nullable=False),
        sa.Column("title", sa.Text),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("has_data", sa.Boolean, nullable=False),
        sa.Column("output_file", sa.Text),
        sa.Column("output_size", sa.BigInteger),
        sa.Column("output_sha256", sa.Text),
        sa.Column("data", sa.Text),
        sa.Column("output", sa.Text),
        sa.PrimaryKeyConstraint("run_id", "index", name="pk_tasks"),
        sa.UniqueConstraint("run_id", "id", name="uq_tasks_run_id_id"),
        _of_run("tasks"),
    )
    op.create_table(
        "events",
        _run_id(),
        sa.Column("seq", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("type", sa.String, nullable=False),
        sa.Column("task", sa.Text),
        sa.Column("attempt", sa.Text),
        sa.Column("data", sa.Text),
        _of_run("events"),
        sa.PrimaryKeyConstraint("run_id", "seq", name="pk_events"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "inputs",
        _run_id(),
        sa.Column("seq", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("data", sa.Text, nullable=False),
        _of_run("inputs"),
        sa.PrimaryKeyConstraint("run_id", "seq", name="pk_inputs"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "commands",
        sa.Column("id", sa.Integer, nullable=False),
        _run_id(),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("task", sa.Text),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("done_at", sa.Double),
        sa.Column("refused", sa.Text),
        _of_run("commands"),
        sa.PrimaryKeyConstraint("id", name="pk_commands"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_commands_run_id", "commands", ["run_id", "id"])


def _run_id() -> sa.Column[str]:
    return sa.Column("run_id", Name, nullable=False)


def _of_run(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=f"fk_{table}_run_id", ondelete="CASCADE")
