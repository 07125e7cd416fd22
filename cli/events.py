"""``hareline events``: follow what happens to jobs; look after those who do."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from cli.given import operator
from cli.opened import control
from cli.shown import as_json, duration, moment, plain, say, table
from errors import NotFound, nearest
from ledger.events import JobEvent
from logs import clean
from settings import load

app = typer.Typer(no_args_is_help=True, help="Follow what happens to jobs, and look after those who do.")

Follower = Annotated[str, typer.Argument(metavar="NAME", help="Who follows.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("ls")
def ls(json: Json = False) -> None:
    """List those who follow the feed by a name, and listeners that failed lately."""
    from control.followers import overview

    found = overview(load().database_url)
    if json:
        return as_json(found)
    if not found.kept:
        say("nothing is kept for the feed: nobody has followed it yet, or it was turned off")
    elif found.held_up_s is not None:
        say(f"a transaction has been open for {duration(found.held_up_s)}: what is newer is told when it has ended")
    rows = [(x.name, x.behind, "lost" if x.lost else "", x.seen_at, x.cursor) for x in found.followers]
    table(("follower", "behind", "events", "seen", "cursor"), rows)
    if found.troubles:
        table(("listener failed", "", "detail"), [(x.at, x.listener, x.detail) for x in found.troubles])


@app.command()
def follow(
    name: Annotated[
        str | None, typer.Argument(help="Go on where this name stopped; the first time, begin now.")
    ] = None,
    after: Annotated[
        str | None, typer.Option(help="Begin behind this cursor, or with the `oldest` that is kept.")
    ] = None,
    event: Annotated[list[str] | None, typer.Option(help="Only these: completed, dead, …; may be repeated.")] = None,
    actor: Annotated[str | None, typer.Option(help="Only of this actor.")] = None,
    queue: Annotated[str | None, typer.Option(help="Only of this queue.")] = None,
    end: Annotated[
        bool, typer.Option("--end", help="End when everything is told, instead of waiting for more.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Print what happens to jobs, as it happens, and everything of it.

    A line is dealt with when it is written: what reads it from a pipe should keep the cursor of the last one it
    understood, and begin there.
    """
    from control.feed import Feed

    feed = Feed(load().database_url, name, after=after, names=event or None, actor=actor, queue=queue, wait=not end)
    with _until_told_to_end(), feed:
        for told in feed:
            print(_line(told) if json else _text(told), flush=True)


@app.command()
def seek(
    name: Follower,
    to: Annotated[str, typer.Argument(metavar="CURSOR", help="A cursor, `oldest`, or `now`.")],
    json: Json = False,
) -> None:
    """Let a follower go on elsewhere, from its next start: when it has lost events, or is to be told again."""
    from control.followers import seek as verb

    with control() as ledger:
        cursor = verb(ledger, name, to, by=operator())
    if json:
        return as_json({"name": name, "cursor": cursor})
    say(f"{name} goes on behind {cursor}")


@app.command()
def forget(name: Follower, json: Json = False) -> None:
    """Forget where a follower is; when it comes again, it begins with what happens then."""
    from control.followers import forget as verb
    from control.followers import overview

    with control() as ledger:
        done = verb(ledger, name, by=operator())
    if not done:
        known = [follower.name for follower in overview(load().database_url).followers]
        raise NotFound(f"nobody follows by the name {name!r}; {nearest(name, known)}")
    if json:
        return as_json(done)
    say(f"{name} is forgotten")


@app.command()
def off(json: Json = False) -> None:
    """Write nothing for the feed any more, until somebody follows it again.

    Those who follow by a name are told then that they have lost events.
    """
    from control.followers import off as verb

    with control() as ledger:
        verb(ledger, by=operator())
    if json:
        return as_json(True)
    say("nothing is kept for the feed, until somebody follows it again")


@contextmanager
def _until_told_to_end() -> Iterator[None]:
    """By Ctrl-C, by SIGTERM, or because what read it has ended."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains at its end
    finally:
        signal.signal(signal.SIGTERM, before)


def _line(event: JobEvent) -> str:
    return json.dumps(plain(event))


def _text(event: JobEvent) -> str:
    error = ": ".join(part for part in (event.error_type, event.error_message) if part)
    parts = (moment(event.at), event.event.value, event.job, event.actor, event.queue, event.reason or "", error)
    return clean("  ".join(part for part in parts if part)) + f"  {event.cursor}"
