"""One job, with what is encrypted in clear, as far as there are keys."""

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from dramatiq.errors import DecodeError
from dramatiq.message import Message

from control.keys import reveal
from control.transaction import Control
from control.who import By
from errors import Refusal
from ledger.queries import Queries
from ledger.sealed import SEALED
from ledger.views import JobView

if TYPE_CHECKING:
    from broker.broker import Broker


def revealed(broker: "Broker", control: Control, queries: Queries, ref: str, *, by: By) -> JobView | None:
    """None when there is no such job.  Its journal has a line of it before anything is shown."""
    reveal(control, queries, ref, by=by)
    job = queries.job(ref, ring=broker.ring)
    if job is None:
        return None
    with suppress(DecodeError, Refusal):  # what cannot be opened stays as it is, and says which key it is under
        message = Message.decode(job.body)
        if SEALED in message.options:
            message, _ = broker.encryption.opened(message)
            return replace(job, body=message.encode())
    return job
