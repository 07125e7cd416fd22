"""``hareline views``: lists of jobs that you keep under a name."""

from typing import Annotated

import typer

from cli.given import operator
from cli.opened import control, queries
from cli.shown import as_json, plain, say, table

app = typer.Typer(no_args_is_help=True, help="Lists of jobs that you keep under a name, for the console.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(help="Of the view.")]


@app.command("ls")
def ls(json: Json = False) -> None:
    """List your views."""
    with queries() as asked:
        found = asked.saved_views(operator().name)
    if json:
        return as_json(plain(found))
    table(("view", "query", "changed at"), [(view.name, view.query, view.changed_at) for view in found])


@app.command("save")
def save(
    name: Name,
    query: Annotated[str, typer.Argument(help="Of the address of a list of jobs: state=failed&queue=billing.")],
) -> None:
    """Keep a list of jobs under a name, or change it."""
    from control.saved_views import save as verb

    with control() as ledger:
        done = verb(ledger, name, query, by=operator())
    say(f"{done.name} shows {done.query or 'all jobs'}")


@app.command("rm")
def rm(name: Name) -> None:
    """Forget a view."""
    from control.saved_views import remove

    with control() as ledger:
        remove(ledger, name, by=operator())
    say(f"{name} is forgotten")
