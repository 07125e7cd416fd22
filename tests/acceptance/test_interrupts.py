"""Time limits that run out just as their jobs end."""

from tests.acceptance.evidence import jobs, nothing_left, ran
from tests.acceptance.system import System


def test_worker_threads_survive_limits_that_run_out_in_the_last_moment(anywhere: System) -> None:
    anywhere.worker()
    release = anywhere.folder / "release"
    anywhere.run(
        "broker.enqueue_many(\n"
        "    [spin.message_with_options(args=(log, str(n), 16 + n % 10), time_limit=20, max_retries=0)"
        " for n in range(500)]\n"
        ")"
    )
    states = anywhere.finished(500)
    assert sum(states.values()) == 500
    # How many are a hair over depends on how busy this machine is; that both kinds occur does not.
    assert states["completed"] > 0
    assert states["failed"] > 0
    for found in jobs(anywhere):
        assert found.outcomes == [found.state]
        assert not found.errors or found.errors[0].startswith("dramatiq.middleware.time_limit.TimeLimitExceeded")
        assert bool(found.errors) is (found.state == "failed")
    before = len(anywhere.ran())

    # All 17 threads are alive: each holds a job.
    anywhere.run(
        f"for n in range(8): hold.send(log, str(n), {str(release)!r})\n"
        f"for n in range(8): hold_other.send(log, str(n), {str(release)!r})\n"
        f"hold_narrow.send(log, 'narrow', {str(release)!r})"
    )
    anywhere.until(lambda: len(anywhere.ran()) == before + 17, because="waiting for a job in every thread")
    release.touch()
    assert sum(anywhere.finished(517).values()) == 517
    nothing_left(anywhere)


def test_a_send_is_never_cut_in_half_by_a_time_limit(anywhere: System) -> None:
    anywhere.worker()
    anywhere.run("broker.enqueue_many([send_for_ever.message(log, str(n)) for n in range(40)])")
    anywhere.finished(40)
    senders = [found for found in jobs(anywhere) if found.line.isdecimal()]
    assert [(found.state, found.errors[0].partition(":")[0]) for found in senders] == [
        ("failed", "dramatiq.middleware.time_limit.TimeLimitExceeded")
    ] * 40
    times = ran(anywhere)
    sent = [line.removeprefix("sent ") for line in times if line.startswith("sent ")]
    assert len(sent) > 40
    assert all(times[line] == 1 for line in sent)
    nothing_left(anywhere)
