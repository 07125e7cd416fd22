"""``concurrency``, ``max_running`` and ``sequence``: what is asked of the ledger, and what is refused by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dramatiq
import pytest
from dramatiq import Actor

from broker import Broker, build
from broker.making import job_of, received
from errors import InvalidActor, Refusal, SettingsError
from ledger.records import Line
from ledger.states import Outcome
from middleware.concurrency import Concurrency, ConcurrencyLimits
from middleware.rates import Rate
from middleware.sequence import Sequence
from middleware.unique import Unique
from settings import QueueSettings, Settings, load


@pytest.fixture
def broker(tmp_path: Path) -> Any:
    settings = Settings(
        database_url=f"sqlite:///{tmp_path / 'hareline.db'}", queues={"default": QueueSettings(max_running=4)}
    )
    found = build(settings)
    yield found
    found.close()


def actor(broker: Broker, **options: Any) -> Actor[..., None]:
    def mail(user: Any, text: str = "", *, note: str = "") -> None: ...

    made: Callable[[Callable[..., None]], Actor[..., None]] = dramatiq.actor(broker=broker, **options)
    return made(mail)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"count": 0}, "count is a whole number of at least 1, got 0"),
        ({"count": True}, "count is a whole number"),
        ({"count": 1.5}, "count is a whole number"),
        ({"count": 1, "key": "user id"}, "key is the name of a parameter"),
    ],
)
def test_a_limit_that_cannot_be_is_refused_by_name(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Concurrency(**options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"key": "user id"}, "key is the name of a parameter"),
        ({"key": "user", "name": " "}, "name is a text that its actors share"),
        ({"key": "user", "on_failure": "stop"}, "on_failure is 'continue' or 'hold', got 'stop'"),
    ],
)
def test_a_sequence_that_cannot_be_is_refused_by_name(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Sequence(**options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"concurrency": 3}, "concurrency is a Concurrency or a list of them, got 3"),
        ({"concurrency": [Concurrency(1), Concurrency(2)]}, "two limits for all its jobs; leave one"),
        ({"concurrency": Concurrency(1, key="usr")}, "concurrency by 'usr': 'usr' is no parameter .* is 'user'"),
        ({"sequence": "usr.id"}, "sequence by 'usr.id': 'usr' is no parameter of it; the nearest is 'user'"),
        ({"sequence": "user id"}, "key is the name of a parameter"),
        ({"sequence": 7}, "sequence is the name of a parameter, or a Sequence, got 7"),
        ({"sequence": "user", "unique": Unique(mode="replace")}, "cannot be replaced; use another mode of unique"),
        ({"concurency": Concurrency(1)}, "the nearest is 'concurrency'"),
    ],
)
def test_an_actor_whose_limits_mean_nothing_is_refused_by_name(
    broker: Broker, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidActor, match=words):
        actor(broker, **options)


@pytest.mark.parametrize("text", ["0", "-1", "many", "1.5"])
def test_a_queues_limit_that_cannot_be_is_refused_by_name(text: str) -> None:
    with pytest.raises(SettingsError, match=r"queues\.email\.max_running"):
        load({"HARELINE_QUEUES__EMAIL__MAX_RUNNING": text})


def test_every_limit_has_a_name_for_operators(broker: Broker) -> None:
    actor(broker, concurrency=[Concurrency(3), Concurrency(1, key="user.id")])
    [limits] = [middleware for middleware in broker.middleware if isinstance(middleware, ConcurrencyLimits)]
    assert {rule: limit.count for rule, limit in limits.rules.items()} == {
        "running:queue:default": 4,
        "running:actor:mail": 3,
        "running:actor:mail:user.id": 1,
    }


@pytest.mark.parametrize(
    ("args", "kwargs"), [(({"id": 7},), {}), ((), {"user": {"id": 7}}), (({"id": 7}, "text"), {"note": "n"})]
)
def test_the_same_argument_is_the_same_line_however_it_is_given(
    broker: Broker, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    mail = actor(broker, sequence=Sequence("user.id", name="users", on_failure="hold"))
    line = job_of(broker, mail.message(*args, **kwargs)).line
    assert line == Line("sequence:users=7", "sequence:users", hold=True)
    assert received(broker, mail.message(*args, **kwargs), None)[1:3] == (None, line), "a foreign message too"


def test_a_message_that_would_replace_one_of_a_sequence_is_refused(broker: Broker) -> None:
    mail = actor(broker, sequence="user")
    with pytest.raises(Refusal, match="keeps its place, so it cannot be replaced"):
        mail.send_with_options(args=(1,), unique=Unique(mode="replace"))
    mail.send_with_options(args=(1,), unique=Unique())


def test_a_worker_runs_no_more_than_may_and_gives_back_what_its_rate_holds_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The slot is asked for before the rate, and is not kept while the job waits for its start."""
    system = dramatiq_system(tmp_path)
    rows = system.queries.jobs(archived=False)
    assert {row.attempts_spent for row in rows} == {1}
    parked = [x for row in rows if (job := system.queries.job(row.id)) for x in job.attempts if x.number is None]
    assert {x.outcome for x in parked} == {Outcome.PARKED}
    assert {x.error_message for x in parked} == {"running:actor:fetch: 1 of 1 running", None}, "None: by its rate"
    assert "CRITICAL" not in caplog.text
    system.close()


def dramatiq_system(tmp_path: Path) -> Broker:
    """A worker in this process has run five jobs, one at a time and four a second."""
    broker = build(Settings(database_url=f"sqlite:///{tmp_path / 'hareline.db'}"))
    running: list[int] = []
    most: list[int] = []

    @dramatiq.actor(broker=broker, concurrency=Concurrency(1), rate_limit=Rate(4))
    def fetch(n: int) -> None:
        running.append(n)
        most.append(len(running))
        running.remove(n)

    broker.enqueue_many([fetch.message(n) for n in range(5)])
    worker = dramatiq.Worker(broker, worker_timeout=50)
    worker.start()
    broker.join("default", timeout=30_000)
    worker.stop()
    assert (len(most), max(most)) == (5, 1)
    return broker
