"""One job: all that is known of it, and what can be done with it."""

import json
from collections.abc import Collection, Mapping
from typing import Any, Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from broker.edits import edit
from control import jobs as verbs
from dashboard.api import shown
from dashboard.pages.forms import Act, Field, Verb, offer, offered
from dashboard.pages.reading import Payload, asked, payload_of
from dashboard.pages.rendering import page
from dashboard.security import By, allow, principal, who
from dashboard.sending import acting
from dashboard.services import Opened, Services
from errors import JobNotFound, Undecipherable
from ledger.flows.states import OPTION
from ledger.redact import redacted, without_secrets
from ledger.sealed import SEALED
from ledger.sealing import key_ids
from ledger.states import FINISHED, State
from ledger.text import clean
from ledger.views import JobView

router = APIRouter()


def _retry(act: Act) -> str:
    return f"{verbs.retry(act.services.control, act.key, by=act.by)} is waiting to run again"


def _run_now(act: Act) -> str:
    return f"{verbs.run_now(act.services.control, act.key, by=act.by)} is due now"


def _cancel(act: Act) -> str:
    asked = verbs.cancel(act.services.control, act.key, by=act.by) == "requested"
    return "It is running, and was asked to stop" if asked else "It is cancelled, and will not start"


def _remove(act: Act) -> str:
    verbs.remove(act.services.control, act.key, by=act.by)
    act.to = "/jobs"
    return f"Job {act.key} is forgotten; only its journal stays"


def _edit(act: Act) -> str:
    args, kwargs = act.json("args", list, "[]"), act.json("kwargs", dict, "{}")
    with acting(act.services, act.by):
        new = edit(act.services.broker, act.services.control, act.key, args=args, kwargs=kwargs, by=act.by)
    act.to = f"/jobs/{new}"
    return "This is the new job; the old one stays as it was"


def _as_sent(request: Request, services: Services, key: str) -> dict[str, str]:
    """Its arguments in clear, to be changed.  Of what has secrets the journal says that they were shown, and to whom.

    Raises ``Denied`` for who may not see them, ``Undecipherable`` when there is no key.
    """
    job = known(request, services, key)
    if _is_sealed(job) or redacted(job.message) != job.message:
        principal(request).demand("reveal_job_payload")
        job = shown.revealed(services, job.id, who(request))
        if _is_sealed(job):
            ids = ", ".join(sorted(key_ids(job.body.decode("utf-8", "replace"))))
            raise Undecipherable(
                f"the arguments of job {job.id} are encrypted under {ids}, which does not open them here; "
                "look at HARELINE_KEYS of this console"
            )
    sent = json.loads(job.body) if job.message is not None else {}  # its ``message`` is what may be shown, not sent
    return {name: _written(sent.get(name)) for name in ("args", "kwargs")}


def _written(value: object) -> str:
    """As JSON to be read and changed, which says exactly the same."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return text if clean(text) == text else json.dumps(value, indent=2)


def _is_sealed(job: JobView) -> bool:
    options = (job.message or {}).get("options")
    return isinstance(options, dict) and SEALED in options


VERBS: Final = (
    Verb("retry", "retry_job", "Retry", _retry),
    Verb("run-now", "run_job_now", "Run now", _run_now),
    Verb(
        "edit",
        "edit_job",
        "Edit and send",
        _edit,
        say="A new job with these arguments is sent, linked to this one, which stays.",
        fields=(
            Field("args", "Arguments", "a JSON list", kind="area"),
            Field("kwargs", "By name", "JSON", kind="area"),
        ),
        prefill=_as_sent,
    ),
    Verb(
        "cancel",
        "cancel_job",
        "Cancel",
        _cancel,
        say="If it has not started it never will. If it is running it is asked to stop, and has a grace to do so.",
        danger=True,
    ),
    Verb(
        "remove",
        "remove_job",
        "Remove",
        _remove,
        say="Its arguments, attempts, result and checkpoint are deleted for good. Only its journal stays.",
        danger=True,
    ),
)
offer(router, "/jobs", "job", VERBS)

_AGAIN: Final = frozenset({"retry", "run-now"})
#: The members of every message of Dramatiq.
_MESSAGE: Final = frozenset({"queue_name", "actor_name", "args", "kwargs", "options"})
#: What makes sense in each state; the verb itself decides.
_FITTING: Final[Mapping[State, tuple[str, ...]]] = {
    State.DELAYED: ("run-now", "edit", "cancel"),
    State.WAITING: ("cancel",),
    State.ACTIVE: ("cancel",),
    State.COMPLETED: ("edit", "remove"),
    State.FAILED: ("retry", "edit", "remove"),
    State.CANCELLED: ("retry", "edit", "remove"),
}


@router.get("/jobs/{id}", dependencies=[Depends(allow("get_job"))])
def show(request: Request, opened: Opened, id: str) -> Response:
    found = known(request, opened, id)
    payload = payload_of(request, opened, found)
    return _page(request, shown.bare(found) if payload is None else without_secrets(found), payload)


@router.post("/jobs/{id}/reveal", dependencies=[Depends(allow("reveal_job_payload"))])
def reveal(request: Request, opened: Opened, by: By, id: str) -> Response:
    """Everything as it was sent; the journal says first who looked."""
    found = shown.revealed(opened, known(request, opened, id).id, by)
    return _page(request, found, payload_of(request, opened, found, revealed=True), revealed=True)


def _page(request: Request, job: JobView, payload: Payload | None, *, revealed: bool = False) -> Response:
    able = _fitting(request.app.state.services, job)
    return page(
        request,
        "job.html",
        title=job.actor,
        topics="" if revealed else "jobs",
        job=job,
        payload=payload,
        revealed=revealed,
        offered=offered(request, VERBS, *able),
        finished=job.state in FINISHED,
        lineage=_lineage(job),
        commands=_commands(job, able),
    )


def known(request: Request, opened: Opened, ref: str) -> JobView:
    """Raises ``JobNotFound``."""
    found = asked(request, opened).job(ref)
    if found is None or not principal(request).scope.admits(found.queue):
        raise JobNotFound(f"no job {ref!r}: give its id, at least 8 characters of it, or its Dramatiq message id")
    return found


def _fitting(opened: Services, job: JobView) -> list[str]:
    """What can be done with it now.  What is no message, and a step of a flow, is not sent anew."""
    able = list(_FITTING[job.state])
    if _step(job) or not (job.message or {}).keys() >= _MESSAGE:
        able = [verb for verb in able if verb != "edit"]
    if not opened.queries.may_go_round(job):
        able = [verb for verb in able if verb not in _AGAIN]
    return able


def _step(job: JobView) -> Any:
    """Of which flow it is a step, and which; None: it is none, and may be sent anew."""
    options = (job.message or {}).get("options")
    return options.get(OPTION) if isinstance(options, dict) else None


def _lineage(job: JobView) -> list[tuple[str, str, str]]:
    """What it belongs to, as (words, path, id)."""
    step = _step(job)
    found = [("Made of", "/jobs", job.edited_from)] if job.edited_from else []
    found += [("Changed into", "/jobs", id) for id in job.edited_into]
    if isinstance(step, dict) and isinstance(step.get("id"), str):
        found.append((f"Step {step.get('step', '')} of flow", "/flows", step["id"]))
    return found


def _commands(job: JobView, able: Collection[str]) -> list[str]:
    """The same at a terminal."""
    again = [f"hareline jobs retry {job.id}"] if _AGAIN & set(able) else []
    return [f"hareline jobs show {job.id}", *again]
