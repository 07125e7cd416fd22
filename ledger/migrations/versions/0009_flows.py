"""Workflows: their definitions, the flows that were started, and what became of each step.

Revision: 0009
Follows: 0008
"""

import sqlalchemy as sa
from alembic import op

from ledger.tables import Instant, JobId

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_FLOW = "'running', 'failing', 'compensating', 'cancelling', 'completed', 'failed', 'cancelled'"
_STEP = "'waiting', 'running', 'completed', 'failed', 'skipped', 'cancelled'"
_ITEM = "'live', 'completed', 'failed', 'cancelled'"


def upgrade() -> None:
    op.create_table(
        "flow_definitions",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("name", "version", name=op.f("flow_definitions_pkey")),
    )
    op.create_table(
        "flows",
        sa.Column("id", JobId(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("finished_at", Instant(), nullable=True),
        sa.CheckConstraint(f"state IN ({_FLOW})", name=op.f("flows_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("flows_pkey")),
    )
    op.create_index(
        "flows_key",
        "flows",
        ["name", "key"],
        unique=True,
        postgresql_where=sa.text("key IS NOT NULL"),
        sqlite_where=sa.text("key IS NOT NULL"),
    )
    op.create_index("flows_finished", "flows", ["finished_at"], unique=False)
    op.create_table(
        "flow_steps",
        sa.Column("flow_id", JobId(), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("jobs", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("remaining", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("failed", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("truth", sa.Boolean(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("due_at", Instant(), nullable=True),
        sa.CheckConstraint(f"state IN ({_STEP})", name=op.f("flow_steps_state")),
        sa.PrimaryKeyConstraint("flow_id", "step", name=op.f("flow_steps_pkey")),
        postgresql_with={
            "fillfactor": "70",
            "autovacuum_vacuum_scale_factor": "0.02",
            "autovacuum_vacuum_cost_delay": "0",
        },
    )
    op.create_index(
        "flow_steps_due",
        "flow_steps",
        ["due_at"],
        unique=False,
        postgresql_where=sa.text("due_at IS NOT NULL"),
        sqlite_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_table(
        "flow_jobs",
        sa.Column("flow_id", JobId(), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("item", sa.Integer(), nullable=False),
        sa.Column("job_id", JobId(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.CheckConstraint(f"state IN ({_ITEM})", name=op.f("flow_jobs_state")),
        sa.PrimaryKeyConstraint("flow_id", "step", "item", name=op.f("flow_jobs_pkey")),
        postgresql_with={"fillfactor": "70"},
    )
    op.create_index("flow_jobs_job", "flow_jobs", ["job_id"], unique=False)
    op.create_table(
        "flow_values",
        sa.Column("flow_id", JobId(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("item", sa.Integer(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("flow_id", "name", "item", name=op.f("flow_values_pkey")),
    )
