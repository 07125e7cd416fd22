"""Where envelopes rest in the ledger, and how each is brought under another key."""

import functools
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Boolean, Column, Connection, LargeBinary, Table, Text, bindparam, or_, select, tuple_
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import FunctionElement
from sqlalchemy.types import TypeEngine

from ledger.sealed import SEALED, Path, bound, change, messages
from ledger.sealing import CHECKPOINT, ERROR, NOTE, PREFIX, RESULT, Bound, KeyRing, key_ids
from ledger.tables import attempts, checkpoints, history, payloads, progress, results

MESSAGE = "message"


@dataclass(frozen=True)
class Place:
    """A column that may hold envelopes."""

    table: Table
    column: Column[Any]
    kind: str  #: of what jobs leave, or a message
    key: tuple[Column[Any], ...]  #: the table's; the job's id is its first

    @property
    def binary(self) -> bool:
        return isinstance(self.column.type, LargeBinary)

    def stored(self, text: str) -> str | bytes:
        """A text as the column has it."""
        return text.encode() if self.binary else text


#: History is last: what retention moves there meanwhile is found in one of the two.
PLACES = (
    Place(payloads, payloads.c.body, MESSAGE, (payloads.c.job_id,)),
    Place(results, results.c.body, RESULT, (results.c.job_id,)),
    Place(checkpoints, checkpoints.c.body, CHECKPOINT, (checkpoints.c.job_id,)),
    Place(progress, progress.c.note, NOTE, (progress.c.job_id,)),
    Place(attempts, attempts.c.error_message, ERROR, (attempts.c.job_id, attempts.c.epoch)),
    Place(history, history.c.body, MESSAGE, (history.c.id,)),
)

_PAGE = 500


class holds(FunctionElement[bool]):
    """Whether a column has this text in it."""

    type = Boolean()
    inherit_cache = True


@compiles(holds, "postgresql")
def _position(element: holds, compiler: Any, **kw: Any) -> str:
    column, part = element.clauses
    return f"position({compiler.process(part, **kw)} IN {compiler.process(column, **kw)}) > 0"


@compiles(holds, "sqlite")
def _instr(element: holds, compiler: Any, **kw: Any) -> str:
    return f"instr({compiler.process(element.clauses, **kw)}) > 0"


def page(
    connection: Connection, place: Place, parts: Sequence[str], after: tuple[Any, ...] | None, limit: int
) -> list[tuple[Any, ...]]:
    """The next rows with one of these texts in the column: their key, and the column."""
    kind: TypeEngine[Any] = LargeBinary() if place.binary else Text()
    found = or_(*(holds(place.column, bindparam(None, place.stored(part), type_=kind)) for part in parts))
    wanted = select(*place.key, place.column).where(found).order_by(*place.key).limit(limit)
    if after is not None:
        bounds = [bindparam(None, value, type_=column.type) for column, value in zip(place.key, after, strict=True)]
        wanted = wanted.where(tuple_(*place.key) > tuple_(*bounds))
    return [tuple(row) for row in connection.execute(wanted)]


def usage(connection: Connection, places: Sequence[Place] = PLACES) -> dict[str, Counter[str]]:
    """How many rows of each table rest under which key."""
    found = {place.table.name: Counter[str]() for place in places}
    for place in places:
        after: tuple[Any, ...] | None = None
        while rows := page(connection, place, [PREFIX], after, _PAGE):
            for row in rows:
                found[place.table.name].update(key_ids(text_of(row[-1])))
            after = rows[-1][:-1]
    return found


def resealed(ring: KeyRing, kind: str, job: str, text: str) -> str:
    """What such a column says, with its envelopes under the ring's first key.  Raises ``Undecipherable``."""
    if kind != MESSAGE:
        return ring.reseal(text, (kind, job)) if text.startswith(PREFIX) else text
    message = json.loads(text)
    for found in messages(message):
        to = functools.partial(bound, found["actor_name"], found["message_id"])
        change(found, found["options"][SEALED], functools.partial(_again, ring, to))
    return json.dumps(message, separators=(",", ":"))


def _again(ring: KeyRing, to: Callable[[Path], Bound], envelope: str, path: Path) -> str:
    return ring.reseal(envelope, to(path))


def text_of(value: Any) -> str:
    return value if isinstance(value, str) else bytes(value).decode("utf-8", "replace")
