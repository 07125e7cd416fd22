"""The driver's connection, under whatever the caller has."""

import sys
from typing import Any

from errors import Refusal


def unscoped(connection: Any) -> Any:
    """Of a scoped session the one of this scope, now: a task may have another."""
    scoped = _is(connection, "sqlalchemy.orm", "scoped_session") or _is(
        connection, "sqlalchemy.ext.asyncio", "async_scoped_session"
    )
    return connection() if scoped else connection


def is_async(connection: object) -> bool:
    """Whether it is for asyncio code."""
    return (
        _is(connection, "sqlalchemy.ext.asyncio", "AsyncConnection", "AsyncSession")
        or _is(connection, "psycopg", "AsyncConnection")
    )  # fmt: skip


def session_of(connection: Any) -> Any:
    """SQLAlchemy's ORM session, if it is one: it says when it has committed."""
    if _is(connection, "sqlalchemy.ext.asyncio", "AsyncSession"):
        return connection.sync_session
    return connection if _is(connection, "sqlalchemy.orm", "Session") else None


def driven(connection: Any) -> object:
    """The driver's connection, in the transaction SQLAlchemy has on it: one it does not know of it would not commit."""
    if _is(connection, "sqlalchemy.orm", "Session"):
        connection = connection.connection()
    if not _is(connection, "sqlalchemy", "Connection"):
        return connection
    _demand_open(connection)
    if not connection.in_transaction():
        connection.begin()
    return connection.connection.driver_connection


async def driven_async(connection: Any) -> object:
    """The same, of an asyncio connection."""
    if _is(connection, "sqlalchemy.ext.asyncio", "AsyncSession"):
        connection = await connection.connection()
    if not _is(connection, "sqlalchemy.ext.asyncio", "AsyncConnection"):
        return connection
    if connection.sync_connection is None:
        raise Refusal("the AsyncConnection given to transactional() was not opened; use it inside its async with")
    _demand_open(connection)
    if not connection.in_transaction():
        await connection.begin()
    return (await connection.get_raw_connection()).driver_connection


def _demand_open(connection: Any) -> None:
    if connection.closed:
        raise Refusal("the connection given to transactional() is closed; open one, and commit it after the sends")


def _is(connection: object, module: str, *names: str) -> bool:
    """Without importing it: whoever has one of its objects has done so."""
    found = sys.modules.get(module)
    return found is not None and isinstance(connection, tuple(getattr(found, name) for name in names))
