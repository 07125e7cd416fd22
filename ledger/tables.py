"""The ledger's tables, for SQLAlchemy Core and Alembic.

The ``jobs`` row is the truth.  Three narrow tables say which rows need whom, so that the columns of
``jobs`` that change at every claim stand in no index (such updates stay HOT in PostgreSQL):

    tickets   jobs that still need a message: unsent, delayed, or ready on the embedded road
    claims    jobs in a worker's hands
    payloads  the message as sent; changed only when another replaces it

Finished jobs leave ``jobs`` for ``history`` by retention.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    false,
    text,
)
from sqlalchemy.dialects.postgresql import TIMESTAMP, TSVECTOR, UUID
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

from ledger.append_only import protect
from ledger.flows.states import FlowState, ItemState, StepState
from ledger.instants import from_micros, to_micros
from ledger.orders import Ends, Mode, Wish
from ledger.states import State


class Instant(TypeDecorator[datetime]):
    """A moment: ``timestamptz`` in PostgreSQL, whole microseconds since 1970 in SQLite; aware UTC in Python."""

    impl = BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(TIMESTAMP(timezone=True) if dialect.name == "postgresql" else BigInteger())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        return value if value is None or dialect.name == "postgresql" else to_micros(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        return value if value is None or dialect.name == "postgresql" else from_micros(value)


class JobId(TypeDecorator[str]):
    """``uuid`` in PostgreSQL, text in SQLite; text in Python."""

    impl = String(36)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(UUID(as_uuid=False) if dialect.name == "postgresql" else String(36))


class Words(TypeDecorator[Sequence[str]]):
    """A set of words: ``tsvector`` in PostgreSQL, text with a space around each in SQLite; only ever written."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(TSVECTOR() if dialect.name == "postgresql" else Text())

    def bind_expression(self, bindvalue: Any) -> Any:
        return _as_words(bindvalue)

    def process_bind_param(self, value: Sequence[str] | None, dialect: Dialect) -> Any:
        words = sorted(set(value or ()))
        return words if dialect.name == "postgresql" else f" {' '.join(words)} "


class _as_words(FunctionElement[Any]):
    inherit_cache = True


@compiles(_as_words, "postgresql")
def _words_postgresql(element: _as_words, compiler: Any, **kw: Any) -> str:
    return f"array_to_tsvector(({compiler.process(element.clauses, **kw)})::text[])"


@compiles(_as_words, "sqlite")
def _words_sqlite(element: _as_words, compiler: Any, **kw: Any) -> str:
    return str(compiler.process(element.clauses, **kw))


class now(FunctionElement[datetime]):
    """The database's clock, now; not the start of the transaction."""

    type = Instant()
    inherit_cache = True


@compiles(now, "postgresql")
def _now_postgresql(element: now, compiler: Any, **kw: Any) -> str:
    return "clock_timestamp()"


@compiles(now, "sqlite")
def _now_sqlite(element: now, compiler: Any, **kw: Any) -> str:
    # unixepoch('subsec') needs SQLite 3.42; Debian 12 has 3.40.
    return "CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)"


metadata = MetaData(
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s",
        "ck": "%(table_name)s_%(constraint_name)s",
        "pk": "%(table_name)s_pkey",
    }
)


def _words(kind: type[StrEnum]) -> str:
    return ", ".join(f"'{word}'" for word in kind)


_STATES = _words(State)

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

# When a job that was never tried is not wanted any more.  Nothing in its life touches the row: it is read at its time.
expiries = Table(
    "expiries",
    metadata,
    Column("job_id", JobId, primary_key=True),
    Column("at", Instant, nullable=False),
)
Index("expiries_at", expiries.c.at)

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
    Column("wish", Text, CheckConstraint(f"wish IN ({_words(Wish)})", name="wish"), nullable=False),
    Column("asked_at", Instant, nullable=False),
    Column("asked_by", Text, nullable=False),
)

