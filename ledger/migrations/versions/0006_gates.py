"""Gates: concurrency over all workers, and jobs that run one after the other.

Revision: 0006
Follows: 0005
"""

import sqlalchemy as sa
from alembic import op

from ledger.tables import Instant, JobId

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("sequenced", sa.Boolean(), nullable=True))
    op.create_table(
        "gates",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("capacity", sa.Integer(), nullable=False),
        sa.Column("look", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("gates_pkey")),
        postgresql_with={
            "fillfactor": "70",
            "autovacuum_vacuum_scale_factor": "0.02",
            "autovacuum_vacuum_cost_delay": "0",
        },
    )
    _partial_index("gates_look", "gates", ["key"], "look")
    op.create_table(
        "slots",
        sa.Column("job_id", JobId(), nullable=False),
        sa.Column("gate", sa.Text(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "gate", name=op.f("slots_pkey")),
    )
    op.create_index("slots_gate", "slots", ["gate"], unique=False)
    op.create_table(
        "blocked",
        sa.Column("job_id", JobId(), nullable=False),
        sa.Column("gate", sa.Text(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("due_at", Instant(), nullable=False),
        sa.Column("since", Instant(), nullable=False),
        sa.Column("woken_at", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("job_id", name=op.f("blocked_pkey")),
    )
    _partial_index("blocked_next", "blocked", ["gate", "priority", "due_at"], "woken_at IS NULL")
    _partial_index("blocked_coming", "blocked", ["gate", "woken_at"], "woken_at IS NOT NULL")
    op.create_table(
        "lines",
        sa.Column("place", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("job_id", JobId(), nullable=False),
        sa.Column("hold", sa.Boolean(), nullable=False),
        sa.Column("called", sa.Boolean(), nullable=False),
        sa.Column("open", sa.Boolean(), nullable=False),
        sa.Column("since", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("place", name=op.f("lines_pkey")),
    )
    _partial_index("lines_open", "lines", ["key", "place"], "open")
    op.create_index("lines_job", "lines", ["job_id"], unique=True)


def _partial_index(name: str, table: str, columns: list[str], where: str) -> None:
    op.create_index(name, table, columns, postgresql_where=sa.text(where), sqlite_where=sa.text(where))
