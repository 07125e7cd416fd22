"""The schema of /graphql, in the shape of Bolt Foundry's worker-queue memo.

What is not in it is in /api/v1.  Every field asks for the same permissions as the operation that it is.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

import strawberry
from graphql import GraphQLError
from graphql.validation import MaxIntrospectionDepthRule
from strawberry.extensions import AddValidationRules, MaxAliasesLimiter, MaxTokensLimiter, QueryDepthLimiter
from strawberry.scalars import JSON
from strawberry.types import ExecutionContext

from broker import catalogue
from dashboard.api import shown
from dashboard.api.jobs import found
from dashboard.security import Principal
from dashboard.sending import send
from dashboard.services import Services
from errors import BadInput
from ledger.redact import redacted_text
from ledger.search import Filter
from ledger.states import State
from ledger.views import JobView

DEEPEST = 8
LONGEST = 2_000  # tokens
MOST_ALIASES = 30
MOST_JOBS = 100

Info = strawberry.Info["Asked", None]


@dataclass(frozen=True)
class Asked:
    """What the fields work with."""

    opened: Services
    by: Principal


@strawberry.enum(name="JobStatus")
class Status(Enum):
    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


_STATUS = {
    State.DELAYED: Status.PENDING,
    State.WAITING: Status.PENDING,
    State.ACTIVE: Status.PROCESSING,
    State.COMPLETED: Status.COMPLETED,
    State.FAILED: Status.FAILED,
    State.CANCELLED: Status.CANCELLED,
}


@strawberry.type(name="BfJob", description="A job.")
class Job:
    id: strawberry.ID
    type: str = strawberry.field(description="The name of its actor.")
    queue: str
    status: Status
    priority: int = strawberry.field(description="0 to 100, the most urgent.")
    error: str | None
    scheduled_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    attempts: int
    max_attempts: int
    next_retry_at: datetime | None
    worker_id: str | None
    view: strawberry.Private[JobView]

    @strawberry.field(description="Its arguments by name; those without one are `args`.  null: not for you.")  # type: ignore[untyped-decorator]
    def payload(self, info: Info) -> JSON | None:
        message = shown.payload(self.view)
        if message is None or not info.context.by.may("get_job_payload"):
            return None
        args = message.get("args") or []
        return JSON({**(message.get("kwargs") or {}), **({"args": args} if args else {})})

    @strawberry.field(description="What it returned, if that is kept.  null: there is none, or it is not for you.")  # type: ignore[untyped-decorator]
    def result(self, info: Info) -> JSON | None:
        if not info.context.by.may("get_job_result"):
            return None
        found: JSON | None = shown.result(info.context.opened, self.view)
        return found


@strawberry.type
class QueueStats:
    queue_name: str
    pending: int
    processing: int
    completed24h: int
    failed24h: int
    avg_processing_time: float = strawberry.field(description="Seconds, of the attempts of the last 24 hours.")


@strawberry.type
class Enqueued:
    job: Job


@strawberry.type
class Query:
    @strawberry.field(description="Every queue.")  # type: ignore[untyped-decorator]
    def queue_stats(self, info: Info) -> list[QueueStats]:
        info.context.by.demand("list_queues")
        return [QueueStats(**one) for one in stats(info.context)]

    @strawberry.field(description=f"The newest dead letters, at most {MOST_JOBS}.")  # type: ignore[untyped-decorator]
    def recent_failed_jobs(self, info: Info, limit: int = 10) -> list[Job]:
        info.context.by.demand("list_jobs")
        if not 1 <= limit <= MOST_JOBS:
            raise BadInput(f"limit is a number from 1 to {MOST_JOBS}, got {limit}")
        queries = info.context.opened.queries
        page = queries.search(Filter(states=(State.FAILED,)), limit=limit)
        found = (queries.job(row.id) for row in page.jobs)
        return [node(info.context, view) for view in found if view is not None]


@strawberry.type
class Mutation:
    @strawberry.mutation(description="Send a message to the actor that `type` names; `payload` are its arguments.")  # type: ignore[untyped-decorator]
    def enqueue(
        self,
        info: Info,
        type: str,
        payload: JSON,
        queue: str | None = None,
        priority: int | None = None,
        scheduled_at: datetime | None = None,
    ) -> Enqueued:
        info.context.by.demand("enqueue_job")
        if not isinstance(payload, dict):
            raise BadInput("payload is an object: the actor's arguments by name")
        if priority is not None and not 0 <= priority <= 100:
            raise BadInput(f"priority is a number from 0 to 100, the most urgent; got {priority}")
        if scheduled_at is not None and scheduled_at.tzinfo is None:
            raise BadInput("scheduledAt needs a time zone: 2026-07-01T09:00:00Z")
        opened = info.context.opened
        job, _ = send(
            opened,
            info.context.by.who,
            type,
            kwargs=payload,
            queue=queue,
            priority=None if priority is None else ours(priority),
            eta=scheduled_at,
        )
        return Enqueued(job=node(info.context, found(opened, job.id)))


class Schema(strawberry.Schema):
    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        """What is wrong is said in the answer, and what nobody foresaw is logged there."""


schema = Schema(
    query=Query,
    mutation=Mutation,
    extensions=[
        lambda: AddValidationRules([MaxIntrospectionDepthRule]),  # which the limit of depth leaves alone
        lambda: QueryDepthLimiter(max_depth=DEEPEST),
        lambda: MaxTokensLimiter(max_token_count=LONGEST),
        lambda: MaxAliasesLimiter(max_alias_count=MOST_ALIASES),
    ],
)


def node(asked: Asked, view: JobView) -> Job:
    """A job as the memo has it."""
    last = view.attempts[-1] if view.attempts else None
    began = view.claim.started_at if view.claim else last.started_at if last else None
    error = next((x for x in reversed(view.attempts) if x.error_type), None)
    told = ": ".join(part for part in (error.error_type, error.error_message) if part) if error else None
    retries = (view.message or {}).get("options", {}).get("max_retries")
    actor = asked.opened.broker.actors.get(view.actor)
    if retries is None and actor is not None:
        retries = actor.options.get("max_retries")
    told = redacted_text(told) if told else None
    return Job(
        id=strawberry.ID(view.id),
        type=view.actor,
        queue=view.queue,
        status=_STATUS[view.state],
        priority=theirs(view.priority),
        error=told if asked.by.may("get_job_payload") else error.error_type if error else None,
        scheduled_at=view.run_at if not view.attempts else view.created_at,
        started_at=began,
        completed_at=view.finished_at,
        attempts=view.attempts_spent,
        max_attempts=asked.opened.settings.job_attempts if retries is None else int(retries) + 1,
        next_retry_at=view.run_at if view.attempts and view.state is State.DELAYED else None,
        worker_id=view.claim.worker if view.claim else last.worker if last else None,
        view=view,
    )


def ours(priority: int) -> int:
    """Theirs, of which 100 is the most urgent and 50 the normal, as one of 1 to 5."""
    return 1 + (100 - priority) * 5 // 101


def theirs(priority: int) -> int:
    return 110 - 20 * priority


def stats(asked: Asked) -> list[dict[str, Any]]:
    """By queue, what there is now and what the last day brought."""
    lately = {one.name: one for one in asked.opened.queries.performance(by="queue", limit=1000)}
    found = []
    for view in catalogue.queues(asked.opened.broker, asked.opened.queries):
        day = lately.get(view.name)
        found.append(
            {
                "queue_name": view.name,
                "pending": view.counts.get(State.WAITING, 0) + view.counts.get(State.DELAYED, 0),
                "processing": view.counts.get(State.ACTIVE, 0),
                "completed24h": day.completed if day else 0,
                "failed24h": day.failed if day else 0,
                "avg_processing_time": day.mean_s if day else 0.0,
            }
        )
    return found
