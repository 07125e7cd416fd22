"""The header ``Idempotency-Key``: a request that is sent again is answered again, and not done again."""

import functools
import hashlib
import random
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from contextvars import ContextVar
from typing import Any, Final, NamedTuple

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from sqlalchemy import Connection

from broker.transactional import transactional
from control.transaction import in_turn
from dashboard.problems import Kind, problem
from dashboard.security import principal
from dashboard.services import Services
from errors import BadInput
from ledger.repeats import Answer, OtherRequest

HEADER: Final = "Idempotency-Key"
#: How it stands in the document.
PARAMETER: Final = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[!-~]+$"},
    "description": "Sent again with the same key within a day, it is answered as the first time, and not done again.",
}
#: Those that take no key: of these nothing that was sent or answered may be kept …
_SECRET: Final = frozenset({"create_token", "reveal_job_payload", "add_user", "change_user"})
#: … and a flow's verbs have sessions of their own.  Of all of them a second one is refused, or changes nothing.
NEVER: Final = _SECRET | {"cancel_flow", "retry_flow", "signal_flow"}
#: About so often answers that are old are forgotten, in requests.
_FORGET: Final = 100

_USED = Kind(422, "This key was used for another request", "Use a new key for every request.")


class _Keyed(NamedTuple):
    """The request that is being answered, which bears a key."""

    services: Services
    key: str
    body: str


class _Refused(Exception):
    """The endpoint answered that it did nothing."""

    def __init__(self, response: Response) -> None:
        self.response = response


_keyed: ContextVar[_Keyed | None] = ContextVar("keyed", default=None)


class Repeatable(APIRoute):
    """A route whose writes may bear a key.  Only what was done is remembered: what was refused may be tried again."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        if self.methods == {"GET"} or self.name in NEVER:
            return handle

        async def handled(request: Request) -> Response:
            given = request.headers.get(HEADER)
            if given is None:
                return await handle(request)
            # With the client's key, of which only a hash is kept: what was sent is not to be guessed from it.
            body = _hash(given.encode(), request.url.query.encode(), await request.body())
            token = _keyed.set(_Keyed(request.app.state.services, _key(request, given), body))
            try:
                return await handle(request)
            except OtherRequest:
                return problem(422, name="key-reused", kind=_USED)
            finally:
                _keyed.reset(token)

        return handled


def once(endpoint: Callable[..., Any], answers: Any, status: int) -> Callable[..., Any]:
    """The same endpoint, which for a request that bears a key does what it does in one transaction with the answer.

    Parameters:
      answers: the type of what it returns; status: with which it is answered.
    """
    adapter: TypeAdapter[Any] = TypeAdapter(answers)

    @functools.wraps(endpoint)
    def repeated(**given: Any) -> Any:
        keyed = _keyed.get()
        if keyed is None:
            return endpoint(**given)

        def do(connection: Connection) -> Answer:
            block.enter_context(transactional(connection))
            done = endpoint(**given)
            if isinstance(done, Response):
                raise _Refused(done)
            return Answer(status, {"content-type": "application/json"}, adapter.dump_json(done, by_alias=True))

        repeats = keyed.services.repeats
        try:
            with ExitStack() as block:  # which ends after the commit, and then sends what was recorded
                answer = in_turn(lambda: repeats.once(keyed.key, keyed.body, do))
        except _Refused as refused:
            return refused.response
        keyed.services.ring()
        if random.randrange(_FORGET) == 0:
            repeats.forget()
        replay = {"Idempotent-Replay": "true"} if answer.again else {}
        return Response(answer.body, answer.status, {**answer.headers, **replay})

    return repeated


def _key(request: Request, given: str) -> str:
    if not (0 < len(given) <= 200 and all("!" <= letter <= "~" for letter in given)):
        raise BadInput(f"{HEADER} is 1 to 200 visible ASCII characters, a UUID for example")
    asks = principal(request)
    return _hash(*(part.encode() for part in (asks.name, asks.token, request.method, request.url.path, given)))


def _hash(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(len(part).to_bytes(8, "big") + part for part in parts)).hexdigest()
