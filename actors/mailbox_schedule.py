"""The schedule of a mailbox: what came is looked for every five minutes."""

from contextlib import suppress
from typing import cast

import dramatiq

from actors import mailboxes
from actors.database import database
from actors.per_process import per_process
from broker import Broker
from control import Control
from control.schedules import put, remove
from control.who import By
from errors import ScheduleNotFound
from ledger.schedules import Schedule
from settings import load

#: In whose name a job does it.
BY = "email-sync"


def schedule_of(account: str) -> Schedule:
    """Mailboxes are looked at within a minute of one another: not all of them at the same moment."""
    return Schedule(
        f"mailbox:{account}",
        actor="sync_gmail_incremental",
        when="every 5m",
        args=(account,),
        jitter_s=60.0,
        missed="latest",
        overlap="skip",
    )


def start(account: str, *, by: By = BY) -> None:
    """Look regularly.  Idempotent."""
    put(control(), [schedule_of(account)], judge=cast(Broker, dramatiq.get_broker()), by=by)


def stop(account: str, *, by: By = BY) -> None:
    """Look no more, unless it was connected again meanwhile.  Idempotent."""
    with suppress(ScheduleNotFound):
        remove(control(), schedule_of(account).key, by=by)
    with database().write() as connection:
        again = mailboxes.owner(connection, account) is not None
    if again:
        start(account, by=by)


@per_process
def control() -> Control:
    """This process's way to the ledger."""
    settings = load()
    return Control(settings.database_url, "rabbitmq" if settings.broker_url else "embedded")
