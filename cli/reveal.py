"""One job, with what is encrypted in clear, as far as there are keys."""

import dataclasses
from contextlib import suppress

from dramatiq.errors import DecodeError
from dramatiq.message import Message

from cli.given import operator
from cli.opened import control
from errors import Refusal
from ledger.sealed import SEALED
from ledger.views import JobView


def revealed(ref: str) -> JobView | None:
    """None when there is no such job.  Its journal has a line of it before anything is shown."""
    from actors import broker
    from control.keys import reveal

    with control() as ledger:
        reveal(ledger, broker.queries, ref, by=operator())
    job = broker.queries.job(ref, ring=broker.ring)
    broker.close()
    if job is None:
        return None
    with suppress(DecodeError, Refusal):  # what cannot be opened stays as it is, and says which key it is under
        message = Message.decode(job.body)
        if SEALED in message.options:
            message, _ = broker.encryption.opened(message)
            return dataclasses.replace(job, body=message.encode())
    return job
