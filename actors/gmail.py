"""Gmail's REST API, as much of it as reading a mailbox needs."""

import base64
import binascii
import re
from datetime import UTC, datetime
from typing import Annotated, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from actors.outside import LONGEST_DELAY_MS, Refused, Service, Unavailable, retry_after_ms, shaped
from actors.per_process import per_process
from errors import RateLimited
from middleware.circuit import Circuit
from settings import load

M = TypeVar("M", bound=BaseModel)

#: Shared by all that asks Google for mails: while it is down, none of them tries.
CIRCUIT = Circuit("gmail", counts=Unavailable)
#: Entries of one page; the most that Gmail gives.
PAGE = 500

#: A place in a mailbox's history; later ones are greater numbers.
HistoryId = Annotated[str, Field(pattern=r"^\d{1,20}$")]

_MAILBOX = "/gmail/v1/users/me"  # whose it is, the token says
#: Reasons of a 403 that mean: later.
_TOO_FAST = {"rateLimitExceeded", "userRateLimitExceeded", "RATE_LIMIT_EXCEEDED", "quotaExceeded"}
_TODAY_NO_MORE = "dailyLimitExceeded"
_RETRY_AFTER = re.compile(r"[Rr]etry after (\d{4}-\d\d-\d\dT[\d:.]+Z)")


class Unauthorized(Refused):
    """Raised when an access token is not good, or not any more."""


class Missing(Refused):
    """Raised for a mail that was deleted, and for a place in the history that Gmail does not know any more."""


class StalePage(Refused):
    """Raised when a page token is not good any more: the list has to be begun anew."""


class _Shape(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, coerce_numbers_to_str=True)


class Profile(_Shape):
    """A mailbox."""

    email_address: str
    history_id: HistoryId  #: where its history is now


class Listed(_Shape):
    """A mail, by its id."""

    id: str = Field(min_length=1, max_length=200)
    label_ids: list[str] = []

    @property
    def unwanted(self) -> bool:
        """In the spam or the trash, which a list leaves out and a history does not."""
        return not {"SPAM", "TRASH"}.isdisjoint(self.label_ids)


class Page(_Shape):
    """Some mails of a mailbox, newest first."""

    messages: list[Listed] = []
    next_page_token: str | None = None
    result_size_estimate: int = 0


class _Added(_Shape):
    message: Listed


class Record(_Shape):
    """A change."""

    id: HistoryId
    messages_added: list[_Added] = []


class History(_Shape):
    """Some changes of a mailbox, oldest first."""

    history: list[Record] = []
    next_page_token: str | None = None
    history_id: HistoryId  #: where the history is now

    @property
    def added(self) -> list[Listed]:
        return [added.message for record in self.history for added in record.messages_added]


class Letter(_Shape):
    """A mail, as Gmail has it."""

    id: str
    thread_id: str = ""
    label_ids: list[str] = []
    internal_date: int  #: milliseconds since 1970: when Gmail took it
    raw: str

    @property
    def received_at(self) -> datetime:
        return datetime.fromtimestamp(min(max(self.internal_date, 0), 253_402_300_799_000) / 1000, UTC)

    @property
    def source(self) -> bytes:
        """The mail itself.  Raises :class:`~actors.outside.Unavailable`."""
        try:
            return base64.urlsafe_b64decode(self.raw + "=" * (-len(self.raw) % 4))
        except (binascii.Error, ValueError) as error:
            raise Unavailable(f"mail {self.id} came with a source that is no base64: {error}") from error


class _Why(BaseModel):
    reason: str = ""


class _Error(BaseModel):
    message: str = ""
    errors: list[_Why] = []
    details: list[_Why] = []


class _Problem(BaseModel):
    error: _Error = _Error()


class Gmail(Service):
    """The API.  Thread-safe; every method reads, so each is safe to repeat.

    Raises what :class:`~actors.outside.Service` raises, and :class:`~errors.RateLimited` on a 403 that says so,
    :class:`Unauthorized` on 401, :class:`Missing` on 404.
    """

    def profile(self, token: str) -> Profile:
        """Whose mailbox it is, and where its history is."""
        return self._read(Profile, token, "/profile", {})

    def messages(self, token: str, page: str | None) -> Page:
        """A page of the mails that are neither spam nor in the trash.  Raises :class:`StalePage`."""
        return self._page(Page, token, "/messages", {"maxResults": str(PAGE)}, page)

    def history(self, token: str, since: str, page: str | None) -> History:
        """A page of the mails that were added.  Raises :class:`StalePage`, and :class:`Missing` when it is too old."""
        query = {"startHistoryId": since, "historyTypes": "messageAdded", "maxResults": str(PAGE)}
        return self._page(History, token, "/history", query, page)

    def letter(self, token: str, id: str) -> Letter:
        """A mail.  Raises :class:`Missing`."""
        return self._read(Letter, token, f"/messages/{quote(id, safe='')}", {"format": "raw"})

    def problem(self, response: httpx.Response, said: str) -> Exception:
        why = _why(response)
        reasons = {item.reason for item in (*why.errors, *why.details)}
        if response.status_code == 403 and _TODAY_NO_MORE in reasons:
            return RateLimited(LONGEST_DELAY_MS, said)
        if response.status_code == 429 or (response.status_code == 403 and reasons & _TOO_FAST):
            return RateLimited(_patience_ms(response, why), said)
        if response.status_code == 401:
            return Unauthorized(f"{said} (connect the mailbox again)", code="unauthorized")
        if response.status_code == 404:
            return Missing(said, code="not_found")
        return super().problem(response, said)

    def _page(self, kind: type[M], token: str, path: str, query: dict[str, str], page: str | None) -> M:
        try:
            return self._read(kind, token, path, query if page is None else {**query, "pageToken": page})
        except Refused as error:
            if page is not None and error.code == "refused":  # a 400: all else of the request is our own
                raise StalePage(str(error), code="stale_page") from error
            raise

    def _read(self, kind: type[M], token: str, path: str, query: dict[str, str]) -> M:
        return shaped(kind, self.get(_MAILBOX + path, query, headers={"Authorization": f"Bearer {token}"}))


def _why(response: httpx.Response) -> _Error:
    try:
        return _Problem.model_validate_json(response.content).error
    except ValidationError:
        return _Error()


def _patience_ms(response: httpx.Response, why: _Error) -> int:
    """How long to leave it alone: as the header says, or, where Gmail writes it, the text."""
    found = _RETRY_AFTER.search(why.message)
    if "retry-after" in response.headers or found is None:
        return retry_after_ms(response.headers.get("retry-after"))
    left = (datetime.fromisoformat(found[1]) - datetime.now(UTC)).total_seconds()
    return retry_after_ms(str(max(left, 1.0)))


@per_process
def gmail() -> Gmail:
    """This process's client."""
    settings = load()
    return Gmail(
        settings.gmail_url,
        timeout_s=settings.http_timeout_s,
        check="that the Gmail API is on in your project, and that the scope gmail.readonly was granted",
    )
