"""How far a rate limit is used up by the jobs that started.

Revision: 0011
Follows: 0010
"""

import sqlalchemy as sa
from alembic import op

from ledger.tables import Instant

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("limits", sa.Column("begun_at", Instant()))
