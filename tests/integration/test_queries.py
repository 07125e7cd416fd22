"""What people ask of the ledger, on both databases."""

import time
from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest

from broker import build
from errors import JobNotFound, LedgerUnavailable
from ledger.ledger import Session
from ledger.queries import Queries
from ledger.records import Buried, Keep
from ledger.states import Outcome, Reason, State
from ledger.views import JournalRow
from settings import Settings
from tests.ledgers import claim, finish, join, new_job, run

NOTHING_STAYS = Keep(completed=0, completed_s=0, failed=0, failed_s=0)


def archive(session: Session) -> None:
    session.retain({}, NOTHING_STAYS, history_s=3600)


def test_a_job_is_found_by_its_id_by_the_beginning_of_it_and_by_its_message(session: Session, queries: Queries) -> None:
    job = new_job()
    session.enqueue([job])
    for ref in (job.id, job.id.upper(), job.id[:30], job.id.replace("-", "")[:20], job.message_id):
        found = queries.job(ref)
        assert found is not None
        assert found.id == job.id
    assert queries.job("0" * 8) is None
    assert queries.job("no such message") is None


def test_a_beginning_that_fits_several_ids_is_refused(session: Session, queries: Queries) -> None:
    same = [new_job(id=f"01890000-0000-7000-8000-00000000000{n}") for n in range(2)]
    session.enqueue(same)
    with pytest.raises(JobNotFound, match="several ids"):
        queries.job("01890000")


def test_a_message_sent_twice_names_its_newest_job(session: Session, queries: Queries) -> None:
    first, second = new_job(message_id="m"), new_job(message_id="m")
    session.enqueue([first])
    session.enqueue([second])
    found = queries.job("m")
    assert found is not None
    assert found.id == second.id


def test_a_job_is_shown_with_all_that_is_known(session: Session, queries: Queries) -> None:
    worker = join(session)
    job = new_job()
    session.enqueue([job])
    first = claim(session, worker, job)
    finish(session, worker, first, Outcome.RETRYING, error_type="ValueError", error_message="no stamp", traceback="…")
    assert [due.id for due in session.promote(10, resend_after_s=60)] == [job.id]
    second = claim(session, worker, job, ticket=2)
    session.progress([(job.id, 1, 4, "licking")])

    running = queries.job(job.id)
    assert running is not None
    assert (running.state, running.attempts_spent, running.ticket, running.epoch) == (State.ACTIVE, 1, 2, 2)
    assert running.message is not None
    assert running.message["args"] == [1]
    assert running.claim is not None
    assert running.claim.epoch == second.epoch
    assert f"worker {worker} (host:" in running.claim.worker
    assert running.progress is not None
    assert (running.progress.done, running.progress.total, running.progress.note) == (1, 4, "licking")
    [attempt] = running.attempts
    assert (attempt.number, attempt.outcome, attempt.error_message) == (1, Outcome.RETRYING, "no stamp")

    finish(session, worker, second, result=b'"sent"', result_ttl_ms=60_000)
    done = queries.job(job.id)
    assert done is not None
    assert done.claim is None
    assert done.result is not None
    assert done.result.size == 6
    assert done.result.read_at is None
    assert [line.event for line in done.timeline()] == [
        "enqueued", "claimed", "retrying", "promoted", "claimed", "completed",
    ]  # fmt: skip
    assert "ValueError: no stamp" in done.timeline()[2].text
    assert [line.at for line in done.timeline()] == sorted(line.at for line in done.timeline())


def test_a_timeline_says_in_words_whether_a_crash_counts_against_a_job(session: Session, queries: Queries) -> None:
    job = new_job()
    run(session, join(session), job, Outcome.FAILED, reason=Reason.REFUSED)
    found = queries.job(job.id)
    assert found is not None
    at = found.created_at
    lines = [JournalRow(at, "crashed", "worker 2", {"worker": 2, "charged": charged}) for charged in (False, True)]
    told = [line.text for line in replace(found, journal=lines).timeline() if line.event == "crashed"]
    assert told == ["worker 2, not counted against it", "worker 2, counted against it"]


