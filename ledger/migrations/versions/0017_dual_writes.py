"""Dual writes: synchronous code and the jobs that are to take its place, compared.

Revision: 0017
Follows: 0016
"""

import sqlalchemy as sa
from alembic import op

from ledger.tables import Instant, JobId

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "dual_writes",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("share", sa.Double(), nullable=False),
        sa.Column("changed_at", Instant(), nullable=False),
        sa.Column("changed_by", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("sent", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("equal", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("different", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("missing", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("errors", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("trouble", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("trouble_at", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("dual_writes_pkey")),
        postgresql_with={"fillfactor": "70"},
    )
    op.create_table(
        "dual_pairs",
        sa.Column("id", JobId(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("job_id", JobId(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("result", sa.Text(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("look_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("dual_pairs_pkey")),
    )
    op.create_index("dual_pairs_look", "dual_pairs", ["name", "look_at"], unique=False)
    op.create_table(
        "dual_differences",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("job_id", JobId(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("synchronous", sa.Text(), nullable=False),
        sa.Column("asynchronous", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("dual_differences_pkey")),
    )
    op.create_index("dual_differences_name", "dual_differences", ["name", "id"], unique=False)
