"""Search, groups of failures, tallies by the minute, bulk operations.

Revision: 0012
Follows: 0011
"""

import sqlalchemy as sa
from alembic import op

from ledger.tables import Instant, JobId, Words

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("attempts_finished", "attempts", ["finished_at"], unique=False, postgresql_using="brin")
    op.create_index("attempts_worker", "attempts", ["worker_id", "job_id"], unique=False)
    op.create_index("history_state_id", "history", ["state", "id"], unique=False)
    op.create_index("history_queue_id", "history", ["queue", "state", "id"], unique=False)
    op.create_index("history_actor_id", "history", ["actor", "state", "id"], unique=False)
    op.create_index(
        "history_reason",
        "history",
        ["reason", "id"],
        unique=False,
        postgresql_where=sa.text("reason IS NOT NULL"),
        sqlite_where=sa.text("reason IS NOT NULL"),
    )
    op.create_table(
        "search_texts",
        sa.Column("job_id", JobId(), nullable=False),
        sa.Column("words", Words(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", name=op.f("search_texts_pkey")),
    )
    op.create_index("search_texts_words", "search_texts", ["words"], unique=False, postgresql_using="gin")
    op.create_table(
        "failures",
        sa.Column("job_id", JobId(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", name=op.f("failures_pkey")),
    )
    op.create_index("failures_fingerprint", "failures", ["fingerprint", "job_id"], unique=False)
    op.create_index("failures_queue", "failures", ["queue", "job_id"], unique=False)
    op.create_index("failures_at", "failures", ["at"], unique=False)
    op.create_table(
        "failure_groups",
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("error_type", sa.Text(), nullable=False),
        sa.Column("frame", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("first_at", Instant(), nullable=False),
        sa.Column("acknowledged_at", Instant(), nullable=True),
        sa.Column("acknowledged_by", sa.Text(), nullable=True),
        sa.Column("snoozed_until", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("fingerprint", name=op.f("failure_groups_pkey")),
    )
    op.create_table(
        "tallies",
        sa.Column("step_s", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("run_s", sa.Double(), nullable=False),
        sa.Column("wait_s", sa.Double(), nullable=False),
        *(sa.Column(f"{kind}_{n}", sa.Integer(), nullable=False) for kind in ("run", "wait") for n in range(20)),
        sa.PrimaryKeyConstraint("step_s", "at", "queue", "actor", "outcome", name=op.f("tallies_pkey")),
    )
    op.create_table(
        "bookmarks",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("bookmarks_pkey")),
        postgresql_with={"fillfactor": "70"},
    )
    op.create_table(
        "operations",
        sa.Column("id", JobId(), nullable=False),
        sa.Column("verb", sa.Text(), nullable=False),
        sa.Column("filter", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("expected", sa.Integer(), nullable=False),
        sa.Column("more", sa.Boolean(), nullable=False),
        sa.Column("upto", JobId(), nullable=False),
        sa.Column("cursor", JobId(), nullable=False),
        *(
            sa.Column(name, sa.Integer(), server_default=sa.text("0"), nullable=False)
            for name in ("done", "skipped", "failed")
        ),
        sa.Column("troubles", sa.Text(), server_default=sa.text("'[]'"), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("changed_at", Instant(), nullable=False),
        sa.Column("finished_at", Instant(), nullable=True),
        sa.Column("cancelled_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("operations_pkey")),
        postgresql_with={"fillfactor": "70"},
    )
    op.create_index(
        "operations_open",
        "operations",
        ["id"],
        unique=False,
        postgresql_where=sa.text("finished_at IS NULL"),
        sqlite_where=sa.text("finished_at IS NULL"),
    )
    op.create_table(
        "edits",
        sa.Column("job_id", JobId(), nullable=False),
        sa.Column("origin_id", JobId(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", name=op.f("edits_pkey")),
    )
    op.create_index("edits_origin", "edits", ["origin_id"], unique=False)
