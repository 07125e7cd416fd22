"""Workflows."""

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    text,
)

from ledger.flows.states import FlowState, ItemState, StepState
from ledger.tables.columns import Instant, JobId, listed, metadata

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
    Column("state", Text, CheckConstraint(f"state IN ({listed(FlowState)})", name="state"), nullable=False),
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
    Column("state", Text, CheckConstraint(f"state IN ({listed(StepState)})", name="state"), nullable=False),
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
    Column("state", Text, CheckConstraint(f"state IN ({listed(ItemState)})", name="state"), nullable=False),
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
