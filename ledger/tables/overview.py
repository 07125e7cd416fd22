"""What is kept for finding, counting and repairing jobs; never written by a job on its way."""

from sqlalchemy import (
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    Table,
    Text,
    text,
)

from ledger.tables.columns import Instant, JobId, Words, metadata

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
    # Of created_by, for the audit trail: what the batches do is their deed (ledger/who.py).
    *(
        Column(name, Text, nullable=False, server_default=text("''"))
        for name in ("role", "token", "address", "request")
    ),
    postgresql_with={"fillfactor": "70"},
)
Index("operations_finished", operations.c.finished_at)
Index(
    "operations_open",
    operations.c.id,
    postgresql_where=text("finished_at IS NULL"),
    sqlite_where=text("finished_at IS NULL"),
)
