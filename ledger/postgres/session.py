"""The :class:`~ledger.ledger.Session` contract on PostgreSQL; the docstrings are there."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

import failpoints
from ledger.breaker import Calls, Probe, Standing
from ledger.flows import drive
from ledger.flows.states import FlowState
from ledger.flows.store import NewFlow
from ledger.gates import Entering, Entry
from ledger.gcra import Share, Wanted
from ledger.ledger import RESEND_BATCH, Send
from ledger.orders import Orders, WorkerReport, orders_of
from ledger.postgres import circuits, claim, enqueue, finish, gates, keys, limits, retention
from ledger.postgres import ticks as ticks_of
from ledger.postgres.arrays import floats, literal, numbers, texts
from ledger.postgres.connection import Connection, Cursor, Road
from ledger.postgres.flows import Flows
from ledger.postgres.payloads import newest
from ledger.records import (
    EXPIRY_AGAIN_S,
    Beat,
    Buried,
    Claim,
    Due,
    DutyReport,
    Enqueued,
    Finish,
    Finished,
    Keep,
    NewJob,
    Rescue,
    Ticket,
    send_with,
    to_send,
)
from ledger.states import State
from ledger.text import FIRST_ID
from ledger.ticks import Tick, Ticked
from ledger.who import By

T = TypeVar("T")


class PostgresSession:
    """One connection.

    A failpoint named ``….before_commit`` is hit before the statement: where one statement is the transaction,
    nothing lies between it and its commit.
    """

    def __init__(self, connection: Connection, *, road: Road, publish_after_s: float) -> None:
        self._connection = connection
        self._embedded = road == "embedded"
        self._embedded_sql = "t" if self._embedded else "f"
        self._road = self._embedded, publish_after_s
        self._record = partial(enqueue.record, embedded=self._embedded, publish_after_s=publish_after_s)

    # -- producers
    def enqueue(self, jobs: Sequence[NewJob]) -> list[Enqueued]:
        if not jobs:
            return []

        def work(cursor: Cursor) -> list[Enqueued]:
            if enqueue.is_plain(jobs):
                failpoints.hit("enqueue.before_commit")
                answers = self._record(cursor, jobs)
            else:
                with cursor.connection.transaction():
                    answers = self._record(cursor, jobs)
                    failpoints.hit("enqueue.before_commit")
            failpoints.hit("enqueue.committed")
            return answers

        return self._connection.call(work)

    def backlog(self, queue: str, limit: int) -> int:
        return int(self._connection.call(lambda cursor: cursor.run("backlog", queue, str(limit)))[0][0])

    def unsent(self, tickets: Sequence[tuple[str, int]]) -> set[tuple[str, int]]:
        ids = literal(id for id, _ in tickets)
        return set(tickets) & set(self._connection.call(lambda cursor: cursor.run("unsent", ids)))

    def bury(self, letters: Sequence[Buried]) -> None:
        if letters:
            self._connection.call(lambda cursor: enqueue.bury(cursor, letters))

    def mark(self, sent: Sequence[tuple[str, int]]) -> None:
        if sent:
            ids, tickets = zip(*sent, strict=True)
            self._connection.call(lambda cursor: cursor.run("mark", literal(ids), numbers(tickets)))

    # -- workers
    def claim(self, worker: int, tickets: Sequence[Ticket], *, suspects: int = 1) -> list[Claim]:
        if not tickets:
            return []

        def work(cursor: Cursor) -> list[Claim]:
            failpoints.hit("claim.before_commit")
            answers = claim.claim(cursor, worker, tickets, suspects)
            failpoints.hit("claim.committed")
            return answers

        return self._connection.call(work)

    def take(self, worker: int, wants: Mapping[str, int], *, suspects: int = 1) -> list[Claim]:
        def work(cursor: Cursor) -> list[Claim]:
            failpoints.hit("claim.before_commit")
            answers = claim.take(cursor, worker, wants, suspects)
            if answers:
                failpoints.hit("claim.committed")
            return answers

        return self._connection.call(work)

    def reserve(self, wanted: Sequence[Wanted], *, soon_s: float) -> list[float]:
        def work(cursor: Cursor) -> list[float]:
            with cursor.connection.transaction():
                return limits.reserve(cursor, wanted, soon_s)

        return self._connection.call(work)

    def slow(self, shares: Sequence[Share], delay_s: float) -> None:
        def work(cursor: Cursor) -> None:
            with cursor.connection.transaction():
                limits.slow(cursor, shares, delay_s)

        self._connection.call(work)

    def enter(self, asking: Sequence[Entering]) -> list[Entry]:
        if not asking:
            return []

        def work(cursor: Cursor) -> list[Entry]:
            with cursor.connection.transaction():
                answers = gates.enter(cursor, asking)
                failpoints.hit("enter.before_commit")
            failpoints.hit("enter.committed")
            return answers

        return self._connection.call(work)

    def circuits(self, worker: int, reports: Sequence[Calls]) -> list[Standing]:
        def work(cursor: Cursor) -> list[Standing]:
            if not any(report.calls for report in reports):
                return circuits.standings(cursor, [report.circuit for report in reports])
            with cursor.connection.transaction():
                return circuits.report(cursor, f"worker {worker}", reports)

        return self._connection.call(work)

    def probe(self, probes: Sequence[Probe]) -> list[Standing]:
        def work(cursor: Cursor) -> list[Standing]:
            with cursor.connection.transaction():
                return circuits.probe(cursor, probes)

        return self._connection.call(work)

    def recall(self, limit: int, *, spread_s: float) -> int:
        return int(self._connection.call(lambda cursor: cursor.run("recall", str(limit), str(spread_s)))[0][0])

    def finish(self, worker: int, finishes: Sequence[Finish]) -> list[Finished]:
        if not finishes:
            return []

        def work(cursor: Cursor) -> list[Finished]:
            record = partial(self._record, cursor)
            if finish.is_single(finishes):
                failpoints.hit("finish.before_commit")
                answers = finish.finish(cursor, worker, finishes, self._embedded, record)
            else:
                with cursor.connection.transaction():
                    new = [job for f in finishes for job in (*f.follow_ups, *f.group_jobs)]
                    if any(job.key is not None or job.line is not None for job in new):
                        cursor.run("hurry")
                    gated, joined = [f.id for f in finishes if f.gated], gates.sequences(new)
                    locked = gates.lock(cursor, joined, gated) if gated or joined else {}
                    keys.lock(cursor, new)
                    answers = finish.finish(cursor, worker, finishes, self._embedded, record)
                    if locked:
                        answers = send_with(answers, gates.settle(cursor, locked, *self._road))
                    failpoints.hit("finish.before_commit")
            failpoints.hit("finish.committed")
            return answers

        return self._connection.call(work)

    def release(self, worker: int, held: Sequence[tuple[str, int]]) -> None:
        if held:
            self._connection.call(lambda cursor: self._release(cursor, worker, held, "released unstarted"))

    def progress(self, rows: Sequence[tuple[str, float, float | None, str]]) -> None:
        if not rows:
            return
        last = {row[0]: row for row in rows}
        _, done, total, notes = zip(*last.values(), strict=True)
        arrays = literal(last), floats(done), floats(total), texts(notes)
        self._connection.call(lambda cursor: cursor.run("progress", *arrays))

    def checkpoint(self, job: str, epoch: int, body: bytes) -> bool:
        def work(cursor: Cursor) -> bool:
            failpoints.hit("checkpoint.before_commit")
            kept = cursor.run("checkpoint", job, str(epoch), body)
            failpoints.hit("checkpoint.committed")
            return bool(kept)

        return self._connection.call(work)

    def kept(self, job: str) -> bytes | None:
        rows = self._connection.call(lambda cursor: cursor.run("kept", job))
        return bytes(rows[0][0]) if rows else None

    # -- the life of a worker
    def join(self, *, host: str, pid: int, queues: Sequence[str], threads: int, version: str) -> int:
        named = json.dumps(list(queues))
        rows = self._connection.call(lambda cursor: cursor.run("join", host, str(pid), named, str(threads), version))
        return int(rows[0][0])

    def beat(self, worker: int, held: Sequence[tuple[str, int]], *, lease_s: float) -> Beat:
        def work(cursor: Cursor) -> Beat:
            if not cursor.run("beat", str(worker)):
                return Beat(alive=False)
            holds = set(held)
            owned = cursor.run("owned", str(worker), str(lease_s))
            # A claim younger than a lease may be on its way to the worker, which cannot name it yet.
            forgotten = [(id, epoch) for id, epoch, is_old, _ in owned if is_old and (id, epoch) not in holds]
            released = self._release(cursor, worker, forgotten, "owned but not held") if forgotten else 0
            return Beat(
                alive=True,
                cancel=frozenset(id for id, epoch, _, cancel in owned if cancel and (id, epoch) in holds),
                paused=frozenset(name for (name,) in cursor.run("paused")),
                released=released,
            )

        return self._connection.call(work)

    def asked_to_stop(self, worker: int) -> list[tuple[str, int]]:
        return [(id, epoch) for id, epoch in self._connection.call(lambda cursor: cursor.run("asked", str(worker)))]

    def orders(self, worker: int) -> Orders:
        return orders_of(self._connection.call(lambda cursor: cursor.run("orders", str(worker))))

    def report_worker(self, worker: int, report: WorkerReport) -> None:
        texts = (None if value is None else str(value) for value in (report.master, report.busy, report.rss))
        said = (str(worker), report.mode, report.ends, *texts, json.dumps(report.slots))
        self._connection.call(lambda cursor: cursor.run("report_worker", *said))

    def announce(self, worker: int) -> None:
        self._connection.call(lambda cursor: cursor.run("announce", str(worker)))

    def leave(self, worker: int) -> None:
        def work(cursor: Cursor) -> None:
            with cursor.connection.transaction():
                # First: from now on no claim of this worker succeeds.
                cursor.run("leave", str(worker))
                held = [(id, epoch) for id, epoch, _, _ in cursor.run("owned", str(worker), "0")]
                if held:
                    self._release(cursor, worker, held, "worker stopped")

        self._connection.call(work)

    # -- duties
    def promote(self, limit: int, *, resend_after_s: float) -> list[Due]:
        def work(cursor: Cursor) -> list[Due]:
            rows = cursor.run_after(
                "promote", "lock_paused_queues", (str(limit), str(resend_after_s), self._embedded_sql), ()
            )
            if rows:
                failpoints.hit("promote.committed")
            if not self._embedded and len(rows) < limit:
                cursor.run("unready", str(limit))  # for the next call
            now = newest(cursor, ((id, ticket) for id, ticket, *_ in rows))
            return [
                Due(id, ticket, queue, priority, actor, *now.get(id, (message_id, body)), late_s)
                for id, ticket, queue, priority, actor, message_id, body, late_s in rows
            ]

        return self._connection.call(work)

    def next_due_s(self) -> float | None:
        rows = self._connection.call(lambda cursor: cursor.run("next_due"))
        return float(rows[0][0]) if rows else None

    def expire(self, limit: int) -> list[str]:
        def work(cursor: Cursor) -> list[str]:
            if not cursor.run("any_expired"):
                return []
            return [id for (id,) in cursor.run("expire", str(limit), str(EXPIRY_AGAIN_S))]

        return self._connection.call(work)

    def tend(self, limit: int) -> list[Due]:
        def work(cursor: Cursor) -> list[Due]:
            if not cursor.run("any_looks"):
                return []
            with cursor.connection.transaction():
                return gates.tend(cursor, limit, *self._road)

        return self._connection.call(work)

    def survey(self, after: str, limit: int) -> str:
        def work(cursor: Cursor) -> str:
            with cursor.connection.transaction():
                return gates.survey(cursor, after, limit)

        return self._connection.call(work)

    def rescue(self, lease_s: float) -> Rescue:
        def work(cursor: Cursor) -> Rescue:
            with cursor.connection.transaction():
                workers = [id for (id,) in cursor.run("fence", str(lease_s))]
                rows = cursor.run("rescue", numbers(workers), self._embedded_sql)
            states = [state for _, state in rows]
            return Rescue(
                workers=workers,
                returned=states.count(State.WAITING),
                quarantined=[id for id, state in rows if state == State.FAILED],
                cancelled=states.count(State.CANCELLED),
            )

        return self._connection.call(work)

    def resend(self, *, queue: str | None = None, older_than_s: float = 0.0) -> int:
        count, after = 0, FIRST_ID
        while True:
            name = "lost" if queue is None else "lost_in_queue"
            asked = (
                after,
                str(older_than_s),
                self._embedded_sql,
                str(RESEND_BATCH),
                *([] if queue is None else [queue]),
            )
            ids = [id for (id,) in self._connection.call(lambda cursor: cursor.run(name, *asked))]  # noqa: B023
            if not ids:
                return count
            rows = self._connection.call(lambda cursor: cursor.run("resend", literal(ids), self._embedded_sql))  # noqa: B023
            count, after = count + rows[0][0], ids[-1]

    def retain(self, keep: Mapping[str, Keep], default: Keep, *, history_s: float, limit: int = 1000) -> int:
        def work(cursor: Cursor) -> int:
            with cursor.connection.transaction():
                return retention.retain(cursor, keep, default, history_s, limit)

        return self._connection.call(work)

    def tick(self, holder: str, term: int, ticks: Sequence[Tick]) -> list[Ticked] | None:
        def work(cursor: Cursor) -> list[Ticked] | None:
            with cursor.connection.transaction():
                answers = ticks_of.tick(cursor, holder, term, ticks, partial(self._record, cursor))
                failpoints.hit("tick.before_commit")
            failpoints.hit("tick.committed")
            return answers

        return self._connection.call(work)

    def clock(self) -> datetime:
        return datetime.fromtimestamp(self._connection.call(lambda cursor: cursor.run("clock"))[0][0], UTC)

    def lease(self, name: str, holder: str, ttl_s: float) -> int | None:
        rows = self._connection.call(lambda cursor: cursor.run("lease", name, holder, str(ttl_s)))
        return int(rows[0][0]) if rows else None

    def report(self, holder: str, duties: Sequence[DutyReport]) -> None:
        columns = (
            floats(x.every_s for x in duties),
            floats(x.ago_s for x in duties),
            floats(x.late_s for x in duties),
            floats(x.took_s for x in duties),
        )
        self._connection.call(lambda cursor: cursor.run("report", texts(x.name for x in duties), holder, *columns))

    def unlease(self, name: str, holder: str) -> None:
        self._connection.call(lambda cursor: cursor.run("unlease", name, holder))

    def create_group(self, group: str, parties: int, ttl_ms: int) -> bool:
        return bool(self._connection.call(lambda cursor: cursor.run("create_group", group, str(parties), str(ttl_ms))))

    def start_flow(self, new: NewFlow) -> tuple[str, Send]:
        return self._drive(lambda store: drive.start(store, new))

    def signal_flow(self, flow: str, name: str, body: bytes, by: By) -> tuple[bool, Send]:
        return self._drive(lambda store: drive.signal(store, flow, name, body, by))

    def cancel_flow(self, flow: str, by: By) -> FlowState:
        return self._drive(lambda store: drive.cancel(store, flow, by))[0]

    def retry_flow(self, flow: str, by: By) -> tuple[list[str], Send]:
        return self._drive(lambda store: drive.retry(store, flow, by))

    def wake_flows(self, limit: int) -> Send:
        if not self._connection.call(lambda cursor: cursor.run("due_flows", "1")):
            return ()
        return self._drive(lambda store: (None, drive.wake(store, limit)))[1]

    def settle_flows(self, limit: int) -> Send:
        if not self._connection.call(lambda cursor: cursor.run("lost_flow_jobs", "1")):
            return ()
        return self._drive(lambda store: (None, drive.reconcile(store, limit)))[1]

    def flow_value(self, flow: str, name: str, item: int = 0) -> bytes | None:
        rows = self._connection.call(lambda cursor: cursor.run("flow_value", flow, name, str(item)))
        return bytes(rows[0][0]) if rows else None

    def flow_results(self, flow: str, step: str, after: int, limit: int) -> list[tuple[int, bytes | None]]:
        rows = self._connection.call(lambda cursor: cursor.run("flow_results", flow, step, str(after), str(limit)))
        return [(item, None if body is None else bytes(body)) for item, body in rows]

    def count_flow_results(self, flow: str, step: str) -> int:
        rows = self._connection.call(lambda cursor: cursor.run("count_flow_results", flow, step))
        return int(rows[0][0]) if rows else 0

    def dead_counts(self, queues: Sequence[str]) -> dict[str, int]:
        return dict(self._connection.call(lambda cursor: cursor.run("dead_counts", texts(queues))))

    def clock_skew_s(self) -> float:
        def work(cursor: Cursor) -> float:
            before = time.time()
            theirs = float(cursor.run("clock")[0][0])
            return (before + time.time()) / 2 - theirs

        return self._connection.call(work)

    def close(self) -> None:
        self._connection.close()

    def _drive(self, work: Callable[[Flows], tuple[T, list[NewJob]]]) -> tuple[T, Send]:
        def transaction(cursor: Cursor) -> tuple[T, Send]:
            with cursor.connection.transaction():
                store = Flows(cursor)
                answer, new = work(store)
                send = to_send(new, self._record(cursor, new)) if new else ()
                store.conclude()
            return answer, send

        return self._connection.call(transaction)

    def _release(self, cursor: Cursor, worker: int, held: Sequence[tuple[str, int]], why: str) -> int:
        ids, epochs = zip(*held, strict=True)
        rows = cursor.run("release", str(worker), literal(ids), numbers(epochs), why, self._embedded_sql)
        return int(rows[0][0])
