"""``hareline operations``: one verb on all jobs that fit, in batches that go on whoever is killed."""

import sys
import time
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from cli.given import agreed, filter_of, operator
from cli.opened import control, queries
from cli.shown import as_json, say, table
from errors import BadInput, NotFound

if TYPE_CHECKING:
    from ledger.operations import OperationView

app = typer.Typer(no_args_is_help=True, help="Bulk operations: do one thing to all jobs that fit; watch, cancel.")

#: How often one that others carry out is looked at.
LOOK_S = 0.5

Id = Annotated[str, typer.Argument(metavar="OPERATION", help="Its id, as `hareline operations ls` prints it.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Deed(StrEnum):
    """What may be done, as it is typed."""

    RETRY = "retry"
    CANCEL = "cancel"
    DISCARD = "discard"
    REMOVE = "remove"
    RUN_NOW = "run-now"


@app.command("ls")
def ls(
    open_only: Annotated[bool, typer.Option("--open", help="Only those that are not over.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="At most so many.")] = 20,
    json: Json = False,
) -> None:
    """List bulk operations, newest first."""
    with queries() as asked:
        rows = asked.operations(limit=limit, open_only=open_only)
    if json:
        return as_json(rows)
    table(
        ("id", "verb", "state", "done", "of", "skipped", "failed", "begun", "by", "query"),
        [
            (
                *(x.id, x.verb, x.state, x.done, x.expected, x.skipped, x.failed),
                *(x.created_at, x.created_by, x.filter.words()),
            )
            for x in rows
        ],
    )


@app.command()
def show(operation: Id, json: Json = False) -> None:
    """Show a bulk operation, and the first jobs it could not be done to."""
    with queries() as asked:
        _show(_found(asked.operation(operation), operation), json)


@app.command()
def start(
    deed: Annotated[Deed, typer.Argument(metavar="VERB", help="retry, cancel, discard, remove or run-now.")],
    query: Annotated[list[str], typer.Argument(metavar="QUERY", help="Which jobs, as for `hareline jobs ls`.")],
    expect: Annotated[int | None, typer.Option(help="Refuse if it is over a tenth more, or fewer.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many jobs it is.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Leave it to the workers.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Do one thing to all jobs that fit a query.

    Whoever is killed meanwhile, this command or a worker: it goes on where it was.
    """
    if not "".join(query).strip():
        raise BadInput("say which jobs; for all that are dead letters: state:failed")
    carry_out(deed.replace("-", "_"), *query, expect=expect, dry_run=dry_run, detach=detach, yes=yes, json=json)


@app.command()
def watch(operation: Id, json: Json = False) -> None:
    """Follow a bulk operation to its end."""
    with queries() as asked:
        while (now := _found(asked.operation(operation), operation)).finished_at is None:
            _tell(now)
            time.sleep(LOOK_S)
        _show(now, json)


@app.command()
def cancel(operation: Id, json: Json = False) -> None:
    """Begin no further batch of a bulk operation.

    What is done stays done.
    """
    from control.operations import cancel as verb

    with control() as ledger:
        _show(verb(ledger, operation, by=operator()), json)


def carry_out(
    deed: str,
    *query: str,
    expect: int | None = None,
    dry_run: bool = False,
    detach: bool = False,
    yes: bool = False,
    json: bool = False,
) -> None:
    """Ask, begin, and unless it is left to others, do it to the end."""
    from control.operations import run, start

    wanted = filter_of(query)
    with queries() as asked, control() as ledger:
        tried = start(ledger, asked, deed, wanted, expected_count=expect, dry_run=True, by=operator())
        if dry_run:
            return as_json(tried) if json else say(f"{deed} would be done to {tried.expected} jobs")
        question = f"{deed.replace('_', ' ').capitalize()} {tried.expected} jobs?"
        if tried.expected.count and not agreed(question, yes):
            say("nothing was done")
            raise typer.Exit(1)
        expected = tried.expected.count if expect is None else expect
        begun = start(ledger, asked, deed, wanted, expected_count=expected, by=operator())
        if detach:
            return as_json(begun) if json else say(f"{begun.id} is begun; `hareline operations watch {begun.id}`")
        _show(run(ledger, begun.id, told=_tell), json)


def _found(view: "OperationView | None", id: str) -> "OperationView":
    if view is None:
        raise NotFound(f"there is no operation {id!r}; `hareline operations ls` shows them")
    return view


def _tell(now: "OperationView") -> None:
    if sys.stderr.isatty():
        print(f"\r{now.seen:,} of {now.expected} ({now.progress:.0%})", end="", file=sys.stderr, flush=True)


def _show(view: "OperationView", json: bool) -> None:
    if sys.stderr.isatty():
        print("\r", end="", file=sys.stderr)
    if json:
        return as_json(view)
    others = ((view.skipped, "skipped"), (view.failed, "failed"))
    more = "".join(f", {number:,} {what}" for number, what in others if number)
    say(f"{view.id} {view.verb} is {view.state}: {view.done:,} of {view.expected} jobs{more}")
    for trouble in view.troubles:
        say(f"{trouble.job}: {trouble.why}", style="red")
