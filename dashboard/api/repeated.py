"""The header ``Idempotency-Key``: a request that is sent again is answered again, and not done again."""

import hashlib
from collections.abc import Callable, Coroutine
from typing import Any, Final

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute

from dashboard.problems import Kind, problem
from dashboard.security import principal
from errors import BadInput
from ledger.repeats import Answer, Found, Repeats

HEADER: Final = "Idempotency-Key"
#: How it stands in the document.
PARAMETER: Final = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[!-~]+$"},
    "description": "Sent again with the same key within a day, it is answered as the first time, and not done again.",
}
#: What these answer must not be kept.
NEVER: Final = frozenset({"create_token", "reveal_job_payload"})

_USED = Kind(422, "This key was used for another request", "Use a new key for every request.")
_BUSY = Kind(409, "The same request is being answered", "Ask again in a moment.")
_LOST = Kind(409, "Whether that was done is not known", "Look whether it was; then send it with another key.")


class Repeatable(APIRoute):
    """A route whose writes may bear a key.  Only what was done is remembered: what was refused may be tried again."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        if self.methods == {"GET"} or self.name in NEVER:
            return handle

        async def repeated(request: Request) -> Response:
            given = request.headers.get(HEADER)
            if given is None:
                return await handle(request)
            repeats: Repeats = request.app.state.services.repeats
            key = _key(request, given)
            found = await run_in_threadpool(repeats.begin, key, _hash(request.url.query.encode(), await request.body()))
            match found:
                case Answer(status, headers, body):
                    return Response(body, status, {**headers, "Idempotent-Replay": "true"})
                case Found.OTHER:
                    return problem(422, name="key-reused", kind=_USED)
                case Found.BUSY:
                    return problem(409, name="key-in-use", kind=_BUSY, headers={"Retry-After": "1"})
                case Found.LOST:
                    return problem(409, name="outcome-unknown", kind=_LOST)
            try:
                response = await handle(request)
            except BaseException:
                await run_in_threadpool(repeats.forget, key)
                raise
            if response.status_code < 400:
                kept = {"content-type": response.headers["content-type"]}
                answer = Answer(response.status_code, kept, bytes(response.body))
                await run_in_threadpool(repeats.answered, key, answer)
            else:
                await run_in_threadpool(repeats.forget, key)
            return response

        return repeated


def _key(request: Request, given: str) -> str:
    if not (0 < len(given) <= 200 and all("!" <= letter <= "~" for letter in given)):
        raise BadInput(f"{HEADER} is 1 to 200 visible ASCII characters, a UUID for example")
    asks = principal(request)
    return _hash(*(part.encode() for part in (asks.name, asks.token, request.method, request.url.path, given)))


def _hash(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(len(part).to_bytes(8, "big") + part for part in parts)).hexdigest()
