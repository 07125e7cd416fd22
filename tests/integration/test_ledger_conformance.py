"""What every ledger promises, on SQLite and PostgreSQL alike."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from ledger import Road, open_ledger
from ledger.migrate import Migrations
from ledger.postgres import session as ledger_on_postgres
from ledger.records import Beat, Buried, Finish, Keep, Key, Mode, NewJob, Ticket, Verdict
from ledger.sqlite import session as ledger_on_sqlite
from ledger.states import Event, Outcome, Reason, State
from ledger.tables import (
    attempts,
    checkpoints,
    claims,
    expiries,
    groups,
    history,
    jobs,
    journal,
    payloads,
    progress,
    results,
    tickets,
    ticks,
    workers,
)
from tests.ledger_under_test import LedgerUnderTest, new_job
from tests.servers import Postgres

NONE_KEPT = Keep(completed=0, completed_s=0, failed=0, failed_s=0)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('conformance') / 'ledger.db'}"
    else:
        server: Postgres = request.getfixturevalue("postgres")
        url = server.create_database()
    Migrations(url).upgrade()
    return url


def _open(url: str, road: Road) -> Iterator[LedgerUnderTest]:
    ledger = LedgerUnderTest(url, road)
    yield ledger
    ledger.close()


@pytest.fixture
def ledger(url: str) -> Iterator[LedgerUnderTest]:
    """On the RabbitMQ road."""
    yield from _open(url, "rabbitmq")


@pytest.fixture
def embedded(url: str) -> Iterator[LedgerUnderTest]:
    yield from _open(url, "embedded")


@pytest.fixture(params=["rabbitmq", "embedded"])
def either(url: str, request: pytest.FixtureRequest) -> Iterator[LedgerUnderTest]:
    yield from _open(url, request.param)


# -- enqueue


def test_a_job_due_now_waits_with_a_ticket_the_relay_may_send_after_the_producers_grace(
    ledger: LedgerUnderTest,
) -> None:
    job = new_job()
    [answer] = ledger.session.enqueue([job])
    assert (answer.id, answer.state, answer.duplicate, answer.ticket) == (job.id, State.WAITING, False, 1)
    row, ticket = ledger.row(job), ledger.ticket(job)
    assert ticket
    assert (row["state"], row["ticket"], row["epoch"], row["attempts"]) == ("waiting", 1, 0, 0)
    assert not ticket["ready"]
    assert timedelta(seconds=4) < ticket["due_at"] - row["created_at"] < timedelta(seconds=6)
    assert ledger.events(job) == []


def test_on_the_embedded_road_a_job_due_now_is_ready_at_once(embedded: LedgerUnderTest) -> None:
    ticket = embedded.ticket(embedded.enqueue())
    assert ticket
    assert ticket["ready"]


def test_a_job_with_a_delay_is_delayed_until_its_time(either: LedgerUnderTest) -> None:
    job = new_job(delay_ms=60_000)
    [answer] = either.session.enqueue([job])
    row, ticket = either.row(job), either.ticket(job)
    assert ticket
    assert answer.state is State.DELAYED
    assert row["state"] == "delayed"
    assert row["run_at"] - row["created_at"] == timedelta(minutes=1)
    assert (ticket["due_at"], ticket["ready"]) == (row["run_at"], False)


def test_an_absolute_time_wins_over_a_delay(either: LedgerUnderTest) -> None:
    at = datetime(2101, 2, 3, 4, 5, 6, 789, tzinfo=UTC)
    job = either.enqueue(run_at=at, delay_ms=5)
    assert either.row(job)["run_at"] == at
    past = either.enqueue(run_at=datetime(2001, 1, 1, tzinfo=UTC))
    assert either.state(past) is State.WAITING


def test_recording_the_same_job_again_changes_nothing(either: LedgerUnderTest) -> None:
    job = either.enqueue()
    either.claim(job)
    before = either.row(job), either.ticket(job)
    [answer] = either.session.enqueue([job])
    assert answer.duplicate
    assert (either.row(job), either.ticket(job)) == before


def test_a_job_twice_in_one_call_is_recorded_once(either: LedgerUnderTest) -> None:
    job, other = new_job(), new_job()
    answers = either.session.enqueue([job, other, job])
    assert [answer.duplicate for answer in answers] == [False, False, True]
    assert len(either.rows(jobs)) == 2


def test_a_job_that_finished_long_ago_is_not_recorded_again(ledger: LedgerUnderTest) -> None:
    job = ledger.finished()
    ledger.session.retain({}, NONE_KEPT, history_s=3600)
    [answer] = ledger.session.enqueue([job])
    assert answer.duplicate
    assert ledger.rows(jobs) == []


def test_a_tick_is_recorded_once_whatever_the_jobs_id(either: LedgerUnderTest) -> None:
    tick = ("every-minute", datetime(2030, 1, 1, tzinfo=UTC))
    first, second, other = new_job(tick=tick), new_job(tick=tick), new_job(tick=("daily", tick[1]))
    answers = either.session.enqueue([first, second, other])
    assert [answer.duplicate for answer in answers] == [False, True, False]
    assert [answer.duplicate for answer in either.session.enqueue([new_job(tick=tick), new_job()])] == [True, False]
    assert len(either.rows(jobs)) == 3


def test_an_adopted_message_leaves_no_ticket_and_says_so_in_the_journal(ledger: LedgerUnderTest) -> None:
    job = ledger.enqueue(served=True, event=Event.ADOPTED)
    assert ledger.ticket(job) is None
    assert ledger.events(job) == ["adopted"]
    assert ledger.claim(job)[0].verdict is Verdict.RUN


def test_text_that_no_database_takes_is_cleaned_not_refused(either: LedgerUnderTest) -> None:
    job = either.enqueue(message_id='nul\x00 quote" back\\slash, brace} \ud800 é', producer="{a,b}", body=b"\x00\xff")
    [payload] = either.rows(payloads, job)
    assert payload["message_id"] == 'nul\N{REPLACEMENT CHARACTER} quote" back\\slash, brace} ? é'
    assert (payload["producer"], bytes(payload["body"])) == ("{a,b}", b"\x00\xff")


def test_nothing_to_do_is_done_without_complaint(either: LedgerUnderTest) -> None:
    session = either.session
    assert session.enqueue([]) == []
    assert session.claim(either.worker, []) == []
    assert session.take(either.worker, {"q": 0}) == []
    assert session.finish(either.worker, []) == []
    session.bury([])
    session.mark([])
    session.release(either.worker, [])
    session.progress([])


# -- bury


def test_a_message_that_can_never_run_is_kept_as_a_dead_letter(either: LedgerUnderTest) -> None:
    job = new_job(queue="odd", actor="?")
    letter = Buried(job.id, "m\x00", "odd", "?", b"\xff", Reason.MALFORMED, "not JSON:\x00 \ud800")
    either.session.bury([letter, letter])
    either.session.bury([letter])
    row = either.row(job)
    assert (row["state"], row["reason"], row["queue"]) == ("failed", "malformed", "odd")
    assert row["finished_at"] is not None
    assert either.events(job) == ["buried"]
    assert "not JSON" in either.rows(journal, job)[0]["detail"]


# -- mark


def test_a_confirmed_message_needs_no_relay(ledger: LedgerUnderTest) -> None:
    job = ledger.enqueue()
    ledger.session.mark([(job.id, 1)])
    assert ledger.ticket(job) is None
    assert ledger.state(job) is State.WAITING


def test_a_late_mark_does_not_touch_the_ticket_of_a_retry(ledger: LedgerUnderTest) -> None:
    job, epoch = ledger.active()
    ledger.finish(job, epoch, Outcome.RETRYING, delay_ms=10_000)
    ledger.session.mark([(job.id, 1), (job.id, 1)])
    ticket = ledger.ticket(job)
    assert ticket
    assert ticket["ticket"] == 2


# -- claim


def test_a_claim_answers_all_that_must_be_known(either: LedgerUnderTest) -> None:
    job = either.enqueue()
    [claim] = either.claim(job)
    assert (claim.id, claim.verdict, claim.epoch, claim.attempts, claim.crashes) == (job.id, Verdict.RUN, 1, 0, 0)
    assert (claim.ticket, claim.queue, claim.suspect) == (1, "q", False)
    row = either.row(job)
    assert (claim.created_at, claim.due_at) == (row["created_at"], row["run_at"])
    assert either.state(job) is State.ACTIVE
    [owned] = either.rows(claims, job)
    assert (owned["worker_id"], owned["epoch"], owned["ticket"]) == (either.worker, 1, 1)


def test_a_claim_whose_answer_was_lost_is_answered_again(ledger: LedgerUnderTest) -> None:
    job = ledger.enqueue()
    first = ledger.claim(job)
    assert ledger.claim(job) == first
    assert ledger.row(job)["epoch"] == 1
    assert len(ledger.rows(claims)) == 1


def test_answers_come_in_the_order_of_the_questions(ledger: LedgerUnderTest) -> None:
    waiting = [ledger.enqueue() for _ in range(3)]
    done = ledger.finished()
    stranger = new_job()
    asked = [waiting[2], done, waiting[0], stranger, waiting[1]]
    answers = ledger.session.claim(ledger.worker, [Ticket(job.id, 1, "q") for job in asked])
    assert [answer.id for answer in answers] == [job.id for job in asked]
    assert [answer.verdict for answer in answers] == [Verdict.RUN, Verdict.DROP, Verdict.RUN, Verdict.GONE, Verdict.RUN]


def test_a_message_of_a_running_job_is_dropped_for_everyone_else(ledger: LedgerUnderTest) -> None:
    job, _ = ledger.active()
    [claim] = ledger.claim(job, worker=ledger.join())
    assert (claim.verdict, claim.why) == (Verdict.DROP, "active")


@pytest.mark.parametrize("outcome", [Outcome.COMPLETED, Outcome.FAILED, Outcome.CANCELLED])
def test_a_finished_job_is_dropped(ledger: LedgerUnderTest, outcome: Outcome) -> None:
    job = ledger.finished(outcome)
    [claim] = ledger.claim(job)
    assert (claim.verdict, claim.why) == (Verdict.DROP, outcome.value)


def test_a_finished_job_is_dropped_after_retention_too(ledger: LedgerUnderTest) -> None:
    job = ledger.finished()
    ledger.session.retain({}, NONE_KEPT, history_s=3600)
    [claim] = ledger.claim(job, ticket=1)
    assert (claim.verdict, claim.why) == (Verdict.DROP, "completed")


def test_a_job_nobody_knows_is_gone_and_a_bad_id_spoils_nobody(ledger: LedgerUnderTest) -> None:
    job = ledger.enqueue()
    tickets_ = [Ticket("{not,an id", 1, "q"), Ticket(job.id, 1, "q"), Ticket(new_job().id, 1, "q"), Ticket("", 1, "q")]
    verdicts = [claim.verdict for claim in ledger.session.claim(ledger.worker, tickets_)]
    assert verdicts == [Verdict.GONE, Verdict.RUN, Verdict.GONE, Verdict.GONE]


def test_two_ids_in_one_are_none(ledger: LedgerUnderTest) -> None:
    first, second, other = (ledger.enqueue() for _ in range(3))
    asked = [Ticket(f"{first.id},{second.id}", 1, "q"), Ticket(other.id, 1, "q")]
    assert [x.verdict for x in ledger.session.claim(ledger.worker, asked)] == [Verdict.GONE, Verdict.RUN]
    assert [ledger.state(job) for job in (first, second, other)] == [State.WAITING, State.WAITING, State.ACTIVE]


def test_a_message_with_an_old_ticket_is_stale(ledger: LedgerUnderTest) -> None:
    job, epoch = ledger.active()
    ledger.finish(job, epoch, Outcome.INTERRUPTED)
    [claim] = ledger.claim(job, ticket=1)
    assert (claim.verdict, claim.why) == (Verdict.DROP, "stale")
    assert ledger.claim(job, ticket=2)[0].verdict is Verdict.RUN


def test_of_two_messages_of_one_job_one_runs(ledger: LedgerUnderTest) -> None:
    job = ledger.enqueue()
    answers = ledger.session.claim(ledger.worker, [Ticket(job.id, 1, "q"), Ticket(job.id, 1, "q")])
    assert sorted(answer.verdict for answer in answers) == [Verdict.DROP, Verdict.RUN]


def test_a_job_of_a_paused_queue_is_parked_until_the_resume(ledger: LedgerUnderTest) -> None:
    job = ledger.enqueue()
    ledger.pause("q")
    [claim] = ledger.claim(job)
    assert (claim.verdict, claim.why) == (Verdict.PARK, "paused")
    row, ticket = ledger.row(job), ledger.ticket(job)
    assert ticket
    assert (row["state"], row["ticket"], ticket["ticket"], ticket["due_at"]) == ("waiting", 2, 2, None)
    assert ledger.events(job) == ["parked"]
    assert ledger.session.next_due_s() is None
    assert ledger.session.promote(10, resend_after_s=5) == []
    assert ledger.claim(job, ticket=1)[0].why == "stale"


def test_a_message_found_in_another_queue_is_sent_again_to_its_own(ledger: LedgerUnderTest) -> None:
    job = ledger.enqueue(queue="right")
    [claim] = ledger.session.claim(ledger.worker, [Ticket(job.id, 1, "wrong")])
    assert (claim.verdict, claim.why) == (Verdict.PARK, "moved")
    [due] = ledger.session.promote(10, resend_after_s=5)
    assert (due.id, due.queue, due.ticket) == (job.id, "right", 2)


def test_a_fenced_worker_gets_nothing(either: LedgerUnderTest) -> None:
    job = either.enqueue()
    either.silence(either.worker)
    either.session.rescue(30)
    assert either.session.take(either.worker, {"q": 1}) == []
    [claim] = either.claim(job)
    assert claim.verdict is Verdict.PARK
    assert either.state(job) is State.DELAYED


def test_one_suspect_at_a_time_and_the_others_are_put_off(ledger: LedgerUnderTest) -> None:
    suspects = [ledger.enqueue() for _ in range(3)]
    for job in suspects:
        ledger.change(jobs, job, crashes=1)
    innocent = ledger.enqueue()
    answers = ledger.claim(suspects[0], suspects[1], innocent, suspects=1)
    assert [answer.verdict for answer in answers] == [Verdict.RUN, Verdict.PARK, Verdict.RUN]
    assert (answers[0].suspect, answers[0].crashes, answers[1].why) == (True, 1, "suspect")
    row = ledger.row(suspects[1])
    assert (row["state"], row["ticket"]) == ("delayed", 2)
    # A lost answer must not let a second one in.
    again = ledger.claim(suspects[0], suspects[2], suspects=1)
    assert [answer.verdict for answer in again] == [Verdict.RUN, Verdict.PARK]
    ledger.finish(suspects[0], 1, Outcome.COMPLETED)
    ledger.make_due(suspects[1])
    ledger.session.promote(10, resend_after_s=5)
    assert ledger.claim(suspects[1], suspects=0)[0].why == "suspect"


# -- take


def test_ready_jobs_are_taken_by_priority_then_by_age(embedded: LedgerUnderTest) -> None:
    late, early, background = (embedded.enqueue(priority=p, body=b"%d" % p) for p in (3, 3, 5))
    embedded.change(tickets, early, due_at=embedded.now() - timedelta(seconds=9))
    critical = embedded.enqueue(priority=1)
    other = embedded.enqueue(queue="other")
    taken = embedded.session.take(embedded.worker, {"q": 3, "other": 5, "empty": 5})
    in_q = [claim for claim in taken if claim.queue == "q"]
    assert [claim.id for claim in in_q] == [critical.id, early.id, late.id]
    assert [claim.id for claim in taken if claim.queue == "other"] == [other.id]
    assert all(claim.verdict is Verdict.RUN and claim.epoch == 1 and claim.ticket == 1 for claim in taken)
    assert (bytes(in_q[1].body), in_q[1].message_id) == (b"3", early.message_id)
    row = embedded.row(early)
    assert (in_q[1].created_at, in_q[1].due_at) == (row["created_at"], row["run_at"])
    assert [row["job_id"] for row in embedded.rows(tickets)] == [background.id]


def test_nothing_is_taken_from_a_paused_queue(embedded: LedgerUnderTest) -> None:
    embedded.enqueue()
    embedded.pause("q")
    assert embedded.session.take(embedded.worker, {"q": 1}) == []
    embedded.pause("q", False)
    assert len(embedded.session.take(embedded.worker, {"q": 1})) == 1


def test_taking_puts_suspects_beyond_the_limit_off(embedded: LedgerUnderTest) -> None:
    first, second = embedded.enqueue(), embedded.enqueue()
    innocent = embedded.enqueue()
    for job in (first, second):
        embedded.change(jobs, job, crashes=1)
    taken = embedded.session.take(embedded.worker, {"q": 3}, suspects=1)
    assert {claim.id for claim in taken} == {first.id, innocent.id}
    assert embedded.state(second) is State.DELAYED
    assert embedded.session.take(embedded.worker, {"q": 3}, suspects=0) == []


# -- finish


@pytest.mark.parametrize(
    ("outcome", "state", "number"),
    [
        (Outcome.COMPLETED, State.COMPLETED, 1),
        (Outcome.SKIPPED, State.COMPLETED, 1),
        (Outcome.RETRYING, State.DELAYED, 1),
        (Outcome.FAILED, State.FAILED, 1),
        (Outcome.SNOOZED, State.DELAYED, None),
        (Outcome.PARKED, State.DELAYED, None),
        (Outcome.INTERRUPTED, State.WAITING, None),
        (Outcome.CANCELLED, State.CANCELLED, None),
    ],
)
def test_an_outcome_leads_to_a_state_and_may_cost_an_attempt(
    either: LedgerUnderTest, outcome: Outcome, state: State, number: int | None
) -> None:
    job, epoch = either.active()
    answer = either.finish(
        job, epoch, outcome, delay_ms=60_000, error_type="E", error_message="a\x00b", traceback="t\ud800"
    )
    assert (answer.accepted, answer.state) == (True, state)
    row = either.row(job)
    assert (row["state"], row["attempts"]) == (state.value, number or 0)
    assert either.attempts(job) == [(number, outcome.value)]
    assert either.rows(claims) == []
    assert (row["finished_at"] is None) == (state in (State.DELAYED, State.WAITING))
    ticket = either.ticket(job)
    if state in (State.DELAYED, State.WAITING):
        assert ticket
        again_at = either.rows(attempts, job)[0]["run_at"]
        assert (row["ticket"], ticket["ticket"], ticket["due_at"]) == (2, 2, again_at)
        assert row["run_at"] == (row["created_at"] if outcome is Outcome.PARKED else again_at)
        assert ticket["ready"] == (either.road == "embedded" and state is State.WAITING)
    assert either.events(job) == []


def test_a_failure_keeps_everything_known(either: LedgerUnderTest) -> None:
    job, epoch = either.active()
    either.finish(
        job,
        epoch,
        Outcome.FAILED,
        reason=Reason.DISCARDED,
        error_type="ValueError",
        error_message="x\x00",
        traceback="tb",
    )
    assert either.row(job)["reason"] == "discarded"
    [attempt] = either.rows(attempts, job)
    assert (attempt["error_type"], attempt["error_message"]) == ("ValueError", "x\N{REPLACEMENT CHARACTER}")
    assert (attempt["traceback"], attempt["worker_id"]) == ("tb", either.worker)
    assert attempt["started_at"] <= attempt["finished_at"]


def test_attempts_are_numbered_by_what_they_cost(ledger: LedgerUnderTest) -> None:
    job, _ = ledger.active()
    for epoch, outcome in enumerate((Outcome.RETRYING, Outcome.SNOOZED, Outcome.RETRYING), 1):
        ledger.finish(job, epoch, outcome)
        ledger.session.promote(10, resend_after_s=5)
        [claim] = ledger.claim(job)
    assert (claim.epoch, claim.attempts) == (4, 2)
    ledger.finish(job, 4, Outcome.COMPLETED)
    assert ledger.attempts(job) == [(1, "retrying"), (None, "snoozed"), (2, "retrying"), (3, "completed")]


def test_a_finish_whose_answer_was_lost_is_accepted_again_and_recorded_once(either: LedgerUnderTest) -> None:
    job, epoch = either.active()
    assert either.finish(job, epoch, Outcome.COMPLETED).accepted
    again = either.finish(job, epoch, Outcome.COMPLETED)
    assert (again.accepted, again.state) == (True, State.COMPLETED)
    assert either.attempts(job) == [(1, "completed")]
    retried, epoch = either.active()
    either.finish(retried, epoch, Outcome.RETRYING)
    either.make_due(retried)
    either.session.promote(10, resend_after_s=5)
    either.claim(retried)
    assert either.finish(retried, epoch, Outcome.RETRYING).accepted
    assert either.state(retried) is State.ACTIVE
    either.session.retain({}, NONE_KEPT, history_s=3600)
    assert either.finish(job, 1, Outcome.COMPLETED).accepted


def test_a_finish_of_a_fenced_worker_is_refused(either: LedgerUnderTest) -> None:
    job, epoch = either.active()
    either.silence(either.worker)
    either.session.rescue(30)
    before = either.row(job)
    assert not either.finish(job, epoch, Outcome.COMPLETED).accepted
    assert either.row(job) == before
    assert not either.finish(job, 99, Outcome.COMPLETED).accepted
    assert not either.finish(new_job(), 1, Outcome.COMPLETED).accepted


def test_a_finish_of_a_released_job_is_refused(either: LedgerUnderTest) -> None:
    job, epoch = either.active()
    either.session.release(either.worker, [(job.id, epoch)])
    assert not either.finish(job, epoch, Outcome.COMPLETED).accepted
    assert either.state(job) is State.WAITING


def test_one_batch_may_hold_everything(ledger: LedgerUnderTest) -> None:
    a, b, c = (ledger.active()[0] for _ in range(3))
    answers = ledger.session.finish(
        ledger.worker,
        [
            Finish(b.id, 1, Outcome.FAILED, reason=Reason.EXPIRED),
            Finish(a.id, 1, Outcome.COMPLETED, result=b"[1]", result_ttl_ms=60_000),
            Finish(a.id, 1, Outcome.COMPLETED),
            Finish(new_job().id, 1, Outcome.COMPLETED),
            Finish(c.id, 2, Outcome.COMPLETED),
            Finish(c.id, 1, Outcome.RETRYING, delay_ms=5),
        ],
    )
    assert [answer.accepted for answer in answers] == [True, True, True, False, False, True]
    assert [answer.state for answer in answers] == [
        State.FAILED,
        State.COMPLETED,
        State.COMPLETED,
        None,
        None,
        State.DELAYED,
    ]
    assert ledger.attempts(a) == [(1, "completed")]


@pytest.mark.parametrize("outcome", [Outcome.RETRYING, Outcome.SNOOZED, Outcome.PARKED, Outcome.INTERRUPTED])
def test_a_cancel_asked_for_during_the_run_is_folded_into_the_finish(either: LedgerUnderTest, outcome: Outcome) -> None:
    job, epoch = either.active()
    either.ask_cancel(job)
    answer = either.finish(job, epoch, outcome, delay_ms=10)
    assert (answer.accepted, answer.state) == (True, State.CANCELLED)
    assert either.attempts(job) == [(None, "cancelled")]
    assert either.row(job)["finished_at"] is not None


def test_nothing_follows_a_retry_that_became_a_cancel(either: LedgerUnderTest) -> None:
    job, epoch = either.active()
    either.ask_cancel(job)
    assert either.finish(job, epoch, Outcome.RETRYING, delay_ms=10, follow_ups=[new_job()]).send == ()
    assert [row["id"] for row in either.rows(jobs)] == [job.id]


@pytest.mark.parametrize("outcome", [Outcome.COMPLETED, Outcome.FAILED])
def test_a_cancel_that_came_too_late_changes_nothing(either: LedgerUnderTest, outcome: Outcome) -> None:
    job, epoch = either.active()
    either.ask_cancel(job)
    assert either.finish(job, epoch, outcome).state == State(outcome.value)


def test_a_result_is_stored_with_the_finish(either: LedgerUnderTest) -> None:
    job, epoch = either.active()
    either.finish(job, epoch, Outcome.COMPLETED, result=b'{"a":"\\u0000"}', result_ttl_ms=60_000)
    [result] = either.rows(results, job)
    assert bytes(result["body"]) == b'{"a":"\\u0000"}'
    assert timedelta(seconds=50) < result["expires_at"] - either.now() <= timedelta(seconds=60)
    assert result["read_at"] is None


def test_what_follows_a_finish_commits_with_it_and_is_handed_to_the_publisher(either: LedgerUnderTest) -> None:
    job, epoch = either.active()
    now, later = new_job(), new_job(delay_ms=60_000)
    answer = either.finish(job, epoch, Outcome.COMPLETED, follow_ups=[now, later])
    assert list(answer.send) == [now]
    assert (either.state(now), either.state(later)) == (State.WAITING, State.DELAYED)
    again = either.finish(job, epoch, Outcome.COMPLETED, follow_ups=[new_job()])
    assert again.accepted
    assert len(either.rows(jobs)) == 3


def test_nothing_follows_a_finish_that_was_refused(either: LedgerUnderTest) -> None:
    job, epoch = either.active()
    assert not either.finish(job, epoch + 1, Outcome.COMPLETED, follow_ups=[new_job()]).accepted
    assert len(either.rows(jobs)) == 1


def test_the_last_job_of_a_group_records_what_was_waiting_for_it(either: LedgerUnderTest) -> None:
    assert either.session.create_group("g", 3, 60_000)
    assert not either.session.create_group("g", 3, 60_000)
    callback = new_job()
    failed, *members = [either.active()[0] for _ in range(4)]
    first = [Finish(job.id, 1, Outcome.COMPLETED, group="g", group_jobs=[callback]) for job in members[:2]]
    lost = Finish(failed.id, 1, Outcome.FAILED, group="g", group_jobs=[callback])
    answers = either.session.finish(either.worker, [*first, lost])
    assert [list(answer.send) for answer in answers] == [[], [], []]
    either.session.finish(either.worker, first)  # again: its answer was lost
    assert [row["remaining"] for row in either.rows(groups)] == [1]
    answer = either.finish(members[2], 1, Outcome.COMPLETED, group="g", group_jobs=[callback])
    assert list(answer.send) == [callback]
    assert either.state(callback) is State.WAITING
    assert either.rows(groups) == []


# -- release and progress


def test_a_released_job_waits_again_with_a_new_ticket_and_no_attempt_spent(either: LedgerUnderTest) -> None:
    job, epoch = either.active()
    either.session.release(either.worker, [(job.id, epoch), (new_job().id, 1)])
    either.session.release(either.worker, [(job.id, epoch)])
    row, ticket = either.row(job), either.ticket(job)
    assert ticket
    assert (row["state"], row["ticket"], row["attempts"], ticket["ticket"]) == ("waiting", 2, 0, 2)
    assert ticket["ready"] == (either.road == "embedded")
    assert (either.events(job), either.attempts(job), either.rows(claims)) == (["released"], [], [])


def test_releasing_a_job_that_was_asked_to_stop_cancels_it(either: LedgerUnderTest) -> None:
    job, epoch = either.active()
    either.ask_cancel(job)
    either.session.release(either.worker, [(job.id, epoch)])
    assert either.state(job) is State.CANCELLED
    assert either.events(job) == ["cancelled"]


def test_only_the_owner_releases(either: LedgerUnderTest) -> None:
    job, epoch = either.active()
    either.session.release(either.join(), [(job.id, epoch)])
    either.session.release(either.worker, [(job.id, epoch + 1)])
    assert either.state(job) is State.ACTIVE


def test_the_last_progress_of_a_job_wins(either: LedgerUnderTest) -> None:
    a, b = either.enqueue(), either.enqueue()
    either.session.progress([(a.id, 1, None, ""), (b.id, 0.5, 1.0, "half"), (a.id, 2, 10, 'two\x00 "of" {ten}')])
    either.session.progress([(b.id, 1.0, 1.0, "all")])
    rows = {row["job_id"]: (row["done"], row["total"], row["note"]) for row in either.rows(progress)}
    assert rows == {a.id: (2.0, 10.0, 'two\N{REPLACEMENT CHARACTER} "of" {ten}'), b.id: (1.0, 1.0, "all")}


# -- checkpoints


def test_a_checkpoint_is_what_the_next_attempt_finds(either: LedgerUnderTest) -> None:
    job, epoch = either.active()
    other, _ = either.active()
    assert either.session.kept(job.id) is None
    assert either.session.checkpoint(job.id, epoch, b'{"rows":1}')
    assert either.session.checkpoint(job.id, epoch, b'{"rows":2}')
    either.finish(job, epoch, Outcome.RETRYING)
    either.make_due(job)
    either.session.promote(10, resend_after_s=5)
    [again] = either.claim(job)
    assert either.session.kept(job.id) == b'{"rows":2}'
    assert either.session.checkpoint(job.id, again.epoch, b"[3]")
    assert either.new_session().kept(job.id) == b"[3]"
    assert [row["epoch"] for row in either.rows(checkpoints)] == [again.epoch]
    assert either.session.kept(other.id) is None


def test_a_worker_that_lost_its_lease_overwrites_no_checkpoint(either: LedgerUnderTest) -> None:
    job, epoch = either.active()
    assert either.session.checkpoint(job.id, epoch, b'"first"')
    either.silence(either.worker)
    assert either.session.rescue(30).returned == 1
    assert not either.session.checkpoint(job.id, epoch, b'"late"')
    [again] = either.claim(job, worker=either.join())
    assert not either.session.checkpoint(job.id, epoch, b'"later"')
    assert either.session.kept(job.id) == b'"first"'
    assert either.session.checkpoint(job.id, again.epoch, b'"second"')


def test_only_a_running_job_keeps_a_checkpoint(either: LedgerUnderTest) -> None:
    waiting = either.enqueue()
    done, epoch = either.active()
    either.finish(done, epoch, Outcome.COMPLETED)
    for id, number in ((waiting.id, 0), (done.id, epoch), (new_job().id, 1)):
        assert not either.session.checkpoint(id, number, b"1")
    assert either.rows(checkpoints) == []


@pytest.mark.parametrize("history_s", [0, 3600])
def test_a_checkpoint_goes_with_its_jobs_payload(either: LedgerUnderTest, history_s: int) -> None:
    job, epoch = either.active()
    either.session.checkpoint(job.id, epoch, b"1")
    either.finish(job, epoch, Outcome.COMPLETED)
    assert either.session.kept(job.id) == b"1"
    assert either.session.retain({}, NONE_KEPT, history_s=history_s) == 1
    assert (either.rows(payloads), either.rows(checkpoints)) == ([], [])


# -- the life of a worker


def test_worker_ids_are_never_used_again(either: LedgerUnderTest) -> None:
    first = either.join()
    either.session.leave(first)
    with either.database.write() as connection:
        connection.execute(workers.delete())
    assert either.join() > first


def test_a_heartbeat_tells_what_was_asked_to_stop_and_what_is_paused(either: LedgerUnderTest) -> None:
    (stop, e1), (go, e2) = either.active(), either.active()
    either.ask_cancel(stop)
    either.pause("other")
    beat = either.session.beat(either.worker, [(stop.id, e1), (go.id, e2)], lease_s=30)
    assert beat == Beat(alive=True, cancel=frozenset({stop.id}), paused=frozenset({"other"}), released=0)


def test_a_worker_can_ask_which_of_its_jobs_are_to_stop(either: LedgerUnderTest) -> None:
    (stop, epoch), _ = either.active(), either.active()
    theirs, _ = either.active(worker=either.join())
    assert either.session.asked_to_stop(either.worker) == []
    either.ask_cancel(stop)
    either.ask_cancel(theirs)
    assert either.session.asked_to_stop(either.worker) == [(stop.id, epoch)]
    assert either.finish(stop, epoch, Outcome.CANCELLED).state is State.CANCELLED
    assert either.session.asked_to_stop(either.worker) == []


def test_rows_a_live_worker_owns_but_does_not_hold_are_released_after_a_lease(either: LedgerUnderTest) -> None:
    (forgotten, _), (held, epoch), (young, _) = either.active(), either.active(), either.active()
    either.make_old_claim(forgotten)
    either.make_old_claim(held)
    assert either.session.beat(either.worker, [(held.id, epoch)], lease_s=30).released == 1
    assert [either.state(job) for job in (forgotten, held, young)] == [State.WAITING, State.ACTIVE, State.ACTIVE]


def test_a_fenced_worker_learns_it_at_its_next_heartbeat(either: LedgerUnderTest) -> None:
    assert either.session.beat(either.worker, [], lease_s=30).alive
    either.silence(either.worker)
    either.session.rescue(30)
    assert not either.session.beat(either.worker, [], lease_s=30).alive


def test_a_worker_that_leaves_gives_everything_back(either: LedgerUnderTest) -> None:
    job, _ = either.active()
    either.session.leave(either.worker)
    either.session.leave(either.worker)
    assert either.state(job) is State.WAITING
    assert either.events(job) == ["released"]
    assert either.rows(claims) == []
    assert not either.session.beat(either.worker, [], lease_s=30).alive


# -- rescue


def test_a_silent_workers_jobs_go_round_again_as_suspects_none_charged(either: LedgerUnderTest) -> None:
    a, b = either.active()[0], either.active()[0]
    either.silence(either.worker)
    rescue = either.session.rescue(30)
    assert (list(rescue.workers), rescue.returned, list(rescue.quarantined)) == ([either.worker], 2, [])
    for job in (a, b):
        row, ticket = either.row(job), either.ticket(job)
        assert ticket
        assert (row["state"], row["ticket"], row["attempts"], row["crashes"], row["charges"]) == ("waiting", 2, 0, 1, 0)
        assert row["epoch"] == 2
        assert ticket["ready"] == (either.road == "embedded")
        assert either.attempts(job) == [(None, "crashed")]
        assert either.events(job) == ["crashed"]
    assert list(either.session.rescue(30).workers) == []


def test_a_worker_that_beats_is_left_alone(either: LedgerUnderTest) -> None:
    job, _ = either.active()
    assert list(either.session.rescue(30).workers) == []
    assert either.state(job) is State.ACTIVE


def test_when_a_suspect_was_running_only_the_suspect_is_charged(either: LedgerUnderTest) -> None:
    suspect = either.enqueue()
    either.change(jobs, suspect, crashes=1)
    innocent = either.enqueue()
    assert len([c for c in either.claim(suspect, innocent) if c.verdict is Verdict.RUN]) == 2
    either.silence(either.worker)
    either.session.rescue(30)
    assert [(either.row(job)["crashes"], either.row(job)["charges"]) for job in (suspect, innocent)] == [(2, 1), (0, 0)]


def test_the_third_charge_quarantines(either: LedgerUnderTest) -> None:
    job = either.enqueue()
    for life in range(4):
        worker = either.join()
        [claim] = either.claim(job, worker=worker)
        assert (claim.verdict, claim.suspect) == (Verdict.RUN, life > 0)
        either.silence(worker)
        rescue = either.session.rescue(30)
    assert list(rescue.quarantined) == [job.id]
    row = either.row(job)
    assert (row["state"], row["reason"], row["charges"], row["attempts"]) == ("failed", "poison", 3, 0)
    assert row["finished_at"] is not None
    assert either.attempts(job) == [(None, "crashed")] * 4
    assert either.events(job) == ["crashed", "crashed", "crashed", "failed"]


def test_an_announced_shutdown_is_no_crash(either: LedgerUnderTest) -> None:
    job, epoch = either.active()
    either.session.announce(either.worker)
    assert either.session.beat(either.worker, [(job.id, epoch)], lease_s=30).alive
    either.silence(either.worker)
    rescue = either.session.rescue(30)
    assert (list(rescue.workers), rescue.returned) == ([either.worker], 1)
    row = either.row(job)
    assert (row["state"], row["crashes"], row["charges"]) == ("waiting", 0, 0)
    assert either.events(job) == ["released"]
    assert not either.finish(job, epoch, Outcome.COMPLETED).accepted


def test_a_crash_does_not_resurrect_a_job_that_was_asked_to_stop(either: LedgerUnderTest) -> None:
    job, _ = either.active()
    either.ask_cancel(job)
    either.silence(either.worker)
    assert either.session.rescue(30).cancelled == 1
    assert either.state(job) is State.CANCELLED
    assert either.events(job) == ["cancelled"]


# -- promote


def test_a_job_whose_time_came_is_promoted_and_its_message_handed_over(ledger: LedgerUnderTest) -> None:
    job = ledger.enqueue(delay_ms=60_000, priority=2, body=b"hello")
    assert ledger.session.promote(10, resend_after_s=30) == []
    ledger.make_due(job)
    [due] = ledger.session.promote(10, resend_after_s=30)
    assert (due.id, due.ticket, due.queue, due.priority, due.actor) == (job.id, 1, "q", 2, "act")
    assert (due.message_id, bytes(due.body)) == (job.message_id, b"hello")
    assert 0.9 < due.late_s < 60
    assert ledger.state(job) is State.WAITING
    assert ledger.events(job) == ["promoted"]
    assert ledger.session.promote(10, resend_after_s=30) == []  # stamped: not to be sent again for a while
    assert 20 < (ledger.session.next_due_s() or 0) <= 30
    ledger.make_due(job)
    assert [again.ticket for again in ledger.session.promote(10, resend_after_s=30)] == [1]
    assert ledger.events(job) == ["promoted"]
    assert ledger.claim(job)[0].verdict is Verdict.RUN


def test_what_its_producer_did_not_publish_is_sent_by_the_relay(ledger: LedgerUnderTest) -> None:
    job = ledger.enqueue()
    assert ledger.session.promote(10, resend_after_s=30) == []
    ledger.make_due(job)
    assert [due.id for due in ledger.session.promote(10, resend_after_s=30)] == [job.id]
    assert ledger.events(job) == []


def test_what_was_waiting_on_the_embedded_road_is_sent_when_rabbitmq_takes_over(ledger: LedgerUnderTest) -> None:
    before = open_ledger(ledger.url, road="embedded").session("test")
    jobs = [new_job(), new_job()]
    before.enqueue(jobs)
    before.close()
    sent = [due.id for _ in range(2) for due in ledger.session.promote(10, resend_after_s=30)]
    assert sorted(sent) == [job.id for job in jobs]
    assert [claim.verdict for claim in ledger.claim(*jobs)] == [Verdict.RUN] * 2


def test_on_the_embedded_road_a_due_job_becomes_ready(embedded: LedgerUnderTest) -> None:
    job = embedded.enqueue(delay_ms=60_000)
    embedded.make_due(job)
    assert [due.queue for due in embedded.session.promote(10, resend_after_s=30)] == ["q"]
    assert embedded.session.next_due_s() is None
    assert [claim.id for claim in embedded.session.take(embedded.worker, {"q": 1})] == [job.id]


def test_promotion_takes_the_longest_due_first_and_no_more_than_asked(either: LedgerUnderTest) -> None:
    made = [either.enqueue(delay_ms=60_000) for _ in range(3)]
    for age, job in enumerate(made, 1):
        either.change(tickets, job, due_at=either.now() - timedelta(seconds=age))
    assert {due.id for due in either.session.promote(2, resend_after_s=30)} == {made[1].id, made[2].id}
    assert [due.id for due in either.session.promote(2, resend_after_s=30)] == [made[0].id]


def test_nothing_due_in_a_paused_queue_is_promoted(either: LedgerUnderTest) -> None:
    paused, other = either.enqueue(delay_ms=60_000), either.enqueue(queue="other", delay_ms=60_000)
    either.make_due(paused)
    either.make_due(other)
    either.pause("q")
    assert [due.id for due in either.session.promote(10, resend_after_s=30)] == [other.id]
    assert either.state(paused) is State.DELAYED
    assert either.ticket(paused)


def test_a_ticket_of_a_job_that_needs_none_is_dropped(ledger: LedgerUnderTest) -> None:
    job = ledger.finished()
    running, _ = ledger.active()
    for each in (job, running):
        ledger.leave_ticket(each, 1)
    assert ledger.session.promote(10, resend_after_s=30) == []
    assert ledger.rows(tickets) == []


def test_the_next_due_time_is_known(either: LedgerUnderTest) -> None:
    assert either.session.next_due_s() is None
    job = either.enqueue(delay_ms=60_000)
    assert 50 < (either.session.next_due_s() or 0) <= 60
    either.make_due(job)
    assert (either.session.next_due_s() or 1.0) <= 0


# -- when a job became due


def due_an_hour_ago(ledger: LedgerUnderTest, job: NewJob) -> datetime:
    ledger.change(jobs, job, run_at=ledger.now() - timedelta(hours=1))
    since = ledger.row(job)["run_at"]
    assert isinstance(since, datetime)
    return since


def test_a_claim_says_since_when_its_job_is_due_and_says_it_again(either: LedgerUnderTest) -> None:
    job = either.enqueue()
    since = due_an_hour_ago(either, job)
    assert [claim.due_at for claim in either.claim(job)] == [since]
    assert [claim.due_at for claim in either.claim(job)] == [since], "the answer that was lost"


def test_a_job_taken_on_the_embedded_road_says_it_too(embedded: LedgerUnderTest) -> None:
    since = due_an_hour_ago(embedded, embedded.enqueue())
    assert [claim.due_at for claim in embedded.session.take(embedded.worker, {"q": 1})] == [since]


def test_a_job_that_is_put_off_or_sent_again_stays_due_since_it_was(ledger: LedgerUnderTest) -> None:
    job = ledger.enqueue()
    since = due_an_hour_ago(ledger, job)
    [claim] = ledger.claim(job)
    ledger.finish(job, claim.epoch, Outcome.PARKED)
    ledger.session.promote(10, resend_after_s=30)
    [claim] = ledger.claim(job)
    ledger.session.release(ledger.worker, [(job.id, claim.epoch)])
    [claim] = ledger.claim(job)
    ledger.session.announce(ledger.worker)
    ledger.silence(ledger.worker)
    assert ledger.session.rescue(30).returned == 1
    assert [x.why for x in ledger.claim(job)] == ["fenced"]
    ledger.make_due(job)
    [due] = ledger.session.promote(10, resend_after_s=30)
    ledger.session.mark([(job.id, due.ticket)])
    assert ledger.session.resend() == 1
    assert [x.due_at for x in ledger.claim(job, worker=ledger.join())] == [since]


@pytest.mark.parametrize("outcome", [Outcome.RETRYING, Outcome.SNOOZED, Outcome.INTERRUPTED, Outcome.CRASHED])
def test_a_job_that_was_started_becomes_due_anew(ledger: LedgerUnderTest, outcome: Outcome) -> None:
    job = ledger.enqueue()
    since = due_an_hour_ago(ledger, job)
    [claim] = ledger.claim(job)
    if outcome is Outcome.CRASHED:
        ledger.silence(ledger.worker)
        ledger.session.rescue(30)
    else:
        ledger.finish(job, claim.epoch, outcome)
    assert ledger.row(job)["run_at"] > since + timedelta(minutes=59)


# -- resend


def test_what_was_just_sent_again_is_not_found_again_by_its_age(ledger: LedgerUnderTest) -> None:
    job = ledger.enqueue()
    ledger.session.mark([(job.id, 1)])
    due_an_hour_ago(ledger, job)
    assert ledger.session.resend(older_than_s=60) == 1
    ledger.session.mark([(job.id, 2)])
    assert ledger.session.resend(older_than_s=60) == 0
    assert ledger.session.resend(queue="q", older_than_s=60) == 0
    ledger.change(journal, job, at=ledger.now() - timedelta(minutes=2))
    assert ledger.session.resend(queue="q", older_than_s=60) == 1


def test_a_waiting_job_without_a_message_gets_a_new_ticket(ledger: LedgerUnderTest) -> None:
    sent, unsent, elsewhere = ledger.enqueue(), ledger.enqueue(), ledger.enqueue(queue="other")
    running, _ = ledger.active()
    ledger.session.mark([(job.id, 1) for job in (sent, elsewhere, running)])
    assert ledger.session.resend(queue="q", older_than_s=3600) == 0
    assert ledger.session.resend(queue="q") == 1
    assert [ledger.row(job)["ticket"] for job in (sent, unsent, elsewhere, running)] == [2, 1, 1, 1]
    assert ledger.events(sent) == ["resent"]
    assert ledger.session.resend() == 1
    assert ledger.session.resend() == 0
    due = {due.id: due.ticket for due in ledger.session.promote(10, resend_after_s=30)}
    assert due == {sent.id: 2, elsewhere.id: 2}


@pytest.mark.parametrize("queue", [None, "q"])
def test_many_jobs_are_sent_again_in_transactions_of_bounded_size(
    ledger: LedgerUnderTest, monkeypatch: pytest.MonkeyPatch, queue: str | None
) -> None:
    for module in (ledger_on_postgres, ledger_on_sqlite):
        monkeypatch.setattr(module, "RESEND_BATCH", 2)
    made = [ledger.enqueue() for _ in range(5)]
    ledger.session.mark([(job.id, 1) for job in made])
    assert ledger.session.resend(queue=queue) == 5
    assert {ledger.row(job)["ticket"] for job in made} == {2}
    if ledger.database.sqlite:  # whose transactions have one time each
        assert len({row["at"] for row in ledger.rows(journal)}) == 3


# -- backlog


def test_the_backlog_is_what_was_counted_and_has_not_ended(either: LedgerUnderTest) -> None:
    for changes in ({}, {"counted": True, "queue": "r"}, {"counted": True}):
        either.enqueue(**changes)
    runs, done, retries = (either.active(counted=True) for _ in range(3))
    either.finish(*done, Outcome.COMPLETED)
    either.finish(*retries, Outcome.RETRYING, delay_ms=60_000)
    assert either.session.backlog("q", 10) == 3, "one waits, one runs, one is to be tried again"
    assert either.session.backlog("q", 2) == 2
    assert either.session.backlog("nobody's", 10) == 0
    either.finish(*runs, Outcome.FAILED)
    assert either.session.backlog("q", 10) == 2


# -- expire


def test_jobs_that_were_not_tried_in_time_are_dead_letters(either: LedgerUnderTest) -> None:
    waiting, delayed = either.enqueue(expires_ms=60_000), either.enqueue(expires_ms=60_000, delay_ms=3_600_000)
    young, ever = either.enqueue(expires_ms=3_600_000), either.enqueue()
    assert either.session.expire(10) == []
    times = {row["job_id"]: row["at"] for row in either.rows(expiries)}
    assert times.keys() == {waiting.id, delayed.id, young.id}
    assert times[delayed.id] == either.row(delayed)["run_at"] + timedelta(minutes=1), "counted from when it is due"
    pass_expiry(either, waiting, delayed)
    assert set(either.session.expire(10)) == {waiting.id, delayed.id}
    for job in (waiting, delayed):
        row = either.row(job)
        assert (row["state"], row["reason"], row["attempts"]) == ("failed", "expired", 0)
        assert row["finished_at"] is not None
        assert either.ticket(job) is None
        assert either.events(job) == ["failed"]
    assert [either.state(job) for job in (young, ever)] == [State.WAITING, State.WAITING]
    assert either.claim(waiting)[0].verdict is Verdict.DROP
    assert either.session.expire(10) == []
    assert [row["job_id"] for row in either.rows(expiries)] == [young.id]


def test_a_job_that_was_tried_or_runs_or_is_over_does_not_expire(either: LedgerUnderTest) -> None:
    runs, tried, done = (either.active(expires_ms=60_000) for _ in range(3))
    either.finish(*tried, Outcome.RETRYING, delay_ms=60_000)
    either.finish(*done, Outcome.COMPLETED)
    pass_expiry(either, runs[0], tried[0], done[0])
    either.session.retain({}, NONE_KEPT, history_s=0)
    assert either.session.expire(10) == []
    assert [row["job_id"] for row in either.rows(expiries)] == [runs[0].id], "it may be given back"
    assert [either.state(job) for job, _ in (runs, tried)] == [State.ACTIVE, State.DELAYED]


def test_a_job_that_was_claimed_and_given_back_expires_and_one_that_was_interrupted_does_not(
    either: LedgerUnderTest,
) -> None:
    back, interrupted = either.active(expires_ms=60_000), either.active(expires_ms=60_000)
    pass_expiry(either, back[0], interrupted[0])
    assert either.session.expire(10) == []
    either.session.release(either.worker, [(back[0].id, back[1])])
    either.finish(*interrupted, Outcome.INTERRUPTED)
    pass_expiry(either, back[0], interrupted[0])
    assert either.session.expire(10) == [back[0].id]
    assert either.rows(expiries) == []
    [again] = either.claim(interrupted[0], ticket=2)
    assert again.tried


def test_a_few_expire_at_a_time_the_first_first(either: LedgerUnderTest) -> None:
    made = [either.enqueue(expires_ms=60_000 + n) for n in range(5)]
    for n, job in enumerate(made):
        either.change(expiries, job, at=either.now() - timedelta(hours=1) + timedelta(seconds=n))
    batches = [set(either.session.expire(2)) for _ in range(4)]
    assert batches == [{job.id for job in made[n : n + 2]} for n in (0, 2, 4)] + [set()]


def test_a_job_that_is_replaced_expires_as_its_new_message_says(either: LedgerUnderTest) -> None:
    key = Key("ee", Mode.REPLACE)
    job = either.enqueue(key=key, delay_ms=60_000)
    either.enqueue(key=key, delay_ms=60_000, expires_ms=60_000)
    assert [row["job_id"] for row in either.rows(expiries)] == [job.id]
    either.enqueue(key=key, delay_ms=60_000)
    assert either.rows(expiries) == []


def pass_expiry(ledger: LedgerUnderTest, *made: NewJob) -> None:
    for job in made:
        ledger.change(expiries, job, at=ledger.now() - timedelta(seconds=1))


# -- retain


def test_finished_jobs_over_their_limits_move_to_history(either: LedgerUnderTest) -> None:
    done = [either.finished() for _ in range(4)]
    dead = [either.finished(Outcome.FAILED, reason=Reason.REFUSED) for _ in range(3)]
    waiting = either.enqueue()
    keep = Keep(completed=2, completed_s=3600, failed=1, failed_s=3600)
    assert either.session.retain({"q": keep}, Keep(), history_s=3600) == 4
    assert {row["id"] for row in either.rows(jobs)} == {job.id for job in (*done[2:], *dead[2:], waiting)}
    past = {row["id"]: row for row in either.rows(history)}
    assert set(past) == {job.id for job in (*done[:2], *dead[:2])}
    row = past[dead[0].id]
    assert (row["state"], row["reason"], row["attempts"], bytes(row["body"])) == ("failed", "refused", 1, b"{}")
    assert {row["job_id"] for row in either.rows(payloads)} == {row["id"] for row in either.rows(jobs)}
    assert either.attempts(done[0]) == [(1, "completed")]
    assert either.session.retain({"q": keep}, Keep(), history_s=3600) == 0


def test_age_is_a_limit_too(either: LedgerUnderTest) -> None:
    old, young = either.finished(), either.finished()
    either.change(jobs, old, finished_at=either.now() - timedelta(hours=2))
    assert either.session.retain({}, Keep(completed_s=3600), history_s=86400) == 1
    assert [row["id"] for row in either.rows(jobs)] == [young.id]


def test_without_history_nothing_of_a_job_is_left(either: LedgerUnderTest) -> None:
    job = either.finished(result=b"1", result_ttl_ms=60_000)
    either.change(results, job, read_at=either.now())
    assert either.session.retain({}, NONE_KEPT, history_s=0) == 1
    for table in (jobs, payloads, history, results, tickets):
        assert either.rows(table) == []
    assert either.attempts(job) == []


def test_history_is_pruned_with_its_attempts_and_journal(either: LedgerUnderTest) -> None:
    job = either.finished()
    either.change(jobs, job, finished_at=either.now() - timedelta(hours=2))
    assert either.session.retain({}, NONE_KEPT, history_s=86400) == 1
    assert either.session.retain({}, NONE_KEPT, history_s=3600) == 1
    assert either.rows(history) == []
    assert either.attempts(job) == []


def test_a_job_whose_result_nobody_read_yet_stays(either: LedgerUnderTest) -> None:
    job = either.finished(result=b"1", result_ttl_ms=60_000)
    assert either.session.retain({}, NONE_KEPT, history_s=3600) == 0
    either.change(results, job, expires_at=either.now() - timedelta(seconds=1))
    assert either.session.retain({}, NONE_KEPT, history_s=3600) == 1
    assert either.rows(results) == []


def test_retention_goes_in_steps(either: LedgerUnderTest) -> None:
    for queue in ("q", "r"):
        for _ in range(3):
            either.finished(queue=queue)
    moved = [either.session.retain({}, NONE_KEPT, history_s=3600, limit=4) for _ in range(3)]
    assert moved == [4, 2, 0]


def test_history_is_pruned_however_many_jobs_wait_to_be_moved_there(either: LedgerUnderTest) -> None:
    old = either.finished()
    assert either.session.retain({}, NONE_KEPT, history_s=86400) == 1
    two_days_ago = either.now() - timedelta(days=2)
    with either.database.write() as connection:
        connection.execute(update(history).values(finished_at=two_days_ago))
    for _ in range(4):
        either.finished()
    assert either.session.retain({}, NONE_KEPT, history_s=86400, limit=2) == 2
    past = {row["id"] for row in either.rows(history)}
    assert len(past) == 2
    assert old.id not in past


def test_workers_long_gone_are_forgotten_unless_they_own_something(either: LedgerUnderTest) -> None:
    stopped, dead, owner, lately = (either.join() for _ in range(4))
    kept, _ = either.active(worker=owner)
    either.session.leave(stopped)
    either.session.leave(lately)
    long_ago = either.now() - timedelta(days=9)
    with either.database.write() as connection:
        gone = update(workers).values(heartbeat_at=long_ago).where(workers.c.id.in_((stopped, dead, owner)))
        connection.execute(gone)
        connection.execute(update(workers).values(state="dead").where(workers.c.id.in_((dead, owner))))

    def known() -> set[int]:
        return {row["id"] for row in either.rows(workers)}

    either.session.retain({}, Keep(), history_s=10 * 86400)
    assert known() == {either.worker, stopped, dead, owner, lately}, "history still tells of what they did"
    either.session.retain({}, Keep(), history_s=8 * 86400, limit=1)
    assert len(known()) == 4
    either.session.retain({}, Keep(), history_s=0, limit=1)
    assert known() == {either.worker, owner, lately}
    assert either.session.rescue(3600).returned == 1
    assert either.state(kept) is State.WAITING


def test_journal_lines_that_no_job_takes_along_go_with_history(either: LedgerUnderTest) -> None:
    there, removed, back = either.enqueue(), new_job(), either.enqueue()
    long_ago, lately = either.now() - timedelta(days=9), either.now() - timedelta(days=6)
    lines = [
        (None, "paused", long_ago),
        (None, "resumed", lately),
        (there.id, "released", long_ago),
        (removed.id, "released", long_ago),
        (removed.id, "discarded", long_ago),
        (back.id, "removed", long_ago),
        (back.id, "adopted", lately),
    ]
    with either.database.write() as connection:
        for job, event, at in lines:
            connection.execute(journal.insert().values(job_id=job, event=event, at=at))
    either.session.retain({}, Keep(), history_s=10 * 86400)
    assert len(either.rows(journal)) == len(lines)
    either.session.retain({}, Keep(), history_s=0)
    left = [(row["job_id"], row["event"]) for row in either.rows(journal)]
    assert left == [(None, "resumed"), (there.id, "released"), (back.id, "adopted")]


def test_ticks_are_remembered_for_longer_than_any_scheduler_catches_up(either: LedgerUnderTest) -> None:
    for age in range(6, 11):
        either.enqueue(tick=("beat", either.now() - timedelta(days=age)))
    either.session.retain({}, Keep(), history_s=0, limit=1)
    assert len(either.rows(ticks)) == 4
    either.session.retain({}, Keep(), history_s=0)
    assert len(either.rows(ticks)) == 2


# -- leases and groups


def test_a_lease_has_one_holder_and_its_term_goes_up_with_each_new_one(either: LedgerUnderTest) -> None:
    session = either.session
    assert session.lease("relay", "a", 60) == 1
    assert session.lease("relay", "b", 60) is None
    assert session.lease("relay", "a", 60) == 1
    assert session.lease("other", "b", 60) == 1
    session.unlease("relay", "b")
    assert session.lease("relay", "b", 60) is None
    session.unlease("relay", "a")
    assert session.lease("relay", "b", 60) == 2


def test_an_expired_lease_is_anyones(either: LedgerUnderTest) -> None:
    assert either.session.lease("relay", "a", -1) == 1
    assert either.session.lease("relay", "b", 60) == 2


def test_a_group_that_expired_may_be_set_up_again(either: LedgerUnderTest) -> None:
    assert either.session.create_group("g", 2, -1000)
    assert either.session.create_group("g", 3, 60_000)
    assert [row["remaining"] for row in either.rows(groups)] == [3]


def test_the_clocks_agree_on_one_machine(either: LedgerUnderTest) -> None:
    assert abs(either.session.clock_skew_s()) < 1


def test_closing_is_idempotent_and_the_next_call_opens_again(either: LedgerUnderTest) -> None:
    either.session.close()
    either.session.close()
    assert either.session.next_due_s() is None
