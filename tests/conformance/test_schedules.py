"""What is sent again and again is run."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from control import schedules
from ledger.schedule_queries import ScheduleQueries
from ledger.schedules import Schedule
from scheduler import Scheduler
from tests.conformance.system import System


@contextmanager
def scheduler(system: System) -> Iterator[ScheduleQueries]:
    """One that runs beside the worker; it can be asked for the ticks."""
    queries = ScheduleQueries(system.settings.database_url)
    one = Scheduler(system.broker, queries)
    thread = threading.Thread(target=one.run)
    thread.start()
    try:
        yield queries
    finally:
        one.stop()
        thread.join(30)
        queries.close()


def test_a_schedule_is_run_changed_and_skipped_while_its_last_job_runs(system: System) -> None:
    gate = system.gate()

    @system.actor()
    def beat(word: str) -> None:
        system.note(word)
        if word == "slow":
            gate.wait(30)

    system.work()
    wanted = Schedule("beat", "beat", "every 1s", args=("quick",))
    with scheduler(system) as queries:
        schedules.put(system.control, [wanted], judge=system.broker, by="test")
        system.noted("quick")
        schedules.put(system.control, [replace(wanted, args=("slow",), overlap="skip")], judge=system.broker, by="test")
        system.noted("slow")
        system.until(lambda: "skipped" in [tick.outcome for tick in queries.history("beat", 100)])
        assert system.notes.count("slow") == 1
        schedules.pause(system.control, "beat", by="test")
        gate.set()
        ticks = queries.history("beat", 100)
        sent = [tick for tick in ticks if tick.outcome == "sent"]
        assert system.finished(len(sent)) == {"completed": len(sent)}
    assert len(system.notes) == len(sent)
