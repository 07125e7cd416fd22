"""``hareline flows``: what became of workflows; stop them, let them go on."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from cli.given import json_of, operator
from cli.opened import queries, session
from cli.shown import as_json, say, table
from errors import IllegalTransition
from ledger.flows.states import FlowState

if TYPE_CHECKING:
    from ledger.flows.views import FlowView, StepView

app = typer.Typer(no_args_is_help=True, help="Look at flows, the runs of workflows; cancel, retry and signal them.")

Ref = Annotated[str, typer.Argument(metavar="FLOW", help="Its id, or at least 8 characters of it.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("ls")
def ls(
    workflow: Annotated[str | None, typer.Option(help="Only this workflow's.")] = None,
    state: Annotated[FlowState | None, typer.Option(help="Only those in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    json: Json = False,
) -> None:
    """List flows, newest first."""
    from control.flows import listing

    with queries() as asked:
        rows = listing(asked, name=workflow, state=state, limit=limit)
    if json:
        return as_json(rows)
    table(
        ("id", "workflow", "state", "done", "of", "started", "key"),
        [(x.id, x.name, x.state, x.progress.done, x.progress.total, x.created_at, x.key) for x in rows],
    )


@app.command("show")
def show(flow: Ref, json: Json = False) -> None:
    """Show a flow: its steps, each below those it waits for, and what failed."""
    from control.flows import find

    with queries() as asked:
        view = find(asked, flow)
    if json:
        return as_json(view)
    progress = view.progress
    say(f"{view.id} {view.name} (version {view.version}) is {view.state}: {progress.done} of {progress.total} done")
    table(("step", "state", "done", "of", "failed", "after", "job"), list(_rows(view)))
    for step in view.steps:
        if step.error:
            say(f"{step.name}: {step.error}", style="red")
        for failure in step.failures:
            say(f"{step.name}[{failure.item}]: job {failure.job}: {failure.error or 'cancelled'}", style="red")


@app.command("cancel")
def cancel(flow: Ref, json: Json = False) -> None:
    """Cancel a flow with all its jobs.

    Those that run are asked to stop; steps that have not started never start.
    """
    from control.flows import cancel as verb

    with session() as opened, queries() as asked:
        state = verb(opened, asked, flow, by=operator())
    if json:
        return as_json(state)
    say(f"{flow} is {state}" + (": jobs that run were asked to stop" if state is FlowState.CANCELLING else ""))


@app.command("retry")
def retry(flow: Ref, json: Json = False) -> None:
    """Let a failed or cancelled flow go on from where it stopped.

    The steps that failed get new jobs; what completed is kept.
    """
    from control.flows import retry as verb

    with session() as opened, queries() as asked:
        steps = verb(opened, asked, flow, by=operator())
    if json:
        return as_json(steps)
    say(f"{flow} goes on with {', '.join(steps)}")


@app.command("signal")
def signal(
    flow: Ref,
    name: Annotated[str, typer.Argument(help="What it waits for.")],
    data: Annotated[str, typer.Option(help="What the waiting step returns, as JSON.")] = "null",
    json: Json = False,
) -> None:
    """Give a flow the signal a step of it waits for, or is going to."""
    value = json_of("--data", data, object, '{"by": "Ada"}')
    from control.flows import signal as verb

    with session() as opened, queries() as asked:
        first = verb(opened, asked, flow, name, value, by=operator())
    if json:
        return as_json(first)
    if not first:
        raise IllegalTransition(f"flow {flow} is over, or has a signal {name!r} already; the first one counts")
    say(f"{flow} has the signal {name}")


def _rows(view: "FlowView") -> Iterator[tuple[object, ...]]:
    depth: dict[str, int] = {}
    for step in view.steps:
        depth[step.name] = max((depth[name] + 1 for name in step.after), default=0)
        yield "  " * depth[step.name] + step.name, step.state, *_counts(step), _after(step), step.job


def _counts(step: "StepView") -> tuple[object, object, object]:
    return (step.done, step.jobs, step.failed or None) if step.jobs else (None, None, None)


def _after(step: "StepView") -> str:
    return ", ".join(step.after) + (f" (due {step.due_at:%Y-%m-%d %H:%M:%S} UTC)" if step.due_at else "")
