"""A ledger with a bit of everything, made by real workers that run the shop's actors, some of which fail.

python -m tests.browser.seeding FOLDER      # leaves FOLDER/hareline.db
"""

import subprocess
import sys
from pathlib import Path

from control import Control, operations
from control.queues import pause
from control.saved_views import save
from ledger.migrate import Migrations
from ledger.operations import Deed
from ledger.search import Filter
from tests.acceptance.system import System, system

_SENDS = """
from tests.browser.shop import *
import random
random.seed(7)
for n in range({charges}):
    charge.send(f"c-{{n % 40}}", random.randrange(100, 9999), card={{"holder": "Ada", "password": "hunter2"}})
    send_receipt.send(f"ada{{n}}@example.com", n)
    if n % 4 == 0:
        resize.send(f"/photos/{{n}}.jpg", random.choice([320, 640, 1280, 4800]))
    if n % 12 == 0:
        monthly_report.send(f"2026-{{n % 12 + 1:02}}")
        refuse.send(f"order {{n}} has no address")
for n in range(5):
    order.start(order=n)
for n in range(6):
    charge.send_with_options(args=(f"later-{{n}}", 100 + n), delay=3_600_000 * (n + 1))
"""
_AFTER = """
from tests.browser.shop import *
long_export.send("customers", 120_000, {seconds})
from control import Control
from control.schedules import put
from ledger.schedules import Schedule
nightly = Schedule("nightly-report", "monthly_report", "0 3 * * 1-5", tz="Europe/Paris", args=("2026-11",))
hourly = Schedule("tidy", "tidy_up", "every 1h")
put(Control(settings.database_url, "embedded"), [nightly, hourly], judge=broker, by="cli:ada")
for n in range(14):
    send_receipt.send(f"waiting{{n}}@example.com", n)
"""


def seed(built: System, *, charges: int = 120, seconds: float = 600.0) -> None:
    """Run what is sent to its end; then leave a job that runs, some that wait on a paused queue, and the worker."""
    built.worker(app="tests.browser.shop")
    send(built, _SENDS.format(charges=charges))
    built.until(lambda: _settled(built), 120.0, because="the seeded jobs end")
    control = Control(built.database_url, "rabbitmq" if built.broker_url else "embedded")
    pause(control, "mail", by="cli:ada")
    save(control, "Unpaid", "state=failed&queue=billing", by="local")
    begun = operations.start(control, built.queries, Deed.RETRY, Filter(queues=("media",)), by="cli:ada")
    operations.run(control, begun.id)
    built.until(lambda: _settled(built), 60.0, because="what was retried ends")
    control.close()
    send(built, _AFTER.format(seconds=seconds))


def send(built: System, code: str) -> None:
    """Run code of a producer, which imports the shop."""
    done = subprocess.run(
        [sys.executable, "-c", code], env=built.env, cwd=built.folder, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def _settled(built: System) -> bool:
    states = built.states()
    return not states.get("waiting") and not states.get("active") and states.get("delayed", 0) <= 6


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    url = f"sqlite:///{folder / 'hareline.db'}"
    Migrations(url).upgrade()
    with system(folder, url, None) as built:
        seed(built)
        input("seeded; Enter ends the worker\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
