"""The schema equals the sum of its migrations, and nobody works on another one."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, create_engine, make_url, text
from sqlalchemy.pool import NullPool

from errors import LedgerBusy, LedgerUnavailable, SchemaMismatch
from ledger import migrate, open_ledger
from ledger.migrate import Migrations
from ledger.queries import Queries
from ledger.revision import newest
from ledger.tables import metadata
from tests.servers import Postgres

NewDatabase = Callable[[], str]

#: Everything PostgreSQL knows of a schema but the order of its columns, as sorted lines.
_POSTGRESQL = """
SELECT format('column %s.%s %s %s %s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
    CASE WHEN a.attnotnull THEN 'NOT NULL' END, pg_get_expr(d.adbin, d.adrelid))
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
UNION ALL SELECT format('index %s', indexdef) FROM pg_indexes WHERE schemaname = 'public'
UNION ALL SELECT format('constraint %s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL SELECT format('table %s %s', relname, reloptions) FROM pg_class
WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
"""
_SQLITE = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL"


def migration_of(location: Path, statement: str) -> Path:
    """An application's own migrations: one, which executes this."""
    (location / "versions").mkdir(parents=True)
    (location / "env.py").write_text((Path("ledger") / "migrations" / "env.py").read_text())
    (location / "versions" / "first.py").write_text(
        "revision = 'first'\ndown_revision = None\nfrom alembic import op\n"
        f"def upgrade():\n    op.execute('{statement}')\n"
    )
    return location


@pytest.fixture(params=["sqlite", "postgresql"])
def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> NewDatabase:
    """Makes empty databases of one kind."""
    if request.param == "sqlite":
        return lambda: f"sqlite:///{tmp_path / f'{len(list(tmp_path.iterdir()))}.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    server.start()
    return server.create_database


def connect(url: str) -> Connection:
    parsed = make_url(url)
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    return create_engine(parsed, poolclass=NullPool).connect()


def schema(url: str) -> set[str]:
    with connect(url) as connection:
        if connection.dialect.name == "postgresql":
            lines = set(connection.scalars(text(_POSTGRESQL)))
        else:
            # A table's text, line by line: columns and constraints may stand in any order.
            lines = {
                f"{statement.split('(')[0].strip()} {line.strip().rstrip(',')}"
                for statement in connection.scalars(text(_SQLITE))
                for line in statement.splitlines()
            }
    return {line for line in lines if "_revision" not in line}


def test_the_schema_is_the_sum_of_its_migrations(new_database: NewDatabase) -> None:
    migrated, created = new_database(), new_database()
    Migrations(migrated).upgrade()
    with connect(created) as connection, connection.begin():
        metadata.create_all(connection)
    assert len(schema(created)) > 100
    assert schema(migrated) == schema(created)
    with connect(migrated) as connection:
        context = MigrationContext.configure(connection, opts={"version_table": "hareline_revision"})
        assert compare_metadata(context, metadata) == []


def test_an_empty_database_is_refused_with_the_remedy(new_database: NewDatabase) -> None:
    migrations = Migrations(new_database())
    assert migrations.current() is None
    with pytest.raises(SchemaMismatch, match=rf"revision none .* needs {migrations.head()}; run `hareline migrate`"):
        migrations.check()


def test_an_upgraded_database_is_accepted_and_upgrading_again_changes_nothing(new_database: NewDatabase) -> None:
    url = new_database()
    migrations = Migrations(url)
    migrations.upgrade()
    before = schema(url)
    migrations.upgrade()
    migrations.check()
    assert migrations.current() == migrations.head()
    assert schema(url) == before


def test_a_newer_database_is_refused_naming_both_revisions(new_database: NewDatabase) -> None:
    url = new_database()
    migrations = Migrations(url)
    migrations.upgrade()
    with connect(url) as connection, connection.begin():
        connection.execute(text("UPDATE hareline_revision SET version_num = 'from-the-future'"))
    queries = Queries(url)
    for ask in (migrations.check, migrations.upgrade, *([queries.database_time] if url.startswith("sqlite") else [])):
        with pytest.raises(SchemaMismatch, match=rf"from-the-future .* needs {migrations.head()}"):
            ask()
    queries.close()


def test_many_processes_may_upgrade_at_once(new_database: NewDatabase) -> None:
    url = new_database()
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: Migrations(url).upgrade(), range(6)))
    Migrations(url).check()


