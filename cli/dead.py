"""``hareline dead``: dead letters, which stay until a person or a stated policy removes them."""

from collections.abc import Callable
from typing import Annotated

import typer

from cli.exits import BadInput
from cli.given import agreed, operator
from cli.opened import control, queries
from cli.shown import as_json, say, table
from ledger.states import Reason

app = typer.Typer(no_args_is_help=True, help="Dead letters: look, retry, discard.")

#: Up to here they are counted before the question.
COUNTED = 1_000

Refs = Annotated[list[str] | None, typer.Argument(metavar="REF", help="Jobs, each as for `hareline jobs show`.")]
Queue = Annotated[str | None, typer.Option(help="All of this queue.")]
Actor = Annotated[str | None, typer.Option(help="All of this actor.")]
Why = Annotated[Reason | None, typer.Option(help="All with this reason.")]
All = Annotated[bool, typer.Option("--all", help="All there are.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("ls")
def ls(
    queue: Queue = None,
    actor: Actor = None,
    reason: Why = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 50,
    json: Json = False,
) -> None:
    """List dead letters with their last error.

    Newest first, those in the history too.
    """
    with queries() as asked:
        rows = asked.dead(queue=queue, actor=actor, reason=reason, limit=limit)
    if json:
        return as_json(rows)
    table(
        ("id", "queue", "actor", "reason", "attempts", "failed", "error"),
        [
            (x.id, x.queue, x.actor, x.reason, x.attempts_spent, x.finished_at, _error(x.error_type, x.error_message))
            for x in rows
        ],
    )


@app.command()
def retry(
    refs: Refs = None,
    queue: Queue = None,
    actor: Actor = None,
    reason: Why = None,
    every: All = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Send dead letters round again.

    Those named, or all that fit.
    """
    from control.dead import retry as verb

    _each(verb, "Retry", "sent round again", refs or [], queue, actor, reason, every, yes, json)


@app.command()
def discard(
    refs: Refs = None,
    queue: Queue = None,
    actor: Actor = None,
    reason: Why = None,
    every: All = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Remove dead letters for good.

    Those named, or all that fit.  Their journal stays.
    """
    from control.dead import discard as verb

    _each(verb, "Remove for good", "removed", refs or [], queue, actor, reason, every, yes, json)


def _each(
    verb: Callable[..., list[str]],
    asking: str,
    done: str,
    refs: list[str],
    queue: str | None,
    actor: str | None,
    reason: Reason | None,
    every: bool,
    yes: bool,
    json: bool,
) -> None:
    fits = {"queue": queue, "actor": actor, "reason": reason}
    some = any(value is not None for value in fits.values())
    if (bool(refs), some, every).count(True) != 1:
        raise BadInput("say which: either job ids, or any of --queue, --actor and --reason, or --all")
    if not refs:
        with queries() as asked:
            count = len(asked.dead(queue=queue, actor=actor, reason=reason, limit=COUNTED + 1))
        if count and not agreed(f"{asking} {count if count <= COUNTED else f'over {COUNTED}'} dead letters?", yes):
            say("nothing was done")
            raise typer.Exit(1)
    with control() as ledger:
        ids = verb(ledger, *refs, by=operator(), **({} if refs else fits))
    if json:
        return as_json(ids)
    say(f"{len(ids)} dead {'letter was' if len(ids) == 1 else 'letters were'} {done}")


def _error(kind: str | None, message: str | None) -> str:
    text = ": ".join(part for part in (kind, message) if part)
    return text if len(text) <= 120 else f"{text[:119]}…"
