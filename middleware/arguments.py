"""Options that name an argument by a path: a parameter of the actor, then keys or fields (``order.customer``)."""

import difflib
import functools
import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from dramatiq import Actor

from errors import InvalidActor

T = TypeVar("T")

#: Finds a value among the positional and the keyword arguments of a message.
Argument = Callable[[Sequence[Any], Mapping[str, Any]], Any]

#: Longest value of a key that is shown as it is.
LONGEST_SHOWN = 80


def demand_whole(owner: str, name: str, value: object) -> None:
    """Raise ``ValueError`` unless it is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{owner}: {name} is a whole number of at least 1, got {value!r}")


def demand_path(owner: str, key: object) -> None:
    """Raise ``ValueError`` unless it could lead to an argument."""
    if not (isinstance(key, str) and all(map(str.isidentifier, key.split(".")))):
        raise ValueError(f"{owner}: key is the name of a parameter, or of a field of one (event.user), got {key!r}")


def listed(actor: Actor[Any, Any], option: str, kind: type[T]) -> list[T]:
    """The values of an option that is one of a kind or a list of them.  Raises ``InvalidActor``."""
    given = actor.options.get(option)
    values = given if isinstance(given, (list, tuple)) else [given] if given is not None else []
    for value in values:
        if not isinstance(value, kind):
            raise InvalidActor(
                f"actor {actor.actor_name!r}: {option} is a {kind.__name__} or a list of them, got {value!r}"
            )
    return list(values)


def finder(actor: Actor[Any, Any], option: str, key: str) -> Argument:
    """Finds the value of a key among the arguments of a message; None where its path leads nowhere.

    Raises ``InvalidActor`` when the actor has no such parameter.
    """
    name, *path = key.split(".")
    parameters = inspect.signature(inspect.unwrap(actor.fn)).parameters
    try:
        demand_parameter(key, parameters)
    except ValueError as error:
        raise InvalidActor(f"actor {actor.actor_name!r}: {option} by {key!r}: {error}") from None
    place = list(parameters).index(name)
    default = parameters[name].default

    def find(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        value = args[place] if place < len(args) else kwargs.get(name, default)
        try:
            return functools.reduce(step, path, value)
        except (KeyError, AttributeError):
            return None

    return find


def shown(value: Any) -> str:
    """The same text for the same value, in every process."""
    text = json.dumps(value, sort_keys=True, default=str)
    return text if len(text) <= LONGEST_SHOWN else hashlib.sha256(text.encode()).hexdigest()


def demand_parameter(path: str, parameters: Iterable[str]) -> None:
    """Raise ``ValueError``, naming the nearest, unless the path begins with one of the actor's parameters."""
    name, known = path.partition(".")[0], list(parameters)
    if name not in known:
        nearest = difflib.get_close_matches(name, known, n=1, cutoff=0)
        raise ValueError(
            f"{name!r} is no parameter of it; "
            + (f"the nearest is {nearest[0]!r}" if nearest else "it has none; leave the option out")
        )


def step(value: Any, name: str) -> Any:
    """One step of a path.  Raises ``KeyError`` or ``AttributeError`` where it leads nowhere."""
    return value[name] if isinstance(value, Mapping) else getattr(value, name)
