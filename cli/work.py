"""``hareline worker``, ``scheduler`` and ``console``: the processes of a deployment."""

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from cli.exits import BadInput
from errors import nearest
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
    from middleware.counting import Counting

    counting = Counting(settings) if settings.metrics_port else None
    supervisor = Supervisor(processes or settings.processes, queues, log_format(settings), counting)
    raise typer.Exit(supervisor.run())


def scheduler() -> None:
    """Run the scheduler.

    It sends recurring messages, each tick once, however many schedulers run.
    """
    sys.stdout.flush()
    # The scheduler is a program of its own, beside this one, not a part of it.
    os.execv(sys.executable, [sys.executable, "-m", "scheduler"])


def console(
    host: Annotated[str | None, typer.Option(help="Listen there; HARELINE_CONSOLE_HOST decides if not given.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="HARELINE_CONSOLE_PORT, if not given; 0: any that is free.")
    ] = None,
) -> None:
    """Run the console and the HTTP API.

    It prints its address once it answers.
    """
    given = {"HARELINE_CONSOLE_HOST": host, "HARELINE_CONSOLE_PORT": None if port is None else str(port)}
    env = {**os.environ, **{name: value for name, value in given.items() if value is not None}}
    sys.stdout.flush()
    # As the scheduler: a program of its own.
    os.execve(sys.executable, [sys.executable, "-m", "dashboard"], env)


def check_queues(queues: Sequence[str]) -> None:
    """Raise ``BadInput`` for a queue that no actor is on: a worker for it would wait for ever.

    ``SettingsError`` when there are settings of such a one.
    """
    from actors import broker

    broker.queue_names.check(broker)
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
