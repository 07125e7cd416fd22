"""Jobs and workers for tests of the ledger."""

import json
import os
from typing import Any

from uuid_utils import uuid7

from ledger.ledger import Session
from ledger.records import Claim, Finish, NewJob, Ticket, Verdict
from ledger.states import Outcome


def new_job(**fields: Any) -> NewJob:
    """A job due now; any field may be given."""
    id = str(uuid7())
    message = {"queue_name": "letters", "actor_name": "post", "args": [1], "kwargs": {}, "message_id": id}
    defaults: dict[str, Any] = {
        "id": id,
        "message_id": f"message-{id}",
        "queue": "letters",
        "actor": "post",
        "priority": 3,
        "body": json.dumps(message).encode(),
        "producer": "host:1",
    }
    return NewJob(**(defaults | fields))


def join(session: Session, *queues: str) -> int:
    return session.join(host="host", pid=os.getpid(), queues=list(queues) or ["letters"], threads=4, version="1")


def claim(session: Session, worker: int, job: NewJob, *, ticket: int = 1) -> Claim:
    """The job in the worker's hands, as after its message arrived."""
    [claim] = session.claim(worker, [Ticket(job.id, ticket, job.queue)])
    assert claim.verdict is Verdict.RUN, claim
    return claim


def finish(session: Session, worker: int, claim: Claim, outcome: Outcome = Outcome.COMPLETED, **fields: Any) -> None:
    [finished] = session.finish(worker, [Finish(claim.id, claim.epoch, outcome, **fields)])
    assert finished.accepted


def run(session: Session, worker: int, job: NewJob, outcome: Outcome = Outcome.COMPLETED, **fields: Any) -> None:
    """Enqueue, claim and finish."""
    session.enqueue([job])
    finish(session, worker, claim(session, worker, job), outcome, **fields)
