"""When: sends recurring messages, each tick once, however many schedulers run.

    hareline scheduler          # the same as: python scheduler.py

Schedules stand in :data:`SCHEDULES`, above actors (``@every``, ``@cron``), and in the ledger.  One process leads, by a
lease; the others wait for it to end.  What fires when follows from a schedule alone, by the database's clock.
"""

import os
import random
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from dramatiq.message import Message

import logs
from broker import Broker, maintenance
from broker.ticks import enqueue, tick
from control import Control
from control.schedules import reconcile
from control.watch import LedgerWatch
from errors import BadSchedule, HarelineError, LedgerError, LedgerUnavailable, SettingsError
from ledger.ledger import Session
from ledger.migrate import Migrations
from ledger.schedule_queries import ScheduleQueries
from ledger.schedules import Schedule
from ledger.schedules.agenda import Agenda, Entry
from ledger.schedules.declare import declared
from ledger.schedules.schedule import read
from ledger.ticks import LEASE, Tick, Ticked, TickOutcome
from settings import Settings, load

log = structlog.get_logger(__name__)

#: A leader that dies is replaced within this time; it says three times as often that it lives.
LEASE_S = 3.0
#: How often those who wait ask for the lease, and the leader for what was changed.
LOOK_S = 0.5
#: How long to wait before a tick that could not be sent is tried again.
RETRY_S = 1.0
#: Ticks decided in one transaction.
BATCH = 500
#: Signals to stop within this time are one request: ``timeout`` and ``make`` pass on a Ctrl-C that arrives as well.
ONE_REQUEST_S = 0.5

SCHEDULES: Sequence[Schedule] = (
    Schedule(
        "cleanup-audit-log",
        actor="cleanup_audit_log",
        when="0 3 * * *",
        within_s=86_400,
        skip=lambda settings: "" if settings.audit_log_retention_days else "AUDIT_LOG_RETENTION_DAYS is 0",
    ),
    Schedule(
        "cleanup-embeddings",
        actor="cleanup_embeddings",
        when="30 3 * * sun",
        within_s=86_400,
        overlap="skip",
        skip=lambda settings: "" if settings.openai_url else "OPENAI_BASE_URL is not set",
    ),
    Schedule(  # nine o'clock comes at every quarter of an hour somewhere
        "daily-digest",
        actor="daily_digest",
        when="*/15 * * * *",
        overlap="skip",
        skip=lambda settings: (
            "" if settings.smtp_url and settings.mail_from else "HARELINE_SMTP_URL or HARELINE_MAIL_FROM is not set"
        ),
    ),
    Schedule(
        "warmup-cache",
        actor="warmup_cache",
        when="every 5m",
        missed="skip",
        overlap="skip",
        skip=lambda settings: "" if settings.warmup_urls else "HARELINE_WARMUP_URLS is not set",
    ),
    Schedule(
        "watch-chain",
        actor="watch_chain",
        when="every 3s",
        missed="skip",
        overlap="skip",
        skip=lambda settings: "" if settings.chain_rpc_url else "HARELINE_CHAIN_RPC_URL is not set",
    ),
)


class Clock:
    """The database's clock, between two looks at it: a machine whose own is wrong fires nothing wrong."""

    def __init__(self) -> None:
        self._then = datetime.fromtimestamp(0, UTC)
        self._at = time.monotonic()

    def look(self, session: Session) -> None:
        self._then = session.clock()
        # As if it had been read just now: an answer that took long makes a tick late, never early.
        self._at = time.monotonic()

    def now(self) -> datetime:
        return self._then + timedelta(seconds=time.monotonic() - self._at)


