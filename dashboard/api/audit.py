"""The audit trail: what was done, by whom; appended to, never changed."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated

from fastapi import Path, Query
from fastapi.responses import StreamingResponse

from dashboard.api.models import Limit, Name, Page, When, page
from dashboard.api.router import Routes
from dashboard.services import Opened
from errors import NotFound
from ledger.audit import Entry
from ledger.audit_queries import Verified

router = Routes(tags=["audit"])

_LINES = {
    "description": "A JSON object for each entry.",
    "content": {"application/x-ndjson": {"schema": {"type": "string"}}},
}


@router.get("/audit")
def list_audit(
    opened: Opened,
    name: Annotated[Name | None, Query(description="Done by them.")] = None,
    operation: Annotated[Name | None, Query(description="By its operationId.")] = None,
    result: Annotated[Name | None, Query(description="That came to this.")] = None,
    since: Annotated[When | None, Query(description="Done then or later.")] = None,
    until: Annotated[When | None, Query(description="Done before.")] = None,
    after: Annotated[int | None, Query(ge=1, le=2**62, description="`next` of the page before.")] = None,
    limit: Limit = 50,
) -> Page[Entry]:
    """List what was done, newest first."""
    rows = opened.audit.entries(
        name=name, operation=operation, result=result, since=since, until=until, before=after, limit=limit + 1
    )
    return page(rows, limit, str(rows[limit - 1].seq) if len(rows) > limit else None)


@router.get("/audit/verify")
def verify_audit(opened: Opened) -> Verified:
    """Go through the whole chain, and name the first entry that is not what was written."""
    return opened.audit.verify()


@router.get("/audit/export", response_class=StreamingResponse, responses={200: _LINES})
def export_audit(opened: Opened) -> StreamingResponse:
    """Write out all entries as JSON lines, oldest first."""
    return StreamingResponse(_lines(opened.audit.everything()), media_type="application/x-ndjson")


@router.get("/audit/{seq}")
def get_audit(opened: Opened, seq: Annotated[int, Path(ge=1, le=2**62, description="Its number.")]) -> Entry:
    """Show one entry."""
    found = opened.audit.entry(seq)
    if found is None:
        raise NotFound(f"the audit trail has no entry {seq}; the list shows those it has")
    return found


def _lines(entries: Iterator[Entry]) -> Iterator[str]:
    for entry in entries:
        yield json.dumps(asdict(entry), default=str) + "\n"
