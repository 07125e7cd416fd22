"""Usage events and bills.

Revision: 0001
Follows:
"""

import sqlalchemy as sa
from alembic import op

from actors.tables import Dollars
from ledger.tables import Instant

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "usage_events",
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("customer", sa.Text(), nullable=False),
        sa.Column("user", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("input_tokens", sa.Integer(), nullable=False),
        sa.Column("output_tokens", sa.Integer(), nullable=False),
        sa.Column("cached_tokens", sa.Integer(), nullable=False),
        sa.Column("latency_ms", sa.Integer(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("period", sa.Text(), nullable=False),
        sa.Column("cost", Dollars(), nullable=True),
        sa.PrimaryKeyConstraint("request_id", name=op.f("usage_events_pkey")),
    )
    op.create_index("usage_events_bill", "usage_events", ["customer", "period"], unique=False)
    op.create_table(
        "bills",
        sa.Column("customer", sa.Text(), nullable=False),
        sa.Column("period", sa.Text(), nullable=False),
        sa.Column("amount", Dollars(), nullable=False),
        sa.Column("events", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("customer", "period", name=op.f("bills_pkey")),
    )
