"""Who may do what, and what they did."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    false,
    text,
)

from ledger.append_only import protect
from ledger.tables.columns import Instant, metadata

# What operators did (ledger/audit.py).  The database refuses to change a row, or to delete one that no anchor covers.
audit = Table(
    "audit",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),  # without gaps
    Column("at", Instant, nullable=False),
    Column("name", Text, nullable=False),
    Column("via", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("token", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("request", Text, nullable=False),
    Column("operation", Text, nullable=False),
    Column("target", Text, nullable=False),  # JSON
    Column("count", Integer, nullable=False),
    Column("change", Text, nullable=False),  # JSON
    Column("result", Text, nullable=False),
    Column("hash", Text, nullable=False),  # of all that and of the hash before
)
Index("audit_at", audit.c.at)

# Up to where the trail was cut off, and what its last entry was.
audit_anchors = Table(
    "audit_anchors",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", Text, nullable=False),
    Column("at", Instant, nullable=False),
)
protect(audit, audit_anchors)
#: What nobody can empty.
APPEND_ONLY = (audit, audit_anchors)

users = Table(
    "users",
    metadata,
    Column("name", Text, primary_key=True),
    Column("password", Text, nullable=False),  # argon2's own form; empty: only a trusted proxy lets them in
    Column("role", Text, nullable=False),
    Column("queues", Text, nullable=False, server_default=text("''")),  # patterns (ledger/scope.py), a space between
    Column("disabled", Boolean, nullable=False, server_default=false()),
    Column("created_at", Instant, nullable=False),
    Column("changed_at", Instant, nullable=False),
    Column("changed_by", Text, nullable=False),
)

# For programs.  What they send is kept nowhere; SHA-256 is enough of a hash for 256 random bits.
tokens = Table(
    "tokens",
    metadata,
    Column("id", Text, primary_key=True),
    Column("hash", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("queues", Text, nullable=False, server_default=text("''")),
    Column("created_at", Instant, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("expires_at", Instant),
    Column("revoked_at", Instant),
    Column("used_at", Instant),  # to the minute
)
Index("tokens_hash", tokens.c.hash, unique=True)

# Who is logged in at the console.  A browser has the key of which this is the hash.
sessions = Table(
    "sessions",
    metadata,
    Column("hash", Text, primary_key=True),
    Column("user_name", Text, nullable=False),
    Column("csrf", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
)
Index("sessions_user", sessions.c.user_name)
Index("sessions_expires", sessions.c.expires_at)

# Logins that failed, by name and by address.
logins = Table(
    "logins",
    metadata,
    Column("key", Text, primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("failed_at", Instant, nullable=False),
    Column("until", Instant, nullable=False),  # no other try is heard before
)
Index("logins_failed_at", logins.c.failed_at)

# Lists of jobs that somebody keeps under a name.
saved_views = Table(
    "saved_views",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("query", Text, nullable=False),  # of the address: state=failed&queue=billing
    Column("changed_at", Instant, nullable=False),
)

# What was answered to writes that bore an idempotency key.
repeats = Table(
    "repeats",
    metadata,
    Column("key", Text, primary_key=True),  # a hash of who, what and their key
    Column("body", Text, nullable=False),  # a hash of what was sent
    Column("begun_at", Instant, nullable=False),
    Column("status", Integer),  # null: it is being answered, or whoever did so died
    Column("headers", Text),  # JSON
    Column("answer", LargeBinary),
)
Index("repeats_begun_at", repeats.c.begun_at)
