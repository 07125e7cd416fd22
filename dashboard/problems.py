"""Every error as ``application/problem+json`` (RFC 9457).

What a program may rely on is ``type``; ``detail`` is for people, and says what to do.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.responses import Response

import errors
from errors import HarelineError

log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
_URN = "urn:hareline:problem:"


class Kind(NamedTuple):
    """What is the same for all problems of a type."""

    status: int
    title: str
    remedy: str


#: By error, the more special first; what is not here is a 500.
KINDS: Mapping[type[HarelineError], Kind] = {
    errors.InvalidPayload: Kind(422, "The arguments do not fit the actor", "Send what the actor's signature takes."),
    errors.PayloadTooLarge: Kind(413, "The message is too large", "Store the data, and send a reference to it."),
    errors.Forbidden: Kind(
        403, "This producer may not send to the actor", "Use a token whose name the actor's allowed_producers have."
    ),
    errors.QueueDraining: Kind(409, "The queue takes no new jobs", "Send when its draining has ended."),
    errors.QueueFull: Kind(429, "The queue is full", "Send later, or let more workers serve it."),
    errors.Refusal: Kind(422, "The message was refused", "Correct what the detail names."),
    errors.BadInput: Kind(422, "That cannot be used", "Correct what the detail names."),
    errors.NotFound: Kind(404, "There is nothing of that name", "Use a name that the lists show."),
    errors.JobNotFound: Kind(404, "There is no such job", "Give its id, or its message id."),
    errors.FlowNotFound: Kind(404, "There is no such flow", "Give its id."),
    errors.ScheduleNotFound: Kind(404, "There is no such schedule", "Use a key that the list of schedules shows."),
    errors.UnknownSignal: Kind(404, "Nothing waits for that signal", "Use a signal that the workflow has."),
    errors.NotFinished: Kind(409, "The job has not ended", "Ask again later."),
    errors.NoResult: Kind(409, "The job has no result", "See its state and its last error."),
    errors.BadSchedule: Kind(422, "The schedule cannot work", "Correct what the detail names."),
    errors.InvalidWorkflow: Kind(422, "The workflow cannot start so", "Correct what the detail names."),
    errors.UnknownEvent: Kind(422, "There is no such event", "Use a name that the detail gives."),
    errors.BadCursor: Kind(422, "That is no such place", "Use a cursor that an event, or a page, had."),
    errors.BadQuery: Kind(422, "The search cannot be understood", "Correct what the detail names."),
    errors.QuestionTooSlow: Kind(
        503, "The search takes too long", "Narrow it: a queue, an actor, a state, or since:1d."
    ),
    errors.OperationNotFound: Kind(404, "There is no such operation", "Use an id that the list of operations shows."),
    errors.CountChanged: Kind(409, "So many jobs are not there any more", "Look again, and send the number of now."),
    errors.TooManyStreams: Kind(429, "Too many streams are open", "Close one; pages share theirs."),
    errors.EventsLost: Kind(410, "What happened behind that cursor is gone", "Follow the feed anew, without a cursor."),
    errors.IllegalTransition: Kind(409, "Its state does not allow it", "Look at its state; it may have changed."),
    errors.NotAuthenticated: Kind(401, "Nobody knows who asks", "Log in, or send a token: Authorization: Bearer …"),
    errors.ReadOnly: Kind(403, "Nothing can be changed here now", "Ask who set console_read_only."),
    errors.ForeignRequest: Kind(403, "It does not come from here", "Do it from the console's own page, loaded anew."),
    errors.Denied: Kind(403, "You may not do that", "Ask for a role that may."),
    errors.Throttled: Kind(429, "Too many tries", "Wait for the time that Retry-After gives."),
    errors.BadAccount: Kind(422, "There can be no such user or token", "Correct what the detail names."),
    errors.Undecipherable: Kind(409, "It is encrypted, and the key is missing", "Add the key to HARELINE_KEYS."),
    errors.SchemaMismatch: Kind(503, "The database has another schema", "Run `hareline migrate`."),
    errors.LedgerUnavailable: Kind(
        503,
        "The ledger cannot be reached",
        "Ask again later. What was to be changed may have been: look first, or send the same Idempotency-Key.",
    ),
    errors.BrokerError: Kind(503, "RabbitMQ cannot be used", "Ask again later; the ledger keeps what is to be sent."),
}

#: By status: what is wrong with a request itself.
PLAIN: Mapping[int, tuple[str, Kind]] = {
    400: ("bad-request", Kind(400, "The request cannot be read", "Correct what the detail names.")),
    401: ("not-authenticated", Kind(401, "Nobody knows who asks", "Log in, or send a token: Authorization: Bearer …")),
    403: ("not-allowed", Kind(403, "You may not do that", "Ask for a role that may.")),
    404: ("no-such-path", Kind(404, "There is nothing at this path", "See /api/v1/openapi.json for what there is.")),
    405: ("method-not-allowed", Kind(405, "This path has no such method", "Use one of those in the header Allow.")),
    409: ("conflict", Kind(409, "It is not as you expected", "Look again, then decide.")),
    410: ("gone", Kind(410, "It was there, and is not kept any more", "Begin anew.")),
    413: ("body-too-large", Kind(413, "The body is too large", "Send less at once.")),
    415: ("not-json", Kind(415, "The body is not JSON", "Send Content-Type: application/json.")),
    422: ("invalid-request", Kind(422, "The request does not fit", "Correct the fields that `errors` names.")),
    429: ("too-many-requests", Kind(429, "Too many requests", "Wait for the time that Retry-After gives.")),
    500: ("internal-error", Kind(500, "Something went wrong here", "The log has more, by the id of the request.")),
    501: ("not-installed", Kind(501, "This part is not installed", "Install the extra that the detail names.")),
    503: ("unavailable", Kind(503, "Not at the moment", "Ask again later.")),
}


class FieldError(BaseModel):
    """What is wrong with one field of a request."""

    at: str = Field(description="Where it is: body.kwargs, query.limit …")
    message: str


class Problem(BaseModel):
    """A problem, as RFC 9457 has it."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(
        description="What kind of problem; programs may rely on it.", examples=[f"{_URN}job-not-found"], pattern="^urn:"
    )
    title: str = Field(description="The kind, for people.", examples=["There is no such job"])
    status: int = Field(examples=[404])
    detail: str = Field(description="What is wrong this time.", examples=["no job '0198c5' …"])
    remedy: str = Field(description="What to do.", examples=["Give its id, or its message id."])
    errors: list[FieldError] = Field(default=[], description="The fields that do not fit.")


