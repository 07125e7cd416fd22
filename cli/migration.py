"""``hareline migration``: from synchronous code to jobs, step by step."""

from typing import Annotated

import typer

from cli.given import agreed, operator
from cli.opened import control, queries
from cli.shown import as_json, say, table

app = typer.Typer(no_args_is_help=True, help="Move synchronous code to jobs step by step, and see where they differ.")

Name = Annotated[str, typer.Argument(help="A migration by its name, as `report` shows it.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("report")
def report(json: Json = False) -> None:
    """List the migrations: how they are set, and what was found.

    Missing are jobs that failed, were cancelled or left no result; errors are calls that could not be sent or compared.
    """
    from control.migration import report as ask

    with queries() as asked:
        views = ask(asked)
    if json:
        return as_json(views)
    table(
        ("name", "mode", "share", "sent", "compared", "equal", "different", "missing", "error", "pending", "trouble"),
        [
            (
                *(view.name, view.mode, f"{view.share:g}", view.sent, view.compared, view.equal, view.different),
                *(view.missing, view.error, view.pending, view.trouble),
            )
            for view in views
        ],
    )


@app.command("differences")
def differences(
    name: Name,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many, the newest first.")] = 20,
    json: Json = False,
) -> None:
    """Show the last calls whose two results differed."""
    from control.migration import differences as ask

    with queries() as asked:
        views = ask(asked, name, limit)
    if json:
        return as_json(views)
    table(
        ("job", "at", "synchronous", "asynchronous"),
        [(view.job, view.at, view.synchronous, view.asynchronous) for view in views],
    )


@app.command("share")
def share(
    name: Name,
    part: Annotated[float, typer.Argument(metavar="SHARE", help="Of the calls, from 0 to 1: 0.25 is a quarter.")],
    json: Json = False,
) -> None:
    """Have a larger or smaller part of the calls become jobs as well.

    It counts in mode dual; every process has heard of it within about a second.
    """
    from control.migration import set_share

    with control() as ledger:
        now = set_share(ledger, name, part, by=operator())
    if json:
        return as_json({"name": name, "mode": now.mode, "share": now.share})
    unused = "" if now.mode == "dual" else f"; in mode {now.mode} that does not matter"
    say(f"{name}: {now.share:.4g} of the calls become jobs as well{unused}")


@app.command("mode")
def mode(
    name: Name,
    wanted: Annotated[
        str, typer.Argument(metavar="MODE", help="sync: no jobs. dual: both, compared. async: jobs alone.")
    ],
    json: Json = False,
) -> None:
    """Switch between synchronous code, both and jobs alone, without a deployment.

    Every process has heard of it within about a second.
    """
    from control.migration import set_mode

    with control() as ledger:
        now = set_mode(ledger, name, wanted, by=operator())
    if json:
        return as_json({"name": name, "mode": now.mode, "share": now.share})
    said = {
        "sync": "the synchronous code does the work alone",
        "dual": f"the synchronous code does the work, and for {now.share:.4g} of the calls a job as well",
        "async": "jobs do the work; the synchronous code only when none can be sent",
    }
    say(f"{name}: {said[now.mode]}")


@app.command("reset")
def reset(name: Name, json: Json = False) -> None:
    """Count anew from zero, and forget the differences: after a correction."""
    from control.migration import reset as verb

    with control() as ledger:
        verb(ledger, name, by=operator())
    if json:
        return as_json(True)
    say(f"{name}: counted anew from here")


@app.command("forget")
def forget(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Remove all that is kept of a migration that is over.

    One that the code still has begins anew, as it is declared there.
    """
    from control.migration import forget as verb

    if not agreed(f"Forget the migration {name}, its counts and differences?", yes):
        return
    with control() as ledger:
        verb(ledger, name, by=operator())
    if json:
        return as_json(True)
    say(f"{name} is forgotten")
