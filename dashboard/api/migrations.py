"""Migrations from synchronous code to jobs."""

from typing import Annotated, Literal

from fastapi import Query
from pydantic import BaseModel, Field

from control import migration as verbs
from dashboard.api.models import Done, Input, Name
from dashboard.api.router import Routes
from dashboard.security import By
from dashboard.services import Opened
from ledger.dual import DifferenceView, DualWriteView, Mode, Standing

router = Routes(tags=["migrations"])


class NewShare(Input):
    share: float = Field(
        ge=0, le=1, description="Of the calls that become jobs as well, in mode dual.", examples=[0.25]
    )


class NewMode(Input):
    mode: Literal["sync", "dual", "async"] = Field(
        description="sync: no jobs. dual: the synchronous code, and jobs to be compared. async: jobs alone."
    )


class Setting(BaseModel):
    """How a migration is set now."""

    name: str
    mode: Mode
    share: float


@router.get("/migrations")
def list_migrations(opened: Opened) -> list[DualWriteView]:
    """List the migrations: how they are set, and how results compare."""
    return verbs.report(opened.queries)


@router.get("/migrations/{migration}/differences")
def list_migration_differences(
    opened: Opened, migration: Name, limit: Annotated[int, Query(ge=1, le=1000, description="At most so many.")] = 20
) -> list[DifferenceView]:
    """List the last calls whose two results differed, the newest first."""
    return verbs.differences(opened.queries, migration, limit)


@router.put("/migrations/{migration}/share")
def share_migration(opened: Opened, by: By, migration: Name, given: NewShare) -> Setting:
    """Have a larger or smaller part of the calls become jobs as well."""
    return _setting(migration, verbs.set_share(opened.control, migration, given.share, by=by))


@router.put("/migrations/{migration}/mode")
def switch_migration(opened: Opened, by: By, migration: Name, given: NewMode) -> Setting:
    """Switch between synchronous code, both, and jobs alone."""
    return _setting(migration, verbs.set_mode(opened.control, migration, given.mode, by=by))


@router.post("/migrations/{migration}/reset")
def reset_migration(opened: Opened, by: By, migration: Name) -> Done:
    """Count anew from zero, and forget the differences."""
    verbs.reset(opened.control, migration, by=by)
    return Done(id=migration, result="reset")


@router.delete("/migrations/{migration}")
def forget_migration(opened: Opened, by: By, migration: Name) -> Done:
    """Remove all that is kept of a migration that is over."""
    verbs.forget(opened.control, migration, by=by)
    return Done(id=migration, result="forgotten")


def _setting(name: str, now: Standing) -> Setting:
    return Setting(name=name, mode=now.mode, share=now.share)
