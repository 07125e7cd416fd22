"""A bulk operation whose process is killed goes on behind its last batch: nothing twice, nothing left out."""

import signal
import subprocess
import sys

import pytest
from sqlalchemy import delete, func, select, update

from control import Control
from control import operations as verbs
from ledger import open_ledger
from ledger.engine import Database
from ledger.queries import Queries
from ledger.states import State
from ledger.tables import jobs, journal, tickets
from tests.ledgers import new_job
from tests.program import environment

MANY = 3 * verbs.BATCH - 10


@pytest.mark.parametrize("point", ["operation.before_commit", "operation.committed"])
def test_killed_in_the_middle_it_goes_on_with_the_next_job(database_url: str, point: str) -> None:
    session = open_ledger(database_url, road="embedded").session("test")
    made = [new_job() for _ in range(MANY)]
    session.enqueue(made)
    session.close()
    database, queries, control = Database(database_url), Queries(database_url), Control(database_url, "embedded")
    with database.write() as connection:
        ended = {"state": State.FAILED, "reason": "refused", "finished_at": database.time(connection)}
        connection.execute(update(jobs).values(**ended))
        connection.execute(delete(tickets))
    command = [sys.executable, "-m", "cli", "operations", "start", "retry", "state:failed", "--yes"]
    env = environment(DATABASE_URL=database_url, HARELINE_FAILPOINTS=f"{point}=kill@2")
    killed = subprocess.run(command, env=env, capture_output=True, timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    [left] = queries.operations()
    assert left.state == "running"
    assert left.done == verbs.BATCH * (1 if point == "operation.before_commit" else 2)

    ended_view = verbs.run(control, left.id)

    assert (ended_view.state, ended_view.done, ended_view.skipped, ended_view.failed) == ("done", MANY, 0, 0)
    with database.read() as connection:
        retried = (
            select(journal.c.job_id, func.count().label("times"))
            .where(journal.c.event == "retried")
            .group_by(journal.c.job_id)
        )
        times = {row.job_id: row.times for row in connection.execute(retried)}
        waiting = connection.scalar(select(func.count()).select_from(tickets))
        states = set(connection.scalars(select(jobs.c.state)))
    assert times == dict.fromkeys((job.id for job in made), 1)
    assert (waiting, states) == (MANY, {"waiting"})
    for opened in (database, queries, control):
        opened.close()
