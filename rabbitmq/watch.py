"""Reads RabbitMQ every few seconds, so that many may look without asking it."""

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from errors import BrokerError
from rabbitmq.management import Management, managements
from rabbitmq.reading import QueueReading, Reading, read, read_passively

log = logging.getLogger(__name__)

#: Between the beginnings of two looks, in seconds, give or take a fifth.
INTERVAL_S = 5.0
#: So old a reading tells nothing of now.
STALE_S = 3 * INTERVAL_S
#: A management API that did not answer is tried again after so many looks; AMQP has to do meanwhile.
AGAIN_AFTER = 6


@dataclass(frozen=True, slots=True)
class Seen:
    """The last reading, and whether it still holds."""

    reading: Reading | None  #: None: there was none yet
    age_s: float | None  #: since it was taken
    known: bool  #: it was the last look, and not long ago
    why: str  #: why it is not known, or why only in part; empty when all is well

    @property
    def as_of(self) -> datetime | None:
        """When the reading was taken, on this machine's clock."""
        return None if self.age_s is None else datetime.now(UTC) - timedelta(seconds=self.age_s)

    def queue(self, name: str) -> QueueReading | None:
        """What is known of the queue now; None when nothing is, or when there is no such queue."""
        return self.reading.queues.get(name) if self.known and self.reading is not None else None


class Watch:
    """One thread that looks at RabbitMQ every ``INTERVAL_S``; :attr:`seen` never waits for it.

    By the management API where there is one, else by AMQP.  Ages are by the monotonic clock: setting the machine's
    clock changes none.

    Parameters:
      names: the queues to ask for over AMQP, which has no list of them.
      then: called on the thread after every look.
    """

    def __init__(
        self,
        broker_url: str,
        management_url: str | None = None,
        *,
        names: Callable[[], Sequence[str]],
        then: Callable[[], None] = lambda: None,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._broker_url = broker_url
        self._candidates = managements(broker_url, management_url)
        self._names = names
        self._then = then
        self._interval_s = interval_s
        self._reading: Reading | None = None
        self._taken = 0.0
        self._trouble = "RabbitMQ was not asked yet"
        self._skip = 0  #: so many looks by AMQP before the management API is tried again …
        self._why = ""  #: … and why that had to be
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._looked = threading.Event()
        self._thread: threading.Thread | None = None
        #: Where people look at this server: the management API that answered last, or was told of; None: unknown.
        self.management: Management | None = self._candidates[0] if management_url else None

    @property
    def seen(self) -> Seen:
        """How it is, as of the last look.  Any thread; never waits."""
        with self._lock:
            reading, taken, trouble = self._reading, self._taken, self._trouble
        if reading is None:
            return Seen(None, None, False, trouble)
        age_s = time.monotonic() - taken
        known = not trouble and age_s < STALE_S
        why = trouble or ("; ".join(reading.missing) if known else "nobody has looked since")
        return Seen(reading, age_s, known, why)

    def look(self) -> Seen:
        """Look now, on this thread."""
        try:
            reading = self._read()
        except BrokerError as error:
            self._note(str(error))
        except Exception as error:  # an answer of a shape nobody has seen: unknown, and not the end of looking
            log.exception("what RabbitMQ answered could not be read")
            self._note(f"what RabbitMQ answered could not be read ({type(error).__name__})")
        else:
            with self._lock:
                self._reading, self._taken, self._trouble = reading, time.monotonic(), ""
        self._looked.set()
        return self.seen

    def start(self) -> None:
        """Idempotent; returns at once."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="hareline-rabbitmq", daemon=True)
            self._thread.start()

    def wait(self, timeout_s: float) -> bool:
        """Wait for the first look to end; whether it did."""
        return self._looked.wait(timeout_s)

    def stop(self, timeout_s: float = 1.0) -> None:
        """Look no more; a look under way is not waited for beyond ``timeout_s``.  Idempotent."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        told = ""
        while not self._stop.is_set():
            self.look()
            if self._trouble != told:  # once for every kind, however long it lasts
                told = self._trouble
                log.warning("RabbitMQ cannot be watched: %s", told) if told else log.info("RabbitMQ is watched again")
            try:
                self._then()
            except Exception:
                log.exception("what follows a look at RabbitMQ failed")
            # Consoles that were started together do not ask together.
            self._stop.wait(self._interval_s * random.uniform(0.8, 1.2))

    def _note(self, trouble: str) -> None:
        with self._lock:
            self._trouble = trouble

    def _read(self) -> Reading:
        if self._skip:
            self._skip -= 1
        else:
            for candidate in list(self._candidates):
                try:
                    reading = read(candidate)
                except BrokerError as error:
                    self._why = str(error)
                else:
                    self.management = candidate
                    return reading
            self._candidates.append(self._candidates.pop(0))
        reading = read_passively(self._broker_url, self._names(), self._why)
        self._skip = self._skip or AGAIN_AFTER  # only now: a server that is away altogether is asked for both
        return reading
