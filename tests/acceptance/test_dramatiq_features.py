"""What Dramatiq's users know keeps working, recorded in the ledger."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.evidence import Job, job, nothing_left, ran
from tests.acceptance.system import System, system


@pytest.fixture(scope="module", params=["embedded-sqlite", "rabbitmq-postgresql"])
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One system with one worker for all tests of this module, which tell their jobs apart by line."""
    folder: Path = tmp_path_factory.mktemp("features")
    broker_url = None
    if request.param == "embedded-sqlite":
        shutil.copy(request.getfixturevalue("_sqlite_template"), folder / "hareline.db")
        database_url = f"sqlite:///{folder / 'hareline.db'}"
    else:
        postgres, rabbitmq = request.getfixturevalue("postgres"), request.getfixturevalue("rabbitmq")
        database_url = postgres.create_database(template=request.getfixturevalue("_postgres_template"))
        rabbitmq.start()
        broker_url = rabbitmq.new_vhost()
    with system(folder, database_url, broker_url) as found:
        found.worker(app="tests.acceptance.features")
        found.shell("tests.acceptance.features")
        yield found
        nothing_left(found)


def finish(running: System, code: str, line: str) -> Job:
    """Run ``code``, and wait until the job with ``line`` is finished, and all that followed from it."""
    send(running, code)
    running.finished(1)
    return job(running, line)


def send(running: System, code: str) -> str:
    return running.shells[0].run(code)


def test_a_job_that_keeps_failing_is_a_dead_letter_with_every_traceback(running: System) -> None:
    found = finish(running, "fail.send(log, 'fails')", "fails")
    assert (found.state, found.reason, found.attempts) == ("failed", "retries_exhausted", 3)
    assert found.outcomes == ["retrying", "retrying", "failed"]
    assert found.errors == ["RuntimeError: no luck with fails"] * 3
    traces = running.sql("SELECT traceback FROM attempts WHERE job_id = :id", id=found.id)
    assert len(traces) == 3
    assert all("in fail\n" in str(text) and "no luck with fails" in str(text) for (text,) in traces)
    assert ran(running)["fails"] == 3


def test_a_job_that_fails_once_completes(running: System) -> None:
    found = finish(running, "fail_once.send(log, 'fails once')", "fails once")
    assert (found.state, found.outcomes, found.attempts) == ("completed", ["retrying", "completed"], 2)


def test_an_actor_may_say_when_to_retry(running: System) -> None:
    found = finish(running, "ask_for_a_retry.send(log, 'retry', 30)", "retry")
    assert (found.state, found.outcomes, found.attempts) == ("completed", ["retrying", "completed"], 2)


def test_an_actor_with_atomic_sends_sends_once_however_often_it_is_tried(running: System) -> None:
    found = finish(running, "send_two_and_fail_once.send(log, 'atomic')", "atomic")
    assert (found.state, found.outcomes) == ("completed", ["retrying", "completed"])
    assert ran(running)["atomic"] == 2
    assert ran(running)["atomic, first child"] == ran(running)["atomic, second child"] == 1


def test_an_actor_may_discard_its_job(running: System) -> None:
    found = finish(running, "discard.send(log, 'discarded')", "discarded")
    assert (found.state, found.reason, found.outcomes) == ("failed", "discarded", ["failed"])


def test_a_snooze_costs_no_attempt(running: System) -> None:
    found = finish(running, "snooze.send(log, 'snoozed')", "snoozed")
    assert (found.state, found.outcomes, found.attempts) == ("completed", ["snoozed", "completed"], 1)


def test_an_exception_the_actor_throws_is_never_retried(running: System) -> None:
    found = finish(running, "refuse.send(log, 'refused')", "refused")
    assert (found.state, found.reason, found.outcomes) == ("failed", "refused", ["failed"])


@pytest.mark.parametrize(("other_at", "tries"), [(3, 3), (99, 5)])
def test_retry_when_decides(running: System, other_at: int, tries: int) -> None:
    line = f"picky {other_at}"
    found = finish(running, f"fail_pickily.send(log, {line!r}, {other_at})", line)
    assert (found.state, found.reason, found.attempts) == ("failed", "retries_exhausted", tries)


def test_on_retry_exhausted_is_told_once(running: System) -> None:
    finish(running, "fail_and_tell.send(log, 'tells')", "tells")
    assert [line for line in running.ran() if "told of tells" in line] == ["told of tells after 1 retries of 1"]


