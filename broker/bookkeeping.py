"""What may take long, on a thread of its own: none of these duties makes a job late."""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ledger import Road
from ledger.ledger import Ledger, Session
from middleware.maintenance import Duty, Maintenance
from settings import Settings

if TYPE_CHECKING:
    from control import Control
    from ledger.bookkeeping import Bookkeeping

#: How often, in seconds.
OPERATE_S, GROUP_S, INDEX_S, TALLY_S, LOOK_BACK_S = 0.5, 1.0, 1.0, 10.0, 60.0


def bookkeeping(ledger: Ledger, settings: Settings, more: Sequence[Duty] = ()) -> Maintenance:
    """For those who look at jobs, bulk operations, and ``more``; not yet started.

    What it needs is imported when it is first done: only one process of all does it.
    """
    road: Road = "rabbitmq" if settings.broker_url else "embedded"

    @functools.cache
    def books() -> "Bookkeeping":
        from ledger.bookkeeping import Bookkeeping

        return Bookkeeping(settings.database_url, keep_days=settings.statistics_days)

    @functools.cache
    def control() -> "Control":
        from control import Control

        return Control(settings.database_url, road)

    def operate(session: Session) -> None:
        from control.operations import go_on

        go_on(control())

    def close() -> None:
        if books.cache_info().currsize:
            books().close()
        if control.cache_info().currsize:
            control().close()

    duties = [
        *more,
        Duty("bulk operations", OPERATE_S, operate),
        Duty("failures", GROUP_S, lambda session: books().group()),
        Duty("statistics", TALLY_S, lambda session: books().tally()),
    ]
    if settings.search_words:
        duties.append(Duty("search", INDEX_S, lambda session: books().index()))
        duties.append(Duty("search, looking back", LOOK_BACK_S, lambda session: books().look_back()))
    return Maintenance(ledger, duties, name="hareline-bookkeeping", on_stop=close)
