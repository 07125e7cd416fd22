"""Verbs for lists of jobs that people keep under a name.  Each has their own; whoever has the address sees them."""

from typing import Final
from urllib.parse import parse_qsl, urlencode

from sqlalchemy import delete, func, insert, select, update

from control.transaction import Control, Transaction
from control.who import By, Who
from errors import BadInput, NotFound
from ledger import saved_views as kept
from ledger.audit import Deed
from ledger.saved_views import SavedView
from ledger.tables import saved_views

#: So many has one person at most.
MOST: Final = 100
#: What the address of a list of jobs has.
PARTS: Final = ("q", "state", "queue", "actor", "since")


def save(control: Control, name: str, query: str, *, by: By) -> SavedView:
    """Keep the list of jobs that has this query in its address; one of that name is changed.  Idempotent.

    Raises ``BadInput``.
    """
    if not (0 < len(name) <= 60 and name.isprintable() and name == name.strip()):
        raise BadInput(f"{name!r} is no name for a view: give 1 to 60 printable characters")
    wanted = canonical(query)

    def verb(tx: Transaction) -> SavedView:
        owner = owner_of(by)
        one = (saved_views.c.owner == owner) & (saved_views.c.name == name)
        known = kept.find(tx.connection, owner, name)
        if known is not None and known.query == wanted:
            return known
        if known is None:
            count = select(func.count()).select_from(saved_views).where(saved_views.c.owner == owner)
            if (tx.connection.scalar(count) or 0) >= MOST:
                raise BadInput(f"{owner} has {MOST} views already; remove one that is of no use any more")
            tx.connection.execute(insert(saved_views).values(owner=owner, name=name, query=wanted, changed_at=tx.now))
        else:
            tx.connection.execute(update(saved_views).where(one).values(query=wanted, changed_at=tx.now))
        tx.deeds.append(Deed("save_view", {"view": name}, 1, [{"was": known.query if known else None, "is": wanted}]))
        return SavedView(owner, name, wanted, tx.now)

    return control.run(verb, by=by)


def remove(control: Control, name: str, *, by: By) -> None:
    """Forget one's own view of that name.  Raises ``NotFound``."""

    def verb(tx: Transaction) -> None:
        one = (saved_views.c.owner == owner_of(by)) & (saved_views.c.name == name)
        if not tx.connection.execute(delete(saved_views).where(one)).rowcount:
            raise NotFound(f"{owner_of(by)} has no view {name!r}")
        tx.deeds.append(Deed("remove_view", {"view": name}))

    control.run(verb, by=by)


def canonical(query: str) -> str:
    """The query of an address, without what is empty.  Raises ``BadInput``."""
    if len(query) > 4_000:
        raise BadInput(f"a view has {4_000:,} characters at most; this one has {len(query):,}")
    parts = query.removeprefix("?")
    try:
        given = dict(parse_qsl(parts, keep_blank_values=True, strict_parsing=bool(parts)))
    except ValueError as error:
        remedy = "write state=failed&queue=billing, or q=state:failed"
        raise BadInput(f"{query!r} is not what the address of a list of jobs has: {remedy}") from error
    if unknown := sorted(given.keys() - set(PARTS)):
        raise BadInput(f"{unknown[0]!r} is not in the address of a list of jobs; there are {', '.join(PARTS)}")
    return urlencode({name: given[name] for name in PARTS if given.get(name)})


def owner_of(by: By) -> str:
    return by.name if isinstance(by, Who) else by
