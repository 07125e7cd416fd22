"""Finding jobs, on both databases, in the hot table and in the history."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert

from errors import BadCursor, QuestionTooSlow
from ledger import finder
from ledger.engine import Database
from ledger.ledger import Session
from ledger.queries import Queries
from ledger.records import Keep, NewJob
from ledger.scope import Scope
from ledger.search import Bounded, Filter, parse
from ledger.states import Outcome, Reason, State
from ledger.tables import failure_groups, failures
from tests.ledgers import claim, finish, join, new_job, run

NOTHING_STAYS = Keep(completed=0, completed_s=0, failed=0, failed_s=0)


def archive(session: Session) -> None:
    session.retain({}, NOTHING_STAYS, history_s=3600)


def found(queries: Queries, query: str | Filter = "", **more: Any) -> list[str]:
    wanted = parse(query) if isinstance(query, str) else query
    return [job.id for job in queries.search(wanted, **more).jobs]


def test_each_part_of_a_filter_restricts(session: Session, queries: Queries) -> None:
    worker, other = join(session), join(session)
    old = [new_job(), new_job(queue="billing.eu", actor="charge"), new_job(queue="billing.us", actor="charge")]
    for job in old:
        run(session, worker, job)
    archive(session)
    failed = new_job(actor="charge")
    run(session, other, failed, Outcome.FAILED, reason=Reason.REFUSED, error_type="builtins.ValueError")
    active, waiting, delayed = new_job(), new_job(actor="welcome"), new_job(delay_ms=60_000)
    session.enqueue([active, waiting, delayed])
    claim(session, other, active)
    everything = sorted((job.id for job in (*old, failed, active, waiting, delayed)), reverse=True)

    assert found(queries) == everything
    assert found(queries, "state:failed") == [failed.id]
    assert found(queries, "state:failed,completed actor:charge") == [failed.id, old[2].id, old[1].id]
    assert found(queries, "reason:refused") == [failed.id]
    assert found(queries, "reason:poison") == []
    assert found(queries, "queue:billing.*") == [old[2].id, old[1].id]
    assert found(queries, "queue:billing.us,letters actor:charge") == [failed.id, old[2].id]
    assert found(queries, parse("actor:charge").within(["billing.e*"])) == [old[1].id]
    assert found(queries, parse("queue:letters").within(["billing.*"])) == []
    assert found(queries, f"worker:{other}") == [active.id, failed.id]
    assert found(queries, f"worker:{worker} queue:billing.*") == [old[2].id, old[1].id]
    assert found(queries, f"id:{old[0].id},{waiting.message_id} state:completed") == [old[0].id]
    assert found(queries, "id:00000000") == []
    assert found(queries, "since:1h state:waiting,delayed") == [delayed.id, waiting.id]
    assert found(queries, "until:1h") == []
    assert found(queries, "queue:unknown.*") == []


def test_pages_are_whole_though_jobs_come_move_and_end_in_between(session: Session, queries: Queries) -> None:
    worker = join(session)
    jobs = [new_job() for _ in range(10)]
    for job in jobs[:5]:
        run(session, worker, job)
    archive(session)
    session.enqueue(jobs[5:])
    seen: list[str] = []
    after = None
    while True:
        page = queries.search(Filter(), limit=3, after=after)
        seen += [job.id for job in page.jobs]
        if (after := page.after) is None:
            break
        session.enqueue([new_job()])  # newer: on no later page
        if len(seen) == 3:
            finish(session, worker, claim(session, worker, jobs[5]))
            archive(session)
    assert seen == sorted((job.id for job in jobs), reverse=True)


def test_what_a_walk_that_ends_does_not_reach_is_counted_by_its_own_index_or_said_to_be_more(
    session: Session, queries: Queries, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = join(session)
    session.enqueue([new_job() for _ in range(12)])
    for _ in range(3):
        run(session, worker, new_job())
    run(session, worker, new_job(), Outcome.FAILED, reason=Reason.REFUSED)
    session.enqueue([active := new_job()])
    claim(session, worker, active)
    monkeypatch.setattr(finder, "_HOT_WALK", 10)
    counts = queries.count_states(Filter(queues=("letters",)))
    assert {state: counts[state] for state in (State.ACTIVE, State.COMPLETED, State.CANCELLED, State.FAILED)} == {
        State.ACTIVE: Bounded(1),
        State.COMPLETED: Bounded(3),
        State.CANCELLED: Bounded(0),
        State.FAILED: Bounded(1),
    }
    assert counts[State.WAITING].more
    assert counts[State.WAITING].count <= 12


def test_all_errors_that_fit_are_searched_however_many_groups_they_are_in(
    session: Session, queries: Queries, database_url: str
) -> None:
    worker = join(session)
    dead = new_job()
    run(session, worker, dead, Outcome.FAILED, reason=Reason.REFUSED)
    database = Database(database_url)
    with database.write() as connection:
        now = database.time(connection)
        groups = [
            {"fingerprint": f"{n:016}", "error_type": "Timeout", "frame": "", "message": f"of {n}", "first_at": now}
            for n in range(1_200)
        ]
        connection.execute(insert(failure_groups), groups)
        of_last = {"job_id": dead.id, "fingerprint": f"{1_199:016}", "queue": "letters", "actor": "post", "at": now}
        connection.execute(insert(failures), of_last)
    database.close()
    assert found(queries, "error:timeout") == [dead.id]


def test_counts_end_at_their_bound(session: Session, queries: Queries) -> None:
    worker = join(session)
    done: list[NewJob] = [new_job() for _ in range(4)]
    for job in done:
        run(session, worker, job)
    archive(session)
    run(session, worker, new_job(), Outcome.FAILED)
    session.enqueue([new_job() for _ in range(3)])
    assert queries.count(Filter()) == Bounded(8)
    assert queries.count(Filter(), most=5) == Bounded(5, more=True)
    assert queries.count(parse("state:completed"), most=4) == Bounded(4)
    counts = queries.count_states(Filter(), most=3)
    assert counts[State.COMPLETED] == Bounded(3, more=True)
    assert counts[State.WAITING] == Bounded(3)
    assert counts[State.FAILED] == Bounded(1)
    assert counts[State.ACTIVE] == Bounded(0)
    assert queries.count_states(parse("state:failed queue:letters")) == {State.FAILED: Bounded(1)}
    assert queries.count_states(parse(f"worker:{worker}"))[State.COMPLETED] == Bounded(4)


def test_a_row_has_its_arguments_without_secrets(session: Session, queries: Queries) -> None:
    body = json.dumps({"args": [1, "two"], "kwargs": {"password": "hunter2", "to": "ann"}}).encode()
    session.enqueue([new_job(body=body), new_job(body=b"\xff no message")])
    broken, job = queries.search(Filter()).jobs
    assert job.args == '1, "two", password="[redacted]", to="ann"'
    assert broken.args == ""


def test_what_takes_too_long_is_given_up_and_says_so(session: Session, queries: Queries, database_url: str) -> None:
    session.enqueue([new_job() for _ in range(500)])
    endless = (
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 1000000000) SELECT count(*) FROM t"
    )
    database = Database(database_url)
    with pytest.raises(QuestionTooSlow, match="narrow the question"), finder.asking(database, 0.2) as connection:
        connection.exec_driver_sql(endless)
    with finder.asking(database) as connection:  # and the next is answered
        assert finder.count(connection, Filter(), 10_000, datetime.now(UTC)) == Bounded(500)
    database.close()


def test_the_query_box_knows_what_there_is(session: Session, queries: Queries) -> None:
    worker = join(session)
    run(session, worker, new_job(queue="billing", actor="charge"))
    archive(session)
    session.enqueue([new_job(actor="welcome")])
    offered = queries.suggestions()
    assert (offered.queues, offered.actors, offered.workers) == (
        ["billing", "letters"],
        ["charge", "welcome"],
        [worker],
    )
    assert queries.within(Scope(("l*",))).suggestions().queues == ["letters"]
    assert queries.within(Scope(("l*",))).suggestions().actors == ["welcome"]


@pytest.mark.parametrize("place", ["0", "", "null", "{00000000-0000-7000-8000-000000000000}"])
@pytest.mark.parametrize("listing", ["jobs", "dead", "flows", "operations"])
def test_a_list_goes_on_behind_an_id_and_behind_nothing_else(queries: Queries, listing: str, place: str) -> None:
    with pytest.raises(BadCursor, match="no place in a list"):
        getattr(queries, listing)(before=place)


def test_an_overview_of_nothing_is_zeros(queries: Queries) -> None:
    told = queries.overview()
    assert (told.waiting, told.dead, told.oldest_waiting_s, told.failures) == (Bounded(0), Bounded(0), None, [])
    assert len(told.series.points) == 60


def test_an_overview_counts_what_is_there(session: Session, queries: Queries) -> None:
    worker = join(session)
    session.enqueue([new_job(), new_job(delay_ms=60_000), new_job(queue="other")])
    run(session, worker, new_job(), Outcome.RETRYING, delay_ms=60_000)
    active = new_job()
    session.enqueue([active])
    claim(session, worker, active)
    told = queries.overview()
    assert [str(x) for x in (told.waiting, told.running, told.delayed, told.retrying)] == ["2", "1", "1", "1"]
    assert told.oldest_waiting_s is not None
    assert told.health.workers == 1
    stands = {queue.name: [str(x) for x in (queue.waiting, queue.running, queue.delayed)] for queue in told.queues}
    assert stands == {"letters": ["1", "1", "2"], "other": ["1", "0", "0"]}
    assert str(queries.within(Scope(("oth*",))).overview().waiting) == "1"
    assert queries.series(since=datetime.now(UTC) - timedelta(days=3)).step_s % 3600 == 0
    assert queries.performance() == []
