"""Which jobs: the parts of a question that lists, counts, exports and bulk operations share."""

from dataclasses import replace
from datetime import datetime
from typing import Annotated

from fastapi import Depends, Query

from dashboard.api.models import Asks, Name, Text, When
from dashboard.security import Principal
from errors import Denied
from ledger.search import Filter, parse
from ledger.states import Reason, State


def filter_of(asks: Principal, query: str) -> Filter:
    """What a query means, for who asks: in their queues only.

    Raises ``BadQuery``, and ``Denied`` for one that would tell what jobs carry to who may not see it.
    """
    found = parse(query).within(asks.queues)
    if (found.is_text or found.error) and not asks.may("get_job_payload"):
        raise Denied("only who may see what jobs carry can search it; ask by queue, actor, state, reason, or time")
    return found


def _wanted(
    asks: Asks,
    q: Annotated[
        Text, Query(max_length=2000, description="A query: `id: queue: actor: state: error: args.x: since:` and words.")
    ] = "",
    queue: Annotated[list[Name], Query(description="Of these queues; `billing.*` is a pattern.")] = [],  # noqa: B006
    state: Annotated[list[State], Query(description="In one of these states.")] = [],  # noqa: B006
    actor: Annotated[list[Name], Query(description="Of these actors.")] = [],  # noqa: B006
    reason: Annotated[list[Reason], Query(description="Dead letters for one of these reasons.")] = [],  # noqa: B006
    since: Annotated[When | None, Query(description="Enqueued then or later.")] = None,
    until: Annotated[When | None, Query(description="Enqueued before.")] = None,
) -> Filter:
    found = filter_of(asks, q)
    return replace(
        found,
        queues=(*found.queues, *queue),
        states=(*found.states, *state),
        actors=(*found.actors, *actor),
        reasons=(*found.reasons, *reason),
        since=_later(found.since, since),
        until=until or found.until,
    )


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    return max((moment for moment in (one, other) if moment is not None), default=None)


Wanted = Annotated[Filter, Depends(_wanted)]
