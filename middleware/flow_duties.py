"""Takes flows on that wait for a time, or of which a job ended without a worker seeing it."""

from collections.abc import Callable

from ledger.ledger import Send, Session

#: How often, in seconds, each is looked for.
WAKE_S = 0.5
SETTLE_S = 5.0
#: So many at once.
FLOWS = 100
JOBS = 1_000


class FlowDuties:
    """Both are safe to run twice at once: a flow's row is locked, and what was done is found done.

    Parameters:
      send: lets the jobs travel that are recorded by it.
    """

    def __init__(self, send: Callable[[Send], None]) -> None:
        self.send = send

    def wake(self, session: Session) -> None:
        """Sleeps that are over, waits that have lasted too long."""
        self._travel(session.wake_flows(FLOWS))

    def settle(self, session: Session) -> None:
        """Steps whose jobs were cancelled by an operator, quarantined, or expired."""
        self._travel(session.settle_flows(JOBS))

    def _travel(self, due: Send) -> None:
        if due:
            self.send(due)
