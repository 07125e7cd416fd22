"""Jobs that nobody came to in time."""

from tests.acceptance.rabbit import settled
from tests.acceptance.system import System


def test_a_job_in_a_paused_queue_expires_and_an_operator_may_still_retry_it(anywhere: System) -> None:
    anywhere.worker()
    anywhere.sql("INSERT INTO queues (name, paused) VALUES ('work', true)")
    anywhere.run("record.send_with_options(args=(log, 'late'), expires=2_000)\nrecord.send(log, 'patient')")
    anywhere.until(lambda: anywhere.states() == {"failed": 1, "waiting": 1})
    [(job, reason)] = anywhere.sql("SELECT CAST(id AS text), reason FROM jobs WHERE state = 'failed'")
    assert reason == "expired"
    assert anywhere.ran() == []
    anywhere.run(
        "from control.jobs import retry\nfrom control.queues import resume\nfrom control.transaction import Control\n"
        "control = Control(settings.database_url, 'rabbitmq' if settings.broker_url else 'embedded')\n"
        f"resume(control, 'work', by='test')\nretry(control, '{job}', by='test')"
    )
    assert anywhere.finished(2) == {"completed": 2}
    assert sorted(anywhere.ran()) == ["late", "patient"]
    settled(anywhere)
