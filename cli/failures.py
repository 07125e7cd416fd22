"""``hareline failures``: dead letters in groups of one trouble."""

from datetime import timedelta
from typing import Annotated

import typer

from cli.given import milliseconds, operator
from cli.opened import control, queries
from cli.operations import carry_out
from cli.shown import as_json, say, table
from errors import NotFound

app = typer.Typer(no_args_is_help=True, help="Dead letters in groups of one trouble: look, retry, discard, hide.")

Group = Annotated[str, typer.Argument(metavar="FINGERPRINT", help="Of the group, as `hareline failures ls` prints it.")]
Since = Annotated[str, typer.Option(help="Of so long until now: 15m, 2h, 7d.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("ls")
def ls(
    since: Since = "1d",
    queue: Annotated[str | None, typer.Option(help="Of this queue.")] = None,
    actor: Annotated[str | None, typer.Option(help="Of this actor.")] = None,
    hidden: Annotated[bool, typer.Option("--hidden", help="Those that are acknowledged or snoozed, too.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="At most so many.")] = 50,
    json: Json = False,
) -> None:
    """List groups of failures, those with the most first.

    Of each, how many dead letters of the window are in it.
    """
    with queries() as asked:
        groups = asked.failures(
            since=asked.database_time() - _ago(since),
            queue=queue,
            actor=actor,
            state=None if hidden else "open",
            limit=limit,
        )
    if json:
        return as_json(groups)
    table(
        ("fingerprint", "failures", "last", "error", "where", "actors", "state"),
        [
            (x.fingerprint, x.count, x.last_at, _said(x.error_type, x.message), x.frame, ", ".join(x.actors), x.state)
            for x in groups
        ],
    )


@app.command()
def show(
    group: Group,
    since: Since = "30d",
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="At most so many of its jobs.")] = 20,
    json: Json = False,
) -> None:
    """Show a group of failures, with its newest jobs."""
    from ledger.search import Filter

    with queries() as asked:
        found = asked.failures(since=asked.database_time() - _ago(since), fingerprint=group)
        if not found:
            raise NotFound(f"no group {group!r} has a dead letter of the last {since}; see `hareline failures ls`")
        jobs = asked.search(Filter(fingerprint=group), limit=limit).jobs
    if json:
        return as_json({"group": found[0], "jobs": jobs})
    one = found[0]
    for name, value in (
        ("error", _said(one.error_type, one.message)),
        ("where", one.frame),
        ("failures", f"{one.count:,}{' or more' if one.more else ''} in the last {since}, {one.state}"),
        ("first", one.first_at.isoformat(timespec="seconds")),
        ("last", one.last_at.isoformat(timespec="seconds")),
        ("queues", ", ".join(one.queues)),
        ("actors", ", ".join(one.actors)),
    ):
        if value:
            say(f"{name:<10}{value}")
    table(
        ("id", "queue", "actor", "attempts", "failed", "arguments"),
        [(x.id, x.queue, x.actor, x.attempts_spent, x.finished_at, x.args) for x in jobs],
    )


@app.command()
def retry(group: Group, yes: Yes = False, json: Json = False) -> None:
    """Send all dead letters of a group round again."""
    _demand(group)
    carry_out("retry", f"fingerprint:{group}", yes=yes, json=json)


@app.command()
def discard(group: Group, yes: Yes = False, json: Json = False) -> None:
    """Remove all dead letters of a group for good.

    Their journal stays.
    """
    _demand(group)
    carry_out("discard", f"fingerprint:{group}", yes=yes, json=json)


@app.command()
def ack(group: Group) -> None:
    """Hide a group until it fails anew."""
    from control.failures import acknowledge

    with control() as ledger:
        acknowledge(ledger, group, by=operator())
    say(f"{group} is acknowledged: it is hidden until it fails anew")


@app.command()
def snooze(
    group: Group, for_: Annotated[str, typer.Option("--for", help="So long: 2h, 7d; 0: show it again.")]
) -> None:
    """Hide a group for a time, whatever fails meanwhile."""
    from control.failures import snooze as verb

    with control() as ledger:
        verb(ledger, group, milliseconds(for_) / 1000, by=operator())
    say(f"{group} is snoozed for {for_}")


def _demand(group: str) -> None:
    with queries() as asked:
        if not asked.knows_failure(group):
            raise NotFound(f"there is no group of failures {group!r}; `hareline failures ls` shows them")


def _ago(text: str) -> timedelta:
    return timedelta(milliseconds=milliseconds(text))


def _said(kind: str, message: str) -> str:
    text = ": ".join(part for part in (kind, message) if part)
    return text if len(text) <= 120 else f"{text[:119]}…"
