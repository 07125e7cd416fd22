"""Verbs for flows.  They go by a session: what follows from them is what follows from a worker's finish."""

import json
from typing import Any

from control.who import By
from errors import FlowNotFound
from ledger.flows.states import FlowState
from ledger.flows.views import FlowRow, FlowView
from ledger.ledger import Session
from ledger.queries import Queries


def listing(
    queries: Queries, *, name: str | None = None, state: FlowState | None = None, limit: int = 50
) -> list[FlowRow]:
    """Newest first."""
    return queries.flows(name=name, state=state, limit=limit)


def find(queries: Queries, ref: str) -> FlowView:
    """The flow a person means, by its id or the beginning of it.  Raises ``FlowNotFound``."""
    view = queries.flow(ref)
    if view is None:
        raise FlowNotFound(f"no flow {ref!r}: give its id, or 8 characters of it; `hareline flows ls` lists them")
    return view


def cancel(session: Session, queries: Queries, ref: str, *, by: By) -> FlowState:
    """Cancel a flow with everything that is live of it; ``CANCELLING`` while jobs run that were asked to stop.

    Raises ``FlowNotFound``, ``IllegalTransition``.
    """
    return session.cancel_flow(find(queries, ref).id, by)


def retry(session: Session, queries: Queries, ref: str, *, by: By) -> list[str]:
    """Let a flow go on that failed or was cancelled: new jobs for the steps that are returned, the others are kept.

    Raises ``FlowNotFound``, ``IllegalTransition``.
    """
    return session.retry_flow(find(queries, ref).id, by)[0]


def signal(session: Session, queries: Queries, ref: str, name: str, data: Any = None, *, by: By) -> bool:
    """Give a flow a signal, with data as JSON has it; false when it is over, or has one of that name.

    Raises ``FlowNotFound``, ``UnknownSignal``.
    """
    return session.signal_flow(find(queries, ref).id, name, json.dumps(data).encode(), by)[0]
