"""What a schedule is: a message, its timetable, and what becomes of ticks that are late or meet the last one's job."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property
from typing import Any

from errors import BadSchedule
from ledger.records import TICKS_KEPT_S
from ledger.schedules.timetable import Dst, Timetable
from settings import Settings

#: A tick sent by then was on time: a new leader takes no longer.
PUNCTUAL_S = 10.0
#: A tick older than that may be forgotten before it is sent; a day is for being slow.
LONGEST_WITHIN_S = TICKS_KEPT_S - 86_400
MOST_AT_ONCE = 1_000


class Missed(StrEnum):
    """Of the ticks that came due and could not be sent at their time:"""

    SKIP = "skip"  #: the newest is sent if it is a few seconds old at most
    LATEST = "latest"  #: the newest is sent if it is no older than ``within_s``
    ALL = "all"  #: the newest ``most`` of those no older than ``within_s`` are sent, oldest first


class Overlap(StrEnum):
    """What becomes of a tick while the job of the last one has not ended.

    With any but the first, of several missed ticks the newest alone counts, whatever ``missed`` says.
    """

    ALLOW = "allow"  #: it is sent
    SKIP = "skip"  #: it is not sent
    QUEUE = "queue"  #: it waits for that end; of several that wait, the newest is sent
    CANCEL = "cancel"  #: that job is cancelled (or, while it runs, asked to stop), and it is sent


def always(settings: Settings) -> str:
    """No reason to leave a schedule out."""
    return ""


@dataclass(frozen=True)
class Schedule:
    """A message that is sent again and again.

    Parameters:
      key: names its ticks for ever; another key is another schedule.
      when, tz, start, end, jitter_s, dst: see :class:`~ledger.schedules.timetable.Timetable`.
      args, kwargs, options: of the message.
      missed, within_s, most: see :class:`Missed`.  At most seven days, and a thousand.
      overlap: see :class:`Overlap`.
      skip: in code only: why it is left out with these settings; empty when it is not.

    Raises :class:`BadSchedule`, which names it, for what cannot be; whether its actor exists and takes these arguments
    is seen where there is a broker.
    """

    key: str
    actor: str
    when: str
    tz: str = "UTC"
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    start: datetime | None = None
    end: datetime | None = None
    jitter_s: float = 0.0
    dst: Dst = "once"
    missed: Missed | str = Missed.LATEST
    within_s: float = 3_600.0
    most: int = 10
    overlap: Overlap | str = Overlap.ALLOW
    skip: Callable[[Settings], str] = field(default=always, compare=False)

    def __post_init__(self) -> None:
        try:
            self._check()
            _ = self.timetable
        except BadSchedule as error:
            raise BadSchedule(f"schedule {self.key!r}: {error}") from None

    def _check(self) -> None:
        if not self.key or len(self.key) > 200 or not self.key.isprintable():
            raise BadSchedule("a key is 1 to 200 printable characters")
        for name, kind in (("missed", Missed), ("overlap", Overlap)):
            if getattr(self, name) not in list(kind):
                raise BadSchedule(f"{name} is {', '.join(kind)}, got {getattr(self, name)!r}")
            object.__setattr__(self, name, kind(getattr(self, name)))
        object.__setattr__(self, "args", tuple(self.args))
        if not (math.isfinite(self.within_s) and 0 <= self.within_s <= LONGEST_WITHIN_S):
            raise BadSchedule(
                f"within_s is {self.within_s:,} s; give 0 to {LONGEST_WITHIN_S:,.0f} (seven days), for older ticks are "
                "forgotten, and could be sent twice"
            )
        if not 1 <= self.most <= MOST_AT_ONCE:
            raise BadSchedule(f"most is {self.most!r}; give 1 to {MOST_AT_ONCE:,}")

    @cached_property
    def timetable(self) -> Timetable:
        """When it fires."""
        return Timetable(self.when, self.tz, self.start, self.end, self.jitter_s, self.dst)

    @property
    def window(self) -> tuple[timedelta, int]:
        """How old a tick may be that is still sent, and how many of them at once."""
        match self.missed:
            case Missed.SKIP:
                return timedelta(seconds=PUNCTUAL_S), 1
            case Missed.ALL if self.overlap is Overlap.ALLOW:
                return timedelta(seconds=max(PUNCTUAL_S, self.within_s)), self.most
            case _:
                return timedelta(seconds=max(PUNCTUAL_S, self.within_s)), 1

    def definition(self) -> str:
        """As the ledger keeps it: JSON, the same for schedules that are equal.  Raises :class:`BadSchedule`."""
        plain = {name: getattr(self, name) for name in _KEPT}
        try:
            return json.dumps(plain, sort_keys=True, default=_written)
        except TypeError as error:
            raise BadSchedule(
                f"schedule {self.key!r}: its arguments cannot be written as JSON ({error}); pass plain values"
            ) from None


def read(key: str, definition: str) -> Schedule:
    """The schedule kept under that key.  Raises :class:`BadSchedule`."""
    try:
        fields = json.loads(definition)
        times = {name: datetime.fromisoformat(fields[name]) for name in ("start", "end") if fields.get(name)}
        return Schedule(key, **{name: value for name, value in fields.items() if name in _KEPT} | times)
    except (TypeError, ValueError) as error:
        if isinstance(error, BadSchedule):
            raise
        raise BadSchedule(f"schedule {key!r}: what is kept of it cannot be read ({error})") from None


_KEPT = tuple(name for name in Schedule.__dataclass_fields__ if name not in ("key", "skip"))


def _written(value: object) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is no JSON")
