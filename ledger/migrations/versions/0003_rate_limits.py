"""Rate limits.

Revision: 0003
Follows: 0002
"""

import sqlalchemy as sa
from alembic import op

from ledger.tables import Instant, JobId

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "limits",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("paid_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("limits_pkey")),
    )
    op.create_index("limits_paid_at", "limits", ["paid_at"], unique=False)
    op.create_table(
        "limit_rules",
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("count", sa.Double(), nullable=False),
        sa.Column("per_s", sa.Double(), nullable=False),
        sa.Column("burst", sa.Integer(), nullable=False),
        sa.Column("changed_at", Instant(), nullable=False),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("rule", name=op.f("limit_rules_pkey")),
    )
    op.create_table(
        "reservations",
        sa.Column("job_id", JobId(), nullable=False),
        sa.Column("slot_at", Instant(), nullable=False),
        sa.Column("rules", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", name=op.f("reservations_pkey")),
    )
    op.create_index("reservations_slot_at", "reservations", ["slot_at"], unique=False)


def downgrade() -> None:
    op.drop_table("reservations")
    op.drop_table("limit_rules")
    op.drop_table("limits")
