"""What is known of chains: how far they were looked at, their last blocks, matches and deployments.

Revision: 0005
Follows: 0004
"""

import sqlalchemy as sa
from alembic import op

from actors.tables import Json
from ledger.tables import Instant

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "chain_cursors",
        sa.Column("chain", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("first", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("chain", name=op.f("chain_cursors_pkey")),
    )
    op.create_table(
        "chain_blocks",
        sa.Column("chain", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("parent", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("chain", "number", name=op.f("chain_blocks_pkey")),
    )
    op.create_table(
        "chain_matches",
        sa.Column("chain", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("block_hash", sa.Text(), nullable=False),
        sa.Column("log_index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("transaction_hash", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("topics", Json(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("removed", sa.Boolean(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("found_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("chain", "block_hash", "log_index", name=op.f("chain_matches_pkey")),
    )
    op.create_index("chain_matches_of_block", "chain_matches", ["chain", "number"], unique=False)
    op.create_table(
        "chain_halts",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("job", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("chain_halts_pkey")),
    )
    op.create_table(
        "chain_deployments",
        sa.Column("chain", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("nonce", sa.BigInteger(), nullable=False),
        sa.Column("transaction_hash", sa.Text(), nullable=False),
        sa.Column("raw", sa.Text(), nullable=False),
        sa.Column("signed_at", Instant(), nullable=False),
        sa.Column("proved_at", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("chain", "id", name=op.f("chain_deployments_pkey")),
    )
