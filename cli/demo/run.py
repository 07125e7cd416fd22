"""``hareline demo``: decides on the database, then lets the show begin."""

import os
import signal
import sys
import tempfile
from pathlib import Path

from settings import VARIABLES, Settings


def run_demo(
    settings: Settings, *, events: int | None = None, workers: int | None = None, as_json: bool = False
) -> int:
    """Run the demo and print what happened; 0 when every figure is as it must be, else 1.

    Works on the configured database (migrated first; what it holds already is left alone and not counted), or
    on a temporary SQLite file when none is configured.  The jobs travel over RabbitMQ when BROKER_URL is set.
    It wants the queue ``usage-tracking`` for itself: a worker started by somebody else would deliver to
    its own PostHog.  Raises ``BadInput`` when there is one.

    For the main thread.

    Parameters:
      events: how many of the bundled events to send; all, if not given.
      workers: worker processes; as many as the settings say, if not given.
      as_json: print the totals as JSON, and nothing else.
    """
    # Told to end, it ends its workers first, as after a Ctrl-C.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    with tempfile.TemporaryDirectory(prefix="hareline-demo-") as name:
        directory = Path(name)
        configured = "database_url" in settings.origins
        database_url = settings.database_url if configured else f"sqlite:///{directory / 'hareline.db'}"
        # The actors' broker reads the settings when it is imported, here and in the workers.
        os.environ[VARIABLES["database_url"]] = database_url
        from cli.demo.drive import drive

        return drive(database_url, directory, events=events, workers=workers or settings.processes, as_json=as_json)
