"""POST /jobs and the mutation: a message of somebody who was identified, checked as by ``send()``."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any

from broker import catalogue, deeds
from control.who import Who
from dashboard.services import Services
from errors import NotFound
from ledger.scope import Scope
from ledger.views import JobRow
from middleware.unique import Duplicate
from settings import PRODUCER


def acting(opened: Services, by: Who) -> AbstractContextManager[None]:
    """Within it, what is sent is sent by them, whatever door they came by: ``allowed_producers`` have to name them.

    A name that no producer may have, such as an address of mail, is written with dashes and its hash: nobody else has
    that, and whoever is to be allowed is allowed by it.
    """
    name = by.name
    if not PRODUCER.fullmatch(name):
        name = f"{re.sub('[^A-Za-z0-9._-]', '-', name)}.{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return opened.broker.sent_by(name)


def send(
    opened: Services,
    by: Who,
    actor: str,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    queue: str | None = None,
    priority: int | None = None,
    delay_ms: int | None = None,
    eta: datetime | None = None,
    unique: Mapping[str, Any] | bool = True,
) -> tuple[JobRow, bool]:
    """The job, and whether it was there already.  ``by`` is the producer that ``allowed_producers`` have to name.

    Raises ``Refusal``, ``NotFound``, ``LedgerUnavailable``, and ``Denied`` for a queue that is not theirs; nothing was
    recorded.
    """
    options: dict[str, Any] = {} if priority is None else {"priority": priority}
    if unique is not True:
        options["unique"] = unique or None
    message = catalogue.message(
        opened.broker, actor, args, kwargs or {}, queue=queue, scope=Scope(by.queues), **options
    )
    if eta is not None:
        delay_ms = max(0, round((eta - opened.queries.database_time()).total_seconds() * 1000))
    with acting(opened, by):
        sent = deeds.enqueue(opened.broker, opened.control, message, delay=delay_ms, by=by)
    job = opened.queries.line(sent.job_id)
    if job is None:
        raise NotFound(f"the job that holds the key of {actor!r} is not in the ledger any more; send it again")
    return job, isinstance(sent, Duplicate)
