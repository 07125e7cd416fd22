"""What policies keep: keys, limits, places in lines, circuits."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    SmallInteger,
    Table,
    Text,
    false,
    text,
)

from ledger.tables.columns import Instant, JobId, metadata

# Who holds a key.  Nothing in a job's life touches its row: the next enqueue of the key looks, and takes it over.
uniques = Table(
    "uniques",
    metadata,
    Column("key", Text, primary_key=True),
    Column("job_id", JobId, nullable=False),
    Column("asked_id", JobId, nullable=False),  # the NewJob that took it: another than job_id when it replaced that
    Column("message_id", Text, nullable=False),
    Column("until", Instant),  # held at least so long; null when only its job holds it
    postgresql_with={"fillfactor": "70", "autovacuum_vacuum_scale_factor": "0.02", "autovacuum_vacuum_cost_delay": "0"},
)
Index("uniques_job", uniques.c.job_id)
Index(
    "uniques_until",
    uniques.c.until,
    postgresql_where=text("until IS NOT NULL"),
    sqlite_where=text("until IS NOT NULL"),
)

limits = Table(
    "limits",
    metadata,
    Column("key", Text, primary_key=True),  # what is counted
    Column("paid_at", Instant, nullable=False),  # when all slots given so far are paid off (ledger/gcra.py)
    Column("begun_at", Instant),  # the same of the jobs that started
)
Index("limits_paid_at", limits.c.paid_at)

limit_rules = Table(
    "limit_rules",
    metadata,
    Column("rule", Text, primary_key=True),
    Column("count", Double, nullable=False),
    Column("per_s", Double, nullable=False),
    Column("burst", Integer, nullable=False),
    Column("changed_at", Instant, nullable=False),
    Column("changed_by", Text, nullable=False),
)

reservations = Table(
    "reservations",
    metadata,
    Column("job_id", JobId, primary_key=True),
    Column("slot_at", Instant, nullable=False),
    Column("rules", Text, nullable=False),  # of the limits in which it is paid for, one per line
)
Index("reservations_slot_at", reservations.c.slot_at)

# What several attempts share, or jobs stand in line for.  Its row is locked by whoever changes what is behind it.
gates = Table(
    "gates",
    metadata,
    Column("key", Text, primary_key=True),
    Column("rule", Text, nullable=False),  # under which an operator may change the capacity
    Column("capacity", Integer, nullable=False),  # as the code said last
    Column("look", Boolean, nullable=False, server_default=false()),  # somebody changed something without the lock
    postgresql_with={"fillfactor": "70", "autovacuum_vacuum_scale_factor": "0.02", "autovacuum_vacuum_cost_delay": "0"},
)
Index("gates_look", gates.c.key, postgresql_where=text("look"), sqlite_where=text("look"))

# Who has entered a gate.  It counts as long as there is a claim of this epoch: whatever ends the claim frees the slot.
slots = Table(
    "slots",
    metadata,
    Column("job_id", JobId, primary_key=True),
    Column("gate", Text, primary_key=True),
    Column("epoch", Integer, nullable=False),
)
Index("slots_gate", slots.c.gate)

# Jobs that found a gate full.  They are delayed and have no ticket until one is free.
blocked = Table(
    "blocked",
    metadata,
    Column("job_id", JobId, primary_key=True),
    Column("gate", Text, nullable=False),
    Column("priority", SmallInteger, nullable=False),
    Column("due_at", Instant, nullable=False),
    Column("since", Instant, nullable=False),
    Column("woken_at", Instant),  # it is on its way to try again
)
Index(
    "blocked_next",
    blocked.c.gate,
    blocked.c.priority,
    blocked.c.due_at,
    postgresql_where=text("woken_at IS NULL"),
    sqlite_where=text("woken_at IS NULL"),
)
Index(
    "blocked_coming",
    blocked.c.gate,
    blocked.c.woken_at,
    postgresql_where=text("woken_at IS NOT NULL"),
    sqlite_where=text("woken_at IS NOT NULL"),
)

# Places in sequences.  Only the first of a line has been called; the others are delayed and have no ticket.
lines = Table(
    "lines",
    metadata,
    Column("place", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("key", Text, nullable=False),
    Column("job_id", JobId, nullable=False),
    Column("hold", Boolean, nullable=False),  # as a dead letter it keeps its place
    Column("called", Boolean, nullable=False),
    Column("open", Boolean, nullable=False),  # false: dead or cancelled; kept for an operator's retry
    Column("since", Instant, nullable=False),
)
Index("lines_open", lines.c.key, lines.c.place, postgresql_where=text("open"), sqlite_where=text("open"))
Index("lines_job", lines.c.job_id, unique=True)
circuits = Table(
    "circuits",
    metadata,
    Column("name", Text, primary_key=True),
    Column("term", Integer, nullable=False, server_default=text("0")),
    Column("until", Instant),  # open, and from then on half-open; null: closed
    Column("length_us", BigInteger, nullable=False, server_default=text("0")),  # of this opening
    Column("openings", Integer, nullable=False, server_default=text("0")),  # since it was closed
    Column("counted", Text, nullable=False, server_default=text("''")),  # the window (ledger/breaker.py), JSON
    Column("why", Text, nullable=False, server_default=text("''")),
    Column("since", Instant, nullable=False),
    Column("changed_by", Text, nullable=False, server_default=text("''")),
)

probes = Table(
    "probes",
    metadata,
    Column("job_id", JobId, primary_key=True),
    Column("epoch", Integer, nullable=False),
    Column("circuit", Text, nullable=False),
    Column("term", Integer, nullable=False),
)

# Jobs put off by an open circuit, to be brought back when it is closed.
deferrals = Table(
    "deferrals",
    metadata,
    Column("job_id", JobId, primary_key=True),
    Column("ticket", Integer, nullable=False),
    Column("circuit", Text, nullable=False),
)
Index("deferrals_circuit", deferrals.c.circuit)
