"""Services of others: what their answers mean to a job."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from string import punctuation
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from errors import Failure, HarelineError, RateLimited, Retry
from settings import VARIABLES

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

#: When the server says "later" but not when.
DEFAULT_DELAY_MS = 5_000
#: A server that asks for more than this is asked again earlier; its answer may have changed.
LONGEST_DELAY_MS = 3_600_000
#: One that asks for less is asked later: where waiting spends no attempt, nothing else would end it.
SHORTEST_DELAY_MS = 1_000
#: Answers that say "not now" of a request that is right: timeout, conflict, another server's, too early.
PASSING = (408, 409, 421, 425)
#: What a header has as it is: what can be printed, but for the sign that says that something was not.
_PLAIN = punctuation.replace("%", "")


class Unavailable(HarelineError):
    """Raised when the other side did not answer, or with an error of its own; back-off and circuit apply."""


class Refused(Failure):
    """Raised when the other side will never take this request: trying again cannot help."""

    def __init__(self, error: str, *, code: str = "refused") -> None:
        super().__init__(error, code=code)


class NotConfigured(Failure):
    """Raised by a job whose outside system is not in the settings; it says which variable to set."""

    def __init__(self, setting: str, what: str) -> None:
        super().__init__(
            f"{VARIABLES[setting]} is not set, and without it {what}; set it, and retry this job", code="not_configured"
        )


def needed(value: T | None, setting: str, what: str) -> T:
    """The value of a setting.  Raises :class:`NotConfigured` when there is none."""
    if value is None:
        raise NotConfigured(setting, what)
    return value


class Service:
    """One HTTP service.  Thread-safe; redirects are not followed.

    Parameters:
      timeout_s: of connecting, and of each wait for the next bytes; a job's ``time_limit`` bounds the whole.
      check: what to look at when it refuses: names of variables.
      name: what errors call it, where its address is a secret; the address, if none is given.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float,
        check: str,
        headers: Mapping[str, str] | None = None,
        name: str | None = None,
    ) -> None:
        self._url = url.rstrip("/")
        self._name = name or self._url
        self._timeout_s = timeout_s
        self._check = check
        self._http = httpx.Client(timeout=timeout_s, headers=dict(headers or {}))

    def post(self, path: str, body: object, *, headers: Mapping[str, str] | None = None) -> httpx.Response:
        """Its answer to this JSON, if that is 2xx.

        Raises :class:`~errors.RateLimited` on 429 (no attempt is spent), ``Retry`` on 503 with a time to come back
        at, :class:`Unavailable` on other 5xx and when the network fails, :class:`Refused` on every other answer.
        """
        return self._ask("POST", path, headers, json=body)

    def submit(self, path: str, form: Mapping[str, str]) -> httpx.Response:
        """Its answer to a form.  Raises as :meth:`post`."""
        return self._ask("POST", path, None, data=dict(form))

    def get(self, path: str, query: Mapping[str, str], *, headers: Mapping[str, str] | None = None) -> httpx.Response:
        """What is there.  Raises as :meth:`post`."""
        return self._ask("GET", path, headers, params=dict(query))

    def _ask(self, method: str, path: str, headers: Mapping[str, str] | None, **content: Any) -> httpx.Response:
        endpoint = f"{self._name}{path}"
        try:
            response = self._http.request(method, f"{self._url}{path}", headers=dict(headers or {}), **content)
        except httpx.TimeoutException as error:
            raise Unavailable(f"{endpoint} did not answer within {self._timeout_s:g} s") from error
        except httpx.TransportError as error:
            raise Unavailable(f"{endpoint} cannot be reached: {error}") from error
        if response.is_success:
            return response
        raise self.problem(response, f"{endpoint} {answered(response)}")

    def problem(self, response: httpx.Response, said: str) -> Exception:
        """What an answer that is not 2xx means."""
        return problem(response, said, check=self._check)

    def close(self) -> None:
        """Close every connection."""
        self._http.close()


def at_most(response: httpx.Response, size: int) -> bytes:
    """The body as it comes, not unpacked: a kilobyte can unpack to a gigabyte.  Of a longer one little more than this.

    One that fits is read to its end: only then its connection serves the next request.
    """
    body = bytearray()
    for part in response.iter_raw():
        body += part
        if len(body) > size:
            break
    return bytes(body)


def in_header(text: str) -> str:
    """Any text as a header has it: what is not printable ASCII as in a URL.  Two texts are never the same header."""
    return quote(text, safe=_PLAIN)


def answered(response: httpx.Response) -> str:
    """What it answered, for an error's message."""
    return f"answered {response.status_code} {response.reason_phrase}: {response.text[:200]}"


def problem(response: httpx.Response, said: str, *, check: str) -> Exception:
    """What an answer that is not 2xx means to a job: slow down, come back, back off, or give up."""
    later = response.headers.get("retry-after")
    if response.status_code == 429:
        return RateLimited(retry_after_ms(later), said)
    if response.status_code == 503 and later is not None:
        return Retry(said, delay=retry_after_ms(later))
    if response.is_server_error or response.status_code in PASSING:
        return Unavailable(said)
    code = {401: "unauthorized", 403: "unauthorized", 404: "not_found"}.get(response.status_code, "refused")
    return Refused(f"{said} (check {check})", code=code)


def retry_after_ms(header: str | None) -> int:
    """The delay a ``Retry-After`` header asks for, in seconds or by an HTTP date; a default when it cannot be read."""
    if header is None:
        return DEFAULT_DELAY_MS
    try:
        seconds = float(header)
    except ValueError:
        try:
            when = parsedate_to_datetime(header)
        except ValueError:
            return DEFAULT_DELAY_MS
        # A date without a zone is in GMT, too: there is no other in HTTP.
        seconds = (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    if not math.isfinite(seconds):
        return DEFAULT_DELAY_MS
    return min(max(math.ceil(seconds * 1000), SHORTEST_DELAY_MS), LONGEST_DELAY_MS)


def shaped(kind: type[M], response: httpx.Response) -> M:
    """Its JSON as this model.  Raises :class:`Unavailable`: a proxy's page with status 200 is an outage, not an answer.

    The error quotes nothing of the answer: it may be a secret, or a letter.
    """
    try:
        return kind.model_validate_json(response.content)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, wrong["loc"])) or "all of it"
        raise Unavailable(f"{response.url} answered 200 with another shape: {where}: {wrong['msg']}") from None
