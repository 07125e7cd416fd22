"""The command line: ``hareline …``."""

import sys
from importlib.metadata import version
from io import TextIOWrapper
from typing import Annotated

import typer

from cli import (
    accounts,
    alerts,
    audit,
    circuits,
    dead,
    dev,
    doctor,
    events,
    failures,
    flows,
    gmail,
    health,
    jobs,
    keys,
    limits,
    migration,
    operations,
    queues,
    saved_views,
    schedules,
    top,
    upkeep,
    webhooks,
    work,
    workers,
)
from cli.exits import EXPLAINED, Commands
from settings import load

main = typer.Typer(
    name="hareline",
    cls=Commands,
    epilog=EXPLAINED,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        print(f"hareline {version('hareline')}")
        raise typer.Exit


@main.callback()
def hareline(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """A job system: Dramatiq actors, carried by RabbitMQ, recorded in a ledger.

    Settings come from the environment, .env and hareline.toml; `hareline config` prints them.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def demo(
    events: Annotated[int | None, typer.Option(min=1, help="So many of the bundled events; all, if not given.")] = None,
    workers: Annotated[int | None, typer.Option("-p", "--processes", min=1, help="Worker processes.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print only the totals, as JSON.")] = False,
) -> None:
    """Run the demo: a few thousand usage events.

    They are tracked, priced and delivered; then it prints what happened.
    """
    from cli.demo.run import run_demo

    raise typer.Exit(run_demo(load(), events=events, workers=workers, as_json=as_json))


PROGRAMS = (demo, dev.dev, work.worker, work.scheduler, work.console, top.top)
for command in (*PROGRAMS, upkeep.migrate, doctor.doctor, health.health, upkeep.config):
    main.command()(command)
GROUPS = {
    "jobs": jobs.app,
    "queues": queues.app,
    "dead": dead.app,
    "failures": failures.app,
    "operations": operations.app,
    "limits": limits.app,
    "flows": flows.app,
    "keys": keys.app,
    "circuits": circuits.app,
    "migration": migration.app,
    "events": events.app,
    "schedules": schedules.app,
    "workers": workers.app,
    "audit": audit.app,
    "users": accounts.users,
    "tokens": accounts.tokens,
    "alerts": alerts.app,
    "views": saved_views.app,
    "gmail": gmail.app,
    "webhooks": webhooks.app,
}
for name, group in GROUPS.items():
    main.add_typer(group, name=name)
main.command()(upkeep.rebuild)
