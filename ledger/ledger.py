"""The ledger's contract: what PostgreSQL and SQLite both promise.

A :class:`Ledger` opens sessions and lives as long as the process.  A :class:`Session` is one database
connection: whoever opened it uses it from one thread at a time.  Every method is one transaction,
committed when it returns.  When the database cannot be reached, or breaks off, a method raises
``LedgerUnavailable``; the session reconnects at the next call, and every method may be called again
with the same arguments: what had been committed is found, not done twice.

Lock order, everywhere: queue, gates in their order, keys in their order, jobs by id, parents.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from ledger.breaker import Calls, Probe, Standing
from ledger.flows.states import FlowState
from ledger.flows.store import NewFlow
from ledger.gates import Entering, Entry
from ledger.gcra import Share, Wanted
from ledger.orders import Orders, WorkerReport
from ledger.outbox import AsyncOutbox, Outbox
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
)
from ledger.ticks import Tick, Ticked
from ledger.who import By

#: Jobs that a transaction recorded and that are due now.
Send = Sequence[NewJob | Due]
#: Rows :meth:`Session.resend` locks at a time: a rebuild of a million jobs must not stop the workers.
RESEND_BATCH = 5_000


class Session(Protocol):
    """One connection to the ledger.  Not thread-safe; fork-safe (a child gets a connection of its own)."""

    # -- producers
    def enqueue(self, jobs: Sequence[NewJob]) -> list[Enqueued]:
        """Record jobs, all or none, in one transaction.  Idempotent by id and by tick.

        Who gets a key is decided in that transaction too, in the order given.
        """
        ...

    def backlog(self, queue: str, limit: int) -> int:
        """How many of a queue's jobs recorded as ``counted`` have not ended; no more than ``limit`` are looked at."""
        ...

    def unsent(self, tickets: Sequence[tuple[str, int]]) -> set[tuple[str, int]]:
        """Which of these (id, ticket) pairs are recorded, and nobody has sent or taken as far as the ledger knows."""
        ...

    def bury(self, letters: Sequence[Buried]) -> None:
        """Record messages that can never run as failed jobs.  Idempotent by id."""
        ...

    def mark(self, sent: Sequence[tuple[str, int]]) -> None:
        """These (id, ticket) pairs are confirmed by RabbitMQ: the relay need not send them.

        A mark for an earlier ticket than the row's matches nothing.
        """
        ...

    # -- workers
    def claim(self, worker: int, tickets: Sequence[Ticket], *, suspects: int = 1) -> list[Claim]:
        """Take the jobs behind these messages, or say why not; answers in the order given.

        Takes only ``waiting`` rows with exactly this ticket whose queue is not paused.  At most
        ``suspects`` jobs with a crash behind them are taken; the others are parked for a second.
        A ticket this very worker already owns (its last answer was lost) is answered RUN again.
        A job of a paused queue is parked: it stays ``waiting`` and gets a new ticket on resume.
        """
        ...

    def take(self, worker: int, wants: Mapping[str, int], *, suspects: int = 1) -> list[Claim]:
        """The embedded road: claim up to ``wants[queue]`` ready jobs of each queue.

        By priority, then by due time.  Answers are all RUN and carry body, queue and message id.
        """
        ...

    def reserve(self, wanted: Sequence[Wanted], *, soon_s: float) -> list[float]:
        """Reserve a start for each claimed job in all of its limits; the seconds until then, in the order asked.

        One transaction.  A job has one reservation: asked again before its slot, or at most an interval after it, the
        answer is what is left of the time; later it is forfeited and another made, so that jobs kept from their
        slots do not start all at once.  A job whose slot is at most ``soon_s`` away is expected to start then, which
        becomes its claim's time; any other is expected to ask again.
        """
        ...

    def enter(self, asking: Sequence[Entering]) -> list[Entry]:
        """Let claimed jobs enter their gates, all of a job's or none; answers in the order asked.

        One transaction.  The slots of a job that ENTERED are its attempt's: they are free when its claim is gone,
        whatever ended that, and that moment becomes its claim's time.  A job that finds a gate full is BLOCKED: it is
        delayed, without a ticket, until a slot is free.  Idempotent by (job, epoch).
        """
        ...

    def slow(self, shares: Sequence[Share], delay_s: float) -> None:
        """Reserve no further start in these limits for so many seconds; reservations made before stay."""
        ...

    def circuits(self, worker: int, reports: Sequence[Calls]) -> list[Standing]:
        """Count calls, open and close circuits by them; how each stands then, in the order given.

        Only reads when none reports a call.  Asked again after an answer was lost, calls of a closed circuit count
        twice, the one exception to that rule; what opened or closed it does not.
        """
        ...

    def probe(self, probes: Sequence[Probe]) -> list[Standing]:
        """Let claimed jobs probe half-open circuits, as many at a time as their rules say; in the order asked.

        Not admitted and closed: it may run as any job.  A probe's slot is free as soon as its claim has ended.
        """
        ...

    def recall(self, limit: int, *, spread_s: float) -> int:
        """Make jobs that circuits now closed had put off due within ``spread_s``; how many, at most ``limit``."""
        ...

    def finish(self, worker: int, finishes: Sequence[Finish]) -> list[Finished]:
        """Record how attempts ended, with everything that follows; answers in the order given.

        Accepted only for the row's current epoch.  A cancel asked for meanwhile is folded in: a
        retry, snooze, park or interruption of such a job ends as ``cancelled``.  Idempotent by (id, epoch).
        What ``gated`` ones leave free goes, in the same transaction, to those that wait for it: of a gate by
        priority, then by due time; of a sequence to the first in line.
        """
        ...

    def release(self, worker: int, held: Sequence[tuple[str, int]]) -> None:
        """Give back claimed jobs, as (id, epoch), that never started: waiting, with a new ticket, no attempt spent."""
        ...

    def progress(self, rows: Sequence[tuple[str, float, float | None, str]]) -> None:
        """Record (id, done, total, note) of running jobs; the last one of an id wins."""
        ...

    def checkpoint(self, job: str, epoch: int, body: bytes) -> bool:
        """Keep ``body`` for the next attempt; false, and nothing is kept, when the job is not active in this epoch."""
        ...

    def kept(self, job: str) -> bytes | None:
        """What the last checkpoint of a job kept, or None."""
        ...

    # -- the life of a worker
    def join(self, *, host: str, pid: int, queues: Sequence[str], threads: int, version: str) -> int:
        """Register a worker process; returns its id, which is never used again."""
        ...

    def beat(self, worker: int, held: Sequence[tuple[str, int]], *, lease_s: float) -> Beat:
        """Say that ``worker`` lives and which (id, epoch) it holds.

        Rows it owns but does not hold, claimed longer than a lease ago, are released.
        """
        ...

    def asked_to_stop(self, worker: int) -> list[tuple[str, int]]:
        """The jobs ``worker`` owns that were asked to stop, as (id, epoch).  Only reads."""
        ...

    def orders(self, worker: int) -> Orders:
        """What ``worker`` is asked for, and what operators have changed of queues; of no worker with 0.  Only reads."""
        ...

    def report_worker(self, worker: int, report: WorkerReport) -> None:
        """Say how ``worker`` is, in place of what was said before."""
        ...

    def announce(self, worker: int) -> None:
        """Say that ``worker`` is shutting down: what it leaves behind is not a crash."""
        ...

    def leave(self, worker: int) -> None:
        """Say that ``worker`` has stopped; anything it still owns is released at once."""
        ...

    # -- duties
    def promote(self, limit: int, *, resend_after_s: float) -> list[Due]:
        """Take what is due: delayed jobs become waiting.

        Embedded: their tickets become ready.  RabbitMQ: also tickets left unsent; each is stamped
        not to be taken again for ``resend_after_s`` and returned with its body, to be published
        after this returns.  Tickets of paused queues are left alone; tickets whose job is not
        waiting or delayed any more are dropped.
        """
        ...

    def next_due_s(self) -> float | None:
        """Seconds until :meth:`promote` has something to do, or None when nothing is ahead; below 0: since when."""
        ...

    def expire(self, limit: int) -> list[str]:
        """Fail jobs never claimed whose time has passed, reason ``expired``; their ids, at most ``limit``.

        One that was is left to the worker it comes to.
        """
        ...

    def tend(self, limit: int) -> list[Due]:
        """Wake whoever there is room for in gates that somebody has marked, at most ``limit``; to be sent."""
        ...

    def survey(self, after: str, limit: int) -> str:
        """Mark those of the next ``limit`` gates whose room and waiting jobs disagree, and drop those of no use.

        Where to go on: the last key, or empty at the end.
        """
        ...

    def rescue(self, lease_s: float) -> Rescue:
        """Fence workers silent for longer than ``lease_s`` and give back what they owned.

        An announced shutdown is no crash.  Otherwise, when a suspect was running, only the suspect is
        charged; when none was, all of the worker's jobs become suspects, none is charged.  The third
        charge quarantines: failed, reason ``poison``.
        """
        ...

    def resend(self, *, queue: str | None = None, older_than_s: float = 0.0) -> int:
        """Give a new ticket to waiting jobs that have none left unsent (their message is presumed lost).

        In transactions of ``RESEND_BATCH`` jobs, the one exception to one call, one transaction.
        """
        ...

    def retain(self, keep: Mapping[str, Keep], default: Keep, *, history_s: float, limit: int = 1000) -> int:
        """Move finished jobs over their limits from the hot table to history, and prune history.

        Spares unread results and live groups, and waits for nobody: what is locked is left for another time.
        ``history_s`` 0: nothing is kept in history.  What no job takes along goes too, up to ``limit`` rows of each:
        expired results and groups, ticks, and, as old as history, workers that are gone and own nothing, flows that
        are over, and journal lines without a job.
        Returns how many there were of what there was most of; call again while that is ``limit``.
        """
        ...

    def tick(self, holder: str, term: int, ticks: Sequence[Tick]) -> list[Ticked] | None:
        """Decide ticks and record their jobs, in one transaction; answers in the order given.

        None, and nothing is recorded, unless ``holder`` has the lease ``scheduler`` for that ``term``.  A tick is sent
        if its schedule has the revision the sender knows, none of its later ones was decided, and its overlap policy
        allows it.  Idempotent.
        """
        ...

    def clock(self) -> datetime:
        """The database's clock, now."""
        ...

    def lease(self, name: str, holder: str, ttl_s: float) -> int | None:
        """Take or keep the lease ``name``; its term (up with each new holder), or None when another holds it."""
        ...

    def report(self, holder: str, duties: Sequence[DutyReport]) -> None:
        """Say how the duties of maintenance go, in place of what was said before."""
        ...

    def unlease(self, name: str, holder: str) -> None:
        """Give the lease back, if still held."""
        ...

    def create_group(self, group: str, parties: int, ttl_ms: int) -> bool:
        """Set up the barrier of a Dramatiq group; false when it exists."""
        ...

    # -- workflows (ledger/flows/drive.py); what they answer last are jobs due now, for the road
    def start_flow(self, new: NewFlow) -> tuple[str, Send]:
        """Start a flow; the id of the one that is there by then: another, when one has its key."""
        ...

    def signal_flow(self, flow: str, name: str, body: bytes, by: By) -> tuple[bool, Send]:
        """Give a flow a signal; false when it is over, or has one of that name: the first counts.

        Raises ``FlowNotFound``, ``UnknownSignal``.
        """
        ...

    def cancel_flow(self, flow: str, by: By) -> FlowState:
        """Cancel a flow with all that is live of it; CANCELLING while jobs run that were asked to stop.

        Raises ``FlowNotFound``, ``IllegalTransition``.
        """
        ...

    def retry_flow(self, flow: str, by: By) -> tuple[list[str], Send]:
        """Let a failed or cancelled flow go on from the steps that are answered.

        Raises ``FlowNotFound``, ``IllegalTransition``.
        """
        ...

    def wake_flows(self, limit: int) -> Send:
        """Let up to ``limit`` flows go on of which a step waited for a time that has come."""
        ...

    def settle_flows(self, limit: int) -> Send:
        """Let flows go on of whose live jobs up to ``limit`` have ended otherwise than by a finish."""
        ...

    def flow_value(self, flow: str, name: str, item: int = 0) -> bytes | None:
        """An argument of a flow, or what a step returned, as JSON; None: not given, not there, or None."""
        ...

    def flow_results(self, flow: str, step: str, after: int, limit: int) -> list[tuple[int, bytes | None]]:
        """What the completed items of a step returned, by item: the next ``limit`` after ``after``."""
        ...

    def count_flow_results(self, flow: str, step: str) -> int:
        """How many items of a step have completed."""
        ...

    def dead_counts(self, queues: Sequence[str]) -> dict[str, int]:
        """How many dead letters each of these queues has in the hot table, however many jobs wait there."""
        ...

    def clock_skew_s(self) -> float:
        """This machine's clock minus the database's, in seconds."""
        ...

    def close(self) -> None:
        """Close the connection.  Idempotent."""
        ...


class Ledger(Protocol):
    """Where sessions come from.  Creating one does no I/O."""

    @property
    def url(self) -> str:
        """The database's address, with the password masked."""
        ...

    def check(self) -> None:
        """Raise ``SchemaMismatch`` unless the database is at the revision this code knows; SQLite gets itself there."""
        ...

    def session(self, name: str) -> Session:
        """A session that connects at its first use; ``name`` shows in ``pg_stat_activity``."""
        ...

    def outbox(self, connection: object) -> Outbox | AsyncOutbox:
        """Somebody's connection, of a driver this database has.  Raises ``Refusal`` for any other; does no I/O."""
        ...
