"""Worker processes: look; let them be quiet, go on, end."""

from typing import Annotated

from fastapi import Path, Query
from pydantic import BaseModel, Field

from control import workers as verbs
from dashboard.api.router import Routes
from dashboard.security import By
from dashboard.services import Opened
from ledger.orders import Wish
from ledger.views import WorkerView

router = Routes(tags=["workers"])

Number = Annotated[int, Path(ge=1, le=2**31 - 1, description="Of the worker.")]


class Asked(BaseModel):
    worker: int
    asked: Wish
    changed: bool = Field(description="false: it was asked for that before.")


@router.get("/workers")
def list_workers(
    opened: Opened, everyone: Annotated[bool, Query(description="Also those that stopped or died.")] = False
) -> list[WorkerView]:
    """List the worker processes: what each runs, and when it was last heard of."""
    return verbs.listing(opened.queries, everyone=everyone)


@router.get("/workers/{id}")
def get_worker(opened: Opened, id: Number) -> WorkerView:
    """Show one worker process."""
    return verbs.one(opened.queries, id)


@router.post("/workers/{id}/quiet")
def quiet_worker(opened: Opened, by: By, id: Number) -> Asked:
    """Let a worker start nothing more, finish what it runs, and stay."""
    return Asked(worker=id, asked=Wish.QUIET, changed=bool(verbs.quiet(opened.control, id, by=by)))


@router.post("/workers/{id}/resume")
def resume_worker(opened: Opened, by: By, id: Number) -> Asked:
    """Let a quiet worker take jobs again."""
    return Asked(worker=id, asked=Wish.RUN, changed=bool(verbs.resume(opened.control, id, by=by)))


@router.post("/workers/{id}/stop")
def stop_worker(opened: Opened, by: By, id: Number) -> Asked:
    """Let a worker end in good order; `ends` of it says what that does."""
    return Asked(worker=id, asked=Wish.STOP, changed=bool(verbs.stop(opened.control, id, by=by)))
