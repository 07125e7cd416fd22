"""Indexes for what retention prunes without a job: ticks, and loose lines of the journal.

Revision: 0002
Follows: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ticks_fire_at", "ticks", ["fire_at"], unique=False)
    op.create_index(
        "journal_loose",
        "journal",
        ["at"],
        unique=False,
        postgresql_where=sa.text("job_id IS NULL OR event IN ('removed', 'discarded')"),
        sqlite_where=sa.text("job_id IS NULL OR event IN ('removed', 'discarded')"),
    )
