"""The steps of a workflow, as they are declared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from dramatiq import Actor

from errors import InvalidWorkflow
from ledger.records import LONGEST_DELAY_MS
from middleware.durations import milliseconds

OnFailure = Literal["fail", "continue", "compensate"]
After = str | Sequence[str] | Mapping[str, OnFailure]


@dataclass(frozen=True)
class Spec:
    """A step as it was declared; made by :func:`step`, :func:`wait` and :func:`sleep`."""

    name: str
    actor: Actor[Any, Any] | None = None
    takes: Mapping[str, str] | None = None
    each: str | None = None
    after: After | None = None
    when: str | None = None
    unless: str | None = None
    on_failure: OnFailure | None = None
    compensate: Actor[Any, Any] | None = None
    signal: str | None = None
    delay_ms: int | None = None


def step(
    actor: Actor[Any, Any],
    *,
    name: str | None = None,
    takes: Mapping[str, str] | None = None,
    each: str | None = None,
    after: After | None = None,
    when: str | None = None,
    unless: str | None = None,
    on_failure: OnFailure | None = None,
    compensate: Actor[Any, Any] | None = None,
) -> Spec:
    """A step that runs an actor.

    Its parameters are filled by name: with what a step of that name before it returned, or with the flow's argument.

    Parameters:
      name: by which others refer to it; the actor's, if not given.
      takes: names for parameters that are called otherwise, ``{"amount": "price"}``.
      each: the name of a list, an argument or what a step returned: the actor runs once for each of its items, which
        its first parameter gets.  The step's result is the list of theirs.
      after: the steps it waits for; if not given, all that nothing came after.  As a mapping, with what the
        failure of each does: ``{"notify": "continue"}``.
      when, unless: the name of a step before it; it is skipped if what that returned is false (true).
      on_failure: what its failure does to the steps after it, where they do not say: ``"fail"`` the flow,
        ``"continue"`` with None in the place of its result, or ``"compensate"``: fail, and undo what was done.
        The last is the default of workflows of which a step has ``compensate``, the first of others.
      compensate: an actor that undoes it, should the flow fail after it completed.
    """
    if not isinstance(actor, Actor):
        raise InvalidWorkflow(f"a step runs an actor (a function with @dramatiq.actor), got {actor!r}")
    return Spec(name or actor.actor_name, actor, takes, each, after, when, unless, on_failure, compensate)


def wait(
    signal: str,
    *,
    timeout: int | timedelta | str | None = None,
    name: str | None = None,
    after: After | None = None,
    when: str | None = None,
    unless: str | None = None,
    on_failure: OnFailure | None = None,
) -> Spec:
    """A step that waits for ``flow.signal(…)``, and returns what that brought.  It holds no slot.

    A signal that came before is kept for it.

    Parameters:
      timeout: it fails when no signal has come by then: milliseconds, a ``timedelta``, or ``"3d"``.
    """
    delay = None if timeout is None else _delay(f"wait({signal!r})", timeout)
    return Spec(name or signal, None, None, None, after, when, unless, on_failure, None, signal, delay)


def sleep(
    duration: int | timedelta | str,
    *,
    name: str | None = None,
    after: After | None = None,
    when: str | None = None,
    unless: str | None = None,
) -> Spec:
    """A step that lets time pass: milliseconds, a ``timedelta``, or ``"2d"``.  It holds no slot."""
    delay = _delay("sleep", duration)
    return Spec(name or f"sleep-{duration}".replace(" ", "-"), None, None, None, after, when, unless, delay_ms=delay)


def _delay(what: str, duration: int | timedelta | str) -> int:
    try:
        found = milliseconds(duration)
    except ValueError as error:
        raise InvalidWorkflow(f"{what}: {error}") from None
    if found > LONGEST_DELAY_MS:
        raise InvalidWorkflow(f"{what}: {duration!r} is more than a hundred years")
    return found
