"""What can happen to a job, as it is told to listeners in workers and to who follows the feed."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from errors import UnknownEvent
from ledger.states import Outcome


class Happened(StrEnum):
    STARTED = "started"  #: an attempt begins; the feed does not have it
    COMPLETED = "completed"
    RETRYING = "retrying"  #: an attempt failed, there will be another
    SNOOZED = "snoozed"  #: put off by itself, at no cost
    PARKED = "parked"  #: put off before its body ran, by a rate limit or for want of its actor
    INTERRUPTED = "interrupted"  #: by a shutdown, at no cost
    FAILED = "failed"  #: a dead letter: its last attempt failed, or it was refused
    CANCELLED = "cancelled"
    EXPIRED = "expired"  #: a dead letter: not tried in time
    QUARANTINED = "quarantined"  #: a dead letter: it killed its worker three times
    BURIED = "buried"  #: a dead letter: a message that could never run
    CRASHED = "crashed"  #: its worker died or stalled
    RETRIED = "retried"  #: an operator sent it round again
    REMOVED = "removed"  #: an operator removed it, with what the feed had of it and nobody had read yet


#: Names for several of them.
GROUPS: Mapping[str, frozenset[Happened]] = {
    "dead": frozenset({Happened.FAILED, Happened.EXPIRED, Happened.QUARANTINED, Happened.BURIED}),
    "finished": frozenset(
        {
            Happened.COMPLETED,
            Happened.CANCELLED,
            Happened.FAILED,
            Happened.EXPIRED,
            Happened.QUARANTINED,
            Happened.BURIED,
        }
    ),
}
#: What the end of an attempt is told as.
OUTCOMES: Mapping[Outcome, Happened] = {
    outcome: Happened.COMPLETED if outcome is Outcome.SKIPPED else Happened(outcome) for outcome in Outcome
}
#: What a worker hears: it happened in its own hands, or in those of the duties it has.
HEARD = frozenset(Happened) - {Happened.BURIED, Happened.CRASHED, Happened.RETRIED, Happened.REMOVED}
#: What stands in the feed.
FED = frozenset(Happened) - {Happened.STARTED}


@dataclass(frozen=True, slots=True)
class JobEvent:
    """Something that happened to a job, and is committed."""

    event: Happened
    job: str  #: its id, as in ``hareline jobs show``
    message_id: str  #: of its Dramatiq message
    actor: str  #: by name; empty when its message could not be read
    queue: str
    at: datetime  #: by the database's clock
    attempt: int | None = None  #: which attempt it was about, from 1; None when it was about none, or that cost none
    reason: str | None = None  #: of a dead letter
    error_type: str | None = None
    error_message: str | None = None
    has_result: bool = False  #: a result is there to be read
    by: str = ""  #: who did it: a worker, an operator
    cursor: str = ""  #: its place in the feed; empty for a listener


def chosen(names: Iterable[str] | None, known: frozenset[Happened], *, elsewhere: str) -> frozenset[Happened]:
    """The events these names stand for; None for all.  Raises ``UnknownEvent``, with the nearest that is known.

    Parameters:
      elsewhere: what to do about a name that is right, but not here.
    """
    found: set[Happened] = set()
    valid = sorted({*map(str, known), *GROUPS})
    for name in known if names is None else names:
        if name in GROUPS:
            found |= GROUPS[name] & known
        elif name in known:
            found.add(Happened(name))
        elif name in list(Happened):
            raise UnknownEvent(f"{name!r} is not told here: {elsewhere} (told are {', '.join(valid)})")
        else:
            near = difflib.get_close_matches(str(name), valid, 1, 0)[0]
            raise UnknownEvent(f"{name!r} is no event; the nearest is {near!r} (there are {', '.join(valid)})")
    if not found:
        raise UnknownEvent(f"no event is named; name at least one of {', '.join(valid)}")
    return frozenset(found)
