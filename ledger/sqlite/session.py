"""The :class:`~ledger.ledger.Session` contract on a SQLite file; the docstrings are there."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

import failpoints
from ledger.breaker import Calls, Probe, Standing
from ledger.flows import drive
from ledger.flows.states import FlowState
from ledger.flows.store import NewFlow
from ledger.gates import Entering, Entry
from ledger.gcra import Share, Wanted
from ledger.instants import from_micros
from ledger.ledger import RESEND_BATCH, Send
from ledger.orders import Orders, WorkerReport, orders_of
from ledger.records import (
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
    to_send,
)
from ledger.sqlite import circuits, claim, enqueue, finish, gates, giveback, limits, relay, retention
from ledger.sqlite import ticks as ticks_of
from ledger.sqlite.connection import Connection
from ledger.sqlite.flows import Flows
from ledger.text import clean
from ledger.ticks import Tick, Ticked
from ledger.who import By

T = TypeVar("T")


class SqliteSession:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # -- producers
    def enqueue(self, jobs: Sequence[NewJob]) -> list[Enqueued]:
        with self._connection.write() as tx:
            answers = enqueue.record(tx, jobs)
            failpoints.hit("enqueue.before_commit")
        failpoints.hit("enqueue.committed")
        return answers

    def backlog(self, queue: str, limit: int) -> int:
        with self._connection.read() as tx:
            return int(tx.run("backlog", queue, limit).fetchone()[0])

    def unsent(self, tickets: Sequence[tuple[str, int]]) -> set[tuple[str, int]]:
        with self._connection.read() as tx:
            return set(tickets) & set(tx.run("unsent", json.dumps([id for id, _ in tickets])))

    def bury(self, letters: Sequence[Buried]) -> None:
        with self._connection.write() as tx:
            enqueue.bury(tx, letters)

    def mark(self, sent: Sequence[tuple[str, int]]) -> None:
        with self._connection.write() as tx:
            tx.many("mark", sent)

    # -- workers
    def claim(self, worker: int, tickets: Sequence[Ticket], *, suspects: int = 1) -> list[Claim]:
        with self._connection.write() as tx:
            answers = claim.claim(tx, worker, tickets, suspects)
            failpoints.hit("claim.before_commit")
        failpoints.hit("claim.committed")
        return answers

    def take(self, worker: int, wants: Mapping[str, int], *, suspects: int = 1) -> list[Claim]:
        # An idle worker asks often: it looks without the write lock, so it never waits for, or delays, a writer.
        with self._connection.read() as tx:
            if not tx.run("any_ready_in", json.dumps([queue for queue, room in wants.items() if room > 0])).fetchone():
                return []
        with self._connection.write() as tx:
            answers = claim.take(tx, worker, wants, suspects)
            failpoints.hit("claim.before_commit")
        failpoints.hit("claim.committed")
        return answers

    def reserve(self, wanted: Sequence[Wanted], *, soon_s: float) -> list[float]:
        with self._connection.write() as tx:
            return limits.reserve(tx, wanted, soon_s)

    def slow(self, shares: Sequence[Share], delay_s: float) -> None:
        with self._connection.write() as tx:
            limits.slow(tx, shares, delay_s)

    def enter(self, asking: Sequence[Entering]) -> list[Entry]:
        with self._connection.write() as tx:
            answers = gates.enter(tx, asking)
            failpoints.hit("enter.before_commit")
        failpoints.hit("enter.committed")
        return answers

    def circuits(self, worker: int, reports: Sequence[Calls]) -> list[Standing]:
        if not any(report.calls for report in reports):
            with self._connection.read() as tx:
                return circuits.standings(tx, [report.circuit for report in reports])
        with self._connection.write() as tx:
            return circuits.report(tx, f"worker {worker}", reports)

    def probe(self, probes: Sequence[Probe]) -> list[Standing]:
        with self._connection.write() as tx:
            return circuits.probe(tx, probes)

    def recall(self, limit: int, *, spread_s: float) -> int:
        with self._connection.read() as tx:
            if not tx.run("any_deferred_by_closed").fetchone():
                return 0
        with self._connection.write() as tx:
            return circuits.recall(tx, limit, spread_s)

    def finish(self, worker: int, finishes: Sequence[Finish]) -> list[Finished]:
        with self._connection.write() as tx:
            answers = finish.finish(tx, worker, finishes)
            failpoints.hit("finish.before_commit")
        failpoints.hit("finish.committed")
        return answers

    def release(self, worker: int, held: Sequence[tuple[str, int]]) -> None:
        with self._connection.write() as tx:
            giveback.release(tx, worker, held)

    def progress(self, rows: Sequence[tuple[str, float, float | None, str]]) -> None:
        with self._connection.write() as tx:
            tx.many("progress", [(id, done, total, clean(note), tx.now) for id, done, total, note in rows])

    def checkpoint(self, job: str, epoch: int, body: bytes) -> bool:
        with self._connection.write() as tx:
            kept = tx.run("checkpoint", body, tx.now, job, epoch).rowcount > 0
            failpoints.hit("checkpoint.before_commit")
        failpoints.hit("checkpoint.committed")
        return kept

    def kept(self, job: str) -> bytes | None:
        with self._connection.read() as tx:
            row = tx.run("kept", job).fetchone()
        return row[0] if row else None

    # -- the life of a worker
    def join(self, *, host: str, pid: int, queues: Sequence[str], threads: int, version: str) -> int:
        with self._connection.write() as tx:
            row = tx.run("join", host, pid, json.dumps(list(queues)), threads, version, tx.now, tx.now).fetchone()
        return int(row[0])

    def beat(self, worker: int, held: Sequence[tuple[str, int]], *, lease_s: float) -> Beat:
        with self._connection.write() as tx:
            return giveback.beat(tx, worker, held, lease_s)

    def asked_to_stop(self, worker: int) -> list[tuple[str, int]]:
        with self._connection.read() as tx:
            return tx.run("asked", worker).fetchall()

    def orders(self, worker: int) -> Orders:
        with self._connection.read() as tx:
            return orders_of(tx.run("orders", worker).fetchall())

    def report_worker(self, worker: int, report: WorkerReport) -> None:
        said = (report.mode, report.ends, report.master, report.busy, report.rss, json.dumps(report.slots))
        with self._connection.write() as tx:
            tx.run("report_worker", worker, *said, tx.now)

    def announce(self, worker: int) -> None:
        with self._connection.write() as tx:
            tx.run("announce", worker)

    def leave(self, worker: int) -> None:
        with self._connection.write() as tx:
            giveback.leave(tx, worker)

    # -- duties
    def promote(self, limit: int, *, resend_after_s: float) -> list[Due]:
        with self._connection.write() as tx:
            due = relay.promote(tx, limit, resend_after_s)
        if due:
            failpoints.hit("promote.committed")
        return due

    def next_due_s(self) -> float | None:
        with self._connection.read() as tx:
            return relay.next_due_s(tx)

    def expire(self, limit: int) -> list[str]:
        with self._connection.read() as tx:
            if not tx.run("any_expired", tx.now).fetchone():
                return []
        with self._connection.write() as tx:
            return relay.expire(tx, limit)

    def tend(self, limit: int) -> list[Due]:
        with self._connection.read() as tx:
            if not tx.run("any_looks").fetchone():
                return []
        with self._connection.write() as tx:
            return gates.tend(tx, limit)

    def survey(self, after: str, limit: int) -> str:
        with self._connection.read() as tx:
            is_calm, last = gates.is_calm(tx, after, limit)
        if is_calm:
            return last
        with self._connection.write() as tx:
            return gates.survey(tx, after, limit)

    def rescue(self, lease_s: float) -> Rescue:
        with self._connection.write() as tx:
            return giveback.rescue(tx, lease_s)

    def resend(self, *, queue: str | None = None, older_than_s: float = 0.0) -> int:
        count, after = 0, ""
        while True:
            with self._connection.write() as tx:
                some, after = relay.resend(tx, queue, older_than_s, after, RESEND_BATCH)
            if not some:
                return count
            count += some

    def retain(self, keep: Mapping[str, Keep], default: Keep, *, history_s: float, limit: int = 1000) -> int:
        with self._connection.write() as tx:
            return retention.retain(tx, keep, default, history_s, limit)

    def tick(self, holder: str, term: int, ticks: Sequence[Tick]) -> list[Ticked] | None:
        with self._connection.write() as tx:
            answers = ticks_of.tick(tx, holder, term, ticks)
            failpoints.hit("tick.before_commit")
        failpoints.hit("tick.committed")
        return answers

    def clock(self) -> datetime:
        return from_micros(time.time_ns() // 1000)

    def lease(self, name: str, holder: str, ttl_s: float) -> int | None:
        with self._connection.write() as tx:
            row = tx.run("lease", name, holder, tx.now + int(ttl_s * 1_000_000), tx.now).fetchone()
        return None if row is None else int(row[0])

    def report(self, holder: str, duties: Sequence[DutyReport]) -> None:
        with self._connection.write() as tx:
            rows = [
                (x.name, holder, x.every_s, tx.now, *(int(s * 1000) for s in (x.ago_s, x.late_s, x.took_s)))
                for x in duties
            ]
            tx.many("report", rows)

    def unlease(self, name: str, holder: str) -> None:
        with self._connection.write() as tx:
            tx.run("unlease", tx.now, name, holder)

    def create_group(self, group: str, parties: int, ttl_ms: int) -> bool:
        with self._connection.write() as tx:
            row = tx.run("create_group", group, parties, tx.now + ttl_ms * 1000, tx.now)
            return row.fetchone() is not None

    def start_flow(self, new: NewFlow) -> tuple[str, Send]:
        return self._drive(lambda store: drive.start(store, new))

    def signal_flow(self, flow: str, name: str, body: bytes, by: By) -> tuple[bool, Send]:
        return self._drive(lambda store: drive.signal(store, flow, name, body, by))

    def cancel_flow(self, flow: str, by: By) -> FlowState:
        return self._drive(lambda store: drive.cancel(store, flow, by))[0]

    def retry_flow(self, flow: str, by: By) -> tuple[list[str], Send]:
        return self._drive(lambda store: drive.retry(store, flow, by))

    def wake_flows(self, limit: int) -> Send:
        with self._connection.read() as tx:
            if not tx.run("due_flows", tx.now, 1).fetchone():
                return ()
        return self._drive(lambda store: (None, drive.wake(store, limit)))[1]

    def settle_flows(self, limit: int) -> Send:
        with self._connection.read() as tx:
            if not tx.run("lost_flow_jobs", 1).fetchone():
                return ()
        return self._drive(lambda store: (None, drive.reconcile(store, limit)))[1]

    def flow_value(self, flow: str, name: str, item: int = 0) -> bytes | None:
        with self._connection.read() as tx:
            row = tx.run("flow_value", flow, name, item).fetchone()
        return row[0] if row else None

    def flow_results(self, flow: str, step: str, after: int, limit: int) -> list[tuple[int, bytes | None]]:
        with self._connection.read() as tx:
            return tx.run("flow_results", flow, step, after, limit).fetchall()

    def count_flow_results(self, flow: str, step: str) -> int:
        with self._connection.read() as tx:
            row = tx.run("count_flow_results", flow, step).fetchone()
        return row[0] if row else 0

    def dead_counts(self, queues: Sequence[str]) -> dict[str, int]:
        with self._connection.read() as tx:
            return {queue: tx.run("dead_count", queue).fetchone()[0] for queue in queues}

    def clock_skew_s(self) -> float:
        return 0.0  # the database's clock is this machine's

    def _drive(self, work: Callable[[Flows], tuple[T, list[NewJob]]]) -> tuple[T, Send]:
        with self._connection.write() as tx:
            store = Flows(tx)
            answer, new = work(store)
            send = to_send(new, enqueue.record(tx, new)) if new else ()
            store.conclude()
        return answer, send

    def close(self) -> None:
        self._connection.close()
