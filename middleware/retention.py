"""Moves finished jobs over their limits to the history, and lets go what nobody needs any more."""

import time
from collections.abc import Mapping

from ledger.ledger import Session
from ledger.records import Keep
from middleware.maintenance import AGAIN

#: How often, in seconds, it is looked for.
RETAIN_S = 10.0
#: Rows in a transaction, of each kind: for so long its locks are held.
ROWS = 200
#: At once: others that share the thread have their turn then.
TURN_S = 0.05


class Retention:
    """As much as there is, a turn at a time: however many jobs end, as many go.

    Parameters:
      keep: how many of a queue stay, and for how long; ``default`` of the others.
      history_s: how long they stay in the history.
    """

    def __init__(self, keep: Mapping[str, Keep], default: Keep, *, history_s: float) -> None:
        self.keep = keep
        self.default = default
        self.history_s = history_s

    def run(self, session: Session) -> object:
        """``AGAIN`` when there is more than fits a turn."""
        ends_at = time.monotonic() + TURN_S
        while session.retain(self.keep, self.default, history_s=self.history_s, limit=ROWS) >= ROWS:
            if time.monotonic() >= ends_at:
                return AGAIN
        return None
