"""Bulk operations: one deed to all jobs that fit, in batches that go on whoever dies."""

from typing import Annotated

from fastapi import Query
from pydantic import Field, model_validator

from control import operations as verbs
from dashboard.api.models import After, Asks, Expecting, Limit, Name, Operation, Page, Text, page
from dashboard.api.router import Routes
from dashboard.api.wanted import filter_of
from dashboard.security import By
from dashboard.services import Opened
from errors import OperationNotFound
from ledger.operations import Deed

router = Routes(tags=["operations"])

#: What may be done to many is what may be done to one.
OPERATION = {
    Deed.RETRY: "retry_job",
    Deed.CANCEL: "cancel_job",
    Deed.DISCARD: "discard_failures",
    Deed.REMOVE: "remove_job",
    Deed.RUN_NOW: "run_job_now",
}


class Start(Expecting):
    """What is to be done, and to which jobs: those a query finds, or those named."""

    action: Deed
    q: Text = Field(
        default="", max_length=2000, description="A query, as in the list of jobs.", examples=["queue:email"]
    )
    ids: list[Name] = Field(default=[], max_length=1000)

    @model_validator(mode="after")
    def _some(self) -> "Start":
        if bool(self.q.strip()) == bool(self.ids):
            raise ValueError("give either q or ids; q 'state:failed' is every dead letter")
        return self


@router.post("/operations", status_code=202)
def start_operation(opened: Opened, asks: Asks, by: By, given: Start) -> Operation:
    """Do something to all jobs that fit.

    `expected_count` is how many you have seen; when it is over a tenth off, nothing is begun (409). A `dry_run` only
    counts.
    """
    asks.demand(OPERATION[given.action])
    wanted = filter_of(asks, " ".join([given.q, *(f'id:"{id}"' for id in given.ids)]))
    return Operation.of(
        verbs.start(
            opened.control,
            opened.queries,
            given.action,
            wanted,
            expected_count=given.expected_count,
            dry_run=given.dry_run,
            by=by,
        )
    )


@router.get("/operations")
def list_operations(
    opened: Opened,
    running: Annotated[bool, Query(description="Only those that are not over.")] = False,
    after: After = None,
    limit: Limit = 50,
) -> Page[Operation]:
    """List bulk operations, newest first."""
    rows = [Operation.of(x) for x in opened.queries.operations(limit=limit + 1, before=after, open_only=running)]
    return page(rows, limit, rows[limit - 1].id if len(rows) > limit else None)


@router.get("/operations/{id}")
def get_operation(opened: Opened, id: Name) -> Operation:
    """Show how far a bulk operation is, and to which jobs it could not be done."""
    found = opened.queries.operation(id)
    if found is None:
        raise OperationNotFound(f"there is no bulk operation {id!r}; the list shows those there are")
    return Operation.of(found)


@router.post("/operations/{id}/cancel")
def cancel_operation(opened: Opened, by: By, id: Name) -> Operation:
    """Begin no further batch; what is done stays done."""
    return Operation.of(verbs.cancel(opened.control, id, by=by))
