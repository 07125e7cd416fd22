"""How many attempts ended how, how long they waited and ran: by the minute, ten minutes and the hour, as rows of sums.

Jobs that became dead letters without an attempt that failed (expired, quarantined, buried) are counted beside them.
Durations are counted up to fixed bounds, so that the percentiles of any stretch of time are read from sums.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Literal

from sqlalchemy import (
    ColumnElement,
    Connection,
    Double,
    Row,
    Select,
    and_,
    case,
    cast,
    delete,
    func,
    insert,
    literal,
    null,
    select,
    text,
    union_all,
)

from ledger.states import Outcome
from ledger.tables import DIED, attempts, history, jobs, journal, tallies
from ledger.times import bucket, seconds
from ledger.views import Percentiles

#: Seconds; the last part of a histogram has no bound.
BOUNDS = (
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0, 300.0, 600.0, 3600.0,
)  # fmt: skip
PARTS = len(BOUNDS) + 1
MINUTE_S, HOUR_S = 60, 3_600
STEPS = (MINUTE_S, 600, HOUR_S)
#: A window up to so long is read in each of them; a longer one in hours.
_WINDOWS = (timedelta(hours=2, minutes=5), timedelta(hours=26))
_SUMS = ("count", "run_s", "wait_s", *(f"{kind}_{n}" for kind in ("run", "wait") for n in range(PARTS)))
_ENDS = (Outcome.COMPLETED, Outcome.SKIPPED, Outcome.FAILED)
#: In the place of an outcome: a job that became a dead letter, though no attempt of it failed just then.
_DIED = "died"


@dataclass(frozen=True)
class Point:
    """One part of a window."""

    at: datetime  #: when it begins
    completed: int = 0
    failed: int = 0  #: jobs that became dead letters: failed, refused, expired, quarantined or buried
    retried: int = 0
    crashed: int = 0  #: attempts whose worker died or stalled; the last one of a quarantined job, too
    others: int = 0  #: snoozed, parked, interrupted, cancelled
    run: Percentiles = field(default_factory=Percentiles)
    wait: Percentiles = field(default_factory=Percentiles)  #: from due to started, of jobs that ended


@dataclass(frozen=True)
class Series:
    """Attempts over time, in equal parts."""

    since: datetime
    until: datetime
    step_s: float
    points: Sequence[Point]


@dataclass(frozen=True)
class Performance:
    """How a job type, or a queue, did in a window."""

    name: str
    completed: int
    failed: int  #: became dead letters, with an attempt or without
    retried: int
    crashed: int
    mean_s: float  #: of all attempts
    mean_wait_s: float  #: from due to started, of the jobs that ended
    run: Percentiles
    wait: Percentiles

    @property
    def success_rate(self) -> float | None:
        """Of the jobs that ended; None: none did."""
        ended = self.completed + self.failed
        return self.completed / ended if ended else None


def roll_up(connection: Connection, since: datetime, until: datetime) -> int:
    """Count what ended in these whole minutes anew; returns how many rows that made.  Idempotent.

    A dead letter stays counted when it is sent round again: attempts and the journal tell of it, not its state.
    """
    part = bucket(attempts.c.finished_at, since, float(MINUTE_S)).label("part")
    died = bucket(journal.c.at, since, float(MINUTE_S)).label("part")
    run = seconds(attempts.c.finished_at, attempts.c.started_at)
    counted = []
    for table in (jobs, history):
        # An earlier end of a job that was retried since has no due time any more.
        waits = (attempts.c.outcome.in_(_ENDS)) & (attempts.c.started_at >= table.c.run_at)
        wait = seconds(attempts.c.started_at, table.c.run_at)
        counted.append(
            select(
                part,
                table.c.queue,
                table.c.actor,
                attempts.c.outcome,
                run.label("run"),
                case((waits, wait)).label("wait"),
            )
            .join(table, table.c.id == attempts.c.job_id)
            .where(attempts.c.finished_at >= since, attempts.c.finished_at < until)
        )
        nothing = cast(null(), Double)
        counted.append(
            select(died, table.c.queue, table.c.actor, literal(_DIED), nothing, nothing)
            .join(table, table.c.id == journal.c.job_id)
            .where(text(DIED), journal.c.at >= since, journal.c.at < until)
        )
    each = union_all(*counted).subquery()
    columns = [
        func.count().label("count"),
        func.coalesce(func.sum(each.c.run), 0.0).label("run_s"),
        func.coalesce(func.sum(each.c.wait), 0.0).label("wait_s"),
        *(_in_part(each.c[kind], n).label(f"{kind}_{n}") for kind in ("run", "wait") for n in range(PARTS)),
    ]
    keys = (each.c.part, each.c.queue, each.c.actor, each.c.outcome)
    rows = connection.execute(select(*keys, *columns).group_by(*keys)).mappings().all()
    connection.execute(delete(tallies).where(tallies.c.step_s == MINUTE_S, tallies.c.at >= since, tallies.c.at < until))
    new = [
        {name: value for name, value in row.items() if name != "part"}
        | {"step_s": MINUTE_S, "at": since + timedelta(seconds=MINUTE_S * row["part"])}
        for row in rows
    ]
    if new:
        connection.execute(insert(tallies), new)
    return len(new)


def roll_up_again(connection: Connection, since: datetime, until: datetime) -> None:
    """The same of the longer steps that these minutes are in, each from the step below."""
    names = ("queue", "actor", "outcome")
    sums = [func.sum(tallies.c[name]).label(name) for name in _SUMS]
    for below, step_s in pairwise(STEPS):
        at, step = floor(since, step_s), timedelta(seconds=step_s)
        while at < until:
            within = (tallies.c.step_s == below, tallies.c.at >= at, tallies.c.at < at + step)
            keys = [tallies.c[name] for name in names]
            rows = connection.execute(select(*keys, *sums).where(*within).group_by(*keys)).mappings()
            new = [dict(row) | {"step_s": step_s, "at": at} for row in rows]
            connection.execute(delete(tallies).where(tallies.c.step_s == step_s, tallies.c.at == at))
            if new:
                connection.execute(insert(tallies), new)
            at += step


def forget(connection: Connection, before: datetime, hours_before: datetime) -> None:
    """The hours before one moment, the shorter steps before another."""
    for step_s in STEPS:
        moment = hours_before if step_s == HOUR_S else before
        connection.execute(delete(tallies).where(tallies.c.step_s == step_s, tallies.c.at < moment))


def _in_part(duration: ColumnElement[Any], n: int) -> ColumnElement[int]:
    above = duration > BOUNDS[n - 1] if n else duration.is_not(None)
    inside = and_(above, duration <= BOUNDS[n]) if n < len(BOUNDS) else above
    return func.coalesce(func.sum(case((inside, 1), else_=0)), 0)


def series(
    connection: Connection,
    since: datetime,
    until: datetime,
    points: int,
    *,
    queues: Sequence[str] | None = None,
    actor: str | None = None,
) -> Series:
    """Whole minutes, of a longer window whole tens of them or hours, in at most so many parts."""
    step_s = _step_of(since, until)
    since, until = _ceil(since, step_s), _ceil(until, step_s)
    steps = max(1, round((until - since).total_seconds() / step_s))
    width_s = step_s * -(-steps // max(1, points))
    part = bucket(tallies.c.at, since, float(width_s)).label("part")
    asked = _sums(part, step_s, since, until, queues, actor)
    rows: dict[int, list[Row[Any]]] = {}
    for row in connection.execute(asked):
        rows.setdefault(row.part, []).append(row)
    parts = range(-(-steps * step_s // width_s))
    return Series(since, until, width_s, [_point(since, width_s, n, rows.get(n, ())) for n in parts])


def performance(
    connection: Connection,
    since: datetime,
    until: datetime,
    by: Literal["actor", "queue"],
    *,
    queues: Sequence[str] | None = None,
    limit: int = 200,
) -> list[Performance]:
    """Of each job type, or queue, with the most attempts first; what had no readable type is only its queue's."""
    step_s = _step_of(since, until)
    asked = _sums(tallies.c[by].label("part"), step_s, floor(since, step_s), until, queues, None)
    rows: dict[str, list[Row[Any]]] = {}
    for row in connection.execute(asked.where(tallies.c[by] != "")):
        rows.setdefault(row.part, []).append(row)
    found = []
    for name, some in rows.items():
        point = _point(since, 0, 0, some)
        means = (
            _mean(sum(row.run_s for row in some), point.run.count),
            _mean(sum(row.wait_s for row in some), point.wait.count),
        )
        counts = (point.completed, point.failed, point.retried, point.crashed)
        found.append((point.run.count, Performance(name, *counts, *means, point.run, point.wait)))
    return [it for _, it in sorted(found, key=lambda x: (-x[0], x[1].name))[:limit]]


