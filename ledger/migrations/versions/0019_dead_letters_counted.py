"""Which jobs became dead letters without an attempt that failed, in the order of time.

Revision: 0019
Follows: 0018
"""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "journal_died",
        "journal",
        ["at"],
        unique=False,
        postgresql_where=sa.text("event IN ('failed', 'buried')"),
        sqlite_where=sa.text("event IN ('failed', 'buried')"),
    )
