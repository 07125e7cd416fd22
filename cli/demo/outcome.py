"""What the ledger, the usage tables and the PostHog server say of one run of the demo."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, CompoundSelect, LargeBinary, func, literal, select, union_all
from uuid_utils import uuid7

from actors.tables import bills, usage_events
from cli.demo.totals import nested, sums
from ledger.engine import Database
from ledger.states import LIVE, Outcome
from ledger.tables import attempts, history, jobs, payloads


@dataclass(frozen=True)
class Timing:
    """How fast it went: not the same twice."""

    elapsed_s: float  #: from the first job recorded to the last one finished
    jobs: int
    retried: int  #: attempts that ended in another one
    queued_ms: list[float]  #: from recorded to first started, sorted
    ran_ms: list[float]  #: how long single attempts took, sorted

    @property
    def jobs_per_s(self) -> float:
        return self.jobs / self.elapsed_s


class RunRecord:
    """The jobs of one run, on a database that may hold many others.

    The run's id stands in the body of every one of its messages: in the options of those the demo sends, and
    in the request id, which the jobs they fan out to take along.  Jobs are looked for in the hot table
    and in the history in one statement, so one that moves in between is neither missed nor seen twice.
    """

    def __init__(self, url: str, run: str) -> None:
        self._database = Database(url)
        self._run = run
        # A lower bound for the ids, so that what the database held before is not searched.
        self._since = str(uuid7(nanoseconds=time.time_ns() - 60 * 10**9))

    def counts(self) -> dict[tuple[str, str], int]:
        """How many jobs there are, by (actor, state)."""
        mine = self._jobs().subquery()
        statement = select(mine.c.actor, mine.c.state, func.count()).group_by(mine.c.actor, mine.c.state)
        with self._database.read() as connection:
            return {(actor, state): count for actor, state, count in connection.execute(statement)}

    def totals(self) -> dict[str, Any]:
        """What the database knows of :class:`~cli.demo.totals.Totals`."""
        mine = self._jobs().subquery()
        dead = (
            select(attempts.c.error_type, func.count())
            .join(mine, mine.c.id == attempts.c.job_id)
            .where(attempts.c.outcome == Outcome.FAILED)
            .group_by(attempts.c.error_type)
        )
        ours = usage_events.c.request_id.startswith(f"{self._run}:", autoescape=True)
        stored = select(func.count()).select_from(usage_events).where(ours)
        by = (usage_events.c.customer, usage_events.c.provider, usage_events.c.model)
        costs = select(*by, func.sum(usage_events.c.cost)).where(ours, usage_events.c.cost.isnot(None)).group_by(*by)
        counts = self.counts()
        with self._database.read() as connection:
            return {
                "jobs": nested(counts),
                "dead": {str(error).rpartition(".")[2]: count for error, count in connection.execute(dead)},
                "stored": connection.execute(stored).scalar_one(),
                **sums(tuple(row) for row in connection.execute(costs)),
            }

    def wrong_bills(self) -> list[str]:
        """The bills of this run's customers that are not exactly the sum of their events; one line each."""
        summed = (
            select(
                usage_events.c.customer,
                usage_events.c.period,
                func.sum(usage_events.c.cost).label("amount"),
                func.count().label("events"),
            )
            .where(usage_events.c.cost.isnot(None))
            .group_by(usage_events.c.customer, usage_events.c.period)
            .subquery()
        )
        both = (summed.c.customer == bills.c.customer) & (summed.c.period == bills.c.period)
        statement = select(
            summed.c.customer, summed.c.period, summed.c.amount, summed.c.events, bills.c.amount, bills.c.events
        ).outerjoin(bills, both)
        with self._database.read() as connection:
            return [
                f"bill of {customer} for {period}: {billed} of {of} events, but its {events} events cost {amount}"
                for customer, period, amount, events, billed, of in connection.execute(statement)
                if (amount, events) != (billed, of)
            ]

    def timing(self) -> Timing:
        """How long things took, by the database's clock."""
        mine = self._jobs().subquery()
        with self._database.read() as connection:
            rows = connection.execute(select(mine.c.id, mine.c.created_at, mine.c.finished_at)).all()
            tries = connection.execute(
                select(attempts.c.job_id, attempts.c.outcome, attempts.c.started_at, attempts.c.finished_at)
                .join(mine, mine.c.id == attempts.c.job_id)
                .order_by(attempts.c.epoch)
            ).all()
        started = {job: at for job, _, at, _ in reversed(tries)}
        finished = [row.finished_at for row in rows if row.finished_at is not None]
        return Timing(
            elapsed_s=(max(finished) - min(row.created_at for row in rows)).total_seconds() if finished else math.inf,
            jobs=len(finished),
            retried=sum(outcome == Outcome.RETRYING for _, outcome, _, _ in tries),
            queued_ms=sorted(_ms(started[row.id] - row.created_at) for row in rows if row.id in started),
            ran_ms=sorted(_ms(ended - began) for _, _, began, ended in tries),
        )

    def _jobs(self) -> CompoundSelect[Any]:
        columns = ("id", "actor", "state", "created_at", "finished_at")
        hot = (
            select(*(jobs.c[name] for name in columns))
            .join(payloads, payloads.c.job_id == jobs.c.id)
            .where(jobs.c.id >= self._since, self._is_mine(payloads.c.body))
        )
        past = select(*(history.c[name] for name in columns)).where(
            history.c.id >= self._since, self._is_mine(history.c.body)
        )
        return union_all(hot, past)

    def _is_mine(self, body: ColumnElement[bytes]) -> ColumnElement[bool]:
        run = self._run.encode()
        if self._database.sqlite:
            return func.instr(body, literal(run, LargeBinary)) > 0
        return body.op("LIKE", is_comparison=True)(literal(b"%" + run + b"%", LargeBinary))


def all_finished(counts: Mapping[tuple[str, str], int]) -> bool:
    """Whether nothing is left to do: a job's fan-out is recorded before the job is finished."""
    return bool(counts) and not any(count for (_, state), count in counts.items() if state in LIVE)


def _ms(delta: timedelta) -> float:
    return delta.total_seconds() * 1000
