"""``hareline queues``: how they do; pause, drain and resume, clean away and retry, change how much they may do."""

from typing import TYPE_CHECKING, Annotated

import typer

from cli.exits import Exit
from cli.given import agreed, milliseconds, operator
from cli.opened import control, queries
from cli.shown import as_json, duration, say, table
from cli.waiting import wait_until
from errors import BadInput
from ledger.orders import Knob
from ledger.states import FINISHED, State
from settings import load

if TYPE_CHECKING:
    from ledger.queries import Queries
    from ledger.queue_stats import QueueStats

app = typer.Typer(no_args_is_help=True, help="Look at the queues; stop, empty and change them while jobs run.")

Name = Annotated[str, typer.Argument(metavar="QUEUE", help="A queue by name.")]
Names = Annotated[list[str], typer.Argument(metavar="QUEUE", help="Queues by name.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@app.command("ls")
def ls(json: Json = False) -> None:
    """List the queues: their jobs by state, how long the oldest waits, and when each will be empty.

    Of a queue with more than a hundred thousand jobs a part is counted, which a + tells.
    """
    with queries() as asked:
        rows = _stats(asked)
    if json:
        return as_json(rows)
    table(
        ("queue", "waiting", "active", "delayed", "completed", "failed", "oldest", "24 h", "p95", "empty in", "state"),
        [_line(x) for x in rows],
    )


@app.command()
def show(name: Name, json: Json = False) -> None:
    """Show one queue: how it does, what it goes by, and what RabbitMQ says of it now.

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
def drain(
    names: Names,
    wait: Annotated[str | None, typer.Option(help="Wait so long, 30s or 10m, until nothing waits or runs.")] = None,
    json: Json = False,
) -> None:
    """Let no new jobs into these queues.

    Sends are refused within a second; everything that is there runs. `hareline queues resume` opens them again.
    """
    _check(names)
    from cli.queue import counts
    from control.queues import drain as verb

    with control() as ledger:
        for name in names:
            verb(ledger, name, by=operator())
    with queries() as asked:
        done = wait_until(lambda: all(not x.waiting and not x.active for x in _stats(asked, *names)), wait)
        rows = _stats(asked, *names)
    if json:
        as_json(rows)
    else:
        for x in rows:
            left = "{waiting} wait, {active} run, {delayed} are delayed".format_map(counts(x))
            say(f"{x.name} takes no new jobs; {left}; `hareline queues resume {x.name}` opens it")
    if not done:
        raise typer.Exit(Exit.FAILED)


@app.command()
def resume(names: Names, json: Json = False) -> None:
    """Let these queues go on, and new jobs in."""
    _check(names)
    from control.queues import resume as verb

    with control() as ledger:
        held_back = {name: verb(ledger, name, by=operator()) for name in names}
    if json:
        return as_json(held_back)
    for name, count in held_back.items():
        say(f"{name} goes on" + (f"; {count} jobs were held back" if count else ""))


@app.command()
def clean(
    name: Name,
    state: Annotated[str, typer.Option(help="completed, failed or cancelled.")] = "completed",
    older_than: Annotated[str, typer.Option(help="Only jobs that ended so long ago: 1h, 7d.")] = "24h",
    limit: Annotated[int | None, typer.Option(min=1, help="No more than so many, the oldest.")] = None,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Remove finished jobs of a queue, with all that belongs to them but their journal."""
    _check([name])
    if state not in FINISHED:
        raise BadInput(f"--state {state!r}: only finished jobs are cleaned away: completed, failed or cancelled")
    older_s = milliseconds(older_than) / 1000
    if not agreed(f"Remove {state} jobs of {name} that ended over {duration(older_s)} ago?", yes):
        raise typer.Exit(Exit.FAILED)
    from control.queues import clean as verb

    with control() as ledger:
        count = verb(ledger, name, State(state), older_than_s=older_s, limit=limit, by=operator())
    if json:
        return as_json({"queue": name, "jobs": count})
    say(f"{count} {state} jobs of {name} are removed")


@app.command("retry-failed")
def retry_failed(
    name: Name,
    limit: Annotated[int | None, typer.Option(min=1, help="No more than so many, the oldest.")] = None,
    json: Json = False,
) -> None:
    """Send the dead letters of a queue round again."""
    _check([name])
    from control.queues import retry_failed as verb

    with control() as ledger:
        count = verb(ledger, name, limit=limit, by=operator())
    if json:
        return as_json({"queue": name, "jobs": count})
    say(f"{count} jobs of {name} go round again")


@app.command("set")
def change(
    name: Name,
    concurrency: Annotated[int | None, typer.Option(help="Jobs at once in one process.")] = None,
    rate: Annotated[str | None, typer.Option(help="Starts over all workers: 10/s, 100/5m.")] = None,
    max_running: Annotated[int | None, typer.Option(help="Jobs at once over all workers.")] = None,
    max_waiting: Annotated[int | None, typer.Option(help="Unended jobs beyond which a send is refused.")] = None,
    json: Json = False,
) -> None:
    """Change what a queue goes by, in every process within two seconds, until it is restored.

    What runs goes on.
    """
    _check([name])
    given: dict[Knob, int | str | None] = {
        Knob.CONCURRENCY: concurrency,
        Knob.RATE: rate,
        Knob.MAX_RUNNING: max_running,
        Knob.MAX_WAITING: max_waiting,
    }
    wanted = {knob: value for knob, value in given.items() if value is not None}
    if not wanted:
        raise BadInput("say what: --concurrency, --rate, --max-running or --max-waiting")
    from control.queues import change as verb

    with control() as ledger:
        verb(ledger, name, wanted, by=operator())
    if json:
        return as_json(wanted)
    say(
        f"{name}: {', '.join(f'{knob} {value}' for knob, value in wanted.items())}; "
        f"`hareline queues restore {name}` goes back to the code's"
    )


@app.command()
def restore(
    name: Name,
    knobs: Annotated[
        list[str] | None, typer.Argument(metavar="KNOB", help="concurrency, rate …; all, if none.")
    ] = None,
    json: Json = False,
) -> None:
    """Go by the code again."""
    _check([name])
    try:
        wanted = [Knob(knob.replace("-", "_")) for knob in knobs or []]
    except ValueError as error:
        raise BadInput(f"{error}; there are: {', '.join(Knob)}") from None
    from control.queues import restore as verb

    with control() as ledger:
        done = verb(ledger, name, *wanted, by=operator())
    if json:
        return as_json(done)
    say(f"{name}: the code's {', '.join(done)} counts again" if done else f"{name}: nothing was changed")


def _check(names: list[str]) -> None:
    """Raise ``NotFound`` for a name that is no queue."""
    from actors import broker
    from broker import catalogue

    with queries() as asked:
        for name in names:
            catalogue.queue(broker, asked, name)


def _stats(asked: "Queries", *only: str) -> "list[QueueStats]":
    from actors import broker
    from control.queues import stats

    return stats(asked, sorted(broker.get_declared_queues()), only=only or None)


def _line(x: "QueueStats") -> tuple[object, ...]:
    from cli.queue import counts

    day = f"{x.completed_24h} + {x.failed_24h} failed" if x.failed_24h else x.completed_24h
    return (
        x.name,
        *counts(x).values(),
        duration(x.oldest_waiting_s),
        day,
        duration(x.p95_run_s),
        duration(x.drain_s),
        _state(x),
    )


def _state(x: "QueueStats") -> str:
    paused = f"paused by {x.paused_by}" if x.paused else ""
    draining = f"draining by {x.draining_by}" if x.draining_at else ""
    return ", ".join(filter(None, (paused, draining)))
