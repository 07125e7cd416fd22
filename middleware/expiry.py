"""Fails jobs that nobody came to in time."""

import logging
from collections.abc import Callable, Sequence

from ledger.ledger import Session

logger = logging.getLogger(__name__)

#: How often, in seconds, jobs that expired are looked for; a worker that comes to one first does not run it either.
EXPIRE_S = 1.0
BATCH = 500
#: At once: the other duties wait meanwhile.
BATCHES = 20


class Expiry:
    """Records jobs that were not tried within their ``expires`` as dead letters.

    Parameters:
      on_dead: told of each batch of them.
    """

    def __init__(self, *, on_dead: Callable[[Sequence[str]], None]) -> None:
        self.on_dead = on_dead

    def run(self, session: Session) -> int:
        """Returns how many there were."""
        count = 0
        for _ in range(BATCHES):
            expired = session.expire(BATCH)
            if expired:
                self.on_dead(expired)
            count += len(expired)
            if len(expired) < BATCH:
                break
        if count:
            logger.warning("%d jobs expired before a worker was free for them", count)
        return count
