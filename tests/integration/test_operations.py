"""Bulk operations: each job once, whoever is killed when."""

import json
import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, event, update

from control import Control
from control import operations as verbs
from control.jobs import retry
from control.rows import Locked
from control.transaction import Transaction
from control.who import Who
from errors import BadQuery, CountChanged, OperationNotFound
from ledger.audit_queries import AuditQueries
from ledger.bookkeeping import Bookkeeping
from ledger.engine import Database
from ledger.ledger import Session
from ledger.operations import Deed
from ledger.queries import Queries
from ledger.records import Buried, Keep, NewJob
from ledger.scope import Scope
from ledger.search import Bounded, Filter, parse
from ledger.states import Outcome, Reason, State
from ledger.tables import operations
from tests.ledgers import claim, finish, join, new_job, run

pytestmark = pytest.mark.prove

HALF_STAYS = Keep(completed=0, completed_s=0, failed=10, failed_s=1e9)


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verbs, "BATCH", 7)


def dead(session: Session, count: int, **fields: str) -> list[NewJob]:
    """Dead letters, half of them in the history."""
    worker = join(session)
    jobs = [new_job(**fields) for _ in range(count)]
    for job in jobs:
        run(session, worker, job, Outcome.FAILED, error_type="builtins.ValueError", error_message="no 7")
    session.retain({}, HALF_STAYS, history_s=3600)
    return jobs


def states(queries: Queries, jobs: list[NewJob]) -> set[State]:
    return {job.state for ref in jobs if (job := queries.job(ref.id))}


def test_all_dead_letters_of_a_queue_go_round_again_and_no_others(
    session: Session, queries: Queries, control: Control
) -> None:
    jobs, others = dead(session, 20), dead(session, 5, queue="other")
    seen: list[float] = []
    begun = verbs.start(control, queries, "retry", parse("queue:letters"), expected_count=20, by="cli:ann")
    assert (begun.state, begun.expected, begun.progress) == ("running", Bounded(20), 0.0)
    ended = verbs.run(control, begun.id, told=lambda now: seen.append(now.progress))
    assert (ended.state, ended.done, ended.skipped, ended.failed) == ("done", 20, 0, 0)
    assert seen == sorted(seen)
    assert len(seen) == 3
    assert states(queries, jobs) == {State.WAITING}
    assert states(queries, others) == {State.FAILED}
    [row, *_] = [row for row in queries.job(jobs[0].id).journal if row.event == "retried"]  # type: ignore[union-attr]
    assert row.actor == "cli:ann"
    worker = join(session)
    for job in jobs:  # and each can run, by the ticket it has now
        ticket = queries.job(job.id).ticket  # type: ignore[union-attr]
        finish(session, worker, claim(session, worker, job, ticket=ticket))


def test_a_dry_run_counts_and_changes_nothing(session: Session, queries: Queries, control: Control) -> None:
    jobs = dead(session, 3)
    tried = verbs.start(control, queries, Deed.DISCARD, Filter(), dry_run=True, by="ann")
    assert (tried.id, tried.state, tried.expected) == ("", "tried", Bounded(3))
    assert queries.operations() == []
    assert states(queries, jobs) == {State.FAILED}


def test_more_than_a_tenth_off_is_refused(session: Session, queries: Queries, control: Control) -> None:
    dead(session, 10)
    for expected in (8, 12, 0):
        with pytest.raises(CountChanged, match="10 fit now"):
            verbs.start(control, queries, "retry", Filter(), expected_count=expected, by="ann")
    assert queries.operations() == []
    assert verbs.start(control, queries, "retry", Filter(), expected_count=11, by="ann").id


def test_what_cannot_be_done_to_such_jobs_is_refused(queries: Queries, control: Control) -> None:
    with pytest.raises(BadQuery, match="run_now is for jobs that are delayed"):
        verbs.start(control, queries, "run_now", parse("state:failed"), by="ann")
    with pytest.raises(OperationNotFound):
        verbs.cancel(control, "nonsense", by="ann")
    with pytest.raises(OperationNotFound):
        verbs.run(control, "01890000-0000-7000-8000-000000000000")


