"""What becomes of a send, as far as it can be said without a worker; the rest is in tests/acceptance."""

import itertools
from pathlib import Path
from typing import Any

import dramatiq
import pytest
from dramatiq import Middleware
from dramatiq.broker import MessageProxy
from dramatiq.errors import QueueJoinTimeout
from dramatiq.results import ResultFailure, Results

from broker import Broker, build
from errors import Refusal
from ledger.records import LONGEST_DELAY_MS, Claim, Verdict
from ledger.states import Outcome, State
from middleware.attempt import JobMessage
from settings import Settings


@pytest.fixture
def broker(tmp_path: Path) -> Broker:
    return build(Settings(database_url=f"sqlite:///{tmp_path / 'hareline.db'}"))


def recorded(broker: Broker) -> int:
    return sum(sum(states.values()) for states in broker.queries.counts().values())


def test_what_a_hook_sends_after_a_job_was_handed_over_for_recording_is_recorded_by_itself(broker: Broker) -> None:
    @dramatiq.actor(broker=broker)
    def alarm() -> None: ...

    class Alarm(Middleware):
        def after_nack(self, broker: dramatiq.Broker, message: MessageProxy) -> None:
            alarm.send()

    broker.add_middleware(Alarm())
    job = JobMessage(alarm.message(), Claim("id", Verdict.RUN), settle=lambda job, answer: None)
    broker.emit_after("nack", job)
    assert (len(job.follow_ups), recorded(broker)) == (1, 0), "it commits with the job's finish"
    job.submitted = True
    broker.emit_after("nack", job)
    assert (len(job.follow_ups), recorded(broker)) == (1, 1)
    broker.close()


def test_joining_a_queue_is_not_fooled_by_a_job_that_moves_between_states(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.declare_queue("default")
    states = itertools.cycle([State.ACTIVE, State.DELAYED, State.WAITING])
    monkeypatch.setattr(broker.queries, "counts", lambda: {"default": {next(states): 1}})
    with pytest.raises(QueueJoinTimeout):
        broker.join("default", timeout=200)


@pytest.mark.parametrize("refused", [False, True])
def test_the_callbacks_of_a_group_pass_the_same_checks_as_any_send(broker: Broker, refused: bool) -> None:
    @dramatiq.actor(broker=broker)
    def member() -> None: ...

    class Policy(Middleware):
        def before_enqueue(self, broker: dramatiq.Broker, message: dramatiq.Message[Any], delay: int) -> None:
            if refused and message.args == ("secret",):
                raise Refusal("not that")
            message.options["checked"] = True

    broker.add_middleware(Policy())
    callbacks = [
        dramatiq.Message("default", "member", (argument,), {}, {}).asdict() for argument in ("public", "secret")
    ]
    options: dict[str, Any] = {"group_completion_uuid": "g", "group_completion_callbacks": callbacks}
    message = member.message_with_options(**options)
    job = JobMessage(message, Claim("id", Verdict.RUN), settle=lambda job, answer: None)
    job.end(Outcome.COMPLETED)
    broker.recorder.finish = lambda finish, answer: None  # type: ignore[method-assign]
    broker.emit_after("process_message", job)
    assert (recorded(broker), job.follow_ups) == (0, []), "they commit with the finish of the last one"
    if refused:
        assert (job.group, job.group_jobs, job.troubles) == (None, [], ["Groups: not that"])
    else:
        assert [b'"checked": true' in x.body or b'"checked":true' in x.body for x in job.group_jobs] == [True, True]
        assert (job.group, job.troubles) == ("g", [])
    broker.close()


def test_nobody_waits_for_the_result_of_a_cancelled_job(broker: Broker) -> None:
    @dramatiq.actor(broker=broker, store_results=True)
    def never() -> None: ...

    message = never.send()
    broker.flush("default")
    backend = next(x.backend for x in broker.middleware if isinstance(x, Results))
    with pytest.raises(ResultFailure, match="cancelled"):
        message.get_result(backend=backend, block=True, timeout=600_000)
    broker.close()


@pytest.mark.parametrize("delay", [-1, True, "1", float("inf"), float("nan"), LONGEST_DELAY_MS + 1])
def test_a_delay_that_is_none_is_refused(broker: Broker, delay: Any) -> None:
    @dramatiq.actor(broker=broker)
    def later() -> None: ...

    with pytest.raises(Refusal, match="a delay is a number of milliseconds"):
        later.send_with_options(delay=delay)


def test_a_delay_of_a_hundred_years_is_kept_and_listed(broker: Broker) -> None:
    @dramatiq.actor(broker=broker)
    def later() -> None: ...

    later.send_with_options(delay=LONGEST_DELAY_MS)
    [row] = broker.queries.jobs()
    assert row.run_at.year - row.created_at.year == 100
    broker.close()


def test_no_attempt_puts_a_job_off_for_longer() -> None:
    job = JobMessage(
        dramatiq.Message("q", "act", (), {}, {}), Claim("id", Verdict.RUN), settle=lambda job, answer: None
    )
    job.end(Outcome.RETRYING, delay_ms=10**15)
    assert job.ending is not None
    assert job.ending.delay_ms == LONGEST_DELAY_MS
