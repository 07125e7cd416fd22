"""Interrupts land in an actor's body or nowhere."""

import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, cast

import dramatiq
import pytest
from dramatiq import Message
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import Interrupt, Shutdown, SkipMessage, TimeLimitExceeded
from dramatiq.worker import Worker

from errors import Cancelled, InvalidActor, Refusal
from ledger.records import Claim, Verdict
from middleware.attempt import JobMessage
from middleware.deadlines import Deadlines, expires_ms, expiry_ms


@pytest.fixture
def deadlines() -> Iterator[Deadlines]:
    found = Deadlines(time_limit_ms=60_000, max_age_ms=None, grace_s=30, cancel_grace_s=30)
    found.before_worker_boot(cast(Any, None), cast(Any, None))
    yield found
    found.after_worker_shutdown(cast(Any, None), cast(Any, None))


@pytest.fixture
def broker(deadlines: Deadlines) -> StubBroker:
    found = StubBroker(middleware=[])
    found.add_middleware(deadlines)
    return found


def run(broker: StubBroker, actor: Any, **options: Any) -> BaseException | None:
    """What a worker thread does around an actor, with Deadlines alone."""
    message = JobMessage(
        actor.message_with_options(**options), Claim("id", Verdict.RUN), settle=lambda message, answer: None
    )
    broker.emit_before("process_message", message)
    error: BaseException | None = None
    try:
        actor(*message.args)
    except BaseException as caught:
        error = caught
    broker.emit_after("process_message", message, exception=error)
    return error


def test_an_actor_that_runs_too_long_is_interrupted(broker: StubBroker) -> None:
    @dramatiq.actor(broker=broker, time_limit=50)
    def forever() -> None:
        while True:
            time.sleep(0.005)

    assert isinstance(run(broker, forever), TimeLimitExceeded)


def test_the_limit_of_a_message_goes_before_the_actors(broker: StubBroker) -> None:
    @dramatiq.actor(broker=broker, time_limit=1)
    def short() -> None:
        time.sleep(0.05)

    assert run(broker, short, time_limit=60_000) is None


@pytest.mark.parametrize(
    "limit", [pytest.param(10**400, id="huge"), 1e300, float("inf"), float("nan"), "soon", -1, 0, True, None]
)
def test_a_limit_that_nobody_can_wait_for_leaves_the_others_their_own(
    broker: StubBroker, deadlines: Deadlines, limit: Any
) -> None:
    @dramatiq.actor(broker=broker, time_limit=50)
    def forever() -> None:
        while True:
            time.sleep(0.005)

    @dramatiq.actor(broker=broker)
    def quick() -> None:
        assert deadlines._bodies, "it is watched"
        time.sleep(0.05)  # until the watcher has seen it

    assert run(broker, quick, time_limit=limit, cancel_grace=10**400) is None
    assert isinstance(run(broker, forever), TimeLimitExceeded)


def test_a_bad_limit_of_a_message_leaves_the_actors(broker: StubBroker) -> None:
    @dramatiq.actor(broker=broker, time_limit=50)
    def forever() -> None:
        while True:
            time.sleep(0.005)

    assert isinstance(run(broker, forever, time_limit="never"), TimeLimitExceeded)


def test_an_interrupt_that_cannot_be_raised_is_logged_and_others_are_raised(
    broker: StubBroker, deadlines: Deadlines, caplog: pytest.LogCaptureFixture
) -> None:
    @dramatiq.actor(broker=broker, time_limit=50)
    def elsewhere() -> None:
        [body] = deadlines._bodies
        body.thread = 1
        for _ in range(1000):
            if "no thread has the number 1" in caplog.text:
                return
            time.sleep(0.005)

    @dramatiq.actor(broker=broker, time_limit=50)
    def forever() -> None:
        while True:
            time.sleep(0.005)

    assert run(broker, elsewhere) is None
    assert "Job id runs on past TimeLimitExceeded" in caplog.text
    assert isinstance(run(broker, forever), TimeLimitExceeded)


def test_an_actor_called_directly_is_not_limited(broker: StubBroker) -> None:
    @dramatiq.actor(broker=broker, time_limit=1)
    def slow() -> str:
        time.sleep(0.05)
        return "done"

    assert slow() == "done"


def test_the_age_of_a_job_counts_from_when_it_became_due_and_not_from_its_first_send(broker: StubBroker) -> None:
    @dramatiq.actor(broker=broker, max_age=60_000)
    def hurried() -> None: ...

    def begin(age_s: float, tried: bool = False) -> JobMessage:
        message: Message[None] = hurried.message().copy(message_timestamp=1_000)  # 1970
        claim = Claim("id", Verdict.RUN, due_since=time.monotonic() - age_s, tried=tried)
        job = JobMessage(message, claim, settle=lambda message, answer: None)
        broker.emit_before("process_message", job)
        return job

    assert begin(0).ending is None, "an operator sent it round again"
    assert begin(120, tried=True).ending is None
    with pytest.raises(SkipMessage):
        begin(120)


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads take turns often enough for the watcher to come between any two lines."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(0.00005)
    yield
    sys.setswitchinterval(usual)


def test_no_interrupt_ever_lands_outside_the_body(broker: StubBroker, restless: None) -> None:
    """Bodies that end within a hair of their limit, over and over: the code around them is never hit."""

    @dramatiq.actor(broker=broker, time_limit=2)
    def close_to_it(spin_s: float) -> None:
        end = time.perf_counter() + spin_s
        while time.perf_counter() < end:
            pass

    interrupted = 0
    for n in range(1_500):
        try:
            error = run(broker, close_to_it, args=(0.0015 + (n % 50) * 0.00003,))
            for _ in range(50):
                pass  # bytecodes on which a late one would land
        except Interrupt as escaped:
            pytest.fail(f"an interrupt landed after the body, in round {n}: {escaped!r}")
        interrupted += isinstance(error, TimeLimitExceeded)
    assert 0 < interrupted < 1_500, "the rounds must fall on both sides of the limit"


