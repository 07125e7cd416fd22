"""Arguments are validated on both sides of the ledger, and outlive a deploy."""

import json

from tests.acceptance.rabbit import Rabbit, settled
from tests.acceptance.system import System
from tests.acceptance.test_foreign_messages import message

APP = "tests.acceptance.payloads"
BEFORE = "tests.acceptance.payloads_before"

ORDER = "Order(number=7, lines=[Line(sku='a', price=Decimal('0.1000000000000000000001'))])"


def test_the_body_gets_the_types_its_signature_names(somewhere: System) -> None:
    somewhere.worker(app=APP)
    sent = somewhere.shell(APP)
    sent.run(f"order = {ORDER}\ntake.send(log, order, datetime(2026, 7, 1), Decimal('1.10'), Decimal('2'))")
    sent.run("take_later.send_with_options(args=(log,), kwargs={'order': order.model_dump(mode='json')})")
    sent.run("tell_it = {'on_success': tell, 'path': log}")
    sent.run("half.send_with_options(args=(Decimal('3.10'),), **tell_it)")
    sent.run("fail_in_vain.send(log, Decimal('1.50'))")
    assert sent.run(
        "print((half.message(Decimal('8.4')) | half.message() | half.message()).run().get_result(block=True))"
    ).split() == ["1.05"]
    somewhere.until(lambda: any("failed after" in line for line in somewhere.ran()))
    assert somewhere.finished(9) == {"completed": 8, "failed": 1}
    assert sorted(somewhere.ran()) == sorted(
        [
            f"{ORDER} 2026 (Decimal('1.10'), Decimal('2')), attempt 0",
            f"later {ORDER}",
            "half of '3.10' gave Decimal('1.55')",
            "Decimal('1.50')",
            "Decimal('1.50')",
            "'1.50' failed after 1",
        ]
    )


def test_what_was_queued_before_a_deploy_runs_after_it(somewhere: System) -> None:
    before = somewhere.shell(BEFORE)
    before.run("bill.send(log, 'ada', '1.10')")  # by position
    before.run("bill.send(log, client='bob', amount=2)")  # a renamed parameter of a renamed actor
    before.run("take.send(log, {'id': 7, 'lines': []}, at='2026-07-01T00:00:00Z')")  # a renamed field
    before.run("bill.send_with_options(args=(log, 'eve', '3'), delay=300)")
    somewhere.worker(app=APP)
    assert somewhere.finished(4) == {"completed": 4}
    assert sorted(somewhere.ran()) == [
        "Order(number=7, lines=[]) 2026 (), attempt 0",
        "charge ada Decimal('1.10') EUR",
        "charge bob Decimal('2') EUR",
        "charge eve Decimal('3') EUR",
    ]


def test_foreign_messages_are_validated_and_known_by_old_names(on_rabbitmq: System, rabbit: Rabbit) -> None:
    on_rabbitmq.worker(app=APP)
    rabbit.wait_for_consumer("work")
    log = str(on_rabbitmq.log)
    bad = message("bill", log, "ada")
    rabbit.publish("work", bad, message("bill", log, "ada", "1.10"))
    assert on_rabbitmq.finished(2) == {"completed": 1, "failed": 1}
    assert on_rabbitmq.ran() == ["charge ada Decimal('1.10') EUR"]
    settled(on_rabbitmq, rabbit)
    [letter] = rabbit.letters("work.XQ")
    assert letter.headers["hareline-reason"] == "invalid_payload"
    assert "amount: missing" in str(letter.headers["hareline-error"])
    assert json.loads(letter.body)["actor_name"] == "bill"  # as it was sent
