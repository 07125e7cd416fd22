"""What other processes follow."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Table,
    Text,
)

from ledger.tables.columns import Instant, metadata

# One row, from the first time that somebody followed the feed.
feed = Table(
    "feed",
    metadata,
    Column("kept", Boolean, primary_key=True),  # false: nothing is written for it
    Column("floor", BigInteger, nullable=False),  # what was written up to this transaction may be missing
    Column("last", BigInteger, nullable=False),  # SQLite: the last transaction's number; PostgreSQL numbers its own
)

followers = Table(
    "followers",
    metadata,
    Column("name", Text, primary_key=True),
    Column("cursor", Text, nullable=False),  # everything up to it is dealt with
    Column("seen_at", Instant, nullable=False),  # when it last said so
)
