"""RabbitMQ lost its messages: every waiting job gets a new one."""

from control.transaction import Control
from control.who import By
from ledger.ledger import Session


def rebuild(control: Control, session: Session, *, queue: str | None = None, by: By) -> int:
    """Give waiting jobs without an unsent ticket a new one, for the relay to publish; returns how many.

    Safe at any time: the messages there still are become stale and are dropped.
    """
    count = session.resend(queue=queue)
    control.run(lambda tx: tx.note(None, "rebuilt", {"queue": queue, "jobs": count}), by=by)
    return count
