"""Schedules, and what became of each of their ticks; how late the duties of maintenance are.

Revision: 0010
Follows: 0009
"""

import sqlalchemy as sa
from alembic import op

from ledger.tables import Instant, JobId

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "schedules",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("definition", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("paused_at", Instant(), nullable=True),
        sa.Column("paused_by", sa.Text(), nullable=True),
        sa.Column("left_out", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("changed_at", Instant(), nullable=False),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.Column("done_until", Instant(), nullable=False),
        sa.Column("last_job_id", JobId(), nullable=True),
        sa.Column("failures", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.CheckConstraint("source IN ('code', 'data')", name=op.f("schedules_source")),
        sa.PrimaryKeyConstraint("key", name=op.f("schedules_pkey")),
        postgresql_with={
            "fillfactor": "70",
            "autovacuum_vacuum_scale_factor": "0.02",
            "autovacuum_vacuum_cost_delay": "0",
        },
    )
    op.create_index("schedules_changed", "schedules", ["changed_at"], unique=False)
    with op.batch_alter_table("ticks") as ticks:  # SQLite can only copy it to a new one
        ticks.alter_column("job_id", existing_type=JobId(), nullable=True)
        ticks.add_column(sa.Column("outcome", sa.Text(), server_default=sa.text("'sent'"), nullable=False))
        ticks.add_column(sa.Column("why", sa.Text(), server_default=sa.text("''"), nullable=False))
        ticks.add_column(sa.Column("at", Instant(), nullable=True))
        ticks.add_column(sa.Column("late_ms", sa.BigInteger(), nullable=True))
    op.create_index(
        "ticks_waiting",
        "ticks",
        ["schedule"],
        unique=False,
        postgresql_where=sa.text("outcome = 'waiting'"),
        sqlite_where=sa.text("outcome = 'waiting'"),
    )
    op.create_table(
        "duties",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("every_s", sa.Double(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("ago_ms", sa.BigInteger(), nullable=False),
        sa.Column("late_ms", sa.BigInteger(), nullable=False),
        sa.Column("took_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("duties_pkey")),
        postgresql_with={
            "fillfactor": "70",
            "autovacuum_vacuum_scale_factor": "0.02",
            "autovacuum_vacuum_cost_delay": "0",
        },
    )
