"""Which queues somebody may see and touch."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, false, func, or_, true

from errors import Denied

_PATTERN: Final = re.compile(r"[A-Za-z0-9._-]*\*?")


@dataclass(frozen=True)
class Scope:
    """Names of queues, and beginnings of names that end in ``*``: ``billing.*``.  Without any it is all queues."""

    patterns: tuple[str, ...] = ()

    @classmethod
    def of(cls, patterns: Iterable[str]) -> "Scope":
        """Raises ``ValueError`` for what is no pattern."""
        wanted = tuple(dict.fromkeys(patterns))
        for pattern in wanted:
            if not pattern or not _PATTERN.fullmatch(pattern):
                raise ValueError(
                    f"{pattern!r} names no queues: write the name of one, or how names begin and a star (billing.*)"
                )
        return cls(() if "*" in wanted else wanted)

    @property
    def limited(self) -> bool:
        return bool(self.patterns)

    def admits(self, queue: str) -> bool:
        return not self.patterns or any(
            queue.startswith(pattern[:-1]) if pattern.endswith("*") else queue == pattern for pattern in self.patterns
        )

    def within(self, other: "Scope") -> bool:
        """Whether all that it admits the other admits."""
        return not other.patterns or (
            self.limited
            and all(
                mine in other.patterns or any(its.endswith("*") and mine.startswith(its[:-1]) for its in other.patterns)
                for mine in self.patterns
            )
        )

    def demand(self, queue: str) -> None:
        """Raise ``Denied`` for another queue."""
        if not self.admits(queue):
            raise Denied(f"queue {queue!r} is not one of {', '.join(self.patterns)}, to which whoever asks is confined")

    def clause(self, column: ColumnElement[Any]) -> ColumnElement[bool]:
        """The same for SQL; true when it is all queues."""
        if not self.patterns:
            return true()
        # substr and not LIKE: that takes % and _ in names for its own, and no notice of case in SQLite.
        tests = [
            func.substr(column, 1, len(pattern) - 1) == pattern[:-1] if pattern.endswith("*") else column == pattern
            for pattern in self.patterns
        ]
        return or_(false(), *tests)


EVERYTHING: Final = Scope()
