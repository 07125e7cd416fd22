"""What operators may do, on both databases and both roads."""

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import select, text

from control import Control, dead, jobs, queues
from control.rebuild import rebuild
from errors import IllegalTransition, JobNotFound
from ledger import Road, open_ledger
from ledger.engine import Database
from ledger.ledger import Session
from ledger.queries import Queries
from ledger.records import Claim, Keep, NewJob, Ticket, Verdict
from ledger.states import Outcome, Reason, State
from ledger.tables import attempts, checkpoints, journal, payloads, results, tickets
from ledger.tables import queues as queue_table
from ledger.views import JobView
from tests.ledgers import finish, join, new_job

BY = "someone"


class World:
    """One ledger, one worker, one operator, on one road."""

    def __init__(self, url: str, road: Road) -> None:
        self.url = url
        self.road = road
        self.session: Session = open_ledger(url, road=road).session("test")
        self.queries = Queries(url)
        self.control = Control(url, road)
        self.database = Database(url)
        self.worker = join(self.session)

    def start(self, job: NewJob) -> Claim | None:
        """The job in the worker's hands, the way of this road; None when nothing would start it."""
        if self.road == "embedded":
            taken = self.session.take(self.worker, {job.queue: 10})
            return next((claim for claim in taken if claim.id == job.id), None)
        ticket = self.view(job).ticket
        [claim] = self.session.claim(self.worker, [Ticket(job.id, ticket, job.queue)])
        return claim if claim.verdict is Verdict.RUN else None

    def run(self, job: NewJob, outcome: Outcome = Outcome.COMPLETED) -> None:
        self.session.enqueue([job])
        self.end(job, outcome)

    def end(self, job: NewJob, outcome: Outcome = Outcome.COMPLETED) -> None:
        claim = self.start(job)
        assert claim is not None
        finish(
            self.session, self.worker, claim, outcome, error_type="E", error_message="no", result=b"1", result_ttl_ms=9
        )

    def archive(self) -> None:
        self.session.retain({}, Keep(0, 0, 0, 0), history_s=3600)

    def view(self, job: NewJob) -> JobView:
        view = self.queries.job(job.id)
        assert view is not None
        return view

    def written(self, job: NewJob | None = None) -> list[tuple[str, str]]:
        """(event, who) of the operator's lines in the journal."""
        wanted = select(journal).where(journal.c.actor == BY).order_by(journal.c.id)
        if job is not None:
            wanted = wanted.where(journal.c.job_id == job.id)
        with self.database.read() as connection:
            return [(row.event, row.actor) for row in connection.execute(wanted)]

    def close(self) -> None:
        for part in (self.session, self.queries, self.control, self.database):
            part.close()


@pytest.fixture(params=["embedded", "rabbitmq"])
def world(request: pytest.FixtureRequest, database_url: str) -> Iterator[World]:
    world = World(database_url, request.param)
    yield world
    world.close()


@pytest.mark.parametrize("archived", [False, True])
def test_a_failed_job_is_retried_as_if_new(world: World, archived: bool) -> None:
    job = new_job()
    world.run(job, Outcome.FAILED)
    if archived:
        world.archive()
    before = world.view(job)
    assert before.archived is archived

    assert jobs.retry(world.control, job.id, by=BY) == job.id
    view = world.view(job)
    assert (view.state, view.attempts_spent, view.reason, view.finished_at) == (State.WAITING, 0, None, None)
    assert (view.archived, view.body, view.result) == (False, job.body, None)
    assert view.ticket > before.ticket
    assert (world.session.next_due_s() or 0.0) <= 0.0  # None: ready to be taken
    assert world.written(job) == [("retried", BY)]

    world.end(job)
    assert [attempt.outcome for attempt in world.view(job).attempts] == [Outcome.FAILED, Outcome.COMPLETED]


