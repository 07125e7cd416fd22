"""Which schema this code knows, told without Alembic: half a second that only a migration is worth."""

from pathlib import Path

from errors import SchemaMismatch

TABLE = "hareline_revision"
_VERSIONS = Path(__file__).parent / "migrations" / "versions"


def newest() -> str:
    """The ledger's head revision: revisions are numbered, and their files begin with the number."""
    return max(file.name.partition("_")[0] for file in _VERSIONS.glob("[0-9]*_*.py"))


def refuse_other(place: str, current: str | None, head: str, table: str = TABLE) -> None:
    """Raise ``SchemaMismatch`` unless the database is exactly at the revision this code knows."""
    if current != head:
        raise SchemaMismatch(
            f"{place} is at schema revision {current or 'none'} ({table}), this code needs {head};"
            " run `hareline migrate` (or, if the database is the newer one, upgrade this program)"
        )
