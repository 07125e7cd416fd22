"""Dead letters in groups of one trouble."""

from datetime import datetime, timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from control import failures as verbs
from dashboard.api import shown
from dashboard.pages.forms import Act, Field, Verb, offer, offered
from dashboard.pages.many import EXPECTED, Many
from dashboard.pages.periods import PERIODS, period
from dashboard.pages.reading import asked
from dashboard.pages.rendering import page
from dashboard.security import allow, principal
from dashboard.services import Opened, Services
from errors import NotFound
from ledger.failures import FailureGroup
from ledger.operations import Deed
from ledger.queries import Queries
from ledger.redact import without_secrets
from ledger.search import Filter
from ledger.states import State

router = APIRouter()

Text = Annotated[str, Query(max_length=300)]

_STATES: Final = ("open", "acknowledged", "snoozed")
_BUCKETS: Final = 36
_JOBS: Final = 50


@router.get("/failures", dependencies=[Depends(allow("list_failures"))])
def failures(
    request: Request, opened: Opened, window: Text = "", state: Text = "", queue: Text = "", actor: Text = ""
) -> Response:
    queries = asked(request, opened)
    now = queries.database_time()
    chosen = period(window, "24h")
    kept = next((one for one in _STATES if one == state), None)
    groups = queries.failures(
        since=now - PERIODS[chosen][0],
        until=now,
        queue=queue or None,
        actor=actor or None,
        state=kept,
        limit=100,
        buckets=_BUCKETS,
    )
    asks = principal(request)
    return page(
        request,
        "failures.html",
        now=now,
        title="Failures",
        topics="failures,jobs",
        groups=[shown.group(group, asks) for group in groups],
        window=chosen,
        windows=list(PERIODS),
        state=kept,
        states=_STATES,
        filtered=bool(queue or actor or kept),
    )


def _dead(opened: Services, key: str) -> Filter:
    return Filter(states=(State.FAILED,), fingerprint=key)


_RETRY: Final = Many(Deed.RETRY, _dead)
_DISCARD: Final = Many(Deed.DISCARD, _dead)


def _acknowledge(act: Act) -> str:
    verbs.acknowledge(act.services.control, act.key, by=act.by)
    return "It is known, and is hidden until it fails anew"


def _snooze(act: Act) -> str:
    hours = act.number("hours", 24)
    verbs.snooze(act.services.control, act.key, hours * 3600, by=act.by)
    return f"It is hidden for {hours:g} hours, whatever fails" if hours > 0 else "It is shown again"


VERBS: Final = (
    Verb(
        "retry",
        "retry_failures",
        "Retry all",
        _RETRY.do,
        say="{jobs} of this group run again from the beginning, in batches; it may be stopped midway.",
        fields=(EXPECTED,),
        prefill=_RETRY.ask,
    ),
    Verb("acknowledge", "acknowledge_failure", "Acknowledge", _acknowledge),
    Verb(
        "snooze",
        "snooze_failure",
        "Snooze",
        _snooze,
        say="It is hidden for a while, whatever fails meanwhile.",
        fields=(Field("hours", "Hours", "0 shows it again", "24", "number"),),
    ),
    Verb(
        "discard",
        "discard_failures",
        "Discard all",
        _DISCARD.do,
        say="{jobs} of this group are deleted for good; only their journal stays.",
        fields=(EXPECTED,),
        prefill=_DISCARD.ask,
        danger=True,
    ),
)
offer(router, "/failures", "failures", VERBS)


def _fitting(group: FailureGroup) -> list[str]:
    return ["retry", *(["acknowledge"] if group.state == "open" else []), "snooze", "discard"]


@router.get("/failures/{fingerprint}", dependencies=[Depends(allow("get_failure"))])
def failure(request: Request, opened: Opened, fingerprint: str) -> Response:
    queries = asked(request, opened)
    now = queries.database_time()
    window, group = _group(queries, fingerprint, now)
    found = queries.search(Filter(states=(State.FAILED,), fingerprint=fingerprint), limit=_JOBS)
    asks = principal(request)
    newest = queries.job(found.jobs[0].id) if found.jobs and asks.may("get_job_payload") else None
    attempts = without_secrets(newest).attempts if newest else []
    return page(
        request,
        "failure.html",
        now=now,
        title=group.error_type,
        topics="failures,jobs",
        group=shown.group(group, asks),
        window=window,
        jobs=found.jobs,
        traceback=next((x.traceback for x in reversed(attempts) if x.traceback), None),
        offered=offered(request, VERBS, *_fitting(group)),
    )


def _group(queries: Queries, fingerprint: str, now: datetime) -> tuple[str, FailureGroup]:
    """It, in the shortest period in which something of it failed.  Raises ``NotFound``."""
    for name, length in (("24h", timedelta(days=1)), ("7d", timedelta(days=7)), ("90d", timedelta(days=90))):
        if found := queries.failures(since=now - length, until=now, fingerprint=fingerprint, limit=1, buckets=_BUCKETS):
            return name, found[0]
    raise NotFound(f"no dead letter of the last 90 days is in a group {fingerprint!r}; all may have been retried")
