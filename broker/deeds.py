"""What a person sends: its job, and who sent it in the audit trail, are one transaction."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeVar

from broker.ticks import message_of
from broker.transactional import block, transactional
from control.transaction import Control, Transaction
from control.who import By
from ledger.audit import Deed
from ledger.lookup import newest_of_message
from ledger.schedules import Schedule
from middleware.unique import Duplicate

if TYPE_CHECKING:
    from dramatiq.message import Message

    from broker.broker import Broker
    from middleware.handles import Sent

T = TypeVar("T")


def sending(broker: "Broker", control: Control, verb: Callable[[Transaction], T], *, by: By) -> T:
    """As ``control.run``, and what ``verb`` sends is recorded in its transaction; it travels once that has committed.

    Part of a larger transaction that is sent from, it is sent with that.
    """
    if block() is None:
        broker.room.ask()  # before there is a transaction: it may hold a SQLite file's lock
    with ExitStack() as sent:

        def once(tx: Transaction) -> T:
            sent.close()  # of a try that lost a race
            outer = block()
            if outer is None or not outer.is_over(tx.connection):
                sent.enter_context(transactional(tx.connection))
            return verb(tx)

        return control.run(once, by=by)


def enqueue(
    broker: "Broker", control: Control, message: "Message[Any]", *, delay: int | None = None, by: By
) -> "Sent[Any]":
    """As ``broker.enqueue``, and in the audit trail; a :class:`Duplicate` changes nothing, and is not.

    Raises ``Refusal``, ``LedgerUnavailable``.
    """

    def verb(tx: Transaction) -> "Sent[Any]":
        sent = broker.enqueue(message, delay=delay)
        if not isinstance(sent, Duplicate):
            what = {"jobs": [sent.job_id], "actor": sent.actor_name, "queue": sent.queue_name}
            tx.deeds.append(Deed("enqueue_job", what))
        return sent

    return sending(broker, control, verb, by=by)


def run_schedule(broker: "Broker", control: Control, schedule: Schedule, *, by: By) -> str | None:
    """Send a schedule's message besides its ticks; the id of its job, or None when ``unique`` refused it."""
    message = message_of(broker, schedule)

    def verb(tx: Transaction) -> str | None:
        if not broker.enqueue_tick(message, (schedule.key, tx.now)):
            return None
        id = newest_of_message(tx.connection, message.message_id)
        tx.note(None, "schedule run", {"schedule": schedule.key, "job": id})
        return id

    return sending(broker, control, verb, by=by)
