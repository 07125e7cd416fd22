"""Circuit breakers.

Revision: 0007
Follows: 0006
"""

import sqlalchemy as sa
from alembic import op

from ledger.tables import Instant, JobId

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "circuits",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("term", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("until", Instant(), nullable=True),
        sa.Column("length_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("openings", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("counted", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("why", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("since", Instant(), nullable=False),
        sa.Column("changed_by", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("circuits_pkey")),
    )
    op.create_table(
        "probes",
        sa.Column("job_id", JobId(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("circuit", sa.Text(), nullable=False),
        sa.Column("term", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", name=op.f("probes_pkey")),
    )
    op.create_table(
        "deferrals",
        sa.Column("job_id", JobId(), nullable=False),
        sa.Column("ticket", sa.Integer(), nullable=False),
        sa.Column("circuit", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", name=op.f("deferrals_pkey")),
    )
    op.create_index("deferrals_circuit", "deferrals", ["circuit"], unique=False)
