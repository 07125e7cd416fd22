"""What many schedules cost: how fast a scheduler leads with them, how late their ticks are, how much memory they take.

    python -m benchmarks.schedules [COUNT …]

On a private PostgreSQL, one scheduler per count, each schedule every minute at a second of its own (by its jitter); the
last count once more with no jitter, so that all fire at once.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import dramatiq
from sqlalchemy import text

from broker import build
from control import Control
from control.schedules import put
from ledger.engine import Database
from ledger.migrate import Migrations
from ledger.schedules import Schedule
from settings import Settings
from tests.program import Program, environment
from tests.servers import Postgres

SECONDS = 120  # a whole minute of them, wherever it begins


def main(counts: list[int]) -> None:
    server = Postgres()
    server.start()
    try:
        for count, jitter_s in [*((count, 60.0) for count in counts), (counts[-1], 0.0)]:
            print(json.dumps(measure(server, count, jitter_s)), flush=True)
    finally:
        server.remove()


def measure(server: Postgres, count: int, jitter_s: float) -> dict[str, object]:
    """One line of the answer."""
    url = server.create_database()
    Migrations(url).upgrade()
    broker = build(Settings(database_url=url))
    dramatiq.actor(broker=broker, actor_name="cleanup_audit_log", queue_name="maintenance")(_tidy)
    control = Control(url, "embedded")
    wanted = [
        Schedule(f"account-{n}", "cleanup_audit_log", "every 1m", args=(0,), jitter_s=jitter_s, missed="all")
        for n in range(count)
    ]
    began = time.monotonic()
    put(control, wanted, judge=broker, by="benchmark")
    put_s = time.monotonic() - began
    control.close()
    broker.close()
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "program.py"
        program.write_text("import sys\nfrom scheduler import main\nsys.exit(main([]))\n")
        env = environment(DATABASE_URL=url)
        with Program([sys.executable, str(program)], Path(folder), env) as scheduler:
            scheduler.wait("scheduler.ready")
            ready = time.monotonic()
            scheduler.wait("scheduler.leads")
            leads_s = time.monotonic() - ready
            time.sleep(SECONDS)
            status = Path(f"/proc/{scheduler.process.pid}/status").read_text()
            stat = Path(f"/proc/{scheduler.process.pid}/stat").read_text().rpartition(")")[2].split()
            scheduler.stop()
    rss = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    database = Database(url)
    with database.read() as connection:
        late = text(
            "SELECT count(*), percentile_cont(ARRAY[0.5, 0.99, 1]) WITHIN GROUP (ORDER BY late_ms) "
            "FROM ticks WHERE outcome = 'sent'"
        )
        ticks, percentiles = connection.execute(late).one()
    database.close()
    return {
        "schedules": count,
        "jitter_s": jitter_s,
        "put_s": round(put_s, 2),
        "leads_s": round(leads_s, 2),
        "rss_mb": round(rss / 1024),
        "cpu_s": round((int(stat[11]) + int(stat[12])) / 100, 1),
        "ticks": ticks,
        "late_ms_p50_p99_max": percentiles,
    }


def _tidy(days: int = 0) -> None:
    """Never run."""


if __name__ == "__main__":
    main([int(count) for count in sys.argv[1:]] or [1_000, 10_000])
