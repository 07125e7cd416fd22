"""Dead letters: failed jobs."""

from dataclasses import replace
from typing import Annotated

from fastapi import Query

from dashboard.api.models import After, Asks, Limit, Name, Page, page
from dashboard.api.router import Routes
from dashboard.services import Opened
from ledger.redact import redacted_text
from ledger.states import Reason
from ledger.views import DeadRow

router = Routes(tags=["dead letters"])


@router.get("/dead-letters")
def list_dead_letters(
    opened: Opened,
    asks: Asks,
    queue: Annotated[Name | None, Query(description="Of this queue.")] = None,
    actor: Annotated[Name | None, Query(description="Of this actor.")] = None,
    reason: Annotated[Reason | None, Query(description="That failed for this reason.")] = None,
    after: After = None,
    limit: Limit = 50,
) -> Page[DeadRow]:
    """List dead letters with the last error of each, newest first."""
    seen = asks.may("get_job_payload")
    rows = opened.queries.dead(queue=queue, actor=actor, reason=reason, limit=limit + 1, before=after)
    last = rows[limit - 1].id if len(rows) > limit else None
    return page([_shown(row, seen) for row in rows], limit, last)


def _shown(row: DeadRow, seen: bool) -> DeadRow:
    told = redacted_text(row.error_message) if row.error_message and seen else None
    return replace(row, error_message=told)
