"""What is written beside the jobs: words, groups of failures, tallies by the minute."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import bindparam, insert, select, text, update

from control import Control
from control.failures import acknowledge, snooze
from control.jobs import remove, retry
from errors import JobNotFound
from ledger import failures as failing
from ledger import tally, tallying
from ledger.bookkeeping import Bookkeeping
from ledger.engine import Database
from ledger.failures import fingerprint
from ledger.finder import id_at
from ledger.ledger import Session
from ledger.queries import Queries
from ledger.records import Buried, Keep, NewJob
from ledger.scope import Scope
from ledger.search import parse
from ledger.states import Outcome, Reason
from ledger.tables import attempts, expiries, failure_groups, failures, history, search_texts, tallies, workers
from ledger.tables.columns import Instant
from ledger.text import FIRST_ID
from tests.ledgers import claim, finish, join, new_job, run

NOTHING_STAYS = Keep(completed=0, completed_s=0, failed=0, failed_s=0)

TRACEBACK = """Traceback (most recent call last):
  File "/srv/shop/middleware/../site-packages/dramatiq/actor.py", line 186, in __call__
    return self.fn(*args, **kwargs)
  File "/srv/shop/actors/billing.py", line {line}, in charge
    client.pay(1)
  File "/usr/lib/python3.11/http/client.py", line 10, in pay
    raise ValueError
