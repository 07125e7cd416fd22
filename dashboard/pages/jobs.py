"""The list of jobs: found, filtered, ticked, and many of them dealt with at once."""

import re
from dataclasses import replace
from typing import Annotated, Final, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from control import export, operations
from dashboard.api.wanted import filter_of
from dashboard.pages import flash
from dashboard.pages.operations import DANGEROUS, NEEDS, ask, deed_of, scoped
from dashboard.pages.reading import asked
from dashboard.pages.rendering import Shell, page
from dashboard.security import By, allow, principal
from dashboard.services import Opened
from errors import BadQuery, Denied, JobNotFound, QuestionTooSlow
from ledger.queries import Queries
from ledger.search import QUALIFIERS, Filter, Suggestions
from ledger.states import Reason, State

router = APIRouter()

SIZES: Final = (50, 100, 250)
#: So many suggestions at once.
_MOST: Final = 12

Text = Annotated[str, Query(max_length=2_000)]


def wanted(request: Request, q: str, state: str = "", queue: str = "", actor: str = "", since: str = "") -> Filter:
    """What the address asks for: the words of the box, and what was chosen beside it.

    In the queues of whoever asks.  Raises ``BadQuery``, and ``Denied`` to who may not see what jobs carry.
    """
    found = filter_of(principal(request), f"{q} since:{since}" if since and "since:" not in q else q)
    if state:
        known = next((one for one in State if one == state), None)
        if known is None:
            raise BadQuery(f"state {state!r}: use one of {', '.join(State)}")
        found = replace(found, states=(known,))
    if queue:
        found = replace(found, queues=(*found.queues, queue))
    if actor:
        found = replace(found, actors=(*found.actors, actor))
    return found


@router.get("/jobs", dependencies=[Depends(allow("list_jobs"))])
def jobs(
    request: Request,
    opened: Opened,
    q: Text = "",
    state: Text = "",
    queue: Text = "",
    actor: Text = "",
    since: Text = "",
    after: Text = "",
    size: int = SIZES[0],
) -> Response:
    queries = asked(request, opened)
    given = {"q": q, "state": state, "queue": queue, "actor": actor, "since": since}
    if (job := _meant(request, opened, q)) is not None:
        return flash.redirect(request, Shell(request).url("/jobs", job))
    trouble, found, words = "", None, ""
    try:
        chosen = wanted(request, q, state, queue, actor, since)
        words = chosen.words()
        found = queries.search(chosen, limit=size if size in SIZES else SIZES[0], after=after or None)
    except (BadQuery, Denied, QuestionTooSlow) as error:
        trouble = str(error)
    offers = _offers(queries)
    views, query = queries.saved_views(principal(request).name), urlencode({x: given[x] for x in given if given[x]})
    return page(
        request,
        "jobs.html",
        title="Jobs",
        topics="jobs",
        given=given,
        found=found,
        trouble=trouble,
        words=words,
        after=after,
        states=list(State),
        queues=offers.queues,
        actors=offers.actors,
        filtered=any(given.values()),
        views=views,
        query=query,
        at=next((view for view in views if view.query == query), None),
    )


def _offers(queries: Queries) -> Suggestions:
    """What may be chosen beside the box; nothing when that takes too long, for a page can do without."""
    try:
        return queries.suggestions()
    except QuestionTooSlow:
        return Suggestions()


@router.get("/jobs/counts", dependencies=[Depends(allow("count_jobs"))])
def counts(
    request: Request,
    opened: Opened,
    q: Text = "",
    state: Text = "",
    queue: Text = "",
    actor: Text = "",
    since: Text = "",
) -> Response:
    """How many there are in each state; loaded after the page, for it may take long."""
    found = asked(request, opened).count_states(wanted(request, q, "", queue, actor, since))
    given = {"q": q, "state": state, "queue": queue, "actor": actor, "since": since}
    return page(request, "jobs_tabs.html", states=list(State), given=given, counts=found)


@router.post("/jobs/bulk", dependencies=[Depends(allow("start_operation"))])
def bulk(
    request: Request,
    opened: Opened,
    by: By,
    verb: Annotated[str, Form()],
    id: Annotated[list[str] | None, Form()] = None,
) -> Response:
    """What is to be done to the ticked jobs; it asks first, for what cannot be undone."""
    url = Shell(request).url
    ids = tuple(id or ())
    if not ids:
        return flash.redirect(request, url("/jobs"), "Tick the jobs first", kind="error")
    deed = deed_of(verb)
    principal(request).demand(NEEDS[deed])
    wanted = scoped(request, Filter(ids=ids))
    if deed in DANGEROUS:
        return ask(request, opened, deed, wanted, [deed])
    begun = operations.start(opened.control, opened.queries, deed, wanted, by=by)
    return flash.redirect(request, url("/operations", begun.id), f"Begun: {begun.expected} jobs")


@router.get("/jobs/export.{kind}", dependencies=[Depends(allow("export_jobs"))])
def exported(
    request: Request,
    opened: Opened,
    kind: Literal["csv", "ndjson"],
    q: Text = "",
    state: Text = "",
    queue: Text = "",
    actor: Text = "",
    since: Text = "",
) -> Response:
    """All jobs that match, redacted as in the list."""
    chosen = wanted(request, q, state, queue, actor, since)
    lines = export.as_csv(opened.queries, chosen) if kind == "csv" else export.ndjson(opened.queries, chosen)
    media = "text/csv; charset=utf-8" if kind == "csv" else "application/x-ndjson"
    return StreamingResponse(
        lines, media_type=media, headers={"Content-Disposition": f'attachment; filename="jobs.{kind}"'}
    )


@router.get("/jobs/suggest", dependencies=[Depends(allow("list_suggestions"))])
def suggest(request: Request, opened: Opened, q: Text = "") -> Response:
    """What the query may go on with, as [the whole query, what is added, what that is]."""
    before, word = re.fullmatch(r"(.*?)(\S*)", q, re.DOTALL).groups()  # type: ignore[union-attr]
    name, colon, value = word.partition(":")
    if not colon:
        known = [(one, f"{one}:" if not one.endswith(".") else one, told) for one, told in QUALIFIERS.items()]
        return JSONResponse(
            [[before + whole, whole, told] for one, whole, told in known if one.startswith(name)][:_MOST]
        )
    offers = asked(request, opened).suggestions()
    values = {
        "queue": offers.queues,
        "actor": offers.actors,
        "worker": offers.workers,
        "state": list(State),
        "reason": list(Reason),
        "since": ("15m", "1h", "6h", "24h", "7d"),
        "until": ("15m", "1h", "24h"),
    }.get(name, ())
    fits = [str(one) for one in values if value.lower() in str(one).lower()]
    quoted = [(one, f'"{one}"' if re.search(r'[\s",]', one) else one) for one in fits]
    return JSONResponse([[f"{before}{name}:{written} ", one, name] for one, written in quoted][:_MOST])


def _meant(request: Request, opened: Opened, q: str) -> str | None:
    """The one job whose id was typed, or pasted."""
    text = q.strip().removeprefix("id:")
    if not re.fullmatch(r"[0-9a-fA-F]{8}[0-9a-fA-F-]{24,28}", text):
        return None
    try:
        found = asked(request, opened).job(text)
    except JobNotFound:
        return None
    return found.id if found else None
