"""Where in its file a dataset goes on.

Revision: 0003
Follows: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("datasets", sa.Column("position", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("datasets", sa.Column("line", sa.Integer(), nullable=False, server_default="0"))
    # What is half read is read from the beginning: its rows have the numbers they had, and are there once.
    op.execute("UPDATE datasets SET rows = 0, rejects = 0, rejected = '[]' WHERE finished_at IS NULL")


def downgrade() -> None:
    op.drop_column("datasets", "line")
    op.drop_column("datasets", "position")
