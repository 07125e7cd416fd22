"""Queues: how they do; pause, drain, clean, change."""

from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, Field

from broker import catalogue, knobs
from broker.knobs import KnobView
from control import queues as verbs
from control.road import QueueRoad
from dashboard.api.models import Asks, Input, Name
from dashboard.api.router import Routes
from dashboard.security import By
from dashboard.services import Opened
from errors import BadInput
from ledger.orders import Knob
from ledger.queue_stats import QueueStats
from ledger.states import State
from rabbitmq.topology import DEAD_LETTERS

router = Routes(tags=["queues"])


@dataclass(frozen=True)
class QueueDetail(QueueStats):
    """One queue: its jobs, and its messages in RabbitMQ."""

    knobs: list[KnobView] = field(default_factory=list)  #: what it goes by
    road: QueueRoad | None = None  #: null: the ledger carries the jobs itself
    dead_letters: QueueRoad | None = None  #: the queue that shows them in RabbitMQ


class Resumed(BaseModel):
    queue: str
    held_back: int


class Paused(BaseModel):
    queue: str
    paused: bool


class Draining(BaseModel):
    queue: str
    draining: bool


class Cleaning(Input):
    """Which of its finished jobs."""

    state: Literal["completed", "failed", "cancelled"] = "completed"
    older_than_s: float = Field(default=86_400.0, ge=0, le=3.2e9, description="That ended longer ago.")
    limit: int | None = Field(default=None, ge=1, le=1_000_000, description="At most so many, the oldest.")


class Some(Input):
    limit: int | None = Field(default=None, ge=1, le=1_000_000, description="At most so many, the oldest; else all.")


class Many(BaseModel):
    queue: str
    jobs: int


class Knobs(Input):
    """What is to be other than in the code; what is not given stays."""

    concurrency: int | None = Field(default=None, ge=1, description="Jobs at once in one process.")
    rate: Name | None = Field(default=None, description="Starts over all workers.", examples=["10/s"])
    max_running: int | None = Field(default=None, ge=1, description="Jobs at once over all workers.")
    max_waiting: int | None = Field(default=None, ge=1, description="Beyond so many a send is refused.")


class Restored(BaseModel):
    queue: str
    knobs: list[Knob] = Field(description="Those that go by the code again.")


@router.get("/queues")
def list_queues(opened: Opened) -> list[QueueStats]:
    """List the queues: how much there is of what, how long things take, and when they will be empty."""
    return verbs.stats(opened.queries, sorted(opened.broker.get_declared_queues()))


@router.get("/queues/{queue}")
def get_queue(opened: Opened, asks: Asks, queue: Name) -> QueueDetail:
    """Show one queue; what is not known of it in RabbitMQ is null, and never 0."""
    asks.scope.demand(queue)
    catalogue.queue(opened.broker, opened.queries, queue)
    [one] = verbs.stats(opened.queries, only=[queue])
    goes_by = knobs.of_queue(opened.broker, opened.queries, queue)
    if opened.road is None:
        return QueueDetail(**vars(one), knobs=goes_by)
    road, dead = opened.road.queues([queue, queue + DEAD_LETTERS])
    return QueueDetail(**vars(one), knobs=goes_by, road=road, dead_letters=dead)


@router.post("/queues/{queue}/pause")
def pause_queue(opened: Opened, by: By, queue: Name) -> Paused:
    """Start nothing new of this queue; what runs, finishes."""
    catalogue.queue(opened.broker, opened.queries, queue)
    verbs.pause(opened.control, queue, by=by)
    return Paused(queue=queue, paused=True)


@router.post("/queues/{queue}/resume")
def resume_queue(opened: Opened, by: By, queue: Name) -> Resumed:
    """Let this queue go on."""
    catalogue.queue(opened.broker, opened.queries, queue)
    return Resumed(queue=queue, held_back=verbs.resume(opened.control, queue, by=by))


@router.post("/queues/{queue}/drain")
def drain_queue(opened: Opened, by: By, queue: Name) -> Draining:
    """Let no new jobs in; everything that is there runs.  Resuming ends it."""
    catalogue.queue(opened.broker, opened.queries, queue)
    verbs.drain(opened.control, queue, by=by)
    return Draining(queue=queue, draining=True)


@router.post("/queues/{queue}/clean")
def clean_queue(opened: Opened, by: By, queue: Name, given: Cleaning) -> Many:
    """Remove finished jobs of a queue, with all that belongs to them but their journal."""
    catalogue.queue(opened.broker, opened.queries, queue)
    count = verbs.clean(
        opened.control, queue, State(given.state), older_than_s=given.older_than_s, limit=given.limit, by=by
    )
    return Many(queue=queue, jobs=count)


@router.post("/queues/{queue}/retry-failed")
def retry_queue(opened: Opened, by: By, queue: Name, given: Some) -> Many:
    """Send the dead letters of a queue round again, the oldest first."""
    catalogue.queue(opened.broker, opened.queries, queue)
    return Many(queue=queue, jobs=verbs.retry_failed(opened.control, queue, limit=given.limit, by=by))


@router.patch("/queues/{queue}")
def change_queue(opened: Opened, by: By, queue: Name, given: Knobs) -> Knobs:
    """Change how many run at once, how fast jobs start, and how many may wait, in every process from now on."""
    catalogue.queue(opened.broker, opened.queries, queue)
    wanted = {Knob(name): value for name, value in given if value is not None}
    if not wanted:
        raise BadInput(f"nothing to change was given; there is {', '.join(Knob)}")
    verbs.change(opened.control, queue, wanted, by=by)
    return given


@router.post("/queues/{queue}/restore")
def restore_queue(opened: Opened, by: By, queue: Name) -> Restored:
    """Go by the code again, in everything that was changed."""
    catalogue.queue(opened.broker, opened.queries, queue)
    return Restored(queue=queue, knobs=verbs.restore(opened.control, queue, by=by))
