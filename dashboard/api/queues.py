"""Queues: how long they are; pause and resume."""

from dataclasses import dataclass

from pydantic import BaseModel

from broker import catalogue
from control import queues as verbs
from control.road import QueueRoad
from dashboard.api.models import Name
from dashboard.api.router import Routes
from dashboard.security import By
from dashboard.services import Opened
from ledger.views import QueueView
from rabbitmq.topology import DEAD_LETTERS

router = Routes(tags=["queues"])


class Resumed(BaseModel):
    queue: str
    held_back: int


class Paused(BaseModel):
    queue: str
    paused: bool


@router.get("/queues")
def list_queues(opened: Opened) -> list[QueueView]:
    """List the queues and their jobs by state; those that are in the history only are not counted."""
    return catalogue.queues(opened.broker, opened.queries)


@dataclass(frozen=True)
class QueueDetail(QueueView):
    """One queue: its jobs, and its messages in RabbitMQ."""

    road: QueueRoad | None = None  #: null: the ledger carries the jobs itself
    dead_letters: QueueRoad | None = None  #: the queue that shows them in RabbitMQ


@router.get("/queues/{queue}")
def get_queue(opened: Opened, queue: Name) -> QueueDetail:
    """Show one queue; what is not known of it in RabbitMQ is null, and never 0."""
    view = catalogue.queue(opened.broker, opened.queries, queue)
    if opened.road is None:
        return QueueDetail(**vars(view))
    road, dead = opened.road.queues([queue, queue + DEAD_LETTERS])
    return QueueDetail(**vars(view), road=road, dead_letters=dead)


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
