"""Bulk operations: each job once, whoever is killed when."""

import json
import threading

import pytest

from control import Control
from control import operations as verbs
from control.jobs import retry
from errors import BadQuery, CountChanged, OperationNotFound
from ledger.bookkeeping import Bookkeeping
from ledger.ledger import Session
from ledger.operations import Deed
from ledger.queries import Queries
from ledger.records import Keep, NewJob
from ledger.search import Bounded, Filter, parse
from ledger.states import Outcome, State
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
