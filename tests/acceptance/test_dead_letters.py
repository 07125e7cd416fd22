"""``<queue>.XQ`` in RabbitMQ shows what the ledger knows of its dead letters."""

import itertools
from collections import Counter

from control.dead import discard, retry
from control.operations import start
from control.transaction import Control
from ledger.search import Filter
from tests.acceptance.rabbit import Rabbit, settled
from tests.acceptance.system import System


def test_a_dead_letter_says_why_in_its_headers(unhurried: System, rabbit: Rabbit) -> None:
    system = unhurried
    system.worker()
    system.run("message = fail.send(log, 'x')\nprint(message.message_id)")
    assert system.finished(1) == {"failed": 1}
    settled(system, rabbit)
    [letter] = rabbit.letters("work.XQ")
    [(job, body)] = system.sql("SELECT CAST(job_id AS text), body FROM payloads")
    assert {name: value for name, value in letter.headers.items() if not name.startswith("x-")} == {
        "hareline-job": job,
        "hareline-ticket": 0,
        "hareline-reason": "retries_exhausted",
        "hareline-error": "RuntimeError: no luck with x",
        "hareline-attempts": 3,
    }
    assert letter.body == bytes(body)
    assert letter.properties.type == "fail"
    assert letter.properties.app_id == "hareline"
    assert letter.properties.delivery_mode == 2


def test_the_projection_follows_what_an_operator_does(unhurried: System, rabbit: Rabbit) -> None:
    system, needed = unhurried, unhurried.folder / "needed"
    system.env["HARELINE_RECONCILE_S"] = "0.5"
    system.worker()
    system.run(f"for n in range(6): need.send(log, n, {str(needed)!r})")
    assert system.finished(6) == {"failed": 6}
    settled(system, rabbit)
    assert len(rabbit.letters("work.XQ")) == 6
    needed.touch()
    control = Control(system.database_url, "rabbitmq")
    ids = [row.id for row in system.queries.dead()]
    retry(control, *ids[:2], by="a test")
    discard(control, ids[2], by="a test")
    assert system.finished(5) == {"failed": 3, "completed": 2}
    settled(system, rabbit)
    assert sorted(str(letter.headers["hareline-job"]) for letter in rabbit.letters("work.XQ")) == sorted(ids[3:])
    rabbit.purge("work.XQ")  # by somebody who did not know
    settled(system, rabbit)
    before = rabbit.letters("work.XQ")
    errors = {str(letter.headers["hareline-error"]) for letter in before}
    assert errors == {f"RuntimeError: {n} found nothing" for n in range(3)}
    control.close()


def test_a_bulk_operation_that_nobody_watches_leaves_no_letter_behind(unhurried: System, rabbit: Rabbit) -> None:
    """It is begun, and left to the workers; some of its dead letters are in the history by then."""
    system, needed = unhurried, unhurried.folder / "needed"
    system.env |= {"HARELINE_RECONCILE_S": "0.5", "HARELINE_KEEP_FAILED": "5"}
    system.worker()
    system.run(f"for n in range(12): need.send(log, n, {str(needed)!r})")
    assert system.finished(12) == {"failed": 12}
    settled(system, rabbit)
    needed.touch()
    control = Control(system.database_url, "rabbitmq")
    begun = start(control, system.queries, "retry", Filter(queues=("work",)), expected_count=12, by="a test")
    system.until(lambda: system.states() == {"completed": 12})
    settled(system, rabbit)
    assert rabbit.letters("work.XQ") == []
    ended = system.queries.operation(begun.id)
    assert ended is not None
    assert (ended.state, ended.done) == ("done", 12)
    control.close()


def test_dead_letters_move_to_history_and_out_of_the_projection(unhurried: System, rabbit: Rabbit) -> None:
    system = unhurried
    system.env |= {"HARELINE_RECONCILE_S": "0.5", "HARELINE_KEEP_FAILED": "2"}
    system.run("for n in range(6): need.send(log, n, '/nowhere')")
    worker = system.worker()
    system.until(lambda: system.sql("SELECT count(*) FROM history") == [(4,)], because="for retention")
    settled(system, rabbit)
    assert len(rabbit.letters("work.XQ")) == 2

    def refills(queue: str) -> int:
        return sum(f"{queue}.XQ drifted from the ledger" in line for line in worker.lines)

    before = refills("work")
    rabbit.publish("other", b"no message")
    system.until(lambda: rabbit.ready().get("other.XQ") == 1)
    rabbit.purge("other.XQ")
    worker.wait_line("other.XQ drifted from the ledger")  # so every queue was looked at twice meanwhile
    assert refills("work") == before


def test_dead_letters_that_somebody_consumes_are_not_sent_to_him_again(unhurried: System, rabbit: Rabbit) -> None:
    system = unhurried
    system.env["HARELINE_RECONCILE_S"] = "0.3"
    worker = system.worker()
    system.run("for n in range(3): need.send(log, n, '/nowhere')")
    assert system.finished(3) == {"failed": 3}
    settled(system, rabbit)
    with rabbit.channel() as channel:
        read = channel.consume("work.XQ", auto_ack=True, inactivity_timeout=0.5)
        assert all(body for _, _, body in itertools.islice(read, 3))
        worker.wait_line("work.XQ has 1 consumers: it is not filled again")
        rabbit.publish("other", b"no message")
        system.until(lambda: rabbit.ready().get("other.XQ") == 1)
        rabbit.purge("other.XQ")
        worker.wait_line("other.XQ drifted from the ledger")  # so every queue was looked at twice meanwhile
        assert next(read) == (None, None, None)
    worker.wait_line("work.XQ drifted from the ledger")
    settled(system, rabbit)
    assert sum("work.XQ has 1 consumers" in line for line in worker.lines) == 1


def test_failures_that_a_ledger_may_stumble_over_are_recorded_and_stop_no_neighbour(
    unhurried: System, rabbit: Rabbit
) -> None:
    system = unhurried
    system.run(
        "broker.enqueue_many(\n"
        "    [fail_strangely.message(how) for how in ('nul', 'surrogate', 'unreadable', 'endless')]\n"
        "    + [answer_strangely.message(how) for how in ('nul', 'surrogate', 'not a number')]\n"
        "    + [record.message(log, n) for n in range(50)])"
    )
    system.worker()
    assert system.finished(57) == {"completed": 53, "failed": 4}
    assert Counter(system.ran()) == Counter(map(str, range(50)))
    errors = {str(row.error_message)[:40]: row.reason for row in system.queries.dead()}
    assert set(errors.values()) == {"retries_exhausted"}
    assert {"a\ufffdb", "a?b", "<UnreadableError whose text cannot be re", "x" * 40} == set(errors)
    settled(system, rabbit)