def test_an_upgrade_that_fails_leaves_nothing_behind(new_database: NewDatabase, tmp_path: Path) -> None:
    location = tmp_path / "broken"
    (location / "versions").mkdir(parents=True)
    (location / "env.py").write_text((Path("ledger") / "migrations" / "env.py").read_text())
    revision = "revision = '{}'\ndown_revision = {}\nfrom alembic import op\ndef upgrade():\n    op.execute({!r})\n"
    steps = [("a", None, "CREATE TABLE half (id INTEGER)"), ("b", "a", "CREATE NONSENSE")]
    for name, follows, statement in steps:
        (location / "versions" / f"{name}.py").write_text(revision.format(name, repr(follows), statement))
    url = new_database()
    broken = Migrations(url, location=location, table="other_revision")
    with pytest.raises(Exception, match="NONSENSE"):
        broken.upgrade()
    assert broken.current() is None
    assert schema(url) == set()


def test_an_upgrade_waits_for_tables_in_use_and_names_who_has_them(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(migrate, "_LOCK_S", 0.2)
    monkeypatch.setattr(migrate, "_PAUSE_S", 0.0)
    monkeypatch.setattr(migrate, "_TRIES", 7)
    location = migration_of(tmp_path / "mine", "ALTER TABLE jobs ADD COLUMN colour TEXT")
    upgrade = Migrations(postgres_url, location=location, table="mine_revision").upgrade
    with psycopg.connect(postgres_url, application_name="a long report") as holder:
        holder.execute("SELECT FROM jobs")
        with pytest.raises(
            LedgerBusy, match=rf"process {holder.info.backend_pid} \(a long report, idle in transaction"
        ):
            upgrade()
    upgrade()
    assert "tried again" in caplog.text
    with psycopg.connect(postgres_url) as connection:
        connection.execute("ALTER TABLE jobs DROP COLUMN colour")
        connection.execute("DROP TABLE mine_revision")


def test_an_applications_own_migrations_live_beside_the_ledgers(new_database: NewDatabase, tmp_path: Path) -> None:
    location = migration_of(tmp_path / "100% mine", "CREATE TABLE mine (id INTEGER)")
    url = new_database()
    ours, theirs = Migrations(url), Migrations(url, location=location, table="mine_revision")
    ours.upgrade()
    with pytest.raises(SchemaMismatch, match="mine_revision"):
        theirs.check()
    theirs.upgrade()
    theirs.check()
    ours.check()
    assert (ours.current(), theirs.current()) == (ours.head(), "first")


def test_a_database_that_cannot_be_reached_is_named_without_its_password() -> None:
    migrations = Migrations("postgresql://someone:secret@127.0.0.1:1/nowhere")
    with pytest.raises(LedgerUnavailable, match=r"someone:\*\*\*@127\.0\.0\.1:1/nowhere") as caught:
        migrations.check()
    assert "secret" not in str(caught.value)


def test_the_newest_revision_is_known_without_alembic(database_url: str) -> None:
    assert newest() == Migrations(database_url).head()


def test_a_ledger_at_another_revision_is_refused_by_both_names(postgres_url: str) -> None:
    ledger = open_ledger(postgres_url, road="embedded")
    ledger.check()
    with psycopg.connect(postgres_url) as connection:
        connection.execute("UPDATE hareline_revision SET version_num = '9999'")
    with pytest.raises(SchemaMismatch, match=rf"9999.*{newest()}.*hareline migrate"):
        ledger.check()
    with psycopg.connect(postgres_url) as connection:
        connection.execute("DROP TABLE hareline_revision")
    with pytest.raises(SchemaMismatch, match="none"):
        ledger.check()
