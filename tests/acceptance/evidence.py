"""What a system leaves behind: every job with the attempts made at it, and whether anything is left over."""

import json
import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rabbitmq.management import passive_counts
from tests.acceptance.system import System


@dataclass(frozen=True)
class Job:
    """A job, by the second argument of its actor: the line it writes."""

    id: str
    line: str
    state: str
    reason: str | None
    attempts: int  #: spent
    crashes: int
    charges: int
    outcomes: list[str]  #: of all its attempts, in order
    errors: list[str]
    workers: list[int]


def jobs(system: System) -> list[Job]:
    """All jobs of the hot table, in the order they were recorded."""
    tries: dict[str, list[tuple[Any, ...]]] = {}
    for row in system.sql(
        "SELECT job_id, outcome, error_type, error_message, worker_id FROM attempts ORDER BY job_id, epoch"
    ):
        tries.setdefault(str(row[0]), []).append(row)
    rows: Sequence[tuple[Any, ...]] = system.sql(
        "SELECT j.id, p.body, j.state, j.reason, j.attempts, j.crashes, j.charges"
        " FROM jobs AS j JOIN payloads AS p ON p.job_id = j.id ORDER BY j.id"
    )
    return [
        Job(
            str(id),
            str((json.loads(body)["args"] + ["", ""])[1]),
            state,
            reason,
            attempts,
            crashes,
            charges,
            [str(x[1]) for x in tries.get(str(id), [])],
            [f"{x[2]}: {x[3]}" for x in tries.get(str(id), []) if x[2]],
            [int(x[4]) for x in tries.get(str(id), [])],
        )
        for id, body, state, reason, attempts, crashes, charges in rows
    ]


def job(system: System, line: str) -> Job:
    """The only job with this line."""
    [found] = [x for x in jobs(system) if x.line == line]
    return found


def ran(system: System) -> Counter[str]:
    """How often each line was written."""
    return Counter(system.ran())


def nothing_left(system: System) -> None:
    """Nothing is live, claimed, ticketed or queued, and the workers still running sign off in good order."""
    system.until(lambda: _rest(system) == {}, 20, because="waiting for nothing to be left")
    running = [worker for worker in system.workers if worker.process.poll() is None]
    processes = sum(len(worker.children()) for worker in running)
    stopped = len(system.sql("SELECT 1 FROM workers WHERE state = 'stopped'"))
    for worker in running:
        worker.process.send_signal(signal.SIGTERM)
    system.until(
        lambda: len(system.sql("SELECT 1 FROM workers WHERE state = 'stopped'")) == stopped + processes,
        because=f"waiting for {processes} workers to sign off",
    )
    for worker in running:
        system.until(lambda worker=worker: not worker.children())  # type: ignore[misc]
        worker.kill()  # dramatiq's main process takes a second to see it
    assert _rest(system) == {}, "after all workers have stopped"


def _rest(system: System) -> dict[str, object]:
    found: dict[str, object] = {
        "live": system.sql("SELECT id, state FROM jobs WHERE state IN ('delayed', 'waiting', 'active')"),
        "claims": system.sql("SELECT worker_id, job_id FROM claims"),
        "tickets": system.sql("SELECT job_id FROM tickets"),
    }
    if system.broker_url:
        queues = passive_counts(system.broker_url, ["work", "other", "narrow"])
        found["messages"] = {name: count.messages for name, count in queues.items() if count.messages}
    return {name: rows for name, rows in found.items() if rows}
