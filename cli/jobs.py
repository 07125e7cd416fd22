"""``hareline jobs``: look at jobs, add one, retry, cancel, remove."""

import sys
from typing import Annotated, Any

import typer

from cli.given import filter_of, json_of, milliseconds, operator
from cli.opened import control, queries
from cli.reveal import revealed
from cli.show import show_job
from cli.shown import as_json, duration, say, table
from errors import JobNotFound, NotFound
from ledger.states import State
from middleware.unique import Duplicate

app = typer.Typer(no_args_is_help=True, help="Look at jobs, add one, retry, cancel, remove.")

Ref = Annotated[str, typer.Argument(help="A job's id, at least 8 characters of it, or a Dramatiq message id.")]
Refs = Annotated[list[str], typer.Argument(metavar="REF", help="Jobs, each as for `hareline jobs show`.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


Query = Annotated[
    list[str] | None,
    typer.Argument(metavar="QUERY", help="Words, and id: queue: actor: state: reason: error: worker: since: args.x: …"),
]


@app.command("ls")
def ls(
    query: Query = None,
    queue: Annotated[str | None, typer.Option(help="Of this queue, or of a pattern: billing.*")] = None,
    state: Annotated[State | None, typer.Option(help="In this state.")] = None,
    actor: Annotated[str | None, typer.Option(help="Of this actor.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 50,
    after: Annotated[str | None, typer.Option(help="The cursor of the page before: the next page.")] = None,
    count: Annotated[bool, typer.Option("--count", help="Only how many there are, of each state.")] = False,
    json: Json = False,
) -> None:
    """List jobs that fit a query, newest first.

    Those in the history too.  For example: hareline jobs ls 'state:failed queue:billing.* since:2h timeout'
    """
    wanted = filter_of(query, queue=queue, state=state, actor=actor)
    with queries() as asked:
        if count:
            counts = {state: number for state, number in asked.count_states(wanted).items() if number.count}
            return as_json(counts) if json else table(("state", "jobs"), list(counts.items()))
        page = asked.search(wanted, limit=limit, after=after)
    if json:
        as_json(page.jobs)
    else:
        table(
            ("id", "queue", "actor", "state", "attempts", "created", "due", "finished", "arguments", "error"),
            [
                (
                    *(x.id, x.queue, x.actor, x.state, x.attempts_spent, x.created_at, x.run_at, x.finished_at),
                    *(x.args, x.error),
                )
                for x in page.jobs
            ],
        )
    if page.after is not None:
        print(f"there are more: --after {page.after}", file=sys.stderr)


@app.command()
def export(
    query: Query = None,
    csv: Annotated[bool, typer.Option("--csv", help="Comma-separated with a heading, instead of JSON lines.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many.")] = None,
) -> None:
    """Print all jobs that fit a query, one a line, newest first.

    As JSON, or comma-separated; arguments are in short, without secrets.
    """
    from control import export as lines

    wanted = filter_of(query)
    with queries() as asked:
        for line in (lines.as_csv if csv else lines.ndjson)(asked, wanted, most=limit):
            sys.stdout.write(line)


@app.command()
def show(
    ref: Ref,
    traceback: Annotated[bool, typer.Option("--traceback", help="With the tracebacks of failed attempts.")] = False,
    reveal: Annotated[bool, typer.Option("--reveal", help="What is hidden in clear; the journal says so.")] = False,
    json: Json = False,
) -> None:
    """Show one job.

    Its message, its timeline, its attempts and their errors.
    """
    if reveal:
        job = revealed(ref)
    else:
        with queries() as asked:
            job = asked.job(ref)
    if job is None:
        raise JobNotFound(f"no job {ref!r}: give its id, at least 8 characters of it, or its Dramatiq message id")
    from ledger.redact import without_secrets

    show_job(job if reveal else without_secrets(job), traceback=traceback, as_json=json)


@app.command()
def result(ref: Ref, json: Json = False) -> None:
    """Print what a job returned, redacted.

    Looking does not count as reading: retention goes on as before.
    """
    from json import dumps as json_text

    from ledger.redact import redacted_body

    with queries() as asked:
        job = asked.job(ref)
        body = asked.result_body(job.id) if job else None
    if job is None:
        raise JobNotFound(f"no job {ref!r}: give its id, at least 8 characters of it, or its Dramatiq message id")
    text = None if body is None else json_text(redacted_body(body), ensure_ascii=False)
    if json:
        return as_json({"id": job.id, "state": job.state, "result": text})
    say(text if text is not None else f"{job.id} is {job.state}, and no result is kept")


@app.command()
def enqueue(
    actor: Annotated[str, typer.Argument(help="The actor's name.")],
    args: Annotated[str, typer.Option(help="Its arguments, as a JSON list.")] = "[]",
    kwargs: Annotated[str, typer.Option(help="Its keyword arguments, as a JSON object.")] = "{}",
    delay: Annotated[str | None, typer.Option(help="Not before this long from now: 500ms, 30s, 5m, 2h, 7d.")] = None,
    priority: Annotated[int | None, typer.Option(min=1, max=5, help="1 (critical) to 5 (background).")] = None,
    queue: Annotated[str | None, typer.Option(help="Another queue than the actor's own.")] = None,
    json: Json = False,
) -> None:
    """Send a message to an actor: one new job."""
    positional = json_of("--args", args, list, '["a", 1]')
    named = json_of("--kwargs", kwargs, dict, '{"a": 1}')
    delay_ms = milliseconds(delay) if delay is not None else None
    from actors import broker
    from broker import catalogue
    from broker.deeds import enqueue as verb

    options: dict[str, Any] = {} if priority is None else {"priority": priority}
    message = catalogue.message(broker, actor, positional, named, queue=queue, **options)
    with control() as ledger:
        sent = verb(broker, ledger, message, delay=delay_ms, by=operator())
    job = broker.queries.job(sent.message_id)
    broker.close()
    duplicate = isinstance(sent, Duplicate)
    if job is None:
        assert duplicate, "it was committed a moment ago"
        raise NotFound(f"{actor} is unique, and the job that holds its key is not in the ledger any more; try later")
    if json:
        row = {"id": job.id, "message_id": job.message_id, "queue": job.queue, "state": job.state}
        return as_json(row | ({"duplicate": True} if duplicate else {}))
    if duplicate:
        return say(f"{job.id} was there already, {job.state} on {job.queue}: nothing was recorded")
    say(f"{job.id} is {job.state} on {job.queue}" + (f", due in {duration(delay_ms / 1000)}" if delay_ms else ""))


@app.command()
def retry(refs: Refs, json: Json = False) -> None:
    """Run failed, cancelled or delayed jobs now.

    Their attempts count from 0; those of a delayed job go on.
    """
    from control.jobs import retry as verb

    with control() as ledger:
        ids = [verb(ledger, ref, by=operator()) for ref in refs]
    if json:
        return as_json(ids)
    for id in ids:
        say(f"{id} is waiting")


@app.command("run-now")
def run_now(refs: Refs, json: Json = False) -> None:
    """Let delayed jobs run as soon as a worker is free.

    Their attempts go on.
    """
    from control.jobs import run_now as verb

    with control() as ledger:
        ids = [verb(ledger, ref, by=operator()) for ref in refs]
    if json:
        return as_json(ids)
    for id in ids:
        say(f"{id} is waiting")


@app.command()
def edit(
    ref: Ref,
    args: Annotated[str | None, typer.Option(help="Other arguments, as a JSON list.")] = None,
    kwargs: Annotated[str | None, typer.Option(help="Other keyword arguments, as a JSON object.")] = None,
    json: Json = False,
) -> None:
    """Send a job again with other arguments, as a new one.

    The old one stays as it is; each says of the other.  What is not given is the same.
    """
    positional = None if args is None else json_of("--args", args, list, '["a", 1]')
    named = None if kwargs is None else json_of("--kwargs", kwargs, dict, '{"a": 1}')
    from actors import broker
    from broker.edits import edit as verb

    with control() as ledger:
        id = verb(broker, ledger, ref, args=positional, kwargs=named, by=operator())
    broker.close()
    if json:
        return as_json({"id": id})
    say(f"{id} is a new job, made of {ref}")


@app.command()
def cancel(refs: Refs, json: Json = False) -> None:
    """Cancel jobs.

    At once if they are not running, else they are asked to stop.
    """
    from control.jobs import cancel as verb

    with control() as ledger:
        answers = {ref: verb(ledger, ref, by=operator()) for ref in refs}
    if json:
        return as_json(answers)
    for ref, answer in answers.items():
        say(f"{ref} is cancelled" if answer == "cancelled" else f"{ref} is running and was asked to stop")


@app.command()
def rm(refs: Refs, json: Json = False) -> None:
    """Forget finished jobs.

    Only their journal stays.
    """
    from control.jobs import remove as verb

    with control() as ledger:
        ids = [verb(ledger, ref, by=operator()) for ref in refs]
    if json:
        return as_json(ids)
    for id in ids:
        say(f"{id} is removed")
