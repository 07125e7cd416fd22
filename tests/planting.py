"""One text in every place of a ledger from which a page, the API or a terminal shows it."""

import json
from typing import Any

from broker import Broker
from control import Control, operations
from control.limits import change
from control.queues import pause
from control.schedules import put
from ledger.ledger import Session
from ledger.operations import Deed
from ledger.schedules import Schedule
from ledger.search import Filter
from ledger.states import Outcome, Reason, State
from tests.ledgers import claim, new_job, run


def plant(session: Session, control: Control, broker: Broker, text: str) -> list[str]:
    """Something of everything that has this text in it; the ids of three jobs: done, dead, running.

    Parameters:
      broker: has an actor ``post``.
    """
    worker = session.join(host=text[:60], pid=7, queues=["letters", text], threads=2, version=text[:60])
    done, dead, running = (new_job(queue=text, actor=text, body=_message(text)) for _ in range(3))
    run(session, worker, done, result=json.dumps(text).encode(), result_ttl_ms=60_000)
    run(
        *(session, worker, dead, Outcome.FAILED),
        reason=Reason.REFUSED,
        error_type=text,
        error_message=text,
        traceback=f"{text}\n{text}",
    )
    session.enqueue([running])
    claim(session, worker, running)
    session.progress([(running.id, 1, 4, text)])
    pause(control, text, by=text)
    change(control, text, 2, 1, 1, by=text)
    key = "s" + "".join(letter for letter in text if letter.isprintable())
    put(control, [Schedule(key, "post", "every 1h", args=(text,))], judge=broker, by=text)
    begun = operations.start(
        control, broker.queries, Deed.RETRY, Filter(states=(State.FAILED,), queues=(text,)), by=text
    )
    operations.cancel(control, begun.id, by=text)
    return [done.id, dead.id, running.id]


def _message(text: str) -> bytes:
    fields: dict[str, Any] = {"queue_name": text, "actor_name": text, "args": [text], "kwargs": {text: text}}
    return json.dumps(fields | {"options": {text: text}, "message_id": text, "message_timestamp": 1}).encode()
