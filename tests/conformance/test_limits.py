"""Rate limits, by the times at which attempts started according to the ledger."""

from dramatiq.message import Message

from control.limits import change
from errors import RateLimited
from ledger.states import Outcome
from middleware.rates import Rate
from settings import QueueSettings
from tests.conformance.system import System


def starts(system: System, *messages: Message[None]) -> list[float]:
    """When the attempts that ran began, in seconds."""
    attempts = [attempt for message in messages for attempt in system.job(message).attempts]
    return sorted(x.started_at.timestamp() for x in attempts if x.outcome is not Outcome.PARKED)


def kept(times: list[float], interval_s: float) -> bool:
    """Whether nowhere more of them began than the rate and its burst of one allow; a job may come late for its slot."""
    return all(
        later - earlier >= (between - 1) * interval_s - 0.001
        for place, earlier in enumerate(times)
        for between, later in enumerate(times[place:])
    )


def test_jobs_start_no_faster_than_their_rate_and_waiting_costs_no_attempt(system: System) -> None:
    @system.actor(rate_limit=Rate(10))
    def tick() -> None: ...

    sent = [tick.send() for _ in range(6)]
    system.work()
    assert system.finished(6) == {"completed": 6}
    assert kept(starts(system, *sent), 0.1)
    assert {system.job(message).attempts_spent for message in sent} == {1}


def test_a_burst_is_let_through_at_once(system: System) -> None:
    @system.actor(rate_limit=Rate(1, per=60, burst=3))
    def tick() -> None: ...

    sent = [tick.send() for _ in range(4)]
    system.work()
    system.until(lambda: system.states() == {"completed": 3, "delayed": 1})
    assert len(starts(system, *sent)) == 3


def test_every_value_of_a_key_has_a_limit_of_its_own(system: System) -> None:
    @system.actor(rate_limit=Rate(1, per=60, key="user"))
    def mail(user: str) -> None:
        system.note(user)

    for user in ("ada", "ada", "bob"):
        mail.send(user)
    system.work()
    system.until(lambda: system.states() == {"completed": 2, "delayed": 1})
    assert sorted(system.notes) == ["ada", "bob"]


def test_a_job_may_cost_several_starts(system: System) -> None:
    @system.actor(rate_limit=Rate(20))
    def weigh() -> None: ...

    sent = [weigh.send_with_options(cost=4) for _ in range(3)]
    system.work()
    assert system.finished(3) == {"completed": 3}
    assert kept(starts(system, *sent), 0.2)


def test_a_429_quiets_the_whole_limit(system: System) -> None:
    @system.actor(rate_limit=Rate(100))
    def call(name: str) -> None:
        if name == "first" and "first" not in system.notes:
            system.note(name)
            raise RateLimited(retry_after=500)
        system.note(name)

    first = call.send("first")
    system.work()
    system.noted("first")
    system.until(lambda: system.job(first).attempts)
    second = call.send("second")
    assert system.finished(2) == {"completed": 2}
    refused, *again = starts(system, first, second)
    assert min(again) - refused >= 0.499
    assert system.job(first).attempts_spent == 1, "what was refused cost none"


def test_a_queue_has_a_rate_too_for_all_its_actors(system: System) -> None:
    limited = system.another(queues={"work": QueueSettings(rate="10/s")})

    @limited.actor()
    def one() -> None: ...

    @limited.actor()
    def other() -> None: ...

    sent = [actor.send() for actor in (one, other) * 2]
    limited.work()
    assert system.finished(4) == {"completed": 4}
    assert kept(starts(system, *sent), 0.1)


def test_two_processes_share_a_limit(system: System) -> None:
    processes = [system, system.another()]
    for process in processes:

        @process.actor(rate_limit=Rate(10))
        def tick() -> None: ...

    sent = [tick.send() for _ in range(8)]
    for process in processes:
        process.work()
    assert system.finished(8) == {"completed": 8}
    assert kept(starts(system, *sent), 0.1)


def test_an_operator_changes_a_rate(system: System) -> None:
    @system.actor(rate_limit=Rate(1, per=3_600))
    def rare() -> None: ...

    change(system.control, "actor:rare", 100, 1.0, 1, by="a test")
    for _ in range(5):
        rare.send()
    system.work()
    assert system.finished(5) == {"completed": 5}
