"""Figures over a stretch of time: how many ended how, how long they waited and ran."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select, union_all

from ledger.states import FINISHED, Outcome, Reason, State
from ledger.tables import attempts, history, jobs
from ledger.times import seconds
from ledger.views import Percentiles, Summary

_SAMPLE = 200_000  #: durations looked at; the percentiles of more hardly differ


def summarize(connection: Connection, since: datetime, until: datetime) -> Summary:
    names = ("id", "actor", "state", "reason", "attempts", "run_at", "finished_at")
    found = union_all(
        *(select(*(table.c[name] for name in names)).where(table.c.created_at >= since) for table in (jobs, history))
    ).cte("found")
    states: dict[State, int] = defaultdict(int)
    reasons: dict[Reason, int] = defaultdict(int)
    actors: dict[str, dict[State, int]] = defaultdict(lambda: defaultdict(int))
    grouped = select(found.c.actor, found.c.state, found.c.reason, func.count())
    for actor, state, reason, count in connection.execute(
        grouped.group_by(found.c.actor, found.c.state, found.c.reason)
    ):
        states[State(state)] += count
        actors[actor][State(state)] += count
        if reason:
            reasons[Reason(reason)] += count
    tried = select(attempts).join(found, found.c.id == attempts.c.job_id)
    outcomes = connection.execute(
        select(attempts.c.outcome, func.count())
        .join(found, found.c.id == attempts.c.job_id)
        .group_by(attempts.c.outcome)
    )
    first, last = connection.execute(
        tried.with_only_columns(func.min(attempts.c.started_at), func.max(attempts.c.finished_at))
    ).one()
    finished = sum(count for state, count in states.items() if state in FINISHED)
    span = (last - first).total_seconds() if first and last else 0.0
    ended = or_(*(attempts.c.outcome == outcome for outcome in ("completed", "skipped", "failed")))
    # An earlier end of a job that was retried since has no due time any more.
    waited: ColumnElement[bool] = and_(ended, attempts.c.started_at >= found.c.run_at)
    return Summary(
        since=since,
        until=until,
        states=dict(states),
        reasons=dict(reasons),
        outcomes={Outcome(outcome): count for outcome, count in outcomes},
        actors={actor: dict(counts) for actor, counts in actors.items()},
        retried=connection.scalar(select(func.count()).select_from(found).where(found.c.attempts > 1)) or 0,
        throughput=finished / span if span > 0 else 0.0,
        wait=_percentiles(
            connection.scalars(
                tried.with_only_columns(seconds(attempts.c.started_at, found.c.run_at)).where(waited).limit(_SAMPLE)
            )
        ),
        run=_percentiles(
            connection.scalars(
                tried.with_only_columns(seconds(attempts.c.finished_at, attempts.c.started_at)).limit(_SAMPLE)
            )
        ),
    )


def _percentiles(durations: Iterable[float]) -> Percentiles:
    ordered = sorted(max(0.0, float(duration)) for duration in durations)
    if not ordered:
        return Percentiles()

    def rank(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    return Percentiles(len(ordered), rank(0.5), rank(0.95), rank(0.99), ordered[-1])
