"""What is sent again and again."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Index,
    Integer,
    Table,
    Text,
    text,
)

from ledger.tables.columns import Instant, JobId, metadata

# What is sent again and again.  The row is locked while a tick of it is decided; it is updated with every tick, and no
# column that changes then stands in an index.
schedules = Table(
    "schedules",
    metadata,
    Column("key", Text, primary_key=True),
    Column("source", Text, CheckConstraint("source IN ('code', 'data')", name="source"), nullable=False),
    Column("actor", Text, nullable=False),
    Column("definition", Text, nullable=False),  # JSON (ledger/schedules/schedule.py)
    Column("revision", Integer, nullable=False),  # up with every change; a tick of another one is not sent
    Column("paused_at", Instant),
    Column("paused_by", Text),
    Column("left_out", Text, nullable=False, server_default=text("''")),  # why the code does not want it now
    Column("created_at", Instant, nullable=False),
    Column("changed_at", Instant, nullable=False),
    Column("changed_by", Text, nullable=False),
    Column("done_until", Instant, nullable=False),  # ticks up to this fire time are decided
    Column("last_job_id", JobId),  # of the last tick that was sent
    Column("failures", Integer, nullable=False, server_default=text("0")),  # jobs in a row, before that one
    postgresql_with={"fillfactor": "70", "autovacuum_vacuum_scale_factor": "0.02", "autovacuum_vacuum_cost_delay": "0"},
)
Index("schedules_changed", schedules.c.changed_at)

# Each tick once, and what became of it.
ticks = Table(
    "ticks",
    metadata,
    Column("schedule", Text, primary_key=True),
    Column("fire_at", Instant, primary_key=True),
    Column("job_id", JobId),  # null: none was sent
    Column("outcome", Text, nullable=False, server_default=text("'sent'")),
    Column("why", Text, nullable=False, server_default=text("''")),
    Column("at", Instant),  # when it was decided
    Column("late_ms", BigInteger),  # how long after it was due; null when an operator asked for it
)
Index("ticks_fire_at", ticks.c.fire_at)
Index(
    "ticks_waiting",
    ticks.c.schedule,
    postgresql_where=text("outcome = 'waiting'"),
    sqlite_where=text("outcome = 'waiting'"),
)