def test_a_job_moved_to_history_is_shown_as_before(session: Session, queries: Queries) -> None:
    worker = join(session)
    job = new_job()
    run(session, worker, job, Outcome.FAILED, reason=Reason.REFUSED, error_type="E", error_message="no")
    before = queries.job(job.id)
    archive(session)
    after = queries.job(job.id)
    assert before is not None
    assert after is not None
    assert not before.archived
    assert after.archived
    assert (after.state, after.reason, after.body, after.attempts) == (
        before.state, before.reason, before.body, before.attempts,
    )  # fmt: skip
    assert after.timeline() == before.timeline()
    assert queries.job(job.message_id) == after


def test_a_body_that_is_no_message_is_shown_as_bytes(session: Session, queries: Queries) -> None:
    job = new_job(body=b"\xff\x00 what")
    session.enqueue([job])
    found = queries.job(job.id)
    assert found is not None
    assert found.message is None
    assert found.body == b"\xff\x00 what"


def test_a_list_is_newest_first_and_goes_on_page_by_page_into_history(session: Session, queries: Queries) -> None:
    worker = join(session)
    old = [new_job() for _ in range(3)]
    for job in old:
        run(session, worker, job)
    archive(session)
    young = [new_job() for _ in range(3)]
    session.enqueue(young)

    pages, before = [], None
    while page := queries.jobs(limit=2, before=before):
        pages.append([row.id for row in page])
        before = page[-1].id
    assert [len(page) for page in pages] == [2, 2, 2]
    assert [id for page in pages for id in page] == [job.id for job in reversed(old + young)]
    assert [row.id for row in queries.jobs(archived=False)] == [job.id for job in reversed(young)]


def test_a_list_is_filtered(session: Session, queries: Queries) -> None:
    wanted = new_job(queue="parcels", actor="pack", delay_ms=60_000)
    session.enqueue([wanted, new_job(queue="parcels"), new_job(actor="pack"), new_job(delay_ms=60_000)])
    assert [row.id for row in queries.jobs(queue="parcels", actor="pack", state=State.DELAYED)] == [wanted.id]
    assert queries.jobs(state=State.FAILED) == []


def test_queues_are_counted_by_state(session: Session, queries: Queries, database_url: str) -> None:
    worker = join(session)
    run(session, worker, new_job())
    session.enqueue([new_job(), new_job(), new_job(delay_ms=60_000), new_job(queue="parcels")])
    assert queries.counts() == {
        "letters": {State.COMPLETED: 1, State.WAITING: 2, State.DELAYED: 1},
        "parcels": {State.WAITING: 1},
    }
    letters, parcels = queries.queues()
    assert (letters.name, letters.paused, parcels.name) == ("letters", False, "parcels")
    assert letters.oldest_waiting_s is not None
    assert 0 <= letters.oldest_waiting_s < 60


def test_dead_letters_come_with_their_last_error(session: Session, queries: Queries) -> None:
    worker = join(session)
    failed = new_job()
    run(session, worker, failed, Outcome.FAILED, reason=Reason.REFUSED, error_type="E", error_message="no stamp")
    buried = new_job()
    session.bury([Buried(buried.id, "m", "letters", "?", b"{", Reason.MALFORMED, "not JSON")])
    run(session, worker, new_job())

    second, first = queries.dead()
    assert (first.id, first.reason, first.error_type, first.error_message) == (failed.id, "refused", "E", "no stamp")
    assert (second.id, second.reason, second.error_message) == (buried.id, "malformed", "not JSON")
    assert [row.id for row in queries.dead(reason=Reason.MALFORMED)] == [buried.id]
    assert session.dead_counts(["letters", "parcels"]) == {"letters": 2, "parcels": 0}
    archive(session)
    assert session.dead_counts(["letters"]) == {"letters": 0}
    assert [row.error_message for row in queries.dead()] == ["not JSON", "no stamp"]


