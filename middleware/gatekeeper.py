"""Wakes blocked jobs where the one who freed their slot could not do it himself."""

import logging
from collections.abc import Callable, Sequence

from ledger.ledger import Session
from ledger.records import Due

logger = logging.getLogger(__name__)

#: Gates in one transaction, and in one look.
BATCH = 500
#: How often, in seconds, marked gates are tended; and how often a stretch of all of them is looked over.
TEND_S = 0.1
SURVEY_S = 1.0


class Gatekeeper:
    """The slower of two ways to a slot: a finish lets in the next in its own transaction.

    What frees a slot without one (a rescue, an operator's cancel, a changed limit) marks its gate instead.  And should
    a gate not be marked (somebody held its row just then), or whoever was woken not come (its queue is paused, it was
    cancelled on the way), the survey finds that its room and its waiting jobs disagree.

    Parameters:
      send: brings the jobs that were woken to the workers.
    """

    def __init__(self, send: Callable[[Sequence[Due]], None]) -> None:
        self.send = send
        self._after = ""

    def tend(self, session: Session) -> int:
        """Returns how many were woken."""
        due = session.tend(BATCH)
        if due:
            self.send(due)
        return len(due)

    def survey(self, session: Session) -> None:
        self._after = session.survey(self._after, BATCH)
