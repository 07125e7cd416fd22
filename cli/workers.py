"""``hareline workers``: the worker processes; quiet them, let them go on, stop them."""

from collections.abc import Callable
from typing import Annotated

import typer

from cli.exits import Exit
from cli.given import operator
from cli.opened import control, queries
from cli.shown import as_json, duration, say, size, table
from cli.waiting import wait_until
from ledger.orders import Ends
from ledger.views import WorkerView

app = typer.Typer(no_args_is_help=True, help="Look at the worker processes; quiet, resume and stop them.")

Ids = Annotated[list[int], typer.Argument(metavar="WORKER", help="Workers by number, as `ls` shows them.")]
Wait = Annotated[str | None, typer.Option(help="Wait so long, 30s or 5m, until it is done and nothing runs there.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("ls")
def ls(
    everyone: Annotated[bool, typer.Option("--all", help="Also those that stopped or died.")] = False,
    json: Json = False,
) -> None:
    """List the worker processes.

    What they do and were asked for, how many jobs each runs, its memory, and when it was last heard of.
    """
    from control.workers import listing

    with queries() as asked:
        rows = listing(asked, everyone=everyone)
    if json:
        return as_json(rows)
    columns = ("id", "host", "pid", "state", "active", "threads", "memory", "heard", "started", "version", "queues")
    table(columns, [_line(x) for x in rows])


@app.command()
def show(id: Annotated[int, typer.Argument(metavar="WORKER", help="Its number.")], json: Json = False) -> None:
    """Show one worker process and the jobs it runs."""
    from control.workers import one

    with queries() as asked:
        x = one(asked, id)
    if json:
        return as_json(x)
    for name, value in (
        ("worker", x.id),
        ("process", f"{x.pid} on {x.host}"),
        ("state", _state(x)),
        ("asked", f"to {x.asked} by {x.asked_by}" if x.asked else ""),
        ("stopped", _stops(x)),
        ("version", x.version),
        ("memory", size(x.rss)),
        ("busy", f"{x.busy if x.busy is not None else x.active} of {x.threads} threads"),
        ("heard", f"{duration(x.silent_s)} ago"),
        ("queues", ", ".join(f"{queue} ({x.slots[queue]})" if queue in x.slots else queue for queue in x.queues)),
    ):
        if value != "":
            say(f"{name:<9}{value}")
    if x.jobs:
        table(("job", "actor", "queue", "for"), [(j.id, j.actor, j.queue, duration(j.elapsed_s)) for j in x.jobs])


@app.command()
def quiet(ids: Ids, wait: Wait = None, json: Json = False) -> None:
    """Let workers start nothing more.

    What they run, ends; they stay alive, and `resume` lets them go on. It takes effect within two seconds.
    """
    from control.workers import quiet as verb

    _ask(verb, ids, wait, json, "is to be quiet; `hareline workers resume {}` lets it go on")


@app.command()
def resume(ids: Ids, json: Json = False) -> None:
    """Let quiet workers take jobs again."""
    from control.workers import resume as verb

    _ask(verb, ids, None, json, "is to go on")


@app.command()
def stop(ids: Ids, wait: Wait = None, json: Json = False) -> None:
    """End workers in good order, as SIGTERM does.

    `hareline worker` starts no other in the place of one that was stopped so, until it gets a SIGHUP; when its last
    one is stopped, it ends. Dramatiq's own command line ends all its workers when one ends. A worker in a program of
    its own becomes quiet, and ends with that.
    """
    from control.workers import stop as verb

    _ask(verb, ids, wait, json, "is to stop")


def _ask(verb: Callable[..., list[int]], ids: list[int], wait: str | None, json: bool, words: str) -> None:
    with control() as ledger:
        asked = verb(ledger, *ids, by=operator())
    with queries() as ask:
        done = wait_until(lambda: all(_is_done(ask.worker(id)) for id in ids), wait)
        found = [x for id in ids if (x := ask.worker(id)) is not None]
    if json:
        as_json(found)
    else:
        for x in found:
            stays = "" if x.id in asked else ", as it was asked before"
            say(f"worker {x.id} {words.format(x.id)}{stays}")
            if words.endswith("stop") and (more := _stops(x)):
                say(f"  {more}")
    if not done:
        if not json:
            say(f"not within {wait}: {', '.join(f'worker {x.id} runs {x.active}' for x in found if not _is_done(x))}")
        raise typer.Exit(Exit.FAILED)


def _line(x: WorkerView) -> tuple[object, ...]:
    heard = f"{duration(x.silent_s)} ago"
    known = (x.id, x.host, x.pid, _state(x), x.active, x.threads, size(x.rss), heard)
    return (*known, x.started_at, x.version, " ".join(x.queues))


def _is_done(x: WorkerView | None) -> bool:
    return x is None or x.state in ("stopped", "dead") or (not x.pending and x.mode != "stopping" and not x.active)


def _state(x: WorkerView) -> str:
    """As the ledger has it; for one at work, what it says it does, and what it was asked for and has not done."""
    if x.state != "running":
        return x.state
    return f"{x.mode or x.state}" + (f" (asked to {x.asked})" if x.pending else "")


def _stops(x: WorkerView) -> str:
    """What a stop does to it."""
    match x.ends:
        case Ends.TOGETHER:
            return f"with all workers of its process {x.master}: Dramatiq's command line ends them together"
        case Ends.NOT:
            return "not by itself: a program of its own runs it; asked to stop, it is quiet until that ends"
        case _:
            return ""
