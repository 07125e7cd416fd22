"""The ledger's tables, for SQLAlchemy Core and Alembic.

The ``jobs`` row is the truth.  Three narrow tables say which rows need whom, so that the columns of
``jobs`` that change at every claim stand in no index (such updates stay HOT in PostgreSQL):

    tickets   jobs that still need a message: unsent, delayed, or ready on the embedded road
    claims    jobs in a worker's hands
    payloads  the message as sent; changed only when another replaces it

Finished jobs leave ``jobs`` for ``history`` by retention.

columns.py    kinds of columns; the time as either database has it
jobs.py       what a job is, and what happened to it
policies.py   keys, limits, places in lines, circuits
flows.py      workflows
schedules.py  what is sent again and again
workers.py    who works; what operators want of workers and queues; leases, duties, alerts
migration.py  what is moved from synchronous code to jobs
events.py     what other processes follow
people.py     who may do what, and what they did
overview.py   what is kept for finding, counting and repairing jobs
"""

from ledger.tables.columns import Instant, JobId, Words, metadata, now
from ledger.tables.events import feed, followers
from ledger.tables.flows import flow_definitions, flow_jobs, flow_steps, flow_values, flows
from ledger.tables.jobs import (
    DIED,
    attempts,
    checkpoints,
    claims,
    edits,
    expiries,
    groups,
    history,
    jobs,
    journal,
    payloads,
    progress,
    results,
    tickets,
)
from ledger.tables.migration import dual_differences, dual_pairs, dual_writes
from ledger.tables.overview import bookmarks, failure_groups, failures, operations, search_texts, tallies
from ledger.tables.people import (
    APPEND_ONLY,
    audit,
    audit_anchors,
    logins,
    repeats,
    saved_views,
    sessions,
    tokens,
    users,
)
from ledger.tables.policies import (
    blocked,
    circuits,
    deferrals,
    gates,
    limit_rules,
    limits,
    lines,
    probes,
    reservations,
    slots,
    uniques,
)
from ledger.tables.schedules import schedules, ticks
from ledger.tables.workers import (
    alerts,
    dead_notes,
    deliveries,
    duties,
    leases,
    queues,
    worker_reports,
    worker_requests,
    workers,
)

__all__ = [
    "APPEND_ONLY",
    "DIED",
    "Instant",
    "JobId",
    "Words",
    "alerts",
    "attempts",
    "audit",
    "audit_anchors",
    "blocked",
    "bookmarks",
    "checkpoints",
    "circuits",
    "claims",
    "dead_notes",
    "deferrals",
    "deliveries",
    "dual_differences",
    "dual_pairs",
    "dual_writes",
    "duties",
    "edits",
    "expiries",
    "failure_groups",
    "failures",
    "feed",
    "flow_definitions",
    "flow_jobs",
    "flow_steps",
    "flow_values",
    "flows",
    "followers",
    "gates",
    "groups",
    "history",
    "jobs",
    "journal",
    "leases",
    "limit_rules",
    "limits",
    "lines",
    "logins",
    "metadata",
    "now",
    "operations",
    "payloads",
    "probes",
    "progress",
    "queues",
    "repeats",
    "reservations",
    "results",
    "saved_views",
    "schedules",
    "search_texts",
    "sessions",
    "slots",
    "tallies",
    "tickets",
    "ticks",
    "tokens",
    "uniques",
    "users",
    "worker_reports",
    "worker_requests",
    "workers",
]
