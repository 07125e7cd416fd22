"""What people and programs ask of flows.  Nothing here changes one."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Row, select, true, tuple_

from errors import FlowNotFound
from ledger.flows.graph import Graph, Kind, parse
from ledger.flows.states import ENDED, FlowState, ItemState, StepState
from ledger.scope import Scope
from ledger.tables import attempts, flow_definitions, flow_jobs, flow_steps, flows

_SHORTEST = 8
#: Jobs of a step that failed, of which a view tells.
FAILURES = 5


@dataclass(frozen=True)
class FlowProgress:
    """Of how many jobs it is known that they are to be run, and how many of these have ended."""

    done: int
    total: int


@dataclass(frozen=True)
class Failure:
    """A job of a step that failed or was cancelled."""

    item: int
    job: str
    error: str | None  #: of its last attempt


@dataclass(frozen=True)
class StepView:
    name: str
    state: StepState
    kind: str
    actor: str
    after: Sequence[str]
    jobs: int
    done: int  #: of the jobs, those that have ended
    failed: int  #: of these, failed or cancelled
    job: str | None  #: the job, when it has one only
    due_at: datetime | None
    error: str | None
    failures: Sequence[Failure]


@dataclass(frozen=True)
class FlowRow:
    id: str
    name: str
    version: str
    key: str | None
    state: FlowState
    created_at: datetime
    finished_at: datetime | None
    progress: FlowProgress


@dataclass(frozen=True)
class FlowView(FlowRow):
    steps: Sequence[StepView]  #: without those that undo others, until they do


def listing(
    connection: Connection, name: str | None, state: FlowState | None, limit: int, before: str | None, scope: Scope
) -> list[FlowRow]:
    wanted = select(flows).where(_seen(connection, scope)).order_by(flows.c.id.desc()).limit(limit)
    for column, value in ((flows.c.name, name), (flows.c.state, state)):
        if value is not None:
            wanted = wanted.where(column == value)
    if before is not None:
        wanted = wanted.where(flows.c.id < before)
    return [_row(connection, row) for row in connection.execute(wanted)]


def view(connection: Connection, ref: str, scope: Scope) -> FlowView | None:
    id = _find(connection, ref, scope)
    row = connection.execute(select(flows).where(flows.c.id == id)).one_or_none() if id else None
    if row is None:
        return None
    graph, shown = _graph(connection, row), []
    for step in _steps(connection, row.id):
        node = graph.nodes[step.step]
        if node.kind == Kind.UNDO and step.state == StepState.WAITING:
            continue
        only = select(flow_jobs.c.job_id).where(flow_jobs.c.flow_id == row.id, flow_jobs.c.step == step.step)
        shown.append(
            StepView(
                name=step.step,
                state=StepState(step.state),
                kind=node.kind,
                actor=node.actor,
                after=list(node.after),
                jobs=step.jobs,
                done=step.jobs - step.remaining,
                failed=step.failed,
                job=connection.scalar(only) if step.jobs == 1 else None,
                due_at=step.due_at,
                error=step.error,
                failures=_failures(connection, row.id, step.step) if step.failed else [],
            )
        )
    return FlowView(**vars(_row(connection, row)), steps=shown)


def state_of(connection: Connection, id: str) -> FlowState | None:
    found = connection.scalar(select(flows.c.state).where(flows.c.id == id))
    return FlowState(found) if found else None


def graph_of(connection: Connection, id: str) -> Graph | None:
    row = connection.execute(select(flows).where(flows.c.id == id)).one_or_none()
    return _graph(connection, row) if row is not None else None


def _graph(connection: Connection, row: Row[tuple[object, ...]]) -> Graph:
    table = flow_definitions.c
    body = connection.scalar(select(table.body).where(table.name == row.name, table.version == row.version))
    assert body is not None, "a definition is recorded with its first flow and stays"
    return parse(row.name, body)


def _steps(connection: Connection, id: str) -> Sequence[Row[tuple[object, ...]]]:
    return connection.execute(select(flow_steps).where(flow_steps.c.flow_id == id).order_by(flow_steps.c.place)).all()


def _row(connection: Connection, row: Row[tuple[object, ...]]) -> FlowRow:
    steps = [
        step
        for step in _steps(connection, row.id)
        if not step.step.startswith("undo ") or step.state != StepState.WAITING
    ]
    done = sum(step.jobs - step.remaining if step.jobs else step.state in ENDED for step in steps)
    return FlowRow(
        id=row.id,
        name=row.name,
        version=row.version,
        key=row.key,
        state=FlowState(row.state),
        created_at=row.created_at,
        finished_at=row.finished_at,
        progress=FlowProgress(done, sum(step.jobs or 1 for step in steps)),
    )


def _failures(connection: Connection, flow: str, step: str) -> list[Failure]:
    lost = (ItemState.FAILED, ItemState.CANCELLED)
    rows = connection.execute(
        select(flow_jobs.c.item, flow_jobs.c.job_id)
        .where(flow_jobs.c.flow_id == flow, flow_jobs.c.step == step, flow_jobs.c.state.in_(lost))
        .order_by(flow_jobs.c.item)
        .limit(FAILURES)
    ).all()
    found = []
    for item, job in rows:
        last = connection.execute(
            select(attempts.c.error_type, attempts.c.error_message)
            .where(attempts.c.job_id == job, attempts.c.error_type.isnot(None))
            .order_by(attempts.c.epoch.desc())
            .limit(1)
        ).one_or_none()
        found.append(Failure(item, job, f"{last.error_type}: {last.error_message}" if last else None))
    return found


def _seen(connection: Connection, scope: Scope) -> ColumnElement[bool]:
    """The flows all of whose jobs are on queues of the scope: by their definitions, which are few."""
    if not scope.limited:
        return true()
    table = flow_definitions.c
    known = connection.execute(select(table.name, table.version, table.body)).all()
    admitted = [
        (row.name, row.version)
        for row in known
        if all(scope.admits(node.queue) for node in parse(row.name, row.body).nodes.values() if node.actor)
    ]
    return tuple_(flows.c.name, flows.c.version).in_(admitted)


def _find(connection: Connection, ref: str, scope: Scope) -> str | None:
    """By its id, or at least eight characters of its beginning.  Raises ``FlowNotFound`` if that fits several."""
    digits = ref.strip().lower().replace("-", "")
    if not _SHORTEST <= len(digits) <= 32 or any(digit not in "0123456789abcdef" for digit in digits):
        return None
    first, last = str(UUID(digits.ljust(32, "0"))), str(UUID(digits.ljust(32, "f")))
    fits = select(flows.c.id).where(flows.c.id.between(first, last), _seen(connection, scope))
    found = list(connection.scalars(fits.limit(2)))
    if len(found) > 1:
        raise FlowNotFound(f"{ref!r} is the beginning of several flows' ids ({', '.join(found)} …); give more of it")
    return found[0] if found else None
