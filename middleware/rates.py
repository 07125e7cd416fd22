"""How fast jobs may start, as an actor or a queue says it."""

import math
from dataclasses import dataclass
from datetime import timedelta

from middleware.arguments import demand_path, demand_whole
from settings import rate_of


@dataclass(frozen=True, slots=True)
class Rate:
    """At most ``count`` starts in ``per`` seconds over all workers, evenly spread.

    Parameters:
      per: seconds, or a ``timedelta``.
      key: name of a parameter of the actor: each of its values has a limit of its own.  ``"event.customer"`` reads a
        field, or a key, of the argument.
      burst: how many may start at once after a pause; 1 spreads them evenly.

    Raises ``ValueError``, naming what is wrong.
    """

    count: float
    per: float | timedelta = 1.0
    key: str | None = None
    burst: int = 1

    def __post_init__(self) -> None:
        for name, value in (("count", self.count), ("per", self.per_s)):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
                raise ValueError(f"Rate: {name} is a number above 0, got {value!r}")
        demand_whole("Rate", "burst", self.burst)
        if self.key is not None:
            demand_path("Rate", self.key)

    @property
    def per_s(self) -> float:
        return self.per.total_seconds() if isinstance(self.per, timedelta) else self.per

    @classmethod
    def parse(cls, text: str) -> "Rate":
        """``"10/s"``, ``"100/5m"`` (s, m, h or d).  Raises ``ValueError``."""
        try:
            return cls(*rate_of(text.strip()))
        except ValueError as error:
            raise ValueError(f"a rate is {error}; got {text!r}") from None

    def __str__(self) -> str:
        return f"{self.count:g} per {self.per_s:g} s"
