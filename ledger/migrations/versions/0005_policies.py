"""Keys of jobs of which there is to be one; when jobs expire; backlogs of queues with a limit.

Revision: 0005
Follows: 0004
"""

import sqlalchemy as sa
from alembic import op

from ledger.tables import Instant, JobId

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("counted", sa.Boolean(), nullable=True))
    op.create_index(
        "jobs_backlog",
        "jobs",
        ["queue"],
        unique=False,
        postgresql_where=sa.text("counted AND finished_at IS NULL"),
        sqlite_where=sa.text("counted AND finished_at IS NULL"),
    )
    op.create_table(
        "expiries",
        sa.Column("job_id", JobId(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", name=op.f("expiries_pkey")),
    )
    op.create_index("expiries_at", "expiries", ["at"], unique=False)
    op.create_table(
        "uniques",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("job_id", JobId(), nullable=False),
        sa.Column("asked_id", JobId(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("until", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("key", name=op.f("uniques_pkey")),
        postgresql_with={
            "fillfactor": "70",
            "autovacuum_vacuum_scale_factor": "0.02",
            "autovacuum_vacuum_cost_delay": "0",
        },
    )
    op.create_index("uniques_job", "uniques", ["job_id"], unique=False)
    op.create_index(
        "uniques_until",
        "uniques",
        ["until"],
        unique=False,
        postgresql_where=sa.text("until IS NOT NULL"),
        sqlite_where=sa.text("until IS NOT NULL"),
    )
