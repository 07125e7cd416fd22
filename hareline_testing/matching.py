"""Whether a job has the arguments a test expects, and how jobs are shown to whoever reads a failed test."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from dramatiq import Actor
from dramatiq.message import Message
from pydantic_core import to_jsonable_python

from ledger.sealed import SEALED
from ledger.views import JobView
from middleware.encryption import Encryption

#: Jobs shown where an expected one is missing.
SHOWN = 20


class Expected:
    """Some arguments of an actor; the others may be anything.

    Compared as they are, and as JSON, as which the message carries them.
    """

    def __init__(
        self, actor: Actor[Any, Any], args: Sequence[Any], kwargs: Mapping[str, Any], encryption: Encryption
    ) -> None:
        self._encryption = encryption
        self._signature = inspect.signature(inspect.unwrap(actor.fn))
        self._actor = actor.actor_name
        try:
            self._wanted = self._named(args, kwargs)
        except TypeError as error:
            raise TypeError(f"actor {self._actor!r}: {error}; name parameters of it") from None

    def fits(self, job: JobView) -> bool:
        """Whether it is a job of the actor with these arguments; what is secret is looked at in clear."""
        if job.actor != self._actor or job.message is None:
            return False
        message: Message[Any] = Message.decode(job.body)
        if SEALED in message.options:
            message, _ = self._encryption.opened(message)
        try:
            given = self._named(message.args, message.kwargs)
        except TypeError:  # it was not validated, or has older names
            given = dict(message.kwargs)
        defaults = {name: x.default for name, x in self._signature.parameters.items() if x.default is not x.empty}
        given = defaults | given
        return all(name in given and _same(value, given[name]) for name, value in self._wanted.items())

    def __str__(self) -> str:
        return f"{self._actor}({', '.join(f'{name}={value!r}' for name, value in self._wanted.items())})"

    def _named(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """By parameter; those collected by ``**`` by their own names."""
        named = dict(self._signature.bind_partial(*args, **kwargs).arguments)
        for name, parameter in self._signature.parameters.items():
            if parameter.kind is parameter.VAR_KEYWORD:
                named |= named.pop(name, {})
        return named


def shown(jobs: Sequence[JobView]) -> str:
    """One line for each, the newest last."""
    if not jobs:
        return "  nothing"
    lines = [f"  {_call(job)} on {job.queue}, {job.state}" for job in jobs[-SHOWN:]]
    more = len(jobs) - SHOWN
    return "\n".join([f"  … and {more} before", *lines] if more > 0 else lines)


def _call(job: JobView) -> str:
    message = job.message or {"args": ["…"], "kwargs": {}}
    given = [repr(value) for value in message["args"]]
    given += [f"{name}={value!r}" for name, value in message["kwargs"].items()]
    return f"{job.actor}({', '.join(given)})"


def _same(wanted: Any, given: Any) -> bool:
    if wanted == given:
        return True
    try:
        return bool(to_jsonable_python(wanted) == to_jsonable_python(given))
    except ValueError:  # one of them has no JSON: unittest.mock.ANY, a matcher
        return False
