"""What may take long, on a thread of its own: none of these duties makes a job late."""

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from broker.leisure import Leisure
from ledger import Road
from ledger.ledger import Ledger, Session
from middleware.maintenance import Duty, Maintenance
from settings import Settings

if TYPE_CHECKING:
    from control import Control
    from ledger.bookkeeping import Bookkeeping

#: How often, in seconds.
OPERATE_S, GROUP_S, INDEX_S, TALLY_S, LOOK_BACK_S = 0.5, 1.0, 1.0, 10.0, 60.0
#: For so long, in seconds, a busy process begins none of it after its start; and puts off what jobs are found by.
START_S, PUT_OFF_S = 10.0, 60.0


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

    def operate() -> None:
        from control.operations import go_on

        go_on(control())

    start, leisure = Leisure(START_S), Leisure(PUT_OFF_S)
    settled = False

    def in_time(work: Callable[[], object]) -> Callable[[Session], None]:
        """A process that starts before a backlog runs jobs before it imports what only lookers need."""

        def turn(session: Session) -> None:
            nonlocal settled
            settled = settled or start.allows()
            if settled:
                work()

        return turn

    def index() -> None:
        from ledger.bookkeeping import BATCH

        if leisure.allows() and books().index() < BATCH:
            leisure.caught_up()

    def close() -> None:
        if books.cache_info().currsize:
            books().close()
        if control.cache_info().currsize:
            control().close()

    duties = [
        *more,
        Duty("bulk operations", OPERATE_S, in_time(operate)),
        Duty("failures", GROUP_S, in_time(lambda: books().group())),
        Duty("statistics", TALLY_S, in_time(lambda: books().tally())),
    ]
    if settings.search_words:
        duties.append(Duty("search", INDEX_S, in_time(index)))
        duties.append(Duty("search, looking back", LOOK_BACK_S, in_time(lambda: books().look_back())))
    return Maintenance(ledger, duties, name="hareline-bookkeeping", on_stop=close)
