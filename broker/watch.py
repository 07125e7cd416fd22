"""Judges how everything stands and tells who is to know, beside the other duties of maintenance."""

import logging
import threading
from typing import TYPE_CHECKING

from errors import LedgerError
from ledger.ledger import Session

if TYPE_CHECKING:
    from broker.broker import Broker
    from settings import Settings

logger = logging.getLogger(__name__)


class Watch:
    """A duty that only wakes a thread: mail servers take their time, and the other duties must not wait for them.

    Safe to run in several processes at once: the ledger decides what is told, once, and by whom.
    """

    def __init__(self, broker: "Broker", settings: "Settings") -> None:
        self.broker = broker
        self.settings = settings
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def run(self, session: Session) -> None:
        """It is time.  While the last time is not over, nothing happens."""
        self._wake.set()
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="hareline-alerts", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            try:
                self.look()
            except LedgerError as error:
                logger.warning("alerts wait: %s", error)
            except Exception:
                logger.critical("alerts failed; they go on the next time", exc_info=True)

    def look(self) -> None:
        """Judge, decide what is to be told, and try what is due.  Raises ``LedgerUnavailable``."""
        from control import Control, alerts  # with it comes SQLAlchemy, which a worker need not wait for at its start
        from control.destinations import destinations
        from control.health import Rules, check
        from ledger.schedule_queries import ScheduleQueries

        settings, url = self.settings, self.settings.database_url
        to = destinations(settings)
        control = Control(url, "rabbitmq" if settings.broker_url else "embedded")
        schedules = ScheduleQueries(url)
        try:
            health = check(
                self.broker.queries, schedules, Rules.of(settings), names=sorted(self.broker.get_declared_queues())
            )
            alerts.judge(control, health, list(to), calm_s=settings.alert_calm_s)
            alerts.digest(control, list(to), every_s=settings.alert_dead_s)
            alerts.deliver(control, to)
        finally:
            schedules.close()
            control.close()
