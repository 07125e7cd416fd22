"""The loops that keep the promises: relay, rescuer, expiry, retention, orphan sweep, dead-letter projection."""

import functools
import logging
import os
import random
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from errors import HarelineError, LedgerBusy, LedgerUnavailable
from ledger.ledger import Ledger, Session
from ledger.records import DutyReport

#: CLOCK_BOOTTIME goes on while a laptop sleeps; CLOCK_MONOTONIC does not, and would call a night continuous.
_clock: Callable[[], float] = (
    functools.partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
)

#: No sign of the ledger for this long is a gap: this process, or the database, was away.
GAP_S = 5.0

logger = logging.getLogger(__name__)

#: Who may run the duties; a holder that dies is replaced within this time.
LEASE_S = 3.0
#: How often, in seconds, whoever does the duties says how late they are.
REPORT_S = 5.0
#: How long a pass may sleep when nothing is known to be due: another process may add an earlier row.
POLL_S = 0.2
#: What is due for so long, its holder does not do: it was killed, or hangs.  Whoever sees it stands in until the next
#: look at the lease.
OVERDUE_S = 0.1
#: How often the others look, each.
LOOK_S = 0.5
#: A duty that failed is tried again after so long at the earliest.
FAILED_S = 1.0
#: What a duty answers that has more to do than it did: it is its turn again after several times what this one took.
AGAIN: Final = object()
RESTS = 4
#: How long it sleeps at least; doubled, up to the above, while what is due cannot be sent.
SHORTEST_S = 0.005


@dataclass(slots=True)
class Duty:
    """Something to be done every ``every_s`` seconds by whoever holds the lease."""

    name: str
    every_s: float
    run: Callable[[Session], object]
    next_at: float = 0.0
    began_at: float = 0.0
    late_s: float = 0.0  #: at most, since the last report
    took_s: float = 0.0

    def do(self, session: Session, now: float) -> object:
        """Run it, and note how late it is.  A duty without a time of its own is late when no pass came to it."""
        if self.began_at:
            self.late_s = max(self.late_s, now - (self.next_at if self.every_s else self.began_at + POLL_S))
        self.began_at, self.next_at = now, now + self.every_s
        try:
            found = self.run(session)
        finally:
            over = time.monotonic()
            self.took_s = max(self.took_s, over - now)
        if found is AGAIN:
            self.next_at = over + RESTS * (over - now)
        return found

    def failed(self, now: float, began_at: float) -> None:
        """It is tried again; as not begun, so that what judges health says for how long it is late."""
        self.began_at = began_at or now
        self.next_at = now + max(self.every_s, FAILED_S)

    def report(self) -> DutyReport:
        """How it went since the last time this was asked."""
        told = DutyReport(self.name, self.every_s, time.monotonic() - self.began_at, self.late_s, self.took_s)
        self.late_s = self.took_s = 0.0
        return told


