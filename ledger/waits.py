"""Who waits for whom, at gates and in lines.  Nothing here changes anything."""

from sqlalchemy import Connection, func, or_, select

from ledger.flows.states import OPTION, ItemState
from ledger.states import State
from ledger.tables import blocked, flow_jobs, gates, limit_rules, lines, slots
from ledger.views import GateView, JobView, WaitView


def gates_with_most_waiting(connection: Connection, most: int) -> list[GateView]:
    """Gates and sequences for which jobs wait, most first."""
    count, since = func.count().label("waiting"), func.min(blocked.c.since).label("since")
    asked = select(blocked.c.gate, count, since).where(blocked.c.woken_at.is_(None)).group_by(blocked.c.gate)
    views = [
        GateView(row.gate, _capacity(connection, row.gate), _inside(connection, row.gate), row.waiting, row.since)
        for row in connection.execute(asked.order_by(count.desc()).limit(most))
    ]
    since = func.min(lines.c.since).label("since")
    stands = select(lines.c.key, count, since).where(lines.c.open, ~lines.c.called).group_by(lines.c.key)
    views += [
        GateView(row.key, 1, _first(connection, row.key), row.waiting, row.since)
        for row in connection.execute(stands.order_by(count.desc()).limit(most))
    ]
    return sorted(views, key=lambda view: -view.waiting)[:most]


def wait_of(connection: Connection, job: str) -> WaitView | None:
    """What a job waits for, if it is blocked."""
    row = connection.execute(select(blocked).where(blocked.c.job_id == job, blocked.c.woken_at.is_(None))).one_or_none()
    if row is not None:
        earlier = (blocked.c.priority == row.priority) & (blocked.c.due_at < row.due_at)
        ahead = select(func.count()).where(
            blocked.c.gate == row.gate, blocked.c.woken_at.is_(None), or_(blocked.c.priority < row.priority, earlier)
        )
        return WaitView(row.gate, row.since, connection.scalar(ahead) or 0, _inside(connection, row.gate))
    place = connection.execute(select(lines).where(lines.c.job_id == job, lines.c.open)).one_or_none()
    if place is None or place.called:
        return None
    ahead = select(func.count()).where(lines.c.key == place.key, lines.c.open, lines.c.place < place.place)
    return WaitView(place.key, place.since, connection.scalar(ahead) or 0, _first(connection, place.key))


def may_go_round(connection: Connection, job: JobView) -> bool:
    """Whether a retry, as far as its state has one, would be in its turn and not behind the back of its flow."""
    if job.state is State.DELAYED:
        place = connection.execute(select(lines).where(lines.c.job_id == job.id)).one_or_none()
        if place is not None and not (place.open and place.called):
            return False
    options = (job.message or {}).get("options")
    if not isinstance(options, dict) or OPTION not in options:
        return True
    live = select(flow_jobs.c.job_id).where(flow_jobs.c.job_id == job.id, flow_jobs.c.state == ItemState.LIVE)
    return connection.execute(live).first() is not None


def held_back_by(connection: Connection, job: str) -> int:
    """How many stand in line behind a job that is first."""
    place = connection.execute(select(lines).where(lines.c.job_id == job, lines.c.open)).one_or_none()
    if place is None or not place.called:
        return 0
    behind = select(func.count()).where(lines.c.key == place.key, lines.c.open, lines.c.place > place.place)
    return connection.scalar(behind) or 0


def _capacity(connection: Connection, gate: str) -> int:
    changed = select(limit_rules.c.count).where(limit_rules.c.rule == gates.c.rule).scalar_subquery()
    return int(connection.scalar(select(func.coalesce(changed, gates.c.capacity)).where(gates.c.key == gate)) or 0)


def _inside(connection: Connection, gate: str) -> list[str]:
    return list(connection.scalars(select(slots.c.job_id).where(slots.c.gate == gate).order_by(slots.c.job_id)))


def _first(connection: Connection, key: str) -> list[str]:
    first = select(lines.c.job_id).where(lines.c.key == key, lines.c.open).order_by(lines.c.place).limit(1)
    return list(connection.scalars(first))
