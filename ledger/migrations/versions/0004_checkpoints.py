"""What jobs leave for their next attempt.

Revision: 0004
Follows: 0003
"""

import sqlalchemy as sa
from alembic import op

from ledger.tables import Instant, JobId

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "checkpoints",
        sa.Column("job_id", JobId(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", name=op.f("checkpoints_pkey")),
    )
