"""What an actor sends exists once it has completed."""

import pytest

from ledger.states import State
from middleware.current import current_job
from middleware.unique import Unique
from tests.conformance.system import System


@pytest.mark.parametrize("atomic", [True, False])
def test_a_job_that_is_tried_again_sends_its_children_once_if_they_are_to_commit_with_it(
    system: System, atomic: bool
) -> None:
    @system.actor()
    def child(n: int) -> None:
        system.note(n)

    @system.actor(atomic_sends=atomic, max_retries=1, min_backoff=10)
    def parent() -> None:
        child.send(1)
        system.broker.enqueue_many([child.message(2), child.message(3)])
        if current_job().attempt == 1:
            raise RuntimeError("not yet")

    parent.send()
    system.work()
    system.finished(4 if atomic else 7)
    assert sorted(system.notes) == sorted([1, 2, 3] * (1 if atomic else 2))


def test_a_job_that_fails_for_good_sends_nothing(system: System) -> None:
    @system.actor()
    def child() -> None:
        system.note("child")

    @system.actor(atomic_sends=True, max_retries=0)
    def parent() -> None:
        child.send()
        raise RuntimeError("never")

    parent.send()
    system.work()
    assert system.finished(1) == {"failed": 1}
    assert system.notes == []


def test_children_keep_their_options(system: System) -> None:
    @system.actor(unique=Unique(by=["n"]))
    def child(n: int) -> None:
        system.note(n)

    @system.actor(atomic_sends=True)
    def parent() -> None:
        child.send_with_options(args=(1,), delay=3_600_000)
        child.send(1)
        child.send(2)

    parent.send()
    system.work()
    system.until(lambda: system.states() == {"completed": 2, "delayed": 1})
    assert system.notes == [2]
    [delayed] = system.queries.jobs(state=State.DELAYED)
    assert 3_500 < (delayed.run_at - delayed.created_at).total_seconds() < 3_700
