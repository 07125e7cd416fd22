"""Listeners are declared well, and can neither hold up nor hide anything."""

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dramatiq
import pytest
from dramatiq.brokers.stub import StubBroker

from broker import build
from broker.broker import Broker
from errors import InvalidListener, UnknownEvent
from ledger.events import Happened
from ledger.records import Claim, Finish, Finished, Verdict
from ledger.states import Outcome, Reason, State
from middleware import listeners as module
from middleware.events import JobEvent, on
from settings import Settings

CLAIM = Claim("job", Verdict.RUN, epoch=1, attempts=1, queue="email", message_id="m")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    found = build(Settings(database_url=f"sqlite:///{tmp_path / 'h.db'}"))
    yield found
    found.close()


def end(broker: Broker, outcome: Outcome, state: State, **more: Any) -> None:
    broker.listeners.ended(CLAIM, None, Finish("job", 1, outcome, **more), Finished("job", True, state))


def test_an_event_is_what_became_of_the_job(broker: Broker) -> None:
    told: list[JobEvent] = []
    on("finished", "retrying", "snoozed", broker=broker)(told.append)
    end(broker, Outcome.COMPLETED, State.COMPLETED, result=b"1")
    end(broker, Outcome.SKIPPED, State.COMPLETED)
    end(broker, Outcome.RETRYING, State.DELAYED, error_type="ValueError")
    end(broker, Outcome.RETRYING, State.CANCELLED)
    end(broker, Outcome.FAILED, State.FAILED, reason=Reason.EXPIRED)
    end(broker, Outcome.FAILED, State.FAILED, reason=Reason.REFUSED)
    end(broker, Outcome.PARKED, State.DELAYED)
    assert broker.listeners.drain(10)
    names = ["completed", "completed", "retrying", "cancelled", "expired", "failed"]
    assert [event.event.value for event in told] == names
    assert [event.has_result for event in told] == [True, False, False, False, False, False]
    assert (told[0].job, told[0].message_id, told[0].queue, told[0].attempt) == ("job", "m", "email", 2)
    assert (told[2].error_type, told[5].reason) == ("ValueError", "refused")


def test_only_what_was_asked_for_is_told(broker: Broker) -> None:
    told: list[JobEvent] = []
    on("dead", queue="email", broker=broker)(told.append)
    on("dead", queue="other", broker=broker)(told.append)
    on("dead", actor="somebody", broker=broker)(told.append)
    end(broker, Outcome.FAILED, State.FAILED)
    end(broker, Outcome.COMPLETED, State.COMPLETED)
    assert broker.listeners.drain(10)
    assert [event.event for event in told] == [Happened.FAILED]


def test_a_listener_that_fails_is_put_down_once_a_minute_and_the_others_are_told(broker: Broker) -> None:
    told: list[JobEvent] = []
    noted: list[tuple[str, Mapping[str, Any]]] = []
    broker.listeners.note = lambda listener, what: noted.append((listener, what))

    @on("completed", broker=broker)
    def stumble(event: JobEvent) -> None:
        raise SystemExit("even so") if not told else KeyError(event.job)

    on("completed", broker=broker)(told.append)
    for _ in range(3):
        end(broker, Outcome.COMPLETED, State.COMPLETED)
    assert broker.listeners.drain(10)
    assert len(told) == 3
    [(name, what)] = noted
    assert name.endswith("stumble")
    assert (what["failed"], what["event"], what["job"]) == (1, "completed", "job")


def test_a_listener_that_is_too_slow_holds_up_nobody(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 3)
    noted: list[Mapping[str, Any]] = []
    broker.listeners.note = lambda listener, what: noted.append(what)
    began, go_on = threading.Event(), threading.Event()

    @on("completed", broker=broker)
    def wait(event: JobEvent) -> None:
        began.set()
        go_on.wait(30)

    end(broker, Outcome.COMPLETED, State.COMPLETED)
    assert began.wait(10)
    for _ in range(5):
        end(broker, Outcome.COMPLETED, State.COMPLETED)
    go_on.set()
    assert broker.listeners.drain(10)
    assert noted == [{"dropped": 2}]


def test_nobody_listens_and_nothing_is_kept(broker: Broker) -> None:
    end(broker, Outcome.COMPLETED, State.COMPLETED)
    assert broker.listeners.drain(0)
    assert broker.listeners._thread is None, "not even a thread"


def test_what_can_never_be_heard_is_refused(broker: Broker) -> None:
    with pytest.raises(UnknownEvent, match="'complet' is no event; the nearest is 'completed'"):
        on("complet", broker=broker)
    with pytest.raises(UnknownEvent, match="'buried' is not told here: no worker has it in hand; follow the feed"):
        on("buried", broker=broker)
    with pytest.raises(UnknownEvent, match="no event is named"):
        on(broker=broker)
    with pytest.raises(InvalidListener, match=r"say to what it listens: @on\(\"completed\"\)"):
        on(print, broker=broker)  # type: ignore[arg-type]
    with pytest.raises(InvalidListener, match="no listeners"):
        on("completed", broker=StubBroker(middleware=[]))

    async def later(event: JobEvent) -> None: ...

    with pytest.raises(InvalidListener, match="it is async"):
        on("completed", broker=broker)(later)
    with pytest.raises(InvalidListener, match="called with one event"):
        on("completed", broker=broker)(lambda: None)  # type: ignore[type-var]


@pytest.mark.parametrize("option", [{"actor": "remnid"}, {"queue": "emial"}])
def test_a_worker_whose_listener_names_nobody_does_not_start(broker: Broker, option: dict[str, str]) -> None:
    @dramatiq.actor(broker=broker, queue_name="email")
    def remind() -> None: ...

    on("completed", broker=broker, **option)(print)
    with pytest.raises(InvalidListener, match=r"the nearest is '(remind|email)'"):
        dramatiq.Worker(broker).start()