def test_a_failed_job_that_is_retried_goes_on_from_its_checkpoint(world: World) -> None:
    job = new_job()
    world.session.enqueue([job])
    claim = world.start(job)
    assert claim is not None
    assert world.session.checkpoint(claim.id, claim.epoch, b'{"rows":1}')
    finish(world.session, world.worker, claim, Outcome.FAILED)
    jobs.retry(world.control, job.id, by=BY)
    checkpoint = world.view(job).checkpoint
    assert checkpoint is not None
    assert (checkpoint.state, checkpoint.size, checkpoint.epoch) == ({"rows": 1}, 10, claim.epoch)


def test_a_retried_job_is_sent_by_the_relay_or_ready_to_be_taken(world: World) -> None:
    job = new_job()
    world.run(job, Outcome.FAILED)
    jobs.retry(world.control, job.id, by=BY)
    if world.road == "rabbitmq":
        assert [due.id for due in world.session.promote(10, resend_after_s=60)] == [job.id]
    assert world.start(job) is not None


def test_a_delayed_job_is_run_now_and_keeps_its_attempts(world: World) -> None:
    job = new_job()
    world.session.enqueue([job])
    claim = world.start(job)
    assert claim is not None
    finish(world.session, world.worker, claim, Outcome.RETRYING, delay_ms=3_600_000)
    jobs.retry(world.control, job.id, by=BY)
    view = world.view(job)
    assert (view.state, view.attempts_spent) == (State.WAITING, 1)
    assert world.start(job) is not None


def test_the_time_to_try_a_job_counts_from_its_retry(world: World) -> None:
    job = new_job(delay_ms=3_600_000, expires_ms=1)
    world.session.enqueue([job])
    jobs.cancel(world.control, job.id, by=BY)
    jobs.retry(world.control, job.id, by=BY)
    patience = threading.Event()
    for _ in range(1_000):
        if world.session.expire(10) == [job.id]:
            break
        patience.wait(0.005)
    assert world.view(job).reason is Reason.EXPIRED


def test_a_cancelled_waiting_job_never_starts(world: World) -> None:
    job = new_job()
    world.session.enqueue([job])
    assert jobs.cancel(world.control, job.id, by=BY) == "cancelled"
    assert world.view(job).state is State.CANCELLED
    assert world.start(job) is None
    assert world.session.promote(10, resend_after_s=60) == []
    assert world.session.next_due_s() is None
    assert world.written(job) == [("cancelled", BY)]


def test_a_cancelled_delayed_job_never_starts(world: World) -> None:
    job = new_job(delay_ms=60_000)
    world.session.enqueue([job])
    assert jobs.cancel(world.control, job.id, by=BY) == "cancelled"
    assert world.session.next_due_s() is None
    assert world.view(job).state is State.CANCELLED


def test_a_running_job_is_asked_to_stop_and_no_retry_brings_it_back(world: World) -> None:
    job = new_job()
    world.session.enqueue([job])
    claim = world.start(job)
    assert claim is not None
    for _ in range(2):
        assert jobs.cancel(world.control, job.id, by=BY) == "requested"
    beat = world.session.beat(world.worker, [(claim.id, claim.epoch)], lease_s=30)
    assert beat.cancel == {job.id}
    finish(world.session, world.worker, claim, Outcome.RETRYING)
    assert world.view(job).state is State.CANCELLED
    assert set(world.written(job)) == {("cancel_requested", BY)}

    jobs.retry(world.control, job.id, by=BY)
    assert not world.view(job).cancel_requested
    world.end(job)
    assert world.view(job).state is State.COMPLETED