def test_it_goes_on_where_it_was_and_a_job_that_failed_again_is_not_retried_twice(
    session: Session, queries: Queries, control: Control, database_url: str
) -> None:
    jobs = dead(session, 20)
    begun = verbs.start(control, queries, "retry", Filter(), by="ann")
    first = verbs.step(control, begun.id)
    assert first is not None
    assert (first.done, first.state) == (7, "running")
    # One of those sent round fails again, one that is to come is retried by somebody, and a new one dies.
    worker = join(session)
    again = jobs[0]
    ticket = queries.job(again.id).ticket  # type: ignore[union-attr]
    finish(session, worker, claim(session, worker, again, ticket=ticket), Outcome.FAILED)
    retry(control, jobs[15].id, by="bob")
    [late] = dead(session, 1, id="ffffffff-ffff-7fff-bfff-ffffffffffff")
    another = Control(database_url, "rabbitmq")  # whoever began it is gone: somebody else goes on
    assert verbs.go_on(another, for_s=60) == 2
    another.close()
    ended = queries.operation(begun.id)
    assert ended is not None
    assert (ended.state, ended.done, ended.progress) == ("done", 19, 1.0)
    assert states(queries, [again]) == {State.FAILED}
    assert states(queries, jobs[1:]) == {State.WAITING}
    assert states(queries, [late]) == {State.FAILED}
    for job in jobs[1:15]:
        told = queries.job(job.id)
        assert told is not None
        assert [row.event for row in told.journal].count("retried") == 1


