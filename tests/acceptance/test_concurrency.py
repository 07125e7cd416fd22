"""A queue has so many slots in a process: never more jobs at once, and its own threads for them."""

from tests.acceptance.rabbit import Rabbit, settled
from tests.acceptance.system import System
from tests.servers import RabbitMQ

SLOTS = 8  # of the queue ``work``


def test_a_full_queue_starts_no_more_than_its_slots_and_starves_no_other(anywhere: System, rabbitmq: RabbitMQ) -> None:
    system = anywhere
    system.env["WORKER_QUEUE_STALLED_INTERVAL"] = "20000"
    gate = system.folder / "gate"
    system.run(f"broker.enqueue_many([hold.message(log, n, {str(gate)!r}) for n in range(5 * {SLOTS})])")
    system.worker()

    def started() -> list[str]:
        return [line for line in system.ran() if line.startswith("start")]

    system.until(lambda: len(started()) >= SLOTS, because="for every slot to be taken")
    # Jobs of another queue come and go; while they do, whatever could start beyond the slots would have.
    system.run("broker.enqueue_many([record_other.message(log, f'other {n}') for n in range(100)])")
    system.until(lambda: sum(line.startswith("other") for line in system.ran()) == 100, because="for the other queue")
    assert len(started()) == SLOTS
    assert system.sql("SELECT count(*) FROM jobs WHERE queue = 'work' AND state = 'active'") == [(SLOTS,)]

    gate.touch()
    assert system.finished(5 * SLOTS + 100) == {"completed": 5 * SLOTS + 100}
    running = most = 0
    for line in system.ran():
        running += line.startswith("start") - line.startswith("end")
        most = max(most, running)
    assert most == SLOTS
    settled(system, Rabbit(rabbitmq, system.broker_url) if system.broker_url else None)
