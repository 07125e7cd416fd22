"""What people and programs ask of the ledger.  Nothing here changes a job.

Every question is answered within a scope: of the queues that whoever asks may see.  What is asked is in a module of its
own: job_reading.py, queue_reading.py, finder.py and found.py (searches), failures.py, tally.py (statistics), staff.py
(workers), flows/views.py, alerts.py.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import copy
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import select, update

from ledger import alerts as alerting
from ledger import failures as failing
from ledger import feed, finder, found, queue_reading, queue_stats, saved_views, staff, tally
from ledger import job_reading as reading
from ledger import operations as operating
from ledger.alerts import AlertChange, AlertView, DeliveryView
from ledger.circuits import listed
from ledger.dual import DifferenceView, DualWriteView
from ledger.dual_writes import differences, report
from ledger.engine import Database
from ledger.failures import FailureGroup, GroupState
from ledger.flows import views as flow_views
from ledger.flows.graph import Graph
from ledger.flows.states import FlowState
from ledger.flows.views import FlowRow, FlowView
from ledger.in_flight import InFlight, in_flight
from ledger.lookup import admitted, find, newest_of_message
from ledger.operations import OperationView
from ledger.overview import Overview, overview
from ledger.queue_stats import QueueStats
from ledger.resting import PLACES, Place, usage
from ledger.saved_views import SavedView
from ledger.scope import EVERYTHING, Scope
from ledger.sealing import KeyRing
from ledger.search import MOST, Bounded, Filter, Page, Suggestions, behind
from ledger.states import Reason, State
from ledger.summary import summarize
from ledger.tables import duties, leases, limit_rules, limits, payloads, results
from ledger.tally import Performance, Series
from ledger.text import all_ids
from ledger.views import (
    CircuitView,
    DeadRow,
    DutyView,
    GateView,
    JobRow,
    JobStatus,
    JobView,
    LimitView,
    QueueView,
    ResultView,
    RuleView,
    Summary,
    WorkerView,
)
from ledger.waits import gates_with_most_waiting, may_go_round


class Queries:
    """Thread-safe; fork-safe; no I/O until the first question.  Every method raises ``LedgerUnavailable``."""

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        self.scope = EVERYTHING

    def within(self, scope: Scope) -> "Queries":
        """The same ledger over the same connections, of which nothing of other queues is to be seen."""
        mine = copy(self)
        mine.scope = scope
        return mine

    def close(self) -> None:
        self._database.close()

    def database_time(self) -> datetime:
        with self._database.read() as connection:
            return self._database.time(connection)

    def job(self, ref: str, *, ring: KeyRing | None = None) -> JobView | None:
        """The job a person means (see :func:`ledger.lookup.find`), with all that is known of it.

        With a ``ring``, the texts that the job left are in clear, as far as it has the keys; its message is not.
        """
        with self._database.read() as connection:
            id = find(connection, ref, self.scope)
            return None if id is None else reading.job(connection, id, reading.reader(id, ring), self.scope)

    def may_go_round(self, job: JobView) -> bool:
        """Whether a retry, as far as its state has one, would be in its turn and not behind the back of its flow."""
        with self._database.read() as connection:
            return may_go_round(connection, job)

    def line(self, ref: str) -> JobRow | None:
        """The same job in short, in two questions where the whole takes a dozen."""
        with self._database.read() as connection:
            id = find(connection, ref, self.scope)
            return None if id is None else reading.line(connection, id)

    def recorded(self, id: str) -> tuple[str, bytes] | None:
        """The producer of a job in the hot table, and its message as it is there now."""
        with self._database.read() as connection:
            wanted = select(payloads.c.producer, payloads.c.body).where(payloads.c.job_id == id)
            row = connection.execute(wanted).one_or_none()
            return (row.producer, bytes(row.body)) if row else None

    def jobs(
        self,
        *,
        queue: str | None = None,
        state: State | str | None = None,
        actor: str | None = None,
        limit: int = 50,
        before: str | None = None,
        archived: bool = True,
    ) -> list[JobRow]:
        """Newest first; the next page is ``before`` the last id of this one.  Not ``archived``: the hot table only.

        Raises ``BadCursor``, as every list that goes by ``before``.
        """
        with self._database.read() as connection:
            found = reading.rows(connection, queue, state, actor, limit, behind(before), self.scope, archived=archived)
            return [JobRow(**fields) for fields in found]

    def dead(
        self,
        *,
        queue: str | None = None,
        reason: Reason | None = None,
        actor: str | None = None,
        limit: int = 50,
        before: str | None = None,
    ) -> list[DeadRow]:
        """Dead letters, newest first, with the last error of each."""
        with self._database.read() as connection:
            found = reading.rows(connection, queue, State.FAILED, actor, limit, behind(before), self.scope, reason)
            errors = reading.last_errors(connection, [fields["id"] for fields in found])
            return [DeadRow(**(fields | errors.get(fields["id"], {}))) for fields in found]

    # -- jobs at scale: each is given up after two seconds, with ``QuestionTooSlow``
    def search(self, wanted: Filter, *, limit: int = 50, after: str | None = None) -> Page:
        """Jobs that fit, newest first; ``after`` is the cursor of the page before.

        Raises ``BadCursor``, and ``JobNotFound`` for the beginning of an id that fits more than one.
        """
        with finder.asking(self._database) as connection:
            return found.page(connection, self._seen(wanted), limit, after, self._database.time(connection))

    def count(self, wanted: Filter, *, most: int = MOST) -> Bounded:
        """How many fit, counted up to a bound."""
        with finder.asking(self._database) as connection:
            return finder.count(connection, self._seen(wanted), most, self._database.time(connection))

    def count_states(self, wanted: Filter, *, most: int = MOST) -> dict[State, Bounded]:
        """The same of each state that the filter lets through."""
        with finder.asking(self._database) as connection:
            return finder.counts(connection, self._seen(wanted), most, self._database.time(connection))

    def suggestions(self) -> Suggestions:
        """What a query box may offer."""
        with finder.asking(self._database) as connection:
            return found.suggestions(connection, self.scope)

    def failures(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        queue: str | None = None,
        actor: str | None = None,
        fingerprint: str | None = None,
        state: GroupState | None = None,
        limit: int = 50,
        buckets: int = 24,
    ) -> list[FailureGroup]:
        """Dead letters in groups of one trouble, those with the most first; of the last day unless it says more.

        Each group says of which window it is.  ``state``: only groups that are open, acknowledged or snoozed.
        """
        with finder.asking(self._database) as connection:
            now = self._database.time(connection)
            queues = queue_reading.names(connection, self.scope, queue)
            window = (since or (until or now) - timedelta(days=1), until or now)
            return failing.groups(
                connection,
                since=window[0],
                until=window[1],
                now=now,
                queues=queues,
                actor=actor,
                only=fingerprint,
                state=state,
                limit=limit,
                buckets=buckets,
            )

    def knows_failure(self, fingerprint: str) -> bool:
        """Whether there ever was such a group of failures."""
        with self._database.read() as connection:
            return failing.known(connection, fingerprint)

    def overview(self) -> Overview:
        """What one page says of everything."""
        with finder.asking(self._database) as connection:
            return overview(connection, self._database.time(connection), self.scope)

    def series(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        points: int = 120,
        queue: str | None = None,
        actor: str | None = None,
    ) -> Series:
        """Attempts over time, of the last hour unless it says more; in whole minutes, or what fits a longer window."""
        with finder.asking(self._database) as connection:
            now = self._database.time(connection)
            queues = queue_reading.names(connection, self.scope, queue)
            until = until or now
            since = since or until - timedelta(hours=1)
            return tally.series(connection, since, until, points, queues=queues, actor=actor)

    def performance(
        self,
        *,
        by: Literal["actor", "queue"] = "actor",
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 200,
    ) -> list[Performance]:
        """Success rate and durations of each job type, or queue; of the last day unless it says more."""
        with finder.asking(self._database) as connection:
            now = self._database.time(connection)
            until = until or now
            since = since or until - timedelta(days=1)
            return tally.performance(
                connection, since, until, by, queues=queue_reading.names(connection, self.scope), limit=limit
            )

    def operation(self, id: str) -> OperationView | None:
        """A bulk operation, as it stands."""
        with self._database.read() as connection:
            view = operating.find(connection, id) if all_ids([id]) else None
            return view if view is not None and view.within(self.scope) else None

    def operations(self, *, limit: int = 50, before: str | None = None, open_only: bool = False) -> list[OperationView]:
        """Bulk operations, newest first; the next page is ``before`` the last id of this one."""
        with self._database.read() as connection:
            return operating.listing(connection, limit, behind(before), self.scope, open_only=open_only)

    def saved_views(self, owner: str) -> list[SavedView]:
        """Those of one person, by name."""
        with self._database.read() as connection:
            return saved_views.listing(connection, owner)

    def saved_view(self, owner: str, name: str) -> SavedView | None:
        with self._database.read() as connection:
            return saved_views.find(connection, owner, name)

    def about(self, ids: Collection[str]) -> dict[str, dict[str, Any]]:
        """What is known of each of these jobs: message id, actor, queue, state, reason, when it ended."""
        with self._database.read() as connection:
            return feed.about(connection, ids, self._database.time(connection))

    def counts(self) -> dict[str, dict[State, int]]:
        """How many jobs of the hot table each queue has in each state; states with none are left out."""
        with self._database.read() as connection:
            return queue_reading.counts(connection, self.scope)

    def in_flight(self, soon_s: float) -> dict[str, InFlight]:
        """How many jobs of each queue RabbitMQ should hold a message for; ``soon_s``: how long a send may take."""
        with self._database.read() as connection:
            return in_flight(connection, self._database.time(connection), soon_s)

    def changed_rules(self) -> list[RuleView]:
        """The limits that operators have changed, by name."""
        with self._database.read() as connection:
            rows = connection.execute(select(limit_rules).order_by(limit_rules.c.rule))
            return [RuleView(**row._mapping) for row in rows]

    def limits(self, most: int) -> list[LimitView]:
        """The rate limits with the longest to wait for their next free start, longest first."""
        with self._database.read() as connection:
            now = self._database.time(connection)
            rows = connection.execute(
                select(limits).where(limits.c.paid_at > now).order_by(limits.c.paid_at.desc()).limit(most)
            )
            return [LimitView(row.key, (row.paid_at - now).total_seconds()) for row in rows]

    def gates(self, most: int) -> list[GateView]:
        """Concurrency limits and sequences for which jobs wait, those with the most first."""
        with self._database.read() as connection:
            return gates_with_most_waiting(connection, most)

    def circuits(self, within: Mapping[str, int]) -> list[CircuitView]:
        """How the circuits stand that were ever used; ``within`` are the windows of those in the code, microseconds."""
        with self._database.read() as connection:
            return listed(connection, self._database.time(connection), within)

    def dual_writes(self) -> list[DualWriteView]:
        """How the migrations from synchronous code go, by name."""
        with self._database.read() as connection:
            return report(connection)

    def dual_differences(self, name: str, most: int) -> list[DifferenceView]:
        """The last calls of one whose two results differed, the newest first."""
        with self._database.read() as connection:
            return differences(connection, name, most)

    def queue_names(self) -> list[str]:
        """Every queue with jobs, in the history too, and those that operators have changed, by name."""
        with self._database.read() as connection:
            return queue_reading.known(connection, self.scope)

    def queues(self) -> list[QueueView]:
        """Every queue that has jobs in the hot table or was ever paused, by name."""
        with self._database.read() as connection:
            return queue_reading.listing(connection, self._database.time(connection), self.scope)

    def keys(self, places: Sequence[Place] = PLACES) -> dict[str, Counter[str]]:
        """How many rows of each table are encrypted, by the id of the key.  Looks at every row."""
        with self._database.read() as connection:
            return usage(connection, places)

    def duties(self) -> list[DutyView]:
        """How the duties of maintenance go, by name."""
        with self._database.read() as connection:
            now = self._database.time(connection)
            return [
                DutyView(
                    row.name,
                    row.holder,
                    row.every_s,
                    max(0.0, (now - row.at).total_seconds()) + row.ago_ms / 1000,
                    row.late_ms / 1000,
                    row.took_ms / 1000,
                )
                for row in connection.execute(select(duties).order_by(duties.c.name))
            ]

    def leader(self, name: str) -> str | None:
        """Who holds a lease, as host:pid:number; None when nobody does."""
        with self._database.read() as connection:
            now = self._database.time(connection)
            holder: str | None = connection.scalar(
                select(leases.c.holder).where(leases.c.name == name, leases.c.expires_at > now)
            )
            return holder

    def workers(self, *, everyone: bool = False) -> list[WorkerView]:
        """Worker processes at work, with what they run; with ``everyone`` also those that stopped or died."""
        with self._database.read() as connection:
            return staff.listing(connection, self._database.time(connection), self.scope, everyone=everyone)

    def queue_stats(
        self,
        names: Sequence[str] = (),
        *,
        only: Sequence[str] | None = None,
        upto: Callable[[str], Mapping[State, int]] = lambda _: {},
    ) -> list[QueueStats]:
        """How every queue does, by name; however long they are, within bounds (ledger/queue_stats.py)."""
        with self._database.read() as connection:
            now = self._database.time(connection)
            return queue_stats.stats(connection, now, self.scope, names=names, only=only, upto=upto)

    def worker(self, id: int) -> WorkerView | None:
        """One of them, whatever its state."""
        with self._database.read() as connection:
            return next(iter(staff.listing(connection, self._database.time(connection), self.scope, id=id)), None)

    def status(self, id: str, *, ring: KeyRing | None = None) -> JobStatus | None:
        """How the job with this id is doing; of all that is known of it, what can be asked often.

        With a ``ring``, the note of its progress is in clear.
        """
        with self._database.read() as connection:
            there = not self.scope.limited or admitted(connection, [id], self.scope)
            return reading.status(connection, id, reading.reader(id, ring)) if there else None

    def flow(self, ref: str) -> FlowView | None:
        """The flow a person means, by its id or the beginning of it, with all its steps.

        Raises ``FlowNotFound`` when that fits more than one.
        """
        with self._database.read() as connection:
            return flow_views.view(connection, ref, self.scope)

    def flows(
        self, *, name: str | None = None, state: FlowState | None = None, limit: int = 50, before: str | None = None
    ) -> list[FlowRow]:
        """Newest first; the next page is ``before`` the last id of this one."""
        with self._database.read() as connection:
            return flow_views.listing(connection, name, state, limit, behind(before), self.scope)

    def flow_state(self, id: str) -> FlowState | None:
        with self._database.read() as connection:
            return flow_views.state_of(connection, id)

    def flow_graph(self, id: str) -> Graph | None:
        """The definition a flow goes by."""
        with self._database.read() as connection:
            return flow_views.graph_of(connection, id)

    def result(self, message_id: str) -> ResultView:
        """The result of the newest job with this message id; a value is noted as read, which lets retention go on."""
        with self._database.read() as connection:
            id = newest_of_message(connection, message_id)
        return ResultView("missing") if id is None else self.result_of(id)

    def result_body(self, id: str) -> bytes | None:
        """What is kept of a result, for those who only look: it is not noted as read."""
        with self._database.read() as connection:
            body = connection.scalar(select(results.c.body).where(results.c.job_id == id))
            return None if body is None else bytes(body)

    def result_of(self, id: str) -> ResultView:
        """The same, of the job with this id."""
        with self._database.read() as connection:
            view, unread = reading.result(connection, id, self._database.time(connection))
        if unread:
            with self._database.write() as connection:
                connection.execute(
                    update(results)
                    .where(results.c.job_id == id, results.c.read_at.is_(None))
                    .values(read_at=self._database.time(connection))
                )
        return view

    def alerts(self) -> list[AlertView]:
        """What is not well, or is muted; the worst first."""
        with self._database.read() as connection:
            return alerting.standing(connection, self.scope)

    def alert_changes(self, limit: int) -> list[AlertChange]:
        """What became worse or better lately, newest first."""
        with self._database.read() as connection:
            return alerting.changes(connection, limit, self.scope)

    def deliveries(self, limit: int) -> list[DeliveryView]:
        """What was told lately of alerts, and what is still to be, newest first."""
        with self._database.read() as connection:
            return alerting.sent(connection, limit, self.scope)

    def summary(self, since: datetime) -> Summary:
        """What happened to the jobs enqueued since then (the database's clock)."""
        with self._database.read() as connection:
            return summarize(connection, since, self._database.time(connection))

    def _seen(self, wanted: Filter) -> Filter:
        return wanted.within(self.scope.patterns) if self.scope.limited else wanted
