"""``unique`` with real workers, on every road, and for messages of others."""

from tests.acceptance.rabbit import Rabbit, settled
from tests.acceptance.system import System
from tests.acceptance.test_foreign_messages import message

IMPORT = "from middleware.unique import Duplicate, Unique\n"


def test_of_many_sends_that_replace_each_other_the_last_is_run(anywhere: System) -> None:
    replace = "record.send_with_options(args=(log, f'search {n}'), unique=Unique(by=['path'], mode='replace'))"
    anywhere.run(f"{IMPORT}for n in range(5): {replace}")
    anywhere.worker()
    assert anywhere.finished(1) == {"completed": 1}
    assert anywhere.ran() == ["search 4"]
    settled(anywhere)


def test_a_job_that_runs_refuses_its_like_until_it_has_ended(anywhere: System) -> None:
    anywhere.worker()
    release = anywhere.folder / "release"
    send = f"hold.send_with_options(args=(log, 'one', {str(release)!r}), unique=Unique(by=['line']))"
    anywhere.run(f"{IMPORT}{send}")
    anywhere.until(lambda: anywhere.ran() == ["start one"])
    assert anywhere.run(f"{IMPORT}print(isinstance({send}, Duplicate))").stdout == "True\n"
    release.touch()
    anywhere.finished(1)
    assert anywhere.run(f"{IMPORT}print(isinstance({send}, Duplicate))").stdout == "False\n"
    assert anywhere.finished(2) == {"completed": 2}


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
