"""Text that every database can store, and ids as the ledger writes them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

#: Before every id.
FIRST_ID = "00000000-0000-0000-0000-000000000000"

_ID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_LENGTH = 36
_IDS = re.compile(f"{_ID}(?:,{_ID})*").fullmatch


def all_ids(ids: Sequence[str]) -> bool:
    """Whether every one is a UUID in its usual form: of the others PostgreSQL takes some, and SQLite finds none."""
    text = ",".join(ids)
    return len(text) == len(ids) * (_LENGTH + 1) - 1 and _IDS(text) is not None  # one with a comma in it might be two


def clean(text: str) -> str:
    """``text`` without NUL (PostgreSQL refuses it) and without lone surrogates (no encoding has them)."""
    if "\x00" in text:
        text = text.replace("\x00", "\N{REPLACEMENT CHARACTER}")
    if text.isascii():
        return text
    return text.encode("utf-8", "replace").decode("utf-8")


def clean_json(value: Any) -> Any:
    """Plain JSON with every text in it clean, names of members too."""
    match value:
        case str():
            return clean(value)
        case Mapping():
            return {clean(str(name)): clean_json(item) for name, item in value.items()}
        case list() | tuple():
            return [clean_json(item) for item in value]
    return value


def line(text: object, most: int = 500) -> str:
    """One printable line of foreign text: what moves a cursor, ends a line or reverses the reading is spelt out."""
    said = str(text)[: most + 1]
    said = said if len(said) <= most else said[: most - 1] + "…"
    if said.isprintable():
        return said
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode("ascii") for c in said
    )


def clean_or_none(text: str | None) -> str | None:
    return None if text is None else clean(text)