class Scheduler:
    """One of any number: it leads while it has the lease, and waits for it otherwise.

    The leader's ticks are decided in the ledger, in transactions that hold the lease: of one that was replaced
    meanwhile, without knowing it, nothing is accepted.
    """

    def __init__(self, broker: Broker, queries: ScheduleQueries) -> None:
        self.holder = f"{socket.gethostname()}:{os.getpid()}:{random.getrandbits(32):08x}"
        self._broker = broker
        self._queries = queries
        self._session = broker.ledger.session("hareline-scheduler")
        self._clock = Clock()
        self._agenda = Agenda()
        self._term: int | None = None
        self._renew_at = self._look_at = 0.0
        self._seen: datetime | None = None
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Let :meth:`run` end.  Any thread."""
        self._stopping.set()

    def run(self) -> None:
        """Until :meth:`stop`; the lease is given back then, and the next one leads at once."""
        while not self._stopping.is_set():
            try:
                self._pass()
            except HarelineError as error:
                self._lose(str(error))
                self._stopping.wait(RETRY_S)
            except Exception:
                log.critical("scheduler.failed", exc_info=True)
                self._lose("it failed")
                self._stopping.wait(RETRY_S)
        try:
            self._session.unlease(LEASE, self.holder)
        except HarelineError as error:
            log.warning("scheduler.lease_kept", why=str(error))
        self._session.close()

    def _pass(self) -> None:
        self._renew()
        if self._term is None:
            self._stopping.wait(LOOK_S)
            return
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_S
            self._look()
        self._fire()
        due = self._agenda.next_due()
        until = min(self._renew_at, self._look_at) - time.monotonic()
        if due is not None:
            until = min(until, (due - self._clock.now()).total_seconds())
        self._stopping.wait(max(0.0, until))

    # -- leading
    def _renew(self) -> None:
        """Take or keep the lease when it is time to."""
        if time.monotonic() < self._renew_at:
            return
        term = self._session.lease(LEASE, self.holder, LEASE_S)
        self._renew_at = time.monotonic() + (LEASE_S / 3 if term is not None else 0.0)
        if term is None:
            if self._term is not None:
                self._lose("the lease is another's")
            return
        self._clock.look(self._session)
        if term != self._term:
            self._term, self._agenda, self._seen = term, Agenda(), None
            self._look()
            log.info("scheduler.leads", term=term, schedules=len(self._agenda))

    def _lose(self, why: str) -> None:
        if self._term is not None:
            log.warning("scheduler.waits", why=why)
        self._term, self._renew_at = None, 0.0

    def _look(self) -> None:
        """Read what was changed; at first, everything."""
        rows, now = self._queries.to_send(self._seen)
        for key, definition, revision, wanted, done_until in rows:
            known = self._agenda.get(key)
            if not wanted:
                self._agenda.drop(key)
            elif known is None or known.revision != revision:
                try:
                    self._agenda.put(Entry(key, read(key, definition), revision, done_until))
                except BadSchedule as error:
                    log.error("schedule.unreadable", schedule=key, why=str(error))
        if self._seen is None:
            for key, fire_at in self._queries.waiting():
                if entry := self._agenda.get(key):
                    entry.waiting = (*entry.waiting, fire_at)
        self._seen = now

    # -- firing
    def _fire(self) -> None:
        """Decide what is due now, so many at a time: the lease is kept meanwhile."""
        entries: list[Entry] = []
        ticks: list[tuple[Tick, Message[Any] | None]] = []
        now = self._clock.now()
        for entry in self._agenda.due(now):
            entries.append(entry)
            ticks += self._ticks(entry, now)
            if len(ticks) >= BATCH:
                if not self._decide(entries, ticks):
                    return
                entries, ticks = [], []
                self._renew()
                if self._term is None:
                    return
        if ticks or entries:
            self._decide(entries, ticks)

    def _ticks(self, entry: Entry, now: datetime) -> Iterator[tuple[Tick, Message[Any] | None]]:
        found = entry.pending(now)
        missed = {at for at in entry.waiting if at not in found.send}
        if found.missed is not None:
            missed.add(found.missed[1])
        for at in sorted(missed):
            why = (
                f"all since {_text(found.missed[0])}" if found.missed and at == found.missed[1] else "a newer one came"
            )
            due_at = entry.schedule.timetable.due(entry.key, at)
            yield Tick(entry.key, entry.revision, at, due_at, outcome=TickOutcome.MISSED, why=why), None
        for at in found.send:
            yield tick(self._broker, entry.schedule, entry.revision, at)

    def _decide(self, entries: list[Entry], ticks: list[tuple[Tick, Message[Any] | None]]) -> bool:
        """False when it does not lead any more."""
        answers = self._enqueue(ticks) if ticks else []
        if answers is None:
            self._lose("the lease is another's")
            return False
        waits: dict[str, list[datetime]] = {}
        stale: Counter[str] = Counter()
        for (one, _), answer in zip(ticks, answers, strict=True):
            entry = self._agenda.get(one.schedule)
            if answer.outcome is not TickOutcome.WAITING or (entry and one.fire_at not in entry.waiting):
                self._tell(one, answer)  # that it waits is said once
            if answer.outcome is None:
                stale[one.schedule] += 1
            elif answer.outcome is TickOutcome.WAITING:
                waits.setdefault(one.schedule, []).append(one.fire_at)
            elif one.schedule not in waits and entry:
                entry.done_until = max(entry.done_until, one.fire_at)
        now = self._clock.now()
        for entry in entries:
            if entry.key in stale:
                self._agenda.drop(entry.key)  # it was changed, paused or removed: the next look says what it is
            else:
                entry.waiting = tuple(waits.get(entry.key, ()))
                self._agenda.plan(entry, now + timedelta(seconds=RETRY_S) if entry.waiting else None)
        return True

    def _enqueue(self, ticks: list[tuple[Tick, Message[Any] | None]]) -> list[Ticked] | None:
        """One that the ledger cannot take is refused, and keeps no other back."""
        assert self._term is not None
        try:
            return enqueue(self._broker, self._session, self.holder, self._term, ticks)
        except LedgerUnavailable:
            raise
        except LedgerError as error:
            if len(ticks) > 1:
                answers = [self._enqueue([one]) for one in ticks]
                return None if None in answers else [answer for some in answers for answer in some or ()]
            [(one, _)] = ticks
            refused = Tick(
                one.schedule, one.revision, one.fire_at, one.due_at, outcome=TickOutcome.REFUSED, why=str(error)
            )
            return enqueue(self._broker, self._session, self.holder, self._term, [(refused, None)])

    def _tell(self, tick: Tick, answer: Ticked) -> None:
        late_s = round((self._clock.now() - tick.due_at).total_seconds(), 3)
        said = {"schedule": tick.schedule, "tick": _text(tick.fire_at), "late_s": late_s}
        if self._broker.metering is not None:
            self._broker.metering.ticked(answer.outcome, late_s)
        match answer.outcome:
            case TickOutcome.SENT:
                log.info("schedule.sent", **said)
            case TickOutcome.WAITING:
                log.warning("schedule.waits", **said, why=answer.why)
            case TickOutcome.REFUSED:
                log.error("schedule.refused", **said, why=answer.why)
            case TickOutcome.MISSED:
                log.error("schedule.missed", **said, why=answer.why)
            case TickOutcome.SKIPPED | TickOutcome.DUPLICATE:
                log.info(f"schedule.{answer.outcome}", **said, why=answer.why)
            case None:
                log.info("schedule.changed", **said)


def plan(schedules: Sequence[Schedule], settings: Settings, broker: Broker) -> list[tuple[Schedule, str]]:
    """What the code declares, with why it is left out with these settings.

    Raises :class:`BadSchedule` for one that cannot work, also when it is left out.
    """
    found: dict[str, tuple[Schedule, str]] = {}
    for schedule in (*schedules, *declared(broker.actors.values())):
        if schedule.key in found:
            raise BadSchedule(f"schedule {schedule.key!r} is there twice; give one of them another key")
        broker.check_schedule(schedule)
        found[schedule.key] = (schedule, schedule.skip(settings))
    return list(found.values())


def run(schedules: Sequence[Schedule], settings: Settings, broker: Broker) -> None:
    """Send what is due, and do the duties of maintenance, until SIGTERM or SIGINT; a second one ends the process.

    For the main thread, of a process that ends with it.

    Raises :class:`BadSchedule`, ``SettingsError``, ``SchemaMismatch`` or ``LedgerUnavailable`` before anything is
    started.
    """
    broker.queue_names.check(broker)
    planned = plan(schedules, settings, broker)
    if not settings.database_url.startswith("sqlite:"):  # that one migrates itself
        Migrations(settings.database_url).check()
    control = Control(settings.database_url, "rabbitmq" if settings.broker_url else "embedded")
    changes = reconcile(control, planned, by=f"scheduler {socket.gethostname()}:{os.getpid()}")
    control.close()
    for schedule, why in planned:
        if why:
            log.info("schedule.left_out", schedule=schedule.key, why=why)
        else:
            log.info("schedule.planned", schedule=schedule.key, when=schedule.when, change=changes[schedule.key])
    queries = ScheduleQueries(settings.database_url)
    scheduler = Scheduler(broker, queries)
    # A handler could interrupt the main thread while it holds a lock; a waiting thread cannot.
    stops = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stops)

    def stop() -> None:
        signal.sigwait(stops)
        asked_at = time.monotonic()
        log.info("scheduler.stopping")
        scheduler.stop()
        while True:  # what is closed may wait for a server that hangs
            number = signal.sigwait(stops)
            if time.monotonic() - asked_at > ONE_REQUEST_S:
                log.warning("scheduler.killed")
                os._exit(128 + number)

    threading.Thread(target=stop, name="hareline-signals", daemon=True).start()
    watch = LedgerWatch(broker.ledger, settings, broker.metering.meter) if broker.metering else None
    if broker.metering and watch:
        broker.metering.counting.start("scheduler")
        watch.start()
    duties = maintenance(broker, settings)
    duties.start()
    log.info("scheduler.ready", schedules=len(planned))
    try:
        scheduler.run()
    finally:
        duties.stop()
        if broker.metering and watch:
            watch.stop()
            broker.metering.counting.stop()
        queries.close()
        broker.close()
        log.info("scheduler.stopped")


def main(schedules: Sequence[Schedule] = SCHEDULES) -> int:
    """``python scheduler.py``.  Returns the exit code, as of ``hareline``'s commands."""
    try:
        settings = load()
        logs.configure(settings)
        from actors import broker  # reads the settings, so after they are known to be good

        run(schedules, settings, broker)
    except HarelineError as error:
        print(f"hareline scheduler: {error}", file=sys.stderr)
        return 2 if isinstance(error, (SettingsError, BadSchedule)) else 5
    return 0


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")


if __name__ == "__main__":
    sys.exit(main())
