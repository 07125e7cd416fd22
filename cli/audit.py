"""``hareline audit``: what operators did, and whether anybody tampered with what is kept of it."""

import json as json_of
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from cli.exits import Exit
from cli.given import agreed, milliseconds, operator
from cli.opened import control
from cli.shown import as_json, plain, say, table
from errors import BadInput, NotFound
from settings import load

if TYPE_CHECKING:
    from ledger.audit_queries import AuditQueries

app = typer.Typer(no_args_is_help=True, help="The audit trail: read it, verify it, take it elsewhere, cut it off.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("ls")
def ls(
    who: Annotated[str | None, typer.Option(help="Of this name.")] = None,
    operation: Annotated[str | None, typer.Option(help="Of this operation: retry_job, pause_queue …")] = None,
    result: Annotated[str | None, typer.Option(help="done or refused.")] = None,
    since: Annotated[str | None, typer.Option(help="Of the last 12h, 7d …")] = None,
    before: Annotated[int | None, typer.Option(help="Below this number: the next page.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000)] = 50,
    json: Json = False,
) -> None:
    """List what was done, newest first."""
    begin = None if since is None else datetime.now(UTC) - timedelta(milliseconds=milliseconds(since))
    with _trail() as asked:
        found = asked.entries(name=who, operation=operation, result=result, since=begin, before=before, limit=limit)
    if json:
        return as_json(plain(found))
    rows = [
        (x.seq, x.at, f"{x.via}:{x.name}", x.role, x.operation, x.target, x.count, x.result, x.address) for x in found
    ]
    table(("number", "at", "who", "role", "operation", "what", "count", "result", "from"), rows)


@app.command()
def show(number: int, json: Json = False) -> None:
    """Show one entry, whole."""
    with _trail() as asked:
        entry = asked.entry(number)
    if entry is None:
        raise NotFound(f"the audit trail has no entry {number}; `hareline audit ls` lists them")
    if json:
        return as_json(plain(entry))
    for name, value in plain(entry).items():
        if value not in ("", None):
            say(f"{name:<11}{value}")


@app.command()
def verify(
    head: Annotated[
        str | None, typer.Option(help="NUMBER:HASH, as an earlier run printed it and you kept it elsewhere.")
    ] = None,
    json: Json = False,
) -> None:
    """Go through the whole chain, and name the first entry that is not what was written.

    It prints the head: keep it elsewhere.  Only with a head that was kept can it tell that the end was cut off, or
    that somebody wrote everything anew.
    """
    kept = None
    if head is not None:
        if not re.fullmatch(r"\d{1,18}:[0-9a-f]{64}", head):
            raise BadInput(f"{head!r} is no head; write it as `hareline audit verify` prints it: NUMBER:HASH")
        kept = (int(head.partition(":")[0]), head.partition(":")[2])
    with _trail() as asked:
        found = asked.verify(kept)
    if json:
        as_json(plain(found))
    elif found.bad is None:
        say(f"{found.entries} entries are as they were written", "green")
        print(f"head {found.head}:{found.hash}")
    else:
        say(f"the chain does not hold at entry {found.bad}: {found.why}", "red")
    if found.bad is not None:
        raise typer.Exit(Exit.FAILED)


@app.command()
def export() -> None:
    """Print all entries as JSON lines, oldest first."""
    with _trail() as asked:
        for entry in asked.everything():
            sys.stdout.write(json_of.dumps(plain(asdict(entry))) + "\n")


@app.command()
def truncate(
    older_than: Annotated[str, typer.Option(help="Cut off what is older than that: 365d.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Cut off the oldest entries.  It is the only way; it is in the trail itself.

    An anchor with the hash of the last one that went stays.  Export them first.
    """
    from control.audit import truncate as verb

    before = datetime.now(UTC) - timedelta(milliseconds=milliseconds(older_than))
    if not agreed(f"Forget all that was done before {before.isoformat(timespec='seconds')}?", yes):
        raise typer.Exit(Exit.FAILED)
    with control() as ledger:
        say(f"{verb(ledger, before, by=operator())} entries are cut off")


@contextmanager
def _trail() -> Iterator["AuditQueries"]:
    from ledger.audit_queries import AuditQueries

    opened = AuditQueries(load().database_url)
    try:
        yield opened
    finally:
        opened.close()
