"""The feed of events.

Revision: 0008
Follows: 0007
"""

import sqlalchemy as sa
from alembic import op

from ledger.tables import Instant

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table, rest in (("attempts", ["job_id", "epoch"]), ("journal", ["job_id", "id"])):
        op.add_column(table, sa.Column("tx", sa.BigInteger(), nullable=True))
        op.create_index(
            f"{table}_tx",
            table,
            ["tx", *rest],
            unique=False,
            postgresql_where=sa.text("tx IS NOT NULL"),
            sqlite_where=sa.text("tx IS NOT NULL"),
        )
    op.create_table(
        "feed",
        sa.Column("kept", sa.Boolean(), nullable=False),
        sa.Column("floor", sa.BigInteger(), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("kept", name=op.f("feed_pkey")),
    )
    op.create_table(
        "followers",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("cursor", sa.Text(), nullable=False),
        sa.Column("seen_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("followers_pkey")),
    )
