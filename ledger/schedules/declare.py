"""``@every("3s")`` and ``@cron("0 3 * * *", tz="Europe/Paris")`` on an actor."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from dramatiq import Actor

from errors import BadSchedule
from ledger.schedules.schedule import Schedule

A = TypeVar("A", bound=Actor[Any, Any])

_OPTION = "schedules"


def every(interval: str, *, key: str | None = None, **fields: Any) -> Callable[[A], A]:
    """Send the actor below every ``3s``, ``5m``, ``1h30m``, ``1d``; see :class:`Schedule` for the other fields.

    The key is the actor's name if none is given; an actor with several schedules needs to tell them apart.
    """
    return _declared(f"every {interval}", key, fields)


def cron(expression: str, *, key: str | None = None, **fields: Any) -> Callable[[A], A]:
    """Send the actor below at these times: five cron fields, or six with the seconds first.  Else as :func:`every`."""
    return _declared(expression, key, fields)


def declared(actors: Iterable[Actor[Any, Any]]) -> list[Schedule]:
    """The schedules that stand above these actors."""
    return [schedule for actor in actors for schedule in actor.options.get(_OPTION, ())]


def _declared(when: str, key: str | None, fields: dict[str, Any]) -> Callable[[A], A]:
    def declare(actor: A) -> A:
        if not isinstance(actor, Actor):
            raise BadSchedule(f"{when!r} stands above {actor!r}, which is no actor; put it above @dramatiq.actor")
        name = key or actor.actor_name
        unknown = fields.keys() - Schedule.__dataclass_fields__.keys()
        if unknown:
            known = ", ".join(sorted(Schedule.__dataclass_fields__.keys() - {"key", "actor", "when"}))
            raise BadSchedule(f"schedule {name!r}: {', '.join(sorted(unknown))} is not known; known are {known}")
        actor.options.setdefault(_OPTION, []).append(Schedule(name, actor.actor_name, when, **fields))
        return actor

    return declare
