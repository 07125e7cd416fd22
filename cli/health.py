"""``hareline health``: whether all is well, for people and for container health checks."""

from enum import IntEnum
from typing import Annotated, Literal

import typer

from cli.opened import queries, schedule_queries
from cli.shown import as_json, say, table
from settings import load

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Judged(IntEnum):
    """The exit codes of `hareline health`."""

    OK = 0
    WARNING = 1
    CRITICAL = 2


def health(
    everything: Annotated[bool, typer.Option("--all", help="Also what is well.")] = False,
    fail_on: Annotated[
        Literal["warning", "critical"], typer.Option(help="What ends with an exit code but 0.")
    ] = "warning",
    json: Json = False,
) -> None:
    """Say whether all is well: queues, workers, schedules and duties.

    Ends with 0 when it is, 1 for a warning, 2 for something critical, 5 when the ledger cannot be used. The figures
    are in HARELINE_HEALTH, and for one queue in HARELINE_QUEUES__<QUEUE>__HEALTH.
    """
    from actors import broker
    from control.health import Rules, check
    from ledger.alerts import Level

    settings = load()
    with queries(settings) as asked, schedule_queries() as schedules:
        found = check(asked, schedules, Rules.of(settings), names=sorted(broker.get_declared_queues()))
    shown = [x for x in found.findings if everything or x.level is not Level.OK]
    if json:
        as_json({"at": found.at, "level": found.level, "findings": shown})
    else:
        say("all is well" if found.level is Level.OK else found.level)
        if shown:
            table(
                ("level", "queue", "rule", "what", "warning", "critical"),
                [(x.level, x.queue, x.rule, x.text, f"{x.warning:g}", f"{x.critical:g}") for x in shown],
            )
    judged = Judged(found.level.rank)
    if judged is Judged.CRITICAL or (judged is Judged.WARNING and fail_on == "warning"):
        raise typer.Exit(judged)
