"""Many jobs at once: what is to be done to how many, how far it is, what could not be done."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Form, Query, Request
from fastapi.responses import Response

from control import operations as verbs
from dashboard.pages import flash
from dashboard.pages.forms import Act, Verb, offer, offered
from dashboard.pages.reading import asked
from dashboard.pages.rendering import Shell, page
from dashboard.security import By, allow, principal
from dashboard.services import Opened, Services
from errors import BadInput, BadQuery, CountChanged, OperationNotFound
from ledger.operations import Deed, OperationView
from ledger.search import Filter, parse

router = APIRouter()

_PAGE: Final = 50
_SAMPLE: Final = 8
#: Without a batch for so long, nobody carries it out.
_SLOW: Final = timedelta(seconds=10)
#: What whoever begins an operation must be allowed to do to a single job.
NEEDS: Final = {
    Deed.RETRY: "retry_job",
    Deed.RUN_NOW: "run_job_now",
    Deed.CANCEL: "cancel_job",
    Deed.DISCARD: "discard_failures",
    Deed.REMOVE: "remove_job",
}
WORDS: Final = {
    Deed.RETRY: ("Retry", "They run again from the beginning: attempts count from 0."),
    Deed.RUN_NOW: ("Run now", "They are due at once, whatever they waited for."),
    Deed.CANCEL: ("Cancel", "Those that have not started never will; those that run are asked to stop."),
    Deed.DISCARD: ("Discard", "These dead letters are deleted for good; only their journal stays."),
    Deed.REMOVE: ("Remove", "They are deleted with all that belongs to them; only their journal stays."),
}
DANGEROUS: Final = frozenset({Deed.CANCEL, Deed.DISCARD, Deed.REMOVE})

Words = Annotated[str, Query(max_length=400_000)]


def _cancel(act: Act) -> str:
    done = verbs.cancel(act.services.control, act.key, by=act.by)
    return f"It is {done.state}: what was done to {done.done:,} jobs stays done"


VERBS: Final = (
    Verb("cancel", "cancel_operation", "Stop", _cancel, say="No further batch begins. What is done stays done."),
)
offer(router, "/operations", "operation", VERBS)


@router.get("/operations", dependencies=[Depends(allow("list_operations"))])
def operations(request: Request, opened: Opened, before: str = "") -> Response:
    rows = asked(request, opened).operations(limit=_PAGE, before=before or None)
    return page(
        request,
        "operations.html",
        title="Bulk operations",
        topics="operations",
        rows=rows,
        before=before,
        more=rows[-1].id if len(rows) == _PAGE else "",
        words=WORDS,
    )


@router.get("/operations/new", dependencies=[Depends(allow("start_operation"))])
def new(request: Request, opened: Opened, q: Words = "", verb: str = "") -> Response:
    """What is to be done to all that match: how many that is, and some of them."""
    may = [deed for deed in Deed if principal(request).may(NEEDS[deed])]
    if not may:
        raise BadInput("there is nothing that your role may do to many jobs")
    deed = deed_of(verb) if verb else may[0]
    return ask(request, opened, deed, scoped(request, parse(q)), may, q)


def ask(
    request: Request, opened: Services, deed: Deed, wanted: Filter, may: Sequence[Deed], q: str | None = None
) -> Response:
    """The page that asks before something is done to many jobs; without ``q`` to those that were ticked."""
    trouble, tried, sample = "", None, None
    try:
        tried = verbs.start(opened.control, opened.queries, deed, wanted, dry_run=True, by=principal(request).who)
        sample = opened.queries.search(tried.filter, limit=_SAMPLE)
    except BadQuery as error:
        trouble = str(error)
    return page(
        request,
        "operation_new.html",
        title=f"{WORDS[deed][0]} many jobs",
        q=wanted.words() if q is None else q,
        ticked=q is None,
        deed=deed,
        may_do=may,
        words=WORDS,
        danger=deed in DANGEROUS,
        tried=tried,
        sample=sample,
        trouble=trouble,
    )


@router.post("/operations/new", dependencies=[Depends(allow("start_operation"))])
def begin(
    request: Request,
    opened: Opened,
    by: By,
    verb: Annotated[str, Form()],
    expected: Annotated[int, Form(ge=0)],
    q: Annotated[str, Form(max_length=400_000)] = "",
) -> Response:
    deed = deed_of(verb)
    principal(request).demand(NEEDS[deed])
    url = Shell(request).url
    try:
        begun = verbs.start(
            opened.control, opened.queries, deed, scoped(request, parse(q)), expected_count=expected, by=by
        )
    except CountChanged as error:
        return flash.redirect(request, url("/operations/new", q=q, verb=deed), str(error), kind="error")
    return flash.redirect(request, url("/operations", begun.id), f"Begun: {begun.expected} jobs")


@router.get("/operations/{id}", dependencies=[Depends(allow("get_operation"))])
def operation(request: Request, opened: Opened, id: str) -> Response:
    found = asked(request, opened).operation(id)
    if found is None:
        raise OperationNotFound(f"there is no operation {id!r}; the list of operations shows them")
    now = opened.queries.database_time()
    return page(
        request,
        "operation.html",
        now=now,
        title=f"{WORDS[found.verb][0]} {found.expected} jobs",
        topics="operations",
        it=found,
        stalled=found.finished_at is None and now - found.changed_at > _SLOW,
        words=WORDS,
        filter=_told(found),
        offered=offered(request, VERBS, *(["cancel"] if found.finished_at is None else [])),
    )


def scoped(request: Request, wanted: Filter) -> Filter:
    """Of the queues that whoever asks may touch."""
    return wanted.within(principal(request).queues)


def deed_of(text: str) -> Deed:
    """Raises ``BadInput``."""
    try:
        return Deed(text)
    except ValueError:
        raise BadInput(f"{text!r} is nothing that can be done to jobs; use one of {', '.join(Deed)}") from None


def _told(it: OperationView) -> str:
    """Its filter as words that can be searched by; of many ids only how many there were."""
    return it.filter.words() if len(it.filter.ids) <= _SAMPLE else f"{len(it.filter.ids):,} jobs that were ticked"
