"""Keys, of which one job at a time holds each: decided with the enqueue, on SQLite and PostgreSQL alike."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ledger import Road
from ledger.records import Due, Enqueued, Finish, Keep, Key, Mode, NewJob, Verdict
from ledger.states import Event, Outcome, State
from ledger.tables import history, jobs, journal, payloads, uniques
from tests.ledger_under_test import LedgerUnderTest, new_job

NONE_KEPT = Keep(completed=0, completed_s=0, failed=0, failed_s=0)
HOUR_MS = 3_600_000


@pytest.fixture(params=["rabbitmq", "embedded"])
def ledger(request: pytest.FixtureRequest, database_url: str) -> Iterator[LedgerUnderTest]:
    road: Road = request.param
    under_test = LedgerUnderTest(database_url, road)
    yield under_test
    under_test.close()


def keyed(mode: Mode = Mode.REJECT, digest: str = "aa", *, within_ms: int | None = None, **fields: Any) -> NewJob:
    states = fields.pop("states", frozenset({State.DELAYED, State.WAITING, State.ACTIVE}))
    return new_job(key=Key(digest, mode, states, within_ms), **fields)


def enqueue(ledger: LedgerUnderTest, *wanted: NewJob) -> list[Enqueued]:
    return ledger.session.enqueue(wanted)


def became(ledger: LedgerUnderTest, *wanted: NewJob) -> list[tuple[str, bool]]:
    return [(answer.id, answer.duplicate) for answer in enqueue(ledger, *wanted)]


def run(ledger: LedgerUnderTest, job: NewJob, outcome: Outcome = Outcome.COMPLETED) -> None:
    [claim] = ledger.claim(job)
    assert ledger.finish(job, claim.epoch, outcome).accepted


def pass_time(ledger: LedgerUnderTest) -> None:
    """Whatever keys are held for some time: that time is over."""
    with ledger.database.write() as connection:
        now = ledger.database.time(connection)
        past = uniques.update().where(uniques.c.until.is_not(None)).values(until=now - timedelta(seconds=1))
        connection.execute(past)


def test_a_key_is_held_by_one_job_until_that_has_ended(ledger: LedgerUnderTest) -> None:
    first, second, other = keyed(), keyed(), keyed(digest="bb")
    assert became(ledger, first) == [(first.id, False)]
    [refused, accepted] = enqueue(ledger, second, other)
    assert (refused.id, refused.duplicate, refused.message_id) == (first.id, True, first.message_id)
    assert (accepted.id, accepted.duplicate) == (other.id, False)
    assert {row["id"] for row in ledger.rows(jobs)} == {first.id, other.id}
    [claim] = ledger.claim(first)
    assert became(ledger, second) == [(first.id, True)]
    ledger.finish(first, claim.epoch, Outcome.RETRYING, delay_ms=HOUR_MS)
    assert became(ledger, second) == [(first.id, True)]
    [claim] = ledger.claim(ledger_due(ledger, first))
    ledger.finish(first, claim.epoch, Outcome.FAILED)
    assert became(ledger, second) == [(second.id, False)]
    assert became(ledger, keyed()) == [(second.id, True)]


def ledger_due(ledger: LedgerUnderTest, job: NewJob) -> NewJob:
    ledger.make_due(job)
    ledger.session.promote(10, resend_after_s=30)
    return job


def test_a_key_may_be_free_while_its_job_runs(ledger: LedgerUnderTest) -> None:
    before = frozenset({State.DELAYED, State.WAITING})
    first, second = keyed(states=before), keyed(states=before)
    enqueue(ledger, first)
    assert became(ledger, second) == [(first.id, True)]
    ledger.claim(first)
    assert became(ledger, second) == [(second.id, False)]
    assert became(ledger, keyed(states=before)) == [(second.id, True)]


def test_a_key_held_for_a_time_outlasts_its_job_and_never_ends_before_it(ledger: LedgerUnderTest) -> None:
    first, second = keyed(within_ms=HOUR_MS), keyed(within_ms=HOUR_MS)
    enqueue(ledger, first)
    pass_time(ledger)
    assert became(ledger, second) == [(first.id, True)]
    run(ledger, first)
    assert became(ledger, second) == [(second.id, False)]
    run(ledger, second)
    ledger.session.retain({}, NONE_KEPT, history_s=3600)
    [refused] = enqueue(ledger, keyed(within_ms=HOUR_MS))
    assert (refused.id, refused.message_id) == (second.id, second.message_id)


def test_a_throttle_goes_by_time_alone(ledger: LedgerUnderTest) -> None:
    first, second = (keyed(Mode.THROTTLE, within_ms=HOUR_MS) for _ in range(2))
    enqueue(ledger, first)
    run(ledger, first, Outcome.FAILED)
    assert became(ledger, second) == [(first.id, True)]
    pass_time(ledger)
    assert became(ledger, second, keyed(Mode.THROTTLE, within_ms=HOUR_MS)) == [(second.id, False), (second.id, True)]
    pass_time(ledger)
    third = keyed(Mode.THROTTLE, within_ms=HOUR_MS)
    assert became(ledger, third) == [(third.id, False)], "the second still waits: that does not count"


def test_a_delayed_job_becomes_the_one_that_replaces_it(ledger: LedgerUnderTest) -> None:
    first = keyed(Mode.REPLACE, delay_ms=1_000, body=b"1")
    second = keyed(Mode.REPLACE, delay_ms=HOUR_MS, body=b"2", priority=1, queue="r", producer="here:1")
    enqueue(ledger, first)
    [answer] = enqueue(ledger, second)
    assert (answer.id, answer.state, answer.duplicate, answer.ticket) == (first.id, State.DELAYED, False, 2)
    [row], [payload], ticket = ledger.rows(jobs), ledger.rows(payloads, first), ledger.ticket(first)
    assert (row["queue"], row["priority"], row["state"], row["ticket"]) == ("r", 1, "delayed", 2)
    assert timedelta(minutes=59) < row["run_at"] - row["created_at"] < timedelta(minutes=61)
    assert (bytes(payload["body"]), payload["message_id"], payload["producer"]) == (b"2", second.message_id, "here:1")
    assert ticket
    assert (ticket["queue"], ticket["priority"], ticket["ticket"], ticket["ready"]) == ("r", 1, 2, False)
    assert ticket["due_at"] == row["run_at"]
    [noted] = ledger.rows(journal, first)
    assert (noted["event"], noted["actor"]) == ("replaced", "here:1")
    assert first.message_id in noted["detail"]


def test_the_message_of_a_waiting_job_that_was_replaced_is_stale(ledger: LedgerUnderTest) -> None:
    first, second = keyed(Mode.REPLACE, body=b"1"), keyed(Mode.REPLACE, body=b"2")
    enqueue(ledger, first)
    [answer] = enqueue(ledger, second)
    assert (answer.id, answer.state, answer.ticket) == (first.id, State.WAITING, 2)
    if ledger.road == "embedded":
        [claim] = ledger.session.take(ledger.worker, {"q": 5})
        assert (claim.id, claim.body, claim.message_id) == (first.id, b"2", second.message_id)
    else:
        assert ledger.claim(first, ticket=1)[0].why == "stale"
        assert ledger.claim(first, ticket=2)[0].verdict is Verdict.RUN


def test_what_has_started_is_not_replaced(ledger: LedgerUnderTest) -> None:
    first, second = keyed(Mode.REPLACE), keyed(Mode.REPLACE)
    enqueue(ledger, first)
    [claim] = ledger.claim(first)
    assert became(ledger, second) == [(second.id, False)]
    ledger.finish(first, claim.epoch, Outcome.RETRYING, delay_ms=HOUR_MS)
    third = keyed(Mode.REPLACE)
    assert became(ledger, third) == [(second.id, False)], "the key went to the second"
    assert ledger.row(first)["ticket"] == 2


def test_a_replaced_job_has_all_its_attempts_before_it(ledger: LedgerUnderTest) -> None:
    job = keyed(Mode.REPLACE)
    enqueue(ledger, job)
    run(ledger, job, Outcome.RETRYING)
    assert ledger.row(job)["attempts"] == 1
    enqueue(ledger, keyed(Mode.REPLACE))
    assert ledger.row(job)["attempts"] == 0


@pytest.mark.parametrize("mode", Mode)
def test_of_several_in_one_batch_the_first_is_recorded_or_the_last_where_it_replaces(
    ledger: LedgerUnderTest, mode: Mode
) -> None:
    batch = [keyed(mode, within_ms=HOUR_MS if mode is Mode.THROTTLE else None, body=b"%d" % n) for n in range(4)]
    winner = batch[-1] if mode is Mode.REPLACE else batch[0]
    other = new_job()
    answers = enqueue(ledger, *batch, other)
    assert {answer.id for answer in answers[:-1]} == {winner.id}
    assert [job.id for job, answer in zip(batch, answers, strict=False) if not answer.duplicate] == [winner.id]
    assert {row["id"] for row in ledger.rows(jobs)} == {winner.id, other.id}
    assert bytes(ledger.rows(payloads, winner)[0]["body"]) == winner.body
    again = [keyed(mode, within_ms=HOUR_MS if mode is Mode.THROTTLE else None, body=b"%d" % n) for n in range(4, 8)]
    assert {answer.id for answer in enqueue(ledger, *again)} == {winner.id}
    assert bytes(ledger.rows(payloads, winner)[0]["body"]) == (b"7" if mode is Mode.REPLACE else winner.body)


@pytest.mark.parametrize("mode", Mode)
def test_the_same_enqueue_again_changes_nothing(ledger: LedgerUnderTest, mode: Mode) -> None:
    """Its answer was lost; meanwhile another took the key."""
    first, second = (keyed(mode, within_ms=HOUR_MS if mode is Mode.THROTTLE else None) for _ in range(2))
    enqueue(ledger, first)
    assert became(ledger, first) == [(first.id, True)]
    run(ledger, first)
    pass_time(ledger)
    enqueue(ledger, second)
    before = ledger.rows(jobs), ledger.rows(uniques)
    assert became(ledger, first) == [(first.id, True)]
    assert (ledger.rows(jobs), ledger.rows(uniques)) == before


def test_the_same_replacement_again_does_not_replace_and_runs_once(ledger: LedgerUnderTest) -> None:
    first, second = keyed(Mode.REPLACE), keyed(Mode.REPLACE)
    enqueue(ledger, first)
    enqueue(ledger, second)
    assert became(ledger, second) == [(first.id, True)]
    run(ledger, first)
    assert became(ledger, second) == [(first.id, True)]
    assert len(ledger.rows(jobs)) == 1


def test_what_follows_a_finish_goes_by_its_keys(ledger: LedgerUnderTest) -> None:
    waiting = keyed(Mode.REPLACE, "cc", body=b"old")
    enqueue(ledger, keyed(), waiting)
    refused, replacing, fresh = keyed(), keyed(Mode.REPLACE, "cc", body=b"new"), keyed(digest="dd")
    parent, epoch = ledger.active()
    finish = Finish(parent.id, epoch, Outcome.COMPLETED, follow_ups=[refused, replacing, fresh])
    [answer] = ledger.session.finish(ledger.worker, [finish])
    sent = {job.id: job for job in answer.send}
    assert sent.keys() == {waiting.id, fresh.id}
    due = sent[waiting.id]
    assert isinstance(due, Due)
    assert (due.ticket, due.body, due.message_id) == (2, b"new", replacing.message_id)


def test_a_job_that_ends_may_be_followed_by_one_of_its_own_key(ledger: LedgerUnderTest) -> None:
    parent = keyed()
    enqueue(ledger, parent)
    [claim] = ledger.claim(parent)
    child = keyed()
    finish = Finish(parent.id, claim.epoch, Outcome.COMPLETED, follow_ups=[child])
    assert [job.id for job in ledger.session.finish(ledger.worker, [finish])[0].send] == [child.id]


def test_a_tick_whose_job_is_refused_is_used_up(ledger: LedgerUnderTest) -> None:
    tick = ("every-minute", datetime(2030, 1, 1, tzinfo=UTC))
    first = keyed()
    enqueue(ledger, first)
    assert became(ledger, keyed(tick=tick)) == [(first.id, True)]
    run(ledger, first)
    late = keyed(tick=tick)
    assert became(ledger, late) == [(late.id, True)]
    assert len(ledger.rows(jobs)) == 1


def test_an_adopted_message_may_be_a_duplicate_or_a_replacement(ledger: LedgerUnderTest) -> None:
    foreign: dict[str, Any] = {"served": True, "event": Event.ADOPTED}
    first = keyed(Mode.REPLACE, delay_ms=HOUR_MS)
    enqueue(ledger, first, keyed(digest="bb"))
    assert enqueue(ledger, keyed(digest="bb", **foreign))[0].duplicate
    assert became(ledger, keyed(Mode.REPLACE, **foreign)) == [(first.id, False)]
    ticket = ledger.ticket(first)
    assert ticket, "the message in hand is used up: the relay sends another, at once"
    assert ticket["due_at"] <= ledger.now()
    assert ledger.events(first) == ["replaced"]


def test_an_enqueue_without_keys_touches_none(ledger: LedgerUnderTest) -> None:
    enqueue(ledger, new_job(), new_job())
    assert ledger.rows(uniques) == []


def test_retention_drops_the_keys_that_nobody_holds_a_few_at_a_time(ledger: LedgerUnderTest) -> None:
    done = [keyed(digest=f"0{n}") for n in range(4)]
    timed = [keyed(Mode.THROTTLE, f"1{n}", within_ms=HOUR_MS) for n in range(4)]
    waiting = [keyed(digest="20"), keyed(Mode.THROTTLE, "21", within_ms=HOUR_MS)]
    enqueue(ledger, *done, *timed, *waiting)
    for job in (*done, *timed):
        run(ledger, job)

    def retain(limit: int) -> set[str]:
        ledger.session.retain({}, NONE_KEPT, history_s=3600, limit=limit)
        return {row["key"] for row in ledger.rows(uniques)}

    assert len(retain(3)) >= 7
    assert retain(100) == {"10", "11", "12", "13", "20", "21"}
    assert len(ledger.rows(history)) == 8
    pass_time(ledger)
    assert len(retain(2)) == 4
    assert retain(100) == {"20", "21"}
    for job in waiting:
        run(ledger, job)
    assert retain(100) == set()
