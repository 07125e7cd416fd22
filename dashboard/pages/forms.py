"""Verbs as people meet them: a button, and a page that asks before what cannot be undone.

Each is two routes: GET shows the page that asks (scripts show it as a dialog), POST does it and goes back.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData

from control.who import Who
from dashboard.pages import flash
from dashboard.pages.rendering import page, url_for
from dashboard.security import allow, principal, who
from dashboard.services import Opened, Services
from errors import BadInput, Denied, HarelineError, LedgerUnavailable, NotAuthenticated, ReadOnly

T = TypeVar("T")

#: Errors that are told on a page of their own; all others beside the thing that was to be changed.
APART: Final = (Denied, ReadOnly, NotAuthenticated, LedgerUnavailable)


@dataclass(frozen=True)
class Field:
    """What is asked for before a verb is done."""

    name: str
    label: str
    hint: str = ""
    value: str = ""
    kind: Literal["text", "number", "area", "checkbox", "password", "hidden"] = "text"
    required: bool = True


class Act:
    """One deed: what it is done to, in whose name, with which words."""

    def __init__(self, request: Request, services: Services, key: str, given: FormData) -> None:
        self.request = request
        self.services = services
        self.key = key
        self.by: Who = who(request)
        self._given = given
        self.to = ""  #: a path, when it leads elsewhere

    def text(self, name: str, usual: str = "") -> str:
        """A word of the form, without space around it."""
        value = self._given.get(name)
        return value.strip() if isinstance(value, str) and value.strip() else usual

    def json(self, name: str, kind: type[T], usual: str) -> T:
        """A value written as JSON.  Raises ``BadInput`` for what is none, or of another kind."""
        try:
            value = json.loads(self.text(name, usual))
        except ValueError as error:
            raise BadInput(f"{name} is no JSON: {error}") from None
        if not isinstance(value, kind):
            raise BadInput(f"{name} has to be a JSON {'list' if kind is list else 'object'}")
        return value

    def number(self, name: str, usual: float) -> float:
        """Raises ``BadInput`` unless it is a finite one."""
        text = self.text(name)
        try:
            value = float(text) if text else usual
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise BadInput(f"{name.replace('_', ' ')}: {text!r} is no number")
        return value


@dataclass(frozen=True)
class Verb:
    """Something that can be done to one thing."""

    name: str  #: the last part of its path
    operation: str  #: the operationId, which says who may
    label: str  #: of the button
    do: Callable[[Act], str]  #: does it, and returns what to tell
    say: str = ""  #: what will happen; names in braces are what ``prefill`` looks up
    fields: Sequence[Field] = ()
    typed: bool = False  #: the thing's name has to be typed
    danger: bool = False
    prefill: Callable[[Request, Services, str], Mapping[str, str]] | None = None  #: for its fields and ``say``

    @property
    def asks(self) -> bool:
        """Whether it asks before it is done."""
        return bool(self.say or self.fields or self.typed)


def offered(request: Request, verbs: Sequence[Verb], *names: str) -> list[Verb]:
    """Of these verbs those of the names, in that order, that whoever asks may do."""
    asks = principal(request)
    known = {verb.name: verb for verb in verbs}
    return [known[name] for name in names if asks.may(known[name].operation)]


def offer(router: APIRouter, path: str, thing: str, verbs: Sequence[Verb]) -> None:
    """Add the routes of verbs below ``path/{key}``; ``thing`` is what there is: job, queue …"""
    for verb in verbs:
        _add(router, path, thing, verb)


def _add(router: APIRouter, path: str, thing: str, verb: Verb) -> None:
    route = f"{path}/{{key:path}}/{verb.name}"

    def ask(request: Request, key: str, services: Opened) -> Response:
        given = verb.prefill(request, services, key) if verb.prefill else {}
        title = f"{verb.label} {thing}"
        say = verb.say.format_map(given) if given else verb.say
        return page(
            request, "confirm.html", title=title, verb=verb, thing=thing, key=key, base=path, given=given, say=say
        )

    async def do(request: Request, key: str, services: Opened) -> Response:
        given = await request.form()
        return await run_in_threadpool(_do, request, services, path, key, verb, given)

    guard = [Depends(allow(verb.operation))]
    router.add_api_route(route, ask, methods=["GET"], dependencies=guard, include_in_schema=False)
    router.add_api_route(route, do, methods=["POST"], dependencies=guard, include_in_schema=False)


def _do(request: Request, services: Services, path: str, key: str, verb: Verb, given: FormData) -> Response:
    act = Act(request, services, key, given)
    root: str = request.scope.get("root_path", "")
    back = url_for(root, path, [key])
    try:
        if verb.typed and act.text("typed") != key:
            raise BadInput(f"nothing was done: to {verb.label.lower()}, type the name {key!r} as it is")
        told = verb.do(act)
    except APART:
        raise
    except HarelineError as error:
        return flash.redirect(request, back, str(error), kind="error")
    return flash.redirect(request, url_for(root, act.to) if act.to else back, told)