@pytest.mark.parametrize(
    ("outcome", "verb", "remedy"),
    [
        (Outcome.COMPLETED, jobs.retry, "enqueue a new job"),
        (Outcome.COMPLETED, jobs.cancel, "finished"),
        (Outcome.FAILED, jobs.cancel, "finished"),
        (None, jobs.retry, "nothing to retry"),
        (None, jobs.remove, "cancel it first"),
        (Outcome.CANCELLED, dead.discard, "no dead letter"),
        (None, dead.retry, "no dead letter"),
    ],
)
def test_what_the_state_does_not_allow_is_refused_with_the_remedy(
    world: World, outcome: Outcome | None, verb: object, remedy: str
) -> None:
    job = new_job()
    if outcome is None:
        world.session.enqueue([job])
    else:
        world.run(job, outcome)
    before = world.view(job)
    with pytest.raises(IllegalTransition, match=f"{job.id} is {before.state}.*{remedy}"):
        verb(world.control, job.id, by=BY)  # type: ignore[operator]
    assert world.view(job) == before
    assert world.written() == []


@pytest.mark.parametrize("verb", [jobs.retry, jobs.cancel, jobs.remove, dead.retry, dead.discard])
def test_a_job_that_is_not_there_is_named(world: World, verb: object) -> None:
    with pytest.raises(JobNotFound, match="nonesuch"):
        verb(world.control, "nonesuch", by=BY)  # type: ignore[operator]


@pytest.mark.parametrize("archived", [False, True])
def test_a_removed_job_leaves_only_its_journal(world: World, archived: bool) -> None:
    job = new_job()
    world.session.enqueue([job])
    claim = world.start(job)
    assert claim is not None
    assert world.session.checkpoint(claim.id, claim.epoch, b"1")
    finish(world.session, world.worker, claim, result=b"1", result_ttl_ms=9)
    if archived:
        world.archive()
    assert jobs.remove(world.control, job.message_id, by=BY) == job.id
    assert world.queries.job(job.id) is None
    assert world.written(job) == [("removed", BY)]
    with world.database.read() as connection:
        for table in (payloads, attempts, checkpoints, results, tickets):
            assert connection.execute(select(table).where(table.c.job_id == job.id)).all() == []


