"""What a send returns: a message like any other, and a handle of its job."""

import pickle
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import dramatiq
import pytest
from dramatiq import Message, group, pipeline
from uuid_utils import uuid7

from broker import Broker, build
from errors import IllegalTransition, JobNotFound, NotFinished
from ledger.states import State
from middleware.handles import Job, Sent
from middleware.unique import Duplicate, Unique
from settings import Settings


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    found = build(Settings(database_url=f"sqlite:///{tmp_path / 'hareline.db'}"))
    before = dramatiq.broker.global_broker
    dramatiq.set_broker(found)
    yield found
    found.close()
    dramatiq.broker.global_broker = before


def actor(broker: Broker, **options: Any) -> Any:
    def act(n: int) -> int:
        return n

    return dramatiq.actor(broker=broker, **options)(act)


def test_what_a_send_returns_is_the_message(broker: Broker) -> None:
    message = actor(broker).message(1)
    sent = broker.enqueue(message)
    assert isinstance(sent, Message)
    assert sent == message
    assert message == sent
    assert sent != actor(broker, actor_name="other").message(1)
    assert sent.encode() == message.encode()
    assert Message.decode(sent.encode()) == sent
    assert type(sent.copy(options={"x": 1})) is Message
    assert sent.copy(args=(2,)) == message.copy(args=(2,))
    assert str(sent) == "act(1)"
    assert "job_id" not in repr(sent)


def test_a_message_that_was_sent_goes_into_pipelines_and_groups_and_is_sent_again(broker: Broker) -> None:
    act = actor(broker, store_results=True)
    sent = act.send(1)
    pipeline([sent, act.message()]).run()
    (sent | act.message()).run()
    group([sent, act.send(2)]).run()
    again = broker.enqueue(sent)
    assert again.message_id == sent.message_id
    assert again.job_id != sent.job_id
    assert len(broker.queries.jobs()) == 7


def test_it_tells_how_its_job_is_doing(broker: Broker) -> None:
    sent = actor(broker, queue_name="email").send_with_options(args=(1,), delay=3_600_000)
    status = sent.status()
    assert (status.id, status.queue, status.actor, status.state) == (sent.job_id, "email", "act", State.DELAYED)
    assert (status.attempts, status.error, status.progress, status.finished_at) == (0, None, None, None)
    assert timedelta(minutes=59) < status.due_at - status.created_at < timedelta(minutes=61)
    assert not status.ended
    for timeout in (0, 20, timedelta(milliseconds=20)):
        with pytest.raises(NotFinished, match=f"{sent.job_id} has not ended within"):
            sent.wait(timeout)
    assert sent.cancel() == "cancelled"
    assert sent.wait().state is State.CANCELLED
    with pytest.raises(IllegalTransition):
        sent.cancel()
    journal = broker.queries.job(sent.job_id)
    assert journal is not None
    assert [row.actor for row in journal.journal] == [broker.sender]


def test_a_handle_can_be_made_from_an_id_and_travels_by_pickle(broker: Broker) -> None:
    sent = actor(broker).send(1)
    copied = pickle.loads(pickle.dumps(sent))
    assert type(copied) is Sent
    assert copied == sent
    assert copied.status() == Job(sent.job_id).status() == sent.status()
    assert pickle.loads(pickle.dumps(Job(sent.job_id))).status().state is State.WAITING
    with pytest.raises(JobNotFound, match="not committed, or was undone, or the job was pruned"):
        Job(str(uuid7())).status()
    with pytest.raises(ValueError, match="badly formed"):
        Job("greet")


def test_handles_of_a_batch_and_of_a_duplicate_are_of_the_jobs_that_are_there(broker: Broker) -> None:
    act = actor(broker, unique=Unique(by=["n"]))
    first, second, other = broker.enqueue_many([act.message(n) for n in (1, 1, 2)])
    assert isinstance(second, Duplicate)
    assert (second.job_id, second.message_id) == (first.job_id, first.message_id)
    assert other.job_id != first.job_id
    assert second.cancel() == "cancelled"
    assert first.status().state is State.CANCELLED
    replace = actor(broker, unique=Unique(mode="replace"), actor_name="later")
    old, new = (replace.send_with_options(args=(3,), delay=60_000) for _ in range(2))
    assert (new.job_id, type(new)) == (old.job_id, Sent)


def test_what_commits_later_has_a_handle_and_no_job_yet(broker: Broker) -> None:
    act = actor(broker)
    held: list[Any] = []
    with broker.holding(held):
        sent = act.send(1)
    assert sent.job_id == held[0].id
    with pytest.raises(JobNotFound):
        sent.status()
