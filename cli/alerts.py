"""``hareline alerts``: what is not well, what was told of it, and to whom."""

from typing import Annotated

import typer

from cli.exits import Exit
from cli.given import milliseconds, operator
from cli.opened import control, queries
from cli.shown import as_json, duration, say, table
from errors import BadInput
from settings import load

app = typer.Typer(no_args_is_help=True, help="Look at alerts, try their destinations, mute them.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Queue = Annotated[str, typer.Argument(help="A queue, or - for what is of the whole system.")]
Rule = Annotated[str, typer.Argument(help="As `hareline health --all` shows it: waiting, failed …")]


@app.command("ls")
def ls(
    limit: Annotated[int, typer.Option(min=1, help="So many of the last changes, messages.")] = 20,
    json: Json = False,
) -> None:
    """List what is not well or muted, what became worse or better lately, and the last messages."""
    from control.alerts import history, listing, recent

    with queries() as asked:
        now, changed, told = listing(asked), history(asked, limit), recent(asked, limit)
    if json:
        return as_json({"alerts": now, "changes": changed, "deliveries": told})
    if not now:
        say("all is well, or nothing was judged yet")
    else:
        table(
            ("level", "queue", "rule", "what", "since", "told", "muted until", "by"),
            [(x.level, x.queue or "-", x.rule, x.text, x.since, x.told, x.muted_until, x.muted_by) for x in now],
        )
    if changed:
        table(
            ("changed", "queue", "rule", "level", "before"),
            [(x.at, x.queue or "-", x.rule, x.level, x.was) for x in changed],
        )
    if told:
        table(
            ("to", "what", "made", "delivered", "tries", "error"),
            [(x.destination, x.notice.subject, x.created_at, x.delivered_at, x.tries, x.error) for x in told],
        )


@app.command("test")
def try_out(
    names: Annotated[list[str] | None, typer.Argument(metavar="DESTINATION", help="All, if none is given.")] = None,
    json: Json = False,
) -> None:
    """Send a test message to each destination, now.

    Ends with 1 when one did not take it.
    """
    from control.alerts import try_out as tell
    from control.destinations import destinations

    known = destinations(load())
    if unknown := set(names or ()) - known.keys():
        raise BadInput(f"no destination {min(unknown)!r} is set up; there are: {', '.join(known)}")
    with control() as ledger:
        now = ledger.run(lambda tx: tx.now, by=operator())
    failed = tell({name: known[name] for name in names or known}, now)
    if json:
        as_json(failed)
    else:
        for name, error in failed.items():
            say(f"{name}: {error or 'delivered'}")
    if any(failed.values()):
        raise typer.Exit(Exit.FAILED)


@app.command("mute")
def mute(
    queue: Queue,
    rule: Rule,
    for_: Annotated[str, typer.Option("--for", help="So long: 30m, 2h, 7d.")] = "1h",
    json: Json = False,
) -> None:
    """Tell nothing of this for a while.

    What is different afterwards from what was told last is told then.
    """
    _mute(queue, rule, milliseconds(for_) / 1000, json)


@app.command("unmute")
def unmute(queue: Queue, rule: Rule, json: Json = False) -> None:
    """Tell of this again."""
    _mute(queue, rule, 0.0, json)


def _mute(queue: str, rule: str, for_s: float, json: bool) -> None:
    from control.alerts import mute as verb

    with control() as ledger:
        verb(ledger, "" if queue == "-" else queue, rule, for_s, by=operator())
    if json:
        return as_json({"queue": queue, "rule": rule, "for_s": for_s})
    say(f"{rule} of {queue} is " + (f"muted for {duration(for_s)}" if for_s else "told again"))
