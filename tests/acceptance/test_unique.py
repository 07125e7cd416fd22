"""``unique`` for messages of others; for our own, on every system, in tests/conformance."""

from tests.acceptance.rabbit import Rabbit, settled
from tests.acceptance.system import System
from tests.acceptance.test_foreign_messages import message

IMPORT = "from middleware.unique import Duplicate, Unique\n"


def test_messages_of_others_go_by_the_same_keys(unhurried: System, rabbit: Rabbit) -> None:
    system, log = unhurried, str(unhurried.log)
    send = "record.send_with_options(args=(log, 'ours'), delay=3_600_000, unique=Unique(by=['path']))"
    system.run(f"{IMPORT}{send}")
    system.worker()
    rabbit.wait_for_consumer("work")
    rabbit.publish("work", message("record", log, "refused", options={"unique": {"by": ["path"]}}))
    rabbit.publish("work", message("record", log, "nonsense", options={"unique": {"by": ["nothing"]}}))
    replaces = {"unique": {"by": ["path"], "mode": "replace"}}
    system.until(lambda: system.states() == {"delayed": 1, "failed": 1})
    assert system.ran() == []
    rabbit.publish("work", message("record", log, "theirs", options=replaces))
    assert system.finished(2) == {"completed": 1, "failed": 1}
    assert system.ran() == ["theirs"]
    assert system.sql("SELECT reason FROM jobs WHERE state = 'failed'") == [("refused",)]
    settled(system, rabbit)
