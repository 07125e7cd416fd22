"""``hareline doctor``: is everything as it must be, and if not, what to do."""

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from cli.shown import as_json
from logs import clean

_STYLES = {"✓": "green", "!": "yellow", "✗": "red"}


def doctor(json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Check everything, and say what to mend.

    It looks at settings, database, schema, clock, workers, RabbitMQ, its queues and permissions.

    ✓ is good, ! is worth a look, ✗ must be mended.  Exit code 1 when there is a ✗.
    """
    from cli.checks import Mark, examine  # Alembic and both roads: slow to import, and only needed here

    console = Console(highlight=False, soft_wrap=True)
    found = []
    for finding in examine():
        found.append(finding)
        if not json:
            line = Text(f"{finding.mark} ", style=_STYLES[finding.mark] if sys.stdout.isatty() else "")
            console.print(line + Text(f"{finding.what}: {clean(finding.text)}"))
    if json:
        as_json(found)
    raise typer.Exit(int(any(finding.mark is Mark.BAD for finding in found)))
