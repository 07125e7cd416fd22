"""How things are shown: tables for people, tabs for pipes, JSON for programs.

Names, payloads and errors come from outside: nothing in them may move the cursor, colour a line or be taken for
markup.
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from logs import clean

_STYLES: Mapping[str, str] = {
    "completed": "green",
    "active": "cyan",
    "waiting": "blue",
    "delayed": "magenta",
    "failed": "red",
    "crashed": "red",
    "cancelled": "yellow",
    "paused": "yellow",
    "quiet": "yellow",
    "warning": "yellow",
    "critical": "red",
    "open": "red",
    "half-open": "yellow",
    "retrying": "yellow",
}


def plain(value: Any) -> Any:
    """The value as JSON has it."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return value


def as_json(value: Any) -> None:
    """Print one JSON document.  It is ASCII: nothing in it acts on a terminal."""
    print(json.dumps(plain(value), indent=2))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, cut: str = "") -> None:
    """Print rows: a table on a terminal, tab-separated lines with a heading elsewhere.

    Parameters:
      cut: the column that a terminal shows as much of as its lines have room for, instead of folding it.
    """
    cells = [[cell(value) for value in row] for row in rows]
    if not sys.stdout.isatty():
        for line in [list(columns), *cells]:
            print("\t".join(line))
        return
    shown = Table(box=None, pad_edge=False, header_style="bold", padding=(0, _GAP, 0, 0))
    # Ids, names and times stay whole, to be copied: only long texts are folded, and lines that do not fit run on.
    widths = [max(map(cell_len, column)) for column in zip(columns, *cells, strict=True)]
    console = Console()
    if cut:
        place = columns.index(cut)
        room = console.width - sum(width + _GAP for width in widths) + widths[place]
        widths[place] = min(widths[place], max(room, _LEAST))
    for column, width in zip(columns, widths, strict=True):
        side: Literal["left", "right"] = "right" if column in _NUMBERS else "left"
        if column == cut:
            shown.add_column(column, overflow="ellipsis", no_wrap=True, width=width)
        else:
            shown.add_column(column, overflow="fold", justify=side, no_wrap=width <= _LONG)
    for line in cells:
        shown.add_row(*(Text(text, style=_STYLES.get(text, "")) for text in line))
    console.width = max(console.width, sum(min(width, _LONG) + _GAP for width in widths))
    console.print(shown)


#: A text wider than an id may be folded.
_LONG = 40
#: So much is left of one that is cut.
_LEAST = 12
_GAP = 2


_NUMBERS = frozenset(
    {
        "delayed",
        "waiting",
        "active",
        "completed",
        "failed",
        "cancelled",
        "attempts",
        "threads",
        "pid",
        "calls",
        "failures",
    }
)


def say(text: str, style: str = "") -> None:
    """Print one line; ``style`` is rich's, and only for a terminal."""
    if style and sys.stdout.isatty():
        Console(soft_wrap=True).print(Text(clean(text), style=style))
    else:
        print(clean(text))


def cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, bool):
        return "yes" if value else ""
    return clean(value)


def moment(at: datetime) -> str:
    """To the second for a terminal of this place; in full, in UTC, for a pipe."""
    if sys.stdout.isatty():
        return at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return at.astimezone(UTC).isoformat(timespec="milliseconds")


def size(count: int | None) -> str:
    """Bytes: ``87 MiB``."""
    if count is None:
        return ""
    return f"{count / 2**20:.0f} MiB" if count < 10 * 2**30 else f"{count / 2**30:.1f} GiB"


def duration(seconds: float | None) -> str:
    """``0.42 s``, ``12 s``, ``5 m 3 s``, ``2 d 4 h``."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{seconds:.2f} s"
    rest, parts = round(seconds), []
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])
