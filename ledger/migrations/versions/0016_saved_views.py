"""Views of jobs that people keep under a name.

Revision: 0016
Follows: 0015
"""

import sqlalchemy as sa
from alembic import op

from ledger.tables import Instant

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "saved_views",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("query", sa.Text(), nullable=False),
        sa.Column("changed_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("owner", "name", name=op.f("saved_views_pkey")),
    )
