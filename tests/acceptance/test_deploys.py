"""During a rolling deploy a job may reach a worker that does not know its actor yet."""

from tests.acceptance.rabbit import Rabbit, settled
from tests.acceptance.system import System

OLD = "tests.acceptance.old_app"


def test_a_job_of_an_actor_the_old_workers_do_not_know_waits_for_the_new_ones(
    unhurried: System, rabbit: Rabbit
) -> None:
    system = unhurried
    old = system.worker(app=OLD)
    system.run("for n in range(10): record.send(log, n)")
    old.wait_line("which is not declared here; another worker may know it")
    parked = "SELECT count(DISTINCT job_id) FROM attempts WHERE outcome = 'parked'"
    system.until(lambda: system.sql(parked) == [(10,)], because="for the old worker to put them off")
    system.worker()
    assert old.stop() == 0
    assert system.finished(10) == {"completed": 10}
    assert sorted(system.ran(), key=int) == [str(n) for n in range(10)]
    assert system.sql("SELECT DISTINCT attempts FROM jobs") == [(1,)]  # being put off spent none
    settled(system, rabbit)


def test_a_job_nobody_knows_is_a_dead_letter_after_the_grace(unhurried: System, rabbit: Rabbit) -> None:
    system = unhurried
    system.env["HARELINE_UNKNOWN_ACTOR_GRACE_S"] = "2"
    system.worker(app=OLD)
    system.run("record.send(log, 'unknown')")
    assert system.finished(1) == {"failed": 1}
    [dead] = system.queries.dead()
    assert dead.reason == "unknown_actor"
    assert "no actor named 'record' is declared in this worker" in str(dead.error_message)
    [(age,)] = system.sql("SELECT extract(epoch FROM finished_at - created_at) FROM jobs")
    assert float(str(age)) >= 2
    settled(system, rabbit)
    [letter] = rabbit.letters("work.XQ")
    assert letter.headers["hareline-reason"] == "unknown_actor"


def test_a_duplicate_that_comes_after_retention_forgot_its_job_is_never_run(unhurried: System, rabbit: Rabbit) -> None:
    system = unhurried
    system.run("record.send(log, 'once')\nbroker.road.flush(10)")
    original = rabbit.steal("work")
    assert original is not None
    again = {"headers": dict(original.headers), "message_id": original.properties.message_id}
    rabbit.publish("work", original.body, **again)
    system.env |= {"HARELINE_KEEP_COMPLETED": "0", "AUDIT_LOG_RETENTION_DAYS": "0"}
    system.worker()
    system.until(lambda: system.ran() == ["once"] and not system.states(), because="for retention to forget it")
    assert system.sql("SELECT count(*) FROM history") == [(0,)]
    rabbit.publish("work", original.body, **again)
    system.until(lambda: system.states() == {"failed": 1}, because="for the duplicate to be kept")
    assert system.ran() == ["once"]
    [dead] = system.queries.dead()
    assert (dead.id, dead.reason) == (original.headers["hareline-job"], "unknown_origin")
    settled(system, rabbit)
    assert rabbit.letters("work.XQ")[0].body == original.body
