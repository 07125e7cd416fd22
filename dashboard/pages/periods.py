"""The periods that pages look back over."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

#: By name: how long, and in how many parts it is drawn.
PERIODS: Final[Mapping[str, tuple[timedelta, int]]] = {
    "1h": (timedelta(hours=1), 60),
    "6h": (timedelta(hours=6), 72),
    "24h": (timedelta(hours=24), 96),
    "7d": (timedelta(days=7), 84),
}


def period(name: str, usual: str) -> str:
    """The name, if there is such a period."""
    return name if name in PERIODS else usual
