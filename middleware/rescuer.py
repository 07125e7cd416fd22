"""Gives back what dead workers held."""

import logging
from collections.abc import Callable, Sequence

from ledger.ledger import Session
from ledger.records import Rescue

logger = logging.getLogger(__name__)


class Rescuer:
    """Fences silent workers and returns their jobs; the third charge against a suspect quarantines it.

    It judges only when this process has itself been in touch with the ledger without a gap for a whole lease:
    after a laptop slept, or the database was away, everyone looks dead for a moment.
    """

    def __init__(
        self,
        *,
        lease_s: float,
        continuous_s: Callable[[], float],
        on_dead: Callable[[Sequence[str]], None],
        on_rescued: Callable[[Rescue], None] | None = None,
    ) -> None:
        self.lease_s = lease_s
        self.continuous_s = continuous_s
        self.on_dead = on_dead
        self.on_rescued = on_rescued

    def run(self, session: Session) -> int:
        """Returns how many jobs went back."""
        if self.continuous_s() < self.lease_s:
            return 0
        rescue = session.rescue(self.lease_s)
        if rescue.workers:
            if self.on_rescued is not None:
                self.on_rescued(rescue)
            logger.warning(
                "workers %s were silent for over %.0f s: %d jobs returned, %d quarantined, %d cancelled",
                list(rescue.workers),
                self.lease_s,
                rescue.returned,
                len(rescue.quarantined),
                rescue.cancelled,
            )
        if rescue.quarantined:
            self.on_dead(rescue.quarantined)
        return rescue.returned
