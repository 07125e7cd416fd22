"""What operators ask of workers and queues while they run.

Revision: 0014
Follows: 0013
"""

import sqlalchemy as sa
from alembic import op

from ledger.tables import Instant

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "worker_requests",
        sa.Column("worker_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("wish", sa.Text(), nullable=False),
        sa.Column("asked_at", Instant(), nullable=False),
        sa.Column("asked_by", sa.Text(), nullable=False),
        sa.CheckConstraint("wish IN ('run', 'quiet', 'stop')", name=op.f("worker_requests_wish")),
        sa.PrimaryKeyConstraint("worker_id", name=op.f("worker_requests_pkey")),
    )
    op.create_table(
        "worker_reports",
        sa.Column("worker_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("ends", sa.Text(), nullable=False),
        sa.Column("master", sa.Integer(), nullable=True),
        sa.Column("busy", sa.Integer(), nullable=False),
        sa.Column("rss", sa.BigInteger(), nullable=True),
        sa.Column("slots", sa.Text(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.CheckConstraint("mode IN ('running', 'quiet', 'stopping')", name=op.f("worker_reports_mode")),
        sa.CheckConstraint("ends IN ('alone', 'together', 'not')", name=op.f("worker_reports_ends")),
        sa.PrimaryKeyConstraint("worker_id", name=op.f("worker_reports_pkey")),
        postgresql_with={
            "fillfactor": "70",
            "autovacuum_vacuum_scale_factor": "0.02",
            "autovacuum_vacuum_cost_delay": "0",
        },
    )
    op.add_column("queues", sa.Column("draining_at", Instant(), nullable=True))
    op.add_column("queues", sa.Column("draining_by", sa.Text(), nullable=True))
