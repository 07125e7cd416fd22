"""Limits of concurrency, and sequences."""

import threading

from control import dead
from ledger.states import State
from middleware.concurrency import Concurrency
from middleware.sequence import Sequence
from settings import QueueSettings
from tests.conformance.system import System


class Count:
    """How many were inside at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = self.most = 0

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            self.most = max(self.most, self._inside)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1


def test_of_several_workers_no_more_run_at_once_than_may(system: System) -> None:
    count = Count()

    def share(n: int) -> None:
        with count:
            threading.Event().wait(0.02)

    limited, other = system.actor(concurrency=Concurrency(2))(share), system.another()
    other.actor(concurrency=Concurrency(2))(share)
    sent = [limited.message(n) for n in range(12)]
    system.broker.enqueue_many(sent)
    system.work()
    other.work()
    assert system.finished(12) == {"completed": 12}
    assert count.most == 2
    assert {system.job(message).attempts_spent for message in sent} == {1}


def test_who_waits_for_one_key_is_in_nobodys_way_and_says_what_it_waits_for(system: System) -> None:
    gate = system.gate()

    @system.actor(concurrency=Concurrency(1, key="user"))
    def fetch(user: str, wait: bool) -> None:
        if wait:
            gate.wait(30)
        system.note(user)

    first = fetch.send("ada", True)
    system.work()
    system.until(lambda: system.state(first) is State.ACTIVE)
    second, other = fetch.send("ada", False), fetch.send("bob", False)
    system.noted("bob")
    waits = system.until(lambda: system.job(second).waits)
    assert (waits.gate, waits.held_by) == ('running:actor:fetch:user="ada"', [system.job(first).id])
    gate.set()
    assert system.finished(3) == {"completed": 3}
    assert system.state(other) is State.COMPLETED


def test_a_queue_may_have_a_limit_for_all_its_workers(system: System) -> None:
    count = Count()
    limited = system.another(queues={"work": QueueSettings(concurrency=8, max_running=1)})

    @limited.actor()
    def share(n: int) -> None:
        with count:
            threading.Event().wait(0.01)

    limited.broker.enqueue_many([share.message(n) for n in range(6)])
    limited.work()
    assert limited.finished(6) == {"completed": 6}
    assert count.most == 1


def test_jobs_of_one_key_run_in_the_order_they_were_sent_and_a_retry_keeps_its_successors_back(system: System) -> None:
    failed = threading.Event()

    @system.actor(sequence="account", min_backoff=100)
    def book(account: int, n: int) -> None:
        if (account, n) == (1, 0) and not failed.is_set():
            failed.set()
            raise RuntimeError("again")
        system.note((account, n))

    for n in range(5):
        for account in (1, 2):
            book.send_with_options(args=(account, n), priority=5 - n)
    system.work()
    assert system.finished(10) == {"completed": 10}
    for account in (1, 2):
        assert [n for key, n in system.notes if key == account] == list(range(5))


def test_a_dead_letter_holds_its_key_until_it_is_removed_if_it_is_told_to(system: System) -> None:
    @system.actor(sequence=Sequence("account", on_failure="hold"), max_retries=0)
    def book(account: int, n: int) -> None:
        if n == 0:
            raise RuntimeError("never")
        system.note(n)

    first, second = book.send(1, 0), book.send(1, 1)
    system.work()
    system.until(lambda: system.state(first) is State.FAILED)
    assert (system.state(second), system.job(first).holds_back) == (State.DELAYED, 1)
    dead.discard(system.control, first.message_id, by="ada")
    system.noted(1)