"""


@pytest.fixture
def books(database_url: str) -> Iterator[Bookkeeping]:
    books = Bookkeeping(database_url)
    yield books
    books.close()


MINUTE_AGO = id_at(datetime.now(UTC) - timedelta(minutes=1))


def earlier(job: int = 0, **message: object) -> NewJob:
    """A job whose id is a minute old: those of this second are left until they are settled."""
    id = f"{MINUTE_AGO[:24]}{job:012x}"
    body = {"args": [], "kwargs": {}, "actor_name": "post", **message}
    return new_job(id=id, body=json.dumps(body).encode())


def found(queries: Queries, query: str) -> list[str]:
    return [job.id for job in queries.search(parse(query)).jobs]


# -- words


def test_a_job_is_found_by_words_and_by_its_arguments(session: Session, queries: Queries, books: Bookkeeping) -> None:
    one = earlier(1, kwargs={"customer": {"id": 42}, "to": "Ann Arbor", "password": "hunter2"})
    two = earlier(2, args=["invoice-7", True], options={"tags": ["night"]})
    session.enqueue([one, two])
    assert books.index() == 2
    assert books.index() == 0
    assert found(queries, "ann") == [one.id]
    assert found(queries, "ARB") == [one.id]
    assert found(queries, "ann missing") == []
    assert found(queries, "args.customer.id:42") == [one.id]
    assert found(queries, "args.customer.id:4") == []
    assert found(queries, "args.0:invoice-7 args.1:true") == [two.id]
    assert found(queries, "tag:night") == [two.id]
    assert found(queries, "post") == [two.id, one.id]
    assert found(queries, "post state:completed") == []
    assert found(queries, "hunter2") == []
    assert found(queries, "arb' | 'x") == []
    assert found(queries, '"!!"') == []
    assert queries.search(parse("ann")).since is not None
    assert found(queries, "ann since:10s until:5s") == []


def test_a_job_is_found_by_what_no_encoding_has(session: Session, queries: Queries, books: Bookkeeping) -> None:
    odd = earlier(1, args=["caf\udce9.txt"], kwargs={"\ud800": 7, "n\x00": 1})  # as os.listdir gives names
    session.enqueue([odd, earlier(2)])
    assert books.index() == 2
    assert found(queries, "caf") == [odd.id]
    assert queries.search(parse("caf")).jobs[0].args.encode()


def test_what_was_committed_out_of_order_is_found_by_looking_back(
    session: Session, queries: Queries, books: Bookkeeping
) -> None:
    session.enqueue([earlier(9)])
    books.index()
    late = earlier(1, args=["latecomer"])
    session.enqueue([late])
    assert books.index() == 0
    assert books.look_back() == 1
    assert found(queries, "latecomer") == [late.id]
    assert books.look_back() == 0


def test_words_go_with_their_job(session: Session, books: Bookkeeping, control: Control, database: Database) -> None:
    worker = join(session)
    jobs = [earlier(n) for n in range(2)]
    for job in jobs:
        run(session, worker, job, Outcome.FAILED)
    books.index()
    books.group()
    remove(control, jobs[0].id, by="ann")
    session.retain({}, NOTHING_STAYS, history_s=0)
    with database.read() as connection:
        assert connection.execute(select(search_texts.c.job_id)).all() == []
        assert connection.execute(select(failures.c.job_id)).all() == []


# -- groups of failures


def test_failures_of_one_trouble_are_one_group(session: Session, queries: Queries, books: Bookkeeping) -> None:
    worker = join(session)
    for n, id in enumerate(("4bf92f35-77b3-4da6-a3ce-929d0e0e4736", "00f067aa-0ba9-42b7-8f3c-2f1d5b6a7c8d")):
        run(
            session,
            worker,
            new_job(),
            Outcome.FAILED,
            error_type="shop.Refused",
            error_message=f"customer {n} has no card 'x{n}' ({id})",
            traceback=TRACEBACK.format(line=n),
        )
    run(session, worker, new_job(queue="other"), Outcome.FAILED, error_type="shop.Refused", error_message="else")
    assert books.group() == 3
    assert books.group() == 0
    group, other = queries.failures()
    assert (group.error_type, group.frame) == ("shop.Refused", "shop/actors/billing.py in charge")
    assert group.message == "customer <n> has no card <text> (<id>)"
    assert (group.count, group.queues, group.actors, sum(group.trend)) == (2, ["letters"], ["post"], 2)
    assert queries.job(group.sample) is not None
    assert group.until - group.since == timedelta(days=1)
    assert [x.count for x in queries.within(Scope(("oth*",))).failures()] == [1]
    assert [x.count for x in queries.failures(queue="letters")] == [2]
    assert found(queries, f"fingerprint:{other.fingerprint}") == [other.sample]
    assert len(found(queries, "error:refused queue:letters")) == 2
    assert queries.search(parse(f"id:{other.sample}")).jobs[0].error == "shop.Refused: else"
    assert [x.count for x in queries.overview().failures] == [2, 1]
    assert str(queries.overview().dead) == "3"


def test_whatever_makes_a_dead_letter_it_gets_into_a_group(
    session: Session, queries: Queries, books: Bookkeeping
) -> None:
    worker = join(session)
    session.bury([Buried(new_job().id, "m", "letters", "post", b"{", Reason.MALFORMED, "it ends at 1")])
    run(session, worker, new_job(), Outcome.FAILED)
    archived = new_job()
    run(session, worker, archived, Outcome.FAILED, error_type="builtins.KeyError")
    session.retain({}, NOTHING_STAYS, history_s=3600)
    books.group()
    assert {group.error_type for group in queries.failures()} == {"malformed", "retries_exhausted", "builtins.KeyError"}


def test_the_sweep_finds_what_was_there_before_there_were_groups(
    session: Session, queries: Queries, database: Database, database_url: str
) -> None:
    worker = join(session)
    for _ in range(3):
        run(session, worker, new_job(), Outcome.FAILED)
    session.retain({}, NOTHING_STAYS, history_s=1e9)
    month = datetime.now(UTC) - timedelta(days=20)
    with database.write() as connection:
        connection.execute(update(history).values(finished_at=month))
    books = Bookkeeping(database_url)
    assert books.group() == 0  # of the last day
    books.close()
    assert [group.count for group in queries.failures(since=month - timedelta(days=1))] == [3]


def test_one_that_is_retried_leaves_its_group_and_comes_back_with_its_next_error(
    session: Session, queries: Queries, books: Bookkeeping, control: Control
) -> None:
    worker = join(session)
    job = new_job()
    run(session, worker, job, Outcome.FAILED, error_type="builtins.KeyError")
    books.group()
    retry(control, job.id, by="ann")
    assert queries.failures() == []
    ticket = queries.job(job.id).ticket  # type: ignore[union-attr]
    finish(session, worker, claim(session, worker, job, ticket=ticket), Outcome.FAILED, error_type="builtins.OSError")
    books.group()
    assert [group.error_type for group in queries.failures()] == ["builtins.OSError"]


def test_a_group_in_which_nothing_is_left_is_forgotten_when_it_is_old(
    session: Session, books: Bookkeeping, control: Control, database: Database, database_url: str
) -> None:
    worker = join(session)
    gone, left, young = new_job(), new_job(), new_job()
    for job, error in ((gone, "KeyError"), (left, "OSError"), (young, "ValueError")):
        run(session, worker, job, Outcome.FAILED, error_type=f"builtins.{error}")
    books.group()
    for job in (gone, young):
        retry(control, job.id, by="ann")
    old = failure_groups.c.error_type != "builtins.ValueError"
    with database.write() as connection:
        connection.execute(update(failure_groups).where(old).values(first_at=datetime.now(UTC) - timedelta(days=100)))
    after_the_sweep = Bookkeeping(database_url)
    after_the_sweep.group()
    after_the_sweep.close()
    with database.read() as connection:
        kept = sorted(connection.scalars(select(failure_groups.c.error_type)))
    assert kept == ["builtins.OSError", "builtins.ValueError"]


def test_what_is_acknowledged_is_open_again_when_it_fails_anew(
    session: Session, queries: Queries, books: Bookkeeping, control: Control
) -> None:
    worker = join(session)

    def fail() -> None:
        run(session, worker, new_job(), Outcome.FAILED, error_type="builtins.KeyError")
        books.group()

    fail()
    [group] = queries.failures()
    acknowledge(control, group.fingerprint, by="cli:ann")
    assert [(x.state, x.acknowledged_by) for x in queries.failures()] == [("acknowledged", "cli:ann")]
    assert queries.failures(state="open") == []
    fail()
    assert [x.count for x in queries.failures(state="open")] == [2]
    snooze(control, group.fingerprint, 60, by="ann")
    fail()
    assert [x.state for x in queries.failures()] == ["snoozed"]
    snooze(control, group.fingerprint, 0, by="ann")
    assert [x.state for x in queries.failures()] == ["open"]
    with pytest.raises(JobNotFound):
        acknowledge(control, "nonsense", by="ann")


def test_the_frame_is_the_innermost_of_the_project() -> None:
    assert fingerprint("E", "m", TRACEBACK.format(line=3), "r").frame == "shop/actors/billing.py in charge"
    assert fingerprint("E", "m", None, "r").frame == ""
    assert fingerprint(None, None, None, "poison").error_type == "poison"
    assert fingerprint("E", "hareline-sealed:k1:QUJD", None, "r").message == "<encrypted: key k<n>>"
    same = {fingerprint("E", f"{n} of 0x{n:08x}", TRACEBACK.format(line=n), "r").id for n in range(5)}
    assert len(same) == 1


# -- tallies


@pytest.fixture
def _short_past(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tallying, "FIRST", timedelta(hours=1))


@pytest.mark.usefixtures("_short_past")
def test_attempts_are_counted_by_the_minute_and_once(session: Session, queries: Queries, books: Bookkeeping) -> None:
    worker = join(session)
    for _ in range(3):
        run(session, worker, new_job())
    run(session, worker, new_job(queue="other", actor="charge"), Outcome.FAILED)
    run(session, worker, new_job(), Outcome.RETRYING, delay_ms=60_000)
    while not books.tally():  # the past is made up for in steps
        pass
    books.tally()
    series = queries.series()
    assert sum(x.completed for x in series.points) == 3
    assert sum(x.failed for x in series.points) == 1
    assert sum(x.retried for x in series.points) == 1
    [post, charge] = queries.performance()
    assert (post.name, post.completed, post.retried, post.success_rate) == ("post", 3, 1, 1.0)
    assert (charge.name, charge.failed, charge.success_rate) == ("charge", 1, 0.0)
    assert 0 < post.run.p95 < 60
    assert post.wait.count == 3
    assert [x.name for x in queries.within(Scope(("oth*",))).performance(by="queue")] == ["other"]
    assert sum(x.completed for x in queries.series(queue="other").points) == 0
    overview = queries.overview()
    assert overview.per_s == pytest.approx(4 / (15 * 60))
    assert {queue.name: (sum(queue.trend), len(queue.trend)) for queue in overview.queues} == {
        "letters": (3, 30),
        "other": (1, 30),
    }


@pytest.mark.usefixtures("_short_past")
def test_every_dead_letter_is_counted_as_failed_once_and_stays_so_when_it_is_retried(
    session: Session, queries: Queries, books: Bookkeeping, control: Control, database: Database
) -> None:
    poison, late = new_job(), new_job(queue="other", actor="charge", expires_ms=60_000)
    session.enqueue([poison, late])
    for life in range(1, 5):
        claim(session, join(session), poison, ticket=life)
        with database.write() as connection:
            connection.execute(update(workers).values(heartbeat_at=datetime(2020, 1, 1, tzinfo=UTC)))
        session.rescue(30)
    with database.write() as connection:
        connection.execute(update(expiries).values(at=datetime(2020, 1, 1, tzinfo=UTC)))
    assert session.expire(10) == [late.id]
    session.bury([Buried(new_job().id, "m", "letters", "", b"{", Reason.MALFORMED, "it ends at 1")])
    worker = join(session)
    run(session, worker, new_job(), Outcome.FAILED)
    run(session, worker, new_job())
    retry(control, late.id, by="ann")
    while not books.tally():  # the past is made up for in steps
        pass
    books.tally()
    points = queries.series().points
    assert [sum(getattr(x, it) for x in points) for it in ("completed", "failed", "crashed")] == [1, 4, 4]
    assert {x.name: (x.failed, x.run.count) for x in queries.performance()} == {"post": (2, 6), "charge": (1, 0)}
    assert {x.name: x.success_rate for x in queries.performance(by="queue")} == {"letters": 0.25, "other": 0.0}
    assert {x.name: x.failed_24h for x in queries.queue_stats()} == {"letters": 3, "other": 1}


def test_what_was_committed_late_is_counted_and_hours_are_sums_of_minutes(
    session: Session, queries: Queries, database: Database
) -> None:
    now = datetime(2026, 3, 1, 12, 30, 30, tzinfo=UTC)
    job = new_job()
    session.enqueue([job])

    def attempt(epoch: int, at: datetime) -> None:
        with database.write() as connection:
            connection.execute(
                insert(attempts).values(
                    job_id=job.id,
                    epoch=epoch,
                    outcome="completed",
                    worker_id=1,
                    started_at=at - timedelta(seconds=2),
                    finished_at=at,
                )
            )

    def count(at: datetime) -> None:
        with database.write() as connection:
            while not tallying.count(connection, at, current=True, keep_days=90):
                pass

    attempt(1, now - timedelta(minutes=90))
    attempt(2, now)
    count(now)
    attempt(3, now - timedelta(seconds=40))  # committed after its minute was counted
    count(now + timedelta(minutes=1))
    count(now + timedelta(minutes=1))
    with database.read() as connection:
        rows = connection.execute(
            select(tallies.c.step_s, tallies.c.at, tallies.c.count).order_by(tallies.c.step_s, tallies.c.at)
        ).all()
    minute, hour = timedelta(minutes=1), timedelta(hours=1)
    on_the_minute, on_the_hour = tally.floor(now, 60), tally.floor(now, 3600)
    assert [tuple(row) for row in rows] == [
        (60, on_the_minute - 90 * minute, 1),
        (60, on_the_minute - minute, 1),
        (60, on_the_minute, 1),
        (600, tally.floor(now - 90 * minute, 600), 1),
        (600, tally.floor(now - minute, 600), 1),
        (600, tally.floor(now, 600), 1),
        (3600, on_the_hour - hour, 1),
        (3600, on_the_hour, 2),
    ]
    count(now + timedelta(days=3))
    with database.read() as connection:
        assert set(connection.scalars(select(tallies.c.step_s))) == {3600}  # the minutes had their time


def test_percentiles_are_read_from_counts() -> None:
    histogram = [0] * tally.PARTS
    histogram[4] = 90  # up to 20 ms
    histogram[9] = 10  # up to 1 s
    told = tally.percentiles(histogram)
    assert (told.count, told.max) == (100, 1.0)
    assert 0.01 < told.p50 < 0.02
    assert 0.5 < told.p95 < 1.0
    assert tally.percentiles([0] * tally.PARTS).count == 0


def test_groups_that_are_asked_for_in_parts_are_all_there_and_in_order(
    session: Session, queries: Queries, books: Bookkeeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = join(session)
    for job in range(15):
        kind = next(n for n in range(5) if job < (n + 1) * (n + 2) // 2)
        run(session, worker, earlier(job), Outcome.FAILED, reason=Reason.REFUSED, error_type=f"E{kind}")
    books.group()
    monkeypatch.setattr(failing, "_ASKED", 2)
    assert [(group.error_type, group.count) for group in queries.failures()] == [
        (f"E{n}", n + 1) for n in (4, 3, 2, 1, 0)
    ]
    assert [group.error_type for group in queries.failures(limit=3)] == ["E4", "E3", "E2"]
    assert queries.failures(state="acknowledged") == []


@pytest.mark.prove
def test_more_groups_than_a_statement_takes_parameters_are_shown_all_the_same(
    session: Session, queries: Queries, database_url: str
) -> None:
    """An incident in which every error says something else."""
    database = Database(database_url)
    digits = "printf('%012d', n)" if database.sqlite else "lpad(CAST(n AS text), 12, '0')"
    job = f"CAST('{FIRST_ID[:24]}' || {digits} AS {'text' if database.sqlite else 'uuid'})"
    numbers = "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 70000) SELECT"
    with database.write() as connection:
        now = bindparam("now", database.time(connection) - timedelta(hours=1), type_=Instant())
        rows = f"failures {numbers} {job}, {digits}, 'letters', 'post', :now FROM numbers"
        groups = f"failure_groups {numbers} {digits}, 'E', '', 'x', :now, NULL, NULL, NULL FROM numbers"
        for what in (rows, groups):
            connection.execute(text(f"INSERT INTO {what}").bindparams(now))
    database.close()
    assert len(queries.failures(limit=3)) == 3
