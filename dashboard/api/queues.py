"""Queues: how long they are; pause and resume."""

from pydantic import BaseModel

from broker import catalogue
from control import queues as verbs
from dashboard.api.models import Name
from dashboard.api.router import Routes
from dashboard.security import By
from dashboard.services import Opened
from ledger.views import QueueView

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


@router.get("/queues/{queue}")
def get_queue(opened: Opened, queue: Name) -> QueueView:
    """Show one queue."""
    return catalogue.queue(opened.broker, opened.queries, queue)


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
