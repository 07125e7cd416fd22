"""What was deployed from here, or is about to be: signed transactions, stored before they are sent."""

from dataclasses import dataclass, field

from sqlalchemy import select

from actors.database import database, put
from actors.tables import chain_deployments


@dataclass(frozen=True, slots=True)
class Deployment:
    """A contract, and the transaction that makes it."""

    chain: int
    id: str
    address: str
    sender: str
    nonce: int
    transaction_hash: str
    raw: str = field(repr=False)


_COLUMNS = [chain_deployments.c[name] for name in Deployment.__slots__]


def deployment(chain: int, id: str) -> Deployment | None:
    """The one that was stored under this id, or None."""
    d = chain_deployments.c
    with database().read() as connection:
        row = connection.execute(select(*_COLUMNS).where(d.chain == chain, d.id == id)).one_or_none()
    return None if row is None else Deployment(**row._mapping)


def newest(chain: int) -> str | None:
    """The address of the one that was proved last."""
    d = chain_deployments.c
    of = (d.chain == chain, d.proved_at.is_not(None))
    with database().read() as connection:
        return connection.scalar(select(d.address).where(*of).order_by(d.proved_at.desc()).limit(1))


def keep(made: Deployment) -> None:
    """Store one, in the place of an earlier one of its id; it is not proved yet."""
    row = {name: getattr(made, name) for name in Deployment.__slots__}
    with database().write() as connection:
        put(connection, chain_deployments, row | {"signed_at": database().time(connection), "proved_at": None})


def forget(made: Deployment) -> None:
    """Remove one that will never be there."""
    d = chain_deployments.c
    with database().write() as connection:
        connection.execute(chain_deployments.delete().where(d.chain == made.chain, d.id == made.id))


def proved(made: Deployment) -> None:
    """Say that it is there and works.  Idempotent."""
    d = chain_deployments.c
    with database().write() as connection:
        now = database().time(connection)
        of = (d.chain == made.chain, d.id == made.id, d.proved_at.is_(None))
        connection.execute(chain_deployments.update().where(*of).values(proved_at=now))
