"""Whose a bulk operation is: role, token, address and request, for the audit trail.

Revision: 0018
Follows: 0017
"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("role", "token", "address", "request"):
        op.add_column("operations", sa.Column(name, sa.Text(), server_default=sa.text("''"), nullable=False))
    op.create_index("operations_finished", "operations", ["finished_at"], unique=False)
