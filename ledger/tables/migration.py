"""What is moved from synchronous code to jobs: how far, and where the two differ."""

from sqlalchemy import BigInteger, Column, Double, Index, Integer, Table, Text, text

from ledger.tables.columns import Instant, JobId, metadata

# One row per dual_write() of the code.  Its counts grow by what each process adds about once a second.
dual_writes = Table(
    "dual_writes",
    metadata,
    Column("name", Text, primary_key=True),
    Column("mode", Text, nullable=False),
    Column("share", Double, nullable=False),
    Column("changed_at", Instant, nullable=False),
    Column("changed_by", Text, nullable=False, server_default=text("''")),  # empty: as the code has it
    Column("sent", BigInteger, nullable=False, server_default=text("0")),
    Column("equal", BigInteger, nullable=False, server_default=text("0")),
    Column("different", BigInteger, nullable=False, server_default=text("0")),
    Column("missing", BigInteger, nullable=False, server_default=text("0")),
    Column("errors", BigInteger, nullable=False, server_default=text("0")),
    Column("trouble", Text, nullable=False, server_default=text("''")),  # the last one that was missing, or an error
    Column("trouble_at", Instant),
    postgresql_with={"fillfactor": "70"},
)

# What synchronous code returned, until the job of the same call has ended.
dual_pairs = Table(
    "dual_pairs",
    metadata,
    Column("id", JobId, primary_key=True),
    Column("name", Text, nullable=False),
    Column("job_id", JobId, nullable=False),
    Column("owner", Text, nullable=False),  # the process that looks first
    Column("result", Text, nullable=False),  # JSON, or sealed
    Column("created_at", Instant, nullable=False),
    Column("look_at", Instant, nullable=False),
)
Index("dual_pairs_look", dual_pairs.c.name, dual_pairs.c.look_at)

# The last calls of which the two results were not the same.
dual_differences = Table(
    "dual_differences",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("name", Text, nullable=False),
    Column("job_id", JobId, nullable=False),
    Column("at", Instant, nullable=False),
    Column("synchronous", Text, nullable=False),  # redacted JSON, in short
    Column("asynchronous", Text, nullable=False),
)
Index("dual_differences_name", dual_differences.c.name, dual_differences.c.id)