@pytest.mark.parametrize("option", ["max_age", "expires"])
def test_a_job_older_than_its_max_age_does_not_start(running: System, option: str) -> None:
    code = (
        "broker.enqueue(nap.message(log, 'the one before', 0.5).copy(queue_name='narrow'))\n"
        f"record_narrow.send_with_options(args=(log, 'old {option}'), {option}=100)"
    )
    found = finish(running, code, f"old {option}")
    assert (found.state, found.reason) == ("failed", "expired")
    assert ran(running)[f"old {option}"] == 0


def test_the_age_of_a_job_counts_from_when_it_became_due(running: System) -> None:
    code = "record.send_with_options(args=(log, 'late by wish'), delay=5_100, max_age=5_000)"
    assert finish(running, code, "late by wish").state == "completed"


def test_results_can_be_waited_for(running: System) -> None:
    code = "print([actor.send(2, n).get_result(block=True) for n in range(3) for actor in (add, add_later)])"
    assert json.loads(send(running, code)) == [2, 2, 3, 3, 4, 4]


def test_the_result_of_a_failed_job_raises_what_the_actor_raised(running: System) -> None:
    code = (
        "from dramatiq.results import ResultFailure, ResultMissing, ResultTimeout\n"
        "message = divide.send(1, 0)\n"
        "try: message.get_result(block=True)\n"
        "except ResultFailure as error: print(error.orig_exc_type, error.orig_exc_msg)\n"
        "message = add.send_with_options(args=(1, 1), delay=500)\n"
        "for wait in ({}, {'block': True, 'timeout': 10}):\n"
        "    try: message.get_result(**wait)\n"
        "    except (ResultMissing, ResultTimeout) as error: print(type(error).__name__)\n"
        "print(message.get_result(block=True))"
    )
    printed = ["ZeroDivisionError division by zero", "ResultMissing", "ResultTimeout", "2"]
    assert send(running, code).splitlines() == printed


def test_a_result_that_is_not_json_is_not_kept_and_the_attempt_says_so(running: System) -> None:
    found = finish(running, "answer_with_an_object.send(log, 'an object')", "an object")
    assert (found.state, found.outcomes) == ("completed", ["completed"])
    assert found.errors[0].startswith("errors.InvalidResult: answer_with_an_object: ")
    assert ran(running)["an object"] == 1


def test_an_async_actor_is_interrupted_at_its_time_limit(running: System) -> None:
    found = finish(running, "sleep_long.send(log, 'async')", "async")
    assert (found.state, found.outcomes) == ("failed", ["failed"])
    assert found.errors[0].startswith("dramatiq.middleware.time_limit.TimeLimitExceeded")


def test_a_pipeline_hands_each_result_to_the_next(running: System) -> None:
    code = (
        "from dramatiq import pipeline\n"
        "print((add.message(1, 2) | add_later.message(10) | add.message(100)).run().get_result(block=True))\n"
        "print(list(pipeline([add.message(1, 2), add.message_with_options(args=(5, 6), pipe_ignore=True)]).run()"
        ".get_results(block=True)))"
    )
    assert send(running, code).splitlines() == ["113", "[3, 11]"]


def test_a_group_calls_back_once_when_all_its_jobs_have_completed(running: System) -> None:
    code = (
        "from dramatiq import group\n"
        "jobs = group([add.message(n, n) for n in range(20)] + [add.message(1, 2) | add.message(3)])\n"
        "jobs.add_completion_callback(record.message(log, 'group is over'))\n"
        "print(sorted(jobs.run().get_results(block=True)))"
    )
    assert json.loads(send(running, code)) == sorted([2 * n for n in range(20)] + [6])
    running.until(lambda: ran(running)["group is over"] == 1)
    running.finished(1)
    assert ran(running)["group is over"] == 1
    assert running.sql("SELECT * FROM groups") == []


def test_callbacks_are_told_how_it_ended(running: System) -> None:
    finish(running, "call_back.send(log, 'good', False)\ncall_back.send(log, 'bad', True)", "good")
    told = [line for line in running.ran() if line.startswith(("good ", "bad "))]
    assert sorted(told) == ["bad failed with RuntimeError", "good gave 42"]


def test_a_middleware_may_skip_a_message(running: System) -> None:
    found = finish(running, "record.send_with_options(args=(log, 'skipped'), skip=True)", "skipped")
    assert (found.state, found.outcomes) == ("completed", ["skipped"])
    assert ran(running)["skipped"] == 0


def test_an_actor_sees_its_message(running: System) -> None:
    finish(running, "name_itself.send(log, 'this')", "this")
    assert ran(running)["this is name_itself of work"] == 1
