"""Options that name an argument by a path: a parameter of the actor, then keys or fields (``order.customer``)."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any


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
