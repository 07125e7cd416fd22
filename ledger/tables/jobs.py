"""What a job is, and what happened to it."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    false,
    text,
)

from ledger.states import State
from ledger.tables.columns import Instant, JobId, listed, metadata

_STATES = listed(State)

jobs = Table(
    "jobs",
    metadata,
    Column("id", JobId, primary_key=True),
    Column("queue", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("priority", SmallInteger, nullable=False),
    Column("state", Text, CheckConstraint(f"state IN ({_STATES})", name="state"), nullable=False),
    Column("ticket", Integer, nullable=False, server_default=text("1")),
    Column("epoch", Integer, nullable=False, server_default=text("0")),
    Column("attempts", Integer, nullable=False, server_default=text("0")),  # spent
    Column("crashes", Integer, nullable=False, server_default=text("0")),  # more than 0: a suspect
    Column("charges", Integer, nullable=False, server_default=text("0")),  # 3: quarantined
    Column("cancel_requested", Boolean, nullable=False, server_default=false()),
    Column("reason", Text),
    Column("created_at", Instant, nullable=False),
    Column(
        "run_at", Instant, nullable=False
    ),  # when it is, or last became, due; putting it off before it ran, or sending it again, moves nothing
    Column("finished_at", Instant),
    Column("counted", Boolean),  # true: in the backlog of a queue with a limit; else null
    Column("sequenced", Boolean),  # true: it has, or had, a place in a line; else null
    postgresql_with={"fillfactor": "70", "autovacuum_vacuum_scale_factor": "0.02", "autovacuum_vacuum_cost_delay": "0"},
)
Index("jobs_queue", jobs.c.queue, jobs.c.id)
# Finished jobs, for retention and the list of dead letters.  Neither index may mention ``state``: a column in an
# index's key or predicate switches HOT off for every update of it.  A job has a reason exactly when it is failed.
Index(
    "jobs_done",
    jobs.c.queue,
    jobs.c.finished_at,
    postgresql_where=text("finished_at IS NOT NULL AND reason IS NULL"),
    sqlite_where=text("finished_at IS NOT NULL AND reason IS NULL"),
)
Index(
    "jobs_dead",
    jobs.c.queue,
    jobs.c.finished_at,
    postgresql_where=text("finished_at IS NOT NULL AND reason IS NOT NULL"),
    sqlite_where=text("finished_at IS NOT NULL AND reason IS NOT NULL"),
)

# The backlog of queues that have a limit; jobs of the others are not in it, and cost nothing.
Index(
    "jobs_backlog",
    jobs.c.queue,
    postgresql_where=text("counted AND finished_at IS NULL"),
    sqlite_where=text("counted AND finished_at IS NULL"),
)

payloads = Table(
    "payloads",
    metadata,
    Column("job_id", JobId, primary_key=True),
    Column("message_id", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("producer", Text, nullable=False, server_default=text("''")),
)
Index("payloads_message_id", payloads.c.message_id)

tickets = Table(
    "tickets",
    metadata,
    Column("job_id", JobId, primary_key=True),
    Column("queue", Text, nullable=False),
    Column("priority", SmallInteger, nullable=False),
    Column("ticket", Integer, nullable=False),
    Column("ready", Boolean, nullable=False),  # for the embedded road's taking
    Column("due_at", Instant, nullable=False),  # when the relay may act on it
    postgresql_with={"autovacuum_vacuum_scale_factor": "0.02", "autovacuum_vacuum_cost_delay": "0"},
)
Index(
    "tickets_ready",
    tickets.c.queue,
    tickets.c.priority,
    tickets.c.due_at,
    postgresql_where=text("ready"),
    sqlite_where=text("ready"),
)
Index("tickets_due", tickets.c.due_at, postgresql_where=text("NOT ready"), sqlite_where=text("NOT ready"))

claims = Table(
    "claims",
    metadata,
    Column("worker_id", Integer, primary_key=True),
    Column("job_id", JobId, primary_key=True),
    Column("epoch", Integer, nullable=False),
    Column("ticket", Integer, nullable=False),
    Column("suspect", Boolean, nullable=False),
    Column("claimed_at", Instant, nullable=False),
    postgresql_with={"autovacuum_vacuum_scale_factor": "0.02", "autovacuum_vacuum_cost_delay": "0"},
)
Index("claims_job", claims.c.job_id)

attempts = Table(
    "attempts",
    metadata,
    Column("job_id", JobId, primary_key=True),
    Column("epoch", Integer, primary_key=True),
    Column("number", Integer),  # which attempt it was; null when it cost none
    Column("outcome", Text, nullable=False),
    Column("worker_id", Integer, nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("finished_at", Instant, nullable=False),
    Column("run_at", Instant),  # when the next one is due
    Column("error_type", Text),
    Column("error_message", Text),
    Column("traceback", Text),
    Column("tx", BigInteger),  # the transaction that wrote it, while the feed is kept; else null
)
# What happens to jobs, in an order in which the feed may be followed; while it is not kept, there is nothing in them.
Index(
    "attempts_tx",
    attempts.c.tx,
    attempts.c.job_id,
    attempts.c.epoch,
    postgresql_where=text("tx IS NOT NULL"),
    sqlite_where=text("tx IS NOT NULL"),
)

# In the order of time, nearly: blocks of it have a range each, which costs next to nothing (SQLite: a common index).
Index("attempts_finished", attempts.c.finished_at, postgresql_using="brin")
Index("attempts_worker", attempts.c.worker_id, attempts.c.job_id)

journal = Table(
    "journal",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("job_id", JobId),
    Column("at", Instant, nullable=False),
    Column("event", Text, nullable=False),
    Column("actor", Text, nullable=False, server_default=text("''")),  # who did it: a worker, an operator, a duty
    Column("detail", Text, nullable=False, server_default=text("''")),  # JSON, or empty
    Column("tx", BigInteger),  # as of an attempt; of the lines that tell of a job's end, its retry or its removal
)
Index(
    "journal_tx",
    journal.c.tx,
    journal.c.job_id,
    journal.c.id,
    postgresql_where=text("tx IS NOT NULL"),
    sqlite_where=text("tx IS NOT NULL"),
)
Index("journal_job", journal.c.job_id)
#: Of a line: its job became a dead letter, and no attempt of outcome ``failed`` says so.
DIED = "event IN ('failed', 'buried')"
Index("journal_died", journal.c.at, postgresql_where=text(DIED), sqlite_where=text(DIED))
# Lines that no job's retention takes along: an operator's pause or rebuild, and the removal of a job.
Index(
    "journal_loose",
    journal.c.at,
    postgresql_where=text("job_id IS NULL OR event IN ('removed', 'discarded')"),
    sqlite_where=text("job_id IS NULL OR event IN ('removed', 'discarded')"),
)

results = Table(
    "results",
    metadata,
    Column("job_id", JobId, primary_key=True),
    Column("body", LargeBinary, nullable=False),  # JSON
    Column("expires_at", Instant, nullable=False),
    Column("read_at", Instant),
)
Index("results_expires", results.c.expires_at)

progress = Table(
    "progress",
    metadata,
    Column("job_id", JobId, primary_key=True),
    Column("done", Double, nullable=False),
    Column("total", Double),
    Column("note", Text, nullable=False, server_default=text("''")),
    Column("at", Instant, nullable=False),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("job_id", JobId, primary_key=True),
    Column("epoch", Integer, nullable=False),  # of the attempt that left it
    Column("body", LargeBinary, nullable=False),  # JSON
    Column("at", Instant, nullable=False),
)

groups = Table(
    "groups",
    metadata,
    Column("id", Text, primary_key=True),
    Column("remaining", Integer, nullable=False),
    Column("expires_at", Instant, nullable=False),
)

# When a job that was never tried is not wanted any more.  Nothing in its life touches the row: it is read at its time.
expiries = Table(
    "expiries",
    metadata,
    Column("job_id", JobId, primary_key=True),
    Column("at", Instant, nullable=False),
)
Index("expiries_at", expiries.c.at)

history = Table(
    "history",
    metadata,
    Column("id", JobId, primary_key=True),
    Column("message_id", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("priority", SmallInteger, nullable=False),
    Column(
        "state", Text, CheckConstraint("state IN ('completed', 'failed', 'cancelled')", name="state"), nullable=False
    ),
    Column("reason", Text),
    Column("attempts", Integer, nullable=False),
    Column("crashes", Integer, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("run_at", Instant, nullable=False),
    Column("finished_at", Instant, nullable=False),
    Column("producer", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("archived_at", Instant, nullable=False),
)
Index("history_finished", history.c.finished_at)
Index("history_message_id", history.c.message_id)
Index("history_queue", history.c.queue, history.c.state, history.c.finished_at)
# Pages of a list go by id, newest first.
Index("history_state_id", history.c.state, history.c.id)
Index("history_queue_id", history.c.queue, history.c.state, history.c.id)
Index(
    "history_reason",
    history.c.reason,
    history.c.id,
    postgresql_where=text("reason IS NOT NULL"),
    sqlite_where=text("reason IS NOT NULL"),
)
Index("history_actor_id", history.c.actor, history.c.state, history.c.id)

# Jobs that were made of another by changing what it says.
edits = Table(
    "edits",
    metadata,
    Column("job_id", JobId, primary_key=True),  # the new one
    Column("origin_id", JobId, nullable=False),
    Column("at", Instant, nullable=False),
    Column("by", Text, nullable=False),
)
Index("edits_origin", edits.c.origin_id)
