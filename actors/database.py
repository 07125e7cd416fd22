"""The ledger's database, for the tables the actors keep beside it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Connection, Table, make_url
from sqlalchemy.dialects import postgresql, sqlite

from actors.per_process import per_process
from ledger.engine import Database
from ledger.migrate import Migrations
from ledger.sqlite.file import path_of
from ledger.sqlite.forks import Guard
from ledger.sqlite.prepare import prepare
from settings import load


def migrations(url: str) -> Migrations:
    """The migrations of the actors' tables, in the ledger's database."""
    return Migrations(url, location=Path(__file__).parent / "migrations", table="hareline_app_revision")


def migrated() -> str:
    """The address in the settings.

    An embedded database is migrated here, at its first use; PostgreSQL only by ``hareline migrate``.
    """
    url = load().database_url
    if make_url(url).get_backend_name() == "sqlite":
        with Guard():
            prepare(path_of(url))
            migrations(url).upgrade()
    return url


@per_process
def database() -> Database:
    """This process's connections.  A commit in a job is on the disk before the job counts as finished."""
    return Database(migrated(), busy=True)


def insert(connection: Connection, table: Table) -> sqlite.Insert:
    """An INSERT that knows ``ON CONFLICT``, which both databases write alike."""
    made = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    return cast("sqlite.Insert", made(table))


def add(connection: Connection, table: Table, row: Mapping[str, Any]) -> bool:
    """Insert a row; false when one of its primary key is there, which then stays as it is."""
    key = next(iter(table.primary_key.columns))
    statement = insert(connection, table).values(**row).on_conflict_do_nothing().returning(key)
    return connection.execute(statement).one_or_none() is not None


def put(connection: Connection, table: Table, row: Mapping[str, Any]) -> None:
    """Insert a row, or give the one of its primary key these values."""
    keys = list(table.primary_key.columns)
    changes = {name: value for name, value in row.items() if name not in {key.name for key in keys}}
    statement = insert(connection, table).values(**row)
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=changes))
