"""What is known of a chain: how far it was looked at, its last blocks, and the logs that match.

Every change is one transaction, which moves the cursor from where the caller has seen it: of two watchers one gets on.
What is to be told of the matches is recorded in it too, by ``tell``.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Connection, func, select, update

from actors.database import add, database, insert, put
from actors.ethereum import Header, Log
from actors.tables import chain_blocks, chain_cursors, chain_matches
from errors import Retry

#: What stands for the block before the first.
ZERO = "0x" + "0" * 64
#: Rows of one statement.
ROWS = 500


class Match(BaseModel):
    """A log that matches, as it is told.

    Told once for each ``revision``: 0 when it is found, 1 when its block has left the chain, 2 when that is back.  Jobs
    may run in another order than they were sent, so who keeps a state goes by the highest revision of a match.
    """

    model_config = ConfigDict(frozen=True)

    chain: int
    number: int  #: of its block
    block_hash: str
    log_index: int  #: with ``chain`` and ``block_hash`` it names the match
    transaction_hash: str
    address: str
    topics: list[str]
    data: str | None  #: None when it is too long for a message; the table ``chain_matches`` has it
    removed: bool  #: what was told of it before does not hold
    revision: int
    found_at: datetime


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a chain was looked at."""

    chain: int
    number: int
    hash: str
    first: int


Tell = Callable[[Connection, Sequence[Match]], None]


def chains() -> list[int]:
    """The chains that are known."""
    with database().read() as connection:
        return list(connection.scalars(select(chain_cursors.c.chain).order_by(chain_cursors.c.chain)))


def cursor(chain: int) -> Cursor | None:
    """How far it was looked at; None when it never was."""
    with database().read() as connection:
        row = connection.execute(select(chain_cursors).where(chain_cursors.c.chain == chain)).one_or_none()
    return None if row is None else Cursor(**row._mapping)


def recent(chain: int) -> list[tuple[int, str]]:
    """Numbers and hashes of the blocks that are kept, newest first."""
    b = chain_blocks.c
    with database().read() as connection:
        rows = connection.execute(select(b.number, b.hash).where(b.chain == chain).order_by(b.number.desc()))
        return [(row.number, row.hash) for row in rows]


def matched(chain: int, start: int) -> list[tuple[int, str]]:
    """Numbers and hashes of the blocks from ``start`` on that have matches which hold."""
    m = chain_matches.c
    of = (m.chain == chain, m.number >= start, ~m.removed)
    with database().read() as connection:
        rows = connection.execute(select(m.number, m.block_hash).where(*of).distinct().order_by(m.number))
        return [(row.number, row.block_hash) for row in rows]


def begin(chain: int, before: Header | None) -> Cursor:
    """Look at a chain from the block after ``before`` on, from its first if that is None."""
    number, hash = (before.number, before.hash) if before else (-1, ZERO)
    at = Cursor(chain, number, hash, number)
    with database().write() as connection:
        row = {name: getattr(at, name) for name in Cursor.__slots__}
        if not add(connection, chain_cursors, row):
            raise _overtaken(chain)
        _remember(connection, chain, [before] if before else [])
    return at


def advance(at: Cursor, passed: Sequence[Header], found: Sequence[Log], *, depth: int, tell: Tell) -> Cursor:
    """Move on to the last of the blocks that were looked at; their matches are kept and told, those known are not."""
    to = Cursor(at.chain, passed[-1].number, passed[-1].hash, at.first)
    with database().write() as connection:
        _move(connection, at, to)
        _remember(connection, at.chain, passed)
        b = chain_blocks.c
        connection.execute(chain_blocks.delete().where(b.chain == at.chain, b.number < to.number - depth))
        now = database().time(connection)
        told = [match for chunk in _chunks(found) for match in _keep(connection, at.chain, chunk, now)]
        tell(connection, sorted(told, key=lambda match: (match.number, match.log_index)))
    return to


def turn_back(at: Cursor, to: Header | None, *, orphans: Collection[str] | None = None, tell: Tell) -> Cursor:
    """Go back (or on) to behind a block, before the first if that is None; all from there on is looked at again.

    The matches behind it do not hold any more, and that is told, the last first: all of them, or those of the blocks
    in ``orphans``.
    """
    number, hash = (to.number, to.hash) if to else (-1, ZERO)
    there = Cursor(at.chain, number, hash, min(at.first, number) if number <= at.number else number)
    m, b = chain_matches.c, chain_blocks.c
    with database().write() as connection:
        _move(connection, at, there)
        connection.execute(chain_blocks.delete().where(b.chain == at.chain, b.number > number))
        _remember(connection, at.chain, [to] if to else [])
        removed: list[Match] = []
        behind = (m.chain == at.chain, m.number > number, ~m.removed)
        for chunk in [None] if orphans is None else list(_chunks(sorted(orphans))):
            of = behind if chunk is None else (*behind, m.block_hash.in_(chunk))
            mark = update(chain_matches).where(*of).values(removed=True, revision=m.revision + 1)
            removed += map(_match, connection.execute(mark.returning(*m)))
        tell(connection, sorted(removed, key=lambda match: (match.number, match.log_index), reverse=True))
    return there


def count(chain: int) -> int:
    """How many matches of a chain hold."""
    m = chain_matches.c
    with database().read() as connection:
        return connection.scalar(select(func.count()).where(m.chain == chain, ~m.removed)) or 0


def _move(connection: Connection, at: Cursor, to: Cursor) -> None:
    c = chain_cursors.c
    where = (c.chain == at.chain, c.number == at.number, c.hash == at.hash)
    values = {"number": to.number, "hash": to.hash, "first": to.first}
    if connection.execute(update(chain_cursors).where(*where).values(**values)).rowcount != 1:
        raise _overtaken(at.chain)


def _remember(connection: Connection, chain: int, headers: Sequence[Header]) -> None:
    for header in headers:
        row = {"chain": chain, "number": header.number, "hash": header.hash, "parent": header.parent}
        put(connection, chain_blocks, row)


def _keep(connection: Connection, chain: int, found: Sequence[Log], now: datetime) -> Iterator[Match]:
    """Those that were not known, or had been removed."""
    m = chain_matches.c
    new = {"chain": chain, "removed": False, "revision": 0, "found_at": now}
    rows = [{**entry.model_dump(), **new} for entry in found]
    statement = insert(connection, chain_matches).values(rows)
    statement = statement.on_conflict_do_update(
        index_elements=[m.chain, m.block_hash, m.log_index],
        set_={"removed": False, "revision": m.revision + 1},
        where=m.removed,
    )
    yield from map(_match, connection.execute(statement.returning(*m)))


def _match(row: Any) -> Match:
    return Match(**row._mapping)


def _chunks(items: Sequence[Any]) -> Iterator[list[Any]]:
    rest = iter(items)
    while chunk := list(islice(rest, ROWS)):
        yield chunk


def _overtaken(chain: int) -> Exception:
    return Retry(f"another watcher of chain {chain} was faster; what this one found is looked at again", delay=0)