class Maintenance:
    """One thread that runs the duties while it holds the lease of its name.

    Every worker process and every scheduler has one; the lease saves the database from doing it all many
    times, correctness does not depend on it: each duty is safe to run twice at once.  So nobody waits for the
    lease of a holder that was killed: what has been due for a moment, whoever sees it does.

    Parameters:
      beside: another, started and stopped with this one: what takes long does not make this one's duties late.
    """

    def __init__(
        self,
        ledger: Ledger,
        duties: list[Duty],
        *,
        gap_s: float = GAP_S,
        name: str = "hareline-maintenance",
        beside: "Maintenance | None" = None,
        on_stop: Callable[[], None] | None = None,
    ) -> None:
        self.thread = name
        self.name = name.removeprefix("hareline-")  #: of the lease
        self.beside = beside
        self._on_stop = on_stop
        self.ledger = ledger
        self.duties = duties
        self._waits = not all(duty.every_s for duty in duties)  #: one is done whenever something may be due
        self.gap_s = gap_s
        self._renew_s = min(LEASE_S, gap_s) / 3
        self.holder = f"{socket.gethostname()}:{os.getpid()}:{random.getrandbits(32):08x}"
        self._wake = threading.Event()
        self._stopping = False
        self._shortest_s = SHORTEST_S
        self._since = self._last = _clock()
        self._offset = time.time() - self._last
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread.  Once."""
        self._since = self._last = _clock()
        self._offset = time.time() - self._last
        self._thread = threading.Thread(target=self._run, name=self.thread, daemon=True)
        self._thread.start()
        if self.beside is not None:
            self.beside.start()

    def wake(self) -> None:
        """Something may be due now.  Any thread."""
        self._wake.set()

    def stop(self) -> None:
        """End the thread and give the lease back.  Idempotent."""
        self._stopping = True
        self._wake.set()
        if self.beside is not None:
            self.beside.stop()
        if self._thread is not None:
            self._thread.join(timeout=10.0)
        if self._on_stop is not None:
            self._on_stop()

    def continuous_s(self) -> float:
        """For how long this process has been in touch with the ledger without a gap.

        Who was away itself may not judge others: after a laptop slept, everyone looks dead.  So they do after this
        machine's clock was set forward, by which a SQLite ledger goes: that is a gap, too.
        """
        now = _clock()
        return now - self._since if now - self._last <= self.gap_s else 0.0

    def _run(self) -> None:
        session = self.ledger.session(self.thread)
        renew_at = 0.0
        report_at = time.monotonic() + REPORT_S
        leading = standing_in = False
        while not self._stopping:
            self._wake.clear()
            try:
                now = time.monotonic()
                if now >= renew_at:
                    led, leading = leading, session.lease(self.name, self.holder, LEASE_S) is not None
                    if leading and not led:
                        self._anew()
                    renew_at = now + self._renew_s
                    standing_in = False
                    self._touch()
                standing_in = standing_in or (not leading and self._waits and self._unattended(session))
                moved = (leading or standing_in) and self._pass(session, anyone=not leading)
                if leading and now >= report_at:
                    session.report(self.holder, [duty.report() for duty in self.duties if duty.began_at])
                    report_at = now + REPORT_S
                self._sleep(session if leading or standing_in else None, renew_at, moved)
            except HarelineError as error:
                self._since = _clock()  # who was cut off was perhaps not the only one: nobody is judged for a lease
                leading, standing_in, renew_at = False, False, 0.0
                logger.warning("%s waits: %s", self.name, error)
                self._wake.wait(1.0)
            except Exception:
                leading, standing_in, renew_at = False, False, 0.0
                logger.critical("%s failed; it goes on in a second", self.name, exc_info=True)
                self._wake.wait(1.0)
        try:
            session.unlease(self.name, self.holder)
        except HarelineError as error:
            logger.warning("the lease of %s could not be given back, it will run out: %s", self.name, error)
        session.close()

    def _anew(self) -> None:
        """What another did meanwhile is not late here."""
        for duty in self.duties:
            duty.began_at = 0.0

    def _touch(self) -> None:
        now = _clock()
        offset = time.time() - now
        if now - self._last > self.gap_s or abs(offset - self._offset) > self.gap_s:
            self._since = now
        self._last, self._offset = now, offset

    def _unattended(self, session: Session) -> bool:
        due_s = session.next_due_s()
        return due_s is not None and due_s < -OVERDUE_S

    def _pass(self, session: Session, *, anyone: bool) -> bool:
        """Do what it is time for; whether one of the duties that are done every time found something to do.

        Those are what is left to ``anyone``.
        """
        moved = False
        for duty in self.duties:
            now, began_at = time.monotonic(), duty.began_at
            if now >= duty.next_at and not self._stopping and not (anyone and duty.every_s):
                try:
                    moved |= bool(duty.do(session, now)) and not duty.every_s
                except HarelineError as error:
                    if isinstance(error, LedgerUnavailable) and not isinstance(error, LedgerBusy):
                        raise  # a database that is away is not asked by every duty
                    logger.warning("%s waits: %s", duty.name, error)
                    duty.failed(now, began_at)
                except Exception:  # it keeps none of the others waiting
                    logger.critical("the duty %s failed; it is tried again", duty.name, exc_info=True)
                    duty.failed(now, began_at)
                self._touch()  # many duties in a row are no gap; one that takes so long may be one
        return moved

    def _sleep(self, session: Session | None, renew_at: float, moved: bool) -> None:
        sleep_s = max(0.0, renew_at - time.monotonic())
        if not self._waits:
            if session is not None:
                sleep_s = min(sleep_s, max(SHORTEST_S, min(x.next_at for x in self.duties) - time.monotonic()))
        elif session is None:
            sleep_s = min(sleep_s, LOOK_S)
        else:
            due_s = session.next_due_s()
            # Due and not moved: RabbitMQ is away, or somebody has locked it.  Asking all the time would not help.
            stuck = due_s is not None and due_s <= 0 and not moved
            self._shortest_s = min(POLL_S, self._shortest_s * 2) if stuck else SHORTEST_S
            sleep_s = min(sleep_s, POLL_S if due_s is None else max(self._shortest_s, min(due_s, POLL_S)))
        self._wake.wait(sleep_s)
