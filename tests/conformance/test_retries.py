"""Retries, backoff, dead letters."""

import pytest
from dramatiq.results.errors import ResultFailure

from control.dead import retry
from errors import Discard, Retry, Snooze
from ledger.states import Outcome, Reason
from middleware.current import current_job
from tests.conformance.system import System


def test_a_job_that_fails_is_tried_again_after_its_backoff(system: System) -> None:
    @system.actor(max_retries=2, min_backoff=40)
    def flaky() -> None:
        if current_job().attempt <= 2:
            raise RuntimeError(f"no luck {current_job().attempt}")

    message = flaky.send()
    system.work()
    assert system.finished(1) == {"completed": 1}
    job = system.job(message)
    assert job.attempts_spent == 3
    assert [x.outcome for x in job.attempts] == [Outcome.RETRYING, Outcome.RETRYING, Outcome.COMPLETED]
    assert [x.error_message for x in job.attempts] == ["no luck 1", "no luck 2", None]
    first, second, third = job.attempts
    assert (second.started_at - first.finished_at).total_seconds() >= 0.04
    assert (third.started_at - second.finished_at).total_seconds() >= 0.08, "doubled"


def test_a_job_whose_retries_are_spent_is_a_dead_letter_that_keeps_every_attempt(system: System) -> None:
    @system.actor()
    def bereaved(message: dict[str, object], info: dict[str, int]) -> None:
        system.note(("told", info["retries"]))

    @system.actor(max_retries=1, min_backoff=10, on_retry_exhausted="bereaved")
    def hopeless() -> None:
        raise RuntimeError("never")

    message = hopeless.send()
    system.work()
    assert system.finished(2) == {"completed": 1, "failed": 1}
    job = system.job(message)
    assert job.reason is Reason.RETRIES_EXHAUSTED
    assert [x.outcome for x in job.attempts] == [Outcome.RETRYING, Outcome.FAILED]
    assert all("hopeless" in (x.traceback or "") for x in job.attempts)
    assert system.notes == [("told", 1)]


def test_a_dead_letter_that_is_retried_starts_anew(system: System) -> None:
    mended = False

    @system.actor(max_retries=0)
    def broken() -> None:
        if not mended:
            raise RuntimeError("broken")

    message = broken.send()
    system.work()
    assert system.finished(1) == {"failed": 1}
    mended = True
    assert retry(system.control, by="a test") == [system.job(message).id]
    assert system.finished(1) == {"completed": 1}
    assert system.job(message).attempts_spent == 1


def test_an_actor_says_how_its_attempt_ends(system: System) -> None:
    @system.actor(max_retries=1, min_backoff=3_600_000)
    def speak(word: str) -> None:
        if current_job().message_id in system.notes:
            return
        system.note(current_job().message_id)
        raise {"retry": Retry("soon", delay=10), "snooze": Snooze(10), "discard": Discard("never")}[word]

    retried, snoozed, discarded = speak.send("retry"), speak.send("snooze"), speak.send("discard")
    system.work()
    assert system.finished(3) == {"completed": 2, "failed": 1}
    assert system.job(retried).attempts_spent == 2
    assert system.job(snoozed).attempts_spent == 1, "a snooze costs none"
    assert system.job(discarded).reason is Reason.DISCARDED
    assert len(system.notes) == 3


def test_an_exception_that_is_thrown_on_purpose_is_not_retried(system: System) -> None:
    @system.actor(throws=(KeyError,))
    def refuse() -> None:
        raise KeyError("expected")

    message = refuse.send()
    system.work()
    assert system.finished(1) == {"failed": 1}
    assert (system.job(message).reason, system.job(message).attempts_spent) == (Reason.REFUSED, 1)


def test_the_result_of_a_job_is_what_its_last_attempt_returned_or_raised(system: System) -> None:
    @system.actor(store_results=True, max_retries=1, min_backoff=10)
    def divide(x: int, y: int) -> float:
        if current_job().attempt == 1:
            raise RuntimeError("first")
        return x / y

    good, bad = divide.send(1, 4), divide.send(1, 0)
    system.work()
    assert good.get_result(block=True, timeout=20_000) == 0.25
    with pytest.raises(ResultFailure, match="division by zero"):
        bad.get_result(block=True, timeout=20_000)
