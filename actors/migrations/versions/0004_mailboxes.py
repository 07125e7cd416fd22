"""Mailboxes that are read, and the letters in them.

Revision: 0004
Follows: 0003
"""

import sqlalchemy as sa
from alembic import op

from actors.tables import Json
from ledger.tables import Instant

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "mailboxes",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("user", sa.Text(), nullable=False),
        sa.Column("tokens", sa.Text(), nullable=True),
        sa.Column("why", sa.Text(), nullable=True),
        sa.Column("connected_at", Instant(), nullable=False),
        sa.Column("refreshing_until", Instant(), nullable=True),
        sa.Column("history_id", sa.Text(), nullable=True),
        sa.Column("full_from", sa.Text(), nullable=True),
        sa.Column("page", sa.Text(), nullable=True),
        sa.Column("listed", sa.Integer(), nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("account", name=op.f("mailboxes_pkey")),
    )
    op.create_table(
        "letters",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("thread", sa.Text(), nullable=False),
        sa.Column("labels", Json(), nullable=False),
        sa.Column("received_at", Instant(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("recipients", Json(), nullable=False),
        sa.Column("sent_at", Instant(), nullable=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("html", sa.Text(), nullable=False),
        sa.Column("attachments", Json(), nullable=False),
        sa.Column("problems", Json(), nullable=False),
        sa.PrimaryKeyConstraint("account", "id", name=op.f("letters_pkey")),
    )
    op.create_index("letters_by_time", "letters", ["account", "received_at"], unique=False)
