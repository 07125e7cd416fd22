"""What handles of jobs ask of the ledger."""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from ledger import Road
from ledger.sealing import RESULT, KeyRing, Seal
from ledger.views import JobStatus, ResultView

if TYPE_CHECKING:
    from control import Control
    from ledger.queries import Queries


class LedgerJobs:
    """Thread-safe; fork-safe; no I/O until the first question.

    Parameters:
      by: who asks, for the journal.
    """

    def __init__(
        self, url: str, road: Road, queries: "Callable[[], Queries]", ring: KeyRing, by: Callable[[], str]
    ) -> None:
        self._url = url
        self._road = road
        self._queries = queries
        self._ring = ring
        self._by = by

    def status(self, id: str) -> JobStatus | None:
        return self._queries().status(id, ring=self._ring)

    def result_of(self, id: str) -> ResultView:
        view = self._queries().result_of(id)
        if view.body is None:
            return view
        return replace(view, body=Seal(self._ring, id).open(RESULT, view.body.decode()).encode())

    def cancel(self, id: str) -> Literal["cancelled", "requested"]:
        from control.jobs import cancel

        return cancel(self._control, id, by=self._by())

    def close(self) -> None:
        """Close idle connections; a later question opens others."""
        if "_control" in vars(self):
            self._control.close()

    @cached_property
    def _control(self) -> "Control":
        from control import Control  # with it comes SQLAlchemy, which a producer need not wait for

        return Control(self._url, self._road)
