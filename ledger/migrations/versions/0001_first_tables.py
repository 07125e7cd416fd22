"""The ledger's first tables.

Revision: 0001
Follows:
"""

import sqlalchemy as sa
from alembic import op

from ledger.tables import Instant, JobId

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "attempts",
        sa.Column("job_id", JobId(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("worker_id", sa.Integer(), nullable=False),
        sa.Column("started_at", Instant(), nullable=False),
        sa.Column("finished_at", Instant(), nullable=False),
        sa.Column("run_at", Instant(), nullable=True),
        sa.Column("error_type", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("traceback", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("job_id", "epoch", name=op.f("attempts_pkey")),
    )
    op.create_table(
        "claims",
        sa.Column("worker_id", sa.Integer(), nullable=False),
        sa.Column("job_id", JobId(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("ticket", sa.Integer(), nullable=False),
        sa.Column("suspect", sa.Boolean(), nullable=False),
        sa.Column("claimed_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("worker_id", "job_id", name=op.f("claims_pkey")),
        postgresql_with={"autovacuum_vacuum_scale_factor": "0.02", "autovacuum_vacuum_cost_delay": "0"},
    )
    op.create_index("claims_job", "claims", ["job_id"], unique=False)
    op.create_table(
        "groups",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("remaining", sa.Integer(), nullable=False),
        sa.Column("expires_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("groups_pkey")),
    )
    op.create_table(
        "history",
        sa.Column("id", JobId(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("crashes", sa.Integer(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("run_at", Instant(), nullable=False),
        sa.Column("finished_at", Instant(), nullable=False),
        sa.Column("producer", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("archived_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("history_pkey")),
        sa.CheckConstraint("state IN ('completed', 'failed', 'cancelled')", name=op.f("history_state")),
    )
    op.create_index("history_finished", "history", ["finished_at"], unique=False)
    op.create_index("history_message_id", "history", ["message_id"], unique=False)
    op.create_index("history_queue", "history", ["queue", "state", "finished_at"], unique=False)
    op.create_table(
        "jobs",
        sa.Column("id", JobId(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("ticket", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("epoch", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("crashes", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("charges", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("run_at", Instant(), nullable=False),
        sa.Column("finished_at", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("jobs_pkey")),
        sa.CheckConstraint(
            "state IN ('delayed', 'waiting', 'active', 'completed', 'failed', 'cancelled')", name=op.f("jobs_state")
        ),
        postgresql_with={
            "fillfactor": "70",
            "autovacuum_vacuum_scale_factor": "0.02",
            "autovacuum_vacuum_cost_delay": "0",
        },
    )
    op.create_index(
        "jobs_dead",
        "jobs",
        ["queue", "finished_at"],
        unique=False,
        postgresql_where=sa.text("finished_at IS NOT NULL AND reason IS NOT NULL"),
        sqlite_where=sa.text("finished_at IS NOT NULL AND reason IS NOT NULL"),
    )
    op.create_index(
        "jobs_done",
        "jobs",
        ["queue", "finished_at"],
        unique=False,
        postgresql_where=sa.text("finished_at IS NOT NULL AND reason IS NULL"),
        sqlite_where=sa.text("finished_at IS NOT NULL AND reason IS NULL"),
    )
    op.create_index("jobs_queue", "jobs", ["queue", "id"], unique=False)
    op.create_table(
        "journal",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("job_id", JobId(), nullable=True),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("detail", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("journal_pkey")),
    )
    op.create_index("journal_job", "journal", ["job_id"], unique=False)
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("term", sa.Integer(), nullable=False),
        sa.Column("expires_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("leases_pkey")),
    )
    op.create_table(
        "payloads",
        sa.Column("job_id", JobId(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("producer", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.PrimaryKeyConstraint("job_id", name=op.f("payloads_pkey")),
    )
    op.create_index("payloads_message_id", "payloads", ["message_id"], unique=False)
    op.create_table(
        "progress",
        sa.Column("job_id", JobId(), nullable=False),
        sa.Column("done", sa.Double(), nullable=False),
        sa.Column("total", sa.Double(), nullable=True),
        sa.Column("note", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", name=op.f("progress_pkey")),
    )
    op.create_table(
        "queues",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("paused", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("paused_at", Instant(), nullable=True),
        sa.Column("paused_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("queues_pkey")),
    )
    op.create_table(
        "results",
        sa.Column("job_id", JobId(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", Instant(), nullable=False),
        sa.Column("read_at", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("job_id", name=op.f("results_pkey")),
    )
    op.create_index("results_expires", "results", ["expires_at"], unique=False)
    op.create_table(
        "tickets",
        sa.Column("job_id", JobId(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("ticket", sa.Integer(), nullable=False),
        sa.Column("ready", sa.Boolean(), nullable=False),
        sa.Column("due_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", name=op.f("tickets_pkey")),
        postgresql_with={"autovacuum_vacuum_scale_factor": "0.02", "autovacuum_vacuum_cost_delay": "0"},
    )
    op.create_index(
        "tickets_due",
        "tickets",
        ["due_at"],
        unique=False,
        postgresql_where=sa.text("NOT ready"),
        sqlite_where=sa.text("NOT ready"),
    )
    op.create_index(
        "tickets_ready",
        "tickets",
        ["queue", "priority", "due_at"],
        unique=False,
        postgresql_where=sa.text("ready"),
        sqlite_where=sa.text("ready"),
    )
    op.create_table(
        "ticks",
        sa.Column("schedule", sa.Text(), nullable=False),
        sa.Column("fire_at", Instant(), nullable=False),
        sa.Column("job_id", JobId(), nullable=False),
        sa.PrimaryKeyConstraint("schedule", "fire_at", name=op.f("ticks_pkey")),
    )
    op.create_table(
        "workers",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("queues", sa.Text(), nullable=False),
        sa.Column("threads", sa.Integer(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("started_at", Instant(), nullable=False),
        sa.Column("heartbeat_at", Instant(), nullable=False),
        sa.Column("stopped_at", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("workers_pkey")),
        sa.CheckConstraint("state IN ('running', 'stopping', 'stopped', 'dead')", name=op.f("workers_state")),
        sqlite_autoincrement=True,
    )
    op.create_index("workers_heartbeat", "workers", ["state", "heartbeat_at"], unique=False)
