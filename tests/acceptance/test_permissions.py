"""Restricted actors run what an allowed producer sent, and nothing else."""

import json
import uuid

import pika
import pytest
from pika.exceptions import ChannelClosedByBroker

from tests.acceptance.evidence import ran
from tests.acceptance.rabbit import Rabbit
from tests.acceptance.system import System

APP = "tests.acceptance.secretive"


def message(actor: str, *args: object, **options: object) -> bytes:
    fields = {"queue_name": "work", "actor_name": actor, "args": args, "kwargs": {}, "options": options}
    return json.dumps(fields | {"message_id": str(uuid.uuid4()), "message_timestamp": 0}).encode()


def test_restricted_actors_run_what_was_sent_by_who_may(somewhere: System) -> None:
    somewhere.env["HARELINE_PRODUCER"] = "billing-api"
    log = str(somewhere.log)
    allowed = somewhere.shell(APP)
    allowed.run("pay.send(log, 1)")
    allowed.run("(invoice.message(log, 2) | pay.message_with_options(args=(log,))).run()")
    somewhere.env["HARELINE_PRODUCER"] = "reports"
    other = somewhere.shell(APP)
    other.run(
        "from errors import Forbidden\n"
        "try: pay.send(log, 3)\n"
        "except Forbidden as error: print(error)\n"
        "else: raise AssertionError('it was sent')"
    )
    # One that writes to the ledger by itself says who it is; a code that knows of no rule sends as ever.
    other.run("broker.permissions.allowed = {}; pay.send(log, 4)")
    somewhere.env["HARELINE_PRODUCER"] = "worker"
    somewhere.worker(app=APP)
    assert somewhere.finished(4) == {"completed": 3, "failed": 1}
    assert ran(somewhere) == {"paid 1": 1, "invoiced 2": 1, "paid 2": 1}
    [(reason, text)] = somewhere.sql(
        "SELECT j.reason, a.error_message FROM jobs j JOIN attempts a ON a.job_id = j.id WHERE j.state = 'failed'"
    )
    assert reason == "forbidden"
    assert text.startswith("pay: producer 'reports' may not send to it, only billing-api")
    assert log not in text


def test_rabbitmqs_word_for_who_published_is_taken_and_no_other(on_rabbitmq: System, rabbit: Rabbit) -> None:
    on_rabbitmq.worker(app=APP)
    log = str(on_rabbitmq.log)
    user = pika.URLParameters(rabbit.url).credentials.username
    rabbit.wait_for_consumer("work")
    bodies = {
        "nobody": (message("pay", log, 1), None),
        "another": (message("pay", log, 2), user),
        "a pipeline": (message("invoice", log, 3, pipe_target=json.loads(message("pay", log))), user),
        "not restricted": (message("invoice", log, 4), None),
    }
    for body, who in bodies.values():
        rabbit.publish("work", body, user_id=who)
    on_rabbitmq.finished(4)
    assert ran(on_rabbitmq) == {"invoiced 4": 1}
    rows = on_rabbitmq.sql(
        "SELECT j.reason, n.event, n.detail FROM jobs j JOIN journal n ON n.job_id = j.id WHERE j.state = 'failed'"
    )
    assert [(reason, event) for reason, event, _ in rows] == [("forbidden", "buried")] * 3
    details = sorted(str(json.loads(detail)["error"]) for _, _, detail in rows)
    assert details[0].startswith("pay: a producer without a name may not send to it")
    assert all(f"pay: producer '{user}' may not send to it" in detail for detail in details[1:])
    with pytest.raises(ChannelClosedByBroker, match="user_id property set to 'billing-api' but authenticated user was"):
        rabbit.publish("work", bodies["nobody"][0], user_id="billing-api")


def test_a_forged_ticket_runs_what_the_ledger_has_recorded(on_rabbitmq: System, rabbit: Rabbit) -> None:
    user = pika.URLParameters(rabbit.url).credentials.username
    on_rabbitmq.env["HARELINE_PRODUCER"] = "billing-api"
    sender = on_rabbitmq.shell(APP)
    sender.run("pay.send(log, 1); invoice.send(log, 2)")
    on_rabbitmq.until(lambda: rabbit.ready().get("work") == 2)
    stolen = [on_rabbitmq.until(lambda: rabbit.steal("work")) for _ in range(2)]
    log = str(on_rabbitmq.log)
    for letter in stolen:
        headers = letter.headers  # type: ignore[attr-defined]
        rabbit.publish("work", message("pay", log, 1_000_000), headers=headers, user_id=user)
    on_rabbitmq.worker(app=APP)
    assert on_rabbitmq.finished(2) == {"completed": 1, "failed": 1}
    assert ran(on_rabbitmq) == {"paid 1": 1}
    [(reason, text)] = on_rabbitmq.sql(
        "SELECT j.reason, a.error_message FROM jobs j JOIN attempts a ON a.job_id = j.id WHERE j.state = 'failed'"
    )
    assert (reason, "but the ledger has recorded invoice: somebody forged it" in text) == ("forbidden", True)