def test_a_shutdown_interrupts_at_once_who_asked_for_it_and_others_after_the_grace(
    broker: StubBroker, deadlines: Deadlines
) -> None:
    deadlines.grace_s = 0.3
    started = threading.Barrier(3)
    ended: dict[str, tuple[float, BaseException | None]] = {}

    def body() -> None:
        started.wait(5)
        while True:
            time.sleep(0.005)

    @dramatiq.actor(broker=broker, notify_shutdown=True)
    def asked() -> None:
        body()

    @dramatiq.actor(broker=broker)
    def patient() -> None:
        body()

    def work(name: str, actor: Any) -> None:
        error = run(broker, actor)
        ended[name] = (time.monotonic(), error)

    threads = [threading.Thread(target=work, args=pair) for pair in (("asked", asked), ("patient", patient))]
    for thread in threads:
        thread.start()
    started.wait(5)
    told = time.monotonic()
    deadlines.before_worker_shutdown(broker, cast(Worker, None))
    for thread in threads:
        thread.join(5)
    assert isinstance(ended["asked"][1], Shutdown)
    assert isinstance(ended["patient"][1], Shutdown)
    assert ended["asked"][0] < ended["patient"][0]
    assert ended["patient"][0] - told >= 0.3


def test_a_job_asked_to_stop_is_interrupted_after_its_grace_and_one_of_another_epoch_is_not(
    broker: StubBroker, deadlines: Deadlines
) -> None:
    told = 0.0

    @dramatiq.actor(broker=broker, cancel_grace=100, time_limit=5_000)
    def act(epoch: int) -> None:
        nonlocal told
        deadlines.cancel([("id", epoch)])
        told = time.monotonic()
        while True:
            time.sleep(0.005)

    assert isinstance(run(broker, act, args=(1,), time_limit=200), TimeLimitExceeded)
    assert isinstance(run(broker, act, args=(0,)), Cancelled)
    assert time.monotonic() - told >= 0.1


def test_being_asked_again_does_not_prolong_the_grace(broker: StubBroker, deadlines: Deadlines) -> None:
    @dramatiq.actor(broker=broker, cancel_grace=100, time_limit=5_000)
    def act() -> None:
        while True:
            deadlines.cancel([("id", 0)])

    assert isinstance(run(broker, act), Cancelled)


def test_without_end_of_its_grace_it_is_only_asked(broker: StubBroker, deadlines: Deadlines) -> None:
    @dramatiq.actor(broker=broker, cancel_grace=float("inf"), time_limit=200)
    def act() -> None:
        deadlines.cancel([("id", 0)])
        while True:
            time.sleep(0.005)

    assert isinstance(run(broker, act), TimeLimitExceeded)


def test_a_job_asked_to_stop_before_its_body_does_not_begin(broker: StubBroker, deadlines: Deadlines) -> None:
    @dramatiq.actor(broker=broker)
    def act() -> None: ...

    deadlines.cancel([("id", 0)])
    with pytest.raises(SkipMessage, match="before it began"):
        run(broker, act)


@pytest.mark.parametrize("grace", [-1, "soon", None, True, float("nan")])
def test_a_grace_that_is_none_is_refused_by_the_actors_name(
    broker: StubBroker, deadlines: Deadlines, grace: Any
) -> None:
    with pytest.raises(InvalidActor, match=r"slow: cancel_grace is a number"):
        dramatiq.actor(broker=broker, actor_name="slow", cancel_grace=grace)(lambda: None)

    @dramatiq.actor(broker=broker, actor_name="slow")
    def act() -> None:
        deadlines.cancel([("id", 0)])
        while True:
            time.sleep(0.005)

    with pytest.raises(Refusal, match=r"slow: cancel_grace is a number"):
        act.send_with_options(cancel_grace=grace)

    deadlines.cancel_grace_s = 0.05
    assert isinstance(run(broker, act, cancel_grace=grace), Cancelled), "of a foreign producer it is ignored"


@pytest.mark.parametrize("name", ["expires", "max_age"])
@pytest.mark.parametrize("value", ["1h", 0, -1, True, float("nan")])
def test_a_time_that_is_none_is_refused_by_name(broker: StubBroker, name: str, value: Any) -> None:
    with pytest.raises(InvalidActor, match=rf"actor 'late': {name} is a number of milliseconds"):

        @dramatiq.actor(broker=broker, **{name: value})
        def late() -> None: ...

    message: Message[Any] = Message("q", "late", (), {}, {name: value})
    with pytest.raises(Refusal, match=rf"late: {name} is a number of milliseconds"):
        expires_ms(None, message, None)


def test_a_message_says_more_of_its_expiry_than_its_actor_and_that_more_than_the_setting() -> None:
    assert expiry_ms({}, {}, None) is None
    assert expiry_ms({}, {}, 9) == 9
    assert expiry_ms({"max_age": 5}, {}, 9) == 5
    assert expiry_ms({"expires": 5, "max_age": 6}, {}, 9) == 5
    assert expiry_ms({"expires": 5}, {"max_age": 7}, 9) == 7
    assert expiry_ms({"expires": 5}, {"expires": None}, 9) is None
    assert expiry_ms({"expires": 5}, {"expires": float("inf")}, 9) is None
    assert expiry_ms({}, {"max_age": "of a stranger"}, 9) is None
