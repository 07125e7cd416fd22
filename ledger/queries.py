"""What people and programs ask of the ledger.  Nothing here changes a job."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Connection, Row, Select, Table, func, literal, null, select, union_all, update

from errors import Undecipherable
from ledger import alerts as alerting
from ledger import failures as failing
from ledger import feed, finder, found, queue_stats, saved_views, staff, tally
from ledger import operations as operating
from ledger.alerts import AlertChange, AlertView, DeliveryView
from ledger.circuits import listed
from ledger.engine import Database
from ledger.failures import FailureGroup, GroupState
from ledger.flows import views as flow_views
from ledger.flows.graph import Graph
from ledger.flows.states import FlowState
from ledger.flows.views import FlowRow, FlowView
from ledger.in_flight import InFlight, in_flight
from ledger.lookup import find, newest_of_message
from ledger.operations import OperationView
from ledger.overview import Overview, overview
from ledger.queue_stats import QueueStats
from ledger.resting import PLACES, Place, usage
from ledger.saved_views import SavedView
from ledger.sealing import CHECKPOINT, ERROR, NOTE, KeyRing, Seal, masked
from ledger.search import MOST, Bounded, Filter, Page, Suggestions
from ledger.states import FINISHED, Outcome, Reason, State
from ledger.summary import summarize
from ledger.tables import (
    attempts,
    checkpoints,
    claims,
    duties,
    edits,
    history,
    jobs,
    journal,
    leases,
    limit_rules,
    limits,
    payloads,
    progress,
    queues,
    results,
    workers,
)
from ledger.tally import Performance, Series
from ledger.text import all_ids
from ledger.views import (
    AttemptView,
    CheckpointView,
    CircuitView,
    ClaimView,
    DeadRow,
    DutyView,
    GateView,
    JobRow,
    JobStatus,
    JobView,
    JournalRow,
    LimitView,
    ProgressView,
    QueueView,
    ResultMeta,
    ResultView,
    RuleView,
    Summary,
    WorkerView,
)
from ledger.waits import gates_with_most_waiting, held_back_by, wait_of


class Queries:
    """Thread-safe; fork-safe; no I/O until the first question.  Every method raises ``LedgerUnavailable``."""

    def __init__(self, url: str) -> None:
        self._database = Database(url)

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
            id = find(connection, ref)
            return None if id is None else _job(connection, id, _reader(id, ring))

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
        """Newest first; the next page is ``before`` the last id of this one.  Not ``archived``: the hot table only."""
        with self._database.read() as connection:
            found = _list(connection, queue, state, actor, limit, before, archived=archived)
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
            found = _list(connection, queue, State.FAILED, actor, limit, before, reason)
            errors = _last_errors(connection, [fields["id"] for fields in found])
            return [DeadRow(**(fields | errors.get(fields["id"], {}))) for fields in found]

    # -- jobs at scale: each is given up after two seconds, with ``QuestionTooSlow``
    def search(self, wanted: Filter, *, limit: int = 50, after: str | None = None) -> Page:
        """Jobs that fit, newest first; ``after`` is the cursor of the page before.

        Raises ``BadCursor``, and ``JobNotFound`` for the beginning of an id that fits more than one.
        """
        with finder.asking(self._database) as connection:
            return found.page(connection, wanted, limit, after, self._database.time(connection))

    def count(self, wanted: Filter, *, most: int = MOST) -> Bounded:
        """How many fit, counted up to a bound."""
        with finder.asking(self._database) as connection:
            return finder.count(connection, wanted, most, self._database.time(connection))

    def count_states(self, wanted: Filter, *, most: int = MOST) -> dict[State, Bounded]:
        """The same of each state that the filter lets through."""
        with finder.asking(self._database) as connection:
            return finder.counts(connection, wanted, most, self._database.time(connection))

    def suggestions(self, scopes: Sequence[str] = ()) -> Suggestions:
        """What a query box may offer; ``scopes`` are patterns of the queues that may be seen, none: all."""
        with finder.asking(self._database) as connection:
            return found.suggestions(connection, scopes)

    def failures(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        queue: str | None = None,
        actor: str | None = None,
        fingerprint: str | None = None,
        state: GroupState | None = None,
        scopes: Sequence[str] = (),
        limit: int = 50,
        buckets: int = 24,
    ) -> list[FailureGroup]:
        """Dead letters in groups of one trouble, those with the most first; of the last day unless it says more.

        Each group says of which window it is.  ``state``: only groups that are open, acknowledged or snoozed.
        """
        with finder.asking(self._database) as connection:
            now = self._database.time(connection)
            queues = _scoped(connection, scopes)
            if queue is not None:
                queues = [queue] if queues is None or queue in queues else []
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

    def overview(self, scopes: Sequence[str] = ()) -> Overview:
        """What one page says of everything."""
        with finder.asking(self._database) as connection:
            return overview(connection, self._database.time(connection), _scoped(connection, scopes))

    def series(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        points: int = 120,
        queue: str | None = None,
        actor: str | None = None,
        scopes: Sequence[str] = (),
    ) -> Series:
        """Attempts over time, of the last hour unless it says more; in whole minutes, or what fits a longer window."""
        with finder.asking(self._database) as connection:
            now = self._database.time(connection)
            queues = _scoped(connection, scopes)
            if queue is not None:
                queues = [queue] if queues is None or queue in queues else []
            until = until or now
            since = since or until - timedelta(hours=1)
            return tally.series(connection, since, until, points, queues=queues, actor=actor)

    def performance(
        self,
        *,
        by: Literal["actor", "queue"] = "actor",
        since: datetime | None = None,
        until: datetime | None = None,
        scopes: Sequence[str] = (),
        limit: int = 200,
    ) -> list[Performance]:
        """Success rate and durations of each job type, or queue; of the last day unless it says more."""
        with finder.asking(self._database) as connection:
            now = self._database.time(connection)
            until = until or now
            since = since or until - timedelta(days=1)
            return tally.performance(connection, since, until, by, queues=_scoped(connection, scopes), limit=limit)

    def operation(self, id: str) -> OperationView | None:
        """A bulk operation, as it stands."""
        with self._database.read() as connection:
            return operating.find(connection, id) if all_ids([id]) else None

    def operations(self, *, limit: int = 50, before: str | None = None, open_only: bool = False) -> list[OperationView]:
        """Bulk operations, newest first; the next page is ``before`` the last id of this one."""
        with self._database.read() as connection:
            return operating.listing(connection, limit, before, open_only=open_only)

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
            return _counts(connection)

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

    def queues(self) -> list[QueueView]:
        """Every queue that has jobs in the hot table or was ever paused, by name."""
        with self._database.read() as connection:
            now = self._database.time(connection)
            counts = _counts(connection)
            oldest = dict(
                connection.execute(
                    select(jobs.c.queue, func.min(jobs.c.run_at))
                    .where(jobs.c.state == State.WAITING)
                    .group_by(jobs.c.queue)
                ).all()
            )
            known = {row.name: row for row in connection.execute(select(queues))}
        return [
            QueueView(
                name=name,
                paused=bool(known[name].paused) if name in known else False,
                paused_at=known[name].paused_at if name in known else None,
                paused_by=known[name].paused_by if name in known else None,
                counts=counts.get(name, {}),
                oldest_waiting_s=max(0.0, (now - oldest[name]).total_seconds()) if name in oldest else None,
            )
            for name in sorted(counts.keys() | known.keys())
        ]

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
            return staff.listing(connection, self._database.time(connection), everyone=everyone)

    def queue_stats(self, names: Sequence[str] = (), *, only: Sequence[str] | None = None) -> list[QueueStats]:
        """How every queue does, by name; however long they are, within bounds (ledger/queue_stats.py)."""
        with self._database.read() as connection:
            return queue_stats.stats(connection, self._database.time(connection), names=names, only=only)

    def worker(self, id: int) -> WorkerView | None:
        """One of them, whatever its state."""
        with self._database.read() as connection:
            return next(iter(staff.listing(connection, self._database.time(connection), id=id)), None)

    def status(self, id: str, *, ring: KeyRing | None = None) -> JobStatus | None:
        """How the job with this id is doing; of all that is known of it, what can be asked often.

        With a ``ring``, the note of its progress is in clear.
        """
        with self._database.read() as connection:
            return _status(connection, id, _reader(id, ring))

    def flow(self, ref: str) -> FlowView | None:
        """The flow a person means, by its id or the beginning of it, with all its steps.

        Raises ``FlowNotFound`` when that fits more than one.
        """
        with self._database.read() as connection:
            return flow_views.view(connection, ref)

    def flows(
        self, *, name: str | None = None, state: FlowState | None = None, limit: int = 50, before: str | None = None
    ) -> list[FlowRow]:
        """Newest first; the next page is ``before`` the last id of this one."""
        with self._database.read() as connection:
            return flow_views.listing(connection, name, state, limit, before)

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
            view, unread = _result(connection, id, self._database.time(connection))
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
            return alerting.standing(connection)

    def alert_changes(self, limit: int) -> list[AlertChange]:
        """What became worse or better lately, newest first."""
        with self._database.read() as connection:
            return alerting.changes(connection, limit)

    def deliveries(self, limit: int) -> list[DeliveryView]:
        """What was told lately of alerts, and what is still to be, newest first."""
        with self._database.read() as connection:
            return alerting.sent(connection, limit)

    def summary(self, since: datetime) -> Summary:
        """What happened to the jobs enqueued since then (the database's clock)."""
        with self._database.read() as connection:
            return summarize(connection, since, self._database.time(connection))


_HOT = (
    select(
        jobs.c.id,
        payloads.c.message_id,
        *(jobs.c[name] for name in ("queue", "actor", "priority", "state", "reason")),
        jobs.c.attempts.label("attempts_spent"),
        *(jobs.c[name] for name in ("crashes", "created_at", "run_at", "finished_at")),
    )
    .join_from(jobs, payloads, payloads.c.job_id == jobs.c.id)
)  # fmt: skip
_PAST = select(
    *(history.c[name] for name in ("id", "message_id", "queue", "actor", "priority", "state", "reason")),
    history.c.attempts.label("attempts_spent"),
    *(history.c[name] for name in ("crashes", "created_at", "run_at", "finished_at")),
)


def _list(
    connection: Connection,
    queue: str | None,
    state: State | str | None,
    actor: str | None,
    limit: int,
    before: str | None,
    reason: Reason | None = None,
    *,
    archived: bool = True,
) -> list[dict[str, Any]]:
    def page(wanted: Select[Any], table: Table) -> Select[Any]:
        for column, value in (("queue", queue), ("state", state), ("actor", actor), ("reason", reason)):
            if value is not None:
                wanted = wanted.where(table.c[column] == value)
        if before is not None:
            wanted = wanted.where(table.c.id < before)
        return wanted.order_by(table.c.id.desc()).limit(limit)

    rows = [_fields(row, archived=False) for row in connection.execute(page(_HOT, jobs))]
    if archived and (state is None or state in FINISHED):
        rows += [_fields(row, archived=True) for row in connection.execute(page(_PAST, history))]
    return sorted(rows, key=lambda fields: str(fields["id"]), reverse=True)[:limit]


def _fields(row: Row[Any], *, archived: bool) -> dict[str, Any]:
    fields = dict(row._mapping)
    fields["state"] = State(fields["state"])
    fields["reason"] = Reason(fields["reason"]) if fields["reason"] else None
    return fields | {"archived": archived}


def _scoped(connection: Connection, scopes: Sequence[str]) -> list[str] | None:
    """The queues that may be seen; None: all."""
    return [name for name in finder.queues(connection) if finder.matches(name, scopes)] if scopes else None


Reader = Callable[[str, str], str]


def _reader(id: str, ring: KeyRing | None) -> Reader:
    """How a text that a job left, of a kind, is shown."""
    seal = Seal(ring or KeyRing(), id)

    def read(kind: str, text: str) -> str:
        try:
            return seal.open(kind, text)
        except Undecipherable:
            return masked(text)

    return read


def _job(connection: Connection, id: str, read: Reader) -> JobView | None:
    live = ("ticket", "epoch", "charges", "cancel_requested")
    hot = _HOT.add_columns(payloads.c.producer, payloads.c.body, *(jobs.c[name] for name in live))
    row = connection.execute(hot.where(jobs.c.id == id)).one_or_none()
    if archived := row is None:
        past = _PAST.add_columns(
            history.c.producer,
            history.c.body,
            *(literal(0).label(name) for name in live),
        )
        row = connection.execute(past.where(history.c.id == id)).one_or_none()
    if row is None:
        return None
    fields = _fields(row, archived=archived)
    fields["cancel_requested"] = bool(fields["cancel_requested"])
    return JobView(
        **fields,
        attempts=_attempts(connection, id, read),
        journal=_journal(connection, id),
        claim=_claim(connection, id),
        progress=_progress(connection, id, read),
        checkpoint=_checkpoint(connection, id, read),
        result=_result_meta(connection, id),
        waits=wait_of(connection, id),
        holds_back=held_back_by(connection, id),
        edited_from=connection.scalar(select(edits.c.origin_id).where(edits.c.job_id == id)),
        edited_into=list(connection.scalars(select(edits.c.job_id).where(edits.c.origin_id == id).limit(100))),
    )


def _status(connection: Connection, id: str, read: Reader) -> JobStatus | None:
    shared = ("id", "queue", "actor", "state", "reason", "attempts", "crashes", "created_at", "finished_at")
    hot = select(*(jobs.c[name] for name in shared), jobs.c.run_at.label("due_at"), jobs.c.cancel_requested)
    past = select(*(history.c[name] for name in shared), history.c.run_at.label("due_at"))
    row = connection.execute(hot.where(jobs.c.id == id)).one_or_none()
    row = row or connection.execute(past.where(history.c.id == id)).one_or_none()
    if row is None:
        return None
    error = _last_errors(connection, [id]).get(id, {}) if row.attempts or row.reason else {}
    return JobStatus(
        **{name: getattr(row, name) for name in shared if name not in ("state", "reason")},
        state=State(row.state),
        reason=Reason(row.reason) if row.reason else None,
        cancel_requested=bool(getattr(row, "cancel_requested", False)),
        due_at=row.due_at,
        error=": ".join(filter(None, (error.get("error_type"), error.get("error_message")))) or None,
        progress=_progress(connection, id, read),
    )


def _worker(row: Row[Any]) -> str:
    return f"worker {row.worker_id} ({row.host}:{row.pid})" if row.host else f"worker {row.worker_id}"


def _attempts(connection: Connection, id: str, read: Reader) -> list[AttemptView]:
    rows = connection.execute(
        select(attempts, workers.c.host, workers.c.pid)
        .outerjoin(workers, workers.c.id == attempts.c.worker_id)
        .where(attempts.c.job_id == id)
        .order_by(attempts.c.epoch)
    )
    names = ("epoch", "number", "started_at", "finished_at", "run_at", "error_type", "traceback")
    return [
        AttemptView(
            outcome=Outcome(row.outcome),
            worker=_worker(row),
            error_message=None if row.error_message is None else read(ERROR, row.error_message),
            **{name: getattr(row, name) for name in names},
        )
        for row in rows
    ]


def _journal(connection: Connection, id: str) -> list[JournalRow]:
    rows = connection.execute(select(journal).where(journal.c.job_id == id).order_by(journal.c.at, journal.c.id))
    return [JournalRow(row.at, row.event, row.actor, json.loads(row.detail) if row.detail else {}) for row in rows]


def _claim(connection: Connection, id: str) -> ClaimView | None:
    row = connection.execute(
        select(claims, workers.c.host, workers.c.pid)
        .outerjoin(workers, workers.c.id == claims.c.worker_id)
        .where(claims.c.job_id == id)
    ).one_or_none()
    return ClaimView(_worker(row), row.epoch, row.claimed_at, bool(row.suspect)) if row else None


def _progress(connection: Connection, id: str, read: Reader) -> ProgressView | None:
    row = connection.execute(select(progress).where(progress.c.job_id == id)).one_or_none()
    return ProgressView(row.done, row.total, read(NOTE, row.note), row.at) if row else None


def _checkpoint(connection: Connection, id: str, read: Reader) -> CheckpointView | None:
    row = connection.execute(select(checkpoints).where(checkpoints.c.job_id == id)).one_or_none()
    if row is None:
        return None
    text = read(CHECKPOINT, bytes(row.body).decode())
    return CheckpointView(text if text.startswith("<") else json.loads(text), len(row.body), row.epoch, row.at)


def _result_meta(connection: Connection, id: str) -> ResultMeta | None:
    size = func.length(results.c.body).label("size")
    row = connection.execute(
        select(size, results.c.expires_at, results.c.read_at).where(results.c.job_id == id)
    ).one_or_none()
    return ResultMeta(row.size, row.expires_at, row.read_at) if row else None


def _counts(connection: Connection) -> dict[str, dict[State, int]]:
    found: dict[str, dict[State, int]] = defaultdict(dict)
    for queue, state, count in connection.execute(
        select(jobs.c.queue, jobs.c.state, func.count()).group_by(jobs.c.queue, jobs.c.state)
    ):
        found[queue][State(state)] = count
    return dict(found)


def _result(connection: Connection, id: str, now: datetime) -> tuple[ResultView, bool]:
    """The answer, and whether it is a value nobody has read yet."""
    ended = union_all(*(select(table.c.state, table.c.reason).where(table.c.id == id) for table in (jobs, history)))
    found = connection.execute(ended).one_or_none()
    if found is None:
        return ResultView("missing"), False
    state, reason = found
    if state in (State.FAILED, State.CANCELLED):
        error = _last_errors(connection, [id]).get(id, {})
        return ResultView("failure", State(state), None, Reason(reason) if reason else None, **error), False
    row = connection.execute(
        select(results.c.body, results.c.read_at).where(results.c.job_id == id, results.c.expires_at > now)
    ).one_or_none()
    if row is None or state != State.COMPLETED:
        error = _last_errors(connection, [id]).get(id, {}) if state == State.COMPLETED else {}
        refused = error.get("error_type") in ("errors.InvalidResult", "errors.ResultTooLarge")
        return (ResultView("refused", State(state), **error) if refused else ResultView("missing", State(state))), False
    return ResultView("value", State.COMPLETED, bytes(row.body), job=id), row.read_at is None


def _last_errors(connection: Connection, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The error of each job's last attempt that had one; of a buried message, why it could never run."""
    rows = connection.execute(
        select(attempts.c.job_id, attempts.c.error_type, attempts.c.error_message)
        .where(attempts.c.job_id.in_(ids), attempts.c.error_type.isnot(null()))
        .order_by(attempts.c.epoch)
    )
    found: dict[str, dict[str, Any]] = {
        row.job_id: {"error_type": row.error_type, "error_message": masked(row.error_message or "")} for row in rows
    }
    buried = connection.execute(
        select(journal.c.job_id, journal.c.detail).where(journal.c.job_id.in_(ids), journal.c.event == "buried")
    )
    for row in buried:
        found.setdefault(row.job_id, {"error_type": None, "error_message": json.loads(row.detail)["error"]})
    return found
