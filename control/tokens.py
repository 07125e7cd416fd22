"""Verbs for API tokens: what programs log in with.

A token is 256 random bits, shown once.  What is kept is SHA-256 of it, which for so many bits is all that is needed,
and can be looked up.
"""

import hashlib
import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import Final, NamedTuple

from sqlalchemy import insert, select, update

from control.permissions import Role
from control.transaction import Control, Transaction
from control.users import patterns_of
from control.who import By
from errors import BadAccount, NotFound
from ledger.audit import Deed
from ledger.tables import tokens

PREFIX: Final = "hareline_"


class NewToken(NamedTuple):
    id: str
    token: str  #: it is kept nowhere


def create(
    control: Control,
    name: str,
    role: Role,
    *,
    queues: Sequence[str] = (),
    expires_in: timedelta | None,
    by: By,
) -> NewToken:
    """A token that may do what the role may, on these queues.  Raises ``BadAccount``.

    Parameters:
      name: who will have it; it stands in the journal and in the audit trail.
      expires_in: None: never.
    """
    if not (0 < len(name) <= 100 and name.isprintable()):
        raise BadAccount(f"{name!r} is no name for a token: say who will have it, in up to 100 printable characters")
    if expires_in is not None and expires_in <= timedelta(0):
        raise BadAccount("a token that has expired already is of no use; give a time that is to come")
    patterns = patterns_of(queues)
    made = NewToken(secrets.token_hex(4), PREFIX + secrets.token_urlsafe(32))

    def verb(tx: Transaction) -> NewToken:
        ends = None if expires_in is None else tx.now + expires_in
        row = {"id": made.id, "hash": hash_of(made.token), "name": name, "role": role.value, "queues": patterns}
        tx.connection.execute(insert(tokens).values(**row, created_at=tx.now, created_by=tx.by, expires_at=ends))
        told = {"name": name, "role": role.value, "queues": patterns, "expires_at": ends and ends.isoformat()}
        tx.deeds.append(Deed("create_token", {"id": made.id, "name": name}, 1, [told]))
        return made

    return control.run(verb, by=by)


def revoke(control: Control, id: str, *, by: By) -> bool:
    """Let nobody in with it any more; false when that is so already.  Raises ``NotFound``."""

    def verb(tx: Transaction) -> bool:
        if tx.connection.scalar(select(tokens.c.id).where(tokens.c.id == id)) is None:
            raise NotFound(f"there is no token {id!r}; `hareline tokens ls` lists them")
        live = (tokens.c.id == id) & tokens.c.revoked_at.is_(None)
        if not tx.connection.execute(update(tokens).where(live).values(revoked_at=tx.now)).rowcount:
            return False
        tx.deeds.append(Deed("revoke_token", {"id": id}))
        return True

    return control.run(verb, by=by)


def hash_of(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
