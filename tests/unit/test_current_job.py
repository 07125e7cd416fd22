"""What can be said of the current job without a worker; the rest is in tests/acceptance."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dramatiq
import pytest
from dramatiq.middleware import SkipMessage

from broker import Broker, build
from errors import CheckpointTooLarge, InvalidReport, LeaseLost, NoCurrentJob
from ledger.records import Claim, Verdict
from middleware.attempt import JobMessage
from middleware.current import CurrentJob, current_job, current_job_or_none
from settings import Settings

THEN = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def broker(tmp_path: Path) -> Broker:
    return build(Settings(database_url=f"sqlite:///{tmp_path / 'hareline.db'}"))


def claimed(actor: Any, **options: Any) -> JobMessage:
    return JobMessage(
        actor.message_with_options(**options),
        Claim("id", Verdict.RUN, epoch=1, created_at=THEN, due_at=THEN, due_since=0.0),
        settle=lambda message, answer: None,
    )


def test_outside_a_job_there_is_none_and_the_error_says_what_to_do() -> None:
    assert current_job_or_none() is None
    with pytest.raises(NoCurrentJob, match=r"outside a job.*current_job_or_none\(\)"):
        current_job()


def test_an_actor_called_directly_is_no_job(broker: Broker) -> None:
    @dramatiq.actor(broker=broker)
    def act() -> CurrentJob | None:
        return current_job_or_none()

    assert act() is None


def test_it_is_there_from_before_the_body_until_after_it(broker: Broker) -> None:
    @dramatiq.actor(broker=broker)
    def act() -> None: ...

    message = claimed(act)
    broker.emit_before("process_message", message)
    job = current_job()
    assert (job.id, job.actor, job.queue, job.attempt, job.created_at, job.due) == (
        "id",
        "act",
        "default",
        1,
        THEN,
        THEN,
    )
    seen: list[CurrentJob | None] = []
    thread = threading.Thread(target=lambda: seen.append(current_job_or_none()))
    thread.start()
    thread.join()
    assert seen == [None], "a thread is given it"
    broker.emit_after("process_message", message)
    assert current_job_or_none() is None
    broker.close()


def test_it_is_gone_after_a_job_that_was_skipped(broker: Broker) -> None:
    @dramatiq.actor(broker=broker, max_age=1)
    def old() -> None: ...

    message = claimed(old)
    message.message_timestamp = 0
    with pytest.raises(SkipMessage):
        broker.emit_before("process_message", message)
    assert current_job().actor == "old"
    broker.emit_after("skip_message", message)
    assert current_job_or_none() is None
    broker.close()


@pytest.fixture
def job(broker: Broker) -> Iterator[CurrentJob]:
    """A job whose body runs."""

    @dramatiq.actor(broker=broker)
    def act() -> None: ...

    message = claimed(act)
    broker.emit_before("process_message", message)
    yield current_job()
    broker.emit_after("process_message", message)
    broker.close()


@pytest.mark.parametrize(
    ("report", "named"),
    [
        ((-1,), "done is a number of at least 0, got -1"),
        ((float("nan"), 2), "done is a number of at least 0, got nan"),
        ((float("inf"),), "done is a number"),
        ((10**400,), "done is a number"),
        (("1",), "done is a number of at least 0, got '1'"),
        ((True,), "done is a number"),
        ((None,), "done is a number"),
        ((1, -2), "total is a number of at least 0, got -2"),
        ((1, float("nan")), "total is a number"),
        ((1, "2"), "total is a number"),
        ((3, 2), r"done \(3\) is more than total \(2\)"),
        ((1, 2, 3), "note is a text, got 3"),
    ],
)
def test_progress_that_is_none_is_refused_by_name(job: CurrentJob, report: Any, named: str) -> None:
    with pytest.raises(InvalidReport, match=named):
        job.progress(*report)


@pytest.mark.parametrize(
    ("state", "named"),
    [
        (object(), "cannot be written as JSON .*object is not JSON serializable.*plain values"),
        ({"at": THEN}, "datetime is not JSON serializable"),
        (float("nan"), "cannot be written as JSON"),
        (b"bytes", "cannot be written as JSON"),
        (None, "None stands for no checkpoint"),
    ],
)
def test_a_state_that_is_no_json_is_refused_by_name(job: CurrentJob, state: Any, named: str) -> None:
    with pytest.raises(InvalidReport, match=named):
        job.checkpoint(state)


def test_a_state_over_the_limit_is_refused_with_both_sizes(job: CurrentJob) -> None:
    with pytest.raises(CheckpointTooLarge, match=r"102,401 bytes, the limit is 102,400;.*MAX_CHECKPOINT_BYTES"):
        job.checkpoint("x" * (102_400 - 1))


def test_a_checkpoint_of_a_job_the_ledger_gave_to_nobody_here_is_refused(job: CurrentJob) -> None:
    assert job.state is None
    with pytest.raises(LeaseLost, match="nothing was kept"):
        job.checkpoint({"rows": 1})
    assert job.state is None