def trends(
    connection: Connection, since: datetime, until: datetime, parts: int, queues: Sequence[str]
) -> dict[str, list[int]]:
    """How many jobs of each queue ended, in so many equal parts of a window of whole minutes."""
    part = bucket(tallies.c.at, since, (until - since).total_seconds() / parts).label("part")
    ends = (Outcome.COMPLETED, Outcome.SKIPPED, Outcome.FAILED, _DIED)
    asked = select(tallies.c.queue, part, func.sum(tallies.c.count).label("number")).where(
        *(tallies.c.step_s == MINUTE_S, tallies.c.at >= since, tallies.c.at < until),
        *(tallies.c.queue.in_(queues), tallies.c.outcome.in_(ends)),
    )
    found = {name: [0] * parts for name in queues}
    for row in connection.execute(asked.group_by(text("1"), text("2"))):
        found[row.queue][row.part] = int(row.number)
    return found


def _mean(total_s: float, number: int) -> float:
    return total_s / number if number else 0.0


def _step_of(since: datetime, until: datetime) -> int:
    return next((step for step, most in zip(STEPS, _WINDOWS, strict=False) if until - since <= most), HOUR_S)


def _sums(
    part: Any, step_s: int, since: datetime, until: datetime, queues: Sequence[str] | None, actor: str | None
) -> Select[Any]:
    sums = [func.sum(tallies.c[name]).label("count_" if name == "count" else name) for name in _SUMS]
    asked = select(part, tallies.c.outcome, *sums).where(
        tallies.c.step_s == step_s, tallies.c.at >= since, tallies.c.at < until
    )
    if queues is not None:
        asked = asked.where(tallies.c.queue.in_(queues))
    if actor is not None:
        asked = asked.where(tallies.c.actor == actor)
    return asked.group_by(text("1"), text("2"))


