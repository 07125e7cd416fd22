"""GET /api/admin/queues, in the shape that dashboards of BullMQ queues have it."""

from pydantic import BaseModel, Field

from broker import catalogue
from dashboard.api.router import Routes
from dashboard.services import Opened
from ledger.states import State

router = Routes(tags=["queues"])


class Stats(BaseModel):
    """The jobs of a queue that are at hand; older ones are in the history."""

    waiting: int
    active: int
    completed: int
    failed: int
    delayed: int


class Queues(BaseModel):
    queues: dict[str, Stats] = Field(description="By the queue's name.")


@router.get("/admin/queues")
def get_queue_stats(opened: Opened) -> Queues:
    """Count the jobs of every queue."""
    return Queues(
        queues={
            view.name: Stats(**{name: view.counts.get(State(name), 0) for name in Stats.model_fields})
            for view in catalogue.queues(opened.broker, opened.queries)
        }
    )