def test_all_that_fit_are_retried_in_batches_across_history(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_BATCH", 2)
    old = [new_job() for _ in range(3)]
    for job in old:
        world.run(job, Outcome.FAILED)
    world.archive()
    young = [new_job() for _ in range(3)]
    other = new_job(actor="pack")
    for job in (*young, other):
        world.run(job, Outcome.FAILED)

    assert jobs.retry_many(world.control, actor="post", limit=5, by=BY) == [job.id for job in (*young, *old[:2])]
    assert jobs.retry_many(world.control, actor="post", by=BY) == [old[2].id]
    assert world.view(other).state is State.FAILED
    assert world.queries.counts() == {"letters": {State.WAITING: 6, State.FAILED: 1}}


def test_dead_letters_are_retried_or_discarded_by_name_queue_or_reason(world: World) -> None:
    letters = [new_job() for _ in range(3)]
    parcel = new_job(queue="parcels")
    for job in (*letters, parcel):
        world.run(job, Outcome.FAILED)
    assert dead.retry(world.control, letters[1].id, letters[0].id, by=BY) == [letters[0].id, letters[1].id]
    assert dead.discard(world.control, queue="parcels", by=BY) == [parcel.id]
    assert dead.discard(world.control, reason=Reason.POISON, by=BY) == []
    assert [row.id for row in world.queries.dead()] == [letters[2].id]
    assert world.written(parcel) == [("discarded", BY)]


def test_of_named_dead_letters_all_or_none_are_changed(world: World) -> None:
    failed, waiting = new_job(), new_job()
    world.run(failed, Outcome.FAILED)
    world.session.enqueue([waiting])
    with pytest.raises(IllegalTransition):
        dead.discard(world.control, failed.id, waiting.id, by=BY)
    assert world.view(failed).state is State.FAILED


def test_a_paused_queue_starts_nothing_new_and_goes_on_when_resumed(world: World) -> None:
    job, delayed = new_job(), new_job(delay_ms=1)
    queues.pause(world.control, "letters", by=BY)
    queues.pause(world.control, "letters", by=BY)
    world.session.enqueue([job, delayed])
    assert world.start(job) is None
    [view] = world.queries.queues()
    assert (view.name, view.paused, view.paused_by) == ("letters", True, BY)
    assert view.paused_at is not None
    assert world.view(job).state is State.WAITING

    queues.resume(world.control, "letters", by=BY)
    assert not world.queries.queues()[0].paused
    while world.view(delayed).state is State.DELAYED:
        world.session.promote(10, resend_after_s=60)
    assert world.start(job) is not None or world.view(job).state is State.ACTIVE
    assert world.start(delayed) is not None or world.view(delayed).state is State.ACTIVE
    assert [event for event, _ in world.written()] == ["paused", "resumed"]


def test_jobs_that_became_due_during_a_pause_run_after_it(world: World) -> None:
    job = new_job(delay_ms=1)
    world.session.enqueue([job])
    queues.pause(world.control, "letters", by=BY)
    while (world.session.next_due_s() or 1.0) <= 0:
        assert world.session.promote(10, resend_after_s=60) == []
    assert world.view(job).state is State.DELAYED
    queues.resume(world.control, "letters", by=BY)
    while world.view(job).state is State.DELAYED:
        world.session.promote(10, resend_after_s=60)
    assert world.start(job) is not None


def test_a_pause_waits_for_the_claims_under_way(postgres_url: str) -> None:
    control, database = Control(postgres_url, "rabbitmq"), Database(postgres_url)
    paused = threading.Thread(target=queues.pause, args=(control, "letters"), kwargs={"by": BY})
    with database.write() as claiming:
        claiming.execute(text("SELECT pg_advisory_xact_lock_shared(hashtextextended('hareline.queue.letters', 0))"))
        paused.start()
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        while not claiming.scalar(text(waiting)):
            assert paused.is_alive()
        assert claiming.execute(select(queue_table)).all() == []
    paused.join()
    with database.read() as connection:
        assert [row.paused for row in connection.execute(select(queue_table))] == [True]
    control.close()
    database.close()


def test_a_queue_may_be_paused_before_it_is_known(world: World) -> None:
    queues.pause(world.control, "parcels", by=BY)
    job = new_job(queue="parcels")
    world.session.enqueue([job])
    assert world.start(job) is None
    assert [view.paused for view in world.queries.queues()] == [True]


def test_all_jobs_of_a_queue_that_do_not_run_are_cancelled(world: World) -> None:
    running, waiting, delayed, other = new_job(), new_job(), new_job(delay_ms=60_000), new_job(queue="parcels")
    world.session.enqueue([running])
    assert world.start(running) is not None
    world.session.enqueue([waiting, delayed, other])
    assert jobs.cancel_waiting(world.url, "letters", by="flush") == 2
    states = [world.view(job).state for job in (running, waiting, delayed, other)]
    assert states == [State.ACTIVE, State.CANCELLED, State.CANCELLED, State.WAITING]


def test_a_rebuild_gives_every_waiting_job_a_new_message(world: World) -> None:
    lost, unsent, done = new_job(), new_job(), new_job()
    world.run(done)
    world.session.enqueue([lost, unsent])
    if world.road == "embedded":
        assert rebuild(world.control, world.session, by=BY) == 0  # no message can be lost
    else:
        world.session.mark([(lost.id, 1)])
        assert rebuild(world.control, world.session, queue="parcels", by=BY) == 0
        assert rebuild(world.control, world.session, by=BY) == 1
        assert [(due.id, due.ticket) for due in world.session.promote(10, resend_after_s=60)] == [(lost.id, 2)]
    assert world.written()[-1] == ("rebuilt", BY)


def test_verbs_from_many_threads_change_each_job_once(world: World) -> None:
    failed = [new_job() for _ in range(20)]
    for job in failed:
        world.run(job, Outcome.FAILED)
    changed: list[str] = []
    failures: list[BaseException] = []

    def retry_all() -> None:
        try:
            changed.extend(jobs.retry_many(world.control, by=BY))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=retry_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sorted(changed) == [job.id for job in failed]
