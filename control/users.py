"""Verbs for users of the console."""

import re
from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, insert, select, update

from control.passwords import hashed
from control.permissions import Role
from control.transaction import Control, Transaction
from control.who import By
from errors import BadAccount, NotFound
from ledger.audit import Deed
from ledger.scope import Scope
from ledger.tables import sessions, users

_NAME = re.compile(r"[\w.@+-]{1,100}")


def add(control: Control, name: str, password: str | None, role: Role, *, queues: Sequence[str] = (), by: By) -> None:
    """A new user.  Without a password, only a trusted proxy lets them in.  Raises ``BadAccount``."""
    if not _NAME.fullmatch(name):
        raise BadAccount(f"{name!r} is no name for a user: up to 100 letters, digits and . _ @ + -")
    patterns = patterns_of(queues)
    kept = "" if password is None else hashed(password)

    def verb(tx: Transaction) -> None:
        if tx.connection.scalar(select(users.c.name).where(users.c.name == name)) is not None:
            raise BadAccount(f"there is a user {name!r}; `hareline users role|passwd` changes them")
        when = {"created_at": tx.now, "changed_at": tx.now, "changed_by": tx.by}
        row = {"name": name, "password": kept, "role": role.value, "queues": patterns, "disabled": False}
        tx.connection.execute(insert(users).values(**row, **when))
        tx.deeds.append(Deed("add_user", {"user": name}, 1, [{"role": role.value, "queues": patterns}]))

    control.run(verb, by=by)


def change(
    control: Control,
    name: str,
    *,
    password: str | None = None,
    role: Role | None = None,
    queues: Sequence[str] | None = None,
    disabled: bool | None = None,
    by: By,
) -> None:
    """Change what is given; whoever is logged in as them has to do so again.  Raises ``NotFound``, ``BadAccount``."""
    new: dict[str, Any] = {"password": None if password is None else hashed(password)}
    new |= {"role": role and role.value, "queues": None if queues is None else patterns_of(queues)}
    new |= {"disabled": disabled}
    new = {key: value for key, value in new.items() if value is not None}

    def verb(tx: Transaction) -> None:
        row = tx.connection.execute(select(users).where(users.c.name == name).with_for_update()).one_or_none()
        if row is None:
            raise NotFound(f"there is no user {name!r}; `hareline users ls` lists them")
        different = {key: value for key, value in new.items() if getattr(row, key) != value}
        if not different:
            return
        values = {**different, "changed_at": tx.now, "changed_by": tx.by}
        tx.connection.execute(update(users).where(users.c.name == name).values(**values))
        tx.connection.execute(delete(sessions).where(sessions.c.user_name == name))
        shown = [key for key in different if key != "password"]
        was, now = {key: getattr(row, key) for key in shown}, {key: different[key] for key in shown}
        told: dict[str, Any] = {"was": was, "is": now} if shown else {}
        told |= {"login": "another password"} if "password" in different else {}
        tx.deeds.append(Deed("change_user", {"user": name}, 1, [told]))

    control.run(verb, by=by)


def patterns_of(queues: Sequence[str]) -> str:
    """As a row keeps them.  Raises ``BadAccount``."""
    try:
        return " ".join(Scope.of(queues).patterns)
    except ValueError as error:
        raise BadAccount(str(error)) from None
