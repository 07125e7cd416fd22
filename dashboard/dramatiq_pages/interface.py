"""What dramatiq-dashboard asks of Redis, answered from the ledger.

Its queues have three lists: ``q`` (waiting and running jobs), ``q.DQ`` (delayed) and ``q.XQ`` (dead letters).  A job's
"Redis id" is its id here.  Counts are of jobs, which the ledger knows; RabbitMQ's own are beside them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from dramatiq.common import q_name
from dramatiq_dashboard.interface import Queue, Worker

from broker import catalogue
from dashboard.security import Principal
from dashboard.services import Services
from ledger.redact import redacted, redacted_text
from ledger.search import Filter, Found, cursor_of
from ledger.states import State
from ledger.views import JobView, QueueView

#: Jobs on a page.
PAGE = 50
#: What of a job is for those only who may see what jobs carry.
CARRIED = "get_job_payload"
HIDDEN = "[not shown to your role]"

STATES: Mapping[str, tuple[State, ...]] = {
    "": (State.WAITING, State.ACTIVE),
    ".DQ": (State.DELAYED,),
    ".XQ": (State.FAILED,),
}


@dataclass(frozen=True)
class Message:
    """The message of a job, as far as its templates look."""

    message_id: str


@dataclass(frozen=True)
class Job:
    """A job, with what its templates print."""

    message_id: str
    message: Message
    queue_name: str
    actor_name: str
    eta: datetime
    timestamp: datetime
    retries: int
    state: State
    call: str = ""
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.actor_name}({self.call})"


class Interface:
    """For one request, and what whoever asks may see."""

    def __init__(self, services: Services, reader: Principal) -> None:
        self.services = services
        self.queries = services.queries
        self.reader = reader

    @property
    def queues(self) -> list[Queue]:
        return [
            _queue(view)
            for view in catalogue.queues(self.services.broker, self.queries)
            if self.reader.scope.admits(view.name)
        ]

    @property
    def workers(self) -> list[Worker]:
        return [Worker(f"{x.host}:{x.pid}", x.heartbeat_at, x.active) for x in self.queries.workers()]

    def get_queue(self, name: str) -> Queue | None:
        return next((queue for queue in self.queues if queue.name == name), None)

    def get_jobs(self, physical: str, cursor: int = 0) -> tuple[int | None, list[Job]]:
        """Newest first; the cursor is the id of the last job of the page before, as a number."""
        name = q_name(physical)
        wanted = Filter(states=STATES[physical.removeprefix(name)], queues=(name,), scopes=self.reader.queues)
        after = cursor_of(str(UUID(int=cursor))) if cursor else None
        page = self.queries.search(wanted, limit=PAGE, after=after)
        return (UUID(page.jobs[-1].id).int if page.after else None), [self._row(row) for row in page.jobs]

    def get_job(self, physical: str, id: str) -> Job | None:
        """The job with this id, if it is of this queue: in whichever list it is by now."""
        view = self.view(physical, id)
        return None if view is None else self._job(view)

    def view(self, physical: str, id: str) -> JobView | None:
        """The same, as the ledger has it."""
        view = self.queries.job(id)
        fits = view is not None and view.id == id and view.queue == q_name(physical)
        return view if fits and self.reader.scope.admits(q_name(physical)) else None

    def _row(self, row: Found) -> Job:
        return Job(
            message_id=row.id,
            message=Message(row.message_id),
            queue_name=row.queue,
            actor_name=row.actor,
            eta=row.run_at,
            timestamp=row.created_at,
            retries=max(0, row.attempts_spent - 1),
            state=row.state,
            call=row.args if self.reader.may(CARRIED) else HIDDEN,
        )

    def _job(self, view: JobView) -> Job:
        about: dict[str, Any] = {"state": view.state, "reason": view.reason, "crashes": view.crashes or None}
        args: Sequence[Any] = (HIDDEN,)
        kwargs: Mapping[str, Any] = {}
        if self.reader.may(CARRIED):
            message = view.message or {"args": [f"{len(view.body)} bytes that are no message"]}
            args, kwargs = redacted(message.get("args") or []), redacted(message.get("kwargs") or {})
            about["options"] = redacted(message.get("options") or {}) or None
            last = next((attempt for attempt in reversed(view.attempts) if attempt.error_type), None)
            if last is not None:
                about["error"] = redacted_text(f"{last.error_type}: {last.error_message}")
                about["traceback"] = redacted_text(last.traceback or "") or None
        return Job(
            message_id=view.id,
            message=Message(view.message_id),
            queue_name=view.queue,
            actor_name=view.actor,
            eta=view.run_at,
            timestamp=view.created_at,
            retries=max(0, view.attempts_spent - 1),
            state=view.state,
            args=args if isinstance(args, list | tuple) else (args,),
            kwargs=kwargs if isinstance(kwargs, dict) else {},
            options={name: value for name, value in about.items() if value is not None},
        )


def _queue(view: QueueView) -> Queue:
    jobs, delayed, dead = (sum(view.counts.get(state, 0) for state in states) for states in STATES.values())
    return Queue(view.name, jobs, delayed, dead)
