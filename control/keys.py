"""Bringing what rests in the ledger under the first key of the ring."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, and_, update

from control.transaction import Control, Transaction
from control.who import By
from errors import Undecipherable
from ledger.queries import Queries
from ledger.resting import PLACES, Place, page, resealed, text_of
from ledger.sealing import PREFIX, KeyRing

#: Rows in one transaction: SQLite's writers wait for it.
BATCH = 100
_PASSES = 10


@dataclass
class Rotated:
    """What a rotation did."""

    under: str  #: the key
    rows: Counter[str] = field(default_factory=Counter)  #: encrypted again, by table
    left: Counter[str] = field(default_factory=Counter)  #: not opened by the key they name, by table


def rotate(
    control: Control,
    ring: KeyRing,
    *,
    by: By,
    batch: int = BATCH,
    told: Callable[[Rotated], None] | None = None,
    places: Sequence[Place] = PLACES,
) -> Rotated:
    """Encrypt again, under the ring's first key, what rests under its others.

    Beside running workers, and as often as one likes: a row is changed only if it is still what was read, and one that
    is under the first key already is not looked at.  So a rotation that was stopped goes on where it was.  It ends when
    nothing is left to do; what is sent meanwhile by a process that still writes with another key may need one more.

    Parameters:
      places: where envelopes rest: those of the ledger, and of who keeps some in its database.
    """
    done = Rotated(ring.ids[0])
    for _ in range(_PASSES):
        done.left.clear()
        before = done.rows.total()
        for place in places if len(ring.ids) > 1 else ():
            _place(control, ring, place, batch, done, told, by)
        if done.rows.total() == before:
            break
    if done.rows:
        control.run(lambda tx: tx.note(None, "keys rotated", {"under": done.under, "rows": done.rows.total()}), by=by)
    return done


def reveal(control: Control, queries: Queries, ref: str, *, by: By) -> None:
    """Note in a job's journal that somebody is about to read what it has encrypted.  No such job: nothing."""
    job = queries.job(ref)
    if job is not None:
        control.run(lambda tx: tx.note(job.id, "revealed", {}), by=by)


def _place(
    control: Control,
    ring: KeyRing,
    place: Place,
    batch: int,
    done: Rotated,
    told: Callable[[Rotated], None] | None,
    by: By,
) -> None:
    others = [f"{PREFIX}{id}:" for id in ring.ids[1:]]
    after: tuple[Any, ...] | None = None

    def verb(tx: Transaction) -> tuple[tuple[Any, ...] | None, int, int]:
        rows = page(tx.connection, place, others, after, batch)
        changed = left = 0
        for row in rows:
            key, value = list(row[:-1]), row[-1]
            try:
                text = resealed(ring, place.kind, str(key[0]), text_of(value))
            except (Undecipherable, ValueError, KeyError):
                left += 1
                continue
            changed += _swap(tx.connection, place, key, value, text)
        return (rows[-1][:-1] if rows else None), changed, left

    while True:
        after, changed, left = control.run(verb, by=by)
        done.rows[place.table.name] += changed
        done.left[place.table.name] += left
        if told is not None and changed:
            told(done)
        if after is None:
            return


def _swap(connection: Connection, place: Place, key: list[Any], old: Any, text: str) -> int:
    new = place.stored(text)
    same = and_(*(column == value for column, value in zip(place.key, key, strict=True)), place.column == old)
    return connection.execute(update(place.table).where(same).values({place.column.name: new})).rowcount