def test_two_at_it_share_the_batches(session: Session, queries: Queries, control: Control, database_url: str) -> None:
    jobs = dead(session, 40)
    begun = verbs.start(control, queries, "discard", Filter(), by="ann")
    others = [Control(database_url, "rabbitmq") for _ in range(2)]
    threads = [threading.Thread(target=verbs.run, args=(other, begun.id)) for other in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for other in others:
        other.close()
    ended = queries.operation(begun.id)
    assert ended is not None
    assert (ended.state, ended.done, ended.skipped) == ("done", 40, 0)
    assert states(queries, jobs) == set()


def test_cancelled_it_begins_no_further_batch(session: Session, queries: Queries, control: Control) -> None:
    jobs = dead(session, 20)
    begun = verbs.start(control, queries, "retry", Filter(), by="ann")
    verbs.step(control, begun.id)
    ended = verbs.cancel(control, begun.id, by="bob")
    assert (ended.state, ended.done, ended.cancelled_by) == ("cancelled", 7, "bob")
    assert verbs.step(control, begun.id) is None
    assert verbs.cancel(control, begun.id, by="eve").cancelled_by == "bob"
    assert states(queries, jobs) == {State.WAITING, State.FAILED}


def test_jobs_that_are_named_are_the_only_ones(session: Session, queries: Queries, control: Control) -> None:
    jobs = dead(session, 20)
    named = tuple(job.message_id for job in jobs[:9])
    begun = verbs.start(control, queries, "retry", Filter(ids=named), by="ann")
    ended = verbs.run(control, begun.id)
    assert (ended.done, ended.skipped) == (9, 0)
    assert states(queries, jobs[:9]) == {State.WAITING}
    assert states(queries, jobs[9:]) == {State.FAILED}


def test_every_verb_does_what_it_does_to_one(session: Session, queries: Queries, control: Control) -> None:
    worker = join(session)
    waiting, delayed, done, active = new_job(), new_job(delay_ms=60_000), new_job(), new_job()
    session.enqueue([waiting, delayed, active])
    run(session, worker, done)
    claim(session, worker, active)

    def everything(deed: str, query: str = "") -> int:
        return verbs.run(control, verbs.start(control, queries, deed, parse(query), by="ann").id).done

    assert everything("run_now") == 1
    assert states(queries, [delayed]) == {State.WAITING}
    assert everything("cancel", "state:waiting,active") == 3
    assert states(queries, [delayed, waiting]) == {State.CANCELLED}
    assert queries.job(active.id).cancel_requested  # type: ignore[union-attr]
    assert everything("remove") == 3
    assert states(queries, [delayed, waiting, done]) == set()


def test_a_step_of_a_flow_that_ended_is_left_with_its_trouble(
    session: Session, queries: Queries, control: Control
) -> None:
    body = json.dumps({"args": [], "kwargs": {}, "options": {"flow_step": {"id": "f-1"}}}).encode()
    worker = join(session)
    jobs = [new_job(), new_job(body=body)]
    for job in jobs:
        run(session, worker, job, Outcome.FAILED)
    ended = verbs.run(control, verbs.start(control, queries, "retry", Filter(), by="ann").id)
    assert (ended.done, ended.failed) == (1, 1)
    [trouble] = ended.troubles
    assert trouble.job == jobs[1].id
    assert "retry that instead" in trouble.why


def test_whatever_a_message_says_it_is_no_reason_to_stop(session: Session, queries: Queries, control: Control) -> None:
    """The name of the option that makes a message a flow's step, as an argument, and in what is no message."""
    worker = join(session)
    said = new_job(body=json.dumps({"args": ["flow_step"], "kwargs": {}}).encode())
    run(session, worker, said, Outcome.FAILED)
    bodies = (b'{"flow_step"', b'["flow_step"]', b'{"options": {"flow_step": 7}}', b'"flow_step"\xff')
    buried = [
        Buried(new_job().id, f"m-{number}", "letters", "post", body, Reason.MALFORMED, "it cannot be read")
        for number, body in enumerate(bodies)
    ]
    session.bury(buried)
    ended = verbs.run(control, verbs.start(control, queries, "retry", Filter(), by="ann").id)
    assert (ended.state, ended.done, ended.failed) == ("done", 5, 0)


def test_one_that_cannot_go_on_says_why_and_keeps_no_other_waiting(
    session: Session,
    queries: Queries,
    control: Control,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    real = verbs._do

    def breaks(tx: Transaction, deed: Deed, jobs: list[Locked]) -> dict[str, str]:
        if deed is Deed.DISCARD:
            raise KeyError("options")
        return real(tx, deed, jobs)

    monkeypatch.setattr(verbs, "_do", breaks)
    jobs, others = dead(session, 5), dead(session, 20, queue="other")
    bad = verbs.start(control, queries, "discard", parse("queue:letters"), by="ann")
    good = verbs.start(control, queries, "retry", parse("queue:other"), by="ann")
    assert verbs.go_on(control, for_s=60) == 4
    ended, done = queries.operation(bad.id), queries.operation(good.id)
    assert ended is not None
    assert done is not None
    assert (ended.state, ended.cancelled_by, ended.done) == ("cancelled", "an error: KeyError: 'options'", 0)
    assert ended.finished_at is not None
    assert (done.state, done.done) == ("done", 20)
    assert (states(queries, jobs), states(queries, others)) == ({State.FAILED}, {State.WAITING})
    assert "a bulk operation broke off" in caplog.text


def test_in_the_trail_its_deeds_are_of_who_began_it(
    session: Session, queries: Queries, control: Control, trail: AuditQueries
) -> None:
    ada = Who("ada", "api", "operator", token="t1", address="10.0.0.7", request="r1", queues=("letters",))
    dead(session, 9)
    begun = verbs.start(control, queries, "retry", Filter(), by=ada)
    assert verbs.go_on(control, for_s=60) == 2
    assert queries.within(Scope(ada.queues)).operation(begun.id) is not None
    mine = [entry for entry in trail.done_by("ada", "t1").entries() if entry.operation == "retry_job"]
    assert [entry.count for entry in mine] == [2, 7]
    assert {(x.via, x.role, x.address, x.request) for x in mine} == {("api", "operator", "10.0.0.7", "r1")}
    assert trail.verify().bad is None


def test_one_that_is_over_is_forgotten_with_the_history(
    session: Session, queries: Queries, control: Control, database: Database
) -> None:
    old, young, going = (verbs.start(control, queries, "retry", parse(f"queue:q{n}"), by="ann") for n in range(3))
    for over in (old, young):
        verbs.run(control, over.id)
    long_ago = datetime.now(UTC) - timedelta(days=8)
    with database.write() as connection:
        connection.execute(update(operations).values(created_at=long_ago))
        connection.execute(update(operations).where(operations.c.id == old.id).values(finished_at=long_ago))
    session.retain({}, Keep(), history_s=10 * 86_400)
    assert len(queries.operations()) == 3
    session.retain({}, Keep(), history_s=0)
    assert [left.id for left in queries.operations()] == [going.id, young.id]


def test_who_is_confined_reads_them_page_by_page(queries: Queries, control: Control) -> None:
    def begin(queue: str) -> str:
        return verbs.start(control, queries, "retry", Filter(queues=(queue,), scopes=(queue,)), by="ann").id

    ours = [begin("letters")]
    for _ in range(5):
        begin("other")
    ours += [begin("letters"), begin("letters")]
    asked: list[str] = []

    def listen(connection: object, cursor: object, statement: str, *_: object) -> None:
        if "FROM operations" in statement:
            asked.append(statement)

    mine = queries.within(Scope(("letters",)))
    event.listen(Engine, "before_cursor_execute", listen)
    try:
        assert [row.id for row in mine.operations(limit=2)] == ours[:0:-1]
        assert len(asked) == 1
        assert [row.id for row in mine.operations(limit=2, before=ours[1])] == ours[:1]
        assert [row.id for row in mine.operations(limit=2, open_only=True)] == ours[:0:-1]
    finally:
        event.remove(Engine, "before_cursor_execute", listen)
    assert all("LIMIT" in statement for statement in asked)


def test_a_group_of_failures_is_retried(
    session: Session, queries: Queries, control: Control, database_url: str
) -> None:
    jobs = dead(session, 9)
    worker = join(session)
    other = new_job()
    run(session, worker, other, Outcome.FAILED, error_type="builtins.KeyError")
    books = Bookkeeping(database_url)
    books.group()
    books.close()
    [group, _] = queries.failures()
    assert group.count == 9
    begun = verbs.start(control, queries, "retry", Filter(fingerprint=group.fingerprint), expected_count=9, by="ann")
    assert verbs.run(control, begun.id).done == 9
    assert states(queries, jobs) == {State.WAITING}
    assert states(queries, [other]) == {State.FAILED}
    assert [left.count for left in queries.failures()] == [1]
