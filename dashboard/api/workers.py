"""Worker processes."""

from typing import Annotated

from fastapi import Path, Query

from dashboard.api.router import Routes
from dashboard.services import Opened
from errors import NotFound
from ledger.views import WorkerView

router = Routes(tags=["workers"])


@router.get("/workers")
def list_workers(
    opened: Opened, everyone: Annotated[bool, Query(description="Also those that stopped or died.")] = False
) -> list[WorkerView]:
    """List the worker processes: how many jobs each runs, and when it was last heard of."""
    return opened.queries.workers(everyone=everyone)


@router.get("/workers/{id}")
def get_worker(opened: Opened, id: Annotated[int, Path(ge=1, le=2**63 - 1)]) -> WorkerView:
    """Show one worker process."""
    for worker in opened.queries.workers(everyone=True):
        if worker.id == id:
            return worker
    raise NotFound(f"there is no worker {id}; the list of workers has those there are")
