"""The words by which a job is found: of its message, redacted, and of the error that made it a dead letter.

One way of cutting text into words for both databases: what is not a letter or a digit separates, case does not count.
An argument is also there with its path, as ``customer.id=42``.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Boolean, ColumnElement, Text, and_, bindparam, false
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import FunctionElement
from sqlalchemy.types import TypeDecorator

from ledger.redact import leaves, redacted, redacted_text
from ledger.search import Filter
from ledger.text import clean

MOST_WORDS = 200
LONGEST = 60
_WORD = re.compile(r"\w+")
_VALUE = re.compile(r"[^\w.@:/+-]+")
_NEVER = re.compile(r"[\x00-\x1f]")


def words(text: str) -> Iterator[str]:
    for found in _WORD.finditer(text.lower()):
        yield found[0][:LONGEST]


def pair(path: str, value: object) -> str:
    """One word for an argument and its value."""
    said = str(value).lower()
    return f"{_NEVER.sub('', clean(path)).lower()}={_VALUE.sub('_', said)}"[:LONGEST]


def words_of(message: Mapping[str, Any], *more: str) -> list[str]:
    """Of a message: its actor, its arguments, its tags; and of other texts.  At most ``MOST_WORDS``."""
    found: dict[str, None] = {}
    for word in _all(message, more):
        found.setdefault(word)
        if len(found) >= MOST_WORDS:
            break
    return [word for word in found if word]


def _all(message: Mapping[str, Any], more: Iterable[str]) -> Iterator[str]:
    yield from words(str(message.get("actor_name") or ""))
    options = message.get("options")
    tags = options.get("tags") if isinstance(options, Mapping) else None
    for tag in tags if isinstance(tags, list) else ():
        yield pair("tag", tag)
    for text in more:
        yield from words(redacted_text(text))
    for part in ("kwargs", "args"):
        for path, value in leaves(redacted(message.get(part))):
            yield pair(path, value)
            if not isinstance(value, bool):
                yield from words(str(value))


def wanted_words(wanted: Filter) -> list[str]:
    """What a filter asks to be there."""
    asked = [*words(wanted.text), *(pair(path, value) for path, value in wanted.args)]
    return asked + [pair("tag", tag) for tag in wanted.tags]


class _has_word(FunctionElement[bool]):
    type = Boolean()
    inherit_cache = True


@compiles(_has_word, "postgresql")
def _postgresql(element: _has_word, compiler: Any, **kw: Any) -> str:
    column, word = element.clauses
    return f"{compiler.process(column, **kw)} @@ {compiler.process(word, **kw)}::tsquery"


@compiles(_has_word, "sqlite")
def _sqlite(element: _has_word, compiler: Any, **kw: Any) -> str:
    column, word = element.clauses
    return f"instr({compiler.process(column, **kw)}, {compiler.process(word, **kw)}) > 0"


class _Asked(TypeDecorator[str]):
    """A word as each database asks for it: the beginning of one, or with a path before it the whole."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str:
        word = value or ""
        whole = "=" in word
        if dialect.name != "postgresql":
            return f" {word} " if whole else f" {word}"
        quoted = word.replace("\\", "\\\\").replace("'", "''")
        return f"'{quoted}'" if whole else f"'{quoted}':*"


def has_words(column: ColumnElement[Any], asked: Sequence[str]) -> ColumnElement[bool]:
    """Whether each of these words is there, as the beginning of one, or of an argument with its path."""
    if not asked:  # nothing but separators
        return false()
    return and_(*(_has_word(column, bindparam(None, word, type_=_Asked())) for word in asked))