def _point(since: datetime, width_s: float, n: int, rows: Iterable[Row[Any]]) -> Point:
    rows = list(rows)
    counts: dict[str, int] = {row.outcome: int(row.count_) for row in rows}
    completed = counts.pop(Outcome.COMPLETED, 0) + counts.pop(Outcome.SKIPPED, 0)
    failed, retried = counts.pop(Outcome.FAILED, 0) + counts.pop(_DIED, 0), counts.pop(Outcome.RETRYING, 0)
    crashed = counts.pop(Outcome.CRASHED, 0)
    ran = percentiles([sum(int(getattr(row, f"run_{k}")) for row in rows) for k in range(PARTS)])
    waited = percentiles([sum(int(getattr(row, f"wait_{k}")) for row in rows) for k in range(PARTS)])
    at = since + timedelta(seconds=width_s * n)
    return Point(at, completed, failed, retried, crashed, sum(counts.values()), ran, waited)


def percentiles(histogram: Sequence[int]) -> Percentiles:
    """From the counts up to each bound; between two bounds in proportion."""
    total = sum(histogram)
    if not total:
        return Percentiles()

    def at(share: float) -> float:
        rank, before = share * total, 0
        for n, number in enumerate(histogram):
            if number and before + number >= rank:
                low = BOUNDS[n - 1] if n else 0.0
                high = BOUNDS[n] if n < len(BOUNDS) else BOUNDS[-1]
                return low + (high - low) * (rank - before) / number
            before += number
        return BOUNDS[-1]

    return Percentiles(total, at(0.5), at(0.95), at(0.99), at(1.0))


def _ceil(moment: datetime, step_s: int) -> datetime:
    return floor(moment + timedelta(seconds=step_s, microseconds=-1), step_s)


def floor(moment: datetime, step_s: int) -> datetime:
    """The beginning of its minute or hour."""
    at = moment.astimezone(UTC)
    return datetime.fromtimestamp(int(at.timestamp()) // step_s * step_s, UTC)
