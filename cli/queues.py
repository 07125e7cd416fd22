"""``hareline queues``: how long they are; pause and resume."""

from typing import TYPE_CHECKING, Annotated

import typer

from cli.given import operator
from cli.opened import control, queries
from cli.shown import as_json, duration, say, table
from ledger.states import State
from ledger.views import QueueView
from settings import load

if TYPE_CHECKING:
    from ledger.queries import Queries

app = typer.Typer(no_args_is_help=True, help="Look at the queues, pause and resume them.")

Names = Annotated[list[str], typer.Argument(metavar="QUEUE", help="Queues by name.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("ls")
def ls(json: Json = False) -> None:
    """List the queues and their jobs by state.

    Jobs that are in the history only are not counted.
    """
    with queries() as asked:
        rows = _all(asked)
    if json:
        return as_json(rows)
    table(
        ("queue", *State, "oldest waiting", "paused", "by"),
        [
            (x.name, *(x.counts.get(state, 0) for state in State), duration(x.oldest_waiting_s), x.paused, x.paused_by)
            for x in rows
        ],
    )


@app.command()
def show(name: Annotated[str, typer.Argument(metavar="QUEUE", help="A queue by name.")], json: Json = False) -> None:
    """Show one queue, and what RabbitMQ says of it now.

    What RabbitMQ does not tell is unknown.
    """
    from actors import broker
    from cli.queue import show_queue

    show_queue(load(), broker, name, json=json)


@app.command()
def pause(names: Names, json: Json = False) -> None:
    """Start nothing new of these queues.

    What runs, finishes.
    """
    _check(names)
    from control.queues import pause as verb

    with control() as ledger:
        for name in names:
            verb(ledger, name, by=operator())
    if json:
        return as_json(dict.fromkeys(names, "paused"))
    for name in names:
        say(f"{name} is paused; `hareline queues resume {name}` lets it go on")


@app.command()
def resume(names: Names, json: Json = False) -> None:
    """Let these queues go on."""
    _check(names)
    from control.queues import resume as verb

    with control() as ledger:
        held_back = {name: verb(ledger, name, by=operator()) for name in names}
    if json:
        return as_json(held_back)
    for name, count in held_back.items():
        say(f"{name} goes on" + (f"; {count} jobs were held back" if count else ""))


def _check(names: list[str]) -> None:
    """Raise ``NotFound`` for a name that is no queue."""
    from actors import broker
    from broker import catalogue

    with queries() as asked:
        for name in names:
            catalogue.queue(broker, asked, name)


def _all(asked: "Queries") -> list[QueueView]:
    from actors import broker
    from broker import catalogue

    return catalogue.queues(broker, asked)