def test_workers_at_work_are_listed_with_what_they_hold(session: Session, queries: Queries) -> None:
    gone, here = join(session), join(session, "letters", "parcels")
    session.leave(gone)
    job = new_job()
    session.enqueue([job])
    claim(session, here, job)
    [worker] = queries.workers()
    assert (worker.id, worker.state, worker.queues, worker.active) == (here, "running", ["letters", "parcels"], 1)
    assert worker.silent_s < 60
    assert [(worker.id, worker.state) for worker in queries.workers(everyone=True)] == [
        (gone, "stopped"),
        (here, "running"),
    ]


def test_a_result_is_missing_until_it_is_there_and_noted_as_read_once(session: Session, queries: Queries) -> None:
    worker = join(session)
    job = new_job()
    assert queries.result(job.message_id).status == "missing"
    session.enqueue([job])
    assert queries.result(job.message_id).status == "missing"
    finish(session, worker, claim(session, worker, job), result=b"42", result_ttl_ms=60_000)
    assert queries.result(job.message_id).body == b"42"
    first = queries.job(job.id)
    assert queries.result(job.message_id).body == b"42"
    second = queries.job(job.id)
    assert first is not None
    assert first.result is not None
    assert first.result.read_at is not None
    assert second is not None
    assert second.result == first.result


def test_an_expired_result_is_missing(session: Session, queries: Queries) -> None:
    job = new_job()
    run(session, join(session), job, result=b"42", result_ttl_ms=0)
    assert queries.result(job.message_id).status == "missing"


def test_the_result_of_a_failed_job_is_its_failure(session: Session, queries: Queries) -> None:
    job = new_job()
    fields = {"reason": Reason.REFUSED, "error_type": "ValueError", "error_message": "no stamp"}
    run(session, join(session), job, Outcome.FAILED, **fields)
    for _ in range(2):
        result = queries.result(job.message_id)
        assert (result.status, result.state, result.reason) == ("failure", State.FAILED, Reason.REFUSED)
        assert (result.error_type, result.error_message) == ("ValueError", "no stamp")
        archive(session)


def test_a_summary_tells_what_happened_since(session: Session, queries: Queries) -> None:
    worker = join(session)
    run(session, worker, new_job())
    since = queries.database_time()
    for _ in range(8):
        run(session, worker, new_job())
    run(session, worker, new_job(actor="pack"), Outcome.FAILED, reason=Reason.REFUSED)
    again = new_job()
    run(session, worker, again, Outcome.RETRYING)
    session.promote(1, resend_after_s=60)
    finish(session, worker, claim(session, worker, again, ticket=2))
    archive(session)
    session.enqueue([new_job()])

    summary = queries.summary(since)
    assert summary.states == {State.COMPLETED: 9, State.FAILED: 1, State.WAITING: 1}
    assert summary.reasons == {Reason.REFUSED: 1}
    assert summary.outcomes == {Outcome.COMPLETED: 9, Outcome.FAILED: 1, Outcome.RETRYING: 1}
    assert summary.actors["pack"] == {State.FAILED: 1}
    assert (summary.retried, summary.wait.count, summary.run.count) == (1, 10, 11)
    assert 0 <= summary.wait.p50 <= summary.wait.p99 <= summary.wait.max < 60
    assert summary.throughput > 0


def test_a_summary_of_nothing_is_empty(queries: Queries) -> None:
    summary = queries.summary(queries.database_time() - timedelta(days=1))
    assert (summary.states, summary.throughput, summary.run.count) == ({}, 0.0, 0)


def test_a_database_that_is_away_is_named_without_its_password() -> None:
    with pytest.raises(LedgerUnavailable, match=r"hareline:\*\*\*@127\.0\.0\.1:1/") as raised:
        Queries("postgresql://hareline:secret@127.0.0.1:1/ledger").counts()
    assert "secret" not in str(raised.value)


def test_a_closed_broker_leaves_no_connection_open_and_answers_questions_all_the_same(postgres_url: str) -> None:
    broker = build(Settings(database_url=postgres_url))

    def connections() -> int:
        others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        with psycopg.connect(postgres_url) as connection:
            return sum(count for (count,) in connection.execute(others))

    assert broker.queries.counts() == {}
    assert connections() == 1
    broker.close()
    deadline = time.monotonic() + 10
    while connections() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert connections() == 0
    assert broker.queries.counts() == {}
    broker.close()