def urn(name: str) -> str:
    """The type of a problem."""
    return _URN + name


def slug(error: type[HarelineError]) -> str:
    """The last part of the type of its problems."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", error.__name__).lower()


def kind_of(error: HarelineError) -> tuple[str, Kind]:
    for known, kind in KINDS.items():
        if isinstance(error, known):
            return slug(known), kind
    return PLAIN[500]


def problem(
    status: int,
    detail: str = "",
    *,
    name: str | None = None,
    kind: Kind | None = None,
    errors: Sequence[FieldError] = (),
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> Response:
    """A problem as a response."""
    known, plain = PLAIN.get(status, PLAIN[400])
    kind = kind or plain
    body = {
        "type": urn(name or known),
        "title": kind.title,
        "status": status,
        "detail": detail or kind.title,
        "remedy": kind.remedy,
        **({"errors": [error.model_dump() for error in errors]} if errors else {}),
        **more,
    }
    return Response(json.dumps(body), status, headers, MEDIA_TYPE)


def of(error: HarelineError) -> Response:
    """The problem that an error of ours is."""
    name, kind = kind_of(error)
    headers = {"Retry-After": str(getattr(error, "retry_after_s", 5))} if kind.status in (429, 503) else {}
    if kind.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    fits = [FieldError(at="arguments", message=text) for text in getattr(error, "problems", ())]
    return problem(kind.status, str(error), name=name, kind=kind, errors=fits, headers=headers)


def install(app: FastAPI) -> None:
    """Answer every error of this application so."""

    @app.exception_handler(HarelineError)
    def ours(request: Request, error: HarelineError) -> Response:
        if kind_of(error)[1].status == 500:
            log.error("request.failed", path=request.url.path, exc_info=error)
        return of(error)

    @app.exception_handler(PoolTimeout)
    def busy(request: Request, error: PoolTimeout) -> Response:
        return of(errors.LedgerUnavailable("all connections of this console to the ledger are in use"))

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> Response:
        found = [
            FieldError(at=".".join(str(part) for part in one["loc"]), message=one["msg"]) for one in error.errors()
        ]
        told = "; ".join(f"{one.at}: {one.message}" for one in found[:3])
        return problem(422, told, errors=found)

    @app.exception_handler(HTTPException)
    def plain(request: Request, error: HTTPException) -> Response:
        return problem(error.status_code, str(error.detail or ""), headers=error.headers)

    @app.exception_handler(Exception)
    def unforeseen(request: Request, error: Exception) -> Response:
        log.error("request.failed", path=request.url.path, exc_info=error)
        return problem(500, "An error that nobody foresaw.")
