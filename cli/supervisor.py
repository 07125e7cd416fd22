"""Keeps worker processes alive: one that dies is started again, by itself, and the others never notice.

Dramatiq's own command line stops all its workers when one of them dies; so each gets a command line of its own.
"""

import signal
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence

import structlog

from cli.children import Child, Ended, Inbox, Ready, Stops, catch, fate, receive
from metrics.catalogue import DEATHS
from middleware.counting import Counting

log = structlog.get_logger(__name__)

#: Delay before a dead worker is started again: doubled with every death in a row, up to the second figure.
BACKOFF_S = (0.5, 30.0)
#: A worker that lived this long had no trouble starting.
SETTLED_S = 60.0
#: In a restart one by one, how long to wait for the new one before going on.
READY_S = 30.0


class Place:
    """One of the workers, whichever process it is at the moment."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.child: Child | None = None
        self.deaths = 0  #: in a row
        self.start_at = 0.0  #: on the monotonic clock, when there is no child
        self.retiring = False  #: it was asked to end, to be replaced
        self.dismissed = False  #: an operator has stopped it; until a SIGHUP nothing takes its place

    @property
    def is_wanted(self) -> bool:
        """Whether there is no process, and is to be one."""
        return self.child is None and not self.dismissed


class Supervisor:
    """Runs ``count`` workers until SIGTERM or SIGINT; SIGHUP restarts them one by one.

    One that an operator stops (`hareline workers stop`) is not started again before a SIGHUP; when the last one is
    stopped so, this ends too, in good order.

    Parameters:
      queues: the only ones to serve; all if empty.
      env: added to the environment of the workers.
      counting: of this process, when it was asked for metrics.
    """

    def __init__(
        self,
        count: int,
        queues: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        counting: Counting | None = None,
    ) -> None:
        self._command = [sys.executable, "-m", "dramatiq", "cli.child:boot", "-p", "1", "--skip-logging"]
        self._command += ["-Q", *queues] if queues else []
        self._env = env
        self._counting = counting
        self._inbox: Inbox = Inbox()
        self._places = [Place(number) for number in range(1, count + 1)]
        self._turn: deque[Place] = deque()  # still to be restarted
        self._renewing: Place | None = None
        self._renew_until: float | None = None  # when it is taken for ready though it did not say so
        self._stops = Stops()
        self._stopping = False
        self._killed = False

    def run(self) -> int:
        """Returns 0 when all have stopped in good order, else 1.  For the main thread."""
        catch(self._inbox, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        if self._counting is not None:
            self._counting.start("supervisor")  # so it serves, and what its workers leave behind is not lost
        failed = False
        while not (self._stopping and all(place.child is None for place in self._places)):
            self._start_due()
            match receive(self._inbox, self._patience_s()):
                case signal.SIGHUP:
                    for place in self._places:
                        place.dismissed = False
                    self._turn.extend(place for place in self._places if place not in self._turn)
                case signal.Signals():
                    self._stop()
                case Ready(child=child):
                    self._is_ready(child)
                case Ended(child=child, code=code):
                    failed |= self._ended(child, code)
            self._renew()
        if self._counting is not None:
            self._counting.stop()
        log.info("workers.stopped")
        return 1 if failed or self._killed else 0

    def _start_due(self) -> None:
        for place in self._places:
            if place.is_wanted and not self._stopping and time.monotonic() >= place.start_at:
                try:
                    place.child = Child(self._command, self._inbox, env=self._env, leash=True)
                except OSError as error:  # the machine is short of memory, processes or files: the others go on
                    log.error("worker.not_started", worker=place.number, why=str(error), again_in_s=_later(place))
                    continue
                if place is self._renewing and self._renew_until is None:
                    self._renew_until = time.monotonic() + READY_S
                log.info("worker.started", worker=place.number, pid=place.child.pid)

    def _patience_s(self) -> float | None:
        if self._stopping:
            return None
        moments = [place.start_at for place in self._places if place.is_wanted]
        moments += [self._renew_until] if self._renew_until is not None else []
        return min(moments) - time.monotonic() if moments else None

    def _stop(self) -> None:
        children = [place.child for place in self._places if place.child is not None]
        if self._stops.again():
            log.warning("workers.killed", workers=len(children))
            self._killed = True
            for child in children:
                child.kill()
            return
        if self._stopping:
            return
        self._stopping = True
        log.info("workers.stopping", workers=len(children))
        for place in self._places:
            if place.child is not None and not place.retiring:
                place.child.ask()

    def _is_ready(self, child: Child) -> None:
        place = self._place_of(child)
        log.info("worker.ready", worker=place.number, pid=child.pid)
        if place is self._renewing and not place.retiring:
            self._renewing = self._renew_until = None

    def _ended(self, child: Child, code: int) -> bool:
        """Whether that is a failure that cannot be made good: it failed while we were stopping."""
        place = self._place_of(child)
        place.child = None
        if self._stopping:
            return code != 0
        if place.retiring:
            place.retiring, place.start_at = False, 0.0
            return False
        if child.dismissed:
            place.dismissed = True
            log.info("worker.dismissed", worker=place.number, pid=child.pid)
            if all(place.dismissed for place in self._places):
                self._stopping = True
            return code != 0
        if time.monotonic() - child.started_at > SETTLED_S:
            place.deaths = -1  # this one does not count
        delay_s = _later(place)
        if self._counting is not None:
            self._counting.meter.count((DEATHS, (fate(code),), 1))
        log.error("worker.died", worker=place.number, pid=child.pid, how=fate(code), again_in_s=delay_s)
        return False

    def _renew(self) -> None:
        """Go on with the restart one by one, if there is one."""
        if self._renew_until is not None and time.monotonic() >= self._renew_until:
            self._renewing = self._renew_until = None
        while self._turn and self._renewing is None and not self._stopping:
            place = self._turn.popleft()
            if place.child is None:
                continue  # it is about to be started anyway
            log.info("worker.restarting", worker=place.number, pid=place.child.pid)
            self._renewing, place.retiring = place, True
            place.child.ask()

    def _place_of(self, child: Child) -> Place:
        return next(place for place in self._places if place.child is child)


def _later(place: Place) -> float:
    """In how many seconds its next process is to be started, now that one has died or could not be."""
    place.deaths += 1
    shortest, longest = BACKOFF_S
    delay_s = min(longest, shortest * 2 ** min(place.deaths - 1, 10)) if place.deaths else shortest
    place.start_at = time.monotonic() + delay_s
    return delay_s
