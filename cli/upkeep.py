"""``hareline migrate``, ``config`` and ``rebuild``: the small commands of whoever runs it."""

from typing import Annotated

import typer

from cli.given import operator
from cli.opened import control, queries, road_of
from cli.shown import as_json, say, table
from errors import NotFound, nearest
from settings import load, mask

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def migrate(json: Json = False) -> None:
    """Bring the database to this version's schema.

    The tables of the ledger and those of the actors.
    """
    url = load().database_url
    from actors.store import migrations as of_actors
    from ledger.migrate import Migrations

    if url.startswith("sqlite:"):
        from ledger.sqlite.file import path_of
        from ledger.sqlite.prepare import create_parent

        create_parent(path_of(url))
    done = []
    for name, migrations in (("ledger", Migrations(url)), ("actors", of_actors(url))):
        before = migrations.current()
        migrations.upgrade()
        done.append({"tables": name, "from": before, "to": migrations.current()})
    if json:
        return as_json(done)
    say(mask(url))
    for row in done:
        same = row["from"] == row["to"]
        say(f"{row['tables']:<8}" + (f"{row['to']}, as it was" if same else f"{row['from'] or 'none'} -> {row['to']}"))


def config(json: Json = False) -> None:
    """Print the settings and where they came from.

    Secrets are masked.
    """
    rows = load().explain()
    if json:
        return as_json([row._asdict() for row in rows])
    table(
        ("setting", "value", "from", "variable", "what it is"),
        [(row.name, row.value, row.origin, row.variable, row.description) for row in rows],
    )


def rebuild(
    queue: Annotated[str | None, typer.Option(help="Only this queue; all, if not given.")] = None, json: Json = False
) -> None:
    """Send every waiting job again.

    For a RabbitMQ that lost its messages; safe at any time.

    Workers and schedulers do the sending, at the pace RabbitMQ takes it.
    """
    settings = load()
    from control.rebuild import rebuild as send_again
    from ledger import open_ledger

    if queue is not None:
        with queries(settings) as asked:
            known = asked.queue_names()
        if queue not in known:
            raise NotFound(f"there is no queue {queue!r} with jobs; {nearest(queue, known)}")
    session = open_ledger(settings.database_url, road=road_of(settings)).session("hareline-rebuild")
    try:
        with control() as ledger:
            count = send_again(ledger, session, queue=queue, by=operator())
    finally:
        session.close()
    if json:
        return as_json({"jobs": count})
    say(f"{count} waiting jobs are sent again")
