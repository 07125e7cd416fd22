"""SQL with names: one file per database under ``ledger/sql``, each statement headed ``-- name: claim``.

Lines that are only a comment stay in the file: what is sent is short (psycopg does not cache the
parsing of statements over 4 KiB) and what is read is explained.
"""

from collections.abc import Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType

_HEADER = "-- name: "


@cache
def statements(dialect: str) -> Mapping[str, str]:
    """The statements of ``ledger/sql/<dialect>.sql`` by name; read once, at the first call."""
    return MappingProxyType(parse(resources.files("ledger").joinpath("sql", f"{dialect}.sql").read_text("utf-8")))


def parse(text: str) -> dict[str, str]:
    """Name -> statement, without comment lines and the final semicolon.

    Raises ``ValueError`` for a name given twice or a statement without one.
    """
    found: dict[str, list[str]] = {}
    lines: list[str] | None = None
    for line in text.splitlines():
        if line.startswith(_HEADER):
            name = line.removeprefix(_HEADER).strip()
            if name in found:
                raise ValueError(f"statement {name!r} is defined twice; give one of them another name")
            lines = found[name] = []
        elif line.strip() and not line.lstrip().startswith("--"):
            if lines is None:
                raise ValueError(f"{line!r} belongs to no statement; put a line '-- name: …' above it")
            lines.append(line.strip())
    return {name: " ".join(body).rstrip(";") for name, body in found.items()}