# What a worker says of itself; no more often than every few seconds, and nothing when nothing has changed.
worker_reports = Table(
    "worker_reports",
    metadata,
    Column("worker_id", Integer, primary_key=True, autoincrement=False),
    Column("mode", Text, CheckConstraint(f"mode IN ({_words(Mode)})", name="mode"), nullable=False),
    Column("ends", Text, CheckConstraint(f"ends IN ({_words(Ends)})", name="ends"), nullable=False),
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

flow_definitions = Table(
    "flow_definitions",
    metadata,
    Column("name", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("body", Text, nullable=False),  # JSON (ledger/flows/graph.py)
    Column("created_at", Instant, nullable=False),
)

flows = Table(
    "flows",
    metadata,
    Column("id", JobId, primary_key=True),
    Column("name", Text, nullable=False),
    Column("version", Text, nullable=False),  # the definition it goes by, whatever the code says meanwhile
    Column("key", Text),
    Column("state", Text, CheckConstraint(f"state IN ({_words(FlowState)})", name="state"), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("finished_at", Instant),
)
Index(
    "flows_key",
    flows.c.name,
    flows.c.key,
    unique=True,
    postgresql_where=text("key IS NOT NULL"),
    sqlite_where=text("key IS NOT NULL"),
)
Index("flows_finished", flows.c.finished_at)

flow_steps = Table(
    "flow_steps",
    metadata,
    Column("flow_id", JobId, primary_key=True),
    Column("step", Text, primary_key=True),
    Column("place", Integer, nullable=False),  # in the definition
    Column("state", Text, CheckConstraint(f"state IN ({_words(StepState)})", name="state"), nullable=False),
    Column("jobs", Integer, nullable=False, server_default=text("0")),
    Column("remaining", Integer, nullable=False, server_default=text("0")),  # of the jobs, not ended
    Column("failed", Integer, nullable=False, server_default=text("0")),  # of the jobs, failed or cancelled
    Column("truth", Boolean),  # of its result, for conditions
    Column("error", Text),  # why it failed, if that was no job
    Column("due_at", Instant),  # of a sleep; of a wait, when it times out
    postgresql_with={"fillfactor": "70", "autovacuum_vacuum_scale_factor": "0.02", "autovacuum_vacuum_cost_delay": "0"},
)
Index(
    "flow_steps_due",
    flow_steps.c.due_at,
    postgresql_where=text("due_at IS NOT NULL"),
    sqlite_where=text("due_at IS NOT NULL"),
)

flow_jobs = Table(
    "flow_jobs",
    metadata,
    Column("flow_id", JobId, primary_key=True),
    Column("step", Text, primary_key=True),
    Column("item", Integer, primary_key=True),
    Column("job_id", JobId, nullable=False),  # a retry of the flow puts another in its place
    Column("state", Text, CheckConstraint(f"state IN ({_words(ItemState)})", name="state"), nullable=False),
    postgresql_with={"fillfactor": "70"},
)
Index("flow_jobs_job", flow_jobs.c.job_id)

flow_values = Table(
    "flow_values",
    metadata,
    Column("flow_id", JobId, primary_key=True),
    Column("name", Text, primary_key=True),  # of an argument, of a step, or of a signal with that word before it
    Column("item", Integer, primary_key=True),
    Column("body", LargeBinary, nullable=False),  # JSON
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
    Column("body", Text, nullable=False),  # JSON (control/notice.py)
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

# What a job may be found by, redacted; written beside the jobs by a duty.
search_texts = Table(
    "search_texts",
    metadata,
    Column("job_id", JobId, primary_key=True),
    Column("words", Words, nullable=False),
)
Index("search_texts_words", search_texts.c.words, postgresql_using="gin")

# Dead letters, each in the group of its error.  The row goes when the job is retried, removed or forgotten.
failures = Table(
    "failures",
    metadata,
    Column("job_id", JobId, primary_key=True),
    Column("fingerprint", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("at", Instant, nullable=False),
)
Index("failures_fingerprint", failures.c.fingerprint, failures.c.job_id)
Index("failures_queue", failures.c.queue, failures.c.job_id)
Index("failures_at", failures.c.at)

failure_groups = Table(
    "failure_groups",
    metadata,
    Column("fingerprint", Text, primary_key=True),
    Column("error_type", Text, nullable=False),
    Column("frame", Text, nullable=False),  # the innermost of the project, or empty
    Column("message", Text, nullable=False),  # normalised
    Column("first_at", Instant, nullable=False),
    Column("acknowledged_at", Instant),  # known: it is hidden until it comes again after this
    Column("acknowledged_by", Text),
    Column("snoozed_until", Instant),
)

# Attempts by the minute, and those by ten minutes and the hour.  run_… and wait_… count durations up to the bounds in
# ledger/tally.py.
tallies = Table(
    "tallies",
    metadata,
    Column("step_s", Integer, primary_key=True, autoincrement=False),  # 60, 600 or 3600
    Column("at", Instant, primary_key=True),  # when it begins
    Column("queue", Text, primary_key=True),
    Column("actor", Text, primary_key=True),
    Column("outcome", Text, primary_key=True),
    Column("count", Integer, nullable=False),
    Column("run_s", Double, nullable=False),
    Column("wait_s", Double, nullable=False),
    *(Column(f"{kind}_{n}", Integer, nullable=False) for kind in ("run", "wait") for n in range(20)),
)

# How far a duty has come.
bookmarks = Table(
    "bookmarks",
    metadata,
    Column("name", Text, primary_key=True),
    Column("place", Text, nullable=False),
    postgresql_with={"fillfactor": "70"},
)

# Bulk operations.  A batch is one transaction, which moves the cursor too.
operations = Table(
    "operations",
    metadata,
    Column("id", JobId, primary_key=True),
    Column("verb", Text, nullable=False),
    Column("filter", Text, nullable=False),  # JSON (ledger/search.py)
    Column("state", Text, nullable=False),
    Column("expected", Integer, nullable=False),  # jobs that fitted when it was begun, counted to a bound
    Column("more", Boolean, nullable=False),  # there were more
    Column("upto", JobId, nullable=False),  # of jobs that came later none is touched
    Column("cursor", JobId, nullable=False),  # of those up to it each was dealt with
    Column("done", Integer, nullable=False, server_default=text("0")),
    Column("skipped", Integer, nullable=False, server_default=text("0")),
    Column("failed", Integer, nullable=False, server_default=text("0")),
    Column("troubles", Text, nullable=False, server_default=text("'[]'")),  # JSON: the first jobs that failed, and why
    Column("created_at", Instant, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("changed_at", Instant, nullable=False),
    Column("finished_at", Instant),
    Column("cancelled_by", Text),
    postgresql_with={"fillfactor": "70"},
)
Index(
    "operations_open",
    operations.c.id,
    postgresql_where=text("finished_at IS NULL"),
    sqlite_where=text("finished_at IS NULL"),
)

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
