"""Who works, what operators want of workers and queues, who keeps house, and what is told when something is wrong."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    Index,
    Integer,
    Table,
    Text,
    false,
    text,
)

from ledger.orders import Ends, Mode, Wish
from ledger.tables.columns import Instant, JobId, listed, metadata

workers = Table(
    "workers",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column(
        "state",
        Text,
        CheckConstraint("state IN ('running', 'stopping', 'stopped', 'dead')", name="state"),
        nullable=False,
    ),
    Column("queues", Text, nullable=False),  # JSON list
    Column("threads", Integer, nullable=False),
    Column("version", Text, nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("heartbeat_at", Instant, nullable=False),
    Column("stopped_at", Instant),
    sqlite_autoincrement=True,  # an id is never used again: it fences
)
Index("workers_heartbeat", workers.c.state, workers.c.heartbeat_at)

# What operators ask of a worker, which looks every second; the last word counts.
worker_requests = Table(
    "worker_requests",
    metadata,
    Column("worker_id", Integer, primary_key=True, autoincrement=False),
    Column("wish", Text, CheckConstraint(f"wish IN ({listed(Wish)})", name="wish"), nullable=False),
    Column("asked_at", Instant, nullable=False),
    Column("asked_by", Text, nullable=False),
)

# What a worker says of itself; no more often than every few seconds, and nothing when nothing has changed.
worker_reports = Table(
    "worker_reports",
    metadata,
    Column("worker_id", Integer, primary_key=True, autoincrement=False),
    Column("mode", Text, CheckConstraint(f"mode IN ({listed(Mode)})", name="mode"), nullable=False),
    Column("ends", Text, CheckConstraint(f"ends IN ({listed(Ends)})", name="ends"), nullable=False),
    Column("master", Integer),  # pid of the process that started it with others
    Column("busy", Integer, nullable=False),  # threads
    Column("rss", BigInteger),  # bytes
    Column("slots", Text, nullable=False),  # JSON: by queue
    Column("at", Instant, nullable=False),
    postgresql_with={"fillfactor": "70", "autovacuum_vacuum_scale_factor": "0.02", "autovacuum_vacuum_cost_delay": "0"},
)

queues = Table(
    "queues",
    metadata,
    Column("name", Text, primary_key=True),
    Column("paused", Boolean, nullable=False, server_default=false()),
    Column("paused_at", Instant),
    Column("paused_by", Text),
    Column("draining_at", Instant),  # since then it takes no new jobs
    Column("draining_by", Text),
)

# How each thing that health is judged by stands, as far as it is not well or was not lately.
alerts = Table(
    "alerts",
    metadata,
    Column("queue", Text, primary_key=True),  # empty: of the whole system
    Column("rule", Text, primary_key=True),
    Column("level", Text, nullable=False),
    Column("value", Double, nullable=False),
    Column("text", Text, nullable=False),
    Column("since", Instant, nullable=False),  # of this level
    Column("calm_at", Instant),  # since then it is below it
    Column("told", Text, nullable=False),  # the level that was told last
    Column("told_at", Instant),
    Column("muted_until", Instant),
    Column("muted_by", Text),
    postgresql_with={"fillfactor": "70"},
)

# What is to be told, once for each destination.  Decided with the level that changed, in one transaction.
deliveries = Table(
    "deliveries",
    metadata,
    Column("id", JobId, primary_key=True),
    Column("destination", Text, nullable=False),
    Column("body", Text, nullable=False),  # JSON (ledger/notice.py)
    Column("created_at", Instant, nullable=False),
    Column("due_at", Instant),  # null: delivered, or given up
    Column("tries", Integer, nullable=False, server_default=text("0")),
    Column("delivered_at", Instant),
    Column("error", Text, nullable=False, server_default=text("''")),  # of the last try
)
Index(
    "deliveries_due",
    deliveries.c.due_at,
    postgresql_where=text("due_at IS NOT NULL"),
    sqlite_where=text("due_at IS NOT NULL"),
)

# Dead letters that nobody has been told of, counted.
dead_notes = Table(
    "dead_notes",
    metadata,
    Column("queue", Text, primary_key=True),
    Column("actor", Text, primary_key=True),
    Column("reason", Text, primary_key=True),
    Column("error", Text, primary_key=True),
    Column("number", Integer, nullable=False),
    Column("first_at", Instant, nullable=False),
    Column("last_job", JobId, nullable=False),
)

leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("term", Integer, nullable=False),
    Column("expires_at", Instant, nullable=False),
)

# How the duties of maintenance go, as whoever does them said last.
duties = Table(
    "duties",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("every_s", Double, nullable=False),
    Column("at", Instant, nullable=False),
    Column("ago_ms", BigInteger, nullable=False),  # then, since it was last begun
    Column("late_ms", BigInteger, nullable=False),  # at most, since the report before
    Column("took_ms", BigInteger, nullable=False),
    postgresql_with={"fillfactor": "70", "autovacuum_vacuum_scale_factor": "0.02", "autovacuum_vacuum_cost_delay": "0"},
)
