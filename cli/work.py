"""``hareline worker`` and ``hareline scheduler``: the processes of a deployment."""

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from cli.exits import BadInput
from cli.given import nearest
from settings import Settings, load

Processes = Annotated[
    int | None, typer.Option("-p", "--processes", min=1, help="Worker processes; WORKER_COUNT decides if not given.")
]
Queues = Annotated[
    list[str] | None, typer.Option("-Q", "--queue", help="Serve this queue only; may be given more than once.")
]


def worker(processes: Processes = None, queues: Queues = None) -> None:
    """Run workers; one that dies is started again.

    SIGTERM or Ctrl-C: running jobs may end, what has not started goes back.  A second one: kill.  SIGHUP: restart
    the processes one by one.
    """
    import logs  # and structlog: only workers log, everything else answers

    settings = load()
    logs.configure(settings)
    queues = [name for given in queues or [] for name in given.split(",") if name]
    check_queues(queues)
    check_schemas(settings)
    from cli.supervisor import Supervisor

    raise typer.Exit(Supervisor(processes or settings.processes, queues, log_format(settings)).run())


def scheduler() -> None:
    """Run the scheduler.

    It sends recurring messages, each tick once, however many schedulers run.
    """
    sys.stdout.flush()
    # The scheduler is a program of its own, beside this one, not a part of it.
    os.execv(sys.executable, [sys.executable, "-m", "scheduler"])


def check_queues(queues: Sequence[str]) -> None:
    """Raise ``BadInput`` for a queue that no actor is on: a worker for it would wait for ever."""
    from actors import broker

    known = broker.get_declared_queues()
    for name in queues:
        if name not in known:
            raise BadInput(f"no actor is on queue {name!r}; {nearest(name, known)}")


def check_schemas(settings: Settings) -> None:
    """Raise ``SchemaMismatch`` or ``LedgerUnavailable`` now, rather than in every worker, again and again."""
    if settings.database_url.startswith("sqlite:"):
        return  # it is migrated at its first use
    from actors.store import migrations
    from ledger.migrate import Migrations

    Migrations(settings.database_url).check()
    migrations(settings.database_url).check()


def log_format(settings: Settings) -> dict[str, str]:
    """The log format for children: they cannot see what our stderr is."""
    if settings.log_format != "auto":
        return {}
    return {"HARELINE_LOG_FORMAT": "text" if sys.stderr.isatty() else "json"}
