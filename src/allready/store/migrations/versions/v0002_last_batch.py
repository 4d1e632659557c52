"""Which batch of the owner's was written last, so that one that is handed in again is not written twice."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("runs", sa.Column("last_batch", sa.BigInteger, nullable=False, server_default="0"))
