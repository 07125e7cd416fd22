"""Lists of jobs that people keep under a name."""

from datetime import datetime

from pydantic import BaseModel, Field

from control import saved_views as verbs
from dashboard.api.models import Asks, Input, Name
from dashboard.api.router import Routes
from dashboard.security import By
from dashboard.services import Opened
from ledger import saved_views as kept

router = Routes(tags=["views"])


class SavedView(BaseModel):
    owner: str
    name: str
    query: str = Field(description="Of the address of a list of jobs.", examples=["state=failed&queue=billing"])
    changed_at: datetime

    @classmethod
    def of(cls, view: kept.SavedView) -> "SavedView":
        return cls(**vars(view))


class Wanted(Input):
    query: str = Field(
        max_length=4_000,
        description="Of the address of a list of jobs: q, state, queue, actor, since.",
        examples=["state=failed&queue=billing"],
    )


class RemovedView(BaseModel):
    name: str


@router.get("/views")
def list_views(opened: Opened, asks: Asks) -> list[SavedView]:
    """List the views that whoever asks keeps."""
    return [SavedView.of(view) for view in opened.queries.saved_views(asks.name)]


@router.put("/views/{name}")
def save_view(opened: Opened, by: By, name: Name, given: Wanted) -> SavedView:
    """Keep a list of jobs under a name.  Idempotent."""
    return SavedView.of(verbs.save(opened.control, name, given.query, by=by))


@router.delete("/views/{name}")
def remove_view(opened: Opened, by: By, name: Name) -> RemovedView:
    """Forget a view."""
    verbs.remove(opened.control, name, by=by)
    return RemovedView(name=name)
