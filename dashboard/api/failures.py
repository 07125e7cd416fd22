"""Failures: dead letters that are one trouble, in groups."""

from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, Field

from control import failures as verbs
from control import operations
from dashboard.api import shown
from dashboard.api.models import Asks, Expecting, Input, Name, Operation, When
from dashboard.api.router import Routes
from dashboard.security import By
from dashboard.services import Opened, Services
from errors import NotFound
from ledger.failures import FailureGroup, GroupState
from ledger.operations import Deed
from ledger.search import Filter

router = Routes(tags=["failures"])


class Group(BaseModel):
    fingerprint: str
    state: str


class Snooze(Input):
    for_s: float = Field(ge=0, le=verbs.LONGEST_S, description="How long it is hidden; 0: show it again.")


@router.get("/failures")
def list_failures(
    opened: Opened,
    asks: Asks,
    queue: Annotated[Name | None, Query(description="Of this queue.")] = None,
    actor: Annotated[Name | None, Query(description="Of this actor.")] = None,
    state: Annotated[GroupState | None, Query(description="Only such groups.")] = None,
    since: Annotated[When | None, Query(description="Failed then or later; a day ago, if not given.")] = None,
    until: Annotated[When | None, Query(description="Failed before.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="At most so many.")] = 50,
) -> list[FailureGroup]:
    """List the groups of dead letters that have one error in one place, those with the most first."""
    groups = opened.queries.failures(since=since, until=until, queue=queue, actor=actor, state=state, limit=limit)
    return [shown.group(group, asks) for group in groups]


@router.get("/failures/{fingerprint}")
def get_failure(opened: Opened, asks: Asks, fingerprint: Name) -> FailureGroup:
    """Show one group, as far as it failed in the last day."""
    groups = opened.queries.failures(fingerprint=fingerprint, limit=1)
    if not groups:
        raise NotFound(f"there is no group of failures {fingerprint!r} in the last day; the list shows those there are")
    return shown.group(groups[0], asks)


@router.post("/failures/{fingerprint}/retry", status_code=202)
def retry_failures(opened: Opened, by: By, fingerprint: Name, given: Expecting) -> Operation:
    """Send all dead letters of a group round again: a bulk operation."""
    return _start(opened, by, Deed.RETRY, fingerprint, given)


@router.post("/failures/{fingerprint}/discard", status_code=202)
def discard_failures(opened: Opened, by: By, fingerprint: Name, given: Expecting) -> Operation:
    """Remove all dead letters of a group for good: a bulk operation."""
    return _start(opened, by, Deed.DISCARD, fingerprint, given)


@router.post("/failures/{fingerprint}/acknowledge")
def acknowledge_failure(opened: Opened, by: By, fingerprint: Name) -> Group:
    """It is known: hide the group until it fails anew."""
    verbs.acknowledge(opened.control, fingerprint, by=by)
    return Group(fingerprint=fingerprint, state="acknowledged")


@router.post("/failures/{fingerprint}/snooze")
def snooze_failure(opened: Opened, by: By, fingerprint: Name, given: Snooze) -> Group:
    """Hide the group for a time, whatever fails meanwhile."""
    verbs.snooze(opened.control, fingerprint, given.for_s, by=by)
    return Group(fingerprint=fingerprint, state="snoozed" if given.for_s else "open")


def _start(opened: Services, by: By, deed: Deed, fingerprint: str, given: Expecting) -> Operation:
    return Operation.of(
        operations.start(
            opened.control,
            opened.queries,
            deed,
            Filter(fingerprint=fingerprint),
            expected_count=given.expected_count,
            dry_run=given.dry_run,
            by=by,
        )
    )
